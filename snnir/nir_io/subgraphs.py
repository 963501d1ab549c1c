"""Nested NIR graphs become part of the outer graph: dotted names, and no node left where the boundary was.

While a graph is being read, the Input and Output nodes of its subgraphs are `Joint`s: they sum what arrives and check
the declared shape. `dissolve` then removes them, exactly: what fed a joint feeds its readers. Where that would make
two equal edges (an edge is not a weight, so one of them would be lost), the joint stays as a Scale by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from snnir.edit import Editor
from snnir.errors import Violation
from snnir.graph import Graph
from snnir.naming import fresh
from snnir.nir_io.raw import RawGraph, RawNode
from snnir.ops import Op, Scale, Shape, ShapeError


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Joint(Op):
    """The Input or Output node of a subgraph: y = sum of what arrives, of the declared shape."""

    linear: ClassVar[bool] = True
    shape: Shape
    role: str

    @property
    def kind(self) -> str:
        return f"{self.role} of a subgraph"

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = shapes.get("input")
        if arriving is not None and arriving != self.shape:
            raise ShapeError(f"declares shape {list(self.shape)}, but {list(arriving)} arrives")
        return self.shape


@dataclass
class Flat:
    """A graph without nesting: nodes by path, the names of its joints, and the metadata of subgraphs by path."""

    nodes: dict[str, RawNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    joints: set[str] = field(default_factory=set)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class _Ends:
    """Where edges to a node and from a node attach."""

    inputs: list[str]
    outputs: list[str]
    nested: bool


def flatten(graph: RawGraph, faults: list[Violation]) -> Flat:
    """All nodes of a graph and its subgraphs under their paths, `sub.lif`, in the order in which they stand.

    Adds a violation for every edge to or from a subgraph whose end is not unique: NIR's edges name no port.
    """
    flat = Flat()
    _enter(graph, "", flat, faults)
    return flat


def _enter(graph: RawGraph, prefix: str, flat: Flat, faults: list[Violation]) -> _Ends:
    ends: dict[str, _Ends] = {}
    own = _Ends([], [], nested=True)
    for name, node in graph.nodes.items():
        if isinstance(node, RawGraph):
            if node.metadata:
                flat.metadata[prefix + name] = node.metadata
            ends[name] = _enter(node, f"{prefix}{name}.", flat, faults)
            continue
        path = fresh(prefix + name, flat.nodes)
        flat.nodes[path] = node
        ends[name] = _Ends([path], [path], nested=False)
        if prefix and node.kind in ("Input", "Output"):
            flat.joints.add(path)
            (own.inputs if node.kind == "Input" else own.outputs).append(path)
    for source, target in graph.edges:
        tail = _only(ends.get(source), prefix, source, "output", faults)
        head = _only(ends.get(target), prefix, target, "input", faults)
        if tail is not None and head is not None:
            flat.edges.append((tail, head))
    return own


def _only(ends: _Ends | None, prefix: str, name: str, side: str, faults: list[Violation]) -> str | None:
    """The one place where an edge attaches to node `name`; a missing node keeps its name, so that it is reported."""
    if ends is None:
        return prefix + name
    places = ends.outputs if side == "output" else ends.inputs
    if len(places) == 1:
        return places[0]
    there = f" ({', '.join(places)})" if places else ""
    way = "from" if side == "output" else "to"
    fault = Violation(
        "nir-subgraph",
        f"the subgraph has {len(places)} {side}s{there}, so an edge {way} it is unclear",
        where=prefix + name,
        expected=f"one {side}: NIR's edges name no port",
        hint="put its nodes into the outer graph",
    )
    if fault not in faults:
        faults.append(fault)
    return None


def dissolve(graph: Graph) -> Graph:
    """The graph without its joints; the same object when it has none."""
    editor = Editor(graph)
    for name, op in graph.ops.items():
        if not isinstance(op, Joint):
            continue
        itself = any(edge.source == name for edge in editor.incoming(name))
        if itself or not editor.can_bypass(name):
            editor.replace(name, Scale(scale=np.ones((), np.float32), metadata=op.metadata, loc=op.loc))
        else:
            editor.bypass(name)
    return editor.build()
