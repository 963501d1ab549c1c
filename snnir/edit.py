"""Changed copies of a graph: what passes and frontends build with. Every edit keeps `origin` true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from snnir.graph import Edge, Graph
from snnir.learning import merged
from snnir.naming import fresh
from snnir.ops import Op


class Editor:
    """A mutable copy of a graph. Edits are O(edges touched); `build()` makes the new graph.

    What is made of ops that are trained is trained (`snnir.learning.merged`).

    `changed` stays False until the first edit, so that a pass can hand back the graph it was given.
    """

    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.ops: dict[str, Op] = dict(graph.ops)
        self.origin: dict[str, tuple[str, ...]] = dict(graph.origin)
        # An edge list that keeps order and is cheap to edit: dicts keep insertion order.
        self._edges: dict[Edge, None] = dict.fromkeys(graph.edges)
        self._in: dict[str, dict[Edge, None]] = {n: dict.fromkeys(es) for n, es in graph.incoming.items()}
        self._out: dict[str, dict[Edge, None]] = {n: dict.fromkeys(es) for n, es in graph.outgoing.items()}
        self.changed = False

    def incoming(self, name: str) -> tuple[Edge, ...]:
        """The edges that end at op `name` now."""
        return tuple(self._in[name])

    def outgoing(self, name: str) -> tuple[Edge, ...]:
        """The edges that leave op `name` now."""
        return tuple(self._out[name])

    def sources(self, *names: str) -> tuple[str, ...]:
        """The source ops behind the named ops, each once."""
        return tuple(dict.fromkeys(s for name in names for s in self.origin.get(name, (name,))))

    def add(self, name: str, op: Op, made_from: Iterable[str] = ()) -> str:
        """Adds an op under `name`, or a fresh name like it, and returns the name it got."""
        behind = self.sources(*made_from)
        op = merged(op, (self.ops[other] for other in made_from if other in self.ops))
        name = fresh(name, self.ops)
        self.ops[name] = op
        self._in[name], self._out[name] = {}, {}
        if behind and behind != (name,):
            self.origin[name] = behind
        self.changed = True
        return name

    def replace(self, name: str, op: Op, made_from: Iterable[str] = ()) -> None:
        """Puts another op at `name`; edges stay. `made_from` names ops that were merged into it."""
        behind = self.sources(name, *made_from)
        if behind != (name,):
            self.origin[name] = behind
        self.ops[name] = merged(op, (self.ops[other] for other in (name, *made_from) if other in self.ops))
        self.changed = True

    def connect(self, source: str, target: str, port: str = "input") -> None:
        """Adds an edge.

        Raises:
            ValueError: the edge exists already (two equal edges would be a hidden factor of two).
        """
        edge = Edge(source, target, port)
        if edge in self._edges:
            raise ValueError(f"edge {edge} exists already")
        self._edges[edge] = None
        self._in[target][edge] = None
        self._out[source][edge] = None
        self.changed = True

    def has(self, source: str, target: str, port: str = "input") -> bool:
        """Whether the edge exists."""
        return Edge(source, target, port) in self._edges

    def disconnect(self, edge: Edge) -> None:
        """Removes an edge."""
        del self._edges[edge], self._in[edge.target][edge], self._out[edge.source][edge]
        self.changed = True

    def remove(self, name: str) -> None:
        """Removes an op and all its edges."""
        for edge in {*self._in[name], *self._out[name]}:
            self.disconnect(edge)
        del self.ops[name], self._in[name], self._out[name]
        self.origin.pop(name, None)
        self.changed = True

    def redirect(self, old: str, new: str) -> None:
        """Lets every reader of op `old` read op `new` instead."""
        for edge in self.outgoing(old):
            self.disconnect(edge)
            self.connect(new, edge.target, edge.port)

    def can_bypass(self, name: str) -> bool:
        """Whether `bypass` would create no duplicate edge."""
        edges = [Edge(i.source, o.target, o.port) for i in self._in[name] for o in self._out[name] if i.source != name]
        return len(set(edges)) == len(edges) and not any(e in self._edges for e in edges)

    def bypass(self, name: str) -> None:
        """Removes a one-input op and connects what fed it to what read it.

        Raises:
            ValueError: a duplicate edge would arise (see `can_bypass`).
        """
        if not self.can_bypass(name):
            raise ValueError(f"bypassing {name} would make two equal edges")
        before, after = self.incoming(name), self.outgoing(name)
        self.remove(name)
        for i in before:
            for o in after:
                if i.source != name and o.target != name:
                    self.connect(i.source, o.target, o.port)

    def build(self) -> Graph:
        """The edited graph, or the one it started from when nothing changed."""
        if not self.changed:
            return self.source
        return replace(self.source, ops=self.ops, edges=tuple(self._edges), origin=self.origin)
