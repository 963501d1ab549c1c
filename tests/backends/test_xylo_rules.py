"""Every design rule is broken by a graph that breaks it alone; many at once are named at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

import snnir
from snnir.backends.xylo import XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU, XyloBackend
from snnir.backends.xylo.chip import AUDIO2, AUDIO3, IMU
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.ops import LI, Delay, Input, Linear, Output
from snnir.pipeline import parse_pipeline
from tests.backends.xylo_nets import DT, SOFT, cuba, layers, lif, linear, wired

BACKENDS = (XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU)
RNG = np.random.default_rng(0)


def broken(backend: XyloBackend, graph: Graph) -> list[str]:
    return [v.rule for v in backend.target.check(graph)]


def sparse(n_out: int, n_in: int, per_source: int) -> Linear:
    """A matrix in which every source reaches `per_source` targets."""
    weight = np.zeros((n_out, n_in))
    for source in range(n_in):
        weight[(source * per_source + np.arange(per_source)) % n_out, source] = 1.0
    return Linear(weight=weight)


def deep(sizes: list[int], per_source: int) -> Graph:
    """Layers of which only the first is dense."""
    ops = [("in", Input(shape=(sizes[0],))), ("w1", linear(RNG, sizes[1], sizes[0])), ("n1", cuba(sizes[1]))]
    for at, (before, size) in enumerate(pairwise(sizes[1:]), 2):
        ops += [(f"w{at}", sparse(size, before, min(per_source, size))), (f"n{at}", cuba(size))]
    return chain(*ops, ("out", Output()), semantics=SOFT)


def tau_short() -> Graph:
    graph = layers(RNG, [4, 10, 2])
    return snnir.Graph({**graph.ops, "n1": cuba(10, tau_syn=1.3 * DT)}, graph.edges, graph.semantics)


def threshold_zero() -> Graph:
    graph = layers(RNG, [4, 10, 2])
    return snnir.Graph({**graph.ops, "n1": cuba(10, threshold=0.0)}, graph.edges, graph.semantics)


def two_populations_in_a_loop(delay: float = 0.0, **semantics: int) -> Graph:
    ops = {"in": Input(shape=(4,)), "w1": linear(RNG, 6, 4), "a": cuba(6), "w2": linear(RNG, 6, 6), "b": cuba(6)}
    ops |= {"w3": linear(RNG, 6, 6), "w4": linear(RNG, 2, 6), "c": cuba(2), "out": Output()}
    if not delay:
        return wired(ops, "in > w1 > a > w2 > b > w3 > a", "b > w4 > c > out", semantics=SOFT.with_(**semantics))
    ops["d"] = Delay(delay=np.full(6, delay))
    return wired(ops, "in > w1 > a > w2 > b > d > w3 > a", "b > w4 > c > out", semantics=SOFT.with_(**semantics))


def current_output() -> Graph:
    graph = layers(RNG, [4, 10, 5])
    ops = {**graph.ops, "read": linear(RNG, 3, 5), "out": Output()}
    return wired(ops, "in > w1 > n1 > w2 > n2 > read > out")


ALONE: dict[str, tuple[XyloBackend, Callable[[], Graph]]] = {
    "xylo-input-channels": (XYLO_AUDIO3, lambda: layers(RNG, [17, 10, 2])),
    "xylo-hidden-neurons": (XYLO_IMU, lambda: deep([4, 100, 300, 100, 2], 4)),
    "xylo-output-neurons": (XYLO_AUDIO2, lambda: layers(RNG, [4, 10, 9])),
    "xylo-input-expansion": (XYLO_AUDIO3, lambda: deep([4, 129, 20, 2], 4)),
    "xylo-output-expansion": (XYLO_AUDIO3, lambda: deep([4, 20, 129, 2], 4)),
    "xylo-fan-out": (XYLO_AUDIO2, lambda: layers(RNG, [4, 10, 65, 2])),
    "xylo-connections": (XYLO_IMU, lambda: layers(RNG, [4, 128, 128, 128, 2])),
    "xylo-reset": (XYLO_AUDIO3, lambda: layers(RNG, [4, 10, 2], semantics=SOFT.with_(reset="value"))),
    "xylo-tau": (XYLO_AUDIO3, tau_short),
    "xylo-threshold": (XYLO_AUDIO3, threshold_zero),
    "xylo-floor": (XYLO_AUDIO3, lambda: layers(RNG, [4, 10, 2], semantics=SOFT.with_(membrane_floor=-1.0))),
    "xylo-loop": (XYLO_AUDIO3, two_populations_in_a_loop),
    "xylo-output-source": (XYLO_AUDIO3, current_output),
    "time-step": (XYLO_AUDIO3, lambda: layers(RNG, [4, 10, 2], semantics=SOFT.with_(dt=None))),
}


@pytest.mark.parametrize("rule", ALONE)
def test_a_rule_is_broken_alone(rule: str) -> None:
    backend, make = ALONE[rule]
    assert broken(backend, make()) == [rule]


@pytest.mark.parametrize(
    ("backend", "sizes"),
    [(XYLO_AUDIO2, [16, 60, 64, 8]), (XYLO_AUDIO3, [16, 128, 120, 128, 32]), (XYLO_IMU, [16, 128, 111, 128, 16])],
)
def test_networks_at_the_limits_pass(backend: XyloBackend, sizes: list[int]) -> None:
    assert broken(backend, layers(RNG, sizes)) == []


def test_limits_are_those_of_the_chips() -> None:
    assert [(c.inputs, c.hidden, c.outputs) for c in (AUDIO2, AUDIO3, IMU)] == [
        (16, 1000, 8),
        (16, 992, 32),
        (16, 496, 16),
    ]
    assert [(c.input_expansion, c.output_expansion) for c in (AUDIO2, AUDIO3, IMU)] == [
        (1000, 1000),
        (128, 128),
        (128, 128),
    ]
    assert [(c.fan_out, c.entries, c.synapses) for c in (AUDIO2, AUDIO3, IMU)] == [
        (64, 32000, 2),
        (1024, 31744, 2),
        (512, 31744, 1),
    ]


def test_everything_wrong_is_named_at_once() -> None:
    graph = chain(
        ("in", Input(shape=(20,))),
        ("w1", linear(RNG, 60, 20)),
        ("n1", cuba(60, tau_syn=0.6 * DT)),
        ("w2", linear(RNG, 100, 60)),
        ("n2", cuba(100)),
        ("w3", linear(RNG, 11, 100)),
        ("n3", cuba(11)),
        ("out", Output()),
        semantics=SOFT.with_(reset="value"),
    )
    with pytest.raises(CompileError) as caught:
        snnir.compile(graph, "xylo-audio2")
    found = {v.rule: v for v in caught.value.violations}
    assert set(found) == {
        "xylo-input-channels",
        "xylo-output-neurons",
        "xylo-fan-out",
        "xylo-tau",
        "xylo-reset",
    }
    assert "20 input channels" in found["xylo-input-channels"].what
    assert "11 outputs" in found["xylo-output-neurons"].what
    assert "100 hidden neurons" in found["xylo-fan-out"].what
    assert found["xylo-fan-out"].where == "n1"
    assert "rounds to 0" in found["xylo-tau"].what
    assert found["xylo-reset"].where == "n1, n2, n3"
    assert all(v.hint for v in found.values())


def test_several_at_once_even_when_a_loop_is_too_fast_and_the_time_step_is_missing() -> None:
    graph = two_populations_in_a_loop()
    ops = {**graph.ops, "in": Input(shape=(18,)), "w1": linear(RNG, 6, 18)}
    loop = Graph(ops, graph.edges, graph.semantics.with_(reset="value"))
    assert set(broken(XYLO_AUDIO3, loop)) == {"xylo-loop", "xylo-input-channels", "xylo-reset"}
    timeless = Graph(ops, graph.edges, graph.semantics.with_(reset="value", dt=None))
    assert set(broken(XYLO_AUDIO3, timeless)) >= {"time-step", "xylo-input-channels", "xylo-reset"}


def test_unknown_ops_and_missing_neurons() -> None:
    readout = chain(
        ("in", Input(shape=(4,))),
        ("w1", linear(RNG, 6, 4)),
        ("n1", cuba(6)),
        ("w2", linear(RNG, 2, 6)),
        ("read", LI(tau=np.full(2, 8 * DT))),
        ("out", Output()),
        semantics=SOFT,
    )
    assert broken(XYLO_IMU, readout) == ["xylo-imu-op", "xylo-output-source"]
    weights = chain(("in", Input(shape=(4,))), ("w", linear(RNG, 2, 4)), ("out", Output()), semantics=SOFT)
    assert broken(XYLO_IMU, weights) == ["xylo-output-source", "xylo-neurons"]


def test_a_network_far_too_large_is_refused_quickly() -> None:
    n = 20_000
    graph = chain(
        ("in", Input(shape=(n,))),
        ("n1", cuba(n)),
        ("n2", cuba(n)),
        ("out", Output()),
        semantics=SOFT,
    )
    assert {"xylo-input-channels", "xylo-hidden-neurons", "xylo-output-neurons", "xylo-size"} <= set(
        broken(XYLO_AUDIO3, graph)
    )


def test_loops_pass_when_the_network_takes_the_steps_itself() -> None:
    assert broken(XYLO_AUDIO3, two_populations_in_a_loop(delay=DT)) == []
    assert broken(XYLO_AUDIO3, two_populations_in_a_loop(latency_neuron=1)) == []


def test_delayed_subtraction_is_for_neurons_without_synaptic_current() -> None:
    late = SOFT.with_(reset="delayed-subtract")
    assert broken(XYLO_AUDIO3, layers(RNG, [4, 10, 2], lif, late)) == []
    assert broken(XYLO_AUDIO3, layers(RNG, [4, 10, 2], cuba, late)) == ["xylo-reset"]


@pytest.mark.parametrize("tau", [1.40, 1.42])
def test_the_shortest_time_constant_is_root_two_steps(tau: float) -> None:
    graph = layers(RNG, [4, 10, 2])
    ops = {**graph.ops, "n1": cuba(10, tau_mem=tau * DT, tau_syn=4 * DT)}
    assert broken(XYLO_AUDIO3, Graph(ops, graph.edges, graph.semantics)) == (["xylo-tau"] if tau < 2**0.5 else [])
    exponential = Graph(ops, graph.edges, graph.semantics.with_(decay="exponential"))
    assert broken(XYLO_AUDIO3, exponential) == []


@pytest.mark.parametrize("rule", ["xylo-reset", "xylo-tau", "xylo-floor", "xylo-loop"])
def test_meaning_may_be_approximated_and_is_then_reported_with_its_effect(rule: str) -> None:
    backend, make = ALONE[rule]
    result = snnir.compile(make(), backend.target.name, allow=("approximate",))
    assert [v["rule"] for v in result.report["approximations"]] == [rule]
    assert all("count_error" in c for c in result.report["measured"]["candidates"])


def test_what_was_allowed_once_is_not_allowed_for_ever() -> None:
    backend, make = ALONE["xylo-reset"]
    once = snnir.compile(make(), backend.target.name, allow=("approximate",), passes="balance-latency")
    assert [v["rule"] for v in once.report["approximations"]] == ["xylo-reset"]
    parse_pipeline(once.report["pipeline"])  # what is reported can be given to -p
    with pytest.raises(CompileError) as caught:
        snnir.compile(once.graph, backend.target.name)
    assert [v.rule for v in caught.value.violations] == ["xylo-reset"]


@pytest.mark.parametrize("rule", ["xylo-input-channels", "xylo-output-neurons", "xylo-fan-out", "xylo-threshold"])
def test_room_cannot_be_approximated(rule: str) -> None:
    backend, make = ALONE[rule]
    with pytest.raises(CompileError) as caught:
        snnir.compile(make(), backend.target.name, allow=("approximate",))
    assert [v.rule for v in caught.value.violations] == [rule]


@pytest.mark.parametrize("backend", BACKENDS)
def test_rules_keep_their_names_and_say_what_they_are(backend: XyloBackend) -> None:
    names = [rule.__name__ for rule in backend.target.rules]  # type: ignore[attr-defined]
    assert {"input_channels", "fan_out", "reset_by_subtraction"} <= set(names)
    assert all(rule.__doc__ for rule in backend.target.rules)
