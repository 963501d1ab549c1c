"""The lava target: networks of parts that nothing connects, and ops that are called like what Lava gets besides."""

from __future__ import annotations

import numpy as np
import pytest

import snnir
from snnir.backends.lava.environment import find
from snnir.graph import Edge, Graph
from snnir.interpreter import interpret
from snnir.ops import Concat, Constant, Delay, Input, Op, Output
from snnir.semantics import Semantics
from tests.backends.test_lava_conv import channels, conv
from tests.backends.xylo_nets import DT, Array, cuba, lif, linear, spikes, wired

NO_LAVA = "no Lava here (make lava): networks do not run in it"
HARD = Semantics(dt=DT)
live = pytest.mark.skipif(find() is None, reason=NO_LAVA)


def apart() -> tuple[Graph, dict[str, Array]]:
    """Four parts: a layer, a part without input , one that only an output reads, and a loop."""
    rng = np.random.default_rng(0)
    ops: dict[str, Op] = {"in": Input(shape=(6,)), "w": linear(rng, 8, 6), "n": lif(8, 20 * DT), "out": Output()}
    ops |= {"c": Constant(value=np.linspace(0.2, 3.0, 5)), "m": cuba(5, 10 * DT), "w2": linear(rng, 4, 5, 0.3)}
    ops |= {"k": lif(4, 10 * DT), "driven": Output(), "early": Output()}
    ops |= {"in2": Input(shape=(3,)), "w3": linear(rng, 4, 3), "summed": Output()}
    ops |= {
        "in3": Input(shape=(4,)),
        "r": lif(4),
        "back": linear(rng, 4, 4, -0.2),
        "d": Delay(delay=np.full(4, 2 * DT)),
    }
    ops |= {"looped": Output()}
    ways = ["in > w > n > out", "c > m > w2 > k > driven", "m > early", "in2 > w3 > summed"]
    graph = wired(ops, *ways, "in3 > r > looped", "r > d > back > r", semantics=HARD)
    return graph, {name: spikes((40, 2, *graph.shapes[name]), 0.5, seed) for seed, name in enumerate(graph.inputs)}


def renamed(graph: Graph, names: dict[str, str]) -> Graph:
    """The same network with some ops called otherwise."""
    edges = tuple(Edge(names.get(e.source, e.source), names.get(e.target, e.target), e.port) for e in graph.edges)
    return Graph({names.get(name, name): op for name, op in graph.ops.items()}, edges, graph.semantics)


def waiting() -> tuple[Graph, dict[str, str]]:
    """A net with a driver, relays and a population of two kinds, and the names of ops that all of them would take."""
    rng = np.random.default_rng(4)
    ops: dict[str, Op] = {"in": Input(shape=(1, 5, 8)), "c1": conv(rng, 2, 1, padding=(1, 1), mean=0.3)}
    ops |= {"a": channels(5, 2), "c2": conv(rng, 3, 2, padding=(1, 1)), "b": channels(9, 3), "both": Concat(inputs=2)}
    ops |= {"c3": conv(rng, 4, 5, padding=(1, 1)), "n": channels(9, 4), "out": Output()}
    ops |= {"in2": Input(shape=(4,)), "w": linear(rng, 6, 4, 0.4), "k": lif(6), "second": Output()}
    mixed = lif(6).with_(tau=np.repeat([10 * DT, 30 * DT], 3))
    ops |= {
        "k": mixed,
        "push": Constant(value=np.full(6, 0.3)),
        "cu": cuba(6),
        "wk": linear(rng, 6, 6),
        "last": Output(),
    }
    ways = ["in > c1 > a > c2 > b", "both > c3 > n > out", "in2 > w > k > second", "k > wk > cu > last", "push > cu"]
    edges = wired(ops, *ways, semantics=HARD).edges
    graph = Graph(ops, (*edges, Edge("a", "both", "in0"), Edge("b", "both", "in1")), HARD)
    return graph, {"in2": "#driver", "b": "a~1", "cu": "k#0", "last": "k#1", "out": "#driver~1", "second": "##driver"}


def test_parts_are_the_network_to_the_simulator() -> None:
    graph, x = apart()
    result = snnir.compile(graph, "lava", calibrate=x)
    names = ["n", "m", "k", "r"]
    outputs, recorded = interpret(graph, x, record=names)
    longer = {name: np.concatenate([v, np.zeros((result.latency, *v.shape[1:]))]) for name, v in x.items()}
    got, spiked = result.run(longer, record=names)
    for name in names:
        lag = result.artifact.lags[name]
        off = np.abs(spiked[name][lag : 40 + lag].sum(axis=0) - recorded[name].sum(axis=0)).sum()
        assert recorded[name].sum() > 30, name
        assert off <= 0.03 * recorded[name].sum(), name
    lag = result.artifact.lags["summed"]
    np.testing.assert_allclose(got["summed"][lag : 40 + lag], outputs["summed"], atol=2e-3)


@pytest.mark.oracle
@live
def test_parts_run_in_lava_itself() -> None:
    graph, x = apart()
    artifact = snnir.compile(graph, "lava", calibrate=x).artifact
    (want, wanted), (got, spiked) = (run(x, record=("n", "m", "k", "r")) for run in (artifact.run, artifact.run_vendor))
    assert got.keys() == want.keys() == {"out", "driven", "early", "summed", "looped"}
    for name, values in (want | wanted).items():
        assert np.any(values), name
        np.testing.assert_array_equal((got | spiked)[name], values, err_msg=name)


def test_names_of_ops_that_are_also_names_of_helpers_change_nothing() -> None:
    graph, names = waiting()
    own = renamed(graph, names)
    x = {name: spikes((30, 2, *graph.shapes[name]), 0.4, seed) for seed, name in enumerate(graph.inputs)}
    plain = snnir.compile(graph, "lava", calibrate=x, conv="conv")
    cells = {c.name for c in plain.artifact.plan.cells}
    assert cells >= {"#driver", "a~1", "k#0", "k#1"}  # what the other network's ops are called
    result = snnir.compile(own, "lava", calibrate={names.get(n, n): v for n, v in x.items()}, conv="conv")
    assert {c.name for c in result.artifact.plan.cells} >= {"###driver", "a~~1", "k###0", "k###1", "k#0", "a~1"}
    (want, recorded), (got, spiked) = (
        r.run({n.get(k, k): v for k, v in x.items()}, record=[n.get(k, k) for k in ("a", "b", "k", "cu")])
        for r, n in ((plain, {}), (result, names))
    )
    for name, values in (want | recorded).items():
        assert np.any(values), name
        np.testing.assert_array_equal((got | spiked)[names.get(name, name)], values, err_msg=name)
    given = {names.get(n, n): v for n, v in x.items()}
    before, after = plain.artifact.floats(), result.artifact.floats()
    assert before is not None
    assert after is not None
    on = frozenset(rounding.name for rounding in before.roundings)
    np.testing.assert_array_equal(after.run(given, on)["k#0"], before.run(x, on)["cu"])
    assert [r.exact for r in after.roundings] == [r.exact for r in before.roundings]


def test_an_input_called_like_the_low_part_of_another() -> None:
    """Numbers in front of a convolution go in as two inputs: the second may not be called like one of the network's."""
    rng = np.random.default_rng(8)
    ops: dict[str, Op] = {"in": Input(shape=(3, 6, 7)), "c": conv(rng, 4, 3, padding=(1, 1), mean=0.0)}
    ops |= {"n": channels(10, 4), "out": Output(), "in#low": Input(shape=(3,)), "w": linear(rng, 3, 3), "k": lif(3)}
    graph = wired(ops | {"k#low": Output()}, "in > c > n > out", "in#low > w > k > k#low", semantics=HARD)
    x = {"in": np.repeat(rng.normal(0, 1, (1, 2, 3, 6, 7)), 40, axis=0), "in#low": spikes((40, 2, 3), 0.5)}
    result = snnir.compile(graph, "lava", calibrate=x, conv="conv")
    assert dict(result.artifact.spec.inputs) == {"in": 126, "in##low": 126, "in#low": 3}
    plain = renamed(graph, {"in#low": "s", "k#low": "last"})
    other = snnir.compile(plain, "lava", calibrate={"in": x["in"], "s": x["in#low"]}, conv="conv")
    assert dict(other.artifact.spec.inputs) == {"in": 126, "in#low": 126, "s": 3}
    got, want = result.run(x), other.run({"in": x["in"], "s": x["in#low"]})
    for name, other_name in (("out", "out"), ("k#low", "last")):
        assert got[name].sum() > 20
        np.testing.assert_array_equal(got[name], want[other_name])


@pytest.mark.oracle
@live
def test_names_of_helpers_in_lava_itself() -> None:
    graph, names = waiting()
    own = renamed(graph, names)
    x = {name: spikes((20, 1, *own.shapes[name]), 0.4, seed) for seed, name in enumerate(own.inputs)}
    artifact = snnir.compile(own, "lava", calibrate=x, conv="conv").artifact
    (want, wanted), (got, spiked) = (
        run(x, record=("a", "a~1", "k", "k#0")) for run in (artifact.run, artifact.run_vendor)
    )
    for name, values in (want | wanted).items():
        np.testing.assert_array_equal((got | spiked)[name], values, err_msg=name)
    assert sum(values.sum() for values in wanted.values()) > 50
