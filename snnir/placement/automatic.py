"""`partition`: finds what of a network a chip can run, and what has to stay on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

from snnir.errors import CompileError, UsageError, Violation
from snnir.graph import Graph
from snnir.ops import Array, Input, Neuron, Output, Repeat, TemporalMean, Threshold
from snnir.placement.crossing import crossings_of, faults_of
from snnir.placement.examples import example
from snnir.placement.fitting import factor, lags_of, of_room, violations_of
from snnir.placement.kinds import bounds, free_ops
from snnir.placement.loop_time import short_loops
from snnir.placement.mincut import may_enter, on_chip
from snnir.placement.opening import BETWEEN, Loops, shared
from snnir.placement.overrides import forced
from snnir.placement.parts import Step, cut, part_of, sides_of
from snnir.placement.types import Loop, Part, Place, Placement, Side, parts_of
from snnir.schedule import Group, schedule
from snnir.target import Backend

HOSTS = ("torch", "onnx")
_TRIALS = 60  # of smaller networks, where one does not fit


def partition(
    source: Any,
    target: str,
    host: str = "onnx",
    *,
    place: Mapping[str, Side] | None = None,
    calibrate: Any = None,
    allow: Sequence[str] = (),
    dt: float | None = None,
    **options: Any,
) -> Placement:
    """Cuts a network into parts for a chip and parts for a host.

    As many neurons as possible go on the chip, then what crosses is made small (minimum cut, bits per step); values
    that the chip's ports cannot take never cross. Every part on the chip is one artifact of the target, and keeps its
    rules; loops stay on one side.

    Args:
        source: a graph, or anything that `snnir.load` takes.
        target: a chip: lava, or one of the Xylo family.
        host: 'torch' or 'onnx'.
        place: op name, or a pattern like 'blocks.0.*' -> 'chip' or 'host', whatever the cut would prefer.
        calibrate: recorded input, (T, B, *shape) or a dict by input name: says what inputs hold.
        allow: 'approximate' lets the chip run what it cannot run exactly.
        dt: the time step in seconds, as for `load`.
        options: the target's own.

    Raises:
        CompileError: nothing can go on the chip; what is forced there cannot run there, or would need values that
            cannot cross; a place that names no op, or contradicts another; with every reason.
        UsageError: a target that is no chip, an unknown host.
    """
    from snnir.compiler import load
    from snnir.interpreter import as_inputs
    from snnir.registry import backend

    chip = backend(target)
    if chip.target.ports is None:
        raise UsageError(f"{target} is no chip that a host can share a network with; there are lava and xylo-...")
    if host not in HOSTS:
        raise UsageError(f"host is {host!r}, expected one of {', '.join(HOSTS)}")
    graph = load(source, dt=dt)
    shown = as_inputs(graph, calibrate) if calibrate is not None else example(graph)
    search = _Search(graph, chip, host, forced(graph, place or {}), shown, tuple(allow), options)
    return search.run()


def _chips(steps: Sequence[Step]) -> list[Part]:
    return [part for part in parts_of(steps) if part.side == "chip"]


@dataclass
class _Search:
    graph: Graph
    chip: Backend
    host: str
    forced: dict[str, str]
    shown: Mapping[str, Array]
    allow: tuple[str, ...]
    options: Mapping[str, Any]
    barred: dict[str, str] = field(default_factory=dict)
    misfits: list[dict[str, Any]] = field(default_factory=list)
    because: dict[str, Violation] = field(default_factory=dict)
    loops: Loops = field(init=False)

    def __post_init__(self) -> None:
        self.loops = Loops(self.graph, self.forced)

    @cached_property
    def most(self) -> dict[str, int | None]:
        return bounds(self.graph, self.shown)

    @property
    def ports(self) -> Any:
        return self.chip.target.ports

    def run(self) -> Placement:
        self._bar_by_kind()
        self._bar_by_meaning()
        faults = [
            self._fault("placement-chip", f"cannot run on {self.chip.target.name}: {self.barred[name]}", name)
            for name, side in self.forced.items()
            if side == "chip" and name in self.barred
        ]
        if faults:
            raise CompileError(faults, title="what is to be on the chip cannot run there")
        for _ in range(2 * len(self.graph) + 1):
            try:
                sides, steps = self._cut(frozenset())
                parts = _chips(steps)
                self._require_ports(steps)
                tight = next(((p, v) for p in parts if (v := self._violations(p))), None)
                if tight is None:
                    self._require_time(steps)
                    break
            except CompileError as error:
                # A loop that was to lie on both sides only because it might: it stays on one.
                if not self._closed(error):
                    raise
                continue
            self._shrink(*tight)
        if not parts:
            raise CompileError(self._nothing(sides), title="nothing of the network can go on the chip")
        placement = Placement(
            self.graph,
            self.chip.target.name,
            self.host,
            self._places(sides),
            steps,
            crossings_of(self.graph, steps, self.most),
            tuple(self.misfits),
        )
        return placement

    # -- what cannot be on the chip ----------------------------------------------------------------------------

    def _bar_by_kind(self) -> None:
        free = free_ops(self.graph)
        for name, op in self.graph.ops.items():
            if isinstance(op, Input):
                self.barred[name] = "where the host puts values in"
            elif isinstance(op, Output):
                self.barred[name] = "where the host takes values out"
            elif isinstance(op, (Repeat, TemporalMean)):
                self.barred[name] = "changes what a step is: done between the parts"
            elif name in free:
                self.barred[name] = "no input reaches it: every part that reads it has its own copy"
            elif type(op) not in self.chip.target.ops:
                self.barred[name] = f"{op.kind} does not exist on {self.chip.target.title}"
        for group in self.loops.cycles:
            self.loops.consider(group, self.barred)
            if group.ops[0] not in self.loops.open:
                self._bar_loop(group)
        for name in self.loops.open:
            if name in self.loops.waiting:
                self.barred.setdefault(name, BETWEEN)

    def _bar_loop(self, group: Group) -> None:
        why = next((name for name in group.ops if self.barred.get(name, BETWEEN) != BETWEEN), None)
        for name in group.ops:
            if self.barred.get(name) == BETWEEN:
                del self.barred[name]
            if why is not None:
                closed = self.loops.closed.get(name)
                more = f" (the loop cannot lie on both sides: {closed})" if closed else ""
                self.barred.setdefault(name, f"in a loop with {why}: {self.barred[why]}{more}")

    def _closed(self, error: CompileError) -> bool:
        """Whether some loop need not lie on both sides; then it no longer does."""
        found = self.loops.close(error.violations[0])
        for group in found:
            self._bar_loop(group)
        return bool(found)

    def _bar_by_meaning(self) -> None:
        """Neurons whose rule the chip does not have: each is tried alone."""
        for group in schedule(self.graph).groups:
            alone = {name: self._reasons([name]) for name in group.ops} if group.ops[0] in self.loops.open else {}
            reasons = self._reasons(list(group.ops)) if not alone else []
            if reasons and self.loops.could(group):
                alone = {name: self._reasons([name]) for name in group.ops}
                self.loops.consider(group, {name for name in alone if alone[name]})
            if group.ops[0] in self.loops.open:
                for name in group.ops:
                    self._bar([name], alone[name])
                    if name in self.loops.waiting:
                        self.barred.setdefault(name, BETWEEN)
            else:
                self._bar(list(group.ops), reasons)

    def _bar(self, names: Sequence[str], reasons: Sequence[Violation]) -> None:
        if reasons:
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            for name in names:
                self.barred.setdefault(name, f"{reasons[0].what} [{reasons[0].rule}]{more}")
                self.because.setdefault(name, reasons[0])

    def _reasons(self, members: list[str]) -> list[Violation]:
        """Why the chip does not run these ops, whatever there is of room; nothing where they hold no neurons."""
        if not any(isinstance(self.graph[n], (Neuron, Threshold)) and n not in self.barred for n in members):
            return []
        sides = sides_of(self.graph, set(members))
        if not set(members) <= sides.keys():
            return []
        part = part_of(self.graph, sides, "trial", members, Fraction(1))
        return [v for v in self._violations(part) if not of_room(v)]

    def _violations(self, part: Part) -> list[Violation]:
        return violations_of(part.graph, self.chip, self.allow, self.options)

    # -- what fits ---------------------------------------------------------------------------------------------

    def _cut(self, without: frozenset[str]) -> tuple[dict[str, Side], tuple[Step, ...]]:
        able = frozenset(self.graph.ops) - self.barred.keys() - without
        chip = on_chip(self.graph, able, self.forced, self.ports, self.most, frozenset(self.loops.open))
        sides = sides_of(self.graph, chip)
        return sides, cut(self.graph, sides)

    def _require_ports(self, steps: Sequence[Step]) -> None:
        faults = list(faults_of(self.graph, steps, self.ports, self.most, self.chip.target))
        if faults:
            raise CompileError(faults, title=f"the cut does not go through {self.chip.target.title}'s ports")

    def _require_time(self, steps: Sequence[Step]) -> None:
        parts = [p for step in steps if isinstance(step, Loop) for p in step.parts if p.side == "chip"]
        lags = {p.name: lags_of(p.graph, self.chip, self.allow, self.options) for p in parts}
        faults = [fault for _, fault in short_loops(self.graph, steps, lags, self.chip.target)]
        if faults:
            raise CompileError(faults, title=f"a loop over {self.chip.target.title} and a host would change its time")

    def _shrink(self, part: Part, violations: list[Violation]) -> None:
        """Leaves on the chip the largest run of populations that fits it, in their order; the others are barred."""
        populations = [n for n in self._populations(part) if n not in self.barred]
        held = [n for n in populations if self.forced.get(n) == "chip"]
        if held:
            raise CompileError(violations, title=f"what is to be on the chip does not fit {self.chip.target.title}")
        best: tuple[str, ...] = ()
        windows = [populations[i : i + size] for size in range(len(populations) - 1, 0, -1)
                   for i in range(len(populations) - size + 1)]  # fmt: skip
        for window in sorted(windows[:_TRIALS], key=lambda names: -self._neurons(names)):
            others = frozenset(populations) - set(window)
            parts = [p for p in _chips(self._cut(others)[1]) if set(window) & set(self._populations(p))]
            if parts and not any(self._violations(p) for p in parts):
                best = tuple(window)
                break
        first = max(violations, key=lambda v: factor(v) or 0.0)
        worst = factor(first)
        self.misfits.append(
            {
                "populations": populations,
                "violations": [v.to_json() for v in violations],
                "factor": worst,
                "largest": list(best),
                "neurons": [self._neurons(best), self._neurons(populations)],
            }
        )
        much = f", {worst:.3g} times too much" if worst is not None else ""
        for name in populations:
            if name not in best:
                limit = f", {first.expected}" if first.expected else ""
                self.because[name] = first
                self.barred[name] = f"does not fit: {first.what}{limit}{much} [{first.rule}]"

    def _populations(self, part: Part) -> list[str]:
        return [n for n, op in part.graph.ops.items() if isinstance(op, (Neuron, Threshold))]

    def _neurons(self, names: Sequence[str]) -> int:
        return sum(prod(self.graph.shapes[name]) for name in names)

    # -- reasons -----------------------------------------------------------------------------------------------

    def _places(self, sides: Mapping[str, Side]) -> dict[str, Place]:
        between = {n for group in shared(self.graph, sides) for n in group.ops if n in self.loops.waiting}
        return {
            name: Place("driver", BETWEEN) if name in between else self._place(name, sides) for name in self.graph.ops
        }

    def _place(self, name: str, sides: Mapping[str, Side]) -> Place:
        side = sides.get(name, "host")
        if name in self.forced and side in ("chip", "host"):
            return Place(side, "as you say")
        if name in self.barred:
            return Place(side, self.barred[name])
        if name not in sides:
            return Place("host", "no output needs it: left out")
        if side == "chip":
            neuron = isinstance(self.graph[name], (Neuron, Threshold))
            return Place(side, "neurons that the chip has" if neuron else "weights in front of neurons on the chip")
        return Place(side, self._why_host(name, sides))

    def _why_host(self, name: str, sides: Mapping[str, Side]) -> str:
        refused = self._refused(name, sides)
        if refused:
            return f"reads real numbers of {refused[0]}; the chip takes {self.ports.says}"
        if not isinstance(self.graph[name], (Neuron, Threshold)):
            there = (e.target for e in self.graph.outgoing[name] if sides.get(e.target, "chip") != "chip")
            reader = next(there, None)
            if reader is not None:
                what = "membranes and spikes" if self.ports.membranes else "spikes"
                return f"{reader}, which is not on the chip, reads it: only {what} come off the chip"
        return "fewer bits cross like this"

    def _refused(self, name: str, sides: Mapping[str, Side]) -> list[str]:
        """The values that would have to go into the chip with this op, and cannot."""
        found: list[str] = []
        pending = [name]
        for op in pending:  # grows while it is walked
            for before in dict.fromkeys(e.source for e in self.graph.incoming[op]):
                if sides.get(before) == "chip" or before in pending or before not in sides:
                    continue
                if may_enter(self.most[before], self.ports):
                    continue
                if before in self.barred:
                    found.append(before)
                else:
                    pending.append(before)
        return found

    def _nothing(self, sides: Mapping[str, Side]) -> list[Violation]:
        faults: list[Violation] = []
        for name, op in self.graph.ops.items():
            if isinstance(op, (Neuron, Threshold)):
                asked = "as you say" if name in self.forced else ""
                why = self.barred.get(name) or asked or self._why_host(name, sides)
                faults.append(self._fault("placement-nothing", f"stays on the host: {why}", name))
        if not faults:
            faults.append(Violation("placement-nothing", "the network has no neurons", expected="neurons for the chip"))
        return faults

    def _fault(self, rule: str, what: str, name: str) -> Violation:
        op, because = self.graph[name], self.because.get(name)
        expected, hint = (because.expected, because.hint) if because else ("", "")
        if rule == "placement-nothing" and name in self.forced:
            hint = hint or "let it go on the chip: leave its --place away"
        elif rule == "placement-nothing" and because is None and name not in self.barred:
            expected, hint = self.ports.says, "choose lava, which takes graded spikes, or put neurons before it"
        return Violation(rule, what, ", ".join(self.graph.sources(name)), str(op.loc or ""), expected, hint)
