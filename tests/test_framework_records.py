"""Every record against its simulator: random nets under (graph, record) in the interpreter, and in the package itself.

What runs in Python 3.11 runs here. Spyx (JAX) and Lava (Python 3.10) are compared with traces that `record_spyx.py` and
`lava_float_program.py` recorded, and Lava also with itself where its environment is there. Chips that compute in
integers are held to their own simulators bit for bit in tests/simulators.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnir import ops
from snnir.backends.lava.environment import find, run_script
from snnir.frameworks import FRAMEWORKS, semantics_of
from snnir.graph import Edge, Graph, chain
from snnir.interpreter import interpret
from snnir.semantics import Semantics

DT = 1e-3
DATA = Path(__file__).parent / "data"
SEEDS = range(6)
Rng = np.random.Generator


class Net:
    """A random net of two populations of 5 and 3 neurons, affine weights in front of each; its own input (30, 3, 4)."""

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.weights = [self.rng.normal(0.3, 1.0, shape) * scale for shape in ((5, 4), (3, 5))]
        self.biases = [self.rng.normal(0.1, 0.2, n) * scale for n in (5, 3)]
        self.x = (self.rng.random((30, 3, 4)) < 0.5) * self.rng.uniform(0.5, 1.5, (30, 3, 4))

    def drawn(self, low: float, high: float, n: int) -> Any:
        return self.rng.uniform(low, high, n)

    def graph(self, semantics: Semantics, first: ops.Op, second: ops.Op) -> Graph:
        affine = [ops.Affine(weight=w, bias=b) for w, b in zip(self.weights, self.biases, strict=True)]
        named = [("fc1", affine[0]), ("n1", first), ("fc2", affine[1]), ("n2", second)]
        return chain(ops.Input(shape=(4,)), *named, ops.Output(shape=(3,)), semantics=semantics)

    def currents(self, k: int, x: Any) -> torch.Tensor:
        weight, bias = torch.from_numpy(self.weights[k]), torch.from_numpy(self.biases[k])
        return torch.as_tensor(x, dtype=torch.float64) @ weight.T + bias


def agree(net: Net, graph: Graph, first: Any, second: Any, rounding: float = 1e-6) -> None:
    """The interpreter's spikes of the first population and its output are the simulator's."""
    got, recorded = interpret(graph, net.x, record=["n1"])
    want = [np.asarray(torch.as_tensor(y).detach()) for y in (first, second)]
    np.testing.assert_array_equal(recorded["n1"], want[0])
    np.testing.assert_allclose(got, want[1], rtol=rounding, atol=rounding)
    assert np.count_nonzero(want[0]) > 10
    assert np.any(want[1])


def stepped(cell: Any, x: torch.Tensor) -> torch.Tensor:
    """A cell that takes (value, state), over T."""
    state, outputs = None, []
    for value in x:
        y, state = cell(value, state)
        outputs.append(y)
    return torch.stack(outputs)


# -- Norse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_norse(seed: int, reset: str) -> None:
    import norse.torch as norse
    from norse.torch.functional import reset as resets

    net = Net(seed, 3.0)
    tau, leak, threshold, v_reset = (net.drawn(*b, 5) for b in ((5e-3, 20e-3), (-0.2, 0.2), (0.5, 1), (-0.3, 0.2)))
    tau_li = net.drawn(5e-3, 20e-3, 3)
    t = torch.from_numpy
    p = norse.LIFBoxParameters(
        tau_mem_inv=1 / t(tau), v_leak=t(leak), v_th=t(threshold), v_reset=t(v_reset),
        reset_method=resets.reset_value if reset == "value" else resets.reset_subtract,
    )  # fmt: skip
    cell = norse.LIFBoxCell(p, dt=DT)
    readout = norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=1 / t(tau_li), v_leak=torch.zeros(3).double()), dt=DT)
    z, state = [], norse.LIFBoxFeedForwardState(v=t(leak).expand(3, 5))
    for value in net.currents(0, net.x):
        y, state = cell(value, state)
        z.append(y)
    first = torch.stack(z)
    lif = ops.LIF(tau=tau, v_leak=leak, v_threshold=threshold, v_reset=v_reset)
    graph = net.graph(semantics_of("norse", DT, reset=reset), lif, ops.LI(tau=tau_li))
    agree(net, graph, first, stepped(readout, net.currents(1, first)))


@pytest.mark.parametrize("seed", SEEDS)
def test_norse_current_based(seed: int) -> None:
    import norse.torch as norse

    net = Net(seed)
    tau_syn, tau_mem, threshold = (net.drawn(*b, 5) for b in ((3e-3, 9e-3), (5e-3, 20e-3), (0.5, 1)))
    t = torch.from_numpy
    zero = torch.zeros(5).double()
    p = norse.LIFParameters(1 / t(tau_syn), 1 / t(tau_mem), v_leak=zero, v_th=t(threshold), v_reset=zero)
    readout_tau = net.drawn(5e-3, 20e-3, 2)
    first = stepped(norse.LIFCell(p, dt=DT), net.currents(0, net.x))
    q = norse.LIParameters(*(1 / torch.tensor(float(v), dtype=torch.float64) for v in readout_tau))
    second = stepped(norse.LICell(p=q, dt=DT), net.currents(1, first))
    lif = ops.CubaLIF(tau_syn=tau_syn, tau_mem=tau_mem, w_in=tau_syn / DT, v_threshold=threshold)
    s, m = (np.full(3, v) for v in readout_tau)
    li = ops.CubaLI(tau_syn=s, tau_mem=m, w_in=s / DT)
    agree(net, net.graph(semantics_of("norse", DT), lif, li), first, second)


# -- snnTorch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("layer", ["Leaky", "Synaptic"])
def test_snntorch(seed: int, reset: str, late: bool, layer: str) -> None:
    import snntorch

    net = Net(seed)
    beta, alpha, threshold = net.drawn(0.5, 0.95, 5), net.drawn(0.3, 0.9, 5), net.drawn(0.5, 1.5, 5)
    made: Any = {"beta": torch.from_numpy(beta), "threshold": torch.from_numpy(threshold)}
    common = {"reset_mechanism": reset, "reset_delay": late, "spike_grad": _heaviside}
    if layer == "Leaky":
        cell = snntorch.Leaky(**made, **common)
        neuron: ops.Op = ops.LIF(tau=DT / (1 - beta), v_threshold=threshold)
    else:
        cell = snntorch.Synaptic(alpha=torch.from_numpy(alpha), **made, **common)
        neuron = ops.CubaLIF(tau_syn=DT / (1 - alpha), tau_mem=DT / (1 - beta), v_threshold=threshold)
    state, outputs = [torch.zeros(3, 5).double() for _ in range(2 if layer == "Synaptic" else 1)], []
    for value in net.currents(0, net.x):
        y, *state = cell(value, *state)
        outputs.append(y)
    first = torch.stack(outputs)
    readout = snntorch.Leaky(beta=0.8, reset_mechanism="none", threshold=1e9)
    mem, trace = torch.zeros(3, 3).double(), []
    for value in net.currents(1, first):
        _, mem = readout(value, mem)
        trace.append(mem)
    graph = net.graph(
        semantics_of("snntorch", DT, reset=reset, reset_delay=late), neuron, ops.LI(tau=np.full(3, DT / (1 - 0.8)))
    )
    agree(net, graph, first, torch.stack(trace))


def _heaviside(u: torch.Tensor) -> torch.Tensor:
    return (u > 0).to(u.dtype)


# -- SpikingJelly ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("reset", ["value", "subtract"])
@pytest.mark.parametrize("decay_input", [True, False])
def test_spikingjelly(seed: int, reset: str, decay_input: bool) -> None:
    from spikingjelly.activation_based import neuron

    net = Net(seed, 2.0)
    tau, threshold = float(net.drawn(2, 8, 1)[0]), float(net.drawn(0.5, 1.0, 1)[0])
    options: Any = {"v_reset": 0.1 if reset == "value" else None, "step_mode": "m", "surrogate_function": _Step()}
    first = neuron.LIFNode(tau=tau, decay_input=decay_input, v_threshold=threshold, **options)(net.currents(0, net.x))
    second = neuron.IFNode(v_threshold=threshold, **options)(net.currents(1, first))
    v_reset = 0.1 if reset == "value" else 0.0
    full = np.full(5, 1.0)
    lif = ops.LIF(tau=full * tau * DT, v_threshold=full * threshold, v_leak=full * v_reset, v_reset=full * v_reset)
    gain = 1 / DT if decay_input else 1.0
    graph = net.graph(
        semantics_of("spikingjelly", DT, reset=reset, decay_input=decay_input),
        lif,
        ops.LIF(  # an IF that starts at v_reset, as SpikingJelly's does: one that all but never leaks
            tau=np.full(3, 1e12), r=np.full(3, gain * 1e12 if decay_input else 1.0), v_leak=np.full(3, v_reset),
            v_threshold=np.full(3, threshold), v_reset=np.full(3, v_reset),
        ),
    )  # fmt: skip
    agree(net, graph, first, second)


class _Step(torch.nn.Module):
    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return (u >= 0).to(u.dtype)


# -- sinabs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_input": False},
        {"spikes": "single"},
        {"spikes_per_step": 2},
        {"reset": "value"},
        {"min_v_mem": -0.3},
        {"min_v_mem": 0.0, "norm_input": False},
    ],
    ids=str,
)
def test_sinabs(seed: int, options: dict[str, Any]) -> None:
    import sinabs.activation as act
    from sinabs.layers import IAF, LIF

    net = Net(seed, 3.0 if options.get("norm_input", True) else 1.0)
    tau, threshold = net.drawn(3, 12, 5), float(net.drawn(0.3, 0.8, 1)[0])
    most = options.get("spikes_per_step")
    fire = act.SingleSpike if options.get("spikes") == "single" else act.MaxSpike(most) if most else act.MultiSpike
    made: Any = {
        "spike_threshold": torch.tensor(threshold, dtype=torch.float64),
        "spike_fn": fire,
        "reset_fn": act.MembraneReset() if options.get("reset") == "value" else act.MembraneSubtract(),
        "min_v_mem": options.get("min_v_mem"),
    }
    layer = LIF(tau_mem=torch.from_numpy(tau), norm_input=options.get("norm_input", True), **made).double()
    first = layer(net.currents(0, net.x).transpose(0, 1)).transpose(0, 1)
    second = IAF(**made).double()(net.currents(1, first).transpose(0, 1)).transpose(0, 1)
    gain = 1 / DT if options.get("norm_input", True) else 1.0
    graph = net.graph(
        semantics_of("sinabs", DT, **options),
        ops.LIF(tau=tau * DT, v_threshold=np.full(5, threshold)),
        ops.IF(r=np.full(3, gain), v_threshold=np.full(3, threshold)),
    )
    agree(net, graph, first, second)


# -- Rockpool --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("layer", ["LIFTorch", "LIFNeuronTorch", "LIFBitshiftTorch"])
def test_rockpool(seed: int, layer: str) -> None:
    from rockpool.nn.modules import ExpSynTorch, LIFBitshiftTorch, LIFNeuronTorch, LIFTorch

    net = Net(seed)
    tau_mem, tau_syn, threshold = net.drawn(4e-3, 20e-3, 5), net.drawn(3e-3, 9e-3, 5), net.drawn(0.4, 0.9, 5)
    t = torch.from_numpy
    made: Any = {"tau_mem": t(tau_mem), "threshold": t(threshold), "dt": DT, "bias": torch.zeros(5).double()}
    kinds: Any = {"LIFTorch": LIFTorch, "LIFNeuronTorch": LIFNeuronTorch, "LIFBitshiftTorch": LIFBitshiftTorch}
    made |= {} if layer == "LIFNeuronTorch" else {"tau_syn": t(tau_syn)[:, None]}
    currents = net.currents(0, net.x).transpose(0, 1)
    shape = (5,) if layer == "LIFNeuronTorch" else (5, 5)
    first = kinds[layer](shape, **made)(currents)[0].double().transpose(0, 1)
    synapse = ExpSynTorch((3,), tau=torch.full((3,), 5e-3).double(), dt=DT)
    second = synapse(net.currents(1, first).transpose(0, 1))[0].transpose(0, 1)
    if layer == "LIFBitshiftTorch":  # the time constants that decay by 1 - 2^-dash
        tau_mem, tau_syn = (-DT / np.log(1 - 2.0 ** -np.rint(np.log2(tau / DT))) for tau in (tau_mem, tau_syn))
    neuron: ops.Op = ops.LIF(tau=tau_mem, v_threshold=threshold)
    if layer != "LIFNeuronTorch":
        neuron = ops.CubaLIF(tau_syn=tau_syn, tau_mem=tau_mem, w_in=np.exp(-DT / tau_syn), v_threshold=threshold)
    beta = math.exp(-DT / 5e-3)
    graph = net.graph(
        semantics_of("rockpool", DT, layer=layer), neuron, ops.LI(tau=np.full(3, 5e-3), r=np.full(3, beta))
    )
    agree(net, graph, first, second, rounding=1e-4)  # its synapse computes e^(-dt/tau) in float32


# -- all of them -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def on_threshold(framework: str) -> float:
    """What a neuron of the framework gives in the step in which its membrane comes to 1, its threshold."""
    one = torch.ones(1, 1, dtype=torch.float64)
    if framework == "norse":
        import norse.torch as norse

        p = norse.LIFBoxParameters(tau_mem_inv=torch.as_tensor(1 / DT), v_th=torch.as_tensor(1.0))
        return float(norse.LIFBoxCell(p, dt=DT)(one, None)[0])
    if framework == "snntorch":
        import snntorch

        return float(snntorch.Leaky(beta=0.5, threshold=1.0)(one, torch.zeros(1, 1).double())[0])
    if framework == "spikingjelly":
        from spikingjelly.activation_based import neuron

        return float(neuron.IFNode(v_threshold=1.0)(one))
    if framework == "sinabs":
        from sinabs.layers import IAF

        return float(IAF(spike_threshold=torch.tensor(1.0))(one[None]))
    from rockpool.nn.modules import LIFNeuronTorch

    return float(LIFNeuronTorch((1,), tau_mem=0.02, threshold=1.0, bias=0.0, dt=DT)(one[None].float())[0])


@pytest.mark.parametrize("framework", ["norse", "snntorch", "spikingjelly", "sinabs", "rockpool"])
def test_a_membrane_on_its_threshold_is_compared_as_the_record_says(framework: str) -> None:
    assert on_threshold(framework) == float(FRAMEWORKS[framework].semantics.comparison == ">=")


def test_a_record_of_another_simulator_would_not_do() -> None:
    """The nets tell the rules apart: under every other record snnTorch's spikes are not snnTorch's."""
    import snntorch

    net = Net(0)
    cell, state, outputs = snntorch.Leaky(beta=0.8, spike_grad=_heaviside), torch.zeros(3, 5).double(), []
    for value in net.currents(0, net.x):
        y, state = cell(value, state)
        outputs.append(y)
    same = {}
    for name, record in FRAMEWORKS.items():
        if record.semantics.decay == "shift":
            continue
        lif = ops.LIF(tau=np.full(5, DT / (1 - 0.8)), v_threshold=np.full(5, 1.0))
        graph = net.graph(record.semantics.with_(dt=DT, latency_input=0), lif, ops.LI(tau=np.full(3, 1e-2)))
        same[name] = np.array_equal(interpret(graph, net.x, record=["n1"])[1]["n1"], torch.stack(outputs))
    assert [name for name, equal in same.items() if equal] == ["snntorch", "spyx"]  # Spyx's outputs come later


# -- Spyx ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["lif", "if", "cuba", "rlif"])
def test_spyx(kind: str, seed: int) -> None:
    with np.load(DATA / "spyx_traces.npz") as file:
        assert str(file["version"]) == FRAMEWORKS["spyx"].version
        start = f"{kind}/{seed}/"
        p: dict[str, Any] = {key[len(start) :]: file[key] for key in file.files if key.startswith(start)}
    semantics = semantics_of("spyx", DT, layer="CuBaLIF" if kind == "cuba" else "LIF")
    tau, threshold = np.full(5, DT / (1 - p["beta"])), np.full(5, p["threshold"])
    neuron: ops.Op = ops.LIF(tau=tau, v_threshold=threshold)
    if kind == "if":
        neuron = ops.IF(v_threshold=threshold)
    elif kind == "cuba":
        neuron = ops.CubaLIF(tau_syn=np.full(5, DT / (1 - p["alpha"])), tau_mem=tau, v_threshold=threshold)
    named: dict[str, ops.Op] = {
        "input": ops.Input(shape=(4,)),
        "w1": ops.Linear(weight=p["w1"].T),
        "first": neuron,
        "back": ops.Linear(weight=p["back"].T),
        "w2": ops.Linear(weight=p["w2"].T),
        "second": neuron,
        "w3": ops.Linear(weight=p["w3"].T),
        "readout": ops.LI(tau=np.full(3, DT / (1 - p["beta"]))),
        "output": ops.Output(shape=(3,)),
    }
    pairs = "input>w1 w1>first first>w2 w2>second second>w3 w3>readout readout>output"
    if kind == "rlif":
        pairs += " first>back back>first"
    else:
        del named["back"]
    graph = Graph(named, tuple(Edge(*pair.split(">")) for pair in pairs.split()), semantics)
    got, spikes = interpret(graph, p["x"].astype(float), record=["first", "second"])
    for name in ("first", "second"):  # Spyx hands on the spikes of the membrane before the step
        np.testing.assert_array_equal(spikes[name][:-1], p[name][1:])
        assert p[name].sum() > 10
    np.testing.assert_allclose(got, p["readout"], rtol=1e-4, atol=1e-4)


# -- Lava ------------------------------------------------------------------------------------------------------------


def lava_agrees(nets: Any, traces: Any) -> None:
    """The interpreter under Lava's record gives the recorded spikes and membranes."""
    for n in range(4):
        net = {name: nets[f"{n}/{name}"] for name in ("w1", "w2", "du", "dv", "bias", "vth", "x")}
        du, dv, bias, vth = (float(net[name]) for name in ("du", "dv", "bias", "vth"))

        def lif(size: int, du: float = du, dv: float = dv, bias: float = bias, vth: float = vth) -> ops.Op:
            full = np.ones(size)
            leak = bias / dv * full  # a bias in every step is what a membrane leaks to
            return ops.CubaLIF(tau_syn=full * DT / du, tau_mem=full * DT / dv, v_leak=leak, v_threshold=full * vth)

        layers = [("w1", ops.Linear(weight=net["w1"])), ("n1", lif(5)), ("w2", ops.Linear(weight=net["w2"]))]
        graph = chain(
            ops.Input(shape=(4,)), *layers, ("n2", lif(3)), ops.Output(shape=(3,)), semantics=semantics_of("lava", DT)
        )
        got, recorded = interpret(graph, net["x"][:, None], record=["n1", "n2:v"])
        np.testing.assert_array_equal(recorded["n1"][:, 0], traces[f"{n}/s1"])
        np.testing.assert_array_equal(got[:, 0], traces[f"{n}/s2"])
        np.testing.assert_allclose(recorded["n2:v"][:, 0], traces[f"{n}/v2"], rtol=1e-9, atol=1e-9)
        assert traces[f"{n}/s2"].sum() > 5


def test_lava_float_as_recorded() -> None:
    with np.load(DATA / "lava_float_nets.npz") as nets, np.load(DATA / "lava_float_traces.npz") as traces:
        assert str(traces["version"]) == FRAMEWORKS["lava"].version
        lava_agrees(nets, traces)


@pytest.mark.skipif(find() is None, reason="no Lava here (make lava): its recorded traces alone are compared")
def test_lava_float_itself_where_it_is_installed() -> None:
    python = find()
    assert python is not None
    with tempfile.TemporaryDirectory() as folder:
        there, program = Path(folder, "traces.npz"), Path(__file__).parent / "lava_float_program.py"
        run_script(program, [str(DATA / "lava_float_nets.npz"), str(there)], seconds=300, python=python)
        with np.load(DATA / "lava_float_nets.npz") as nets, np.load(there) as traces:
            lava_agrees(nets, traces)
