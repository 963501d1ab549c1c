"""Nodes, weights and names of an ONNX graph while it is being written.

A `Writer` per graph; the body of a Scan is a `Writer` with a parent. Weights all lie in the outermost graph, which
inner graphs can read, so that a viewer shows each once and under its op's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from snnir.backends.onnx.package import onnx
from snnir.ops import Array

OPSET = 18  # what ONNX Runtime has taken since 1.14
IR_VERSION = 8

Dims = Sequence[int | str | None]


class Writer:
    """An ONNX graph in the making.

    Args:
        dtype: float32 or float64, of all real values. reserved: names that are kept for ops' values.
        parent: the writer of the graph around this one, for a Scan's body.
    """

    def __init__(self, dtype: Any, reserved: Iterable[str] = (), parent: Writer | None = None) -> None:
        self.dtype = np.dtype(dtype)
        self.parent = parent
        self.nodes: list[Any] = []
        self.known: list[Any] = []  # value infos
        self.root: Writer = parent.root if parent else self
        if parent is None:
            self.taken = set(reserved)
            self.weights: dict[str, Any] = {}
            self.turned: set[str] = set()
            self._given: set[str] = set()
            self._spelt: dict[str, list[tuple[str, Array]]] = {}

    # -- names and weights -------------------------------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """`name`, or the first of name_2, name_3, ... that nothing has yet."""
        taken, found, k = self.root.taken, name, 1
        while found in taken:
            k += 1
            found = f"{name}_{k}"
        taken.add(found)
        return found

    def weight(self, name: str, value: Any, dtype: Any = None, turned: bool = False) -> str:
        """An array of the file: `value` in this graph's floats, or in `dtype`; what is written twice is there once.

        `turned` says that `value` is the transpose of what `name` names.
        """
        root = self.root
        array = np.asarray(value, dtype=root.dtype if dtype is None else dtype, order="C")
        for spelt, there in root._spelt.get(name, ()):
            if there.dtype == array.dtype and there.shape == array.shape and there.tobytes() == array.tobytes():
                return spelt
        spelt = self.unique(name)
        root.weights[spelt] = onnx().numpy_helper.from_array(array, spelt)
        root._spelt.setdefault(name, []).append((spelt, array))
        if turned:
            root.turned.add(spelt)
        return spelt

    def written(self, name: str) -> tuple[str, Array] | None:
        """The array that was to be called `name`: its name in the file, and it; None where none or several are."""
        found = self.root._spelt.get(name, [])
        return found[0] if len(found) == 1 else None

    def ints(self, name: str, values: Sequence[int]) -> str:
        """A list of whole numbers (a shape, axes) as an array of the file."""
        return self.weight(name, list(values), np.int64)

    # -- nodes -------------------------------------------------------------------------------------------------------

    def node(self, kind: str, inputs: Sequence[str], name: str, own: bool = False, **attributes: Any) -> str:
        """A node with one output, called as that.

        `own` says that `name` is reserved for just this value; where it was given away, an op is written again for a
        further inner step, and its value gets a name beside it.
        """
        if not own or name in self.root._given:
            name = self.unique(name)
        elif own:
            self.root._given.add(name)
        return self.nodes_out(kind, inputs, [name], **attributes)[0]

    def nodes_out(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """A node with these outputs, whose names are taken as they are."""
        helper = onnx().helper
        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), name=outputs[0], **attributes))
        return outputs

    def cast(self, value: str, name: str, own: bool = False) -> str:
        """A truth value as 0 or 1."""
        return self.node("Cast", [value], name, own, to=self.real)

    @property
    def real(self) -> int:
        """ONNX's number of the type of real values."""
        return int(onnx().helper.np_dtype_to_tensor_dtype(self.root.dtype))

    def info(self, name: str, dims: Dims, kind: Any = None) -> Any:
        """A value's type and shape; text stands for sizes that are known at run time only."""
        of = self.real if kind is None else int(onnx().helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
        return onnx().helper.make_tensor_value_info(name, of, list(dims))

    def note(self, name: str, dims: Dims) -> str:
        """Writes a value's shape down for readers of the file."""
        self.known.append(self.info(name, dims))
        return name

    def graph(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The graph; weights are those of the outermost one."""
        ends = {value.name for value in (*inputs, *outputs)}
        known = [value for value in self.known if value.name not in ends]
        weights = list(self.weights.values()) if self.parent is None else []
        return onnx().helper.make_graph(self.nodes, name, list(inputs), list(outputs), weights, value_info=known)
