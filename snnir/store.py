"""A graph as two files, without loss: `graph.json` (all but the arrays) and `weights.safetensors` (the arrays).

This is the project's own form. It keeps what NIR cannot: both dialects, semantics, origin, source locations and
metadata. Equal arrays are stored once; graph.json says by which key each is found. The same graph always gives the
same bytes. In an artifact whose own `weights.safetensors` stands beside the graph's folder, arrays that are in that one
are not stored again: graph.json says so (`beside`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snnir.errors import CompileError, Violation, fail
from snnir.graph import Edge, Graph
from snnir.naming import fresh
from snnir.ops import KINDS, Array, Loc, Op
from snnir.semantics import Semantics
from snnir.values import ValueKindError, decode, encode, inline_array, keeps, native, read_inline_array

if TYPE_CHECKING:
    import os

JSON_FILE = "graph.json"
WEIGHTS_FILE = "weights.safetensors"
BESIDE_FILE = f"../{WEIGHTS_FILE}"
FORMAT, VERSION = "snnir-graph", 1


def save(graph: Graph) -> dict[str, bytes]:
    """The files of a graph: relative path -> content. Writes nothing.

    Raises:
        CompileError: some array or metadata value is of a type that cannot be kept; every such place at once.
    """
    document, tensors = _parts(graph)
    return {JSON_FILE: document, WEIGHTS_FILE: tensors.to_bytes()}


def lazily(graph: Graph, beside: Mapping[str, Array] | None = None) -> dict[str, Callable[[], bytes]]:
    """As `save`, but the weights' bytes, as many as the graph has itself, are made when they are asked for.

    Args:
        beside: arrays that `BESIDE_FILE` holds by these keys. The graph's own that are the same in memory are left out.
    """
    document, tensors = _parts(graph, beside)
    return {JSON_FILE: lambda: document, WEIGHTS_FILE: tensors.to_bytes}


def digest(graph: Graph) -> str:
    """SHA-256 of what `save` would write.

    Raises:
        CompileError: as `save`.
    """
    document, tensors = _parts(graph)
    return hashlib.sha256(document + b"".join(tensors.digests)).hexdigest()


def parts(graph: Graph) -> tuple[bytes, dict[str, Array]]:
    """The content of `graph.json`, and the arrays that it names by key: for files that keep arrays in their own way.

    Raises:
        CompileError: as `save`.
    """
    document, tensors = _parts(graph)
    return document, tensors.by_key


def _parts(graph: Graph, beside: Mapping[str, Array] | None = None) -> tuple[bytes, _Tensors]:
    tensors = _Tensors(beside or {})
    faults: list[Violation] = []
    ops = [_save_op(name, op, tensors, faults) for name, op in graph.ops.items()]
    metadata = _save_metadata(graph.metadata, "the graph", tensors, faults)
    if faults:
        raise CompileError(faults, title="the graph cannot be stored")
    document = {
        "format": FORMAT,
        "version": VERSION,
        "semantics": graph.semantics.to_json(),
        "ops": ops,
        "edges": [[e.source, e.target, e.port] for e in graph.edges],
        "origin": {name: list(behind) for name, behind in graph.origin.items()},
        "metadata": metadata,
    }
    if tensors.beside:
        document["beside"] = BESIDE_FILE
    return _dump(document).encode(), tensors


def _dump(document: Mapping[str, Any]) -> str:
    """The document with one op and one edge per line, so that two versions can be compared line by line."""
    parts: list[str] = []
    for key, value in document.items():
        if key in ("ops", "edges") and value:
            lines = ",\n".join(f"  {json.dumps(item)}" for item in value)
            parts.append(f" {json.dumps(key)}: [\n{lines}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


class _Tensors:
    """Arrays by key, each content once."""

    def __init__(self, beside: Mapping[str, Array]) -> None:
        self.beside = {_place(array): key for key, array in beside.items() if array.size}
        self.by_key: dict[str, Array] = {}
        self._taken = set(beside)
        self._keys: dict[bytes, str] = {}
        self._seen: dict[tuple[object, ...], tuple[str, Array]] = {}  # holds the arrays, so that memory is not reused

    @property
    def digests(self) -> list[bytes]:
        """The SHA-256 of every array, in the order of `by_key`."""
        return list(self._keys)

    def put(self, array: Array, wish: str) -> str:
        """Keeps `array` and returns its key: `wish`, unless an equal array is there already."""
        place = _place(array)
        if place in self.beside:
            return self.beside[place]
        if place in self._seen:
            return self._seen[place][0]
        given, array = array, np.asarray(native(array), order="C")
        found = hashlib.sha256(f"{array.dtype.name}{array.shape}".encode())
        found.update(array.tobytes() if array.nbytes < 64 else array.reshape(-1).data.cast("B"))
        digest = found.digest()
        if digest not in self._keys:
            key = fresh(wish.encode("utf-8", "backslashreplace").decode(), self._taken)
            self._taken.add(key)
            self._keys[digest] = key
            self.by_key[key] = array
        self._seen[place] = self._keys[digest], given
        return self._keys[digest]

    def to_bytes(self) -> bytes:
        return to_safetensors(self.by_key)


def _place(array: Array) -> tuple[object, ...]:
    """Where and how an array lies in memory: two that exist at the same time are one where this is equal."""
    return (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)


def to_safetensors(arrays: Mapping[str, Array]) -> bytes:
    """Arrays as a safetensors file, made without a second copy of them. Keys in order of dtype size, then name.

    The format: the header's length (8 bytes), the header (JSON, padded to 8 bytes), the arrays one after the other.
    """
    order = sorted(arrays, key=lambda key: (-arrays[key].dtype.itemsize, key))
    header: dict[str, Any] = {}
    at = 0
    for key in order:
        array = arrays[key]
        kind = _SAFETENSORS[array.dtype.name]
        header[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    flat = (np.asarray(arrays[key], order="C").reshape(-1).data.cast("B") for key in order if arrays[key].size)
    return b"".join([len(text).to_bytes(8, "little"), text, *flat])


_SAFETENSORS = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)},
}


def _save_op(name: str, op: Op, tensors: _Tensors, faults: list[Violation]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, value in op.parameters().items():
        if field not in op.arrays or value is None:
            values[field] = encode(list(value) if isinstance(value, tuple) else value, lambda _: None, field)
        elif keeps(value.dtype) and value.dtype.kind != "c":
            values[field] = {"$array": tensors.put(value, f"{name}.{field}")}
        else:
            what = f"{field} holds {value.dtype}, expected numbers"
            faults.append(Violation("store-array", what, where=f"{name} ({op.kind})", loc=str(op.loc or "")))
    found: dict[str, Any] = {"name": name, "kind": op.kind, "fields": values}
    if op.metadata:
        found["metadata"] = _save_metadata(op.metadata, name, tensors, faults)
    if op.loc is not None:
        found["loc"] = [op.loc.file, op.loc.line, op.loc.module]
    return found


def _save_metadata(metadata: Mapping[str, Any], where: str, tensors: _Tensors, faults: list[Violation]) -> Any:
    def put(array: Array) -> Any:
        # safetensors holds no complex numbers; such an array stands in the JSON itself
        return inline_array(array) if array.dtype.kind == "c" else tensors.put(array, f"{where}#metadata")

    kept: dict[str, Any] = {}
    for key, value in metadata.items():
        try:
            if not isinstance(key, str):
                raise ValueKindError(f"the key {key!r} is a {type(key).__name__}, expected a string")
            kept[key] = encode(value, put, key)
        except ValueKindError as error:
            hint = "metadata may hold None, numbers, strings, bytes, lists, tuples, dicts and arrays of numbers"
            faults.append(Violation("metadata-value", str(error), where=where, hint=hint))
    return kept


def load(folder: str | os.PathLike[str]) -> Graph:
    """Reads the graph that `save` described, from the folder its files were written to. The graph is not verified.

    Raises:
        CompileError: a file is missing or damaged, or was written by a newer version.
    """
    folder = Path(folder)
    files = {name: _bytes(folder / name) for name in (JSON_FILE, WEIGHTS_FILE)}
    if f'"beside": "{BESIDE_FILE}"'.encode() in files[JSON_FILE]:
        files[BESIDE_FILE] = _bytes(folder / BESIDE_FILE)
    return load_files(files, where=str(folder))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = f"a stored graph is a folder with {JSON_FILE} and {WEIGHTS_FILE}"
        if ".." in path.parts:
            hint = "this graph belongs to an artifact and has its weights in common with it; keep the folders together"
        raise fail("store-file", f"cannot be read: {error.strerror}", where=str(path), hint=hint) from error


def load_files(files: Mapping[str, bytes], where: str = "") -> Graph:
    """The inverse of `save`. The graph is not verified.

    Raises:
        CompileError: the files are damaged, or were written by a newer version.
    """
    place = f"{where}/{JSON_FILE}" if where else JSON_FILE
    return from_parts(files.get(JSON_FILE, b""), lambda: _load_tensors(files, where), place)


def from_parts(content: str | bytes, tensors: Callable[[], Mapping[str, Array]], place: str) -> Graph:
    """The inverse of `parts`; `place` is what errors call the document. The graph is not verified.

    Raises:
        CompileError: the document is damaged, or was written by a newer version.
    """
    try:
        document = json.loads(content)
        form, version = document["format"], document["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise fail("store-file", f"is not a stored graph: {_said(error)}", where=place) from error
    if form != FORMAT or version != VERSION:
        what, ours = f"is {form!r} version {version}", f"{FORMAT!r} version {VERSION}"
        raise fail("store-version", what, where=place, expected=ours, hint="read it with the snnir that wrote it")
    found = tensors()
    try:
        return _load_graph(document, found)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise fail("store-file", f"is damaged: {_said(error)}", where=place) from error


def _load_tensors(files: Mapping[str, bytes], where: str) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_tensors

    found: dict[str, Array] = {}
    for name in (BESIDE_FILE, WEIGHTS_FILE) if BESIDE_FILE in files else (WEIGHTS_FILE,):
        try:
            found |= load_tensors(files[name])
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            place = f"{where}/{name}" if where else name
            raise fail("store-file", f"is damaged: {_said(error)}", where=place) from error
    return found


def _load_graph(document: Mapping[str, Any], tensors: Mapping[str, Array]) -> Graph:
    def get(key: Any) -> Array:
        return tensors[key] if isinstance(key, str) else read_inline_array(key)

    ops: dict[str, Op] = {}
    for item in document["ops"]:
        name = item["name"]
        if name in ops:
            raise ValueError(f"two ops are called {name!r}")
        if item["kind"] not in KINDS:
            raise ValueError(f"{name!r} is a {item['kind']!r}, which is no op of this version")
        ops[name] = _load_op(KINDS[item["kind"]], item, get)
    return Graph(
        ops,
        tuple(Edge(source, target, port) for source, target, port in document["edges"]),
        Semantics.from_json(document["semantics"]),
        {name: tuple(behind) for name, behind in document["origin"].items()},
        {key: decode(value, get) for key, value in document["metadata"].items()},
    )


def _load_op(kind: type[Op], item: Mapping[str, Any], get: Callable[[Any], Array]) -> Op:
    values: dict[str, Any] = {}
    for field, data in item["fields"].items():
        value = decode(data, get)
        values[field] = tuple(value) if isinstance(value, list) else value
    values["metadata"] = {key: decode(value, get) for key, value in item.get("metadata", {}).items()}
    values["loc"] = Loc(*item["loc"]) if "loc" in item else None
    return kind(**values)


def _said(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
