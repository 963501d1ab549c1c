"""A model of any exporter, node by node; nothing of it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from snnir.backends.onnx.package import onnx
from snnir.errors import CompileError, Violation
from snnir.frontends.onnx import elementwise, layers, pools, shapes  # noqa: F401 - they fill the table of readers
from snnir.frontends.onnx.builder import Builder
from snnir.frontends.onnx.file import File, checked
from snnir.frontends.onnx.fold import FOLDS, folded
from snnir.frontends.onnx.inputs import dims_of, shapes_of
from snnir.frontends.onnx.node import Node
from snnir.frontends.onnx.readers import READERS
from snnir.frontends.onnx.values import UNKNOWN, Const, Refuse, Signal, Skip, Unknown, Value
from snnir.graph import Graph
from snnir.ops import Array, Input, Loc, Output
from snnir.semantics import Semantics

TITLE = "the ONNX model cannot become a graph"
_SOURCES = ("Constant", "Shape", "Size")
SIZE_FREE = ("ConstantOfShape", "Expand")  # their numbers do not follow from the sizes that they are given


def plain_graph(file: File, axes: Any, input_shape: Any, semantics: Semantics | None) -> Graph:
    """The graph of a model without state.

    Raises:
        CompileError: with every node that cannot be read, and every axis that is not clear.
        UsageError: an option does not fit.
    """
    faults = list(_unsupported(file))
    if faults:
        raise CompileError(faults, title=TITLE)
    inferred = checked(file)
    reader = _Reader(file, axes, input_shape)
    reader.read_all()
    b = reader.b
    if len(b.comparisons) > 1 and semantics is None:
        there = ", ".join(f"{name} ({sign})" for sign, name in b.comparisons.items())
        hint = "semantics=... says which one is meant"
        b.violations.append(Violation("onnx-comparison", "compares both by > and by >=", where=there, hint=hint))
    if not b.violations:
        b.violations.extend(_other_shapes(reader, inferred))
    if b.violations:
        raise CompileError(b.violations, title=TITLE)
    return reader.graph(semantics).verify()


def _unsupported(file: File) -> list[Violation]:
    """One violation per operator that nothing here reads, with the names of all its nodes."""
    found: dict[str, list[str]] = {}
    for node in file.model.graph.node:
        standard = node.domain in ("", "ai.onnx")
        if standard and (node.op_type in READERS or node.op_type in FOLDS or node.op_type in _SOURCES):
            continue
        kind = node.op_type if standard else f"{node.domain}.{node.op_type}"
        found.setdefault(kind, []).append(node.name or node.output[0])
    hint = "the network has state, or functions that the graph has no op for"
    return [
        Violation("onnx-op", f"the operator {kind} has no counterpart in the graph", where=", ".join(names), hint=hint)
        for kind, names in found.items()
    ]


class _Reader:
    """Walks over the nodes of one file."""

    def __init__(self, file: File, axes: Any, input_shape: Any) -> None:
        self.file = file
        graph = file.model.graph
        held = {t.name for t in graph.initializer}
        self.inputs = [value for value in graph.input if value.name not in held]
        faults: list[Violation] = []
        dims = {value.name: dims_of(value) for value in self.inputs}
        sizes, lead, samples = shapes_of(dims, axes, input_shape, faults)
        self.b = Builder(sizes, lead)
        self.b.violations.extend(faults)
        self.values: dict[str, Value] = {}
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.uses.update(value.name for value in graph.output)
        self.b.reserved = {*(v.name for v in self.inputs), *(v.name for v in graph.output)}
        for value in self.inputs:
            self._input(value.name, samples.get(value.name))

    def _input(self, name: str, shape: tuple[int, ...] | None) -> None:
        if shape is None:
            self.values[name] = UNKNOWN
            return
        self.b.add(Input(shape=shape, loc=Loc(self.file.path, 0, name)), name=name)
        self.values[name] = Signal((name,), shape, self.b.lead)

    def read_all(self) -> None:
        """Every node, then the outputs; what cannot be read is a violation, and what follows from it is unknown."""
        b = self.b
        for node in self.file.model.graph.node:
            b.name, b.loc = spelt(node.name or node.output[0]), Loc(self.file.path, 0, node.name or node.output[0])
            try:
                given = self._node(node)
            except Refuse as error:
                b.refuse(error, node.op_type)
                given = [UNKNOWN] * len(node.output)
            except Skip:
                given = [UNKNOWN] * len(node.output)
            for name, value in zip(node.output, given, strict=False):
                self.values[name] = value
                if isinstance(value, Signal) and self.uses[name] > 1:
                    b.kept.update(value.sources)
        taken = set(b.ops)
        for value in self.file.model.graph.output:
            b.name, b.loc = value.name, Loc(self.file.path, 0, value.name)
            self._output(value.name, taken)

    def _output(self, name: str, taken: set[str]) -> None:
        b, value = self.b, self._value(name)
        if isinstance(value, Unknown):
            return
        if isinstance(value, Const):
            value = b.constant(value.array, b.lead)
        if value.lead != b.lead:
            what = f"gives leading axes {', '.join(value.lead)}, but the inputs have {', '.join(b.lead)}"
            b.refuse(Refuse(what, rule="onnx-axes"), "output")
            return
        try:
            op = b.add(Output(loc=b.loc), "output") if name in taken else b.add(Output(loc=b.loc), name=name)
            b.connect(value, op)
        except Refuse as error:
            b.refuse(error, "output")

    def _value(self, name: str) -> Value:
        if name not in self.values:
            self.values[name] = Const(self.file.array(name))
        return self.values[name]

    def _node(self, proto: Any) -> Sequence[Value]:
        kind, axes = proto.op_type, self.b.axes
        inputs = [self._value(name) if name else None for name in proto.input]
        node = Node(kind, inputs, self._attributes(proto), list(proto.output), self.file.opset)
        if kind == "Constant":
            return [_constant(node)]
        if kind in ("Shape", "Size"):
            return [self._shape(node)]
        known = [value for value in inputs if not isinstance(value, (Signal, Unknown))]
        if len(known) == len(inputs) and kind in FOLDS:
            found = folded(node, known)
            sized = found.sized and kind not in SIZE_FREE and axes.tells(found.array)
            return [Const(found.array, sized)]
        if kind not in READERS:
            raise Refuse("works on values that follow from the inputs", expected="constants only", rule="onnx-op")
        made = READERS[kind](self.b, node)
        return made if isinstance(made, (list, tuple)) else [made]  # type: ignore[list-item]

    def _shape(self, node: Node) -> Const:
        value = node.given(0)
        if isinstance(value, Const):
            full, lead = value.array.shape, 0
        else:
            signal = node.signal()
            full, lead = self.b.axes.full(signal), len(signal.lead)
        if node.kind == "Size":
            array: Array = np.asarray(int(np.prod(full)), np.int64)
        else:
            array = np.asarray(full[slice(node.attribute("start", 0), node.attribute("end", None))], np.int64)
        return Const(array, bool(lead) and self.b.axes.tells(array))

    def _attributes(self, proto: Any) -> dict[str, Any]:
        package, found = onnx(), {}
        for attribute in proto.attribute:
            value = package.helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            elif attribute.type == package.AttributeProto.TENSOR:
                value = self.file.value(value)
            elif attribute.name == "to":
                value = _number_type(value)
            found[attribute.name] = value
        return found

    def graph(self, semantics: Semantics | None) -> Graph:
        """What was read, without ops that no output depends on."""
        b = self.b
        needed = {name for name, op in b.ops.items() if isinstance(op, Output)}
        feeding: dict[str, list[str]] = {}
        for edge in b.edges:
            feeding.setdefault(edge.target, []).append(edge.source)
        waiting = list(needed)
        while waiting:
            for source in feeding.get(waiting.pop(), ()):
                if source not in needed:
                    needed.add(source)
                    waiting.append(source)
        ops = {name: op for name, op in b.ops.items() if name in needed or isinstance(op, Input)}
        edges = tuple(edge for edge in b.edges if edge.target in needed)
        return Graph(ops, edges, semantics or self._semantics())

    def _semantics(self) -> Semantics:
        double = any(v.type.tensor_type.elem_type == onnx().TensorProto.DOUBLE for v in self.inputs)
        said: Any = {"number_format": "float64"} if double else {}
        if self.b.comparisons:
            said["comparison"] = next(iter(self.b.comparisons))
        return Semantics(**said)


def _number_type(code: int) -> Any:
    kind = np.dtype(onnx().helper.tensor_dtype_to_np_dtype(code))
    return kind if kind.kind in "iub" or kind in (np.float32, np.float64) else np.dtype(np.float32)


def _constant(node: Node) -> Const:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            value = node.attributes[name]
            kind = np.float32 if "float" in name else np.int64
            return Const(value if isinstance(value, np.ndarray) else np.asarray(value, kind))
    raise Refuse(f"holds {', '.join(node.attributes) or 'nothing'}", expected="numbers")


def _other_shapes(reader: _Reader, inferred: Any) -> list[Violation]:
    """Where onnx infers another shape than the graph has: then one of both reads a node wrongly."""
    found: list[Violation] = []
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        dims, signal = dims_of(value), reader.values.get(value.name)
        if dims is None or not isinstance(signal, Signal):
            continue
        here = reader.b.axes.full(signal)
        if len(here) != len(dims) or any(
            isinstance(d, int) and d not in (0, n) for d, n in zip(dims, here, strict=True)
        ):
            shape = list(signal.shape)
            what = f"the file's shape {dims} is not that of the graph, {shape} per sample"
            found.append(Violation("onnx-shape", what, where=value.name))
    return found


def spelt(name: str) -> str:
    """A node's name as an op's: `/features/features.0/Conv`, as PyTorch writes it, is `features.0.Conv`."""
    parts = [part for part in name.split("/") if part]
    kept = [a for a, b in zip(parts, [*parts[1:], ""], strict=True) if not b.startswith(f"{a}.")]
    return ".".join(kept) or name
