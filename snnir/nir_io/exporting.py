"""From a graph to raw NIR, strictly standard: NIR's own node types only, parameters in full, shapes stated.

What the graph leaves shorter (scalar parameters, open shapes) is written out, and `Own` records it, so that reading
the file gives the graph back as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.nir_io.own import Own
from snnir.nir_io.raw import OWN_KEY, RawGraph, RawNode
from snnir.ops import (
    NIR_OPS,
    Affine,
    Array,
    Conv,
    Conv1d,
    Delay,
    Flatten,
    Input,
    Linear,
    Neuron,
    Op,
    Output,
    Pool2d,
    Scale,
    Shape,
    Threshold,
)


def raw_of(graph: Graph) -> tuple[RawGraph, Own]:
    """The graph as NIR, under its true names, and what must be said besides; metadata is the graph's own.

    Raises:
        CompileError: the graph is not sound, or some op has no NIR primitive; every such op at once.
    """
    faults = list(_not_nir(graph))
    if faults:
        raise CompileError(faults, title="NIR cannot say this network")
    graph.verify()
    own = Own(graph.semantics, list(graph.ops), origin=dict(graph.origin))
    nodes: dict[str, RawNode | RawGraph] = {}
    for name, op in graph.ops.items():
        arriving = graph.shapes[graph.incoming[name][0].source] if graph.incoming[name] else ()
        nodes[name] = RawNode(op.kind, _fields(name, op, arriving, graph.shapes[name], own), dict(op.metadata))
    edges = [(edge.source, edge.target) for edge in graph.edges]
    return RawGraph(nodes, edges, dict(graph.metadata)), own


def _not_nir(graph: Graph) -> list[Violation]:
    faults: list[Violation] = []
    if OWN_KEY in graph.metadata:
        what = f"its metadata has the key {OWN_KEY!r}, which snnir's own notes take in a NIR file"
        faults.append(Violation("metadata-value", what, where="the graph", hint="call it something else"))
    lower = "lower it with passes first; `snnir compile --target nir` does"
    for name, op in graph.ops.items():
        where, loc = f"{name} ({op.kind})", str(op.loc or "")
        if type(op) not in NIR_OPS:
            takes = "one of NIR's 18 primitives"
            faults.append(Violation("nir-op", f"{op.kind} is no NIR primitive", where, loc, takes, lower))
        elif isinstance(op, Conv) and op.bias.ndim > 1:
            what = f"its bias is a map of shape {list(op.bias.shape)}"
            faults.append(
                Violation("nir-bias-map", what, where, loc, f"one bias per channel, [{len(op.weight)}]", lower)
            )
    return faults


def _fields(name: str, op: Op, arriving: Shape, shape: Shape, own: Own) -> dict[str, Any]:
    """The fields of one node; `arriving` and `shape` are those of its input and output."""

    def full(field: str, wanted: Shape) -> Array:
        array: Array = getattr(op, field)
        if array.shape == wanted:
            return array
        own.expanded.setdefault(name, {})[field] = list(array.shape)
        return np.broadcast_to(array, wanted)

    def stated(field: str, value: Any, wanted: Shape) -> Array:
        if value is None:
            own.inferred.setdefault(name, []).append(field)
        return _sizes(wanted if value is None else value)

    if isinstance(op, Input):
        return {"shape": _sizes(op.shape)}
    if isinstance(op, Output):
        return {"shape": stated("shape", op.shape, shape)}
    if isinstance(op, (Neuron, Scale, Threshold, Delay)):
        return {field: full(field, shape) for field in op.arrays}
    if isinstance(op, Linear):
        fields: dict[str, Any] = {"weight": full("weight", (*arriving[:-1], *op.weight.shape[-2:]))}
        return fields | {"bias": full("bias", shape)} if isinstance(op, Affine) else fields
    if isinstance(op, Flatten):
        input_type = stated("input_shape", op.input_shape, arriving)
        return {"start_dim": np.int64(op.start_dim), "end_dim": np.int64(op.end_dim), "input_type": input_type}
    if isinstance(op, Pool2d):
        return {field: _sizes(getattr(op, field)) for field in ("kernel_size", "stride", "padding")}
    if isinstance(op, Conv):
        return _conv_fields(op, stated("input_shape", op.input_shape, arriving[1:]))
    raise TypeError(f"{op.kind} has no NIR fields")


def _conv_fields(op: Conv, input_shape: Array) -> dict[str, Any]:
    def sizes(values: Any) -> Any:  # NIR writes the one size of Conv1d as a number
        array = _sizes(values)
        return array[0] if isinstance(op, Conv1d) else array

    return {
        "input_shape": sizes(input_shape),
        "weight": op.weight,
        "stride": sizes(op.strides),
        "padding": op.padding if isinstance(op.padding, str) else sizes(op.padding),
        "dilation": sizes(op.dilations),
        "groups": np.int64(op.groups),
        "bias": op.bias,
    }


def _sizes(values: Any) -> Array:
    return np.asarray(values, np.int64).reshape(-1)
