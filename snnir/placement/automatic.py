"""`partition`: finds what of a network a chip can run, and what has to stay on the host."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any

from snnir.errors import CompileError, UsageError, Violation
from snnir.graph import Graph
from snnir.ops import Input, Neuron, Output, Repeat, TemporalMean, Threshold
from snnir.placement.chips.spread import several_of
from snnir.placement.crossing import crossings_of, faults_of
from snnir.placement.examples import example
from snnir.placement.fitting import Tried, check_alone, factor, lags_of, of_room, ports_of, violations_of
from snnir.placement.integers import Integers, ops_of
from snnir.placement.kinds import bounds, free_ops
from snnir.placement.loop_time import short_loops
from snnir.placement.mincut import on_chip
from snnir.placement.opening import BETWEEN, Loops
from snnir.placement.overrides import forced
from snnir.placement.parts import Apart, Step, cut, part_of, sides_of
from snnir.placement.reasons import Reasons
from snnir.placement.several import Several, several_for
from snnir.placement.smaller import smaller
from snnir.placement.types import Loop, Part, Placement, Side, parts_of
from snnir.schedule import schedule
from snnir.target import Backend, Ports

HOSTS = ("torch", "onnx")
_ONE_BY_ONE = 8  # rounds of integers, after which a part that still breaks a rule leaves the chip whole


def partition(
    source: Any,
    target: str,
    host: str = "onnx",
    *,
    place: Mapping[str, Side] | None = None,
    chips: int | str = 1,
    calibrate: Any = None,
    allow: Sequence[str] = (),
    dt: float | None = None,
    **options: Any,
) -> Placement:
    """Cuts a network into parts for a chip and parts for a host.

    As many neurons as possible go on the chip, then what crosses is made small (minimum cut, bits per step); values
    that the chip's ports cannot take never cross. Every part on the chip is one artifact of the target, and keeps its
    rules, also those that show only as its integers are made: what breaks one of these goes to the host, and the rest
    is cut again. A loop stays on one side, unless values wait in it.

    Args:
        source: a graph, or anything that `snnir.load` takes.
        target: a chip: lava, or one of the Xylo family.
        host: 'torch' or 'onnx'.
        place: op name, or a pattern like 'blocks.0.*' -> 'chip' or 'host', whatever the cut would prefer.
        chips: how many chips there are for each part at most, or 'auto' for as many as it needs (Xylo).
        calibrate: recorded input, (T, B, *shape) or a dict by input name: says what inputs hold; integers are made
            for it. Default made-up input (`snnir.placement.examples`).
        allow: 'approximate' lets the chip run what it cannot run exactly.
        dt: the time step in seconds, as for `load`.
        options: the target's own.

    Raises:
        CompileError: nothing can go on the chip; what is forced there cannot run there, or would need values that
            cannot cross; a place that names no op, or contradicts another; with every reason.
        UsageError: a target that is no chip, an unknown host, an option that does not go with a host; a number of
            chips that is none, several of a target that knows no several.
    """
    how = {"place": place, "chips": chips, "calibrate": calibrate, "allow": allow, "dt": dt, "options": options}
    return placed(source, target, host, **how)[0]


def placed(
    source: Any,
    target: str,
    host: str,
    *,
    place: Mapping[str, Side] | None = None,
    chips: int | str = 1,
    calibrate: Any = None,
    allow: Sequence[str] = (),
    dt: float | None = None,
    options: Mapping[str, Any] | None = None,
    integers: Integers | None = None,
) -> tuple[Placement, Integers]:
    """As `partition`, with the chip's parts compiled.

    `integers`: to make them with, with input, options and all; its parts are those of the last try, if there is an
    error.
    """
    from snnir.compiler import load
    from snnir.interpreter import as_inputs
    from snnir.registry import backend

    chip = backend(target)
    check_alone(chip.target, integers.options if integers is not None else options or {})
    if host not in HOSTS:
        raise UsageError(f"host is {host!r}, expected one of {', '.join(HOSTS)}")
    graph = load(source, dt=dt)
    if integers is None:
        shown = as_inputs(graph, calibrate) if calibrate is not None else example(graph)
        integers = Integers(shown, tuple(allow), options or {}, recorded=calibrate is not None)
    several = several_for(graph, chip, chips, integers)
    return _Search(graph, chip, host, forced(graph, place or {}), integers, several).run(), integers


def _chips(steps: Sequence[Step]) -> list[Part]:
    return [part for part in parts_of(steps) if part.side == "chip"]


@dataclass
class _Search:
    graph: Graph
    chip: Backend
    host: str
    forced: dict[str, str]
    integers: Integers
    several: Several | None = None
    misfits: list[dict[str, Any]] = field(default_factory=list)
    moved: list[dict[str, Any]] = field(default_factory=list)
    together: frozenset[tuple[str, str]] = frozenset()
    tried: Tried = field(default_factory=Tried)
    loops: Loops = field(init=False)
    reasons: Reasons = field(init=False)

    def __post_init__(self) -> None:
        self.loops = Loops(self.graph, self.forced)
        most = bounds(self.graph, self.integers.shown)
        crowded = several_of(self.graph, self.integers.shown) if self.integers.strict else {}
        self.reasons = Reasons(self.graph, self.chip.target, self.forced, most, crowded=crowded)

    @property
    def barred(self) -> dict[str, str]:
        return self.reasons.barred

    @property
    def ports(self) -> Ports:
        return ports_of(self.chip.target)

    def run(self) -> Placement:
        """Every round but the last keeps an op more off the chip, so it ends."""
        self._bar_by_kind()
        self._bar_by_meaning()
        before: Mapping[str, Side] = {}
        while True:
            sides, steps = self._fitting()
            if self.moved:
                gone = [n for n in before if before[n] == "chip" and sides.get(n) != "chip"]
                self.moved[-1]["with"] = [n for n in gone if n not in self.moved[-1]["ops"]]
            if not _chips(steps):
                raise CompileError(self.reasons.nothing(sides), title="nothing of the network can go on the chip")
            placement = Placement(
                self.graph,
                self.chip.target.name,
                self.host,
                self.reasons.places(sides, self.loops),
                steps,
                crossings_of(self.graph, steps, self.reasons.most),
                tuple(self.misfits),
                tuple(self.moved),
                self.several.spreads(_chips(steps)) if self.several else {},
            )
            faults = self.integers.make(placement)
            if not faults:
                return placement
            self._move(placement, faults)
            before = sides

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
        self.reasons.follow(self.graph.ops, self.loops)

    def _answered(self, error: CompileError) -> bool:
        """Whether a cut that cannot be is answered by another one; each answer is given once."""
        if isinstance(error, Apart) and not error.pairs <= self.together:
            self.together |= error.pairs
            for name, reader in sorted(error.pairs):
                self.reasons.tie(name, reader, self.loops)
            return True
        # A loop that was to lie on both sides only because it might: it stays on one. And one that might, may.
        closed = self.loops.close(error.violations[0])
        for group in closed:
            self.reasons.bar_loop(group, self.loops)
        opened = self.loops.try_open() if not closed else []
        for group in opened:
            self.reasons.wait(group, self.loops)
        return bool(closed or opened)

    def _bar_by_meaning(self) -> None:
        """Neurons whose rule the chip does not have: each is tried alone."""
        for group in schedule(self.graph).groups:
            alone = {name: self._against([name]) for name in group.ops} if group.ops[0] in self.loops.open else {}
            reasons = self._against(list(group.ops)) if not alone else []
            if reasons and self.loops.could(group):
                alone = {name: self._against([name]) for name in group.ops}
                self.loops.consider(group, {name for name in alone if alone[name]})
                if not any(alone.values()):  # each can be there, if not all in one part
                    self.loops.open.update(group.ops)
            if group.ops[0] in self.loops.open:
                for name in group.ops:
                    self.reasons.bar([name], alone[name])
                    if name in self.loops.waiting:
                        self.barred.setdefault(name, BETWEEN)
            else:
                self.reasons.bar(group.ops, reasons)

    def _against(self, members: list[str]) -> list[Violation]:
        """Why the chip does not run these ops, whatever there is of room; nothing where they hold no neurons."""
        if not any(isinstance(self.graph[n], (Neuron, Threshold)) and n not in self.barred for n in members):
            return []
        sides = sides_of(self.graph, set(members))
        if not set(members) <= sides.keys():
            return []
        try:
            part = part_of(self.graph, sides, "trial", members, Fraction(1))
        except Apart:  # from what is beside them, which it need not be
            return []
        self.tried.keep(part)
        return [v for v in self._broken(part) if not of_room(v)]

    def _broken(self, part: Part) -> list[Violation]:
        return violations_of(part.graph, self.chip, self.integers.allow, self.integers.options)

    def _violations(self, part: Part) -> list[Violation]:
        return self.several.violations(part) if self.several else self._broken(part)

    # -- what fits ---------------------------------------------------------------------------------------------

    def _fitting(self) -> tuple[dict[str, Side], tuple[Step, ...]]:
        """The best cut whose parts keep all rules that show before there are integers."""
        while True:  # each turn opens or closes a loop, ties or bars ops
            faults = self.reasons.cannot()
            if faults:
                raise CompileError(faults, title="what is to be on the chip cannot run there")
            try:
                sides, steps = self._cut(frozenset())
                if self.reasons.keep_spikes(steps, self.loops):
                    continue
                self._require_ports(steps)
                tight = next(((p, v) for p in _chips(steps) if (v := self._violations(p))), None)
                if tight is None:
                    if self._on_one_chip(steps):
                        continue
                    self._require_time(steps)
                    return sides, steps
            except CompileError as error:
                if not self._answered(error):
                    raise
                continue
            self._shrink(*tight)

    def _cut(self, without: frozenset[str]) -> tuple[dict[str, Side], tuple[Step, ...]]:
        able = frozenset(self.graph.ops) - self.barred.keys() - without
        loose = frozenset(self.loops.open)
        pairs, most, crowded = sorted(self.together), self.reasons.most, self.reasons.crowded
        chip = on_chip(self.graph, able, self.forced, self.ports, most, loose, pairs, crowded)
        sides = sides_of(self.graph, chip)
        return sides, self.tried.known(cut(self.graph, sides))

    def _require_ports(self, steps: Sequence[Step]) -> None:
        faults = self._not_crossing(steps)
        if faults:
            raise CompileError(faults, title=f"the cut does not go through {self.chip.target.title}'s ports")

    def _not_crossing(self, steps: Sequence[Step]) -> list[Violation]:
        most, crowded = self.reasons.most, self.reasons.crowded
        return list(faults_of(self.graph, steps, self.ports, most, self.chip.target, self.barred, crowded))

    def _on_one_chip(self, steps: Sequence[Step]) -> bool:
        """Keeps to one chip what is in a loop on both sides that would take too long on several."""
        if self.several is None:
            return False
        try:
            self._require_time(steps)
        except CompileError:
            inner = [p for step in steps if isinstance(step, Loop) for p in step.parts if p.side == "chip"]
            return self.several.keep_to_one(inner)
        return False

    def _require_time(self, steps: Sequence[Step]) -> None:
        parts = [p for step in steps if isinstance(step, Loop) for p in step.parts if p.side == "chip"]
        lags = {
            p.name: self.several.lags(p)
            if self.several
            else lags_of(p.graph, self.chip, self.integers.allow, self.integers.options)
            for p in parts
        }
        faults = [fault for _, fault in short_loops(self.graph, steps, lags, self.chip.target)]
        if faults:
            raise CompileError(faults, title=f"a loop over {self.chip.target.title} and a host would change its time")

    def _shrink(self, part: Part, violations: list[Violation]) -> None:
        """Leaves on the chip the most of a part that fits it (`smaller`); the others are barred."""
        own = [n for n in _own(part) if n in self.graph.ops and n not in self.barred]
        populations = [n for n in own if isinstance(self.graph[n], (Neuron, Threshold))]
        held = [n for n in own if self.forced.get(n) == "chip"]
        others = [n for n in own if n not in populations and n not in held]
        found = smaller(populations, [n for n in populations if n in held], others, self._neurons, self._fits)
        if found is None and (held or not populations):
            asked = self._asked(held or own, [n for n in populations if n not in held], violations)
            raise CompileError(asked, title=f"what is to be on the chip does not fit {self.chip.target.title}")
        kept, aside = found or ((), ())
        first = max(violations, key=lambda v: factor(v) or 0.0)
        worst = factor(first)
        self.misfits.append(
            {
                "populations": populations,
                "violations": [v.to_json() for v in violations],
                "factor": worst,
                "largest": list(kept),
                "neurons": [self._neurons(kept), self._neurons(populations)],
                "without": list(aside),
            }
        )
        much = f", {worst:.3g} times too much" if worst is not None else ""
        limit = f", {first.expected}" if first.expected else ""
        off = [*aside, *(n for n in populations if n not in kept)]
        self.reasons.bar(off, [first], "does not fit: ", f"{limit}{much}")
        self.reasons.follow(off, self.loops)

    def _fits(self, off: frozenset[str], kept: Collection[str]) -> bool:
        return not self._breaks(off, kept)

    def _breaks(self, off: frozenset[str], kept: Collection[str]) -> list[Violation]:
        """What is wrong where some ops are off the chip, and these are to be on it, with the parts that they are in."""
        try:
            steps = self._cut(off)[1]
        except CompileError as error:
            return list(error.violations)
        faults = self._not_crossing(steps)
        parts = [p for p in _chips(steps) if set(kept) & set(_own(p))]
        missing = set(kept) - {name for part in parts for name in _own(part)}
        faults += [self.reasons.fault("placement-chip", "would not be on the chip", n) for n in kept if n in missing]
        return faults or [v for part in parts for v in self._violations(part)]

    def _asked(self, held: Sequence[str], others: Sequence[str], violations: list[Violation]) -> Iterator[Violation]:
        """Why what the user sends to the chip does not go there: with other populations beside it, and without."""
        alone = self._breaks(frozenset(others), held) if others else []
        said = [(f" with {', '.join(others)}" if others else "", v) for v in violations]
        for how, v in [*said, *((f" with {', '.join(others)} on the host", v) for v in alone)]:
            about = "" if not v.where or "," in v.where or v.where in held else f"{v.where}: "
            what = f"cannot be on the chip as you say{how}: {about}{v.what} [{v.rule}]"
            loc, hint = str(self.graph[held[0]].loc or ""), v.hint or "leave its --place away"
            yield Violation("placement-chip", what, ", ".join(held), loc, v.expected, hint)

    def _neurons(self, names: Sequence[str]) -> int:
        return sum(prod(self.graph.shapes[name]) for name in names)

    # -- what shows in integers --------------------------------------------------------------------------------

    def _move(self, placement: Placement, faults: Mapping[str, Sequence[Violation]]) -> None:
        """Keeps off the chip what a part's integers cannot be made with.

        Raises:
            CompileError: it cannot be answered by moving anything.
        """
        found: dict[str, list[Violation]] = {}
        for part in placement.chips:
            for fault in faults.get(part.name, ()):
                movable = [n for n in ops_of(fault, part, self.graph) if n not in self.barred]
                if fault.rule not in self.ports.late or not movable:
                    everything = [v for part_faults in faults.values() for v in part_faults]
                    raise CompileError(everything, title=f"a part does not go onto {self.chip.target.name}")
                if self.integers.rounds > _ONE_BY_ONE:
                    movable += [n for n in _own(part) if n in self.graph.ops and self._may_go(n) and n not in movable]
                for name in movable:
                    found.setdefault(name, []).append(fault)
        for name, reasons in found.items():
            self.reasons.bar([name], reasons, "its integers show: ")
        self.reasons.follow(found, self.loops)
        said = {v: None for reasons in found.values() for v in reasons}
        self.moved.append({"ops": list(found), "with": [], "violations": [v.to_json() for v in said]})

    def _may_go(self, name: str) -> bool:
        neuron = isinstance(self.graph[name], (Neuron, Threshold))
        return neuron and name not in self.barred and self.forced.get(name) != "chip"


def _own(part: Part) -> list[str]:
    """The ops of a part besides its ends."""
    return [name for name, op in part.graph.ops.items() if not isinstance(op, (Input, Output))]
