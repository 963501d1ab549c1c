"""Arrays from .npz files and into them, for scripts that run compiled networks: everything that is wrong is said.

NumPy only, and nothing of snnir: this file travels with every compiled network that has such a script.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_DAMAGED = (EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All arrays of a .npz file, by name.

    Raises:
        ValueError: there is no such file, it is damaged, or no .npz file.
    """
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("is no .npz file, or not all of one; expected what numpy.savez writes")
        with np.load(path, allow_pickle=False) as arrays:
            held = set(arrays.zip.namelist())  # `arrays["x.npy"]` would be x, where there is also x.npy
            return {name: arrays[f"{name}.npy" if f"{name}.npy" in held else name] for name in arrays.files}
    except FileNotFoundError:
        raise ValueError("does not exist") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        said = "holds Python objects, expected arrays of numbers" if "pickle" in str(error) else str(error)
        raise ValueError(said) from None
    except _DAMAGED as error:
        raise ValueError(f"is damaged: {error}") from None


def inputs(arrays: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], any_name: bool = False) -> dict[str, Any]:
    """The inputs of a network among arrays, each (T, B, *shape); one sample may be (T, *shape).

    Args:
        arrays: by name. shapes: input name -> the shape of a step of a sample.
        any_name: whether the one array for the one input of a network may be called anything.

    Raises:
        ValueError: with everything that does not fit: names, shapes, types, numbers that are not finite, and inputs
            that differ in steps or batch.
    """
    if any_name and len(shapes) == 1 and len(arrays) == 1:
        arrays = dict(zip(shapes, arrays.values(), strict=True))
    found: dict[str, Any] = {}
    faults = []
    for name, wanted in shapes.items():
        if name not in arrays:
            faults.append(f"no array for input {name!r}; there are {', '.join(arrays) or 'none'}")
            continue
        x, shape = np.asarray(arrays[name]), tuple(wanted)
        full = x[:, None] if x.ndim == len(shape) + 1 else x
        if full.ndim != len(shape) + 2 or full.shape[2:] != shape or 0 in full.shape[:2]:
            expected = f"(T, B, {', '.join(map(str, shape))})" if shape else "(T, B)"
            faults.append(f"input {name!r} has shape {x.shape}, expected {expected}: at least 1 step of 1 sample")
        elif x.dtype.kind not in "fiub":
            faults.append(f"input {name!r} holds {x.dtype}, expected real numbers")
        elif not np.isfinite(full).all():
            t, b, *_ = (int(k) for k in np.argwhere(~np.isfinite(full))[0])
            faults.append(f"input {name!r} holds values that are not finite, the first in step {t} of sample {b}")
        else:
            found[name] = full
    sizes = {name: x.shape[:2] for name, x in found.items()}
    if not faults and len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {steps} and {batch}" for name, (steps, batch) in sizes.items())
        faults.append(f"inputs differ in steps or samples: {listed}")
    if faults:
        raise ValueError("; ".join(faults))
    return found


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Writes arrays of any names (`numpy.savez` does not take `file`); `.npz` is added where the path lacks it.

    Raises:
        ValueError: it cannot be written; what was begun is removed.
    """
    place = Path(path)
    place = place if place.name.endswith(".npz") else place.with_name(f"{place.name}.npz")
    there = place.exists()
    try:
        with open(place, "wb") as file:
            pack(file, arrays)
    except OSError as error:
        if not there and place.is_file():
            place.unlink()
        raise ValueError(f"cannot be written: {error.strerror or error}") from None


def pack(file: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """A compressed .npz of arrays by name, without pickle, into an open file."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def altered(folder: str | os.PathLike[str]) -> list[str]:
    """The files of a compiled network that are missing, or not as `manifest.json` in `folder` says.

    Text does not count, nor what scripts hold, and its example (`input.npz`, `expected.npz`) may be replaced. Nothing
    is said where there is no manifest.
    """
    here = Path(folder)
    try:
        hashes = json.loads((here / "manifest.json").read_bytes())["files"].items()
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ["manifest.json"]
    found = []
    for path, sha256 in hashes:
        if path.endswith((".nir", ".json", ".safetensors", ".onnx", ".npz", ".net", "model.py")):
            if path not in ("input.npz", "expected.npz") and _sha256(here / path) != sha256:
                found.append(path)
        elif path.endswith(".py") and not (here / path).exists():
            found.append(path)
    return found


def _sha256(path: Path) -> str | None:
    """The hash of a file; None if it is not there."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
    except OSError:
        return None
    return found.hexdigest()
