"""Live modules of Norse: the graph computes what Norse's own forward() computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import norse.torch as norse
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from norse.torch.functional.reset import reset_subtract
from torch import nn

import snnir
from snnir import CompileError
from tests.frontends.live import agree, louder, noise, run_on

pytestmark = pytest.mark.oracle


def t(value: Any) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def lif(**options: Any) -> norse.LIFParameters:
    given = {"tau_syn_inv": 300.0, "tau_mem_inv": 120.0, "v_th": 0.4, "v_leak": 0.0, "v_reset": 0.0, **options}
    return norse.LIFParameters(**{k: v if isinstance(v, str) else t(v) for k, v in given.items()})


def box(**options: Any) -> norse.LIFBoxParameters:
    given = {"tau_mem_inv": 120.0, "v_th": 0.2, "v_leak": 0.0, "v_reset": 0.0, **options}
    return norse.LIFBoxParameters(**{k: v if callable(v) or isinstance(v, str) else t(v) for k, v in given.items()})


LAYERS: dict[str, Any] = {
    "LIFCell": lambda o: norse.LIFCell(lif(**o)),
    "LIF": lambda o: norse.LIF(lif(**o)),
    "LIFBoxCell": lambda o: norse.LIFBoxCell(box(**o)),
    "LIFBoxCell subtract": lambda o: norse.LIFBoxCell(box(reset_method=reset_subtract, **o)),
    "LIFRecurrentCell": lambda o: norse.LIFRecurrentCell(6, 6, lif(**o)),
    "LIFRecurrent": lambda o: norse.LIFRecurrent(6, 6, lif(**o)),
    "IAFCell": lambda o: norse.IAFCell(norse.IAFParameters(t(1.5), t(o.get("v_reset", 0.0)))),
    "IAF": lambda o: norse.IAF(norse.IAFParameters(t(1.5), t(o.get("v_reset", 0.0)))),
    "LICell": lambda o: norse.LICell(norse.LIParameters(t(300.0), t(120.0), t(o.get("v_leak", 0.0)))),
    "LI": lambda o: norse.LI(norse.LIParameters(t(300.0), t(120.0), t(o.get("v_leak", 0.0)))),
    "LILinearCell": lambda o: norse.LILinearCell(6, 6, norse.LIParameters(t(300.0), t(120.0), t(0.0))),
    "LIBoxCell": lambda o: norse.LIBoxCell(norse.LIBoxParameters(t(120.0), t(o.get("v_leak", 0.0)))),
}
STYLES = {"plain": {}, "leak": {"v_leak": 0.125}, "reset": {"v_reset": -0.25}}


def run(net: nn.Module, x: torch.Tensor, sequence: bool) -> torch.Tensor:
    if sequence:
        return net(x)[0]
    out, state = [], None
    for step in x:
        y, state = net(step, state)
        out.append(y)
    return torch.stack(out)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_of_norse(kind: str, style: str) -> None:
    torch.manual_seed(1)
    sequence = "Cell" not in kind
    layer = LAYERS[kind](STYLES[style])
    net = louder(norse.SequentialState(nn.Linear(5, 6), layer, nn.Linear(6, 4)))
    graph = snnir.load(net)
    assert graph.semantics.dt == 1e-3
    x = noise(5)
    inner = run(norse.SequentialState(*list(net)[:2]), x, sequence)
    assert float(inner.detach().abs().sum()) > 20
    assert agree(graph, x, run(net, x, sequence)) > 0


def test_a_lifted_convolutional_net_of_norse() -> None:
    torch.manual_seed(0)
    net = louder(
        norse.SequentialState(
            norse.Lift(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))),
            norse.LIF(lif()),
            norse.Lift(nn.AvgPool2d(2)),
            norse.Lift(nn.Conv2d(4, 3, 3, stride=2)),
            norse.LIF(lif(v_th=0.2)),
            nn.Flatten(2),
            norse.LIFRecurrent(12, 8, lif(v_th=0.2)),
            nn.Linear(8, 4),
            norse.LI(norse.LIParameters(t(300.0), t(120.0), t(0.0))),
        )
    )
    graph = snnir.load(net, input_shape=(2, 10, 10))
    assert {type(op).__name__ for op in graph.ops.values()} >= {"Conv2d", "BatchNorm", "CubaLIF", "CubaLI"}
    x = noise(2, 10, 10, steps=15, batch=2)
    assert agree(graph, x, net(x)[0]) > 0


def test_lift_runs_a_net_of_cells_over_time() -> None:
    torch.manual_seed(0)
    inner = norse.SequentialState(nn.Conv2d(1, 3, 3), norse.LIFBoxCell(box()), nn.Flatten(), nn.Linear(48, 4))
    net = louder(norse.Lift(inner))
    x = noise(1, 6, 6, steps=15, batch=2)
    assert agree(snnir.load(net, input_shape=(1, 6, 6)), x, net(x)[0]) > 10


class Step(nn.Module):
    """One step, states handed through, as Norse's tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(5, 6)
        self.lif = norse.LIFCell(lif())
        self.out = norse.LILinearCell(6, 3, norse.LIParameters(t(300.0), t(120.0), t(0.0)))

    def forward(self, x: torch.Tensor, s1: Any = None, s2: Any = None) -> Any:
        z, s1 = self.lif(self.hidden(x), s1)
        v, s2 = self.out(torch.relu(z), s2)
        return v, (s1, s2)


def test_a_step_of_norse_with_states_as_arguments() -> None:
    torch.manual_seed(0)
    net = louder(Step())
    graph = snnir.load(net)
    assert list(graph.outputs) == ["output"]
    x = noise(5)
    states: tuple[Any, Any] = (None, None)
    out = []
    for step in x:
        y, states = net(step, *states)
        out.append(y)
    assert agree(graph, x, torch.stack(out)) > 1
    place = str(graph["lif"].loc)
    assert f"{Path(__file__).name}:{Step.forward.__code__.co_firstlineno + 1}" in place


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from([k for k in LAYERS if "subtract" not in k]), min_size=1, max_size=4), st.integers(0, 99)
)
def test_random_nets_of_norse(kinds: list[str], seed: int) -> None:
    torch.manual_seed(seed)
    sequence = bool(seed % 2)
    kinds = [k for k in kinds if ("Cell" not in k) == sequence] or (["LIF"] if sequence else ["LIFCell"])
    rng = np.random.default_rng(seed)
    layers: list[nn.Module] = [nn.Linear(5, 6)]
    for kind in kinds:
        style = {name: float(np.float32(rng.normal(0, 0.1))) for name in ("v_leak", "v_reset")}
        layers += [LAYERS[kind](style), nn.Linear(6, 6)]
    net = louder(norse.SequentialState(*layers))
    x = noise(5, steps=20)
    agree(snnir.load(net), x, run(net, x, sequence))


def test_per_neuron_parameters_and_float32_of_norse() -> None:
    torch.manual_seed(0)
    p = norse.LIFParameters(torch.rand(6) * 100 + 100, torch.rand(6) * 100 + 50, v_th=torch.rand(6) * 0.5 + 0.1)
    net = norse.SequentialState(nn.Linear(5, 6), norse.LIFCell(p, dt=5e-4))
    graph = snnir.load(net)
    assert graph.semantics.dt == 5e-4
    np.testing.assert_allclose(graph["1"].tau_mem * p.tau_mem_inv.numpy(), 1.0)
    x = torch.randn(40, 3, 5) * 20
    out = run(net, x, sequence=False).detach().numpy()
    np.testing.assert_array_equal(snnir.interpret(graph, x.numpy()), out)
    assert 100 < out.sum() < 600


@pytest.mark.parametrize("target", ["torch", "norse", "snntorch"])
def test_norse_goes_to_targets_with_its_weights(target: str) -> None:
    torch.manual_seed(0)
    net = louder(norse.SequentialState(nn.Linear(5, 6), norse.LIFRecurrentCell(6, 6, lif()), nn.Linear(6, 4)))
    net.append(norse.LIFBoxCell(box()))
    net.stateful_layers.append(True)
    graph = snnir.load(net)
    x = noise(5)
    want = run(net, x, sequence=False)
    np.testing.assert_array_equal(run_on(graph, target, x), want.detach().numpy())
    assert float(want.detach().sum()) > 20
    np.testing.assert_array_equal(graph["1.recurrent"].weight, net[1].recurrent_weights.detach().numpy())


class Forgets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif = norse.LIFCell()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z, _ = self.lif(x)
        return z


class Twice(Forgets):
    def forward(self, x: torch.Tensor) -> Any:
        z, state = self.lif(x)
        z, state = self.lif(z, state)
        return z, state


class Reads(Forgets):
    def forward(self, x: torch.Tensor, state: Any = None) -> Any:
        z, state = self.lif(x, state)
        return z + state.v, state


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Forgets(), "is not returned, so every step would start anew"),
        (Twice(), "second time in one step"),
        (Reads(), "computes with the state of lif"),
        (norse.SequentialState(norse.LIFAdExCell()), "LIFAdExCell is a layer of norse with no counterpart"),
        (norse.SequentialState(norse.LIF(norse.LIFParameters(method="adjoint"))), "method is 'adjoint'"),
        (norse.SequentialState(norse.LIF(), norse.LIFCell()), "takes (B, ...), but (T, B, ...) arrives"),
        (norse.SequentialState(nn.Conv2d(1, 1, 1), norse.LIF()), "takes no time axis, but (T, B, ...) arrives"),
        (
            norse.SequentialState(norse.LIFBoxCell(box(reset_method=lambda z, v, r, th: v))),
            "neither reset_value nor reset_subtract",
        ),
    ],
)
def test_what_norse_cannot_mean_is_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        snnir.load(net, input_shape=(1, 4, 4))
    assert message in str(caught.value)


def test_faults_of_norse_layers_come_together() -> None:
    bad = norse.LIFBoxCell(box(reset_method=reset_subtract), dt=2e-3)
    with pytest.raises(CompileError) as caught:
        snnir.load(norse.SequentialState(norse.LIFCell(), bad, norse.LIFExCell()), input_shape=(4,))
    assert {v.rule for v in caught.value.violations} == {"semantics-conflict", "trace-unsupported"}
    assert len(caught.value.violations) == 3  # reset, dt, and the layer


def test_compile_of_a_model_file_with_norse(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "import norse.torch as norse\nfrom torch import nn\n\n"
        "model = norse.SequentialState(nn.Linear(3, 4), norse.LIFCell(), nn.Linear(4, 2))\n"
    )
    result = snnir.compile(str(file), "norse")
    assert f"{file}:4" in str(result.graph["1"].loc)
    assert result.artifact.report["framework layers"]
