"""Live objects of the nir package to raw NIR and back. Reading needs only attributes; writing needs the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.errors import MissingPackageError, fail
from snnir.graph import Graph
from snnir.nir_io.own import Own
from snnir.nir_io.raw import FIELDS, GRAPH_KIND, OWN_KEY, RawGraph, RawNode

_ABSENT = object()


def raw_of_live(graph: Any) -> RawGraph:
    """A NIRGraph-like object (nodes, edges, metadata) as raw NIR.

    Raises:
        CompileError: it has no nodes or edges.
    """
    nodes, edges = getattr(graph, "nodes", None), getattr(graph, "edges", None)
    if not isinstance(nodes, Mapping) or edges is None:
        what = f"a {type(graph).__name__} is no NIR graph"
        raise fail(
            "nir-graph", what, expected="an nir.NIRGraph", hint="nir.NIRGraph.from_list(node) makes a graph of it"
        )
    return RawGraph(
        {str(name): _node(node) for name, node in nodes.items()},
        [(str(edge[0]), str(edge[1])) for edge in edges],
        _metadata(graph),
    )


def _node(node: Any) -> RawNode | RawGraph:
    kind = type(node).__name__
    if kind == GRAPH_KIND:
        return raw_of_live(node)
    if kind in ("Input", "Output"):
        types = getattr(node, f"{kind.lower()}_type", None)
        found: dict[str, Any] = {"shape": _only(types)}
    else:
        required, optional = FIELDS.get(kind, ((), ()))
        found = {field: getattr(node, field, _ABSENT) for field in (*required, *optional)}
        if "input_type" in found:
            found["input_type"] = _only(found["input_type"])
    return RawNode(kind, {k: v for k, v in found.items() if v is not _ABSENT}, _metadata(node))


def _only(types: Any) -> Any:
    """The one shape in a NIR type, {'input': shape}."""
    return next(iter(types.values()), None) if isinstance(types, Mapping) else types


def _metadata(node: Any) -> dict[str, Any]:
    found = getattr(node, "metadata", None)
    return dict(found) if isinstance(found, Mapping) else {}


def live_of(raw: RawGraph, own: Own, graph: Graph) -> Any:
    """An nir.NIRGraph of a flat raw graph; every node's types are stated, from the shapes of `graph`.

    nir's own inference is left out: it is wrong for grouped and non-square convolutions (see `snnir.nir_io`).

    Raises:
        MissingPackageError: the nir package is not installed.
    """
    try:
        import nir
    except ModuleNotFoundError as error:
        raise MissingPackageError("nir", "nir", "making a live nir.NIRGraph") from error
    nodes: dict[str, Any] = {}
    for name, node in raw.nodes.items():
        if not isinstance(node, RawNode):
            raise TypeError(f"{name} is a nested graph; flatten it first")
        before = graph.incoming[name]
        arriving = np.array(graph.shapes[before[0].source if before else name], int)
        leaving = np.array(graph.shapes[name], int)
        made = _live_node(getattr(nir, node.kind), node)
        made.input_type, made.output_type = {"input": arriving}, {"output": leaving}
        nodes[name] = made
    metadata = {**raw.metadata, OWN_KEY: own.to_json()}
    return nir.NIRGraph(nodes=nodes, edges=list(raw.edges), metadata=metadata, type_check=False)


def _live_node(kind: Any, node: RawNode) -> Any:
    fields = {field: _live_value(value) for field, value in node.fields.items()}
    if node.kind == "Input":
        fields = {"input_type": {"input": fields["shape"]}}
    elif node.kind == "Output":
        fields = {"output_type": {"output": fields["shape"]}}
    elif node.kind == "Flatten":
        fields["input_type"] = {"input": fields["input_type"]}
    elif node.kind == "Conv2d":  # nir's own code builds its tuples of Python ints
        for field in ("input_shape", "stride", "padding", "dilation"):
            if not isinstance(fields[field], str):
                fields[field] = tuple(int(n) for n in fields[field])
    return kind(**fields, metadata=dict(node.metadata))


def _live_value(value: Any) -> Any:
    if isinstance(value, np.integer):
        return int(value)
    return np.array(value) if isinstance(value, np.ndarray) else value
