"""What files of an artifact hold, as bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def npz(arrays: Mapping[str, Any]) -> bytes:
    """A compressed .npz file of arrays by name, without pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:  # as NumPy's own, for any name, even `file`
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def source(module: str) -> bytes:
    """The source of a module of this package by its full name, for scripts that travel with an artifact."""
    path = import_module(module).__file__
    if path is None:
        raise RuntimeError(f"{module} does not come from a file")
    return Path(path).read_bytes()
