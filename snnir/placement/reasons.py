"""Why ops stay off the chip, while a placement is looked for; and why each is where it is, once one is found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from snnir.errors import Violation
from snnir.graph import Graph
from snnir.ops import Neuron, Threshold
from snnir.placement.crossing import SPIKE_ONCE, computing, losing, twice
from snnir.placement.fitting import ports_of
from snnir.placement.mincut import may_enter
from snnir.placement.opening import BETWEEN, Loops, shared
from snnir.placement.types import Encode, Loop, Part, Place, Side
from snnir.schedule import Group
from snnir.target import Target


@dataclass
class Reasons:
    """What cannot be on the chip, and why.

    Attributes:
        graph: the network. target: the chip. forced: op -> side, as the user says. most: of every op's value, see
            `bounds`.
        barred: op -> why it is not on the chip, in words. because: the violation behind that, where there is one.
        tied: op -> what it has to be on one side with, and why.
        crowded: neurons -> how often they spike more than once in a step of recorded input, where that is not to change
            what a host computes.
    """

    graph: Graph
    target: Target
    forced: Mapping[str, str]
    most: Mapping[str, int | None]
    barred: dict[str, str] = field(default_factory=dict)
    because: dict[str, Violation] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    crowded: Mapping[str, int] = field(default_factory=dict)

    def bar(self, names: Sequence[str], reasons: Sequence[Violation], before: str = "", after: str = "") -> None:
        """Keeps ops off the chip, by the first of `reasons`; nothing where there are none.

        `before`, `after`: what stands around it.
        """
        if not reasons:
            return
        first, more = reasons[0], f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        for name in names:
            said = first.where in ("", name, *self.graph.sources(name)) or first.where in first.what
            about = "" if said or "," in first.where else f"{first.where}: "
            self.barred.setdefault(name, f"{before}{about}{first.what}{after} [{first.rule}]{more}")
            self.because.setdefault(name, first)

    def follow(self, names: Collection[str], loops: Loops) -> None:
        """The loops of ops that may just have been barred: on both sides, if values wait in them, or on the host."""
        for group in loops.cycles:
            if not any(name in names for name in group.ops):
                continue
            if group.ops[0] not in loops.closed:
                loops.consider(group, self.barred)
            if group.ops[0] in loops.open:
                self.wait(group, loops)
            else:
                self.bar_loop(group, loops)

    def keep_spikes(self, steps: Sequence[Part | Encode | Loop], loops: Loops) -> bool:
        """Keeps off the chip what spikes more than once in a step there for another of its parts; whether any does."""
        lost = losing(self.graph, steps, self.crowded, self.barred)
        found = {name: fault for name, fault in lost.items() if self.forced.get(name) != "chip"}
        for name, fault in found.items():
            self.bar([name], [fault])
        self.follow(found, loops)
        return bool(found)

    def tie(self, name: str, reader: str, loops: Loops) -> None:
        """What feeds a loop from outside in a way that asks for one part."""
        what = (
            f"{name}, which feeds its loop, has to be on the same side: the loop's values before the first step follow"
        )
        for member in next((group.ops for group in loops.cycles if reader in group.ops), (reader,)):
            self.tied.setdefault(member, f"{what} from it")

    def wait(self, group: Group, loops: Loops) -> None:
        """The Delays of an open loop are the script's."""
        for name in group.ops:
            if name in loops.waiting:
                self.barred.setdefault(name, BETWEEN)

    def bar_loop(self, group: Group, loops: Loops) -> None:
        """A loop that is not open: where something of it is off the chip, all is."""
        why = next((name for name in group.ops if self.barred.get(name, BETWEEN) != BETWEEN), None)
        for name in group.ops:
            if self.barred.get(name) == BETWEEN:
                del self.barred[name]
            if why is not None:
                closed = loops.closed.get(name)
                more = f" (the loop cannot lie on both sides: {closed})" if closed else ""
                self.barred.setdefault(name, f"in a loop with {why}: {self.barred[why]}{more}")

    def places(self, sides: Mapping[str, Side], loops: Loops) -> dict[str, Place]:
        """Every op's side, and why."""
        between = {n for group in shared(self.graph, sides) for n in group.ops if n in loops.waiting}
        return {
            name: Place("driver", BETWEEN) if name in between else self._place(name, sides) for name in self.graph.ops
        }

    def _place(self, name: str, sides: Mapping[str, Side]) -> Place:
        side = sides.get(name, "host")
        if name in sides and side == self.forced.get(name):
            return Place(side, "as you say")
        if name in self.barred:
            return Place(side, self.barred[name])
        if name not in sides:
            return Place("host", "no output needs it: left out")
        if side == "chip":
            neuron = isinstance(self.graph[name], (Neuron, Threshold))
            return Place(side, "neurons that the chip has" if neuron else "weights in front of neurons on the chip")
        return Place(side, self.why_host(name, sides))

    def why_host(self, name: str, sides: Mapping[str, Side]) -> str:
        """Why an op is on the host that might be on the chip."""
        ports = ports_of(self.target)
        refused = self._refused(name, sides)
        if refused:
            return f"reads real numbers of {refused[0]}; the chip takes {ports.says}"
        if not isinstance(self.graph[name], (Neuron, Threshold)):
            there = (e.target for e in self.graph.outgoing[name] if sides.get(e.target, "chip") != "chip")
            reader = next(there, None)
            if reader is not None:
                what = "membranes and spikes" if ports.membranes else "spikes"
                return f"{reader}, which is not on the chip, reads it: only {what} come off the chip"
        reader = computing(self.graph, name, [n for n, side in sides.items() if side == "chip"])
        if name in self.crowded and reader:
            return f"{twice(self.crowded[name])}; {reader}, which is not on the chip, needs all, and one leaves it"
        return self.tied.get(name, "fewer bits cross like this")

    def _refused(self, name: str, sides: Mapping[str, Side]) -> list[str]:
        """The values that would have to go into the chip with this op, and cannot."""
        ports = ports_of(self.target)
        found: list[str] = []
        pending = [name]
        for op in pending:  # grows while it is walked
            for before in dict.fromkeys(e.source for e in self.graph.incoming[op]):
                if sides.get(before) == "chip" or before in pending or before not in sides:
                    continue
                if may_enter(self.most[before], ports):
                    continue
                if before in self.barred:
                    found.append(before)
                else:
                    pending.append(before)
        return found

    def nothing(self, sides: Mapping[str, Side]) -> list[Violation]:
        """Why no population is on the chip, each."""
        faults: list[Violation] = []
        for name, op in self.graph.ops.items():
            if isinstance(op, (Neuron, Threshold)):
                asked = "as you say" if name in self.forced else ""
                why = self.barred.get(name) or asked or self.why_host(name, sides)
                faults.append(self.fault("placement-nothing", f"stays on the host: {why}", name))
        if not faults:
            faults.append(Violation("placement-nothing", "the network has no neurons", expected="neurons for the chip"))
        return faults

    def cannot(self) -> list[Violation]:
        """What the user sends to the chip and cannot be there."""
        return [
            self.fault("placement-chip", f"cannot run on {self.target.name}: {self.barred[name]}", name)
            for name, side in self.forced.items()
            if side == "chip" and name in self.barred
        ]

    def fault(self, rule: str, what: str, name: str) -> Violation:
        """A violation about an op, with what is known to help."""
        op, because = self.graph[name], self.because.get(name)
        expected, hint = (because.expected, because.hint) if because else ("", "")
        if name in self.crowded and because is None and not (name in self.barred or name in self.forced):
            expected, hint = "one spike per step: more do not leave a chip", SPIKE_ONCE
        elif rule == "placement-nothing" and name in self.forced:
            hint = hint or "let it go on the chip: leave its --place away"
        elif rule == "placement-nothing" and because is None and name not in (self.barred | self.tied):
            expected = ports_of(self.target).says
            hint = "choose lava, which takes graded spikes, or put neurons before it"
        return Violation(rule, what, ", ".join(self.graph.sources(name)), str(op.loc or ""), expected, hint)
