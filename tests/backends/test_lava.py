"""The lava target: integers against the source network, files that run alone, Lava itself, rules, inputs, readouts."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from snnir.backends.lava import LAVA
from snnir.backends.lava.chip import MAX_BIAS, STATE_LIMIT
from snnir.backends.lava.environment import find
from snnir.compiler import compile
from snnir.contents import npz
from snnir.errors import CompileError, UsageError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.ops import LI, LIF, Conv2d, CubaLI, Delay, Input, LayerNorm, Linear, Output, Threshold
from snnir.semantics import Semantics
from snnir.simulators.loihi import LoihiSpec, effective_weights, largest_currents, simulate
from tests.backends.test_lava_layout import HARD, everything
from tests.backends.xylo_nets import DT, affine, count_error, cuba, integrate, layers, lif, linear, spikes, wired


def balanced(rng: np.random.Generator, kind: Any, tau: float, sizes: tuple[int, ...] = (20, 50, 30)) -> Graph:
    """A dense net whose neurons fire now and then: weights go with the root of the fan-in."""
    graph = layers(rng, sizes, lambda n: kind(n, tau * DT), HARD)
    gain = 4.0 if tau < 50 else 1.3
    return Graph(
        {
            n: Linear(weight=op.weight * (gain / np.sqrt(op.weight.shape[1]))) if isinstance(op, Linear) else op
            for n, op in graph.ops.items()
        },
        graph.edges,
        HARD,
    )


# -- the integers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [cuba, lif])
@pytest.mark.parametrize("tau", [5, 20, 100])
def test_spike_counts_are_within_a_percent(kind: Any, tau: float) -> None:
    graph = balanced(np.random.default_rng(0), kind, tau)
    x = spikes((300, 6, 20), 0.2)
    result = snnir.compile(graph, "lava", calibrate=x)
    _, recorded = interpret(graph, x, record=["n1", "n2"])
    got, spiked = result.run(np.concatenate([x, np.zeros((2, 6, 20))]), record=["n1", "n2"])
    assert recorded["n1"].sum() > 2000
    for name in ("n1", "n2"):
        lag = result.artifact.lags[name]
        assert count_error(spiked[name][lag : 300 + lag], recorded[name]) < 0.01
    np.testing.assert_array_equal(got, spiked["n2"])
    assert result.report["measured"]["count_error"] < 0.01
    assert result.latency == 2


def test_more_bits_are_closer() -> None:
    graph, x = balanced(np.random.default_rng(0), cuba, 5), spikes((200, 6, 20), 0.2)
    found = {bits: snnir.compile(graph, "lava", calibrate=x, weight_bits=bits) for bits in (8, 9, 16)}
    errors = [r.report["populations"]["n1"]["weight_error"] for r in found.values()]
    assert errors[0] > 1.6 * errors[1] > 1.6 * 1.6 * errors[2]
    assert [r.report["used"]["connections"] for r in found.values()] == [2, 4, 4]
    assert all(r.report["measured"]["count_error"] < 0.012 for r in found.values())


def test_mixed_weights_lose_nothing_to_lavas_even_weights() -> None:
    """8 bits with both signs go in as 2q with exponent -1, which is q."""
    result = snnir.compile(balanced(np.random.default_rng(0), cuba, 5), "lava", weight_bits=8)
    for connection in result.artifact.spec.connections:
        acting = effective_weights(connection)
        np.testing.assert_array_equal(acting, connection.weights)
        assert acting.min() < 0 < acting.max()
        assert (acting % 2 == 0).all()
        assert np.abs(acting).max() >= 2 * 64


def test_weights_on_a_grid_give_the_very_same_spikes() -> None:
    rng = np.random.default_rng(1)
    grid = [Linear(weight=rng.integers(-3, 8, (m, n)) / 8) for m, n in ((15, 6), (10, 15))]
    graph = chain(
        ("in", Input(shape=(6,))),
        ("w1", grid[0]),
        ("a", integrate(15)),
        ("w2", grid[1]),
        ("b", integrate(10)),
        ("out", Output()),
        semantics=HARD,
    )
    for comparison in (">", ">="):
        own = Graph(graph.ops, graph.edges, HARD.with_(comparison=comparison))
        (verdict,) = snnir.validate(own, "lava", steps=80).verdicts
        assert (verdict.words, verdict.ok) == ("identical after 2 steps", True)
        assert verdict.spikes > 500


def test_thresholds_of_their_own_share_one_vth() -> None:
    rng = np.random.default_rng(2)
    threshold = rng.uniform(0.3, 3.0, 20)
    neurons = LIF(tau=np.full(20, 10 * DT), r=np.full(20, 10.0), v_threshold=threshold)
    ops = {"in": Input(shape=(8,)), "w": linear(rng, 20, 8), "n": neurons, "out": Output()}
    graph = wired(ops, "in > w > n > out", semantics=HARD)
    x = spikes((200, 4, 8), 0.3)
    result = snnir.compile(graph, "lava", calibrate=x)
    (population,) = result.artifact.spec.populations
    assert population.vth.shape == population.du.shape == population.dv.shape == ()
    want = interpret(graph, x)
    assert want.sum() > 500
    assert count_error(result.run(x)[1:], want[:-1]) < 0.02


def test_all_integers_are_within_what_loihi_holds() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        artifact = snnir.compile(everything(rng), "lava", calibrate=spikes((40, 3, 5), 0.4, seed)).artifact
        for p in artifact.spec.populations:
            assert 0 <= int(p.vth) < 2**17
            assert 0 <= int(p.du) <= 4095
            assert 0 <= int(p.dv) <= 4095
            assert np.abs(p.bias_mant).max() <= MAX_BIAS
        assert max(largest_currents(artifact.spec).values()) < STATE_LIMIT
        assert "#driver" in {p.name for p in artifact.spec.populations}


def test_a_current_never_wraps_whatever_comes() -> None:
    """Long time constants and many inputs that all push: the scale gives way, not the sign."""
    graph = chain(
        ("in", Input(shape=(60,))),
        ("w", Linear(weight=np.full((3, 60), 0.5))),
        ("n", cuba(3, 20 * DT, 200 * DT, threshold=100.0)),
        ("out", Output()),
        semantics=HARD,
    )
    artifact = snnir.compile(graph, "lava").artifact
    run = artifact.simulate({"in": np.ones((2000, 1, 60))}, record=True)
    assert run.u is not None
    assert run.u["n"].min() >= 0
    assert STATE_LIMIT * 0.9 < run.u["n"].max() < STATE_LIMIT


# -- inputs and readouts -----------------------------------------------------------------------------------------------


def test_numbers_go_in_graded_and_currents_come_out() -> None:
    rng = np.random.default_rng(3)
    weights = [rng.normal(0, 0.5, shape) for shape in ((3, 1, 3, 3), (2, 3, 3, 3))]
    ops = {"in": Input(shape=(1, 4, 4)), "c1": Conv2d(weight=weights[0], bias=rng.normal(0, 0.2, 3), padding=1)}
    ops |= {"n": LIF(tau=np.full((3, 1, 1), 5 * DT), r=np.full((3, 1, 1), 5.0), v_threshold=np.ones((3, 1, 1)))}
    ops |= {"c2": Conv2d(weight=weights[1], bias=np.array([0.3, -1.0]), padding=1), "out": Output()}
    graph = wired(ops, "in > c1 > n > c2 > out", semantics=HARD)
    x = np.repeat(rng.normal(0, 1.5, (1, 5, 1, 4, 4)), 40, axis=0)
    result = snnir.compile(graph, "lava", calibrate=x, weight_bits=16)
    want, recorded = interpret(graph, x, record=["n"])
    got, spiked = result.run(x, record=["n"])
    assert (result.latency, got.shape) == (2, want.shape)
    assert recorded["n"].sum() > 1000
    assert count_error(spiked["n"][1:], recorded["n"][:-1]) < 0.01
    assert np.sqrt(((got[2:] - want[:-2]) ** 2).mean()) < 0.1 * want.std()
    assert np.abs(got[2:].mean(axis=0) - want[:-2].mean(axis=0)).mean() < 0.01
    (code,) = result.report["inputs"]
    assert code["graded"]
    assert code["peak"] == 2047
    assert code["peak"] / code["scale"] == pytest.approx(np.abs(x).max())
    beyond = result.run(1e9 * x)  # cut to the range, as an analogue-to-digital converter does
    np.testing.assert_array_equal(beyond, result.run(np.sign(x) * np.abs(x).max()))


def test_counts_go_in_as_they_are() -> None:
    rng = np.random.default_rng(4)
    graph = chain(("in", Input(shape=(4,))), ("w", linear(rng, 6, 4)), ("n", lif(6)), ("out", Output()), semantics=HARD)
    x = rng.integers(0, 4, (60, 3, 4)).astype(float)
    result = snnir.compile(graph, "lava", calibrate=x)
    assert result.report["inputs"] == [{"name": "in", "shape": [4], "graded": True, "scale": 1.0, "peak": 3}]
    assert count_error(result.run(x)[1:], interpret(graph, x)[:-1]) < 0.02


def test_spikes_that_are_none_are_refused_by_name() -> None:
    graph = layers(np.random.default_rng(0), [4, 5], lif, HARD)
    result = snnir.compile(graph, "lava")
    with pytest.raises(ValueError, match=r"input 'in' holds 0.5; it was compiled for spikes"):
        result.run(np.full((5, 1, 4), 0.5))


@pytest.mark.parametrize("readout", ["LI", "CubaLI"])
def test_membranes_are_read(readout: str) -> None:
    rng = np.random.default_rng(5)
    full = np.ones(3)
    ops = {"in": Input(shape=(6,)), "w": linear(rng, 12, 6), "n": lif(12, 8 * DT), "v": affine(rng, 3, 12)}
    ops |= {"out": Output()}
    if readout == "LI":
        ops["r"] = LI(tau=30 * DT * full, r=3 * full, v_leak=0.5 * full)
    else:
        ops["r"] = CubaLI(tau_mem=30 * DT * full, tau_syn=10 * DT * full, r=3 * full, w_in=full)
    graph = wired(ops, "in > w > n > v > r > out", semantics=HARD)
    x = spikes((150, 4, 6), 0.4)
    result = snnir.compile(graph, "lava", calibrate=x, weight_bits=16)
    want, got = interpret(graph, x), result.run(x)
    assert result.latency == 2
    assert np.ptp(want) > 1
    assert np.sqrt(((got[2:] - want[:-2]) ** 2).mean()) < 0.02 * np.ptp(want)
    (verdict,) = snnir.validate(graph, "lava", x, weight_bits=16).verdicts
    assert verdict.ok
    assert verdict.verdict in ("spike timing differs", "rates differ")


def test_calls_may_follow_one_another() -> None:
    """With a period, every cell starts anew as the next call reaches it: two calls in a row are two calls."""
    rng = np.random.default_rng(6)
    graph = layers(rng, [5, 10, 8], lambda n: lif(n, 30 * DT), HARD)
    graph = Graph({**graph.ops, "w1": affine(rng, 10, 5, 0.2)}, graph.edges, HARD)
    x = spikes((12, 3, 5), 0.5)
    result = snnir.compile(graph, "lava", period=6)
    nothing = np.zeros((2, 3, 5))
    both = result.run(np.concatenate([x, nothing]))[2:]
    alone = [result.run(np.concatenate([part, nothing]))[2:] for part in (x[:6], x[6:])]
    assert both.sum() > 30
    np.testing.assert_array_equal(both, np.concatenate(alone))
    with pytest.raises(CompileError, match="one call would act on the next"):
        snnir.compile(everything(rng), "lava", period=6)


# -- rules -------------------------------------------------------------------------------------------------------------


def broken(graph: Graph) -> dict[str, str]:
    return {v.rule: str(v) for v in LAVA.target.check(graph)}


def test_every_breach_is_named_at_once() -> None:
    rng = np.random.default_rng(7)
    away = LIF(tau=np.full(3, 5 * DT), r=np.ones(3), v_leak=np.full(3, 0.2), v_threshold=np.ones(3))
    low = LIF(tau=np.full(3, 5 * DT), r=np.ones(3), v_threshold=np.array([1.0, -0.5, 0.0]))
    fast = LIF(tau=np.full(3, 0.5 * DT), r=np.ones(3), v_threshold=np.ones(3))
    many = LIF(tau=np.linspace(5, 80, 40) * DT, r=np.ones(40), v_threshold=np.ones(40))
    ops = {"in": Input(shape=(3,)), "n0": away, "w1": linear(rng, 3, 3), "n1": low, "w2": linear(rng, 3, 3), "n2": fast}
    ops |= {"w3": linear(rng, 40, 3), "n3": many, "w4": linear(rng, 3, 40), "n4": lif(3), "out": Output()}
    ops |= {"far": Delay(delay=np.full(3, 90 * DT)), "li": LI(tau=np.full(3, DT * 9), r=np.ones(3))}
    ops |= {"w5": linear(rng, 3, 3)}
    ops |= {"norm": LayerNorm(weight=np.ones(3), bias=np.zeros(3))}
    graph = wired(
        ops,
        "in > n0 > w1 > n1 > w2 > n2 > w3 > n3 > w4 > n4 > out",
        "in > far > n4",
        "n4 > li > w5 > norm > n4",
        semantics=HARD.with_(reset="subtract", membrane_floor=-1.0),
    )
    found = broken(graph)
    assert set(found) == {
        "lava-op", "lava-reset", "lava-start", "lava-threshold", "lava-decay", "lava-delay", "lava-floor", "lava-parts",
    }  # fmt: skip
    assert "LayerNorm" in found["lava-op"]
    assert "train with a hard reset" in found["lava-reset"]
    assert "40 different pairs" in found["lava-parts"]
    assert "(2 of 3)" in found["lava-threshold"]
    assert "at most 62" in found["lava-delay"]


def test_membranes_cannot_be_sent() -> None:
    rng = np.random.default_rng(8)
    ops = {"in": Input(shape=(3,)), "li": LI(tau=np.full(3, 9 * DT), r=np.ones(3)), "w": linear(rng, 2, 3), "n": lif(2)}
    graph = wired(ops | {"out": Output()}, "in > li > w > n > out", semantics=HARD)
    assert "the membranes of li (LI) go into n" in broken(graph)["lava-membrane"]


def test_thresholds_without_memory_count_like_the_network() -> None:
    rng = np.random.default_rng(11)
    ops = [("in", Input(shape=(8,))), ("w", affine(rng, 12, 8)), ("t", Threshold(threshold=np.full((), 0.7)))]
    graph = chain(*ops, ("v", linear(rng, 5, 12)), ("n", lif(5)), ("out", Output()), semantics=HARD)
    x = np.where(spikes((200, 4, 8), 0.4) > 0, rng.normal(0.5, 0.5, (200, 4, 8)), 0.0)
    result = snnir.compile(graph, "lava", calibrate=x)
    measured = result.report["measured"]["count_error_by_population"]
    assert measured["t"] < 0.002
    assert measured["n"] < 0.01
    (population, _) = result.artifact.spec.populations
    assert (int(population.du), int(population.dv)) == (4095, 4095)


def test_what_is_approximated_is_said() -> None:
    graph = layers(np.random.default_rng(9), [6, 20, 5], cuba, Semantics(dt=DT, reset="subtract"))
    with pytest.raises(CompileError, match="lava-reset"):
        snnir.compile(graph, "lava")
    assert snnir.compile(graph, "lava", allow=["approximate"]).report["measured"]["count_error"] > 0.005


def test_ranges_that_do_not_fit_are_refused_with_their_reason() -> None:
    heavy = chain(
        ("in", Input(shape=(2,))),
        ("w", Linear(weight=np.array([[1e5, 0.1]]))),
        ("n", lif(1)),
        ("out", Output()),
        semantics=HARD,
    )
    with pytest.raises(CompileError, match=r"lava-range\] n: its threshold can be .* units of weight at most, because"):
        snnir.compile(heavy, "lava")
    light = layers(np.random.default_rng(0), [2, 3], lif, HARD)
    with pytest.raises(CompileError, match=r"threshold=200000 units does not fit 17 bits"):
        snnir.compile(light, "lava", threshold=200_000)
    assert snnir.compile(light, "lava", threshold=300).artifact.spec.populations[0].vth == 300


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"bits": 8}, "lava has no option bits; its options"),
        ({"weight_bits": 7}, "weight_bits is 7, expected one of 8, 9, 16"),
        ({"input_bits": 40}, "input_bits is 40"),
        ({"input_range": -1.0}, "input_range is -1.0"),
        ({"period": 0}, "period is 0"),
        ({"conv": "lava"}, "conv is 'lava', expected one of auto, matrix, conv"),
    ],
)
def test_options_that_cannot_be(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        snnir.compile(layers(np.random.default_rng(0), [2, 3], lif, HARD), "lava", **option)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts, a driver, delays, recurrence, spikes and currents as outputs, graded input: all that files can hold."""
    rng = np.random.default_rng(10)
    x = np.where(spikes((25, 2, 5), 0.6) > 0, rng.normal(0.6, 0.5, (25, 2, 5)), 0.0)
    place = tmp_path_factory.mktemp("lava") / "out"
    snnir.compile(everything(rng), "lava", calibrate=x).save(place)
    return place


def lines_of(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run([*command], capture_output=True, text=True, cwd=folder.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_the_folder_runs_alone(folder: Path) -> None:
    """NumPy and nothing of snnir: isolated, in another folder."""
    script = str(folder / "simulate.py")
    code = "import runpy, sys; sys.argv = ['simulate.py', '-o', 'back.npz']; "
    code += f"runpy.run_path({script!r}, run_name='__main__'); assert 'snnir' not in sys.modules"
    printed = lines_of([sys.executable, "-I", "-c", code], folder)
    assert sum(" spikes, crc32 " in line for line in printed) == 6
    with np.load(folder.parent / "back.npz") as back, np.load(folder / "input.npz") as shown:
        again = snnir.compile(folder, "lava", calibrate=shown["in"][:25])
        assert shown["in"].shape == (25 + again.latency, 1, 5)
        assert {name: x.shape for name, x in back.items()} == {
            "out": (len(shown["in"]), 1, 6),
            "currents": (len(shown["in"]), 1, 3),
            "late": (len(shown["in"]), 1, 6),
        }
    with np.load(folder / "network.npz", allow_pickle=False) as arrays:
        assert all(a.dtype.kind in "biufU" for a in arrays.values())
        spec = {k: v for k, v in arrays.items() if k.partition(".")[0] in ("inputs", "populations", "connections")}
        assert LoihiSpec.from_npz_dict(spec).sizes["b"] == 10
    assert "archived in May 2026" in (folder / "README.md").read_text()


def test_files_print_what_the_artifact_computes(folder: Path) -> None:
    printed = lines_of([sys.executable, str(folder / "simulate.py")], folder)
    with np.load(folder / "network.npz") as arrays:
        spec = {k: v for k, v in arrays.items() if k.partition(".")[0] in ("inputs", "populations", "connections")}
        scale = json.loads(str(arrays["structure"]))["inputs"][0]["scale"]
    with np.load(folder / "input.npz") as shown:
        x = np.rint(shown["in"] * scale).astype(int)
    run = simulate(LoihiSpec.from_npz_dict(spec), {"in": x})
    assert f"b[0]: {int(run.spikes['b'].sum())} spikes" in "\n".join(printed)


@pytest.mark.skipif(find() is None, reason="no Lava here (make lava): run.py is not run")
def test_lava_itself_prints_the_same_lines_as_an_oracle(folder: Path) -> None:
    """run.py in Lava 0.10 and simulate.py in NumPy, line by line: every spike and every current."""
    python = find()
    assert python is not None
    simulated = lines_of([sys.executable, str(folder / "simulate.py")], folder)
    assert lines_of([str(python), str(folder / "run.py")], folder) == simulated
    assert len(simulated) > 40


# -- FSDDIM ------------------------------------------------------------------------------------------------------------


def test_a_denoiser_runs_on_integers() -> None:
    """FSDDIM with few channels: numbers in, two inputs, skips, currents out, a call longer by its depth."""
    from snnir.diffusion.sample import compiled_denoiser, graph_denoiser, noise
    from snnir.diffusion.spec import spec_of, time_embedding
    from snnir.models.fsddim import build

    graph = snnir.load(build("digits", widths=(4, 6), time=(8, 12), image=(1, 4, 4)).eval())
    result = snnir.compile(graph, "lava", weight_bits=16)
    spec = spec_of(graph)
    assert result.latency == 9
    assert [code["graded"] for code in result.report["inputs"]] == [True, True]
    x = np.repeat(noise(spec, 6, dtype=np.float64)[None], spec.steps, axis=0)
    time = np.repeat(time_embedding(np.array([5, 100, 300, 500, 700, 900]), spec.time_size)[None], spec.steps, axis=0)
    want, got = graph_denoiser(graph)(x, time), compiled_denoiser(result, spec)(x, time)
    assert got.shape == want.shape
    assert result.report["measured"]["count_error_by_population"]["down.neurons1"] < 0.05
    assert np.sqrt(((got - want) ** 2).mean() / (want**2).mean()) < 0.35


def test_a_netx_file_on_request() -> None:
    """Chains without biases: the integers that the simulator runs, without exponents; anything else says why not."""
    import h5py

    graph, x = balanced(np.random.default_rng(0), cuba, 5), spikes((200, 4, 20), 0.2)
    result = snnir.compile(graph, "lava", calibrate=x, netx=True)
    assert result.report["measured"]["count_error"] < 0.05
    with h5py.File(io.BytesIO(result.files()["network.net"])) as file:
        for i, connection in enumerate(result.artifact.spec.connections, 1):
            acting = np.ldexp(effective_weights(connection).astype(float), connection.weight_exp)
            np.testing.assert_array_equal(file[f"layer/{i}/weight"], acting)
    with pytest.raises(CompileError, match=r"\[netx\].*is reached from"):
        snnir.compile(everything(np.random.default_rng(0)), "lava", netx=True)


def test_weights_that_would_all_be_zero_are_refused() -> None:
    graph = layers(np.random.default_rng(0), [60, 5], lif, HARD)
    with pytest.raises(CompileError, match=r"(?s)lava-range.*too small to be written.*use fewer input_bits"):
        snnir.compile(graph, "lava", input_range=1.0, input_bits=24)
    assert snnir.compile(graph, "lava", input_range=1.0, input_bits=16).report["inputs"][0]["peak"] == 32767


def test_an_input_may_be_called_like_an_argument_of_numpys_savez(tmp_path: Path) -> None:
    weights = linear(np.random.default_rng(0), 3, 3)
    graph = chain(("file", Input(shape=(3,))), ("w", weights), ("n", lif(3)), ("out", Output()), semantics=HARD)
    compile(graph, "lava").save(tmp_path / "made")
    with np.load(tmp_path / "made" / "input.npz") as shown:
        assert shown.files == ["file"]
        plain = io.BytesIO()
        np.savez_compressed(plain, allow_pickle=False, other=shown["file"])
        assert npz({"other": shown["file"]}) == plain.getvalue()
