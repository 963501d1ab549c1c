"""A NIR file as it lies on disk: every node and edge, sound or not. Nothing is refused here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnir.nir_io.raw import FIELDS
from snnir.ops import KINDS, Array, Neuron, Shape
from snnir.semantics import Semantics

NEURONS = tuple(kind for kind in FIELDS if issubclass(KINDS[kind], Neuron))
ELEMENTWISE = {"Scale": "scale", "Threshold": "threshold", "Delay": "delay"}
STATEFUL = (*NEURONS, "Delay")
OPTIONAL_ARRAYS = ("w_in",)
"""Parameters that nir itself expands from a scalar."""


@dataclass
class Node:
    """One node. `place` is its group in the file; `fields` are arrays as stored, or text."""

    path: str
    place: str
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    broken: bool = False

    @property
    def known(self) -> bool:
        """Whether it is one of NIR's own node types, and was read."""
        return self.kind in FIELDS and not self.broken

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of its parameters: fields that hold arrays of numbers."""
        return KINDS[self.kind].arrays if self.known else ()

    def text(self, name: str) -> str | None:
        """A field of text; None where it is missing or is none."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    def array(self, name: str) -> Array | None:
        """A parameter as float64 numbers; None where it is missing or holds no real numbers."""
        value = self.fields.get(name)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            return None
        return value.astype(np.float64)

    def sizes(self, name: str) -> Shape | None:
        """A field of whole numbers; None where it is missing or is none."""
        value = self.array(name)
        if value is None or not np.isfinite(value).all() or (value != np.rint(value)).any():
            return None
        return tuple(int(n) for n in value.reshape(-1))


@dataclass
class Level:
    """One NIRGraph: the file's own, or a nested one."""

    path: str
    place: str
    nodes: dict[str, Node | Level] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def prefix(self) -> str:
        """What stands before the names of its nodes."""
        return f"{self.path}." if self.path else ""

    def levels(self) -> Iterator[Level]:
        """This graph and all below it."""
        yield self
        for node in self.nodes.values():
            if isinstance(node, Level):
                yield from node.levels()

    def own_nodes(self) -> Iterator[tuple[str, Node]]:
        """The nodes of this graph alone, nested graphs left out."""
        for name, node in self.nodes.items():
            if isinstance(node, Node):
                yield name, node

    def all_nodes(self) -> Iterator[Node]:
        """The nodes of this graph and of all below it."""
        for level in self.levels():
            for _, node in level.own_nodes():
                yield node

    def ends(self, kind: str) -> list[str]:
        """The names of its Input or Output nodes."""
        return [name for name, node in self.own_nodes() if node.kind == kind]


@dataclass
class Sheet:
    """A file: its graph, and what snnir's own metadata says of its step (None: nothing)."""

    root: Level
    semantics: Semantics | None = None


@dataclass
class Net:
    """The graph without nesting: nodes by path, edges between them. Input and Output nodes of subgraphs stay."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    inner_ends: set[str] = field(default_factory=set)

    def feeds(self) -> dict[str, list[str]]:
        """Node -> the nodes that feed it."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for a, b in self.edges:
            found[b].append(a)
        return found

    def readers(self) -> dict[str, list[str]]:
        """Node -> the nodes that it feeds."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for a, b in self.edges:
            found[a].append(b)
        return found


def net_of(root: Level) -> Net:
    """The flat graph, as far as its edges lead somewhere: each once, those to several ports of a subgraph to all."""
    net = Net()

    def places(level: Level, name: str, kind: str) -> list[str]:
        node = level.nodes.get(name)
        if isinstance(node, Node):
            return [node.path]
        if node is None:
            return []
        return [inner.path for _, inner in node.own_nodes() if inner.kind == kind]

    for level in root.levels():
        for _, node in level.own_nodes():
            net.nodes[node.path] = node
            if level.path and node.kind in ("Input", "Output"):
                net.inner_ends.add(node.path)
    for level in root.levels():
        for a, b in level.edges:
            if (
                getattr(level.nodes.get(a), "kind", "") == "Output"
                or getattr(level.nodes.get(b), "kind", "") == "Input"
            ):
                continue  # an edge the wrong way; it is noted, and means nothing
            net.edges += [(s, t) for s in places(level, a, "Output") for t in places(level, b, "Input")]
    net.edges = list(dict.fromkeys(net.edges))
    return net
