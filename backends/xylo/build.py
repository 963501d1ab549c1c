"""From a graph that keeps all rules to an artifact: layout, integers, a choice between candidates, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snnir.backends.xylo.artifact import XyloArtifact, as_events
from snnir.backends.xylo.assemble import assemble
from snnir.backends.xylo.calibrate import calibrate, choose_shifts
from snnir.backends.xylo.chip import MAX_SHIFT, Chip
from snnir.backends.xylo.layout import Plan
from snnir.backends.xylo.mapping import plan
from snnir.backends.xylo.quantise import (
    Cells,
    Ideal,
    Peaks,
    Shifts,
    assumed_peaks,
    best_shifts,
    ideals,
    lifted,
    quantise,
    scale_limit,
    trained_as_integers,
)
from snnir.backends.xylo.report import describe
from snnir.backends.xylo.retime import RANGE, best_ratio, rebinned, retimed, retimed_lesson
from snnir.backends.xylo.teacher import Lesson, kept, teach
from snnir.errors import CompileError, UsageError, Violation, did_you_mean
from snnir.graph import Graph
from snnir.ops import Array, Delay
from snnir.simulators.xylo import XyloSpec, simulate
from snnir.stimuli import RATE, described, stimuli
from snnir.target import allowed

_RELAYS_APART = 5  # a relay's threshold is a power of two that weights of both matrices, in and rec, must write
_WRONG = 0.5  # error of spike counts beyond which it is another network
_PROBED = 4  # samples of random spikes that a network is tried on
_DESCRIBED = 64  # samples of inputs as the model describes them, that it is calibrated on


@dataclass(frozen=True)
class Options:
    """The options of the Xylo targets.

    Attributes:
        calibrate: recorded input by name, (T, B, *shape) of 0 to 15 events; None takes documented defaults.
        choose_dt: a time step in seconds that the chip shall run at, True for the one that suits its decays best, or
            False to keep the network's.
    """

    calibrate: Mapping[str, Array] | None = None
    choose_dt: bool | float = False

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Options:
        """Options as `compile` and the command line give them.

        Raises:
            UsageError: an option that does not exist, or a value that it cannot have.
        """
        unknown = set(options) - {"calibrate", "choose_dt", "allow"}
        if unknown:
            asked = ", ".join(sorted(unknown)) + did_you_mean(sorted(unknown), ["choose_dt"])
            raise UsageError(f"Xylo has no option {asked}; its options: calibrate, choose_dt, allow")
        return cls(options.get("calibrate"), _step_option(options.get("choose_dt", False)))


def _step_option(value: Any) -> bool | float:
    spelt = {"true": True, "false": False}.get(str(value).lower())
    if spelt is not None:
        return spelt
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise UsageError(f"choose_dt is {value!r}, expected true, false or seconds") from None
    if not seconds > 0:
        raise UsageError(f"choose_dt is {value!r}, expected a positive time in seconds")
    return seconds


def build(chip: Chip, graph: Graph, options: Options) -> XyloArtifact:
    """The artifact of a graph that keeps the chip's rules.

    Raises:
        CompileError: recorded input that the chip cannot take, or a time step that the network cannot be moved to.
        UsageError: a `choose_dt` out of range.
    """
    layout = plan(graph, chip)
    own_dt = graph.semantics.dt
    assert own_dt is not None  # a rule of the target
    found = ideals(layout)
    recorded = _recorded(graph, options)
    ratio, best = _time(layout, graph, found, options, own_dt)
    shown = kept(layout, recorded if recorded is not None else stimuli(graph, batch=_PROBED))
    lessons = teach(graph, layout, found, shown)
    if ratio != 1.0:
        found = {n: retimed(i, ratio, graph.semantics.decay) for n, i in found.items()}
        lessons = {n: retimed_lesson(lesson, ratio) for n, lesson in lessons.items()}
    reach = {n: assumed_peaks(i) if recorded is None else lessons[n].peaks()[1] for n, i in found.items()}
    found = {n: lifted(i, reach[n]) for n, i in found.items()}
    events = as_events(layout, {n: rebinned(x, ratio) for n, x in shown.items()}, clip=ratio != 1.0)
    if recorded is not None and all(trained_as_integers(ideal) for ideal in found.values()):
        candidates = [_as_trained(layout, found, lessons, events, own_dt * ratio)]
    else:
        candidates = _candidates(layout, found, lessons if recorded is not None else None, own_dt * ratio)
    judged = [_judge(layout, c, lessons, events) for c in candidates]
    chosen = min(range(len(candidates)), key=lambda k: judged[k]["count_error"])
    if recorded is not None and not allowed(graph, "approximate"):
        _agreeing(judged[chosen], sorted(found, key=layout.lags.__getitem__))
    report = describe(
        graph,
        layout,
        candidates[chosen].cells,
        candidates[chosen].spec,
        measured={
            "on": "recorded input"
            if options.calibrate is not None
            else f"random spikes, {RATE:g} per channel and step"
            if recorded is None
            else "event counts as the model describes them",
            "steps": int(events.shape[0]),
            "batch": int(events.shape[1]),
            "chosen": candidates[chosen].name,
            "candidates": [{"name": c.name, **j} for c, j in zip(candidates, judged, strict=True)],
            "tried": candidates[-1].tried,
        },
        time={"dt": own_dt * ratio, "network_dt": own_dt, "best_dt": own_dt * best},
    )
    return XyloArtifact(graph, layout, candidates[chosen].spec, report, candidates[chosen].cells)


# -- candidates --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Candidate:
    name: str
    cells: Mapping[str, Cells]
    spec: XyloSpec
    tried: Mapping[str, Any]


def _candidates(
    layout: Plan, found: Mapping[str, Ideal], lessons: Mapping[str, Lesson] | None, dt: float
) -> list[_Candidate]:
    if lessons is None:
        limits = {n: scale_limit(i, assumed_peaks(i)) for n, i in found.items()}
        shifts = best_shifts(found, limits, _RELAYS_APART if layout.relays else MAX_SHIFT)
        return [_plain(layout, found, limits, shifts, dt)]
    choice = choose_shifts(found, lessons, _RELAYS_APART if layout.relays else MAX_SHIFT)
    cells, methods = {}, {}
    for name, ideal in choice.ideals.items():
        cells[name], methods[name] = calibrate(ideal, choice.shifts, choice.limits[name], lessons[name])
    steps = {"shifts": [dict(t) for t in choice.tried], "deviation_by_method": methods}
    fitted = _Candidate("calibrated", cells, assemble(layout, cells, choice.shifts, dt), steps)
    return [_plain(layout, choice.ideals, choice.limits, choice.shifts, dt), fitted]


def _as_trained(
    layout: Plan, found: Mapping[str, Ideal], lessons: Mapping[str, Lesson], events: Array, dt: float
) -> _Candidate:
    """The integers that a network was trained with, at the shifts that suit the whole network best.

    Judged in the bit-exact simulator, one matrix after the other: higher shifts keep states clear of the decay's
    rounding, until currents saturate within a step.
    """
    limits = {n: scale_limit(i, Peaks(np.zeros(i.size), np.zeros(i.size))) for n, i in found.items()}
    best, errors = Shifts(), dict[Shifts, float]()
    for name in ("into", "rec", "out"):
        for shift in range(MAX_SHIFT + 1):
            shifts = replace(best, **{name: shift})
            if layout.relays and abs(shifts.into - shifts.rec) > _RELAYS_APART:
                continue
            candidate = _plain(layout, found, limits, shifts, dt)
            errors[shifts] = _judge(layout, candidate, lessons, events)["count_error"]
        best = min(errors, key=errors.__getitem__)
    tried = [{"into": s.into, "rec": s.rec, "out": s.out, "count_error": e} for s, e in errors.items()]
    return replace(_plain(layout, found, limits, best, dt), name="as trained", tried={"shifts": tried})


def _plain(
    layout: Plan, found: Mapping[str, Ideal], limits: Mapping[str, Array], shifts: Shifts, dt: float
) -> _Candidate:
    cells = {n: quantise(i, shifts, limits[n]) for n, i in found.items()}
    return _Candidate("plain", cells, assemble(layout, cells, shifts, dt), {})


def _judge(layout: Plan, candidate: _Candidate, lessons: Mapping[str, Lesson], events: Array) -> dict[str, Any]:
    """The whole network in the bit-exact simulator against the source: errors of spike counts, and what to watch."""
    run = simulate(candidate.spec, events, record=True)
    assert run.spikes_hidden is not None and run.v_hidden is not None and run.i_hidden is not None  # noqa: PT018
    errors: dict[str, float] = {}
    spikes: dict[str, dict[str, int]] = {}
    several = 0
    for name, lesson in lessons.items():
        lag = layout.lags[name]
        if name in layout.outputs:
            first = layout.outputs[name]
            got = run.spikes[:, :, first : first + lesson.wanted.shape[2]]
        else:
            ids = layout.block_of[name].ids
            got = run.spikes_hidden[:, :, ids]
            several += int((got > 1).sum())
            if layout.relayed and lesson.wanted.max(initial=0.0) > 1:  # output neurons repeat one spike per step
                got = np.where(np.isin(ids, layout.tapped), np.minimum(got, 1), got)
        got, wanted = got[lag:], lesson.wanted[: len(lesson.wanted) - lag]
        errors[name] = count_error(got, wanted)
        spikes[name] = {"chip": int(got.sum(dtype=np.int64)), "network": int(wanted.sum())}
    full = [np.abs(x.astype(np.int32)) >= 32767 for x in (run.v_hidden, run.i_hidden)]
    return {
        "count_error": round(float(np.mean(list(errors.values()))), 6),
        "count_error_by_population": {n: round(e, 6) for n, e in errors.items()},
        "spikes_by_population": spikes,
        "neuron_steps_with_several_spikes": several,
        "saturated_states": int(sum(x.sum() for x in full)),
    }


def count_error(got: Array, wanted: Array) -> float:
    """Summed absolute difference of spike counts per sample and neuron, over summed counts; time first."""
    counts, target = got.sum(axis=0, dtype=np.int64), wanted.sum(axis=0)
    return float(np.abs(counts - target).sum() / max(target.sum(), 1.0))


def _agreeing(judged: Mapping[str, Any], order: Sequence[str]) -> None:
    """Raises when the chip would run another network than the source, on the recorded input.

    Named is the first population, in running `order`, that is off by too much: what comes behind it gets its spikes.
    """
    if judged["count_error"] <= _WRONG:
        return
    apart = judged["count_error_by_population"]
    several, full = judged["neuron_steps_with_several_spikes"], judged["saturated_states"]
    causes = [f"neurons spiked several times in a step ({several} times)"] if several else []
    causes += [f"states ran into the ends of 16 bits ({full} times)"] if full else []
    first = next(name for name in order if apart[name] > _WRONG)
    spikes = judged["spikes_by_population"][first]
    what = f"spike counts differ by {100 * judged['count_error']:.3g} % on the recorded input (here the network spikes "
    what += f"{spikes['network']} times in all, the chip {spikes['chip']})"
    fault = Violation(
        "xylo-mismatch",
        what + (": " + ", ".join(causes) if causes else ""),
        where=first,
        expected=f"at most {100 * _WRONG:.0f} %",
        hint="raise thresholds or lower weights so that a neuron spikes once per step, or allow 'approximate'",
    )
    raise CompileError([fault], title="the network cannot be converted faithfully")


# -- input and time ----------------------------------------------------------------------------------------------------


def _sound(recorded: Mapping[str, Array]) -> Mapping[str, Array]:
    faults: list[Violation] = []
    for name, x in recorded.items():
        wrong = (x < 0) | (x > 15) | (x != np.rint(x))
        if wrong.any():
            worst = float(np.asarray(x)[wrong][0])
            what = f"recorded input holds {worst:.6g} ({int(wrong.sum())} values do not fit)"
            hint = "encode the input as spikes or counts before the network"
            faults.append(
                Violation("xylo-input-counts", what, name, expected="whole numbers of events, 0 to 15", hint=hint)
            )
    if faults:
        raise CompileError(faults, title="the recorded input does not fit the chip")
    return recorded


def _recorded(graph: Graph, options: Options) -> Mapping[str, Array] | None:
    """Recorded input, or what the model says that its inputs look like; None where it does not."""
    if options.calibrate is not None:
        return _sound(options.calibrate)
    return _sound(stimuli(graph, batch=_DESCRIBED)) if described(graph) else None


def _time(
    layout: Plan, graph: Graph, found: Mapping[str, Ideal], options: Options, own_dt: float
) -> tuple[float, float]:
    """Ratio of the chip's time step to the network's, and the one that would suit best."""
    best = best_ratio(found, graph.semantics.decay)
    if options.choose_dt is False:
        return 1.0, best
    ratio = best if options.choose_dt is True else float(options.choose_dt) / own_dt
    if not RANGE[0] <= ratio <= RANGE[1]:
        low, high = (r * own_dt for r in RANGE)
        raise UsageError(f"choose_dt is {options.choose_dt:g} s; this network can be moved to {low:g}..{high:g} s")
    delays = [n for n, op in graph.ops.items() if isinstance(op, Delay)]
    if delays and ratio != 1.0:
        what = "a Delay counts steps of the network's own dt, and choose_dt would change them"
        fault = Violation("xylo-choose-dt", what, ", ".join(delays), hint="leave choose_dt out")
        raise CompileError([fault], title="the time step cannot be changed")
    return ratio, best
