"""Bit-exact models of neuromorphic chips, in NumPy alone; import the one you need: `xylo` or `loihi`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path


def source_files(simulator: str, name: str) -> dict[str, bytes]:
    """A simulator's own files under another name: path -> content, a package `name` that needs NumPy alone.

    Args:
        simulator: `xylo` or `loihi`. name: of the package, e.g. "xylo_simulator".
    """
    module = import_module(f"{__name__}.{simulator}")
    return {
        f"{name}/{path.name}": path.read_bytes().replace(module.__name__.encode(), name.encode())
        for folder in module.__path__
        for path in sorted(Path(folder).glob("*.py"))
    }
