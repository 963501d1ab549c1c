"""The network behind a file, as text in its metadata: what nodes cannot say, and which array is which weight.

The text is the JSON of `snnir.store` with, for every array of the graph, either its content or the name of the array of
the file that holds it. What stands in the file counts: weights that were changed or trained there come back changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from snnir import store
from snnir.backends.onnx.writer import Writer
from snnir.errors import CompileError, fail
from snnir.graph import Graph
from snnir.ops import Array
from snnir.values import inline_array, read_inline_array

KEY = "snnir.network"
VERSION = 1
FEW = 64  # elements; shorter arrays stand in the text too, so that their types' last digits are kept
CALLED = {"v_threshold": "threshold"}
"""Fields that the file's arrays call otherwise."""


def written(w: Writer, graph: Graph) -> str:
    """The record of a graph that `w` wrote.

    Raises:
        CompileError: the graph holds what no file keeps (metadata of odd types).
    """
    content, arrays = store.parts(graph)
    weights: dict[str, list[Any]] = {}
    holders: dict[Any, str] = {}
    for name, op in graph.ops.items():
        for field in op.arrays:
            value = getattr(op, field)
            there = w.written(f"{name}.{CALLED.get(field, field)}")
            if value is None or there is None:
                continue
            spelt, array = there
            turned = spelt in w.root.turned
            if _laid_out(array, turned, value.shape, value.astype(array.dtype)):
                weights[f"{name}.{field}"] = [spelt, turned]
                holders[_place(value)] = f"{name}.{field}"
    kept = {key: _kept(array, holders) for key, array in arrays.items()}
    document = {"version": VERSION, "weights": weights, "arrays": kept}
    return json.dumps({**document, "graph": json.loads(content)})


def _laid_out(array: Array, turned: bool, shape: tuple[int, ...], expected: Array) -> bool:
    if array.size != expected.size:
        return False
    return bool(np.array_equal((array.T if turned else array).reshape(shape), expected))


def _place(array: Array) -> Any:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def _kept(array: Array, holders: Mapping[Any, str]) -> dict[str, Any]:
    """An array of the graph as the record keeps it: in full, as one number, or as the weight whose array holds it."""
    if array.size > FEW and (array == array.flat[0]).all():
        return {"all": inline_array(array.reshape(-1)[:1]), "shape": list(array.shape)}
    holder = holders.get(_place(array)) if array.size > FEW else None
    if holder is None:
        return {"full": inline_array(array)}
    return {"weight": holder, "dtype": array.dtype.name, "shape": list(array.shape)}


def graph_of(text: str, find: Callable[[str], Array], where: str) -> Graph:
    """The graph of a record. It is not verified.

    Args:
        text: what `written` gave. find: the array of the file by name; KeyError where there is none.
        where: what errors call the file.

    Raises:
        CompileError: the record is damaged or of another version, an array is missing, or does not fit.
    """
    try:
        document = json.loads(text)
        version = document["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, error) from error
    if version != VERSION:
        hint = "compile the network again, or read the file with the snnir that wrote it"
        raise fail("onnx-record", f"has a record of version {version}", where=where, expected=str(VERSION), hint=hint)
    try:
        weights = {key: _read(find, *place) for key, place in document["weights"].items()}
        arrays = {key: _array(item, weights) for key, item in document["arrays"].items()}
        content = json.dumps(document["graph"])
        graph = store.from_parts(content, lambda: arrays, f"{where}: {KEY}")
        return graph.with_weights(dict(_changed(graph, weights)))
    except CompileError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(where, error) from error


def _changed(graph: Graph, weights: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Weights that the file holds otherwise than the record, but for digits that its type does not have."""
    known = graph.weights()
    for key, array in weights.items():
        found = array.reshape(known[key].shape)
        if not np.array_equal(known[key].astype(found.dtype), found):
            yield key, found


def _read(find: Callable[[str], Array], name: str, turned: bool) -> Array:
    found = find(name)
    return found.T if turned else found


def _array(item: Mapping[str, Any], weights: Mapping[str, Array]) -> Array:
    if "full" in item:
        return read_inline_array(item["full"])
    shape = tuple(item["shape"])
    if "all" in item:
        return np.full(shape, read_inline_array(item["all"])[0])
    return weights[item["weight"]].reshape(shape).astype(item["dtype"])


def _damaged(where: str, error: Exception) -> CompileError:
    said = f"no {error}" if isinstance(error, KeyError) else str(error)
    hint = f"delete the metadata entry {KEY!r} to read the file as a plain ONNX model"
    return fail("onnx-record", f"its record of the network is damaged: {said}", where=where, hint=hint)
