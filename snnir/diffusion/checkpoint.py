"""Checkpoints of a training run: one safetensors file, replaced whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from snnir.diffusion.weight_files import note
from snnir.errors import CompileError, Violation, fail
from snnir.graph import Graph
from snnir.learning import learned
from snnir.ops import Array, BatchNorm, Neuron
from snnir.store import digest

NAME = "checkpoint.safetensors"
_KEY, _FORMAT = "snnir.checkpoint", 2
_SAME = "resume with the same"
_WHAT = {"data": "the digest of the training images", "network": "the digest of the network but its weights"}


def write(folder: Path, step: int, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Replaces the folder's checkpoint; at any moment the old or the new one is there, whole."""
    from safetensors.torch import save

    note = {"format": _FORMAT, "step": step, "config": dict(config)}
    # One key: safetensors writes several in an order that differs from process to process.
    metadata = {_KEY: json.dumps(note, sort_keys=True)}
    data = save({k: v.detach().contiguous() for k, v in tensors.items()}, metadata=metadata)
    replace_file(folder / NAME, data)


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file beside `path`, flushes it to the disk, and renames it over `path`.

    Raises:
        CompileError: it cannot be written; what was there before still is.
    """
    try:
        _replace_file(path, data)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> CompileError:
    """The error that says so."""
    what = "the disk is full" if error.errno == errno.ENOSPC else f"cannot be written: {error.strerror}"
    return fail("output-unwritable", what, where=str(path), hint="what was there before is kept: a run can --resume")


def _replace_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).chmod(0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def clear(folder: Path) -> None:
    """Removes what a kill while a checkpoint was being written left beside it."""
    for path in folder.glob(f".{NAME}.*"):
        path.unlink(missing_ok=True)


def fingerprint(graph: Graph) -> str:
    """What a network is apart from what training moves: networks with weights of the same shapes may still differ."""
    ops = {}
    for name, op in graph.ops.items():
        moved = {*learned(op), *(("mean", "var") if isinstance(op, BatchNorm) else ())}
        there = {field: getattr(op, field) for field in sorted(moved) if getattr(op, field) is not None}
        blank = {field: np.ones_like(value) for field, value in there.items()}
        ops[name] = op.with_(loc=None, **blank)
    return digest(replace(graph, ops=ops))[:12]


def read(folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[int, dict[str, Tensor]]:
    """The steps a checkpoint has seen, and its tensors.

    Args:
        config: of the run that goes on; the checkpoint's must be the same, as far as it says.
        state: the module's state dict, for its names and shapes.

    Raises:
        CompileError: there is none, it is broken, or it is of another model or run; every difference at once.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / NAME
    if not path.is_file():
        raise fail("no-checkpoint", "there is none", where=str(path), hint="leave --resume away to begin anew")
    try:
        with safe_open(path, framework="pt") as file:
            note = _note(file.metadata())
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise fail("broken-checkpoint", f"cannot be read: {error}", where=str(path)) from None
    if note is None:
        what, wanted = "is no checkpoint of a training run", f"one of format {_FORMAT}, written by `snnir train`"
        raise fail("broken-checkpoint", what, where=str(path), expected=wanted)
    faults = [*_other_run(path, note["config"], config), *_other_model(path, tensors, state)]
    if faults:
        raise CompileError(faults, title="the checkpoint does not fit")
    return int(note["step"]), tensors


def _note(metadata: Mapping[str, str] | None) -> dict[str, Any] | None:
    """What a checkpoint says of itself; None for another file."""
    said = metadata or {}
    if said.get("format") == "snnir-checkpoint-1":  # as they were written before
        return {"step": said["step"], "config": json.loads(said["config"])}
    try:
        note = json.loads(said.get(_KEY, "null"))
    except ValueError:
        return None
    return note if isinstance(note, dict) and note.get("format") == _FORMAT else None


def _other_run(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Violation]:
    apart = [(key, there[key], value) for key, value in here.items() if there.get(key, value) != value]
    return [
        Violation("other-run", f"{_WHAT.get(key, key)} is {a} there and {b} here", str(path), hint=_SAME)
        for key, a, b in apart
    ]


def _other_model(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[Violation]:
    there = {k: list(v.shape) for k, v in part(tensors, "weights").items()}
    here = {k: list(v.shape) for k, v in state.items()}
    found = []
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            what = f"{key} is {there.get(key, 'not')} there and {here.get(key, 'not')} here"
            found.append(Violation("other-model", what, str(path), hint="a checkpoint only fits its own model"))
    return found


def part(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors under `kind`/, by their names below it."""
    return {k.removeprefix(f"{kind}/"): v for k, v in tensors.items() if k.startswith(f"{kind}/")}


def steps_seen(folder: Path) -> int:
    """The steps that the folder's checkpoint has seen; 0 where it cannot be read (`read` says why)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / NAME, framework="pt") as file:
            return int((_note(file.metadata()) or {"step": 0})["step"])
    except (SafetensorError, OSError):
        return 0


def write_weights(path: Path, graph: Graph, trained: Graph) -> None:
    """What training gave, as a safetensors file for `Graph.with_weights`.

    Constants of neurons are left out unless they were trained, and numbers of the code: they belong to the model.
    """
    from safetensors.numpy import save

    before = graph.weights()

    def weight(key: str, value: Array) -> bool:
        op = graph[key.rpartition(".")[0]]
        constant = isinstance(op, Neuron) and np.array_equal(value, before[key])
        return not constant and "literal" not in op.metadata

    kept = {key: np.array(value, order="C") for key, value in trained.weights().items() if weight(key, value)}
    replace_file(path, save(kept, metadata=note(graph.metadata)))
