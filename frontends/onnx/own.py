"""snnir's own files back: the graph by its record, weights from the file, and proof that the nodes are the record's.

The proof: the graph is written once more, and node for node, array for array the file must be the same. So whatever a
tool changed in the file, but for weights, is found and named.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir.backends.onnx.model import FORM, model_of
from snnir.backends.onnx.package import onnx
from snnir.backends.onnx.plan import Plan
from snnir.backends.onnx.record import KEY, graph_of
from snnir.backends.onnx.target import TARGET
from snnir.errors import CompileError, Violation, fail
from snnir.frontends.onnx.file import File, checked
from snnir.graph import Graph
from snnir.ops import Array
from snnir.target import require

HINT = f"restore the file, or delete its metadata entry {KEY!r} to read it as a plain ONNX model"


def own_graph(file: File) -> Graph:
    """The graph that a file of snnir was written from, with the weights that the file holds now.

    Raises:
        CompileError: the record is damaged, or the file's nodes are not what it says; with every node that differs.
    """
    checked(file)
    form = file.properties.get(FORM, "")
    if form not in ("sequence", "step"):
        raise fail("onnx-record", f"its form is {form!r}", where=file.path, expected="'sequence' or 'step'", hint=HINT)
    graph = graph_of(file.properties[KEY], file.array, file.path).verify()
    require(TARGET, graph)
    expected = model_of(Plan(graph), form, _number_type(file, graph))
    faults = [*_values(file, expected), *_nodes(file.path, file.model.graph, expected.graph), *_arrays(file, expected)]
    if faults:
        raise CompileError(faults, title="the file is not what its record says")
    return graph


def _number_type(file: File, graph: Graph) -> Any:
    kinds = {v.name: v.type.tensor_type.elem_type for v in file.model.graph.input}
    double = kinds.get(graph.inputs[0]) == onnx().TensorProto.DOUBLE
    return np.float64 if double else np.float32


def _values(file: File, expected: Any) -> list[Violation]:
    found: list[Violation] = []
    for what in ("input", "output"):
        here, there = (
            [(v.name, v.type.tensor_type.elem_type) for v in getattr(graph, what)]
            for graph in (file.model.graph, expected.graph)
        )
        if here != there:
            names = ", ".join(name for name, _ in here)
            wanted = ", ".join(name for name, _ in there)
            found.append(Violation("onnx-record", f"its {what}s are {names}", file.path, expected=wanted, hint=HINT))
    return found


def _nodes(where: str, graph: Any, expected: Any) -> list[Violation]:
    """Nodes, found by their first output, that are not the record's; bodies of Scans included."""
    here = {node.output[0]: node for node in graph.node}
    there = {node.output[0]: node for node in expected.node}
    found: list[Violation] = []
    for name in here.keys() - there.keys():
        node = here[name]
        what = f"the node is no part of the network: {node.op_type}"
        found.append(Violation("onnx-record", what, where=node.name or name, loc=where, hint=HINT))
    for name, wanted in there.items():
        node = here.get(name)
        if node is None:
            found.append(
                Violation("onnx-record", "the node is missing", where=wanted.name or name, loc=where, hint=HINT)
            )
            continue
        found += _differences(where, node, wanted)
    return sorted(found, key=lambda violation: violation.where)


def _differences(where: str, node: Any, wanted: Any) -> list[Violation]:
    found: list[Violation] = []
    for what, here, there in (
        ("operator", node.op_type, wanted.op_type),
        ("domain", node.domain, wanted.domain),
        ("inputs", list(node.input), list(wanted.input)),
        ("outputs", list(node.output), list(wanted.output)),
    ):
        if here != there:
            found.append(_fault(node, where, f"its {what}: {here}", str(there)))
    if found:
        return found
    mine, theirs = ({a.name: a for a in n.attribute} for n in (node, wanted))
    for name in sorted(mine.keys() | theirs.keys()):
        a, b = mine.get(name), theirs.get(name)
        if a is None or b is None:
            found.append(_fault(node, where, f"its attribute {name}", "as written"))
        elif a.HasField("g") and b.HasField("g"):
            ends = [([v.name for v in g.input], [v.name for v in g.output]) for g in (a.g, b.g)]
            if ends[0] != ends[1] or a.g.initializer:
                found.append(_fault(node, where, "the inputs and outputs of its body", "as written"))
            found += _nodes(where, a.g, b.g)
        elif a.SerializeToString(deterministic=True) != b.SerializeToString(deterministic=True):
            value = onnx().helper.get_attribute_value
            found.append(_fault(node, where, f"its attribute {name}: {value(a)}", str(value(b))))
    return found


def _fault(node: Any, where: str, what: str, expected: str) -> Violation:
    return Violation("onnx-record", what, node.name or node.output[0], where, expected, HINT)


def _arrays(file: File, expected: Any) -> list[Violation]:
    """Arrays that follow from the record and are others in the file: constants of neurons, sizes, indices."""
    found: list[Violation] = []
    for tensor in expected.graph.initializer:
        wanted = onnx().numpy_helper.to_array(tensor)
        try:
            here = file.array(tensor.name)
        except KeyError:
            found.append(Violation("onnx-record", "the array is missing", where=tensor.name, loc=file.path, hint=HINT))
            continue
        if here.shape != wanted.shape or here.dtype != wanted.dtype:
            what = f"holds {here.dtype}{list(here.shape)}"
            of = f"{wanted.dtype}{list(wanted.shape)}"
            found.append(Violation("onnx-record", what, tensor.name, file.path, of, HINT))
        elif not _equal(here, wanted):
            what = "holds other numbers than its record says"
            hint = "weights, biases and thresholds may change in the file; what follows from other parameters may not"
            found.append(Violation("onnx-record", what, tensor.name, file.path, hint=hint))
    return found


def _equal(here: Array, wanted: Array) -> bool:
    if here.dtype.kind != "f":
        return np.array_equal(here, wanted)
    # exp and sqrt may differ by a last digit between machines
    return bool(np.allclose(here, wanted, rtol=4 * np.finfo(here.dtype).eps, atol=0))
