"""Two graphs side by side: which ops of one became which of the other, in which regions, and what the passes said.

Everything follows from `Graph.origin`: an op of one side and an op of the other are twins when a source op stands
behind both. A region is a set of twins that a pass changed, with whatever that pass merged, split, added or removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from snnir.graph import Graph
from snnir.naming import identifiers
from snnir.ops import same
from snnir.pipeline import Entry, Pass, Step, pipeline_text, run_pipeline

WORDS = ["merged", "split", "changed", "added", "removed"]


@dataclass(frozen=True)
class Region:
    """Ops that were rewritten together.

    Attributes:
        passes: who did it, in the order they ran; between two sources 'merged', 'split', 'changed', 'added', 'removed'.
        before, after: names of its ops on the two sides, in graph order. One of them may be empty.
    """

    passes: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def name(self) -> str:
        """As it is written beside its outline."""
        return " + ".join(self.passes)


@dataclass(frozen=True)
class Comparison:
    """Two graphs and what links them.

    Attributes:
        before, after: the graphs.
        titles: what stands above either side.
        twins: op name before -> names after. An op that is missing here has no twin.
        regions: what changed, in the order of the first op before; no op lies in two.
        said: all that the passes said, with the ops it concerns on either side.
    """

    before: Graph
    after: Graph
    titles: tuple[str, str]
    twins: Mapping[str, tuple[str, ...]]
    regions: tuple[Region, ...]
    said: tuple[Said, ...] = field(default=())

    @cached_property
    def back(self) -> Mapping[str, tuple[str, ...]]:
        """The other way: op name after -> names before, in graph order."""
        found: dict[str, list[str]] = {}
        for name in self.before.ops:
            for twin in self.twins.get(name, ()):
                found.setdefault(twin, []).append(name)
        return {name: tuple(names) for name, names in found.items()}

    @property
    def changed(self) -> tuple[dict[str, str], dict[str, str]]:
        """Per side: identifier of each op in a region -> the region's name."""
        found: list[dict[str, str]] = []
        for side, graph in (("before", self.before), ("after", self.after)):
            ids = identifiers(graph.ops)
            found.append({ids[name]: region.name for region in self.regions for name in getattr(region, side)})
        return found[0], found[1]

    @cached_property
    def marks(self) -> Mapping[str, int]:
        """Names of regions, each with a number: regions of one name are drawn in one colour."""
        return {name: k for k, name in enumerate(dict.fromkeys(region.name for region in self.regions))}


@dataclass(frozen=True)
class Said:
    """One line of a pass's log, and the ops it concerns on either side; none where it concerns the whole graph."""

    entry: Entry
    before: tuple[str, ...]
    after: tuple[str, ...]


def compare_passes(graph: Graph, passes: Iterable[Pass], titles: tuple[str, str] | None = None) -> Comparison:
    """A graph beside what the passes make of it.

    Args:
        graph: the left side; its ops are the sources that twins are found by.
        passes: run in order.
        titles: default 'before' and the pipeline's text.

    Raises:
        CompileError: a pass says no.
    """
    passes = tuple(passes)
    steps: list[Step] = []
    # Without an origin of its own: what calls of an unrolled network share is no reason to light them together.
    after = run_pipeline(replace(graph, origin={}), passes, steps.append)
    twins = _twins(graph.ops, lambda name: (name,), after)
    touched: dict[str, dict[str, None]] = {}  # name before, or after where nothing stands behind it -> passes
    for step in steps:
        for name in _changed(step):
            touched.setdefault(name, {})[step.pass_.name] = None
    said = tuple(_said(entry, step, graph, after) for step in steps for entry in step.entries)
    regions = _regions(graph, after, twins, touched, list(dict.fromkeys(pass_.name for pass_ in passes)))
    return Comparison(graph, after, titles or ("before", pipeline_text(passes)), twins, regions, said)


def compare_sources(before: Graph, after: Graph, titles: tuple[str, str] = ("before", "after")) -> Comparison:
    """Two graphs of any source; twins have a source op in common, or the same name."""
    twins = _twins(before.ops, before.sources, after)
    touched: dict[str, dict[str, None]] = {}
    for old, new in _components(before, after, twins):
        if not (len(old) == len(new) == 1 and same(before[old[0]], after[new[0]])):
            word = "added" if not old else "removed" if not new else "changed"
            if word == "changed" and len(old) != len(new):
                word = "merged" if len(old) > len(new) else "split"
            for name in old or new:
                touched.setdefault(name, {})[word] = None
    return Comparison(before, after, titles, twins, _regions(before, after, twins, touched, WORDS))


def _twins(names: Iterable[str], sources: Callable[[str], tuple[str, ...]], after: Graph) -> dict[str, tuple[str, ...]]:
    behind: dict[str, list[str]] = {}
    for name in after.ops:
        for source in after.sources(name):
            behind.setdefault(source, []).append(name)
    found = {name: dict.fromkeys(twin for s in sources(name) for twin in behind.get(s, ())) for name in names}
    return {name: tuple(twins) for name, twins in found.items() if twins}


def _changed(step: Step) -> Iterator[str]:
    """Sources of the ops that a step made, changed, moved or removed; an op with nothing behind it is its own."""
    before, after = step.before, step.after
    for name, op in after.ops.items():
        if before.ops.get(name) is not op or before.sources(name) != after.sources(name):
            yield from after.sources(name)
    for name in before.ops:
        if name not in after:
            yield from before.sources(name)
    for entry in step.entries:
        # What a pass says of the ends of the graph is about the whole of it.
        if entry.kind == "did" and entry.where not in {*after.inputs, *after.outputs}:
            yield from _sources(entry.where, step)


def _sources(name: str, step: Step) -> tuple[str, ...]:
    graph = step.before if name in step.before else step.after
    return graph.sources(name) if name in graph else ()


def _said(entry: Entry, step: Step, before: Graph, after: Graph) -> Said:
    sources = _sources(entry.where, step)
    if entry.where in before and (not sources or entry.where in sources):
        sources = (entry.where,)
    old = tuple(name for name in sources if name in before)
    if entry.where in after:
        return Said(entry, old, (entry.where,))
    wanted = set(sources)
    return Said(entry, old, tuple(name for name in after.ops if wanted & set(after.sources(name))))


# -- regions -------------------------------------------------------------------------------------------------------


def _regions(
    before: Graph,
    after: Graph,
    twins: Mapping[str, tuple[str, ...]],
    touched: Mapping[str, Mapping[str, None]],
    order: list[str],
) -> tuple[Region, ...]:
    found: list[Region] = []
    for old, new in _components(before, after, twins):
        passes = {p for name in (*old, *new) for p in touched.get(name, ())}
        if passes:
            found.append(Region(tuple(sorted(passes, key=order.index)), old, new))
    return tuple(_joined(before, after, found))


def _components(
    before: Graph, after: Graph, twins: Mapping[str, tuple[str, ...]]
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Sets of ops that twins tie together, in the order of the first op before; then what is only after."""
    sets = _Sets()
    for name in before.ops:
        sets.find((0, name))
        for twin in twins.get(name, ()):
            sets.join((0, name), (1, twin))
    for name in after.ops:
        sets.find((1, name))
    places = [{name: k for k, name in enumerate(graph.ops)} for graph in (before, after)]
    old, new = (
        [sorted((n for s, n in m if s == side), key=places[side].__getitem__) for m in sets.all()] for side in (0, 1)
    )
    return [(tuple(a), tuple(b)) for a, b in zip(old, new, strict=True)]


def _joined(before: Graph, after: Graph, regions: list[Region]) -> Iterator[Region]:
    """Neighbours that the same passes added, or removed, are one region."""
    sets = _Sets()
    for k in range(len(regions)):
        sets.find((k, ""))
    for side, graph in ((0, before), (1, after)):
        lone = {
            names[0]: k
            for k, region in enumerate(regions)
            if len(names := (region.before, region.after)[side]) == 1 and not (region.after, region.before)[side]
        }
        for edge in graph.edges:
            if edge.source in lone and edge.target in lone:
                a, b = lone[edge.source], lone[edge.target]
                if regions[a].passes == regions[b].passes:
                    sets.join((a, ""), (b, ""))
    for members in sets.all():
        parts = [regions[k] for k, _ in members]
        yield Region(
            parts[0].passes,
            tuple(name for part in parts for name in part.before),
            tuple(name for part in parts for name in part.after),
        )


class _Sets:
    """Disjoint sets that remember the order of arrival."""

    def __init__(self) -> None:
        self._up: dict[tuple[int, str], tuple[int, str]] = {}

    def find(self, item: tuple[int, str]) -> tuple[int, str]:
        self._up.setdefault(item, item)
        while self._up[item] != item:
            self._up[item] = item = self._up[self._up[item]]
        return item

    def join(self, a: tuple[int, str], b: tuple[int, str]) -> None:
        self._up[self.find(b)] = self.find(a)

    def all(self) -> list[list[tuple[int, str]]]:
        found: dict[tuple[int, str], list[tuple[int, str]]] = {}
        for item in self._up:
            found.setdefault(self.find(item), []).append(item)
        return list(found.values())
