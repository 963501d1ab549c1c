"""What files of an artifact hold, as bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from snnir.npz_files import pack


def npz(arrays: Mapping[str, Any]) -> bytes:
    """A compressed .npz file of arrays by name, without pickle."""
    buffer = io.BytesIO()
    pack(buffer, arrays)
    return buffer.getvalue()


def source(module: str) -> bytes:
    """The source of a module of this package by its full name, for scripts that travel with an artifact."""
    path = import_module(module).__file__
    if path is None:
        raise RuntimeError(f"{module} does not come from a file")
    return Path(path).read_bytes()
