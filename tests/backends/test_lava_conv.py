"""Convolutional networks for Loihi: Lava's Conv against matrices, against floats, and in Lava itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from snnir.backends.lava import host
from snnir.backends.lava.environment import find
from snnir.backends.lava.planner import plan
from snnir.errors import CompileError
from snnir.graph import Edge, Graph, chain
from snnir.interpreter import interpret
from snnir.ops import LIF, AvgPool2d, Concat, Conv1d, Conv2d, Delay, Flatten, Input, Op, Output, Upsample2d
from snnir.simulators.loihi import CURRENT_LIMIT, Convolution, largest_currents
from tests.backends.test_lava_layout import HARD, compare
from tests.backends.xylo_nets import DT, Array, lif, linear, spikes, wired
from tests.lava_oracle import case_of, run_lava

POOL = AvgPool2d(kernel_size=(2, 2), stride=(2, 2))


def channels(taus: Array | float, n: int) -> LIF:
    """n channels of LIF neurons, time constants in steps; a weight of 1 reaches the threshold."""
    tau = np.broadcast_to(np.asarray(taus, float), n).reshape(n, 1, 1)
    return LIF(tau=tau * DT, r=tau, v_threshold=np.ones((n, 1, 1)))


def conv(
    rng: np.random.Generator,
    out: int,
    into: int,
    kernel: Any = (3, 3),
    groups: int = 1,
    mean: float = 0.05,
    **more: Any,
) -> Conv2d:
    """A convolution whose neurons fire now and then."""
    shape = (out, into // groups, *kernel)
    weight = rng.normal(mean, 1.5 / np.sqrt(np.prod(shape[1:])), shape)
    return Conv2d(weight=weight, bias=rng.normal(0.02, 0.05, out), groups=groups, **more)


def net(seed: int) -> Graph:
    """Strides, paddings, dilations, groups, a pool, ways of different length into one population, upsampling, dense.

    in -> a -> (pool) b -> d -> dense; a -> skip -> d, two steps early; b -> upsampled -> e.
    """
    rng = np.random.default_rng(seed)
    height, width = (int(n) * 2 for n in rng.choice([3, 4, 5, 6], 2, replace=False))
    one, two, groups = int(rng.integers(1, 3)), 2 * int(rng.integers(1, 3)), int(rng.integers(1, 3))
    dilation = tuple(rng.integers(1, 3, 2).tolist())
    stride = tuple(rng.integers(1, 3, 2).tolist())
    ops: dict[str, Op] = {"in": Input(shape=(one, height, width))}
    ops |= {"c1": conv(rng, two, one, padding=dilation, dilation=dilation, mean=0.2), "a": channels(9, two)}
    ops |= {"p": POOL, "c2": conv(rng, 4, two, padding=(1, 1), groups=groups), "b": channels(6, 4)}
    ops |= {"c3": conv(rng, 4, 4, (3, 2), padding=(1, 1), stride=stride, groups=2), "mid": channels(20, 4)}
    shape = Graph(ops, tuple(Edge(x, y) for x, y in zip(list(ops)[:-1], list(ops)[1:], strict=True)), HARD).shapes[
        "mid"
    ]
    kernel = [n - (m - 1) * s for n, m, s in zip((height, width), shape[1:], stride, strict=True)]
    ops |= {
        "c4": conv(rng, 4, 4, (1, 1)),
        "skip": conv(rng, 4, two, kernel, stride=stride, mean=0.0),
        "d": channels(9, 4),
    }
    ops |= {"f": Flatten(), "w": linear(rng, 5, int(np.prod(shape)), 0.05), "n": lif(5), "out": Output()}
    ops |= {"up": Upsample2d(), "c5": conv(rng, 2, 4, padding=(1, 1)), "e": channels(12, 2), "fine": Output()}
    ways = ["in > c1 > a > p > c2 > b > c3 > mid > c4 > d > f > w > n > out", "a > skip > d", "b > up > c5 > e > fine"]
    return wired(ops, *ways, semantics=HARD)


def wide() -> Graph:
    """10,816 neurons in a layer, and as many behind it."""
    rng = np.random.default_rng(1)
    ops = [("in", Input(shape=(1, 52, 104))), ("c1", conv(rng, 2, 1, padding=(1, 1), mean=0.3)), ("a", channels(8, 2))]
    ops += [("c2", conv(rng, 4, 2, padding=(1, 1), mean=0.1)), ("p", POOL), ("b", channels(8, 4)), ("f", Flatten())]
    ops += [("w", linear(rng, 3, 5408, 0.0, 0.03)), ("n", lif(3)), ("out", Output())]
    return chain(*ops, semantics=HARD)


@pytest.mark.parametrize("seed", range(6))
def test_convolutions_are_the_matrices_bit_for_bit(seed: int) -> None:
    """From spikes both have the same integers at the same scale; so every neuron spikes alike, whatever is between."""
    graph = net(seed)
    x = spikes((30, 2, *graph.shapes["in"]), 0.3, seed)
    names = ["a", "b", "mid", "d", "e", "n"]
    runs = {}
    for mode in ("matrix", "conv"):
        result = snnir.compile(graph, "lava", calibrate=x, conv=mode, threshold=3000)
        assert result.report["used"]["convolutions"] == (
            0 if mode == "matrix" else result.report["used"]["convolutions"]
        )
        runs[mode] = (result, *result.run(x, record=names))
    matrix, conv_ = runs["matrix"], runs["conv"]
    assert conv_[0].report["used"]["convolutions"] >= 14  # two per projection, one per relay
    for name in names:
        assert conv_[2][name].sum() > 0, name
        np.testing.assert_array_equal(conv_[2][name], matrix[2][name], err_msg=name)
    for name in ("out", "fine"):
        np.testing.assert_array_equal(conv_[1][name], matrix[1][name])
    assert {c.name for c in conv_[0].artifact.plan.cells if c.relay} == {"a~1", "a~2"}
    assert conv_[0].artifact.lags == matrix[0].artifact.lags


@pytest.mark.parametrize("seed", range(4))
def test_in_floats_the_layout_is_the_network(seed: int) -> None:
    graph = net(10 + seed)
    assert compare(graph, {"in": spikes((25, 2, *graph.shapes["in"]), 0.3, seed)}, "conv") > 500
    kinds = {(w.source, w.target): w.geometry for w in plan(graph, "conv").wires}
    assert [end for end, geometry in kinds.items() if geometry is None] == [("d", "n")]
    assert kinds["b", "e"] is not None
    assert kinds["b", "e"].phases == (2, 2)
    assert kinds["a", "b"].stride == (2, 2)  # type: ignore[union-attr]


def test_channels_may_have_time_constants_of_their_own() -> None:
    """Cells of whole channels: convolutions between parts. Parts of channels: matrices, and why."""
    rng = np.random.default_rng(2)
    mixed = channels(np.array([5.0, 20.0, 5.0, 40.0]), 4)
    ops = [("in", Input(shape=(2, 6, 7))), ("c1", conv(rng, 4, 2, padding=(1, 1), mean=0.2)), ("a", mixed)]
    ops += [("c2", conv(rng, 4, 4, padding=(1, 1), groups=2)), ("b", mixed), ("out", Output())]
    graph = chain(*ops, semantics=HARD)
    x = spikes((40, 2, 2, 6, 7), 0.3)
    assert compare(graph, {"in": x}, "conv") > 1000
    got, wanted = (snnir.compile(graph, "lava", calibrate=x, threshold=2000, conv=mode) for mode in ("conv", "matrix"))
    assert {p["as"] for p in got.report["projections"]} == {"Conv"}
    assert len(got.report["projections"]) == 3 + 7  # channels 0 and 2 are one part; groups do not mix
    np.testing.assert_array_equal(got.run(x), wanted.run(x))
    own = LIF(tau=9 * DT * np.ones(()), r=9 * np.ones(()), v_threshold=rng.uniform(0.5, 1.5, (4, 6, 7)))
    pixels = Graph({**graph.ops, "b": own}, graph.edges, HARD)
    assert compare(pixels, {"in": x}, "conv") > 1000
    (p,) = [p for p in snnir.compile(pixels, "lava", conv="conv").report["projections"] if p["to"] == "b"][-1:]
    assert (p["as"], p["why"]) == (
        "matrix",
        "neurons of one channel of its target differ in their thresholds, gains or time constants",
    )


def test_a_row_is_an_image() -> None:
    rng = np.random.default_rng(3)
    one = np.ones((3, 1))
    row = Conv1d(weight=rng.normal(0.2, 0.6, (3, 2, 4)), bias=np.full(3, 0.03), stride=2, padding=1, dilation=2)
    ops = {
        "in": Input(shape=(2, 19)),
        "c": row,
        "n": LIF(tau=7 * DT * one, r=7 * one, v_threshold=one),
        "out": Output(),
    }
    graph = wired(ops, "in > c > n > out", semantics=HARD)
    x = spikes((40, 3, 2, 19), 0.4)
    got = snnir.compile(graph, "lava", calibrate=x, conv="conv", threshold=1000)
    assert [type(c) for c in got.artifact.spec.connections] == [Convolution, Convolution]
    np.testing.assert_array_equal(got.run(x), snnir.compile(graph, "lava", calibrate=x, threshold=1000).run(x))
    assert got.run(x).sum() > 200


def test_channels_side_by_side_are_two_convolutions() -> None:
    """Two populations of different depth, joined: each has its own convolution, and the earlier one waits."""
    rng = np.random.default_rng(4)
    ops = {"in": Input(shape=(1, 5, 8)), "c1": conv(rng, 2, 1, padding=(1, 1), mean=0.3), "a": channels(5, 2)}
    ops |= {"c2": conv(rng, 3, 2, padding=(1, 1)), "b": channels(9, 3), "both": Concat(inputs=2)}
    ops |= {"c3": conv(rng, 4, 5, padding=(1, 1)), "n": channels(9, 4), "out": Output()}
    graph = wired(ops, "in > c1 > a > c2 > b", "both > c3 > n > out", semantics=HARD)
    graph = Graph(ops, (*graph.edges, Edge("a", "both", "in0"), Edge("b", "both", "in1")), HARD)
    assert compare(graph, {"in": spikes((40, 2, 1, 5, 8), 0.4)}, "conv") > 1000
    assert {(w.source, w.target) for w in plan(graph, "conv").wires} >= {("a~1", "n"), ("b", "n"), ("a", "a~1")}


def test_recurrence_and_delays_through_convolutions() -> None:
    rng = np.random.default_rng(5)
    ops = {"in": Input(shape=(2, 5, 6)), "c1": conv(rng, 3, 2, padding=(1, 1), mean=0.2), "a": channels(8, 3)}
    ops |= {"back": conv(rng, 3, 3, padding=(1, 1), mean=-0.05), "d": Delay(delay=np.full((), 3 * DT)), "out": Output()}
    graph = wired(ops, "in > c1 > a > out", "a > d > back > a", semantics=HARD)
    assert compare(graph, {"in": spikes((50, 2, 2, 5, 6), 0.3)}, "conv") > 500
    names = [w.source for w in plan(graph, "conv").wires if w.target == "a"]
    assert sorted(names) == ["#driver", "a~3", "in"]  # the loop's own step, and three


# -- large layers ------------------------------------------------------------------------------------------------------


def test_a_layer_of_more_than_ten_thousand_neurons() -> None:
    """Compiled, run, and near the float network: 0.015 % of its spikes when this was written."""
    graph = wide()
    x = spikes((30, 2, 1, 52, 104), 0.2)
    result = snnir.compile(graph, "lava", calibrate=x)
    assert [p.size for p in result.artifact.spec.populations] == [10816, 5408, 3]
    assert [p["as"] for p in result.report["projections"]] == ["Conv", "Conv", "matrix"]
    _, recorded = interpret(graph, x, record=["a", "b"])
    got, spiked = result.run(np.concatenate([x, np.zeros((2, *x.shape[1:]))]), record=["a", "b"])
    assert recorded["b"].sum() > 10_000
    measured = result.report["measured"]
    assert measured["count_error_by_population"]["a"] < 0.0005
    assert measured["count_error"] < 0.001
    assert got.shape == (32, 2, 3)
    lag = result.artifact.lags["b"]
    assert np.abs(spiked["b"][lag : 30 + lag].sum() / recorded["b"].sum() - 1) < 0.01


def test_what_does_not_fit_is_refused_projection_by_projection() -> None:
    rng = np.random.default_rng(6)
    ops = {"in": Input(shape=(1, 70, 80)), "c1": conv(rng, 1, 1, padding=(1, 1)), "c2": conv(rng, 1, 1, padding=(1, 1))}
    ops |= {"n": channels(5, 1), "out": Output()}
    graph = wired(ops, "in > c1 > c2 > n > out", semantics=HARD)
    with pytest.raises(CompileError) as caught:
        snnir.compile(graph, "lava")
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("lava-size", "n")
    assert "from in it is reached by a matrix of 31360000 weights, since of c2 (Conv2d), one is padded" in fault.what
    with pytest.raises(CompileError, match=r"lava-size\] a: from in it is reached by a matrix of 58492928 weights"):
        snnir.compile(wide(), "lava", conv="matrix")


def test_what_lavas_conv_cannot_hold_is_a_matrix_or_refused() -> None:
    rng = np.random.default_rng(9)
    wide_kernel = Conv1d(weight=rng.normal(0.1, 0.2, (1, 1, 130)), bias=np.zeros(1))
    row = LIF(tau=9 * DT * np.ones(()), r=9 * np.ones(()), v_threshold=np.ones(()))
    ops: dict[str, Op] = {"in": Input(shape=(1, 200)), "c": wide_kernel, "n": row, "out": Output()}
    graph = wired(ops, "in > c > n > out", semantics=HARD)
    assert [w.why for w in plan(graph, "conv").wires] == ["its kernel is 130 wide, and Lava's Conv takes 127 at most"]
    ops = {"in": Input(shape=(1, 4, 5)), "c": conv(rng, 1, 1, padding=(1, 1), mean=0.4), "a": channels(5, 1)}
    ops |= {"far": Delay(delay=np.full((), 70 * DT)), "c2": conv(rng, 1, 1), "n": channels(5, 1), "out": Output()}
    ops |= {"near": conv(rng, 1, 1)}
    graph = wired(ops, "in > c > a > far > c2 > n > out", "a > near > n", semantics=HARD)
    assert {w.why for w in plan(graph, "conv").wires if w.delay > 1 and w.source == "a"} == {
        "it would take 70 relays, one per step of delay"
    }
    own = LIF(tau=9 * DT * np.ones(()), r=9 * np.ones(()), v_threshold=rng.uniform(0.5, 1.5, (1, 70, 80)))
    ops = {"in": Input(shape=(1, 70, 80)), "c": conv(rng, 1, 1, padding=(1, 1)), "n": own, "out": Output()}
    with pytest.raises(
        CompileError, match=r"lava-size\] n: .*neurons of one channel of its target differ in their thresh"
    ):
        snnir.compile(wired(ops, "in > c > n > out", semantics=HARD), "lava")


def test_calls_may_follow_one_another_through_relays() -> None:
    graph = net(30)
    x = spikes((16, 2, *graph.shapes["in"]), 0.5)
    result = snnir.compile(graph, "lava", conv="conv", period=8)
    assert any(cell.relay for cell in result.artifact.plan.cells)
    nothing = np.zeros((result.latency, *x.shape[1:]))
    both, first, second = (result.run(np.concatenate([part, nothing])) for part in (x, x[:8], x[8:]))
    for name, lag in (("out", result.artifact.lags["out"]), ("fine", result.artifact.lags["fine"])):
        alone = np.concatenate([first[name][lag : 8 + lag], second[name][lag : 8 + lag]])
        np.testing.assert_array_equal(both[name][lag : 16 + lag], alone)
        assert alone[8:].sum() > 0


def test_numbers_cannot_wait() -> None:
    """Relays hand on spikes; numbers that have to wait in front of a convolution go through a matrix, or not at all."""
    rng = np.random.default_rng(7)
    ops = {"in": Input(shape=(1, 60, 72)), "c1": conv(rng, 1, 1, padding=(1, 1)), "a": channels(5, 1)}
    ops |= {"c2": conv(rng, 1, 1, padding=(1, 1)), "c3": conv(rng, 1, 1, padding=(1, 1)), "n": channels(5, 1)}
    graph = wired(ops | {"out": Output()}, "in > c1 > a > c2 > n > out", "in > c3 > n", semantics=HARD)
    x = spikes((5, 1, 1, 60, 72), 0.2)
    result = snnir.compile(graph, "lava", calibrate=x)
    assert {c.name for c in result.artifact.plan.cells} == {"a", "n", "in~1"}
    with pytest.raises(CompileError, match="numbers of in would have to wait in front of a convolution"):
        snnir.compile(graph, "lava", calibrate=0.5 * x)


def test_numbers_go_in_as_two() -> None:
    """Weights of Lava's Conv have no exponents: integers of 10 bits go in as high and low, and little is lost."""
    rng = np.random.default_rng(8)
    ops = [("in", Input(shape=(3, 8, 11))), ("c", conv(rng, 6, 3, padding=(1, 1), mean=0.0)), ("n", channels(10, 6))]
    graph = chain(*ops, ("out", Output()), semantics=HARD)
    x = np.repeat(rng.normal(0, 1, (1, 4, 3, 8, 11)), 60, axis=0)
    result = snnir.compile(graph, "lava", calibrate=x, conv="conv")
    (code,) = result.report["inputs"]
    assert (code["peak"], code["base"]) == (511, 32)
    assert dict(result.artifact.spec.inputs) == {"in": 264, "in#low": 264}
    assert result.report["measured"]["count_error"] < 0.015
    assert any("in two parts, 32 * high + low" in note for note in result.report["notes"])
    (high, low) = (c for c in result.artifact.spec.connections if isinstance(c, Convolution))
    assert (high.source, low.source) == ("in", "in#low")
    assert np.abs(high.weights / 32 - low.weights).max() < 1.1
    whole = host.encode([code], {"in": x})
    np.testing.assert_array_equal(32 * whole["in"] + whole["in#low"], np.rint(x * code["scale"]).reshape(60, 4, -1))
    assert np.abs(whole["in"]).max() <= 16
    assert set(np.unique(whole["in#low"])) <= set(range(-16, 16))
    run = result.artifact.simulate({"in": np.sign(rng.normal(size=x.shape)) * 1e9}, record=True)
    bound = largest_currents(result.artifact.spec, {"in": 16, "in#low": 16})["n"]
    assert 0.4 * bound < np.abs(run.u["n"]).max() <= bound < CURRENT_LIMIT  # type: ignore[index]


# -- files, and Lava itself --------------------------------------------------------------------------------------------


def printed(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_the_folder_runs_alone(tmp_path: Path) -> None:
    graph = net(0)
    result = snnir.compile(graph, "lava", calibrate=spikes((20, 2, *graph.shapes["in"]), 0.3), conv="conv")
    result.save(tmp_path / "out")
    lines = printed([sys.executable, "-I", str(tmp_path / "out" / "simulate.py")], tmp_path)
    run = result.artifact.simulate(dict(result.artifact.shown))
    for name in ("a", "b", "mid", "d", "e", "n"):
        assert any(line.startswith(f"{name}[0]: {int(run.spikes[name].sum())} spikes, crc32 ") for line in lines), name
    assert not any("~" in line for line in lines)


@pytest.mark.skipif(find() is None, reason="no Lava here (make lava): convolutions are not run in it")
def test_lava_itself_as_an_oracle(tmp_path: Path) -> None:
    """Every spike, u and v of random networks in Lava 0.10, and the lines of `run.py` of a large one."""
    python = find()
    assert python is not None
    results, cases = [], []
    for seed in range(3):
        graph = net(20 + seed)
        x = spikes((12, 1, *graph.shapes["in"]), 0.4, seed)
        x = x * np.random.default_rng(seed).normal(0.0, 1.5, x.shape) if seed == 2 else x
        artifact = snnir.compile(graph, "lava", calibrate=x, conv="conv").artifact
        run = artifact.simulate({"in": x}, record=True)
        results.append(run)
        encoded = host.encode([code.to_json() for code in artifact.codes.values()], {"in": x})
        cases.append(case_of(artifact.spec, {name: values[:, 0] for name, values in encoded.items()}))
        assert any(isinstance(c, Convolution) and c.phases == (2, 2) for c in artifact.spec.connections)
    traces, _ = run_lava(python, cases)
    for run, trace in zip(results, traces, strict=True):
        assert sum(int(s.sum()) for s in run.spikes.values()) > 100
        for name, values in run.spikes.items():
            np.testing.assert_array_equal(trace[f"spikes.{name}"], values[:, 0], err_msg=name)
            np.testing.assert_array_equal(trace[f"u.{name}"], run.u[name][:, 0], err_msg=name)  # type: ignore[index]
            np.testing.assert_array_equal(trace[f"v.{name}"], run.v[name][:, 0], err_msg=name)  # type: ignore[index]
    snnir.compile(wide(), "lava", calibrate=spikes((6, 1, 1, 52, 104), 0.2)).save(tmp_path / "wide")
    simulated = printed([sys.executable, str(tmp_path / "wide" / "simulate.py")], tmp_path)
    assert printed([str(python), str(tmp_path / "wide" / "run.py")], tmp_path) == simulated
    assert int(simulated[0].split()[1]) > 10_000  # spikes of the large layer
