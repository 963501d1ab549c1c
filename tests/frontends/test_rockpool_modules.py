"""Live networks of Rockpool's, read: the same spikes as Rockpool gives, and what cannot be read refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rockpool.nn.combinators import Residual, Sequential
from rockpool.nn.modules.torch import (
    ExpSynTorch,
    LIFBitshiftTorch,
    LIFNeuronTorch,
    LIFTorch,
    LinearTorch,
    UnitDropout,
    aLIFTorch,
)
from rockpool.nn.modules.torch.lif_torch import PeriodicExponential

import snnir
from snnir.errors import CompileError, UsageError
from snnir.graph import Graph, chain
from snnir.ops import LI, LIF, Affine, CubaLIF, Input, Linear, Output, Scale
from snnir.semantics import ROCKPOOL_SEMANTICS
from tests.xylo_oracle import XyloOracle

pytestmark = pytest.mark.oracle
DT = 1e-3


def per_neuron(n: int, low: float, high: float) -> torch.Tensor:
    return low + (high - low) * torch.rand(n)


def lif(n: int, synapses: int = 1, layer: Any = LIFTorch, **more: Any) -> Any:
    options: dict[str, Any] = {"bias": per_neuron(n, 0.0, 0.2), "threshold": per_neuron(n, 0.5, 1.5), "dt": DT}
    return layer((n * synapses, n), **{**options, **more})


def layers_of(kind: str) -> list[Any]:
    """The middle of a network with 12 values in and out: one layer in one of its ways."""
    if kind == "taus":
        return [lif(12, tau_mem=per_neuron(12, 2e-3, 2e-2), tau_syn=per_neuron(12, 2e-3, 2e-2).unsqueeze(1))]
    if kind == "one tau for all":
        return [LIFTorch(12, tau_mem=torch.tensor(0.01), tau_syn=torch.tensor(0.005), threshold=0.7, dt=DT)]
    if kind == "decays":
        alpha, beta = torch.tensor(0.9), torch.tensor(0.6)
        return [lif(12, leak_mode="decays", alpha=alpha, beta=beta)]
    if kind == "bitshifts":
        return [lif(12, leak_mode="bitshifts", dash_mem=torch.tensor(4.0), dash_syn=torch.tensor(2.0))]
    if kind == "bitshift layer":
        return [lif(12, layer=LIFBitshiftTorch, tau_mem=torch.tensor(0.02), tau_syn=torch.tensor(0.003))]
    if kind == "recurrent":
        return [lif(12, has_rec=True, w_rec=torch.randn(12, 12) * 0.04 - 0.04, spike_generation_fn=PeriodicExponential)]
    if kind == "two synapses":
        syn = torch.tensor([[0.002, 0.02]]).expand(6, 2).clone()
        return [lif(6, 2, tau_syn=syn, has_rec=True, w_rec=torch.randn(6, 12) * 0.04 - 0.04), LinearTorch((6, 12))]
    if kind == "equal synapses":
        return [lif(4, 3, tau_syn=torch.tensor(0.005)), LinearTorch((4, 12))]
    if kind == "membrane alone":
        return [LIFNeuronTorch(12, tau_mem=per_neuron(12, 2e-3, 2e-2), bias=per_neuron(12, 0, 0.1), dt=DT)]
    if kind == "synapse and membrane":
        return [ExpSynTorch(12, tau=per_neuron(12, 2e-3, 2e-2), dt=DT), LIFNeuronTorch(12, dt=DT)]
    if kind == "residual":
        return [Residual(LinearTorch((12, 12)), lif(12)), Residual(lif(12)), UnitDropout(12)]
    return [torch.nn.Linear(12, 12), lif(12), torch.nn.Dropout(0.5)]


KINDS = (
    "taus",
    "one tau for all",
    "decays",
    "bitshifts",
    "bitshift layer",
    "recurrent",
    "two synapses",
    "equal synapses",
    "membrane alone",
    "synapse and membrane",
    "residual",
    "layers of PyTorch",
)


def network(kind: str, seed: int) -> Any:
    torch.manual_seed(seed)
    middle = layers_of(kind)
    most = 31.0 if kind == "bitshift layer" else 2.0**16
    end = lif(3, max_spikes_per_dt=torch.tensor(most))
    net = Sequential(LinearTorch((5, 12), has_bias=bool(seed % 2)), *middle, LinearTorch((12, 3)), end)
    moderate(net)
    return net


def moderate(net: Any, mean: float = 0.05, spread: float = 0.1) -> None:
    """Rockpool's synapses and membranes add their inputs in full: its own first weights give thousands of spikes."""
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.endswith("weight"):
                value.copy_(mean + spread * torch.randn(value.shape))


def spikes(seed: int, channels: int = 5, steps: int = 60, batch: int = 3) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).random((steps, batch, channels)) < 0.3).astype(np.float32)


def run(net: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What Rockpool gives on x (T, B, N), from rest."""
    net.reset_state()
    for module in net.modules().values():
        module.training = False  # Rockpool's dropout does not follow eval()
    with torch.no_grad():
        y, _, _ = net(torch.from_numpy(x).transpose(0, 1))
    return y.transpose(0, 1).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_graph_spikes_as_rockpool_does(kind: str, seed: int) -> None:
    net, x = network(kind, seed), spikes(seed)
    expected = run(net, x)
    assert expected.sum() > 20
    assert expected.max() < 1000
    graph = snnir.load(net)
    np.testing.assert_array_equal(snnir.interpret(graph, x.astype(np.float64)), expected)
    compiled = snnir.compile(net, "rockpool")
    np.testing.assert_array_equal(compiled.run(x), expected)


@pytest.mark.parametrize("most", [1.0, 3.0])
def test_the_most_spikes_of_a_step_are_the_graphs(most: float) -> None:
    torch.manual_seed(0)
    net = Sequential(LinearTorch((5, 6)), lif(6, bias=torch.tensor(3.0), max_spikes_per_dt=torch.tensor(most)))
    graph, x = snnir.load(net), spikes(0)
    assert graph.semantics == ROCKPOOL_SEMANTICS.with_(dt=DT, spikes_per_step=int(most))
    expected = run(net, x)
    assert expected.max() == most
    np.testing.assert_array_equal(snnir.interpret(graph, x), expected)


def test_what_a_network_becomes() -> None:
    """Biases, time constants and recurrent weights, by the equations of the module's docstring."""
    options: dict[str, Any] = {"bias": torch.tensor(0.1), "dt": DT, "has_rec": True, "w_rec": torch.randn(4, 4)}
    net = Sequential(LinearTorch((3, 4), has_bias=True), LIFTorch(4, tau_mem=torch.tensor(0.02), **options))
    graph = snnir.load(net)
    assert list(graph.ops) == ["input", "0_LinearTorch", "1_LIFTorch", "1_LIFTorch.w_rec", "output"]
    alpha, beta = np.exp(-DT / 0.02), np.exp(-DT / 0.02)
    neuron = graph["1_LIFTorch"]
    assert isinstance(neuron, CubaLIF)
    np.testing.assert_allclose(neuron.tau_mem, 0.02, rtol=1e-5)
    np.testing.assert_allclose(neuron.v_leak, 0.1 / (1 - alpha), rtol=1e-5)
    np.testing.assert_allclose(neuron.w_in, beta, rtol=1e-6)
    affine, back = graph["0_LinearTorch"], graph["1_LIFTorch.w_rec"]
    assert isinstance(affine, Affine)
    assert isinstance(back, Linear)
    np.testing.assert_array_equal(affine.weight, net[0].weight.detach().numpy().T)
    np.testing.assert_array_equal(back.weight, options["w_rec"].numpy().T)


def test_a_single_layer_is_a_network() -> None:
    graph = snnir.load(ExpSynTorch(3, dt=DT))
    assert [type(op) for op in graph.ops.values()] == [Input, LI, Output]


def test_a_residual_around_nothing_doubles() -> None:
    net = Sequential(Residual(UnitDropout(4, training=False)), LIFNeuronTorch(4, dt=DT))
    graph, x = snnir.load(net), spikes(3, 4)
    assert any(isinstance(op, Scale) for op in graph.ops.values())
    np.testing.assert_array_equal(snnir.interpret(graph, x), run(net, x))


def test_states_that_a_module_holds_do_not_matter() -> None:
    net, x = network("recurrent", 0), spikes(0)
    before = snnir.load(net)
    run(net, x)
    after = snnir.load(net)
    np.testing.assert_array_equal(snnir.interpret(after, x), snnir.interpret(before, x))


def test_a_model_file_may_hold_one(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from rockpool.nn.combinators import Sequential\n"
        "from rockpool.nn.modules.torch import LIFTorch, LinearTorch\n"
        "model = Sequential(LinearTorch((3, 4)), LIFTorch(4, dt=1e-3))\n"
    )
    assert len(snnir.load(tmp_path / "net.py")) == 4


# -- refusals ----------------------------------------------------------------------------------------------------------


class Own(LIFTorch):
    """A layer that may compute anything."""


class Loud(torch.autograd.Function):
    """A spike function that nobody knows."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return (x > 0).float()


def test_all_that_cannot_be_read_is_said_at_once() -> None:
    net = Sequential(
        LinearTorch((3, 4)),
        LIFTorch(4, noise_std=0.1, dt=DT),
        aLIFTorch(4, dt=DT),
        Own(4, dt=DT),
        torch.nn.ReLU(),
        LIFTorch(4, dt=2e-3, max_spikes_per_dt=torch.tensor(5.0)),
        LIFTorch(4, threshold=torch.zeros(4), dt=DT),
        LIFTorch(4, spike_generation_fn=Loud, dt=DT),
        LIFTorch(4, leak_mode="decays", alpha=torch.tensor(1.5), beta=torch.tensor(0.5), dt=DT),
    )
    with pytest.raises(CompileError) as caught:
        snnir.load(net)
    said = "\n".join(f"{v.where}: {v.what}" for v in caught.value.violations)
    for words in (
        "1_LIFTorch: adds noise of standard deviation 0.1",
        "2_aLIFTorch: rockpool.nn.modules.torch.ahp_lif_torch.aLIFTorch cannot be read",
        "Own cannot be read",
        "ReLU cannot be read",
        "time steps differ",
        "max_spikes_per_dt differs",
        "6_LIFTorch: threshold is 0",
        "7_LIFTorch: spikes are made by Loud",
        "8_LIFTorch: the membrane's decay is 1.5",
    ):
        assert words in said, said
    assert len(caught.value.violations) == 9


def test_another_time_step_or_an_option_is_refused() -> None:
    net = network("taus", 0)
    assert snnir.load(net, dt=DT).semantics.dt == DT
    with pytest.raises(CompileError, match="time steps differ"):
        snnir.load(net, dt=2e-3)
    with pytest.raises(UsageError, match="input_shape"):
        snnir.load(net, input_shape=(5,))
    mixed = Sequential(lif(3), lif(3, max_spikes_per_dt=torch.tensor(1.0)))
    said = snnir.load(mixed, semantics=ROCKPOOL_SEMANTICS.with_(spikes_per_step=1))
    assert said.semantics == ROCKPOOL_SEMANTICS.with_(dt=DT, spikes_per_step=1)


# -- to the chip -------------------------------------------------------------------------------------------------------


def samples(rng: np.random.Generator, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Spike trains (50, count, 8) of four classes: class k fires more on channels 2k and 2k + 1."""
    labels = rng.integers(0, 4, count)
    rates = np.full((count, 8), 0.15)
    for k in (0, 1):
        rates[np.arange(count), 2 * labels + k] = 0.3
    return (rng.random((50, count, 8)) < rates).astype(np.float32), labels


def trained() -> Any:
    """A network for Xylo, trained by Rockpool in seconds: decays of 1 - 2^-4 and 1 - 2^-3, a spike per step."""
    torch.manual_seed(0)
    at: dict[str, Any] = {"tau_mem": torch.tensor(16 * DT), "tau_syn": torch.tensor(8 * DT), "dt": DT}
    at["max_spikes_per_dt"] = torch.tensor(1.0)
    first, second = LIFBitshiftTorch(16, **at), LIFBitshiftTorch(4, **at)
    net = Sequential(LinearTorch((8, 16)), first, LinearTorch((16, 4)), second)
    rng = np.random.default_rng(0)
    moderate(net, 0.03, 0.03)
    optimiser = torch.optim.Adam([p for name, p in net.named_parameters() if name.endswith("weight")], lr=0.003)
    for _ in range(40):
        x, labels = samples(rng, 32)
        optimiser.zero_grad()
        net.reset_state()
        y, _, _ = net(torch.from_numpy(x).transpose(0, 1))
        torch.nn.functional.cross_entropy(y.mean(1) * 10, torch.from_numpy(labels)).backward()
        optimiser.step()
    return net


def by_hand(net: Any) -> Graph:
    """The same network in snnir's own words."""
    alpha, beta = 1 - 2.0**-4, 1 - 2.0**-3
    decay = {"tau_mem": -DT / np.log(alpha), "tau_syn": -DT / np.log(beta), "w_in": beta, "v_threshold": 1.0}
    weights = [net[k].weight.detach().numpy().T for k in (0, 2)]
    neurons = [CubaLIF(**{name: np.full(n, value) for name, value in decay.items()}) for n in (16, 4)]
    parts = [Input(shape=(8,)), *(op for w, n in zip(weights, neurons, strict=True) for op in (Linear(weight=w), n))]
    return chain(*parts, Output(), semantics=ROCKPOOL_SEMANTICS.with_(dt=DT, spikes_per_step=1))


def test_a_network_trained_in_rockpool_runs_on_xylo() -> None:
    """As well as in Rockpool, on SynSense's own simulator, and with the very integers that the target gives anyway."""
    net = trained()
    rng = np.random.default_rng(1)
    recorded, _ = samples(rng, 32)
    x, labels = samples(rng, 500)
    in_rockpool = (run(net, x).sum(0).argmax(1) == labels).mean()
    assert in_rockpool > 0.8
    compiled = snnir.compile(net, "xylo-audio3", calibrate=recorded)
    spec = compiled.artifact.spec  # type: ignore[attr-defined]
    on_chip = XyloOracle(spec).run(x.astype(int)).spikes
    np.testing.assert_array_equal(compiled.run(x), on_chip)
    assert (on_chip.sum(0).argmax(1) == labels).mean() > in_rockpool - 0.03
    same = snnir.compile(by_hand(net), "xylo-audio3", calibrate=recorded).artifact.spec  # type: ignore[attr-defined]
    for name in ("weights_in", "weights_rec", "weights_out", "threshold", "threshold_out", "dash_mem", "dash_syn"):
        np.testing.assert_array_equal(getattr(spec, name), getattr(same, name), err_msg=name)


def test_a_neuron_that_leaks_nothing_away_keeps_a_bias_nowhere() -> None:
    """alpha = 0: the membrane is made anew in every step; its bias is its leak potential."""
    net = LIFBitshiftTorch(3, tau_mem=torch.tensor(1e-3), tau_syn=torch.tensor(4e-3), bias=torch.tensor(0.4), dt=DT)
    graph, x = snnir.load(net), spikes(1, 3)
    assert isinstance(graph["lifbitshifttorch"], CubaLIF | LIF)
    np.testing.assert_array_equal(snnir.interpret(graph, x), run(net, x))


def test_recurrence_and_residuals_reach_xylo() -> None:
    """Spike counts within 5 %, outputs compared in the network's own steps; on xylosim bit for bit."""
    torch.manual_seed(1)
    at: dict[str, Any] = {"tau_mem": torch.tensor(16 * DT), "tau_syn": torch.tensor(8 * DT), "dt": DT}
    at["max_spikes_per_dt"] = torch.tensor(1.0)
    net = Sequential(
        LinearTorch((8, 16)),
        LIFBitshiftTorch(16, has_rec=True, w_rec=torch.randn(16, 16) * 0.05, **at),
        Residual(LinearTorch((16, 16)), LIFBitshiftTorch(16, **at)),
        LinearTorch((16, 4)),
        LIFBitshiftTorch(4, bias=torch.tensor(0.01), **at),
    )
    moderate(net, 0.01, 0.02)
    rng = np.random.default_rng(0)
    recorded, x = samples(rng, 32)[0], samples(rng, 64)[0]
    compiled = snnir.compile(net, "xylo-audio3", calibrate=recorded)
    expected, got = run(net, x), compiled.run(x)
    np.testing.assert_array_equal(got, XyloOracle(compiled.artifact.spec).run(x.astype(int)).spikes)  # type: ignore[attr-defined]
    late = compiled.latency
    wanted, counts = expected[:-late].sum(0), got[late:].sum(0)
    assert wanted.sum() > 1000
    assert np.abs(counts - wanted).sum() < 0.05 * wanted.sum()
