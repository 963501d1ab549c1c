"""The weights of a graph as a safetensors file, under the names that emitted modules give them."""

from __future__ import annotations

import numpy as np

from snnir.graph import Graph
from snnir.learning import by_default, learned
from snnir.naming import identifiers
from snnir.ops import Array
from snnir.store import to_safetensors


def state(graph: Graph) -> dict[str, Array]:
    """Every array of the graph as floats: `identifier.field` -> array, in its own precision."""
    spelt = identifiers(graph.ops)
    return {
        f"{spelt[name]}.{field}": _floats(getattr(op, field))
        for name, op in graph.ops.items()
        for field in op.arrays
        if getattr(op, field) is not None
    }


def _floats(array: Array) -> Array:
    """A contiguous array of float32 or float64 that holds the very same numbers."""
    if array.dtype not in (np.dtype("float32"), np.dtype("float64")):
        single = array.astype(np.float32)
        array = single if np.array_equal(single, array) else array.astype(np.float64)
    # ascontiguousarray would turn a scalar into an array of one.
    return array if array.ndim == 0 else np.ascontiguousarray(array)


def stored(graph: Graph) -> dict[str, Array]:
    """What the file `weights.safetensors` holds; what several ops share is there once, under the first one's name."""
    spelt = identifiers(graph.ops)
    again = {f"{spelt[op]}.{field}" for op, field in shared(graph)}
    return {name: array for name, array in state(graph).items() if name not in again}


def safetensors(graph: Graph) -> bytes:
    """The file `weights.safetensors`."""
    return to_safetensors(stored(graph))


def shared(graph: Graph) -> dict[tuple[str, str], tuple[str, str]]:
    """Trainable arrays that are one and the same in memory: (op, field) -> the first (op, field) that has it."""
    first: dict[tuple[object, ...], tuple[str, str]] = {}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for name, op in graph.ops.items():
        trained = learned(op)
        for field in op.arrays:
            array = getattr(op, field)
            if field not in (*by_default(type(op)), *trained) or array is None or array.size == 0:
                continue
            # Of an array that one op trains and another does not, the other keeps a copy.
            key = (field in trained, array.__array_interface__["data"][0], array.shape, array.strides, array.dtype)
            original = first.setdefault(key, (name, field))
            if original != (name, field):
                found[name, field] = original
    return found
