"""Colour refinement on two graphs at once (Weisfeiler and Leman 1968), and a search for an isomorphism with its help.

Ops of one colour cannot be told apart by what they are and what surrounds them within so many steps. Where ops stay
alike to the end, one pair is tied together and the colours are refined again; a wrong guess is taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from snnir.graph import Edge

Colours = dict[str, int]
Label = Callable[[Edge], Hashable]

MOST_TRIES = 2000
"""Refinements after which the search for an isomorphism gives up: only very regular graphs need more."""


@dataclass(frozen=True)
class Side:
    """The edges of one graph, by op: (label, other op)."""

    names: tuple[str, ...]
    incoming: Mapping[str, list[tuple[Hashable, str]]]
    outgoing: Mapping[str, list[tuple[Hashable, str]]]


def side(names: Iterable[str], edges: Iterable[Edge], label: Label) -> Side:
    """One graph for refinement; `label` says what tells edges apart besides their ends."""
    there = tuple(names)
    incoming: dict[str, list[tuple[Hashable, str]]] = {name: [] for name in there}
    outgoing: dict[str, list[tuple[Hashable, str]]] = {name: [] for name in there}
    for edge in edges:
        incoming[edge.target].append((label(edge), edge.source))
        outgoing[edge.source].append((label(edge), edge.target))
    return Side(there, incoming, outgoing)


class Pair:
    """Two graphs whose ops get colours from one palette."""

    def __init__(self, a: Side, b: Side) -> None:
        self.a, self.b = a, b

    def first(self, of_a: Mapping[str, Hashable], of_b: Mapping[str, Hashable]) -> tuple[Colours, Colours]:
        """Colours from what ops are."""
        palette: dict[Hashable, int] = {}
        return tuple(  # type: ignore[return-value]
            {name: palette.setdefault(keys[name], len(palette)) for name in s.names}
            for s, keys in ((self.a, of_a), (self.b, of_b))
        )

    def step(self, colours: tuple[Colours, Colours]) -> tuple[Colours, Colours]:
        """One round: an op's new colour is its old one with those around it."""
        palette: dict[Hashable, int] = {}
        made: list[Colours] = []
        for s, old in zip((self.a, self.b), colours, strict=True):
            new: Colours = {}
            for name in s.names:
                inward = tuple(sorted((repr(label), old[other]) for label, other in s.incoming[name]))
                outward = tuple(sorted((repr(label), old[other]) for label, other in s.outgoing[name]))
                new[name] = palette.setdefault((old[name], inward, outward), len(palette))
            made.append(new)
        return made[0], made[1]

    def history(self, colours: tuple[Colours, Colours], most: int = 64) -> list[tuple[Colours, Colours]]:
        """The colours after 0, 1, 2, ... rounds, until they tell no more ops apart or `most` rounds are done."""
        found = [colours]
        while len(found) <= most and (finer := self.step(found[-1])) and _classes(finer) > _classes(found[-1]):
            found.append(finer)
        return found

    def stable(self, colours: tuple[Colours, Colours]) -> tuple[Colours, Colours] | None:
        """The finest colours; None as soon as the two graphs have different ones."""
        count = _classes(colours)
        while Counter(colours[0].values()) == Counter(colours[1].values()):
            finer = self.step(colours)
            if _classes(finer) == count:
                return colours if Counter(finer[0].values()) == Counter(finer[1].values()) else None
            colours, count = finer, _classes(finer)
        return None

    def isomorphism(
        self, colours: tuple[Colours, Colours], liking: Callable[[str, str], tuple[int, ...]]
    ) -> dict[str, str] | None:
        """A bijection that keeps colours and edges; None where there is none, or none was found in MOST_TRIES tries.

        `liking` ranks pairs that look alike: the best are tried first.
        """
        if len(self.a.names) != len(self.b.names):
            return None
        start = self.stable(colours)
        if start is None:
            return None
        choices = [self._choices(start, liking)]
        states = [start]
        for _ in range(MOST_TRIES):
            if not choices:
                return None
            if choices[-1] is None:
                return self._bijection(states[-1])
            if not choices[-1]:
                choices.pop()
                states.pop()
                continue
            one, other = choices[-1].pop(0)
            tied = self.stable(_tie(states[-1], one, other))
            if tied is not None:
                states.append(tied)
                choices.append(self._choices(tied, liking))
        return None

    def _choices(
        self, colours: tuple[Colours, Colours], liking: Callable[[str, str], tuple[int, ...]]
    ) -> list[tuple[str, str]] | None:
        """Pairs to try for one op that is not told apart, the best first; None where all ops are."""
        cells: dict[int, tuple[list[str], list[str]]] = {}
        for k, of in enumerate(colours):
            for name, colour in of.items():
                cells.setdefault(colour, ([], []))[k].append(name)
        wide = [cell for cell in cells.values() if len(cell[0]) > 1]
        if not wide:
            return None
        best = max(
            ((liking(one, other), one, cell[1]) for cell in wide for one in cell[0][:8] for other in cell[1]),
            key=lambda found: found[0],
        )
        _, one, others = best
        return [(one, other) for other in sorted(others, key=lambda name: liking(one, name), reverse=True)]

    def _bijection(self, colours: tuple[Colours, Colours]) -> dict[str, str]:
        back = {colour: name for name, colour in colours[1].items()}
        return {name: back[colour] for name, colour in colours[0].items()}


def _classes(colours: tuple[Colours, Colours]) -> int:
    return len({*colours[0].values(), *colours[1].values()})


def _tie(colours: tuple[Colours, Colours], one: str, other: str) -> tuple[Colours, Colours]:
    """The colours with a fresh one for this pair."""
    fresh = 1 + max(colours[0].values())
    return {**colours[0], one: fresh}, {**colours[1], other: fresh}
