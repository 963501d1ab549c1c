"""From HDF5 to a sheet: reads on where the loader would stop, and notes what it cannot read."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from snnir.doctor.finding import Chart
from snnir.doctor.sheet import Level, Node, Sheet
from snnir.nir_io.hdf5 import SIGNATURE
from snnir.nir_io.own import read_own
from snnir.nir_io.raw import FIELDS, GRAPH_KIND, NIR_VERSION, OWN_KEY
from snnir.semantics import Semantics

PICKLE = re.compile(rb"^\x80[\x02-\x05]")
_BESIDE = ("metadata", "input_type", "output_type")  # groups of a node that are no nodes


def read_sheet(source: Path | bytes, chart: Chart) -> Sheet | None:
    """The file's content; None where nothing can be read. What is wrong goes into the chart."""
    import h5py

    head = _head(source, chart)
    if head is None:
        return None
    if not head.startswith(SIGNATURE):
        known = {b"PK": "a zip archive (a PyTorch checkpoint is one)", b"\x80": "a Python pickle", b"{": "JSON"}
        like = next((f"; it looks like {kind}" for magic, kind in known.items() if head.startswith(magic)), "")
        whole = not SIGNATURE.startswith(head)
        chart.add("file-format" if whole else "file-damaged", "", f"is no HDF5 file{like}" if whole else "is cut off")
        return None
    opened: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with h5py.File(opened, "r") as file:
            return _Reader(chart).sheet(file)
    except Exception as error:  # HDF5 raises OSError, KeyError, RuntimeError, ValueError, ... on damaged files
        chart.add("file-damaged", "", f"cannot be read to its end: {_first_line(error)}")
        return None


def _head(source: Path | bytes, chart: Chart) -> bytes | None:
    if isinstance(source, bytes):
        found = source[:8]
    else:
        try:
            with source.open("rb") as file:
                found = file.read(8)
        except OSError as error:
            chart.add("file", "", f"cannot be opened: {error.strerror or error}")
            return None
    if not found:
        chart.add("file", "", "is empty", todo="write or copy the file again")
    return found or None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class _Reader:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart

    def sheet(self, file: Any) -> Sheet | None:
        import h5py

        root = file.get("node")
        if not isinstance(root, h5py.Group):
            there = ", ".join(list(file)[:8]) or "nothing"
            self.chart.add("file-content", "", f"holds no NIR graph (no group /node; it holds {there})")
            return None
        kind = self._type(root)
        if kind != GRAPH_KIND:
            what = "its root has no type" if kind is None else f"its root is a {kind}, not a {GRAPH_KIND}"
            todo = "wrap the node: nir.NIRGraph.from_list(node)"
            if kind is None:
                todo = "write it again; nir.write stops at a scalar parameter and leaves such a file behind"
            self.chart.add("file-content", "", what, todo=todo)
            return None
        self._version(file)
        return Sheet(self._level(root, ""), self._semantics(root))

    def _version(self, file: Any) -> None:
        import h5py

        item = file.get("version")
        value = item[()] if isinstance(item, h5py.Dataset) else None
        text = value.decode("utf8", "replace") if isinstance(value, bytes) else value
        if not isinstance(text, str):
            self.chart.add("version", "", "has no version" if item is None else f"its version is {value}, no text")
            return
        numbers = re.match(r"^(\d+)\.(\d+)(?:\.(\d+))?", text)
        known = tuple(map(int, NIR_VERSION.split(".")))
        if numbers is None or tuple(int(n or 0) for n in numbers.groups()) > known:
            self.chart.add("version-unknown", "", f"its version is {text!r}; the newest that is known is {NIR_VERSION}")

    def _semantics(self, root: Any) -> Semantics | None:
        import h5py

        metadata = root.get("metadata")
        item = metadata.get(OWN_KEY) if isinstance(metadata, h5py.Group) else None
        if not isinstance(item, h5py.Dataset):
            return None
        value = item[()]
        text = value.decode("utf8", "replace") if isinstance(value, bytes) else value
        faults: list[Any] = []
        own = read_own({OWN_KEY: text}, "", faults)
        for fault in faults:
            self.chart.add("own-metadata", "", fault.what)
        return None if faults else own.semantics

    def _level(self, group: Any, path: str) -> Level:
        import h5py

        level = Level(path, group.name)
        inside = group.get("nodes")
        if isinstance(inside, h5py.Group):
            level.nodes.update(self._nodes(inside, "", level.prefix()))
        else:
            self.chart.add("file-content", path, "has no group of nodes")
        level.edges = self._edges(group, path)
        return level

    def _edges(self, group: Any, path: str) -> list[tuple[str, str]]:
        import h5py

        item = group.get("edges")
        if not isinstance(item, h5py.Dataset):
            self.chart.add("file-content", path, "has no list of edges")
            return []
        try:
            values = np.asarray(item[()])
        except Exception as error:  # as in read_sheet
            self.chart.add("file-damaged", path, f"its edges cannot be read: {_first_line(error)}")
            return []
        if values.size == 0:
            return []
        if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "OSU":
            what = f"its edges are {values.dtype} of shape {list(values.shape)}, not pairs of names"
            self.chart.add("file-content", path, what)
            return []
        return [(_text(a), _text(b)) for a, b in values]

    def _nodes(self, group: Any, before: str, prefix: str) -> Iterator[tuple[str, Node | Level]]:
        """The nodes below `group`; a group without a type is a part of a name with '/'."""
        import h5py

        for key in group:
            name = before + key
            path, place = prefix + name, f"{group.name}/{key}"
            item = self._follow(group, key, path)
            if not isinstance(item, h5py.Group):
                if item is not None:
                    self.chart.add("node", path, "is a bare dataset, not a node")
                yield name, Node(path, place, "", broken=True)
                continue
            kind = self._type(item)
            if kind is None and (not len(item) or any(_class(item, k) is not h5py.Group for k in item)):
                self.chart.add("node", path, f"has no type; it holds {', '.join(sorted(item)) or 'nothing'}")
                yield name, Node(path, place, "", broken=True)
                continue
            if kind is None:
                yield from self._nodes(item, f"{name}/", prefix)
                continue
            if before:
                self.chart.add("name-slash", path, f"its name {name!r} holds a '/'")
            if kind == GRAPH_KIND:
                yield name, self._level(item, path)
                own: tuple[str, ...] = ("nodes", "edges", "metadata")
            else:
                yield name, self._node(item, path, place, kind)
                own = _BESIDE
            below = tuple(k for k in item if k not in own and _class(item, k) is h5py.Group)
            yield from self._nodes(_Few(item, below), f"{name}/", prefix)

    def _follow(self, group: Any, key: str, path: str, said: str = "") -> Any:
        import h5py

        link = group.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            self.chart.add("link", path, f"{said}is a link into another file, {link.filename!r}")
            return None
        try:
            return group[key]
        except Exception as error:  # a link to nowhere, or a damaged object header
            rule = "link" if isinstance(link, h5py.SoftLink) else "file-damaged"
            what = (
                f"is a link to {link.path!r}, which is not there"
                if rule == "link"
                else f"cannot be read: {_first_line(error)}"
            )
            self.chart.add(rule, path, said + what)
            return None

    def _type(self, group: Any) -> str | None:
        import h5py

        item = group.get("type")
        return _text(item[()]) if isinstance(item, h5py.Dataset) and item.shape == () else None

    def _node(self, group: Any, path: str, place: str, kind: str) -> Node:
        import h5py

        node = Node(path, place, kind)
        if kind not in FIELDS:
            self.chart.add("node-type", path, f"its type {kind!r} is none of NIR's")
        for key in group:
            if key == "type" or _class(group, key) is h5py.Group:
                continue
            item = self._follow(group, key, path, f"its {key} ")
            if isinstance(item, h5py.Dataset):
                node.fields[key] = self._value(item, path, key)
            else:
                node.fields[key] = None
        return node

    def _value(self, item: Any, path: str, key: str) -> Any:
        """A field as an array, as text, or None where it is neither; why not goes into the chart."""
        import h5py

        try:
            kept = "V" in item.dtype.kind or h5py.check_ref_dtype(item.dtype) is not None
            value = None if kept and item.dtype.names is not None else item[()]
        except Exception as error:  # a chunk that cannot be unpacked, a filter that is not there
            self.chart.add("file-damaged", path, f"its {key} cannot be read: {_first_line(error)}")
            return None
        raw = value.tobytes() if isinstance(value, (np.void, np.ndarray)) and item.dtype.kind in "Vu" else value
        if isinstance(raw, bytes) and PICKLE.match(raw):
            self.chart.add("not-numbers", path, f"its {key} is a Python pickle")
            return None
        if isinstance(value, (bytes, str)):
            return _text(value)
        array = np.asarray(value)
        if array.dtype.kind in "biufc":
            return array
        kinds = {"O": "objects (text, references or lists of varying length)", "V": "raw or compound data", "S": "text"}
        said = kinds.get(item.dtype.kind, str(item.dtype))
        self.chart.add("not-numbers", path, f"its {key} holds {said}")
        return None


class _Few:
    """Some members of a group, as a group."""

    def __init__(self, group: Any, keys: tuple[str, ...]) -> None:
        self.group, self.keys, self.name = group, keys, group.name

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __getitem__(self, key: str) -> Any:
        return self.group[key]

    def get(self, key: str, **how: Any) -> Any:
        return self.group.get(key, **how)


def _class(group: Any, key: str) -> Any:
    """The class of a member; None where it cannot be opened."""
    try:
        return group.get(key, getclass=True)
    except Exception:  # a link out of the file or to nowhere: KeyError, OSError or RuntimeError
        return None


def _text(value: Any) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)
