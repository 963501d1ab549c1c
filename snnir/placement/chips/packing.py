"""Which populations share a chip: dynamic programming over the network's layers, held to the chip's own rules.

The populations stand in an order in which none waits for a later one, loops as one. A stage is a run of them; what
others read of it, its aims, has to leave it. One chip takes a stage whole if it can. If not, aims go to chips of their
own, first fit, each with all that it needs of the stage: what two chips need is on both. An aim that has too many
neurons for a chip's outputs goes in pieces. The fewest chips win, then the fewest spikes that a cut would lose, then
the fewest channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from snnir.errors import Violation
from snnir.placement.chips.parts import Aim, Cone, Net
from snnir.placement.fitting import violations_of
from snnir.target import Backend

_PIECES = 16  # a population on more chips than that is no longer one
_ROOM = ("hidden-neurons", "connections")  # rules that a network breaks all the more as it grows

Stage = tuple["Load", ...]
Cost = tuple[int, int, int]


@dataclass(frozen=True)
class Load:
    """One chip: what it gives, and the populations that it may hold."""

    aims: tuple[Aim, ...]
    inside: frozenset[str]


@dataclass
class Packer:
    """Finds the chips of a network.

    Attributes:
        net: the network. chip: its target. allow, options: of the target.
        several: population -> how often it spikes more than once in a step. strict: no cut where that happens.
    """

    net: Net
    chip: Backend
    allow: tuple[str, ...]
    options: Mapping[str, Any]
    several: Mapping[str, int] = field(default_factory=dict)
    strict: bool = False
    _known: dict[tuple[tuple[Aim, ...], Cone], bool] = field(default_factory=dict)
    _crowded: set[tuple[tuple[Aim, ...], Cone]] = field(default_factory=set)

    @property
    def ports(self) -> Any:
        return self.chip.target.ports

    def best(self, first: int = 0) -> tuple[list[Load] | None, int]:
        """The chips in their order, from group `first` on, or None; and up to which group some chips can hold them."""
        groups = self.net.groups
        found: list[tuple[Cost, list[Load]] | None] = [((0, 0, 0), [])]
        for end in range(first + 1, len(groups) + 1):
            options: list[tuple[Cost, list[Load]]] = []
            full = False  # what one chip has no room for, it has none for together with more
            for start in range(end - 1, first - 1, -1):
                before = found[start - first]
                if before is None:
                    continue
                most = min((cost[0] - before[0][0] for cost, _ in options), default=None)
                if most is not None and most < (3 if full else 1):
                    continue
                inside = frozenset(name for group in groups[start:end] for name in group)
                aims = self.aims(inside)
                stage = self.packed(aims, inside, most)
                full = full or ((stage is None or len(stage) > 1) and self._full(aims, inside))
                if stage is not None:
                    cost = self._cost(stage)
                    total = (before[0][0] + cost[0], before[0][1] + cost[1], before[0][2] + cost[2])
                    options.append((total, [*before[1], *stage]))
            found.append(min(options, key=lambda option: option[0]) if options else None)
        last = found[-1]
        reach = max(end for end, option in enumerate(found, first) if option is not None)
        return (None if last is None else last[1]), reach

    def aims(self, inside: frozenset[str]) -> tuple[Aim, ...]:
        """What others read of these populations."""
        return tuple(Aim(name) for name in self.net.graph.ops if name in inside and self.net.readers[name] - inside)

    def packed(self, aims: Sequence[Aim], inside: frozenset[str], most: int | None = None) -> Stage | None:
        """The chips for these aims, first fit; None where there are none.

        `most`: the chips that the best other way takes; several are of use only where they are fewer.
        """
        going = [aim.name for aim in aims if self._goes_on(aim, inside)]
        if any(not self._narrow(name) or (self.strict and self.several.get(name)) for name in going):
            return None
        if self.fits(tuple(aims), inside):
            return (Load(tuple(aims), inside),)
        if most is not None and most <= 2:
            return None
        chips: list[list[Aim]] = []
        for aim in aims:
            pieces = self.alone(aim, inside)
            if pieces is None:
                return None
            for piece in pieces:
                for held in chips:
                    if self.fits((*held, piece), inside):
                        held.append(piece)
                        break
                else:
                    chips.append([piece])
        return tuple(Load(tuple(held), inside) for held in chips)

    def alone(self, aim: Aim, inside: frozenset[str]) -> tuple[Aim, ...] | None:
        """The aim, or the fewest pieces of it that a chip each can give; None where none can."""
        if self.fits((aim,), inside):
            return (aim,)
        size = self.net.size(aim.name)
        finest = Aim(aim.name, 0, -(-size // _PIECES))
        if aim.name in self.net.loops or not self.fits((finest,), inside):
            return None
        for count in range(max(2, -(-size // self.ports.outputs)), min(_PIECES, size) + 1):
            width = -(-size // count)
            pieces = tuple(Aim(aim.name, at, min(at + width, size)) for at in range(0, size, width))
            if all(self.fits((piece,), inside) for piece in pieces):
                return pieces
        return None

    def fits(self, aims: tuple[Aim, ...], inside: frozenset[str]) -> bool:
        """Whether one chip can give these aims; its sizes are looked at before its rules."""
        cone = self.net.cone(aims, inside)
        key = (aims, cone)
        if key not in self._known:
            faults = self.violations(aims, inside) if self._small(aims, cone) else []
            self._known[key] = self._small(aims, cone) and not faults
            if any(v.rule.endswith(_ROOM) for v in faults):
                self._crowded.add(key)
        return self._known[key]

    def _full(self, aims: Sequence[Aim], inside: frozenset[str]) -> bool:
        """Whether a chip has no room for these populations, whatever crosses."""
        cone = self.net.cone(tuple(aims), inside)
        neurons = sum(self.net.size(name) for name in cone.members if self.net.population(name))
        return (tuple(aims), cone) in self._crowded or neurons > self.ports.neurons

    def violations(self, aims: tuple[Aim, ...], inside: frozenset[str]) -> list[Violation]:
        """Every reason why one chip cannot give these aims."""
        return violations_of(self.net.part("trial", aims, inside).graph, self.chip, self.allow, self.options)

    def _small(self, aims: tuple[Aim, ...], cone: Cone) -> bool:
        net, ports = self.net, self.ports
        into = sum(net.size(name) for name in cone.outside)
        out = sum(net.size(aim.name) if aim.whole else aim.stop - aim.start for aim in aims)
        pieces = {aim.name for aim in aims if not aim.whole}
        neurons = sum(net.size(n) for n in cone.members if net.population(n) and n not in pieces)
        return into <= ports.inputs and out <= ports.outputs and neurons <= ports.neurons

    def _narrow(self, name: str) -> bool:
        """Whether some chip could read a population: all of it, or slices."""
        slices = (self.net.size(e.target) for e in self.net.graph.outgoing[name] if self.net.sliced(e.target))
        return min((self.net.size(name), *slices)) <= self.ports.inputs

    def _goes_on(self, aim: Aim, inside: frozenset[str]) -> bool:
        """Whether populations, and not outputs alone, read an aim."""
        return any(self.net.population(reader) for reader in self.net.readers[aim.name] - inside)

    def _cost(self, stage: Stage) -> Cost:
        lost, width = 0, 0
        for load in stage:
            lost += sum(self.several.get(a.name, 0) for a in load.aims if self._goes_on(a, load.inside))
            width += sum(self.net.size(name) for name in self.net.cone(load.aims, load.inside).outside)
        return len(stage), lost, width
