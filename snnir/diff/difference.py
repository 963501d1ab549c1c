"""The comparison of two graphs, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from snnir.diff.canonical import Canon, canonical, spread
from snnir.diff.matching import Matcher
from snnir.graph import Edge, Graph
from snnir.ops import Array

Verdict = Literal["equal", "equal but for names", "same structure, other numbers", "other structure"]


@dataclass(frozen=True)
class Numbers:
    """A parameter that differs: `a` and `b` name the op in either graph.

    Attributes:
        parameter: its name. size: of how many numbers (spread over the population); differing: how many differ.
        absolute: largest absolute difference. relative: largest difference relative to the larger of the two values.
    """

    a: str
    b: str
    parameter: str
    size: int
    differing: int
    absolute: float
    relative: float


@dataclass(frozen=True)
class Changed:
    """An op in the same place that is not the same: field -> (here, there); `kind` for its type."""

    a: str
    b: str
    fields: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Difference:
    """What differs between two graphs, a and b.

    Attributes:
        renamed: (name in a, name in b) of ops that are matched and called otherwise.
        only_a, only_b: name -> kind of ops without a counterpart.
        changed: ops in the same place of another type, shape or form.
        edges_only_a, edges_only_b: edges without a counterpart, each in the names of its own graph.
        late_only_a, late_only_b: edges that both have, but that are a step late in one only.
        numbers: parameters that differ. dtypes: (op in a, parameter, type in a, type in b) where only types do.
        semantics: field -> (a, b).
        matched: how many ops have a counterpart.
    """

    renamed: tuple[tuple[str, str], ...] = ()
    only_a: Mapping[str, str] = field(default_factory=dict)
    only_b: Mapping[str, str] = field(default_factory=dict)
    changed: tuple[Changed, ...] = ()
    edges_only_a: tuple[Edge, ...] = ()
    edges_only_b: tuple[Edge, ...] = ()
    late_only_a: tuple[Edge, ...] = ()
    late_only_b: tuple[Edge, ...] = ()
    numbers: tuple[Numbers, ...] = ()
    dtypes: tuple[tuple[str, str, str, str], ...] = ()
    semantics: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    matched: int = 0

    @property
    def verdict(self) -> Verdict:
        """How far the two graphs are the same; semantics and types of numbers aside."""
        edges = (*self.edges_only_a, *self.edges_only_b, *self.late_only_a, *self.late_only_b)
        if self.only_a or self.only_b or self.changed or edges:
            return "other structure"
        if self.numbers:
            return "same structure, other numbers"
        return "equal but for names" if self.renamed else "equal"

    @property
    def equal(self) -> bool:
        """Whether both compute the same: equal but for names, and a step means the same."""
        return self.verdict in ("equal", "equal but for names") and not self.semantics

    def to_json(self) -> dict[str, Any]:
        """The body of the document that `snnir diff --output-format json` prints."""
        return {
            "verdict": self.verdict,
            "equal": self.equal,
            "matched": self.matched,
            "semantics": {name: list(pair) for name, pair in self.semantics.items()},
            "renamed": [list(pair) for pair in self.renamed],
            "only_a": dict(self.only_a),
            "only_b": dict(self.only_b),
            "changed": [
                {"a": c.a, "b": c.b, "fields": {name: list(pair) for name, pair in c.fields.items()}}
                for c in self.changed
            ],
            "edges_only_a": [[e.source, e.target, e.port] for e in self.edges_only_a],
            "edges_only_b": [[e.source, e.target, e.port] for e in self.edges_only_b],
            "late_only_a": [[e.source, e.target, e.port] for e in self.late_only_a],
            "late_only_b": [[e.source, e.target, e.port] for e in self.late_only_b],
            "numbers": [dict(vars(n)) for n in self.numbers],
            "dtypes": [list(row) for row in self.dtypes],
        }


def compare(a: Graph, b: Graph) -> Difference:
    """What differs between two sound graphs.

    Ops are matched by what they are and where they stand; names decide only between ops that are alike in both. Where
    the structure is the same, the match is an isomorphism; else it grows from what is alike.

    Raises:
        CompileError: shapes of a graph do not fit.
    """
    from snnir.schedule import schedule

    canon_a, canon_b = canonical(a), canonical(b)
    late_a, late_b = schedule(a).back_edges, schedule(b).back_edges
    match = Matcher(a, b, canon_a, canon_b, late_a, late_b).match()
    back = {there: here for here, there in match.items()}
    only_a, both_a = _split(a, match, set(b.edges))
    only_b, _ = _split(b, back, set(a.edges))
    changed, numbers, dtypes = [], [], []
    for name in (n for n in a.ops if n in match):
        one, other = canon_a[name], canon_b[match[name]]
        fields = _fields(one, other)
        if fields:
            changed.append(Changed(name, match[name], fields))
        if one.kind == other.kind:
            rows, types = _numbers(name, match[name], one, other)
            numbers += [] if fields and not rows else rows
            dtypes += types
    image = {edge: Edge(match[edge.source], match[edge.target], edge.port) for edge in both_a}
    return Difference(
        renamed=tuple((name, match[name]) for name in a.ops if match.get(name, name) != name),
        only_a={name: op.kind for name, op in a.ops.items() if name not in match},
        only_b={name: op.kind for name, op in b.ops.items() if name not in back},
        changed=tuple(changed),
        edges_only_a=tuple(only_a),
        edges_only_b=tuple(only_b),
        late_only_a=tuple(e for e, there in image.items() if e in late_a and there not in late_b),
        late_only_b=tuple(there for e, there in image.items() if e not in late_a and there in late_b),
        numbers=tuple(numbers),
        dtypes=tuple(dtypes),
        semantics=a.semantics.differences(b.semantics),
        matched=len(match),
    )


def _split(graph: Graph, match: Mapping[str, str], others: set[Edge]) -> tuple[list[Edge], list[Edge]]:
    """The edges without a counterpart, and those with one."""
    only: list[Edge] = []
    both: list[Edge] = []
    for edge in graph.edges:
        ends = edge.source in match and edge.target in match
        there = ends and Edge(match[edge.source], match[edge.target], edge.port) in others
        (both if there else only).append(edge)
    return only, both


def _fields(one: Canon, other: Canon) -> dict[str, tuple[str, str]]:
    found = {"kind": (one.kind, other.kind)} if one.kind != other.kind else {}
    names = dict.fromkeys((*one.form, *other.form)) if one.kind == other.kind else {"shape": None}
    for name in names:
        pair = (str(one.form.get(name, "-")), str(other.form.get(name, "-")))
        if pair[0] != pair[1]:
            found[name] = pair
    return found


def _numbers(a: str, b: str, one: Canon, other: Canon) -> tuple[list[Numbers], list[tuple[str, str, str, str]]]:
    rows: list[Numbers] = []
    types: list[tuple[str, str, str, str]] = []
    for name in sorted({*one.arrays, *other.arrays}, key=list((*one.arrays, *other.arrays)).index):
        here, there = one.arrays.get(name), other.arrays.get(name)
        if here is None or there is None:
            continue
        if here.dtype != there.dtype:
            types.append((a, name, here.dtype.name, there.dtype.name))
        if here is there or one.digest == other.digest:
            continue
        left, right = spread(one.kind, name, here, one.shape), spread(other.kind, name, there, other.shape)
        row = _row(a, b, name, left, right)
        if row is not None:
            rows.append(row)
    return rows, types


def _row(a: str, b: str, name: str, left: Array, right: Array) -> Numbers | None:
    """The difference of two arrays; None where they are the same, or of shapes that cannot be compared."""
    try:
        x, y = np.broadcast_arrays(left.astype(np.float64), right.astype(np.float64))
    except ValueError:
        return None
    differing = (x != y) & ~(np.isnan(x) & np.isnan(y))
    if not differing.any():
        return None
    with np.errstate(invalid="ignore"):
        gap = np.abs(x - y)[differing]
        relative = gap / np.maximum(np.abs(x), np.abs(y))[differing]
    return Numbers(a, b, name, x.size, int(differing.sum()), float(gap.max()), float(relative.max()))
