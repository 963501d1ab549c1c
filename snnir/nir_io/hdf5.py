"""NIR's file format: HDF5 with one group per node (`/node/nodes/<name>`), read and written without the nir package.

What the nir package leaves broken is handled here: node order survives (links are tracked in order of creation), names
with '/' are escaped on writing, and groups that nir nested because of a '/' are read as the one node they are.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snnir.errors import CompileError, Violation, fail
from snnir.nir_io.raw import GRAPH_KIND, NIR_VERSION, UNREADABLE, RawGraph, RawNode
from snnir.ops import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
PACK_FROM = 1024  # bytes; below, a compressed chunk is larger than the data
LARGEST_CHUNK = 2**30  # bytes; HDF5 takes chunks of up to 4 GiB


# -- writing ---------------------------------------------------------------------------------------------------------


def write_raw(graph: RawGraph) -> bytes:
    """The file of a flat graph whose names and metadata HDF5 can hold. The same graph always gives the same bytes."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        _write_value(file, "version", NIR_VERSION)
        _write_graph(file.create_group("node", track_order=True), graph)
    return buffer.getvalue()


def _write_graph(group: Any, graph: RawGraph) -> None:
    import h5py

    _write_value(group, "type", GRAPH_KIND)
    edges = np.array(graph.edges, object).reshape(-1, 2)
    group.create_dataset("edges", data=edges, dtype=h5py.string_dtype())
    nodes = group.create_group("nodes", track_order=True)
    for name, node in graph.nodes.items():
        if isinstance(node, RawGraph):
            raise TypeError(f"{name} is a nested graph; flatten it first")
        inner = nodes.create_group(name, track_order=True)
        _write_value(inner, "type", node.kind)
        for field, value in node.fields.items():
            _write_value(inner, field, value)
        if node.metadata:
            _write_mapping(inner, "metadata", node.metadata)
    if graph.metadata:
        _write_mapping(group, "metadata", graph.metadata)


def _write_mapping(group: Any, name: str, values: Mapping[str, Any]) -> None:
    inner = group.create_group(name, track_order=True)
    for key, value in values.items():
        if isinstance(value, Mapping):
            _write_mapping(inner, key, value)
        else:
            _write_value(inner, key, value)


def _write_value(group: Any, name: str, value: Any) -> None:
    import h5py

    if isinstance(value, str):
        group.create_dataset(name, data=value, dtype=h5py.string_dtype())
        return
    array = np.asarray(value)
    if array.nbytes < PACK_FROM:
        group.create_dataset(name, data=array)
    elif (array == array.flat[0]).all():  # a scalar written out to full shape: HDF5 keeps the one value
        group.create_dataset(name, shape=array.shape, dtype=array.dtype, fillvalue=array.flat[0])
    elif _packs(array):
        chunks = array.shape if array.nbytes < LARGEST_CHUNK else True
        group.create_dataset(name, data=array, chunks=chunks, compression="gzip", compression_opts=4)
    else:
        group.create_dataset(name, data=array)


def _packs(array: Array) -> bool:
    """Whether compression is worth its time: trained weights shrink by a tenth and take a hundred times as long."""
    sample = np.ascontiguousarray(array).reshape(-1)[: 2**16 // array.itemsize].tobytes()
    return len(zlib.compress(sample, 1)) < 0.7 * len(sample)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_raw(source: str | Path | bytes) -> tuple[RawGraph, list[Violation]]:
    """The graph in a file, or in the content of one, and what is wrong with it as far as it can be read.

    Raises:
        CompileError: there is no such file, or it is no HDF5 file, or it is damaged or holds no NIR graph.
    """
    import h5py

    place = _place(source)
    opened: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    faults: list[Violation] = []
    if not isinstance(source, bytes):
        _check_path(Path(source))
    try:
        with h5py.File(opened, "r") as file:
            graph = _read_root(file, place, faults)
    except CompileError:
        raise
    except Exception as error:  # HDF5 raises OSError, KeyError, RuntimeError, ValueError, ... on damaged files
        head = source[:8] if isinstance(source, bytes) else _head(Path(source))
        raise _unreadable(place, head, error) from error
    return graph, faults


def _place(source: str | Path | bytes) -> str:
    return "<bytes>" if isinstance(source, bytes) else str(source)


def _check_path(path: Path) -> None:
    if path.is_dir():
        hint = "give the .nir file itself"
        raise fail("nir-file", "is a folder", where=str(path), expected="a NIR file (HDF5)", hint=hint)
    if not path.exists():
        raise fail("nir-file", "does not exist", where=str(path), expected="a NIR file (HDF5)")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError:
        return b""


def _unreadable(place: str, head: bytes, error: Exception) -> CompileError:
    if isinstance(error, PermissionError):
        return fail("nir-file", "cannot be read: permission denied", where=place)
    if not head:
        return fail("nir-file", "is empty", where=place, expected="a NIR file (HDF5)")
    if not head.startswith(SIGNATURE[: len(head)]):
        kinds = {b"PK": "a zip archive (a PyTorch checkpoint is one)", b"\x80": "a Python pickle", b"{": "JSON"}
        like = next((f"; it looks like {kind}" for magic, kind in kinds.items() if head.startswith(magic)), "")
        return fail("nir-file", f"is not an HDF5 file{like}", where=place, expected="a NIR file (HDF5)")
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    hint = "the file is truncated or damaged; write or copy it again"
    return fail("nir-file", f"cannot be read to its end: {first}", where=place, hint=hint)


def _read_root(file: Any, place: str, faults: list[Violation]) -> RawGraph:
    import h5py

    root = file.get("node")
    if not isinstance(root, h5py.Group):
        there = ", ".join(list(file)[:8]) or "nothing"
        what = f"is an HDF5 file, but holds no NIR graph (no group /node; it holds {there})"
        raise fail("nir-file", what, where=place, expected="a file that nir.write or snnir wrote")
    kind = _type_of(root)
    if kind != GRAPH_KIND:
        what = f"its root has no type, expected {GRAPH_KIND}" if kind is None else f"its root is a {kind}"
        raise fail("nir-file", what, where=place, expected=f"a {GRAPH_KIND} with nodes and edges")
    return _read_graph(root, "", place, faults)


def _type_of(group: Any) -> str | None:
    import h5py

    found = group.get("type")
    return _text(found[()]) if isinstance(found, h5py.Dataset) else None


def _read_graph(group: Any, path: str, place: str, faults: list[Violation]) -> RawGraph:
    import h5py

    where = path.rstrip(".") or place
    nodes: dict[str, RawNode | RawGraph] = {}
    inside = group.get("nodes")
    if isinstance(inside, h5py.Group):
        for name, node in _read_nodes(inside, "", path, place, faults):
            nodes[name] = node
    else:
        faults.append(Violation("nir-file", "has no group of nodes", where=where, loc=place, expected="nodes"))
    return RawGraph(nodes, _read_edges(group, where, place, faults), _read_metadata(group))


def _read_edges(group: Any, where: str, place: str, faults: list[Violation]) -> list[tuple[str, str]]:
    import h5py

    found = group.get("edges")
    if not isinstance(found, h5py.Dataset):
        faults.append(Violation("nir-file", "has no list of edges", where=where, loc=place, expected="edges"))
        return []
    values = np.asarray(found[()])
    if values.size == 0:
        return []
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "OSU":
        what = f"its edges are {values.dtype} of shape {list(values.shape)}"
        faults.append(Violation("nir-file", what, where=where, loc=place, expected="pairs of node names"))
        return []
    return [(_text(a), _text(b)) for a, b in values]


def _read_nodes(
    group: Any, prefix: str, path: str, place: str, faults: list[Violation]
) -> Iterator[tuple[str, RawNode | RawGraph]]:
    """The nodes below `group`; a group without a type is a part of a name with '/', which HDF5 takes for a path."""
    import h5py

    for key, item in group.items():
        name = prefix + key
        if not isinstance(item, h5py.Group):
            what = "is a bare dataset, not a node" if item is not None else "is a broken link"
            faults.append(Violation("nir-node", what, where=path + name, loc=place, expected="a group with a type"))
            yield name, RawNode(UNREADABLE, {})
            continue
        kind = _type_of(item)
        if kind is None and any(isinstance(v, h5py.Dataset) for v in item.values()):
            there = ", ".join(sorted(item))
            what = f"has no type; it holds {there}"
            faults.append(Violation("nir-node", what, where=path + name, loc=place, expected="a dataset 'type'"))
            yield name, RawNode(UNREADABLE, {})
            continue
        if kind is None:
            yield from _read_nodes(item, f"{name}/", path, place, faults)
            continue
        if kind == GRAPH_KIND:
            yield name, _read_graph(item, f"{path}{name}.", place, faults)
            own = {"nodes", "edges", "metadata"}
        else:
            own = {"metadata", "input_type", "output_type"}
            fields = {str(k): _value(v) for k, v in item.items() if k != "type" and isinstance(v, h5py.Dataset)}
            yield name, RawNode(kind, fields, _read_metadata(item))
        below = {k: v for k, v in item.items() if k not in own and isinstance(v, h5py.Group)}
        yield from _read_nodes(below, f"{name}/", path, place, faults)


def _read_metadata(group: Any) -> dict[str, Any]:
    import h5py

    found = group.get("metadata")
    return _mapping(found) if isinstance(found, h5py.Group) else {}


def _mapping(group: Any) -> dict[str, Any]:
    import h5py

    return {k: _mapping(v) if isinstance(v, h5py.Group) else _plain(_value(v)) for k, v in group.items()}


def _value(dataset: Any) -> Any:
    """A dataset's value: text as str, else what NumPy makes of it."""
    value = dataset[()]
    if isinstance(value, (bytes, str)):
        return _text(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OS":
        texts = [_text(v) for v in value.reshape(-1)]
        return np.array(texts, object).reshape(value.shape).tolist()
    return value


def _plain(value: Any) -> Any:
    """Metadata as Python gave it: 64-bit numbers and booleans as int, float, bool."""
    plain = isinstance(value, np.generic) and value.dtype.name in ("int64", "float64", "bool")
    return value.item() if plain else value


def _text(value: Any) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)
