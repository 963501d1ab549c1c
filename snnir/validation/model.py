"""The reference with faults put in: what an explanation runs, many times, on pieces of graph and time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from snnir.edit import Editor
from snnir.graph import Edge, Graph
from snnir.interpreter import interpret
from snnir.ops import Array, Constant, Delay, Input, Op, Output
from snnir.semantics import Semantics


@dataclass(frozen=True, eq=False)
class Model:
    """A network as somebody may have understood it.

    Attributes:
        graph: its structure and numbers; semantics: what a step means; overrides: the same for single ops.
        single: whether it computes in float32.
    """

    graph: Graph
    semantics: Semantics
    overrides: Mapping[str, Semantics] = field(default_factory=dict)
    single: bool = False

    # -- faults are edits ------------------------------------------------------------------------------------------

    def meaning(self, name: str) -> Semantics:
        """What a step means to op `name`."""
        return self.overrides.get(name, self.semantics)

    def with_semantics(self, **changes: Any) -> Model:
        """Other fields of the semantics, for all ops."""
        overrides = {name: own.with_(**changes) for name, own in self.overrides.items()}
        return replace(self, semantics=self.semantics.with_(**changes), overrides=overrides)

    def with_override(self, name: str, **changes: Any) -> Model:
        """Other fields of the semantics, for one op."""
        return replace(self, overrides={**self.overrides, name: self.meaning(name).with_(**changes)})

    def with_ops(self, changes: Mapping[str, Op]) -> Model:
        """Other ops under the same names."""
        return replace(self, graph=replace(self.graph, ops={**self.graph.ops, **changes}))

    def without_edges(self, edges: Iterable[Edge]) -> Model:
        """Some edges carry zeros. (The port stays fed, so the running order of a cycle does not change.)"""
        editor = Editor(self.graph)
        for edge in edges:
            zeros = editor.add("nothing", Constant(value=np.zeros(self.graph.shapes[edge.source])))
            editor.disconnect(edge)
            editor.connect(zeros, edge.target, edge.port)
        return replace(self, graph=editor.build())

    def with_delay(self, edges: Iterable[Edge], steps: int) -> Model:
        """Some edges carry their values `steps` steps later."""
        editor = Editor(self.graph)
        length = steps * (self.semantics.dt or 1.0)
        for edge in edges:
            shape = self.graph.shapes[edge.source]
            late = editor.add("late", Delay(delay=np.full(shape, length)))
            editor.disconnect(edge)
            editor.connect(edge.source, late)
            editor.connect(late, edge.target, edge.port)
        return replace(self, graph=editor.build())

    def bypassing(self, name: str) -> Model | None:
        """Op `name` hands on what arrives; None where that cannot be."""
        editor = Editor(self.graph)
        if self.graph[name].ports != ("input",) or not editor.can_bypass(name):
            return None
        editor.bypass(name)
        return replace(self, graph=editor.build())

    def reading(self, output: str, source: str) -> Model:
        """Output `output` reads op `source` alone."""
        editor = Editor(self.graph)
        for edge in editor.incoming(output):
            editor.disconnect(edge)
        editor.connect(source, output)
        return replace(self, graph=editor.build())

    # -- running ---------------------------------------------------------------------------------------------------

    def upstream(self, names: Iterable[str]) -> Model:
        """The part that the named ops depend on; each that is no output gets one, so that the part is sound."""
        graph = self.graph
        kept = list(dict.fromkeys((*names, *graph.inputs)))
        ends = [n for n in kept if not isinstance(graph[n], (Input, Output))]
        seen = set(kept)
        for name in kept:  # grows while it is walked
            new = [e.source for e in graph.incoming[name] if e.source not in seen]
            seen.update(new)
            kept += new
        ops: dict[str, Op] = {name: op for name, op in graph.ops.items() if name in seen}
        edges = [e for e in graph.edges if e.source in seen and e.target in seen]
        for i, end in enumerate(ends):
            ops[f"{end}:end{i}"] = Output()
            edges.append(Edge(end, f"{end}:end{i}"))
        return replace(self, graph=replace(graph, ops=ops, edges=tuple(edges)))

    def run(self, x: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """What the named ops give, (T, B, *shape) each.

        Raises:
            CompileError: the fault made a graph that is not sound, or a rule that nobody can compute.
        """
        given = {n: v.astype(np.float32) if self.single else v for n, v in x.items()}
        recorded: dict[str, Array]
        with np.errstate(all="ignore"):  # a wrong rule may grow beyond all numbers
            _, recorded = interpret(
                self.graph, given, semantics=self.semantics, record=list(names), overrides=self.overrides
            )
        return recorded


def cut(x: Mapping[str, Array], steps: int, batch: Array | None = None) -> dict[str, Array]:
    """The first steps, and some batch elements, of arrays (T, B, *shape)."""
    return {name: v[:steps] if batch is None else v[:steps, batch] for name, v in x.items()}
