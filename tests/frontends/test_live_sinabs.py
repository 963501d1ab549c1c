"""Live modules of sinabs: the graph computes what sinabs's own forward() computes, several spikes per step included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sinabs.activation as sa
import sinabs.layers as sl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import snnir
from snnir import CompileError
from tests.frontends.live import DT, Double, agree, louder, noise, run_on

pytestmark = pytest.mark.oracle
RESETS: dict[str, Any] = {"subtract": sa.MembraneSubtract(), "value": sa.MembraneReset()}
SPIKES: dict[str, Any] = {"multi": sa.MultiSpike, "single": sa.SingleSpike, "most 2": sa.MaxSpike(2)}
KINDS = (
    "LIF",
    "LIF syn",
    "LIF full",
    "LIF alphas",
    "LIFRecurrent",
    "LIFRecurrent syn",
    "IAF",
    "IAF syn",
    "IAFRecurrent",
)


def connection(n: int) -> nn.Module:
    """Feedback that is weak enough for several spikes per step not to grow without bound."""
    inner = nn.Linear(n, n)
    inner.weight.data.mul_(0.2)
    return nn.Sequential(Double(), inner)


def population(kind: str, n: int = 6, **options: Any) -> nn.Module:
    syn = {"tau_syn": 4.0} if "syn" in kind else {}
    if kind.startswith("LIFRecurrent"):
        return sl.LIFRecurrent(12.0, connection(n), **syn, **options)
    if kind.startswith("IAFRecurrent"):
        return sl.IAFRecurrent(connection(n), **options)
    if kind.startswith("IAF"):
        return sl.IAF(**syn, **options)
    tau = torch.rand(n) * 10 + 5
    return sl.LIF(tau, norm_input="full" not in kind, train_alphas="alphas" in kind, **syn, **options)


def run(net: nn.Module, x: torch.Tensor, folded: bool = False) -> torch.Tensor:
    """x (T, B, ...) through a net over (B, T, ...) or (B * T, ...), its states at 0."""
    for module in net.modules():
        if isinstance(module, sl.StatefulLayer):
            for name in ("v_mem", "i_syn"):
                if getattr(module, name, None) is not None:
                    setattr(module, name, torch.zeros(0))
    given = x.transpose(0, 1)
    with torch.no_grad():
        y = net(given.flatten(0, 1)).unflatten(0, given.shape[:2]) if folded else net(given)
    return y.transpose(0, 1)


@pytest.mark.parametrize("floor", [None, -0.5])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_population_of_sinabs(kind: str, reset: str, floor: float | None) -> None:
    for seed, (spikes, function) in enumerate(SPIKES.items()):
        torch.manual_seed(seed)
        options = {
            "spike_fn": function,
            "reset_fn": RESETS[reset],
            "min_v_mem": floor,
            "spike_threshold": torch.tensor(0.7),
        }
        net = louder(nn.Sequential(nn.Linear(5, 6), population(kind, **options), Double(), nn.Linear(6, 4)))
        graph = snnir.load(net, dt=DT)
        assert graph.semantics.reset == reset
        assert graph.semantics.membrane_floor == floor
        x = noise(5, scale=4.0)
        counts = run(net[:2], x)
        assert float(counts.sum()) > 15
        if spikes != "single" and kind == "IAF":
            assert 1 < float(counts.max()) <= (2 if spikes == "most 2" else 99)
        assert agree(graph, x, run(net, x)) > 10


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    st.sampled_from(sorted(SPIKES)),
    st.sampled_from(sorted(RESETS)),
    st.integers(0, 99),
)
def test_random_nets_of_sinabs(kinds: list[str], spikes: str, reset: str, seed: int) -> None:
    """LIF with normed input and IAF without in one net: one gain for both."""
    torch.manual_seed(seed)
    options = {"spike_fn": SPIKES[spikes], "reset_fn": RESETS[reset], "min_v_mem": [None, -1.0][seed % 2]}
    layers: list[nn.Module] = [nn.Linear(5, 6)]
    for kind in kinds:
        layers += [population(kind, spike_threshold=torch.rand(6) + 0.3, **options), Double(), nn.Linear(6, 6)]
    net = louder(nn.Sequential(*layers))
    x = noise(5, steps=20)
    agree(snnir.load(net, dt=DT), x, run(net, x))


def test_a_squeezing_convolutional_net_of_sinabs() -> None:
    """As it is built for Speck: integrate and fire, sums over windows, no biases, a membrane floor."""
    torch.manual_seed(0)
    options = {"batch_size": 2, "min_v_mem": -1.0}
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        sl.IAFSqueeze(**options),
        Double(),
        sl.SumPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, padding=(1, 0), bias=False),
        sl.IAFSqueeze(**options),
        Double(),
        nn.Dropout2d(0.5),
        nn.Flatten(),
        nn.Linear(18, 4, bias=False),
        sl.IAFSqueeze(**options),
    )
    louder(net)
    graph = snnir.load(net, dt=DT, input_shape=(2, 10, 10))
    x = noise(2, 10, 10, steps=15, batch=2)
    assert agree(graph, x, run(net, x, folded=True)) > 100


def test_time_folded_and_unfolded_in_sinabs() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        sl.Repeat(nn.Conv2d(2, 4, 3)),
        sl.LIF(8.0, train_alphas=True),
        Double(),
        sl.FlattenTime(),
        sl.Cropping2dLayer(((1, 1), (2, 0))),
        nn.Flatten(),
        sl.UnflattenTime(2),
        nn.Linear(144, 10),
        sl.ExpLeak(10.0),
    )
    louder(net)
    graph = snnir.load(net, dt=DT, input_shape=(2, 10, 10))
    x = noise(2, 10, 10, steps=12, batch=2)
    assert agree(graph, x, run(net, x)) > 100


def test_float32_spikes_of_sinabs_are_equal() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 20), sl.LIF(12.0, 5.0), nn.Linear(20, 20), sl.LIF(8.0))
    for module in (net[0], net[2]):
        module.weight.data.mul_(20)
    x = torch.randn(50, 4, 5)
    out = run(net, x)
    np.testing.assert_array_equal(snnir.interpret(snnir.load(net, dt=DT), x.numpy()), out.numpy())
    assert 100 < float(out.sum()) < 8000


def test_feedback_biases_of_sinabs_come_after_the_first_step() -> None:
    net = nn.Sequential(sl.IAFRecurrent(connection(3), spike_fn=sa.SingleSpike)).double()
    net[0].rec_connect[1].bias.data.fill_(0.4)
    graph = snnir.load(net, dt=DT, input_shape=(3,))
    assert graph.semantics.recurrent_bias_at_start is False
    x = torch.zeros(10, 1, 3, dtype=torch.float64)
    assert agree(graph, x, run(net, x)) > 2


@pytest.mark.parametrize("target", ["torch", "norse", "snntorch", "rockpool"])
def test_sinabs_goes_to_targets(target: str) -> None:
    """Single spikes everywhere; several to Rockpool, and refused with the reason by the others."""
    torch.manual_seed(1)
    for function in (sa.SingleSpike, sa.MultiSpike):
        layers = [nn.Linear(5, 6), sl.LIF(8.0, spike_fn=function), Double(), nn.Linear(6, 6), sl.IAF(spike_fn=function)]
        net = louder(nn.Sequential(*layers), 5.0)
        graph = snnir.load(net, dt=DT)
        x = noise(5, scale=4.0)
        if function is sa.MultiSpike and target != "rockpool":
            with pytest.raises(CompileError, match="spikes_per_step"):
                run_on(graph, target, x)
            continue
        want = run(net, x).numpy()
        np.testing.assert_array_equal(run_on(graph, target, x), want)
        assert want.sum() > 20


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (sl.ALIF(10.0, 20.0), "ALIF is a layer of sinabs with no counterpart"),
        (sl.IAF(min_v_mem=0.5), "min_v_mem is 0.5, which acts after the reset"),
        (sl.ExpLeak(10.0, min_v_mem=-1.0), "acts behind its output"),
        (sl.IAF(reset_fn=sa.MembraneReset(0.25)), "adds reset_value 0.25 in every step"),
        (sl.IAF(reset_fn=sa.MembraneSubtract(0.5)), "subtract_value is 0.5"),
        (sl.IAFSqueeze(batch_size=2), "takes (T*B, ...), but (B, T, ...) arrives"),
        (sl.NeuromorphicReLU(), "NeuromorphicReLU is a layer of sinabs"),
        (sl.QuantizeLayer(), "QuantizeLayer rounds"),
        (nn.Flatten(), "leading axes"),
        (sl.IAF(spike_threshold=torch.tensor(-1.0)), "a threshold of -1"),
    ],
)
def test_what_sinabs_cannot_mean_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        snnir.load(nn.Sequential(nn.Linear(5, 6), sl.IAF(), module), dt=DT)
    assert message in str(caught.value)


def test_faults_of_sinabs_layers_come_together() -> None:
    net = nn.Sequential(
        sl.IAF(min_v_mem=-1.0),
        sl.IAF(reset_fn=sa.MembraneReset()),
        sl.LIF(5.0, spike_fn=sa.SingleSpike),
        sl.ALIF(5.0, 5.0),
    )
    with pytest.raises(CompileError) as caught:
        snnir.load(net, input_shape=(3,))
    what = " ".join(v.what for v in caught.value.violations)
    for word in ("reset is", "spikes_per_step is", "membrane_floor is", "ALIF", "time step is not known"):
        assert word in what


def test_sinabs_goes_to_xylo() -> None:
    """Several spikes that subtract, and decays: what Xylo does; the chip's simulator spikes about as often."""
    torch.manual_seed(0)
    options = {"tau_syn": 3.476, "norm_input": False}
    net = nn.Sequential(
        nn.Linear(8, 24, bias=False), sl.LIF(7.49, **options), nn.Linear(24, 4, bias=False), sl.LIF(7.49, **options)
    )
    graph = snnir.load(net, dt=1e-2)
    result = snnir.compile(graph, "xylo-audio3")
    x = np.random.default_rng(0).integers(0, 3, (50, 1, 8)).astype(float)
    want = snnir.interpret(graph, x)
    output = graph.outputs[0]
    got = result.artifact.run({graph.inputs[0]: x}, ())[0][output]
    assert want.sum() > 50
    np.testing.assert_allclose(np.minimum(want, 1).sum(), got.sum(), rtol=0.3)


def test_given_semantics_change_no_gain_of_sinabs() -> None:
    """Whichever gain is asked for, layers add to their states what they added."""
    torch.manual_seed(0)
    net = louder(nn.Sequential(nn.Linear(5, 6), sl.LIF(8.0, 5.0), Double(), nn.Linear(6, 4), sl.IAF()), 5.0)
    x = noise(5, scale=4.0)
    own = snnir.load(net, dt=DT).semantics
    for gain in ("ode", "unit"):
        graph = snnir.load(net, semantics=own.with_(gain=gain))
        assert graph.semantics.gain == gain
        assert agree(graph, x, run(net, x)) > 20


def test_trained_weights_come_back_into_sinabs() -> None:
    from snnir.frontends.torch_fx import to_module_weights

    net = nn.Sequential(nn.Linear(3, 4), sl.LIF(7.0), nn.Linear(4, 2), sl.IAF())
    graph = snnir.load(net, dt=DT)
    twice = {"0.weight": 2 * graph["0"].weight, "1.v_threshold": np.asarray(graph["1"].v_threshold * 2)}
    to_module_weights(graph.with_weights({**graph.weights(), **twice}), net)
    np.testing.assert_array_equal(net[0].weight.detach(), twice["0.weight"])
    assert float(net[1].spike_threshold) == 2.0
    assert float(net[3].spike_threshold) == float(sl.IAF().spike_threshold) == 1.0  # they began in the same memory
