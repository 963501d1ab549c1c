"""Translation validation: after each pass, run what was there before and what is there now, and compare.

`check_step` is a hook for `snnir.pipeline.run_pipeline` (on the command line `--verify-passes`). It holds a pass to
what it `keeps`: 'exact' outputs equal up to rounding and the same spikes wherever an op that spikes kept its name;
'spikes' the same spikes at the outputs; 'approximate' graphs that run and give outputs of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.ops import Array, Delay, Op, TemporalMean
from snnir.passes.common import size
from snnir.pipeline import Log, Step

TOLERANCE = 1e-5
STEPS = (1, 4, 11)


@dataclass(frozen=True)
class Evidence:
    """What was compared.

    Attributes:
        runs: how many inputs.
        error: largest difference of an output, relative to its largest value.
        spikes: how many spikes were compared, over all named ops.
        ties: whether spikes differed only because rounding decided a tie (see `check_step`).
    """

    runs: int
    error: float
    spikes: int
    ties: bool = False


def check_step(
    step: Step, inputs: Mapping[str, Array] | None = None, seed: int = 0, tolerance: float = TOLERANCE
) -> Evidence:
    """Holds the pass of `step` to what it keeps, on spikes, on numbers and on recorded input, for several lengths.

    Args:
        step: one pass, with the graphs before and after.
        inputs: recorded input by name, (T, B, *shape); used beside random input.
        seed: of the random input.
        tolerance: relative to the largest value of an output.

    Rounding may decide a tie (a membrane exactly at its threshold, or a float32 weight that a pass rounds anew) the
    other way. So before spikes that differ count as a fault, the pass runs again on the graph in float64 with all
    thresholds moved by a millionth, where no tie is left: there its algebra must hold, and its result must be the
    graph after the pass, up to rounding.

    Raises:
        CompileError: the pass does not keep it; the violation names the pass, the output, the step and the values.
    """
    before, after = _runnable(step.before), _runnable(step.after)
    if step.before is step.after:
        return Evidence(0, 0.0, 0)
    comparison = _Comparison(step, tolerance)
    for name, x in _inputs(step, inputs, seed):
        comparison.run(before, after, x, name)
        if comparison.faults:
            break
    if not comparison.faults:
        return comparison.evidence
    again = _off_ties(step) if comparison.may_be_tie else None
    if again is None:
        raise CompileError(comparison.faults, title=f"the pass {step.pass_} does not keep what it promises")
    second = _Comparison(again, tolerance)
    for name, x in _inputs(step, inputs, seed):
        second.run(_runnable(again.before), _runnable(again.after), x, name)
        if second.faults:
            raise CompileError(second.faults, title=f"the pass {step.pass_} does not keep what it promises")
    return replace(second.evidence, ties=True)


class _Comparison:
    """Runs of two graphs on the same inputs, and the first difference of each output or op."""

    def __init__(self, step: Step, tolerance: float) -> None:
        self.step, self.tolerance = step, tolerance
        self.faults: list[Violation] = []
        self.evidence = Evidence(0, 0.0, 0)
        self.may_be_tie = any(op.spiking for op in step.before.ops.values())

    def run(self, before: Graph, after: Graph, x: Mapping[str, Array], what: str) -> None:
        """Compares on one input."""
        late = after.metadata.get("latency", {})
        had = before.metadata.get("latency", {})
        shift = {name: late.get(name, 0) - had.get(name, 0) for name in {*late, *had}}
        longest = max(0, *shift.values()) if shift else 0
        extended = {n: np.concatenate([v, np.zeros((longest, *v.shape[1:]))]) if longest else v for n, v in x.items()}
        names = self._names(before, after)
        want, spikes_before = self.step.pass_.reference(before, x, names)
        got, spikes_after = _results(after, extended, names)
        for name, value in want.items():
            self._output(name, value, got.get(name), shift.get(name, 0), what)
        for name in spikes_before:
            self._spikes(name, spikes_before[name], spikes_after[name], shift.get(name, 0), what)
        spikes = sum(int(v.astype(bool).sum()) for v in spikes_before.values())
        self.evidence = replace(self.evidence, runs=self.evidence.runs + 1, spikes=self.evidence.spikes + spikes)

    def _names(self, before: Graph, after: Graph) -> list[str]:
        if self.step.pass_.keeps != "exact":
            return []
        return [n for n, op in after.ops.items() if op.spiking and (n not in before or before[n].spiking)]

    def _output(self, name: str, want: Array, got: Array | None, shift: int, what: str) -> None:
        keeps = self.step.pass_.keeps
        if got is None:
            self._fault(name, "the output is gone")
            return
        got = got[shift : shift + want.shape[0]]
        if got.shape != want.shape:
            self._fault(name, f"shape {list(got.shape)} instead of {list(want.shape)} (on {what})")
            return
        if keeps == "approximate":
            return
        if keeps == "spikes":
            self._first(name, want, got, (want != 0) != (got != 0), what)
            return
        scale = float(np.abs(want).max(initial=0.0)) or 1.0
        off = np.abs(got - want)
        error = float(off.max(initial=0.0)) / scale
        self.evidence = replace(self.evidence, error=max(self.evidence.error, error))
        self._first(name, want, got, ~(off <= self.tolerance * scale), what)

    def _spikes(self, name: str, want: Array, got: Array, shift: int, what: str) -> None:
        steps = want.shape[0]
        flat_got = got[shift : shift + steps]
        if flat_got.size != want.size:
            self._fault(name, f"sends {list(got.shape[2:])} instead of {list(want.shape[2:])}")
            return
        flat_got = flat_got.reshape(want.shape)
        self._first(name, want, flat_got, want != flat_got, what)

    def _first(self, name: str, want: Array, got: Array, differs: Array, what: str) -> None:
        if not differs.any():
            return
        at = tuple(int(i) for i in np.argwhere(differs)[0])
        n = int(differs.sum())
        where = f"step {at[0]}, batch element {at[1]}, index {list(at[2:])}"
        more = f"; {n} of {differs.size} values differ"
        self._fault(name, f"{got[at]:.6g} instead of {want[at]:.6g} at {where} (on {what}){more}")

    def _fault(self, name: str, what: str) -> None:
        pass_ = self.step.pass_
        op = self.step.before.ops.get(name)
        self.faults.append(
            Violation(
                "pass-changed-meaning",
                f"after {pass_} it gives {what}" if what[0].isdigit() or what[0] == "-" else f"after {pass_}: {what}",
                where=name,
                loc=str((op.loc if op else None) or ""),
                expected=f"{pass_.name} keeps {pass_.keeps}",
                hint="a bug of the pass: leave it out, and report it with this graph",
            )
        )


def _results(graph: Graph, x: Mapping[str, Array], names: list[str]) -> tuple[dict[str, Array], dict[str, Array]]:
    values, recorded = interpret(graph, x, record=names, dtype=np.float64)
    return (values if isinstance(values, dict) else {graph.outputs[0]: values}), recorded


def _runnable(graph: Graph) -> Graph:
    """The graph with a time step and a float semantics, where nobody has said them."""
    semantics = graph.semantics
    if semantics.decay == "shift":
        semantics = semantics.with_(decay="euler")
    if semantics.dt is None:
        semantics = semantics.with_(dt=_likely_dt(graph))
    return graph if semantics is graph.semantics else replace(graph, semantics=semantics)


def _likely_dt(graph: Graph) -> float:
    """A step that every delay is a multiple of, if they have one; else a fifth of the shortest time constant."""
    delays = [d for op in graph.ops.values() if isinstance(op, Delay) for d in np.unique(op.delay) if d > 0]
    if delays:
        return float(min(delays))
    taus = [float(v.min()) for key, v in graph.weights().items() if key.rpartition(".")[2].startswith("tau")]
    return min(taus) / 5 if taus else 1e-3


def _inputs(step: Step, recorded: Mapping[str, Array] | None, seed: int) -> Iterator[tuple[str, dict[str, Array]]]:
    """Named inputs of the graph after: numbers and spikes for several lengths, then what was recorded."""
    rng = np.random.default_rng(seed)
    graph, horizon = step.after, step.pass_.horizon(step.before)
    unit = lcm(*(op.steps for op in graph.ops.values() if isinstance(op, TemporalMean)))
    level = _level(graph)
    large = sum(size(shape) for shape in graph.shapes.values()) > 1 << 18
    lengths = [n for n in STEPS if horizon is None or n * unit <= horizon] or STEPS[:1]
    for steps in lengths[:2] if large else lengths:
        shape = {n: (steps * unit, 1 if large else 2, *graph.shapes[n]) for n in graph.inputs}
        yield f"random numbers, {steps * unit} steps", {n: rng.normal(0.0, level, s) for n, s in shape.items()}
        yield f"random spikes, {steps * unit} steps", {n: (rng.random(s) < 0.4) * 1.0 for n, s in shape.items()}
    if recorded and all(n in recorded and np.shape(recorded[n])[2:] == graph.shapes[n] for n in graph.inputs):
        yield "recorded input", {n: np.asarray(recorded[n])[: min(64, horizon or 64), :4] for n in graph.inputs}


def _level(graph: Graph) -> float:
    """A size of input at which neurons are likely to spike."""
    levels = [float(np.median(np.abs(v))) for key, v in graph.weights().items() if key.endswith(".v_threshold")]
    return 2.0 * max(1.0, float(np.median(levels))) if levels else 1.0


def _off_ties(step: Step) -> Step | None:
    """The same pass on the same graph in float64, thresholds moved; None when the step's result is not that one's."""
    before = replace(step.before, ops={name: _moved(op) for name, op in step.before.ops.items()})
    after = step.pass_.run(before, Log(step.pass_.name))
    ours, theirs = step.after.weights(), after.weights()
    if _frame(after) != _frame(step.after) or set(ours) != set(theirs):
        return None
    for key, value in ours.items():
        scale = float(np.abs(theirs[key]).max(initial=0.0))
        if value.shape != theirs[key].shape or not np.allclose(value, theirs[key], rtol=1e-5, atol=1e-5 * scale):
            return None
    return replace(step, before=before, after=after)


def _frame(graph: Graph) -> Any:
    """All of a graph but its arrays."""
    ops = {
        name: (op.kind, {k: v for k, v in op.parameters().items() if k not in op.arrays})
        for name, op in graph.ops.items()
    }
    return ops, set(graph.edges), graph.semantics, graph.metadata.get("latency")


def _moved(op: Op) -> Op:
    arrays = {name: getattr(op, name) for name in op.arrays if getattr(op, name) is not None}
    changes = {name: value.astype(np.float64) for name, value in arrays.items()}
    for name in ("v_threshold", "threshold"):
        if name in changes:
            changes[name] = changes[name] * (1.0 + 1e-6)
    return op.with_(**changes)
