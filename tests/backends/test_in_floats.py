"""A chip's layout in floats: without roundings the network, with all of them the chip, spike for spike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from snnir.compiler import compile
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.ops import LIF, Affine, Conv2d, Delay, Flatten, Input, Output
from snnir.semantics import Semantics
from tests.backends.lava_float import run_floats
from tests.backends.test_lava_layout import KINDS, everything
from tests.backends.xylo_nets import DT, SOFT, Array, affine, cuba, integrate, layers, lif, linear, spikes, wired
from tests.strategies import inputs_for, nir_graphs

HARD = Semantics(dt=DT)
Traces = dict[str, Array]


def three(
    graph: Graph, target: str, x: Traces, made: Any = None, **options: Any
) -> tuple[Traces, Traces, Traces, Traces]:
    """Of every population and output, without lags: the network, the layout, with all roundings, the chip."""
    made = made or compile(graph, target, calibrate=x, **options).artifact
    model = made.floats()
    names = tuple(n for n in model.run(x, frozenset()) if n not in graph.outputs)
    out, recorded = interpret(graph, x, record=names)
    network = {**recorded, **(out if isinstance(out, dict) else {graph.outputs[0]: out})}
    read, kept = made.run(x, names)
    runs = [model.run(x, frozenset()), model.run(x, frozenset(r.name for r in model.roundings)), {**kept, **read}]
    cut = [{n: run[n][made.lags[n] :] for n in network} for run in runs]
    return {n: v[: len(v) - made.lags[n]] for n, v in network.items()}, *cut  # type: ignore[return-value]


def apart(a: Traces, b: Traces) -> int:
    """Places that differ by more than floats do."""
    return sum(int((np.abs(a[n] - b[n]) > 1e-6 * max(1.0, np.abs(a[n]).max())).sum()) for n in a)


def mixed(rng: np.random.Generator) -> Graph:
    """Both kinds of neurons, a loop, and biases of all, those of the first ones from the network's second step on."""
    ops = {"in": Input(shape=(10,)), "w1": affine(rng, 20, 10), "a": cuba(20), "w2": affine(rng, 20, 20), "b": lif(20)}
    ops |= {"w3": affine(rng, 6, 20), "c": cuba(6, 11 * DT), "out": Output(), "back": linear(rng, 20, 20, 0, 0.1)}
    return wired(ops, "in > w1 > a > w2 > b > w3 > c > out", "b > back > b")


XYLO = {
    "cuba": lambda rng: layers(rng, [10, 30, 20]),
    "lif": lambda rng: layers(rng, [10, 30, 20], lif),
    "if": lambda rng: layers(rng, [10, 30, 20], integrate),
    "between powers of two": lambda rng: layers(rng, [10, 30, 20], lambda n: cuba(n, 20 * DT, 10 * DT)),
    "late reset": lambda rng: layers(
        rng, [10, 30, 20], lif, SOFT.with_(comparison=">", reset="delayed-subtract", decay="exact")
    ),
    "many spikes": lambda rng: layers(
        rng, [10, 30, 20], semantics=SOFT.with_(spikes_per_step=None, order="membrane-first")
    ),
}


@pytest.mark.parametrize("name", XYLO)
@pytest.mark.parametrize("seed", [0, 1])
def test_xylo_without_roundings_is_the_network_and_with_all_the_chip(name: str, seed: int) -> None:
    graph = XYLO[name](np.random.default_rng(seed))
    x = {"in": spikes((80, 6, 10), 0.3, seed)}
    # Outputs give one spike per step at most, so that not all of several may be read.
    network, layout, rounded, chip = three(graph, "xylo-audio3", x, allow=("approximate",))
    assert sum(v.sum() for v in network.values()) > 5_000
    assert apart(network, chip) > 100
    assert apart(network, layout) == 0
    assert apart(rounded, chip) == 0


def random_network(rng: np.random.Generator) -> Graph:
    """Three layers of any kinds, weak and strong, biases, perhaps a loop, a delay, a second way for the input."""
    kinds = [
        lambda n: cuba(n, rng.uniform(2, 60) * DT, rng.uniform(2, 30) * DT, rng.uniform(0.3, 3)),
        lambda n: lif(n, rng.uniform(3, 60) * DT, rng.uniform(0.5, 2)),
        lambda n: integrate(n, rng.uniform(0.5, 2)),
    ]

    def weights(n_out: int, n_in: int) -> Any:
        if rng.random() < 0.5:
            return linear(rng, n_out, n_in, rng.uniform(-0.05, 0.2), rng.uniform(0.1, 0.6))
        return affine(rng, n_out, n_in, rng.uniform(-0.05, 0.1))

    ops: dict[str, Any] = {"in": Input(shape=(8,)), "w1": weights(14, 8), "a": kinds[rng.integers(3)](14)}
    ops |= {"w2": weights(12, 14), "b": kinds[rng.integers(3)](12)}
    ops |= {"w3": weights(6, 12), "c": kinds[rng.integers(3)](6), "out": Output()}
    ways = ["in > w1 > a > w2 > b > w3 > c > out"]
    if rng.random() < 0.4:
        ops["back"] = linear(rng, 14, 14, 0, 0.2)
        ways.append("a > back > a")
    if rng.random() < 0.4:
        ops |= {"d": Delay(delay=np.full(14, 2 * DT)), "skip": linear(rng, 6, 14, 0, 0.2)}
        ways.append("a > d > skip > c")
    if rng.random() < 0.3:
        ops["wide"] = linear(rng, 12, 8, 0, 0.2)
        ways.append("in > wide > b")
    semantics = SOFT.with_(
        comparison=rng.choice([">", ">="]).item(),
        order=rng.choice(["synapse-first", "membrane-first"]).item(),
        spikes_per_step=(1, 1, None)[rng.integers(3)],
        start=rng.choice(["rest", "zero"]).item(),
    )
    return wired(ops, *ways, semantics=semantics)


@pytest.mark.parametrize(("chip", "calibrated"), [("xylo-audio2", False), ("xylo-audio3", True), ("xylo-imu", False)])
def test_xylo_on_random_networks(chip: str, calibrated: bool) -> None:
    """Up to 15 events at once drive states to their ends; all roundings are the chip, and the layout speaks up."""
    counted = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        graph = random_network(rng)
        x = {"in": rng.integers(0, (2, 4, 16)[seed % 3], (40, 3, 8)).astype(np.float64)}
        options: dict[str, Any] = {} if calibrated else {"calibrate": None}
        made = compile(graph, chip, **{"calibrate": x, "allow": ("approximate",), **options}).artifact
        network, layout, rounded, chips = three(graph, chip, x, made)
        assert apart(rounded, chips) == 0, seed
        assert apart(network, layout) == 0 or made.floats().layout, seed
        counted += apart(network, chips)
    assert counted > 500


def test_xylo_layouts_that_begin_late_do_so_in_floats_too() -> None:
    graph, x = mixed(np.random.default_rng(2)), {"in": spikes((80, 6, 10), 0.3)}
    network, layout, rounded, chip = three(graph, "xylo-audio3", x)
    assert apart(network, layout) > 100  # a driver's first spike comes a step late
    assert apart(rounded, chip) == 0


def test_xylo_outputs_that_only_biases_reach_are_output_neurons() -> None:
    """They spike once per step, and their drivers' weights stand in the outputs' matrix."""
    rng = np.random.default_rng(4)
    ops = {"in": Input(shape=(6,)), "w": affine(rng, 8, 6), "a": lif(8), "v": linear(rng, 4, 8), "b": cuba(4)}
    ops |= {"out": Output(), "none": Affine(weight=np.zeros((3, 6)), bias=np.array([0.013, 4.0, -2.0]))}
    ops |= {"alone": cuba(3), "steady": Output()}
    graph = wired(ops, "in > w > a > v > b > out", "in > none > alone > steady")
    x = {"in": spikes((60, 2, 6), 0.3)}
    made = compile(graph, "xylo-audio3").artifact
    network, _, rounded, chip = three(graph, "xylo-audio3", x, made)
    assert apart(rounded, chip) == 0
    assert chip["steady"].max() == 1
    counts = {name: values["steady"].sum(axis=0) for name, values in (("network", network), ("chip", chip))}
    assert (np.abs(counts["chip"] - counts["network"]) <= 2).all(), counts
    assert (counts["network"] > 0).any()


NUMBERS = np.random.default_rng(1).normal(0.3, 1.0, (80, 6, 10))
LAVA = {
    "cuba": (lambda rng: layers(rng, [10, 30, 20], cuba, HARD), spikes((80, 6, 10), 0.3)),
    "lif": (lambda rng: layers(rng, [10, 30, 20], lif, HARD), spikes((80, 6, 10), 0.3)),
    "at the threshold": (
        lambda rng: layers(rng, [10, 30, 20], lambda n: lif(n, 100 * DT), HARD.with_(comparison=">=")),
        spikes((80, 6, 10), 0.3),
    ),
    "loops, delays, biases, currents": (lambda rng: everything(rng, HARD), spikes((80, 6, 5), 0.4)),
    "numbers": (lambda rng: layers(rng, [10, 30, 20], lif, HARD), NUMBERS),
}


@pytest.mark.parametrize("name", LAVA)
@pytest.mark.parametrize("bits", [8, 9, 16])
def test_lava_without_roundings_is_the_network_and_with_all_the_chip(name: str, bits: int) -> None:
    make, x = LAVA[name]
    network, layout, rounded, chip = three(make(np.random.default_rng(3)), "lava", {"in": x}, weight_bits=bits)
    assert apart(network, chip) > 20
    assert apart(network, layout) == 0
    assert apart(rounded, chip) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    nir_graphs(KINDS, uniform=True, several_io=True, dtypes=(np.float64,)),
    st.sampled_from([">", ">="]),
    st.sampled_from(["synapse-first", "membrane-first"]),
    st.sampled_from([8, 9, 16]),
    st.sampled_from(["conv", "matrix"]),
    st.integers(0, 99),
)
def test_lava_on_random_networks(graph: Graph, comparison: str, order: str, bits: int, conv: str, seed: int) -> None:
    """Whatever NIR holds, numbers and spikes: in floats it is the network, and with all roundings the chip."""
    given_graph = Graph(graph.ops, graph.edges, graph.semantics.with_(comparison=comparison, order=order))
    x = inputs_for(given_graph, T=20, rng=seed)
    options: dict[str, Any] = {"weight_bits": bits, "conv": conv}
    try:
        network, layout, rounded, chip = three(given_graph, "lava", x, **options)
    except CompileError:
        reject()
    if apart(network, layout):
        made = compile(given_graph, "lava", calibrate=x, **options).artifact
        assume(run_floats(made.plan, x, comparison == ">")[2] > 1e-9)  # else rounding of floats decides
    assert apart(network, layout) == 0
    assert apart(rounded, chip) == 0


@pytest.mark.parametrize("conv", ["conv", "matrix"])
def test_lava_convolutions_with_numbers_in_two_parts(conv: str) -> None:
    """Large integers go into a Conv as two; relays in front of another hold its spikes back."""
    rng = np.random.default_rng(5)
    kernels = [rng.normal(0.05, 0.2, shape) for shape in ((6, 2, 3, 3), (4, 6, 3, 3))]
    first, second = (Conv2d(weight=w, bias=np.zeros(len(w)), input_shape=None, padding=1) for w in kernels)
    graph = chain(
        ("in", Input(shape=(2, 6, 6))),
        ("k1", first),
        ("n1", lif_like((6, 6, 6))),
        ("k2", second),
        ("n2", lif_like((4, 6, 6))),
        ("flat", Flatten(start_dim=0, end_dim=-1)),
        ("w", linear(rng, 5, 144)),
        ("n3", lif(5)),
        ("out", Output()),
        semantics=HARD,
    )
    x = {"in": rng.normal(0.2, 1.0, (40, 3, 2, 6, 6))}
    network, layout, rounded, chip = three(graph, "lava", x, conv=conv, weight_bits=8)
    assert apart(network, chip) > 20
    assert apart(network, layout) == 0
    assert apart(rounded, chip) == 0


def lif_like(shape: tuple[int, ...]) -> Any:
    """LIF neurons in which a value of w adds w to the membrane."""
    full = np.ones(shape)
    return LIF(tau=16 * DT * full, r=16 * full, v_threshold=full)
