"""The Xylo simulator is xylosim, bit for bit, on random networks; and what its specification accepts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from snnir.simulators import source_files
from snnir.simulators.xylo import XyloRun, XyloSpec, simulate
from snnir.simulators.xylo.events import Projection
from tests.xylo_oracle import XyloOracle

RECORDS = ("spikes", "spikes_hidden", "v_hidden", "i_hidden", "v_out", "i_out")
NETWORKS_PER_REGIME = 16


@dataclass(frozen=True)
class Regime:
    """What random networks are drawn from, and what at least one of them must do for the comparison to mean much."""

    shown: Callable[[XyloSpec, XyloRun], Any]
    synapses: tuple[int, ...] = (1, 2)
    weight: int = 40
    density: float = 0.5
    dash: tuple[int, int] = (1, 7)
    threshold: tuple[int, int] = (50, 600)
    bias: int = 0
    shift: tuple[int, int] = (0, 1)
    aliases: float = 0.0
    rate: float = 0.5
    expansion: bool = False  # Audio 3 and IMU: the first neurons take the input, the last give the output

    def draw(self, rng: np.random.Generator) -> tuple[XyloSpec, Any]:
        n_in, n_out = rng.integers(1, 17), rng.integers(1, 9)
        n = int(rng.integers(4, 40))
        first, last = rng.integers(1, n, 2) if self.expansion else (n, n)
        s = int(rng.choice(self.synapses))

        def weights(*shape: int) -> Any:
            values = rng.integers(max(-self.weight - 1, -128), self.weight + 1, shape)
            return values * (rng.random(shape) < self.density)

        def dash(size: int) -> Any:
            return rng.choice(self.dash, size) if self.dash == (0, 15) else rng.integers(*self.dash, size)

        spec = XyloSpec(
            weights_in=weights(n_in, first, s) if s == 2 or rng.random() < 0.5 else weights(n_in, first),
            weights_rec=weights(n, n, s),
            weights_out=weights(last, n_out),
            dash_mem=dash(n),
            dash_mem_out=dash(n_out),
            dash_syn=dash(n),
            dash_syn_2=dash(n),
            dash_syn_out=dash(n_out),
            threshold=rng.integers(*self.threshold, n),
            threshold_out=rng.integers(*self.threshold, n_out),
            bias=rng.integers(-self.bias, self.bias + 1, n),
            bias_out=rng.integers(-self.bias, self.bias + 1, n_out),
            weight_shift_in=int(rng.integers(*self.shift)),
            weight_shift_rec=int(rng.integers(*self.shift)),
            weight_shift_out=int(rng.integers(*self.shift)),
            aliases=tuple(tuple(rng.integers(0, n, int(rng.random() < self.aliases))) for _ in range(n)),
            dt=1e-3,
            family="xylo-audio3" if self.expansion else "xylo-audio2",
        )
        return spec, rng.poisson(self.rate, (25, 3, n_in))


def saturated(share: float) -> Callable[[XyloSpec, XyloRun], bool]:
    return lambda _, run: bool(np.mean(np.abs(run.i_hidden.astype(int)) > 30000) > share)


REGIMES = {
    "recurrence": Regime(lambda _, run: run.spikes_hidden.any() and run.spikes.any()),
    "one synapse": Regime(lambda spec, run: spec.n_synapses == 1 and run.spikes.any(), synapses=(1,), density=1.0),
    "second synapse": Regime(lambda _, run: run.i_hidden[..., 1].any(), synapses=(2,)),
    "expansion neurons": Regime(
        lambda spec, run: len(spec.weights_out) < spec.n_hidden and run.spikes.any(), expansion=True
    ),
    "some aliases": Regime(lambda spec, run: any(spec.aliases) and run.spikes_hidden.any(), aliases=0.3),
    "chains and loops of aliases": Regime(
        lambda _, run: run.spikes_hidden.max() == 31, aliases=1.0, threshold=(20, 300)
    ),
    "biases": Regime(lambda spec, run: spec.bias.any() and spec.bias_out.any(), bias=300, aliases=0.2),
    "biases that saturate": Regime(
        lambda _, run: np.any(run.v_hidden == -32768), bias=32767, dash=(0, 16), aliases=0.2
    ),
    "shifts of 0 to 8": Regime(lambda spec, _: spec.weight_shift_rec > 4, shift=(0, 9), threshold=(500, 30000)),
    "shifts of 9 and 10, which wrap": Regime(
        lambda spec, _: np.any(np.abs(spec.weights_rec.astype(int)) << spec.weight_shift_rec > 32767),
        shift=(9, 11),
        weight=127,
        threshold=(500, 30000),
    ),
    "currents that saturate": Regime(
        saturated(0.02), weight=127, shift=(3, 6), threshold=(500, 30000), rate=3, density=0.3
    ),
    "currents that all saturate": Regime(
        saturated(0.5), weight=127, shift=(6, 9), dash=(8, 16), threshold=(500, 30000), rate=8, density=1.0
    ),
    "small thresholds": Regime(lambda _, run: run.spikes_hidden.max() == 31, threshold=(1, 12)),
    "thresholds around zero": Regime(
        lambda spec, run: np.any((spec.threshold == 0) & (run.spikes_hidden == 31)), threshold=(-3, 4), aliases=0.2
    ),
    "thresholds far below zero": Regime(  # they lift the membrane until it wraps, and the spikes stop early
        lambda spec, run: np.any((spec.threshold < 0) & (run.spikes_hidden > 0) & (run.spikes_hidden < 31)),
        threshold=(-32768, 1),
        aliases=0.2,
    ),
    "dashes of 0 and 15": Regime(lambda _, run: run.spikes_hidden.any(), dash=(0, 15), bias=200),
    "membranes at -32768 without memory": Regime(
        lambda spec, run: np.any((run.v_hidden == -32768) & (spec.dash_mem == 0)),
        bias=32767, dash=(0, 2), shift=(5, 8), rate=3,
    ),
    "more than 15 events": Regime(lambda _, run: run.spikes_hidden.any(), rate=20, weight=5),
    "everything": Regime(
        lambda _, run: run.spikes_hidden.any(), weight=127, dash=(0, 16), threshold=(-50, 8000), bias=2000,
        shift=(0, 11), aliases=0.5, rate=2, expansion=True,
    ),
}  # fmt: skip


def assert_same(own: XyloRun, other: XyloRun, where: Any) -> None:
    for name in RECORDS:
        mine, theirs = getattr(own, name), getattr(other, name)
        first = np.argwhere(mine != theirs)[:1].tolist() if mine.shape == theirs.shape else (mine.shape, theirs.shape)
        assert not first, f"{name} differs first at {first} in {where}"


def layered(rec_density: float, shift: int, threshold: int, seed: int = 0) -> XyloSpec:
    """300 hidden neurons with two synapses: enough targets for several tiles, some with scattered sources."""
    rng = np.random.default_rng(seed)
    n, n_out = 300, 6
    rec = rng.integers(-90, 91, (n, n, 2)) * (rng.random((n, n, 1)) < rec_density)
    rec[:, :128] = 0
    return XyloSpec(
        weights_in=rng.integers(-60, 128, (16, 128, 2)), weights_rec=rec,
        weights_out=rng.integers(-90, 91, (100, n_out)), dash_mem=rng.integers(2, 6, n),
        dash_mem_out=rng.integers(2, 6, n_out), dash_syn=rng.integers(2, 5, n), dash_syn_2=rng.integers(1, 5, n),
        dash_syn_out=rng.integers(2, 5, n_out), threshold=np.full(n, threshold),
        threshold_out=np.full(n_out, threshold), bias=np.zeros(n, int), bias_out=np.zeros(n_out, int),
        weight_shift_in=shift, weight_shift_rec=shift, weight_shift_out=shift,
        aliases=tuple((i + 7,) if i % 50 == 0 else () for i in range(n)), dt=1e-3, family="xylo-audio3",
    )  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("name", REGIMES)
def test_equals_xylosim_on_random_networks(name: str) -> None:
    regime, shown = REGIMES[name], False
    for seed in range(NETWORKS_PER_REGIME):
        spec, events = regime.draw(np.random.default_rng([seed, *name.encode()]))
        own = simulate(spec, events, record=True)
        assert_same(own, XyloOracle(spec).run(events), f"network {seed}")
        shown = shown or bool(regime.shown(spec, own))
    assert shown, "none of the networks did what this regime is about"


def test_regimes_make_more_than_200_networks() -> None:
    assert len(REGIMES) * NETWORKS_PER_REGIME > 200


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("rec_density", "shift", "threshold", "doubtful"),
    [(0.05, 0, 2000, (0, 0)), (0.05, 5, 20000, (1e-3, 0.3)), (0.9, 7, 30000, (0.4, 1))],
    ids=["no current near its bound", "a few", "most"],
)
def test_equals_xylosim_on_a_large_network(
    rec_density: float, shift: int, threshold: int, doubtful: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = layered(rec_density, shift, threshold)
    events = np.random.default_rng(1).poisson(0.5, (20, 4, 16))
    followed = []
    one_by_one = Projection._one_by_one

    def spy(self: Any, counts: Any, before: Any, rows: Any, columns: Any) -> Any:
        if before.shape[1] == 2 * spec.n_hidden:
            followed.append(len(rows) / before.size)
        return one_by_one(self, counts, before, rows, columns)

    monkeypatch.setattr(Projection, "_one_by_one", spy)
    own = simulate(spec, events, record=True)
    assert_same(own, XyloOracle(spec).run(events), "the large network")
    low, high = doubtful
    assert low <= max(followed, default=0) <= high
    assert own.spikes.any()


@pytest.mark.oracle
def test_equals_xylosim_where_float32_cannot_hold_the_sums() -> None:
    n_in = 9001  # times 15 events of 127: 17.1 million, above 2**24
    rng = np.random.default_rng(0)
    weights = rng.choice([-127, 127, 126], (n_in, 3))
    one = np.ones(3, int)
    spec = XyloSpec(
        weights_in=weights, weights_rec=np.zeros((3, 3), int), weights_out=np.eye(3, dtype=int), dash_mem=2 * one,
        dash_mem_out=one, dash_syn=3 * one, dash_syn_2=one, dash_syn_out=one, threshold=9000 * one,
        threshold_out=one, bias=0 * one, bias_out=0 * one, dt=1e-3, family="xylo-audio2",
    )  # fmt: skip
    events = np.full((5, 2, n_in), 15)
    events[:, 1] = rng.integers(0, 16, (5, n_in))
    own = simulate(spec, events, record=True)
    assert_same(own, XyloOracle(spec).run(events), "the wide network")
    assert own.spikes_hidden.any()


@pytest.mark.oracle
def test_counts_above_15_act_as_15_and_xylosim_refuses_more_than_255() -> None:
    spec, _ = REGIMES["recurrence"].draw(np.random.default_rng(3))
    at_most = np.random.default_rng(0).integers(0, 16, (20, 2, spec.n_in))
    above = np.where(at_most == 15, 255, at_most)
    expected = simulate(spec, at_most, record=True)
    assert_same(simulate(spec, above, record=True), expected, "255 events")
    assert_same(XyloOracle(spec).run(above), expected, "255 events in xylosim")
    beyond = np.where(at_most == 15, 256, at_most)
    assert_same(simulate(spec, beyond, record=True), expected, "256 events")
    with pytest.raises(TypeError):
        XyloOracle(spec).run(beyond)


@pytest.mark.oracle
def test_a_batch_of_64_equals_xylosim() -> None:
    """How much faster: `benchmarks/xylo_simulator.py`."""
    spec = layered(0.05, 0, 2000)
    events = np.random.default_rng(1).poisson(0.5, (50, 64, 16))
    oracle = XyloOracle(spec)
    spikes = []
    for b in range(64):
        oracle.layer.reset_all()
        spikes.append(oracle.layer.evolve(events[:, b].tolist()))
    assert np.array_equal(simulate(spec, events).spikes, np.stack(spikes, axis=1))


@pytest.mark.parametrize("shift", [0, 5, 8])
def test_a_batch_of_64_equals_64_single_runs(shift: int) -> None:
    spec = layered(0.1, shift, 1000 << min(shift, 4))
    events = np.random.default_rng(2).poisson(0.4, (15, 64, 16))
    batch = simulate(spec, events, record=True)
    singles = [simulate(spec, events[:, b : b + 1], record=True) for b in range(64)]
    joined = XyloRun(*(np.concatenate([getattr(run, name) for run in singles], axis=1) for name in RECORDS))
    assert_same(batch, joined, "64 single runs")
    assert batch.spikes.any()


def one_neuron(**changes: Any) -> XyloSpec:
    parts: dict[str, Any] = dict(
        weights_in=[[1]], weights_rec=[[0]], weights_out=[[0]], dash_mem=[4], dash_mem_out=[4], dash_syn=[4],
        dash_syn_2=[1], dash_syn_out=[4], threshold=[32767], threshold_out=[32767], bias=[0], bias_out=[0], dt=1e-3,
        family="xylo-imu",
    )  # fmt: skip
    return XyloSpec(**{name: np.array(v) if isinstance(v, list) else v for name, v in (parts | changes).items()})


def test_a_current_saturates_after_every_event_in_order_of_source() -> None:
    """Three sources of +32512, +32512, -32512: 32767 is reached on the way, so 255 is left, not 32512."""
    spec = one_neuron(weights_in=np.array([[127], [127], [-127]]), weight_shift_in=8, dash_syn=np.array([15]))
    both_orders = [[[1, 1, 1]], [[0, 1, 1]]]
    run = simulate(spec, np.array(both_orders).transpose(1, 0, 2), record=True)
    assert run.i_hidden.ravel().tolist() == [255 - 1, 0]


@pytest.mark.parametrize(
    ("events", "beyond", "bound"),
    [([(127, 15)] * 17 + [(127, 3), (1, 2)], 32768, 32767), ([(-128, 15)] * 17 + [(-43, 3)], -32769, -32768)],
)
def test_a_current_one_beyond_its_range_saturates(events: Any, beyond: int, bound: int) -> None:
    """A recurrent event of 100 arrives after the input's, so that the lost unit can be seen."""
    weights, counts = np.array(events).T
    assert np.dot(weights, counts) == beyond
    back = -100 if beyond > 0 else 100
    two = {name: np.array([15, 15]) for name in ("dash_mem", "dash_syn", "dash_syn_2")}
    spec = one_neuron(
        weights_in=np.stack([np.append(np.zeros(len(weights), int), 100), np.append(weights, 0)], axis=1),
        weights_rec=np.array([[0, back], [0, 0]]), threshold=np.array([99, 32767]), bias=np.zeros(2, int), **two,
    )  # fmt: skip
    raster = np.array([[[0] * len(counts) + [1]], [[*counts, 0]]])
    run = simulate(spec, raster, record=True)
    assert run.spikes_hidden[0, 0].tolist() == [1, 0]
    assert run.i_hidden[1, 0, 1, 0] == bound + back - (1 if bound > 0 else -1)


@pytest.mark.parametrize("weight", [10, -10])
def test_a_current_below_its_dash_loses_one_per_step(weight: int) -> None:
    """10 with dash 4 is spent after 10 steps, having given 9+8+...+1 = 45 where an exponential gives 150."""
    events = np.zeros((12, 1, 1), int)
    events[0] = 1
    current = simulate(one_neuron(weights_in=np.array([[weight]])), events, record=True).i_hidden.ravel()
    assert current.tolist() == [np.sign(weight) * max(9 - t, 0) for t in range(12)]


def test_each_connection_after_the_input_takes_one_step() -> None:
    """An event fires the first neuron at once, the second one step later, the output one step after that."""
    rec = np.zeros((2, 2), int)
    rec[0, 1] = 100
    spec = one_neuron(
        weights_in=np.array([[100]]), weights_rec=rec, weights_out=np.array([[100]]), threshold=np.array([50, 50]),
        threshold_out=np.array([50]), bias=np.zeros(2, int),
        **{name: np.array([1, 1]) for name in ("dash_mem", "dash_syn", "dash_syn_2")}, dash_syn_out=np.array([1]),
    )  # fmt: skip
    events = np.zeros((5, 1, 1), int)
    events[0] = 1
    run = simulate(spec, events, record=True)
    assert run.spikes_hidden[:, 0].T.tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert run.spikes.ravel().tolist() == [0, 0, 1, 0, 0]


def test_one_synapse_with_and_without_its_axis() -> None:
    spec, events = REGIMES["one synapse"].draw(np.random.default_rng(5))
    flat = replace(spec, weights_in=np.atleast_3d(spec.weights_in)[..., 0], weights_rec=spec.weights_rec[..., 0])
    deep = replace(flat, weights_in=flat.weights_in[..., None], weights_rec=flat.weights_rec[..., None])
    assert flat.n_synapses == deep.n_synapses == 1
    assert_same(simulate(flat, events, record=True), simulate(deep, events, record=True), "the two forms")


def test_shapes_and_nothing_recorded_unasked() -> None:
    spec = layered(0.05, 0, 400)
    events = np.ones((4, 3, 16), bool)
    plain, full = simulate(spec, events), simulate(spec, events.astype(float), record=True)
    assert plain.v_hidden is plain.i_hidden is plain.spikes_hidden is plain.v_out is plain.i_out is None
    assert np.array_equal(plain.spikes, full.spikes)
    assert [getattr(full, name).shape for name in RECORDS] == [
        (4, 3, 6), (4, 3, 300), (4, 3, 300), (4, 3, 300, 2), (4, 3, 6), (4, 3, 6),
    ]  # fmt: skip
    assert simulate(spec, events[:0]).spikes.shape == (0, 3, 6)
    assert simulate(spec, events[:, :0], record=True).v_hidden.shape == (4, 0, 300)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (np.zeros((3, 1)), "shape"),
        (np.zeros((3, 1, 2)), "expected \\(steps, batch, 1\\)"),
        (np.full((3, 1, 1), -1), "below zero"),
        (np.full((3, 1, 1), 0.5), "integers"),
        (np.full((3, 1, 1), np.nan), "integers"),
        (np.full((3, 1, 1), np.inf), "integers"),
        (np.full((3, 1, 1), "1"), "integers"),
    ],
)
def test_events_that_are_no_counts(events: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(one_neuron(), events)


def test_a_wrong_specification_names_every_problem() -> None:
    with pytest.raises(ValueError, match="not a Xylo specification") as caught:
        one_neuron(
            weights_in=np.array([[300]]), weights_rec=np.zeros((1, 2)), weights_out=np.zeros((2, 1)),
            dash_syn=np.array([16]), dash_mem=np.array([-1]), threshold=np.array([40000]), bias=np.array([0.5]),
            bias_out=np.zeros(2), weight_shift_in=16, aliases=((1,),), dt=0.0, family="xylo",
        )  # fmt: skip
    for part in (
        "weights_in spans 300..300, allowed -128..127", "weights_rec has shape (1, 2)", "weights_out has shape (2, 1)",
        "dash_syn spans 16..16, allowed 0..15", "dash_mem spans -1..-1", "threshold spans 40000..40000",
        "bias must hold integers", "bias_out has shape (2,), expected (1,)", "weight_shift_in is 16, allowed 0..15",
        "aliases must name hidden neurons, 0..0", "dt is 0.0", "family is 'xylo'",
    ):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(
        ValueError, match=r"weights_in has shape \(1, 2\).*; aliases has 2 entries, expected none or one"
    ):
        one_neuron(weights_in=np.zeros((1, 2)), aliases=((), ()))


def test_a_specification_is_read_only_and_keeps_its_own_arrays() -> None:
    weights = np.array([[5]])
    spec = one_neuron(weights_in=weights)
    weights[0, 0] = 7
    assert spec.weights_in.tolist() == [[5]]
    assert spec.weights_in.dtype == np.int8
    with pytest.raises(ValueError, match="read-only"):
        spec.weights_in[0, 0] = 1


def test_npz_round_trip_without_pickle(tmp_path: Any) -> None:
    spec, events = REGIMES["everything"].draw(np.random.default_rng(11))
    spec = replace(spec, aliases=((2, 1), (), *spec.aliases[2:]), dt=2.5e-3)
    np.savez(tmp_path / "spec.npz", **spec.to_npz_dict())
    with np.load(tmp_path / "spec.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["bias"], arrays["bias_hidden"])
        again = XyloSpec.from_npz_dict(arrays)
    for name, value in spec.to_npz_dict().items():
        assert np.array_equal(again.to_npz_dict()[name], value), name
    assert (again.aliases, again.dt, again.family) == (spec.aliases, 2.5e-3, "xylo-audio3")
    assert_same(simulate(again, events, record=True), simulate(spec, events, record=True), "the copy")


def test_npz_with_wrong_keys() -> None:
    arrays = one_neuron().to_npz_dict()
    without = {name: array for name, array in arrays.items() if name not in ("threshold", "dt")}
    with pytest.raises(ValueError, match=r"missing \['dt', 'threshold'\], unknown \['extra'\]"):
        XyloSpec.from_npz_dict({**without, "extra": np.zeros(1)})
    with pytest.raises(ValueError, match="bias and bias_hidden differ"):
        XyloSpec.from_npz_dict({**arrays, "bias_hidden": np.ones(1)})
    with pytest.raises(ValueError, match=r"aliases must name hidden neurons, 0\.\.0"):
        XyloSpec.from_npz_dict({**arrays, "aliases": np.array([[3, 0]])})
    only_hidden = {name: array for name, array in arrays.items() if name != "bias"}
    assert XyloSpec.from_npz_dict(only_hidden).bias.tolist() == [0]


def test_the_file_runs_alone(tmp_path: Any) -> None:
    """It travels with compiled networks: neither snnir nor anything but NumPy may be needed."""
    for name, content in source_files("xylo", "xylo_simulator").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "spec.npz", **one_neuron(threshold=np.array([5]), weights_in=np.array([[100]])).to_npz_dict())
    script = (
        "import sys; sys.path.insert(0, '.'); import numpy as np, xylo_simulator as x\n"
        "run = x.simulate(x.XyloSpec.from_npz_dict(np.load('spec.npz')), np.ones((3, 1, 1), int), record=True)\n"
        "print(run.spikes_hidden.ravel().tolist(), [m for m in ('snnir', 'torch', 'xylosim') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[18, 31, 31] []"
