"""Which op of one graph is which of the other: by what ops are and where they stand; names decide where that is alike.

First an isomorphism is sought: with the same numbers, then with any. Where there is none, ops that nothing resembles
but each other are tied together, and from there the match grows along the edges.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from snnir.diff.canonical import Canon
from snnir.diff.colours import Colours, Label, Pair, Side, side
from snnir.graph import Edge, Graph


@dataclass
class Matcher:
    """Two graphs, what their ops are, and which of their edges are a step late."""

    a: Graph
    b: Graph
    canon_a: Mapping[str, Canon]
    canon_b: Mapping[str, Canon]
    late_a: frozenset[Edge]
    late_b: frozenset[Edge]
    _rings: list[tuple[Colours, Colours]] = field(default_factory=list)

    def match(self) -> dict[str, str]:
        """Op of the first graph -> op of the second. Ops that are left out have no counterpart."""
        if self._same(exactly=True):
            return {name: name for name in self.a.ops}
        plain, timed = self._pair(lambda edge: edge.port), self._pair_with_time()
        strict = (
            {n: (c.structure, c.digest) for n, c in self.canon_a.items()},
            {n: (c.structure, c.digest) for n, c in self.canon_b.items()},
        )
        loose = {n: c.structure for n, c in self.canon_a.items()}, {n: c.structure for n, c in self.canon_b.items()}
        self._rings = plain.history(plain.first(*strict))
        tied = _anchored(*loose, list(self._rings)) if len(self._rings) > 1 else loose
        for keys in (strict, tied, loose):
            for pair in (timed, plain):
                found = pair.isomorphism(pair.first(*keys), self._liking)
                if found is not None:
                    return self._rather_by_name(found)
        return _Growth(self, plain).match()

    def _pair(self, label: Label) -> Pair:
        return Pair(side(self.a.ops, self.a.edges, label), side(self.b.ops, self.b.edges, label))

    def _pair_with_time(self) -> Pair:
        sides: list[Side] = []
        for graph, late in ((self.a, self.late_a), (self.b, self.late_b)):
            sides.append(side(graph.ops, graph.edges, lambda edge, late=late: (edge.port, edge in late)))  # type: ignore[misc]
        return Pair(*sides)

    def _same(self, exactly: bool) -> bool:
        """Whether the names as they are make an isomorphism, with the same numbers if `exactly`."""
        if set(self.a.ops) != set(self.b.ops) or set(self.a.edges) != set(self.b.edges):
            return False
        return self.late_a == self.late_b and all(
            c.structure == self.canon_b[n].structure and (not exactly or c.digest == self.canon_b[n].digest)
            for n, c in self.canon_a.items()
        )

    def _rather_by_name(self, found: dict[str, str]) -> dict[str, str]:
        """The names as they are, where they explain as many numbers."""
        if not self._same(exactly=False):
            return found
        equal = sum(self.canon_a[a].digest == self.canon_b[b].digest for a, b in found.items())
        named = sum(c.digest == self.canon_b[n].digest for n, c in self.canon_a.items())
        return {name: name for name in self.a.ops} if named >= equal else found

    def _liking(self, one: str, other: str) -> tuple[int, ...]:
        """How far around two ops everything is the same, numbers included; then names."""
        return self.ring(one, other), int(one == other)

    def ring(self, one: str, other: str) -> int:
        """The number of steps within which two ops see the same ops with the same numbers; -1 for none."""
        for k, (of_a, of_b) in enumerate(self._rings):
            if of_a[one] != of_b[other]:
                return k - 1
        return len(self._rings) - 1

    def rings(self) -> Iterator[tuple[Colours, Colours]]:
        """The colours with numbers, from the widest surroundings to none."""
        return reversed(self._rings)


class _Growth:
    """A match of graphs of different structure."""

    def __init__(self, matcher: Matcher, pair: Pair) -> None:
        self.m, self.a, self.b = matcher, pair.a, pair.b
        self.found: dict[str, str] = {}
        self.taken: set[str] = set()
        self.agreeing: Counter[tuple[str, str]] = Counter()
        self.heap: list[tuple[tuple[float, ...], str, str]] = []

    def match(self) -> dict[str, str]:
        """Seeds, then growth along edges, then what is left by name."""
        for colours in self.m.rings():
            for one, other in _alone(colours, self.found, self.taken):
                self._tie(one, other)
        for kind in ("Input", "Output"):
            left = [n for n in self.a.names if self._kinds(n)[0] == kind and n not in self.found]
            right = [n for n in self.b.names if self._kinds(n)[1] == kind and n not in self.taken]
            if len(left) == len(right) == 1:
                self._tie(left[0], right[0])
        self._grow()
        for same_form in (True, False):
            for name in self.a.names:
                if name in self.found or name in self.taken or name not in self.m.canon_b:
                    continue
                mine, theirs = self.m.canon_a[name], self.m.canon_b[name]
                if mine.kind == theirs.kind and (mine.structure == theirs.structure or not same_form):
                    self._tie(name, name)
                    self._grow()
        return self.found

    def _kinds(self, name: str) -> tuple[str, str]:
        a, b = self.m.canon_a.get(name), self.m.canon_b.get(name)
        return ("" if a is None else a.kind), ("" if b is None else b.kind)

    def _tie(self, one: str, other: str) -> None:
        if one in self.found or other in self.taken:
            return
        self.found[one] = other
        self.taken.add(other)
        for of_a, of_b in ((self.a.incoming, self.b.incoming), (self.a.outgoing, self.b.outgoing)):
            for label, near in of_a[one]:
                for label_b, near_b in of_b[other]:
                    if label == label_b and near not in self.found and near_b not in self.taken:
                        self.agreeing[near, near_b] += 1
                        heapq.heappush(self.heap, (self._rank(near, near_b), near, near_b))

    def _rank(self, one: str, other: str) -> tuple[float, ...]:
        """The order of pairs beside what is matched, the best first."""
        a, b = self.m.canon_a[one], self.m.canon_b[other]
        tier = 0 if a.structure == b.structure else 1 if a.kind == b.kind else 2
        edges = max(self._edges(one, other))
        share = self.agreeing[one, other] / max(1, edges)
        return (tier, -share, -int(a.digest == b.digest), -int(one == other))

    def _edges(self, one: str, other: str) -> tuple[int, int]:
        return (
            len(self.a.incoming[one]) + len(self.a.outgoing[one]),
            len(self.b.incoming[other]) + len(self.b.outgoing[other]),
        )

    def _grow(self) -> None:
        while self.heap:
            rank, one, other = heapq.heappop(self.heap)
            if one in self.found or other in self.taken or rank != self._rank(one, other):
                continue
            # another kind of op in the same place: only where everything around it is the same
            if rank[0] < 2 or self._surrounded(one, other):
                self._tie(one, other)

    def _surrounded(self, one: str, other: str) -> bool:
        return self.agreeing[one, other] >= max(self._edges(one, other)) and min(self._edges(one, other)) > 0


def _anchored(
    of_a: Mapping[str, Hashable], of_b: Mapping[str, Hashable], rings: list[tuple[Colours, Colours]]
) -> tuple[dict[str, Hashable], dict[str, Hashable]]:
    """What ops are, and for ops that with their neighbours exist once in both graphs, who they are: a first guess."""
    found: dict[str, str] = {}
    for colours in reversed(rings[1:]):
        found.update(_alone(colours, found, set(found.values())))
    back = {there: here for here, there in found.items()}
    return {n: (k, n if n in found else "") for n, k in of_a.items()}, {
        n: (k, back.get(n, "")) for n, k in of_b.items()
    }


def _alone(colours: tuple[Colours, Colours], found: Mapping[str, str], taken: set[str]) -> Iterator[tuple[str, str]]:
    """Pairs whose colour no other op has."""
    of_a, of_b = colours
    once_a = {c: n for n, c in of_a.items() if n not in found}
    once_b = {c: n for n, c in of_b.items() if n not in taken}
    count_a = Counter(c for n, c in of_a.items() if n not in found)
    count_b = Counter(c for n, c in of_b.items() if n not in taken)
    for colour, name in once_a.items():
        if count_a[colour] == 1 and count_b[colour] == 1:
            yield name, once_b[colour]
