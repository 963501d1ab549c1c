"""What of a network NIR has no form for: one violation per kind of op, with why, and every source line.

NIR's nodes are weights, sums, thresholds and neurons. What divides by data, multiplies signals or bends them otherwise
cannot be rewritten exactly; what only moves values is refused because no pass has lowered it.

A model that has a form without such ops says how to get it: metadata {"instead": {"nir": "--variant spiking"}}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from snnir.errors import Violation
from snnir.graph import Graph
from snnir.ops import Activation, LayerNorm, Loc, Multiply, Op, Wkv
from snnir.target import Target

SHOWN = 3  # names of ops that a violation gives
_WHY: dict[type[Op], tuple[str, str]] = {
    LayerNorm: (
        "divides by a deviation that depends on the data, and NIR has no division",
        "use a batch norm: its statistics are fixed, so it folds into weights",
    ),
    Wkv: (
        "weighs tokens by exponentials of a signal and divides, and NIR has neither",
        "mix tokens by weights that do not depend on the data",
    ),
    Multiply: ("multiplies two signals, and NIR's Scale multiplies by constants only", "sum them before a neuron"),
    Activation: (
        "is a function that NIR has not: it has thresholds and neurons",
        "use neurons in its place",
    ),
}


@dataclass(frozen=True)
class NirTarget(Target):
    """The target whose missing ops are told by kind."""

    def _unsupported(self, graph: Graph) -> Iterator[Violation]:
        groups: dict[str, list[str]] = {}
        for name, op in graph.ops.items():
            if type(op) not in self.ops:
                groups.setdefault(_label(op), []).append(name)
        alone = len(groups) == 1
        takes = ", ".join(sorted(op.__name__ for op in self.ops)) if alone else "NIR's primitives (snnir targets nir)"
        instead = _instead(graph)
        # What has no form at all comes before what no pass has lowered.
        for label, names in sorted(groups.items(), key=lambda item: type(graph[item[1][0]]) not in _WHY):
            why, hint = _WHY.get(type(graph[names[0]]), (f"does not exist on {self.title}", ""))
            if hint and instead:  # once, where it is read first
                hint, instead = f"{hint}; or compile this model with {instead}, which has none of these", ""
            yield Violation(
                f"{self.name}-op",
                f"{label} {why}" + (f" ({len(names)} ops)" if len(names) > 1 else ""),
                where=_several(graph, names),
                loc=_lines([graph[name].loc for name in names]),
                expected="" if hint else takes,
                hint=hint,
            )


def _instead(graph: Graph) -> str:
    """What the model says to write for a form of it that NIR takes; '' for nothing."""
    said = graph.metadata.get("instead")
    return str(said.get("nir", "")) if isinstance(said, Mapping) else ""


def _label(op: Op) -> str:
    return f"{op.kind} {op.function}" if isinstance(op, Activation) else op.kind


def _several(graph: Graph, names: list[str]) -> str:
    """The source ops behind some ops: the first few, and how many more."""
    sources = list(dict.fromkeys(source for name in names for source in graph.sources(name)))
    more = f" and {len(sources) - SHOWN} more" if len(sources) > SHOWN else ""
    return ", ".join(sources[:SHOWN]) + more


def _lines(locs: list[Loc | None]) -> str:
    """One place as it says itself; several as file:line, line; file:line."""
    known = [loc for loc in locs if loc is not None]
    if len(known) == 1:
        return str(known[0])
    lines: dict[str, set[int]] = {}
    for loc in known:
        lines.setdefault(loc.file, set()).add(loc.line)
    places = (f"{file}:{', '.join(map(str, sorted(at)))}" if any(at) else file for file, at in lines.items())
    return "; ".join(place for place in places if place)
