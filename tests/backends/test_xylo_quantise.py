"""Integers: decays, scales, thresholds and biases; helpers that are exact; calibration that helps on other input."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import snnir
from snnir.backends.xylo import XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU
from snnir.backends.xylo.calibrate import deviation, forced
from snnir.backends.xylo.mapping import plan
from snnir.backends.xylo.parts import STARTER_SPIKES, dash_decay, ideal_dash, nearest_dash, time_constant
from snnir.backends.xylo.quantise import (
    Shifts,
    assumed_peaks,
    ideals,
    integer_threshold,
    lifted,
    quantise,
    scale_limit,
)
from snnir.backends.xylo.retime import best_ratio, dash_error, rebinned
from snnir.backends.xylo.teacher import teach
from snnir.errors import CompileError, UsageError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.ops import CubaLIF, Input, Linear, Output
from snnir.simulators.xylo import XyloSpec, simulate
from tests.backends.xylo_nets import DT, SOFT, affine, count_error, cuba, integrate, layers, lif, linear, spikes, wired

# -- decays ------------------------------------------------------------------------------------------------------------


def test_time_constants_of_all_dashes() -> None:
    # The table of 1 - 2^-d: tau / dt = -1 / ln(1 - 2^-d).
    steps = time_constant(dash_decay(np.arange(1, 9)), 1.0, "exponential")
    np.testing.assert_allclose(
        steps, [1.443, 3.476, 7.489, 15.495, 31.497, 63.499, 127.499, 255.5], atol=2e-3, rtol=1e-5
    )
    np.testing.assert_allclose(time_constant(dash_decay(np.arange(1, 9)), 1.0, "euler"), 2.0 ** np.arange(1, 9))


@pytest.mark.parametrize(
    ("tau", "rule", "dash", "got"),
    [
        (20.0, "exponential", 4, 4.358),
        (10.0, "exponential", 3, 3.393),
        (16.0, "euler", 4, 4.0),
        (1.3, "exponential", 1, 0.898),  # log2(tau / dt) would round to 0 and kill the synapse
        (3.2, "exponential", 2, 1.898),
        (1e9, "euler", 15, 29.897),
    ],
)
def test_dash_comes_from_the_decay_itself(tau: float, rule: str, dash: int, got: float) -> None:
    decay = np.array([1 - 1 / tau if rule == "euler" else np.exp(-1 / tau)])
    np.testing.assert_allclose(ideal_dash(decay), [got], atol=2e-3)
    assert nearest_dash(decay) == [dash]


def test_no_decay_at_all_is_the_longest_dash_and_none_is_ever_zero() -> None:
    assert nearest_dash(np.array([1.0, 0.0, -0.5])).tolist() == [15, 1, 1]


def test_error_of_a_rounded_time_constant_is_bounded() -> None:
    tau = np.geomspace(3, 3e4, 4000)
    got = time_constant(dash_decay(nearest_dash(np.exp(-1 / tau))), 1.0, "exponential")
    assert 0.67 < (got / tau).min()
    assert (got / tau).max() < 1.46


# -- scales ------------------------------------------------------------------------------------------------------------


def test_integers_are_the_ideal_times_the_scale() -> None:
    graph = layers(np.random.default_rng(0), [8, 30, 4])
    found = ideals(plan(graph, XYLO_AUDIO3.chip))
    for ideal in found.values():
        limit = scale_limit(ideal, assumed_peaks(ideal))
        for shift in (0, 3):
            shifts = replace(quantise_shifts(), into=shift, rec=shift, out=shift)
            cells = quantise(ideal, shifts, limit)
            assert (cells.scale <= limit * (1 + 1e-9)).all()
            for charge, weight in zip(ideal.charge, cells.weights, strict=True):
                exact = charge / (2.0**cells.dash_syn - 1) * cells.scale / 2**shift
                assert np.abs(weight - exact).max() <= 0.5
                assert np.abs(weight).max() <= 127
            assert np.abs(cells.threshold - ideal.threshold * cells.scale).max() <= 0.5
            # A neuron either uses all 8 bits of some weight or all the room that its states have.
            full = np.max([np.abs(w).max(axis=0) for w in cells.weights], axis=0) >= 127
            assert (full | (cells.scale >= limit * 0.999)).all()


def quantise_shifts() -> Any:
    from snnir.backends.xylo.quantise import Shifts

    return Shifts()


def test_a_neuron_without_weights_keeps_its_threshold() -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 0.3, (10, 4))
    weight[3] = 0
    graph = chain(("in", Input(shape=(4,))), ("w", Linear(weight=weight)), ("n", cuba(10)), ("o", cuba(10)),
                  ("out", Output()), semantics=SOFT)  # fmt: skip
    spec = XYLO_AUDIO3.build(graph, {}).spec
    assert spec.threshold.min() >= 1
    assert simulate(spec, np.ones((50, 1, 4), int), record=True).spikes_hidden[..., 3].sum() == 0  # type: ignore[index]


def test_strict_comparison_only_moves_whole_thresholds() -> None:
    value = np.array([100.0, 100.2, 99.7, 0.2])
    assert integer_threshold(value, strict=False).tolist() == [100, 100, 100, 1]
    assert integer_threshold(value, strict=True).tolist() == [101, 100, 100, 1]


# -- helpers, exact ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("into", "rec"), [(0, 0), (3, 0), (0, 4), (6, 3), (8, 8)])
def test_relays_repeat_any_count_one_step_later(into: int, rec: int) -> None:
    from snnir.backends.xylo.assemble import relay_unit
    from snnir.backends.xylo.quantise import Shifts

    unit = relay_unit(Shifts(into, rec, 0))
    one = np.ones(2, int)
    spec = XyloSpec(
        weights_in=np.array([[1 << unit + 1 - into, 0]]),
        weights_rec=np.array([[-(1 << unit - rec), 1 << unit + 1 - rec], [0, -(1 << unit - rec)]]),
        weights_out=np.zeros((2, 1), int),
        dash_mem=0 * one,
        dash_syn=one,
        dash_syn_2=one,
        threshold=one << unit,
        bias=0 * one,
        dash_mem_out=one[:1],
        dash_syn_out=one[:1],
        threshold_out=one[:1],
        bias_out=0 * one[:1],
        weight_shift_in=into,
        weight_shift_rec=rec,
        dt=DT,
        family="xylo-imu",
    )
    counts = np.random.default_rng(2).integers(0, 16, (500, 3, 1))
    run = simulate(spec, counts, record=True)
    assert run.spikes_hidden is not None
    np.testing.assert_array_equal(run.spikes_hidden[:, :, 0], counts[:, :, 0])
    np.testing.assert_array_equal(run.spikes_hidden[1:, :, 1], counts[:-1, :, 0])


def test_output_relays_repeat_runs_of_any_length() -> None:
    """The usual relay (weight 127, threshold 64) adds a spike behind runs of 7; the saturating one does not."""
    graph = layers(np.random.default_rng(3), [3, 5])
    artifact = XYLO_AUDIO3.build(graph, {"calibrate": {"in": spikes((100, 2, 3), 0.9)}})
    x = spikes((400, 4, 3), 0.95, 1)
    outputs, recorded = artifact.run({"in": x}, ("n1",))
    fired = np.minimum(recorded["n1"], 1)
    assert max(len(run) for run in "".join("01"[int(s)] for s in fired[:, 0, :].T.ravel()).split("0")) > 20
    np.testing.assert_array_equal(outputs["out"][1:], fired[:-1])


def test_drivers_spike_in_every_step_and_starters_in_the_first() -> None:
    graph = layers(np.random.default_rng(4), [3, 6, 4], lif)
    artifact = XYLO_AUDIO3.build(graph, {})
    run = simulate(artifact.spec, np.zeros((5000, 1, 3), int), record=True)
    assert run.spikes_hidden is not None
    place = artifact.plan.block_of
    assert (run.spikes_hidden[:, 0, place["driver"].first] == 1).all()
    assert run.spikes_hidden[:, 0, place["starter"].first].tolist() == [8] + [0] * 4999
    assert run.spikes_hidden[:, 0, place["n1"].ids].sum() == 0  # lifted, and silent without input


@pytest.mark.parametrize("kind", [lif, integrate])
@pytest.mark.parametrize("rate", [0.1, 0.8])
def test_neurons_without_current_spike_as_the_source_does(kind: Callable[[int], Any], rate: float) -> None:
    """Most spikes fall in the very same step; and never two, even under more input than one spike per step takes."""
    graph = layers(np.random.default_rng(5), [8, 20, 5], kind)
    x, other = spikes((200, 4, 8), rate, 1), spikes((200, 4, 8), rate, 2)
    artifact = XYLO_AUDIO3.build(graph, {"calibrate": {"in": x}})
    want, recorded = interpret(graph, other, record=["n1"])
    got, spiked = artifact.run({"in": other}, ("n1",))
    lag = artifact.lags["n1"]
    assert recorded["n1"].sum() > 400
    assert spiked["n1"].max() == 1
    assert count_error(spiked["n1"][lag:], recorded["n1"][:-lag]) < 0.02
    assert (spiked["n1"][lag:] != recorded["n1"][:-lag]).mean() < 0.06
    assert count_error(got["out"][artifact.latency :], want[: -artifact.latency]) < 0.04


# -- conversion --------------------------------------------------------------------------------------------------------


def recurrent(seed: int, tau_mem: float, tau_syn: float, threshold: float) -> Graph:
    """16 inputs, 64 recurrent neurons, 8 outputs; with time constants that may or may not be powers of two."""
    rng = np.random.default_rng(seed)

    def neurons(n: int) -> CubaLIF:
        full = np.ones(n)
        return CubaLIF(
            tau_mem=tau_mem * full, tau_syn=tau_syn * full, r=tau_mem / DT * full,
            w_in=(1 - DT / tau_syn) * tau_syn / DT * full, v_threshold=threshold * full,
        )  # fmt: skip

    ops = {"in": Input(shape=(16,)), "wi": linear(rng, 64, 16, 0, 0.3), "h": neurons(64)}
    ops |= {"wr": linear(rng, 64, 64, 0, 0.05), "wo": linear(rng, 8, 64, 0, 0.3 if threshold < 10 else 0.15)}
    return wired({**ops, "o": neurons(8), "out": Output()}, "in > wi > h > wo > o > out", "h > wr > h")


def errors(graph: Graph, rate: float, **options: Any) -> tuple[float, float]:
    """Errors of spike counts, hidden and output, on input that calibration has not seen."""
    artifact = XYLO_AUDIO3.build(graph, options)
    x = spikes((400, 4, 16), rate, 99)
    want, recorded = interpret(graph, x, record=["h"])
    got, spiked = artifact.run({"in": x}, ("h",))
    return count_error(spiked["h"], recorded["h"]), count_error(got["out"][1:], want[:-1])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("taus", "threshold", "rate", "plain", "calibrated"),
    [
        ((64, 32), 20.0, 0.03, 0.15, 0.04),
        ((20, 10), 5.0, 0.05, 0.15, 0.09),  # 20 and 10 steps fall between powers of two
    ],
)
def test_random_recurrent_networks_keep_their_spike_counts(
    seed: int, taus: tuple[float, float], threshold: float, rate: float, plain: float, calibrated: float
) -> None:
    graph = recurrent(seed, taus[0] * DT, taus[1] * DT, threshold)
    recorded = {"in": spikes((400, 8, 16), rate, seed)}
    assert max(errors(graph, rate)) < plain
    assert max(errors(graph, rate, calibrate=recorded)) < calibrated


@pytest.mark.parametrize("backend", [XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU])
def test_all_chips_compute_the_same_network(backend: Any) -> None:
    graph = layers(np.random.default_rng(6), [8, 40, 6])
    artifact = backend.build(graph, {"calibrate": {"in": spikes((100, 8, 8), 0.2)}})
    x = spikes((100, 8, 8), 0.2, 1)
    want = interpret(graph, x)
    assert count_error(artifact.run({"in": x}, ())[0]["out"][1:], want[:-1]) < 0.08


def test_forced_runs_are_the_chips_arithmetic() -> None:
    """A population alone, in the vectorised model that calibration uses, against the bit-exact simulator."""
    graph = layers(np.random.default_rng(7), [8, 40, 6])
    layout = plan(graph, XYLO_AUDIO3.chip)
    found = ideals(layout)
    x = spikes((80, 3, 8), 0.3)
    lesson = teach(graph, layout, found, {"in": x})["n1"]
    artifact = XYLO_AUDIO3.build(graph, {})
    shifts = replace(quantise_shifts(), into=artifact.spec.weight_shift_in, rec=artifact.spec.weight_shift_rec)
    cells = quantise(found["n1"], shifts, scale_limit(found["n1"], assumed_peaks(found["n1"])))
    counts, _ = forced([cells, cells], lesson)
    want = artifact.run({"in": x}, ("n1",))[1]["n1"]
    np.testing.assert_array_equal(counts[:, 0], want)
    np.testing.assert_array_equal(counts[:, 1], want)
    assert deviation(counts, want).max() == 0


def test_biases_act_as_in_the_source() -> None:
    rng = np.random.default_rng(8)
    graph = chain(("in", Input(shape=(6,))), ("w1", affine(rng, 30, 6, 0.4)), ("n1", cuba(30)),
                  ("w2", affine(rng, 4, 30, 0.4)), ("n2", cuba(4)), ("out", Output()), semantics=SOFT)  # fmt: skip
    x = spikes((200, 4, 6), 0.1, 1)
    want, recorded = interpret(graph, x, record=["n1"])
    without = interpret(Graph({**graph.ops, "w1": Linear(weight=graph["w1"].weight)}, graph.edges, SOFT), x)
    assert np.abs(want.sum(0) - without.sum(0)).sum() > 0.2 * want.sum()  # they matter
    artifact = XYLO_AUDIO3.build(graph, {"calibrate": {"in": spikes((200, 4, 6), 0.1)}})
    got, spiked = artifact.run({"in": x}, ("n1",))
    assert count_error(spiked["n1"], recorded["n1"]) < 0.03
    assert count_error(got["out"][1:], want[:-1]) < 0.05


@pytest.mark.parametrize("kind", [cuba, lif])
def test_resting_potential(kind: Any) -> None:
    rng = np.random.default_rng(9)
    graph = chain(("in", Input(shape=(6,))), ("w1", linear(rng, 30, 6)), ("n1", kind(30, v_leak=np.full(30, 0.3))),
                  ("w2", linear(rng, 4, 30)), ("n2", cuba(4)), ("out", Output()), semantics=SOFT)  # fmt: skip
    x = spikes((200, 4, 6), 0.2, 1)
    want = interpret(graph, x, record=["n1"])[1]["n1"]
    artifact = XYLO_AUDIO3.build(graph, {"calibrate": {"in": spikes((200, 4, 6), 0.2)}})
    got = artifact.run({"in": x}, ("n1",))[1]["n1"]
    assert count_error(got[artifact.lags["n1"] :], want) < 0.05


# -- time step ---------------------------------------------------------------------------------------------------------


def test_the_best_time_step_makes_decays_exact() -> None:
    graph = recurrent(0, 20 * DT, 10 * DT, 5.0)
    found = ideals(plan(graph, XYLO_AUDIO3.chip))
    ratio = best_ratio(found, "euler")
    assert ratio == pytest.approx(1.25)
    assert dash_error(found.values(), 1.0, "euler") == pytest.approx(0.3219, abs=1e-4)
    assert dash_error(found.values(), ratio, "euler") < 1e-9


def test_choosing_the_time_step() -> None:
    graph = recurrent(0, 20 * DT, 10 * DT, 5.0)
    recorded = {"in": spikes((400, 8, 16), 0.05)}
    artifact = XYLO_AUDIO3.build(graph, {"calibrate": recorded, "choose_dt": True})
    assert artifact.spec.dt == pytest.approx(1.25 * DT)
    assert artifact.report["time"]["network_dt"] == DT
    x = spikes((400, 4, 16), 0.05, 99)
    want = interpret(graph, x)
    got = artifact.run({"in": np.minimum(rebinned(x, 1.25), 15)}, ())[0]["out"]
    assert len(got) == 320
    assert count_error(got, want) < 0.08


def test_rebinning_keeps_every_event() -> None:
    counts = np.random.default_rng(0).integers(0, 5, (101, 2, 3))
    for ratio in (0.5, 0.8, 1.0, 1.3, 2.0):
        binned = rebinned(counts, ratio)
        assert len(binned) == int(np.ceil(101 / ratio))
        np.testing.assert_array_equal(binned.sum(axis=0), counts.sum(axis=0))


def test_time_steps_that_cannot_be_chosen() -> None:
    graph = recurrent(0, 20 * DT, 10 * DT, 5.0)
    with pytest.raises(UsageError, match=r"0\.0005\.\.0\.002"):
        XYLO_AUDIO3.build(graph, {"choose_dt": 0.01})
    with pytest.raises(UsageError, match="choose_dt"):
        XYLO_AUDIO3.build(graph, {"choose_dt": "soon"})
    with pytest.raises(UsageError, match="no option shift"):
        XYLO_AUDIO3.build(graph, {"shift": 3})


# -- refusing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.5, -1.0, 16.0])
def test_recorded_input_that_is_no_events(bad: float) -> None:
    graph = layers(np.random.default_rng(0), [4, 10, 2])
    x = np.zeros((10, 2, 4))
    x[3, 1, 2] = bad
    with pytest.raises(CompileError) as caught:
        snnir.compile(graph, "xylo-audio3", calibrate=x)
    assert [v.rule for v in caught.value.violations] == ["xylo-input-counts"]
    result = snnir.compile(graph, "xylo-audio3")
    with pytest.raises(ValueError, match=r"input in holds .* at \[3, 1, 2\]"):
        result.run(x)


def test_a_network_that_comes_out_wrong_on_recorded_input_is_refused() -> None:
    """Neurons that keep spiking at every step, with a current: the chip gives several spikes where they give one."""
    rng = np.random.default_rng(0)
    ops = {"in": Input(shape=(4,)), "w": Linear(weight=np.full((12, 4), 60.0)), "n": cuba(12, threshold=1.0)}
    ops |= {"r": Linear(weight=rng.normal(4, 1, (12, 12))), "w2": linear(rng, 3, 12), "o": cuba(3), "out": Output()}
    graph = wired(ops, "in > w > n > w2 > o > out", "n > r > n")
    x = spikes((100, 2, 4), 0.3)
    with pytest.raises(CompileError) as caught:
        XYLO_AUDIO3.build(graph, {"calibrate": {"in": x}})
    (fault,) = caught.value.violations
    assert fault.rule == "xylo-mismatch"
    assert "several times in a step" in fault.what
    (seen,) = re.findall(r"the network spikes (\d+) times in all, the chip (\d+)\)", fault.what)
    assert int(seen[1]) > 1.5 * int(seen[0]) > 0
    assert snnir.compile(graph, "xylo-audio3", calibrate=x, allow=("approximate",)).latency == 1


def test_lifting_only_what_needs_it() -> None:
    graph = layers(np.random.default_rng(0), [4, 10, 3], lif)
    found = ideals(plan(graph, XYLO_AUDIO3.chip))["n1"]
    low = replace(assumed_peaks(found), membrane=np.full(10, 1.3))
    high = replace(low, membrane=np.full(10, 5.0))
    assert (lifted(found, low).lift == 0).all()
    np.testing.assert_allclose(lifted(found, high).lift, 1.5 * 5.0 - 2.0)
    several = layers(np.random.default_rng(0), [4, 10, 3], lif, SOFT.with_(spikes_per_step=31))
    many = ideals(plan(several, XYLO_AUDIO3.chip))["n1"]
    assert (lifted(many, high).lift == 0).all()


def test_the_starter_s_weight_is_eight_bits_even_where_a_lift_rests_higher() -> None:
    """What the driver's whole weight keeps up may be above the lift that the scale was chosen for."""
    beyond = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        graph = layers(rng, [6, 10, 4], lambda n: lif(n, 32 * DT))
        found = ideals(plan(graph, XYLO_AUDIO3.chip))["n1"]
        high = replace(found, lift=rng.uniform(20.0, 60.0, found.size))
        cells = quantise(high, Shifts(5, 5, 5), np.full(found.size, np.inf))
        beyond += int((np.rint(cells.offset / (STARTER_SPIKES * 2.0**cells.back)) > 127).sum())
        assert 0 <= cells.starting.min() <= cells.starting.max() <= 127
    assert beyond > 0


@pytest.mark.parametrize("seed", range(2))
def test_integers_as_trained_leave_relays_a_unit_that_they_can_write(seed: int) -> None:
    """All weights are on their grid already, so shifts are tried one by one; relays need those of in and rec near."""
    rng = np.random.default_rng(seed)
    eye = Linear(weight=np.eye(3))
    ops = {"in": Input(shape=(3,)), "w": eye, "a": cuba(3), "v": eye, "b": cuba(3), "x": eye, "c": cuba(3)}
    ops |= {"skip": eye, "out": Output()}
    graph = wired(ops, "in > w > a > v > b > x > c > out", "in > skip > b")
    x = spikes((40, 4, 3), rng.uniform(0.1, 0.6), seed)
    artifact = snnir.compile(graph, "xylo-audio3", calibrate={"in": x}, allow=("approximate",)).artifact
    assert artifact.plan.relays
    assert artifact.report["measured"]["chosen"] == "as trained"
    tried = [t["into"] - t["rec"] for t in artifact.report["measured"]["tried"]["shifts"]]
    assert len(tried) > 20
    assert max(map(abs, tried)) == 5
