"""Repairs: what a file's own content answers in one way only, in a new file; all else is copied as it is."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnir.doctor.examining import Content, examination
from snnir.doctor.fields import full_shape, short_parameters
from snnir.doctor.finding import Diagnosis, Finding
from snnir.doctor.sheet import ELEMENTWISE, NEURONS, Node
from snnir.errors import CompileError, Violation, fail
from snnir.naming import fresh
from snnir.nir_io.raw import NIR_VERSION
from snnir.ops import Array

MOST_ROUNDS = 4  # a repair can show what hid behind it: a scalar of foreign byte order, a batch axis behind a name
PACK_FROM = 1024  # bytes


@dataclass(frozen=True)
class Deed:
    """One repair: the rule it answers, the node, and what was done."""

    rule: str
    node: str
    did: str

    def to_json(self) -> dict[str, str]:
        """As plain JSON data."""
        return {"rule": self.rule, "node": self.node, "did": self.did}


@dataclass(frozen=True)
class Repair:
    """What `repair` did.

    Attributes:
        output: the new file.
        deeds: the repairs, in the order in which they were made.
        before, after: what the doctor finds in the old file and in the new one.
    """

    output: str
    deeds: tuple[Deed, ...]
    before: Diagnosis
    after: Diagnosis

    def to_json(self) -> dict[str, Any]:
        """The value of `fix` in the document that `snnir doctor --output-format json` prints."""
        return {"output": self.output, "did": [deed.to_json() for deed in self.deeds], "after": self.after.to_json()}


def repair_file(source: Path, output: Path) -> Repair:
    """See `snnir.doctor.repair`."""
    if output.exists() or output.is_symlink():
        own = output.exists() and source.exists() and output.samefile(source)
        what = "is the file that is to be repaired" if own else "exists already"
        raise fail("output-exists", what, where=str(output), hint="name a new file")
    before = examination(source)
    if before.content is None:
        faults = [Violation(f.rule, f.what, str(source), hint=f.todo) for f in before.diagnosis.findings]
        raise CompileError(faults, title="the file cannot be repaired")
    data, deeds, last = source.read_bytes(), [], before
    for _ in range(MOST_ROUNDS):
        fixable = [finding for finding in last.diagnosis.findings if finding.fixable]
        if not fixable or last.content is None:
            break
        data, done = _round(data, last.content, fixable)
        if not done:
            break
        deeds += done
        last = examination(data)
    _write(output, data)
    return Repair(str(output), tuple(deeds), before.diagnosis, last.diagnosis)


def _write(output: Path, data: bytes) -> None:
    made = False
    try:
        with output.open("xb") as file:
            made = True
            file.write(data)
    except OSError as error:
        if made:
            os.unlink(output)
        raise fail("output-unwritable", f"cannot be written: {error.strerror}", where=str(output)) from error


def _round(data: bytes, content: Content, fixable: list[Finding]) -> tuple[bytes, list[Deed]]:
    """The content after all repairs that are known now, written afresh so that no replaced data stays in it."""
    import h5py

    deeds: list[Deed] = []
    buffer, packed = io.BytesIO(data), io.BytesIO()
    with h5py.File(buffer, "r+") as file:
        surgeon = _Surgeon(file, content)
        renames = [finding for finding in fixable if finding.rule == "name-slash"]
        for finding in [*(f for f in fixable if f.rule != "name-slash"), *renames]:
            for did in surgeon.treat(finding):
                deeds.append(Deed(finding.rule, finding.node, did))
        with h5py.File(packed, "w", track_order=True) as new:
            for key in file:
                file.copy(key, new, expand_refs=True)
            for key, value in file.attrs.items():
                new.attrs[key] = value
    return packed.getvalue(), deeds


class _Surgeon:
    def __init__(self, file: Any, content: Content) -> None:
        self.file, self.content = file, content
        self.treatments: dict[str, Callable[[Finding], list[str]]] = {
            "version": self._version,
            "dtype": self._dtype,
            "scalar-parameter": self._expand,
            "broadcast-parameter": self._expand,
            "v-reset-missing": self._v_reset,
            "w-in-missing": self._w_in,
            "input-shape-missing": self._input_shape,
            "input-type-missing": self._input_shape,
            "edge-duplicate": self._edges,
            "batch-axis": self._batch_axis,
            "flatten-batch": self._flatten,
            "name-slash": self._rename,
        }

    def treat(self, finding: Finding) -> list[str]:
        """Repairs what one finding names; says what was done, one sentence per change."""
        return self.treatments[finding.rule](finding)

    def _node(self, finding: Finding) -> Node:
        return self.content.net.nodes[finding.node]

    def _group(self, node: Node) -> Any:
        return self.file[node.place]

    def _put(self, group: Any, name: str, value: Any) -> None:
        import h5py

        if name in group:
            del group[name]
        if isinstance(value, str):
            group.create_dataset(name, data=value, dtype=h5py.string_dtype())
            return
        array = np.asarray(value)
        packing = {"compression": "gzip"} if array.ndim and array.nbytes >= PACK_FROM else {}
        group.create_dataset(name, data=array, **packing)

    def _read(self, node: Node, name: str) -> Array | None:
        """A parameter as it is in the file now, after repairs before this one."""
        group = self._group(node)
        value = np.asarray(group[name][()]) if name in group else None
        return value if value is not None and value.dtype.kind in "fiu" else None

    def _version(self, finding: Finding) -> list[str]:
        self._put(self.file, "version", NIR_VERSION)
        return [f"set the version to {NIR_VERSION}"]

    def _dtype(self, finding: Finding) -> list[str]:
        node, did = self._node(finding), []
        for name in node.arrays:
            value = self._read(node, name)
            if value is None or (value.dtype.kind == "f" and value.dtype.itemsize in (4, 8) and value.dtype.isnative):
                continue
            with np.errstate(over="ignore"):
                short, long = value.astype(np.float32), value.astype(np.float64)
            exact = np.array_equal(short.astype(value.dtype), value, equal_nan=value.dtype.kind == "f")
            made = short if exact or (value.dtype.kind == "f" and value.dtype.itemsize == 4) else long
            self._put(self._group(node), name, made)
            did.append(f"{name}: {value.dtype.name} to {made.dtype.name}")
        return did

    def _expand(self, finding: Finding) -> list[str]:
        node, did = self._node(finding), []
        shapes = self.content.shapes
        if node.kind in NEURONS or node.kind in ELEMENTWISE:
            population = shapes.takes[node.path]
            names = list(short_parameters(node, population)) if population is not None else []
        else:
            weight = node.array("weight")
            names, population = ["bias"], None
            if weight is not None:
                population = weight.shape[:1] if node.kind.startswith("Conv") else weight.shape[:-1]
        for name in names:
            value = self._read(node, name)
            if population is None or value is None or value.shape == population:
                continue
            self._put(self._group(node), name, np.array(np.broadcast_to(value, population)))
            did.append(f"{name}: shape {list(value.shape)} to {list(population)}")
        return did

    def _fill(self, finding: Finding, name: str, like: str, number: float) -> list[str]:
        node = self._node(finding)
        model = self._read(node, like)
        if model is None:
            return []
        kind = model.dtype if model.dtype.kind == "f" else np.float32
        self._put(self._group(node), name, np.full(model.shape, number, kind))
        return [f"{name}: {number:g} for all {model.size} neurons"]

    def _v_reset(self, finding: Finding) -> list[str]:
        return self._fill(finding, "v_reset", "v_threshold", 0.0)

    def _w_in(self, finding: Finding) -> list[str]:
        return self._fill(finding, "w_in", "v_leak", 1.0)

    def _input_shape(self, finding: Finding) -> list[str]:
        node = self._node(finding)
        taken = self.content.shapes.takes[node.path]
        if taken is None:
            return []
        if node.kind == "Flatten":
            self._put(self._group(node), "input_type", np.array(taken, np.int64))
            return [f"input_type: {list(taken)}"]
        sizes = np.array(taken[1:], np.int64)
        self._put(self._group(node), "input_shape", sizes[0] if node.kind == "Conv1d" else sizes)
        return [f"input_shape: {sizes.tolist()}"]

    def _edges(self, finding: Finding) -> list[str]:
        for level in self.content.sheet.root.levels():
            before = level.prefix()
            kept = list(dict.fromkeys(level.edges))
            mine = any(f"{before}{a} -> {before}{b}" == finding.node for a, b in level.edges)
            if mine and len(kept) < len(level.edges):
                self._write_edges(level.place, kept)
                times = len(level.edges) - len(kept)
                level.edges = kept
                return [f"removed {times} edge{'s' if times > 1 else ''} that stood twice"]
        return ["removed one of them"]

    def _write_edges(self, place: str, edges: list[tuple[str, str]]) -> None:
        import h5py

        group = self.file[place]
        del group["edges"]
        group.create_dataset("edges", data=np.array(edges, object).reshape(-1, 2), dtype=h5py.string_dtype())

    def _batch_axis(self, finding: Finding) -> list[str]:
        node, axes = self._node(finding), self.content.guess.dropped[finding.node]
        if node.kind in ("Input", "Output"):
            whole = np.asarray(self._group(node)["shape"][()]).reshape(-1)
            self._put(self._group(node), "shape", whole[axes:])
            return [f"shape {whole.tolist()} to {whole[axes:].tolist()}"]
        rank, did = len(full_shape(node) or ()), []
        for name in node.arrays:
            value = self._read(node, name)
            if value is not None and value.ndim == rank:
                self._put(self._group(node), name, value.reshape(value.shape[axes:]))
                did.append(f"{name}: shape {list(value.shape)} to {list(value.shape[axes:])}")
        return did

    def _flatten(self, finding: Finding) -> list[str]:
        group = self._group(self._node(finding))
        start = int(np.asarray(group["start_dim"][()]).reshape(-1)[0])
        self._put(group, "start_dim", np.int64(start - 1))
        return [f"start_dim: {start} to {start - 1}"]

    def _rename(self, finding: Finding) -> list[str]:
        for level in self.content.sheet.root.levels():
            name = finding.node.removeprefix(level.prefix())
            if level.prefix() + name != finding.node or name not in level.nodes:
                continue
            new = fresh(name.replace("/", "."), level.nodes)
            inside = self.file[f"{level.place}/nodes"]
            inside.move(name, new)
            self._drop_empty(inside, name)
            level.nodes[new] = level.nodes.pop(name)
            level.edges = [tuple(new if end == name else end for end in edge) for edge in level.edges]  # type: ignore[misc]
            self._write_edges(level.place, level.edges)
            return [f"renamed to {new!r}"]
        return []

    def _drop_empty(self, group: Any, name: str) -> None:
        """Removes the groups that only held the name's parts."""
        parts = name.split("/")[:-1]
        while parts and not len(group["/".join(parts)]):
            del group["/".join(parts)]
            parts.pop()
