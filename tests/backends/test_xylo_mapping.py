"""Layout: ids and their order, matrices between populations, and timing kept to the step by relays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnir.backends.xylo import XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU
from snnir.backends.xylo.artifact import as_events
from snnir.backends.xylo.chip import AUDIO2, AUDIO3
from snnir.backends.xylo.mapping import READING, plan
from snnir.compiler import compile
from snnir.graph import Edge, Graph, chain
from snnir.interpreter import interpret
from snnir.ops import LIF, Affine, AvgPool2d, Conv2d, Delay, Flatten, Input, Linear, Output, Scale, Slice
from snnir.projections import read_network
from tests.backends.xylo_nets import DT, SOFT, Array, affine, count_error, cuba, layers, lif, linear, spikes, wired
from tests.xylo_oracle import XyloOracle

RNG = np.random.default_rng(1)


# -- matrices ----------------------------------------------------------------------------------------------------------


def test_everything_linear_between_populations_becomes_one_matrix_and_one_bias() -> None:
    rng = np.random.default_rng(2)
    ops = {
        "in": Input(shape=(1, 4, 4)),
        "conv": Conv2d(weight=rng.normal(size=(2, 1, 3, 3)), bias=rng.normal(size=2), padding=1),
        "pool": AvgPool2d(kernel_size=(2, 2), stride=(2, 2)),
        "flat": Flatten(),
        "scale": Scale(scale=rng.normal(size=8)),
        "dense": Affine(weight=rng.normal(size=(5, 8)), bias=rng.normal(size=5)),
        "flat2": Flatten(),
        "side": Linear(weight=rng.normal(size=(5, 16))),
        "n": cuba(5),
        "w": linear(rng, 2, 5),
        "o": cuba(2),
        "out": Output(),
    }
    edges = ("in > conv > pool > flat > scale > dense > n", "in > flat2 > side > n", "n > w > o > out")
    graph = wired(ops, *edges)
    network = read_network(graph, READING)
    (projection,) = network.into("n")
    assert (projection.source, projection.delay, projection.weight.shape) == ("in", 0, (16, 5))
    # The same ops, read by an output instead of neurons, through the interpreter.
    linear_part = wired({k: v for k, v in ops.items() if k not in ("n", "w", "o")}, *edges[:1], *edges[1:2])
    linear_part = Graph(
        linear_part.ops,
        tuple(Edge(e.source, "out" if e.target == "n" else e.target) for e in linear_part.edges),
        SOFT,
    )
    x = rng.normal(size=(3, 2, 1, 4, 4))
    want = interpret(linear_part, x)
    np.testing.assert_allclose(x.reshape(3, 2, 16) @ projection.weight + network.bias["n"], want, atol=1e-12)


def test_delays_and_latencies_are_read_per_projection() -> None:
    ops = {"in": Input(shape=(3,)), "n": cuba(3), "d": Delay(delay=np.array([0, DT, 2 * DT])), "w": linear(RNG, 3, 3)}
    ops |= {"o": cuba(3), "out": Output()}
    network = read_network(wired(ops, "in > n > d > w > o > out", "n > o"), READING)
    found = {p.delay: p.weight for p in network.into("o")}
    assert set(found) == {0, 1, 2}
    weight = np.asarray(ops["w"].weight).T  # type: ignore[union-attr]
    np.testing.assert_allclose(found[0], np.diag([1, 1, 1]) + weight * np.array([[1], [0], [0]]))
    np.testing.assert_allclose(found[2], weight * np.array([[0], [0], [1]]))
    late = read_network(
        wired(ops, "in > n > d > w > o > out", semantics=SOFT.with_(latency_neuron=1, latency_input=2)), READING
    )
    assert {p.delay for p in late.into("o")} == {1, 2, 3}
    assert {p.delay for p in late.into("n")} == {2}


# -- places ------------------------------------------------------------------------------------------------------------


def test_expansion_neurons_are_first_and_last() -> None:
    graph = wired(
        {
            "in": Input(shape=(4,)),
            "w1": linear(RNG, 30, 4),
            "first": cuba(30),
            "w2": linear(RNG, 20, 30),
            "middle": cuba(20),
            "w3": linear(RNG, 10, 20),
            "last": cuba(10),
            "w4": linear(RNG, 3, 10),
            "o": cuba(3),
            "out": Output(),
        },
        "in > w1 > first > w2 > middle > w3 > last > w4 > o > out",
    )
    shuffled = Graph(dict(reversed(graph.ops.items())), graph.edges, graph.semantics)
    for made in (graph, shuffled):
        found = plan(made, AUDIO3)
        assert [(b.name, b.first) for b in found.blocks] == [("first", 0), ("middle", 30), ("last", 50)]
        assert (found.input_expansion, found.output_expansion, found.n_out) == (30, 10, 3)


def test_a_layer_that_reads_inputs_and_feeds_outputs_is_within_reach_of_both() -> None:
    ops = {"in": Input(shape=(4,)), "w1": linear(RNG, 60, 4), "both": cuba(60), "w2": linear(RNG, 60, 60)}
    ops |= {"side": cuba(60), "back": linear(RNG, 60, 60), "d": Delay(delay=np.full(60, DT))}
    ops |= {"w3": linear(RNG, 2, 60), "o": cuba(2), "out": Output()}
    found = plan(wired(ops, "in > w1 > both > w3 > o > out", "both > w2 > side > d > back > both"), AUDIO3)
    assert not found.faults
    assert found.input_expansion <= 128
    assert found.output_expansion <= 128


def test_fan_out_counts_what_relays_and_resets_need() -> None:
    found = plan(layers(RNG, [4, 10, 6, 2], lif), AUDIO2)
    block = found.block_of["n1"]
    assert block.kind == "direct"
    assert (found.fan_out()[block.ids] == 6 + 1).all()  # the next layer, and the neuron itself


# -- time: gates whose spikes are exact whatever the rounding ----------------------------------------------------------


def gate(n: int) -> LIF:
    """Neurons that forget within a few steps and spike whenever one spike of weight 1.2 arrives."""
    return lif(n, tau=2 * DT)


def connect(rng: np.random.Generator, n_out: int, n_in: int) -> Linear:
    """Each target reads one source."""
    weight = np.zeros((n_out, n_in))
    weight[np.arange(n_out), rng.integers(0, n_in, n_out)] = 1.2
    return Linear(weight=weight)


def exact(graph: Graph, x: Array, chip: str = "audio3") -> dict[str, int]:
    """Asserts that every spike of every population and output is where the lags say; gives the lags."""
    backend = XYLO_AUDIO2 if chip == "audio2" else XYLO_AUDIO3
    assert backend.target.check(graph) == []
    artifact = backend.build(graph, {})
    names = tuple(n for n, op in graph.ops.items() if isinstance(op, LIF))
    want_out, want = interpret(graph, x, record=names)
    got_out, got = artifact.run({graph.inputs[0]: x}, names)
    outputs = {graph.outputs[0]: want_out} if not isinstance(want_out, dict) else want_out
    for name, values in {**want, **outputs}.items():
        lag = artifact.lags[name]
        found = {**got, **got_out}[name]
        assert values.sum() > 0, name
        np.testing.assert_array_equal(found[lag:], values[: len(values) - lag], err_msg=name)
        assert not found[:lag].any()
    return dict(artifact.lags)


def test_chains_are_late_by_their_depth() -> None:
    rng = np.random.default_rng(3)
    ops = [("in", Input(shape=(4,)))]
    for at in range(4):
        ops += [(f"w{at}", connect(rng, 4, 4)), (f"n{at}", gate(4))]
    lags = exact(chain(*ops, ("out", Output()), semantics=SOFT), spikes((60, 2, 4), 0.05))
    # One step to start neurons without a synaptic current, one per connection, one to repeat them as outputs.
    assert lags == {"n0": 1, "n1": 2, "n2": 3, "n3": 4, "out": 5}


@pytest.mark.parametrize("chip", ["audio2", "audio3"])
def test_skip_paths_of_any_length_meet_in_step(chip: str) -> None:
    rng = np.random.default_rng(4)
    ops = {"in": Input(shape=(4,)), "a": gate(4), "b": gate(4), "c": gate(4), "d": gate(4), "out": Output()}
    ops |= {f"w{i}": connect(rng, 4, 4) for i in range(6)}
    graph = wired(ops, "in > w0 > a > w1 > b > w2 > c > w3 > d > out", "a > w4 > d", "in > w5 > c")
    lags = exact(graph, spikes((80, 3, 4), 0.02, seed=5), chip)
    assert lags["out"] == 5
    kinds = [b.kind for b in plan(graph, AUDIO3).blocks]
    assert kinds.count("relay") >= 4


def test_delays_are_kept_to_the_step() -> None:
    rng = np.random.default_rng(6)
    ops = {"in": Input(shape=(4,)), "a": gate(4), "b": gate(4), "out": Output()}
    ops |= {"w0": connect(rng, 4, 4), "w1": connect(rng, 4, 4), "d": Delay(delay=np.array([0, 1, 2, 5]) * DT)}
    graph = wired(ops, "in > w0 > a > d > w1 > b > out")
    exact(graph, spikes((80, 3, 4), 0.03, seed=7))


def test_loops_keep_their_time() -> None:
    straight, ring = (Linear(weight=np.roll(np.eye(4), n, axis=0) * 1.2) for n in (0, 1))
    ops = {"in": Input(shape=(4,)), "w0": straight, "a": gate(4), "ring": ring}
    graph = wired({**ops, "out": Output()}, "in > w0 > a > out", "a > ring > a")
    x = np.zeros((40, 1, 4))
    x[0, 0, 0] = 1
    exact(graph, x)
    long = {**ops, "b": gate(4), "w1": straight, "d": Delay(delay=np.full(4, 3 * DT))}
    exact(wired({**long, "out": Output()}, "in > w0 > a > w1 > b > out", "b > d > ring > a"), x)


@pytest.mark.parametrize("field", ["latency_input", "latency_neuron"])
def test_latencies_of_the_source_are_kept(field: str) -> None:
    rng = np.random.default_rng(10)
    ops = [("in", Input(shape=(4,))), ("w0", connect(rng, 4, 4)), ("a", gate(4)), ("w1", connect(rng, 4, 4))]
    graph = chain(*ops, ("b", gate(4)), ("out", Output()), semantics=SOFT.with_(**{field: 2}))
    exact(graph, spikes((60, 2, 4), 0.05))


@pytest.mark.parametrize("seed", range(12))
def test_random_nets_of_gates_keep_every_spike_in_step(seed: int) -> None:
    rng = np.random.default_rng([seed, 11])
    count = int(rng.integers(2, 6))
    ops: dict = {"in": Input(shape=(4,))}
    paths: list[str] = []
    for at in range(count):
        ops[f"n{at}"] = gate(4)
        sources = ["in", *(f"n{i}" for i in range(at))]
        for source in {sources[-1], str(rng.choice(sources))}:
            name = f"{source}_n{at}"
            ops[f"w_{name}"] = connect(rng, 4, 4)
            held = int(rng.integers(0, 3))
            if held:
                ops[f"d_{name}"] = Delay(delay=np.full(4, held * DT))
            paths.append(f"{source} > " + (f"d_{name} > " if held else "") + f"w_{name} > n{at}")
    ops["out"] = Output()
    exact(wired(ops, *paths, f"n{count - 1} > out"), spikes((80, 2, 4), 0.01 + 0.02 / count, seed))


# -- outputs -----------------------------------------------------------------------------------------------------------


def test_outputs_may_be_parts_sums_of_parts_and_several() -> None:
    rng = np.random.default_rng(12)
    ops = {"in": Input(shape=(4,)), "w0": connect(rng, 6, 4), "a": gate(6), "w1": connect(rng, 4, 6), "b": gate(4)}
    ops |= {"head": Slice(axis=0, start=1, stop=3, step=1), "one": Output(), "two": Output()}
    exact(wired(ops, "in > w0 > a > w1 > b > head > one", "a > two"), spikes((60, 2, 4), 0.1))


def test_a_single_layer_needs_no_second_one() -> None:
    graph = layers(RNG, [4, 6])
    artifact = XYLO_AUDIO3.build(graph, {})
    assert artifact.plan.relayed
    assert artifact.latency == 1
    x = spikes((200, 4, 4), 0.3)
    outputs, recorded = artifact.run({"in": x}, ("n1",))
    np.testing.assert_array_equal(outputs["out"][1:], np.minimum(recorded["n1"][:-1], 1))


def test_outputs_without_hidden_neurons_are_silent() -> None:
    """Nothing arrives, so nothing is hidden: the chip's outputs stand alone."""
    nothing = Linear(weight=np.zeros((2, 3)))
    graph = chain(("in", Input(shape=(3,))), ("w", nothing), ("n", cuba(2)), ("out", Output()), semantics=SOFT)
    artifact = XYLO_AUDIO3.build(graph, {})
    assert artifact.plan.n_hidden == 0
    x = spikes((20, 2, 3), 0.5)
    assert not artifact.run({"in": x})[0]["out"].any()
    assert not XyloOracle(artifact.spec).run(as_events(artifact.plan, {"in": x})).spikes.any()


def test_ops_may_be_called_like_helpers() -> None:
    """Drivers, starters and relays have names of their own, whatever the network's ops are called."""

    def network(names: dict[str, str]) -> Graph:
        rng = np.random.default_rng(0)
        ops = {"in": Input(shape=(4,)), "wa": affine(rng, 6, 4, 2.0), "a": lif(6), "wb": affine(rng, 5, 6), "b": lif(5)}
        ops |= {"wc": linear(rng, 4, 5), "c": lif(4), "skip": linear(rng, 4, 6), "out": Output()}
        graph = wired(ops, "in > wa > a > wb > b > wc > c > out", "a > skip > c")
        edges = tuple(Edge(names.get(e.source, e.source), names.get(e.target, e.target)) for e in graph.edges)
        return Graph({names.get(n, n): op for n, op in ops.items()}, edges, graph.semantics)

    plain, odd = network({}), network({"a": "driver", "b": "starter", "c": "driver~1", "in": "driver~2"})
    x = spikes((60, 3, 4), 0.2)
    kinds = [{b.kind for b in plan(graph, AUDIO3).blocks} for graph in (plain, odd)]
    assert kinds[0] == kinds[1] == {"direct", "driver", "starter", "relay"}
    want = compile(plain, "xylo-audio3").artifact.run({"in": x})[0]["out"]
    got = compile(odd, "xylo-audio3").artifact.run({"driver~2": x})[0]["out"]
    assert want.sum() > 50
    np.testing.assert_array_equal(got, want)


def test_an_input_may_be_a_single_number() -> None:
    forgetful = LIF(tau=np.array(2 * DT), r=np.array(2.4), v_threshold=np.array(1.0))
    graph = chain(("in", Input(shape=())), ("n", forgetful), ("out", Output()), semantics=SOFT)
    artifact = compile(graph, "xylo-audio3").artifact
    x = spikes((30, 2), 0.3)
    want = interpret(graph, x)
    got = artifact.run({"in": x}, ())[0]["out"]
    np.testing.assert_array_equal(got[artifact.latency :], want[: -artifact.latency])
    assert want.sum() > 5


def test_several_inputs_take_channels_in_order() -> None:
    ops = {"x": Input(shape=(2,)), "y": Input(shape=(3,)), "wx": connect(RNG, 4, 2), "wy": connect(RNG, 4, 3)}
    ops |= {"n": gate(4), "out": Output()}
    graph = wired(ops, "x > wx > n > out", "y > wy > n")
    found = plan(graph, AUDIO3)
    assert dict(found.channels) == {"x": 0, "y": 2}
    inputs = {"x": spikes((50, 2, 2), 0.05, 1), "y": spikes((50, 2, 3), 0.05, 2)}
    artifact = XYLO_AUDIO3.build(graph, {})
    want = interpret(graph, inputs)
    got = artifact.run(inputs, ())[0]["out"]
    np.testing.assert_array_equal(got[artifact.latency :], want[: -artifact.latency])


def test_biases_that_eight_bits_cannot_hold_get_a_driver() -> None:
    rng = np.random.default_rng(13)
    graph = chain(
        ("in", Input(shape=(4,))),
        ("w1", affine(rng, 70, 4)),
        ("a", cuba(70)),
        ("w2", affine(rng, 3, 70)),
        ("b", cuba(3)),
        ("out", Output()),
        semantics=SOFT,
    )
    drivers = [b for b in plan(graph, AUDIO2).blocks if b.kind == "driver"]
    assert [b.size for b in drivers] == [2]  # 70 targets, at most 64 each
    assert (plan(graph, AUDIO2).fan_out() <= 64).all()


def test_helpers_do_without_room_that_the_network_needs() -> None:
    """128 neurons may feed the outputs, so there is no room for a driver of the outputs' biases among them."""
    rng = np.random.default_rng(14)
    graph = chain(
        ("in", Input(shape=(4,))),
        ("w1", affine(rng, 50, 4)),
        ("a", cuba(50)),
        ("w2", affine(rng, 128, 50)),
        ("b", cuba(128)),
        ("w3", affine(rng, 3, 128)),
        ("c", cuba(3)),
        ("out", Output()),
        semantics=SOFT,
    )
    assert XYLO_AUDIO3.target.check(graph) == []
    full, roomy = plan(graph, AUDIO3), plan(graph, replace(AUDIO3, name="larger", output_expansion=140))
    assert full.output_expansion == 128
    assert {wire.target for wire in full.biases} == {"a", "b"}
    assert {wire.target for wire in roomy.biases} == {"a", "b", "c"}
    notes = XYLO_AUDIO3.build(graph, {}).report["notes"]
    assert any(note.startswith("c: no room for a driver") for note in notes)


def test_a_layer_that_fills_both_reaches_does_without_any_driver() -> None:
    rng = np.random.default_rng(16)
    ops = [("in", Input(shape=(4,))), ("w1", affine(rng, 128, 4)), ("a", cuba(128)), ("w2", affine(rng, 3, 128))]
    graph = chain(*ops, ("b", cuba(3)), ("out", Output()), semantics=SOFT)
    assert XYLO_AUDIO3.target.check(graph) == []
    assert not plan(graph, AUDIO3).biases
    x = spikes((100, 8, 4), 0.3, 1)
    artifact = XYLO_AUDIO3.build(graph, {"calibrate": {"in": spikes((100, 8, 4), 0.3)}})
    want = interpret(graph, x, record=["a"])[1]["a"]
    assert count_error(artifact.run({"in": x}, ("a",))[1]["a"], want) < 0.1


def test_a_chip_full_of_lif_neurons_does_without_helpers() -> None:
    rng = np.random.default_rng(15)
    graph = layers(rng, [8, 64, 64, 64, 8], lif)
    weight = np.zeros((296, 64))
    weight[:, 0] = 1.0
    ops = {**graph.ops, "more": Linear(weight=weight), "n5": lif(296)}
    full = Graph(ops, (*graph.edges, Edge("n1", "more"), Edge("more", "n5")), graph.semantics)
    found = plan(full, XYLO_IMU.chip)
    assert found.n_hidden == 496 == 3 * 64 + 8 + 296
    assert not found.starts
    assert XYLO_IMU.target.check(full) == []
