"""From raw NIR to a sound graph, with every fault of the source at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.graph import Edge, Graph
from snnir.nir_io.own import Own, merged, read_own
from snnir.nir_io.raw import FIELDS, NIR_VERSION, OWN_KEY, UNREADABLE, RawGraph, RawNode
from snnir.nir_io.subgraphs import Flat, Joint, dissolve, flatten
from snnir.ops import KINDS, Array, Loc, Op, Shape
from snnir.values import native


def graph_of(raw: RawGraph, source: str = "", faults: list[Violation] | None = None) -> Graph:
    """The graph that a raw NIR graph describes, verified, subgraphs dissolved.

    Args:
        raw: the graph as read.
        source: the file, for `Loc`.
        faults: what was found wrong while reading.

    Raises:
        CompileError: with everything that is wrong.
    """
    faults = [] if faults is None else faults
    own = read_own(raw.metadata, source, faults)
    flat = flatten(_restored(raw, own), faults)
    ops: dict[str, Op] = {}
    for name, node in flat.nodes.items():
        loc = Loc(file=source, module=name)
        problems: list[Violation] = []
        op = _op(name, node, flat, own, loc, problems)
        ops[name] = _Unreadable(loc=loc) if op is None else op
        faults.extend(problems)
    graph = Graph(
        ops,
        tuple(Edge(*pair) for pair in flat.edges),
        own.semantics,
        own.origin,
        _metadata(raw, flat, own),
    )
    if faults:
        raise CompileError([*faults, *_beside(graph)], title="not a sound NIR graph")
    return dissolve(graph.verify())


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Unreadable(Op):
    """Stands for a node that could not be read, so that the rest of the graph can still be checked."""

    stateful: ClassVar[bool] = True

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return None


def _beside(graph: Graph) -> list[Violation]:
    """The faults of a graph that do not follow from its unreadable nodes."""
    unreadable = {f"{name} ({op.kind})" for name, op in graph.ops.items() if isinstance(op, _Unreadable)}
    found = [v for v in graph.violations() if v.where not in unreadable]
    if unreadable:  # they may have been what is missing
        found = [v for v in found if v.rule not in ("graph-inputs", "graph-outputs")]
        found = [v for v in found if "cannot be inferred" not in v.what]
    return found


def _restored(raw: RawGraph, own: Own) -> RawGraph:
    """The graph with the true names and the order of its nodes, as far as they still fit what is there."""
    true = {name: own.names.get(name, name) for name in raw.nodes}
    if len(set(true.values())) < len(true):
        return raw
    nodes = {true[name]: node for name, node in raw.nodes.items()}
    if set(own.order) == set(nodes):
        nodes = {name: nodes[name] for name in own.order}
    edges = [(true.get(a, a), true.get(b, b)) for a, b in raw.edges]
    return RawGraph(nodes, edges, raw.metadata)


def _metadata(raw: RawGraph, flat: Flat, own: Own) -> dict[str, Any]:
    native = {key: value for key, value in raw.metadata.items() if key != OWN_KEY}
    found = merged(native, own.graph_metadata)
    inner = dict(flat.metadata)
    inner.update((name, flat.nodes[name].metadata) for name in flat.nodes if name in flat.joints)
    inner = {path: values for path, values in inner.items() if values}
    return {**found, "subgraphs": inner} if inner else found


# -- one node --------------------------------------------------------------------------------------------------------


def _op(name: str, node: RawNode, flat: Flat, own: Own, loc: Loc, faults: list[Violation]) -> Op | None:
    def fault(rule: str, what: str, expected: str = "", hint: str = "") -> None:
        faults.append(Violation(rule, what, f"{name} ({node.kind})", str(loc), expected, hint))

    if node.kind == UNREADABLE:
        return None
    if node.kind not in FIELDS:
        hint = "convert the file with a newer snnir, or express the node in NIR's primitives"
        fault("nir-type", f"unknown node type {node.kind!r}", expected=", ".join(FIELDS), hint=hint)
        return None
    required, optional = FIELDS[node.kind]
    for field in required:
        if field not in node.fields or (node.fields[field] is None and field != "bias"):
            fault("nir-field", f"has no {field}", expected=", ".join((*required, *optional)))
    for field in node.fields:
        if field not in (*required, *optional):
            hint = f"snnir reads NIR {NIR_VERSION}; what it does not know it does not ignore"
            fault("nir-field", f"has a field {field!r} that {node.kind} does not have", hint=hint)
    if faults:
        return None
    values = _defaults(node)
    kept: dict[str, Any] = {}
    for field, value in values.items():
        try:
            kept[field] = _value(node.kind, field, value)
        except (ValueError, TypeError) as error:
            fault("nir-field", str(error))
    if node.kind in ("Conv1d", "Conv2d") and "bias" in kept and kept["bias"].ndim != 1:
        fault("nir-field", f"bias has shape {list(kept['bias'].shape)}", expected="one bias per output channel")
    if faults:
        return None
    if name in flat.joints:
        return Joint(shape=kept["shape"], role=node.kind, metadata=node.metadata, loc=loc)
    for field, shape in own.expanded.get(name, {}).items():
        if field in kept:
            kept[field] = _shrunk(kept[field], tuple(shape))
    for field in own.inferred.get(name, []):
        kept.pop(field, None)
    return KINDS[node.kind](**kept, metadata=merged(node.metadata, own.metadata.get(name, {})), loc=loc)


def _defaults(node: RawNode) -> dict[str, Any]:
    """The fields by the names of our ops, what NIR leaves out filled in with what it means."""
    values = {("input_shape" if field == "input_type" else field): value for field, value in node.fields.items()}
    if "v_reset" in FIELDS[node.kind].optional and values.get("v_reset") is None:
        values["v_reset"] = np.zeros_like(np.asarray(values["v_threshold"]))
    if "w_in" in FIELDS[node.kind].optional and values.get("w_in") is None:
        values["w_in"] = np.ones_like(np.asarray(values["v_leak"]))
    if "bias" in values and values["bias"] is None:
        weight = np.asarray(values["weight"])
        axis = -2 if node.kind == "Affine" else 0
        values["bias"] = np.zeros(weight.shape[axis] if weight.ndim > 1 else (), weight.dtype)
    return values


_AXES = {"Conv1d": 1, "Conv2d": 2, "SumPool2d": 2, "AvgPool2d": 2}


def _value(kind: str, field: str, value: Any) -> Any:
    """One field as our op takes it.

    Raises:
        ValueError: it is not a number, not whole, or not as many as the op has axes.
    """
    if field in KINDS[kind].arrays:
        return native(value)
    if value is None:
        return None
    if field == "padding" and isinstance(value, (str, bytes)):
        return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)
    sizes = _whole(field, value)
    if field in ("start_dim", "end_dim", "groups"):
        if len(sizes) != 1:
            raise ValueError(f"{field} is {list(sizes)}, expected one whole number")
        return sizes[0]
    axes = _AXES.get(kind)
    if axes is not None and len(sizes) not in (1, axes):
        raise ValueError(f"{field} is {list(sizes)}, expected {axes} whole number{'s' if axes > 1 else ''}")
    return sizes


def _whole(field: str, value: Any) -> tuple[int, ...]:
    array = np.atleast_1d(np.asarray(value)).reshape(-1)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise ValueError(f"{field} is {value!r}, expected whole numbers")
    return tuple(int(n) for n in array)


def _shrunk(array: Array, shape: Shape) -> Array:
    """`array` in the smaller `shape` it was broadcast from; itself when it has been changed since."""
    lost = array.ndim - len(shape)
    if not array.size or lost < 0 or any(n not in (1, m) for n, m in zip(shape, array.shape[lost:], strict=True)):
        return array
    small = array[(0,) * lost + tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]
    return small if np.array_equal(np.broadcast_to(small, array.shape), array) else array
