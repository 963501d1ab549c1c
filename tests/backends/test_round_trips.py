"""There and back again for Norse, snnTorch and Rockpool: a live module, the graph, the same framework's layers.

Every layer type that each has in common with NIR, and its resets, with a parameter for each neuron: the weights are the
author's own, and so are the spikes, to the spike; the same through a `.nir` file; and weights trained in the emitted
module go back into the author's. (sinabs and SpikingJelly: test_sinabs.py, test_spikingjelly.py.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from norse.torch.functional.reset import reset_subtract
from rockpool.nn.combinators import Residual, Sequential
from rockpool.nn.modules.torch import ExpSynTorch, LIFBitshiftTorch, LIFNeuronTorch, LIFTorch, LinearTorch
from snntorch import utils
from torch import Tensor, nn

import snnir
from snnir.errors import CompileError
from snnir.graph import Graph
from snnir.naming import identifiers
from tests.backends.family import built
from tests.frontends.live import DT, heaviside, louder, noise

pytestmark = pytest.mark.oracle


def between(low: float, high: float, n: int = 6) -> Tensor:
    """A value for each neuron."""
    return low + (high - low) * torch.rand(n)


# -- what belongs to what ----------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A tensor of the framework's, the array of the graph that holds it, and the way from one to the other."""

    theirs: Tensor
    key: str
    there: Callable[[Tensor], Tensor]
    exact: bool


def same(x: Tensor) -> Tensor:
    return x


def transposed(x: Tensor) -> Tensor:
    return x.T


def pairs_of(net: Any) -> Iterator[Pair]:
    """All parameters of PyTorch's layers and of the framework's."""
    for where, m in net.named_modules():
        path = f"lift.{where}" if isinstance(net, norse.Lift) else where  # one layer alone has its type's name
        if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm2d)) and not isinstance(m, LinearTorch):
            fields = {"weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "var"}
            for name, field in fields.items():
                if getattr(m, name, None) is not None:
                    yield Pair(getattr(m, name).data, f"{path}.{field}", same, True)
        elif type(m).__module__.startswith("norse."):
            yield from pairs_of_norse(path, m)
        elif type(m).__module__.startswith("snntorch."):
            yield from pairs_of_snntorch(path, m)
        elif type(m).__module__.startswith("rockpool."):
            yield from pairs_of_rockpool(path, m)


def pairs_of_norse(path: str, m: Any) -> Iterator[Pair]:
    for name, part in (("input_weights", "input"), ("recurrent_weights", "recurrent")):
        if hasattr(m, name):
            yield Pair(getattr(m, name).data, f"{path}.{part}.weight", same, True)
    names = {"v_th": "v_threshold", "v_leak": "v_leak", "v_reset": "v_reset"}
    for name in getattr(getattr(m, "p", None), "_fields", ()):
        theirs = getattr(m.p, name)
        if name in names:
            yield Pair(theirs, f"{path}.{names[name]}", same, True)
        elif name.endswith("_inv"):
            field = "tau" if "Box" in type(m).__name__ else name.removesuffix("_inv")
            yield Pair(theirs, f"{path}.{field}", lambda inverse: 1 / inverse, False)


def pairs_of_snntorch(path: str, m: Any) -> Iterator[Pair]:
    def tau(decay: Tensor) -> Tensor:
        return DT / (1 - decay)

    if isinstance(m, snn.SpikingNeuron):
        rests = m.reset_mechanism == "none"
        fires = path if float(m.graded_spikes_factor) == 1 else f"{path}.neuron"
        neuron = f"{path}.mem" if rests else fires
        yield Pair(m.threshold, f"{fires}.threshold" if rests else f"{fires}.v_threshold", same, True)
        current = hasattr(m, "alpha") or (hasattr(m, "recurrent") and m.reset_mechanism == "zero" and m.reset_delay)
        if not (m.beta == 1).all():
            yield Pair(m.beta, f"{neuron}.{'tau_mem' if current else 'tau'}", tau, False)
        if hasattr(m, "alpha"):
            yield Pair(m.alpha, f"{neuron}.tau_syn", tau, False)
    elif hasattr(m, "V"):
        yield Pair(m.V.data, f"{path}.mul.scale", same, True)


def pairs_of_rockpool(path: str, m: Any) -> Iterator[Pair]:
    if isinstance(m, LinearTorch):
        yield Pair(m.weight.data, f"{path}.weight", transposed, True)
        if m.bias is not None:
            yield Pair(m.bias.data, f"{path}.bias", same, True)
    if isinstance(m, (LIFTorch, LIFNeuronTorch)):
        yield Pair(m.threshold.data, f"{path}.v_threshold", same, True)
        if getattr(m, "_has_rec", False):
            yield Pair(m.w_rec.data, f"{path}.w_rec.weight", transposed, True)
    if isinstance(m, LIFTorch) and m.n_synapses == 1:
        yield Pair(m.alpha.detach(), f"{path}.tau_mem", lambda alpha: -DT / torch.log(alpha), False)
        yield Pair(m.beta.detach().reshape(-1), f"{path}.tau_syn", lambda beta: -DT / torch.log(beta), False)
    if isinstance(m, ExpSynTorch):
        yield Pair(m.tau.data, f"{path}.tau", same, False)


# -- there and back again ----------------------------------------------------------------------------------------------


def emitted_key(graph: Graph, key: str) -> str:
    name, _, field = key.rpartition(".")
    return f"{identifiers(graph.ops)[name]}.{field}"


def there_and_back(
    net: Any,
    framework: str,
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    graph: Graph,
    train: bool = True,
    folded: Iterable[str] = (),
) -> Any:
    """Emits the graph for the framework; holds weights, spikes and trained weights to the module. Gives the report."""
    single = framework == "rockpool"
    artifact = built(graph, framework)
    model = artifact.module(torch.float32 if single else torch.float64).eval()
    state, pairs = model.state_dict(), [p for p in pairs_of(net) if p.key not in folded]
    assert pairs
    for theirs, key, there, exact in pairs:
        wanted, given = there(theirs), state[emitted_key(graph, key)]
        tolerance = 0 if exact else 1e-5 if single else 1e-12
        torch.testing.assert_close(given, wanted.to(given.dtype).expand(given.shape), rtol=tolerance, atol=0, msg=key)
    before = agree(model, run, x, single)
    if train:
        rng = torch.Generator().manual_seed(0)
        for theirs, key, there, exact in pairs:  # as if trained: the emitted weights go back into the author's module
            field = key.rpartition(".")[2]
            if exact and field in ("weight", "bias", "v_threshold", "scale"):
                ours = state[emitted_key(graph, key)]
                ours.mul_(1 + 0.2 * torch.rand(ours.shape, generator=rng, dtype=ours.dtype))
                theirs.copy_(there(ours))  # transposing is its own way back
        model.load_state_dict(state)
        assert not torch.equal(agree(model, run, x, single), before)
    return artifact.report


def agree(model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, single: bool) -> Tensor:
    with torch.no_grad():
        wanted = run(x.float() if single else x)
        given = model(x.float() if single else x)
    tolerance = 1e-5 if single else 1e-9
    torch.testing.assert_close(given, wanted.to(given.dtype), rtol=tolerance, atol=tolerance)
    return given


def through_a_file(graph: Graph, folder: Path) -> Graph:
    """Saved as `.nir` and read: the same meaning of a step."""
    snnir.compile(graph, "nir").save(folder / "out")
    read = snnir.load(folder / "out" / "graph.nir")
    assert read.semantics == graph.semantics
    return read


# -- Norse -------------------------------------------------------------------------------------------------------------


def double(value: Any) -> Tensor:
    return torch.as_tensor(value).double()


def lif(**more: Any) -> norse.LIFParameters:
    at = {"tau_syn_inv": between(200, 400), "tau_mem_inv": between(80, 200), "v_th": between(0.3, 0.6)}
    at |= {"v_leak": between(0, 0), "v_reset": between(0, 0), **more}
    at["v_leak"] = at["v_leak"][0]  # Norse fills its first state with it
    return norse.LIFParameters(**{name: double(value) for name, value in at.items()})


def box(reset: Any = None, **more: Any) -> norse.LIFBoxParameters:
    at = {"tau_mem_inv": between(80, 200), "v_th": between(0.1, 0.3), "v_leak": between(0, 0), **more}
    at = {"v_reset": between(0, 0), **at}
    given = {name: double(value) for name, value in at.items()}
    return norse.LIFBoxParameters(**given, **({} if reset is None else {"reset_method": reset}))


def li(**more: Any) -> norse.LIParameters:
    leak = double(more.get("v_leak", between(0, 0))[0])
    return norse.LIParameters(double(between(200, 400)), double(between(80, 200)), leak)


def iaf(**more: Any) -> norse.IAFParameters:
    return norse.IAFParameters(double(between(1.0, 2.0)), double(more.get("v_reset", between(0, 0))))


NORSE: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "LIFCell": lambda o: norse.LIFCell(lif(**o)),
    "LIF": lambda o: norse.LIF(lif(**o)),
    "LIFBoxCell": lambda o: norse.LIFBoxCell(box(**o)),
    "LIFBoxCell subtract": lambda o: norse.LIFBoxCell(box(reset_subtract, **o)),
    "LIFRecurrentCell": lambda o: norse.LIFRecurrentCell(6, 6, lif(**o)),
    "LIFRecurrent": lambda o: norse.LIFRecurrent(6, 6, lif(**o)),
    "IAFCell": lambda o: norse.IAFCell(iaf(**o)),
    "IAF": lambda o: norse.IAF(iaf(**o)),
    "LICell": lambda o: norse.LICell(li(**o)),
    "LI": lambda o: norse.LI(li(**o)),
    "LILinearCell": lambda o: norse.LILinearCell(6, 6, li(**o)),
    "LIBoxCell": lambda o: norse.LIBoxCell(
        norse.LIBoxParameters(double(between(80, 200)), double(o.get("v_leak", between(0, 0))))
    ),
}
STYLES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "leak": lambda: {"v_leak": between(-0.1, 0.2)},
    "reset": lambda: {"v_reset": between(-0.3, 0.0)},
}


def run_norse(net: Any, x: Tensor, cells: bool) -> Tensor:
    if not cells:
        return net(x)[0]
    out, state = [], None
    for step in x:
        y, state = net(step, state)
        out.append(y)
    return torch.stack(out)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", NORSE)
def test_every_layer_of_norse(kind: str, style: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    cells = "Cell" in kind
    layer = NORSE[kind](STYLES[style]())
    net = louder(norse.SequentialState(nn.Linear(5, 6), layer, nn.Linear(6, 4)))
    x = noise(5)

    def run(x: Tensor) -> Tensor:
        return run_norse(net, x, cells)

    inner = run_norse(norse.SequentialState(*list(net)[:2]), x, cells)
    assert float(inner.detach().abs().sum()) > 20
    graph = snnir.load(net)
    there_and_back(net, "norse", run, x, through_a_file(graph, tmp_path), train=False)
    report = there_and_back(net, "norse", run, x, graph)
    assert report["own cells"] == {}
    assert "norse." in report["framework layers"]["1"]


@pytest.mark.parametrize("cells", [False, True])
def test_a_convolutional_net_of_norse(cells: bool, tmp_path: Path) -> None:
    """Layers over all steps, what has no time lifted; or cells, all within one Lift."""
    torch.manual_seed(0)
    at = {"tau_mem_inv": between(80, 200, 4).reshape(4, 1, 1), "v_leak": torch.zeros(1)}
    first = norse.LIFBoxCell(box(**at, v_th=0.2)) if cells else norse.LIF(lif(**at, tau_syn_inv=300.0))
    for name in ("v_th", "v_leak", "v_reset"):
        first.p = first.p._replace(**{name: getattr(first.p, name).reshape(-1)[0]})
    second = (norse.IAFCell if cells else norse.IAF)(norse.IAFParameters(double(0.6), double(0.0)))

    def once(layer: nn.Module) -> nn.Module:
        return layer if cells else norse.Lift(layer)

    net: nn.Module = norse.SequentialState(
        once(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))),
        first,
        once(nn.AvgPool2d(2)),
        once(nn.Conv2d(4, 3, 3, stride=2)),
        second,
        nn.Flatten(1 if cells else 2),
        nn.Linear(12, 6),
    )
    shaken(louder(net))
    if cells:
        net = norse.Lift(net)
    x = noise(2, 10, 10, steps=12, batch=2)
    convolutional(net, "norse", lambda x: net(x)[0], x, tmp_path)


def shaken(net: nn.Module) -> None:
    """Statistics of batch norms that a training would leave."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()


def convolutional(net: nn.Module, framework: str, run: Callable[[Tensor], Tensor], x: Tensor, folder: Path) -> None:
    """There and back again; a `.nir` file has no batch norm, which is folded into the convolution before it."""
    graph = snnir.load(net, dt=DT, input_shape=tuple(x.shape[2:]))
    kinds = {type(op).__name__ for op in graph.ops.values()}
    assert kinds >= {"Conv2d", "BatchNorm", "AvgPool2d", "Flatten", "Affine"}
    read = through_a_file(graph, folder)
    assert not any(type(op).__name__ == "BatchNorm" for op in read.ops.values())
    norms = tuple(f"{name}." for name, op in graph.ops.items() if type(op).__name__ in ("BatchNorm", "Conv2d"))
    folded = {pair.key for pair in pairs_of(net) if pair.key.startswith(norms)}
    there_and_back(net, framework, run, x, read, train=False, folded=folded)
    assert there_and_back(net, framework, run, x, graph)["own cells"] == {}


# -- snnTorch ----------------------------------------------------------------------------------------------------------

SNNTORCH: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "Leaky": lambda o: snn.Leaky(between(0.1, 0.95), **o),
    "Leaky that keeps all": lambda o: snn.Leaky(1.0, **o),
    "Leaky graded": lambda o: snn.Leaky(between(0.1, 0.95), graded_spikes_factor=0.5, **o),
    "Synaptic": lambda o: snn.Synaptic(between(0.1, 0.9), between(0.1, 0.95), **o),
    "RLeaky": lambda o: snn.RLeaky(between(0.1, 0.95), linear_features=6, **o),
    "RLeaky one to one": lambda o: snn.RLeaky(between(0.1, 0.95), V=between(-0.5, 0.5), all_to_all=False, **o),
    "RSynaptic": lambda o: snn.RSynaptic(between(0.1, 0.9), between(0.1, 0.95), linear_features=6, **o),
}
RESETS = {
    "subtract": {"reset_mechanism": "subtract"},
    "zero": {"reset_mechanism": "zero"},
    "none": {"reset_mechanism": "none"},
    "subtract at once": {"reset_mechanism": "subtract", "reset_delay": False},
    "zero at once": {"reset_mechanism": "zero", "reset_delay": False},
}


def run_snntorch(net: nn.Module, x: Tensor) -> Tensor:
    utils.reset(net)
    for module in net.modules():
        if isinstance(module, snn.SpikingNeuron):
            module.reset_mem()
    return torch.stack([net(step) for step in x])


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", SNNTORCH)
def test_every_layer_of_snntorch(kind: str, reset: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    options: dict[str, Any] = {"init_hidden": True, "threshold": between(0.5, 0.9), "spike_grad": heaviside}
    net = louder(nn.Sequential(nn.Linear(5, 6), SNNTORCH[kind]({**options, **RESETS[reset]}), nn.Linear(6, 4)))
    x = noise(5)

    def run(x: Tensor) -> Tensor:
        return run_snntorch(net, x)

    if kind == "RSynaptic" and "at once" in reset:
        with pytest.raises(CompileError, match=r"snnTorch 1\.0\.0 itself fails on RSynaptic with reset_delay=False"):
            snnir.load(net, dt=DT)
        return
    assert float(run_snntorch(net[:2], x).detach().sum()) > 20
    graph = snnir.load(net, dt=DT)
    there_and_back(net, "snntorch", run, x, through_a_file(graph, tmp_path), train=False)
    report = there_and_back(net, "snntorch", run, x, graph)
    rests_for_ever = kind == "Leaky that keeps all" and reset == "none"
    assert report["own cells"] == ({"1.mem": "an integrator is a sum over time"} if rests_for_ever else {})


@pytest.mark.parametrize("reset", [name for name in RESETS if name != "none"])
def test_a_convolutional_net_of_snntorch(reset: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"init_hidden": True, "threshold": 0.8, "spike_grad": heaviside, **RESETS[reset]}
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        snn.Leaky(between(0.2, 0.9, 4).reshape(4, 1, 1), **options),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, padding=(1, 0)),
        snn.RLeaky(0.7, conv2d_channels=3, kernel_size=3, **options),
        nn.Flatten(),
        nn.Linear(18, 5),
    )
    shaken(louder(net))
    x = noise(2, 10, 10, steps=12, batch=2)
    convolutional(net, "snntorch", lambda x: run_snntorch(net, x), x, tmp_path)


# -- Rockpool ----------------------------------------------------------------------------------------------------------


def neurons(n: int = 6, synapses: int = 1, layer: Any = LIFTorch, **more: Any) -> Any:
    at = {"bias": between(0, 0.2, n), "threshold": between(0.5, 1.5, n), "dt": DT, **more}
    return layer(n if synapses == 1 else (n * synapses, n), **at)


def synapse(low: float = 2e-3, high: float = 2e-2) -> Tensor:
    return between(low, high).unsqueeze(1)


ROCKPOOL: dict[str, Callable[[], list[Any]]] = {
    "LIFTorch": lambda: [neurons(tau_mem=between(2e-3, 2e-2), tau_syn=synapse())],
    "LIFTorch decays": lambda: [neurons(leak_mode="decays", alpha=between(0.5, 0.95), beta=torch.rand(6, 1))],
    "LIFTorch bitshifts": lambda: [
        neurons(leak_mode="bitshifts", dash_mem=torch.tensor(4.0), dash_syn=torch.tensor(2.0))
    ],
    "LIFTorch recurrent": lambda: [neurons(has_rec=True, w_rec=torch.randn(6, 6) * 0.1, tau_mem=between(2e-3, 2e-2))],
    "LIFTorch of two synapses": lambda: [
        neurons(3, 2, tau_syn=torch.tensor([[0.002, 0.02]]).expand(3, 2).clone()),
        LinearTorch((3, 6)),
    ],
    "LIFTorch of a spike per step": lambda: [neurons(max_spikes_per_dt=torch.tensor(1.0))],
    "LIFBitshiftTorch": lambda: [neurons(layer=LIFBitshiftTorch, tau_mem=torch.tensor(0.02))],
    "LIFNeuronTorch": lambda: [neurons(layer=LIFNeuronTorch, tau_mem=between(2e-3, 2e-2))],
    "ExpSynTorch": lambda: [ExpSynTorch(6, tau=between(2e-3, 2e-2), dt=DT)],
    "Residual": lambda: [Residual(LinearTorch((6, 6), has_bias=True), neurons())],
    "Linear of PyTorch": lambda: [nn.Linear(6, 6), neurons()],
}


def run_rockpool(net: Any, x: Tensor) -> Tensor:
    net.reset_state()
    y, _, _ = net(x.transpose(0, 1))
    return y.transpose(0, 1)


@pytest.mark.parametrize("kind", ROCKPOOL)
def test_every_layer_of_rockpool(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    net = Sequential(LinearTorch((5, 6), has_bias=True), *ROCKPOOL[kind](), LinearTorch((6, 4)))
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.endswith("weight"):
                value.copy_(0.05 + 0.15 * torch.randn(value.shape))
    x = (torch.rand(40, 3, 5) < 0.3).float()

    def run(x: Tensor) -> Tensor:
        return run_rockpool(net, x)

    assert float(run(x).detach().abs().sum()) > 20
    graph = snnir.load(net)
    if kind == "LIFTorch of two synapses":
        with pytest.raises(CompileError, match=r"synapse0, .*Slice does not exist on NIR files"):
            through_a_file(graph, tmp_path)
    else:
        there_and_back(net, "rockpool", run, x, through_a_file(graph, tmp_path), train=False)
    own = there_and_back(net, "rockpool", run, x, graph)["own cells"]
    if kind == "LIFTorch recurrent":
        assert "on a cycle, and Rockpool's layers keep the state of one sample only" in own.pop("1_LIFTorch")
    assert own == {}
