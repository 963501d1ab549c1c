"""The packages `onnx` and `onnxruntime`, imported when they are needed, in one place."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from snnir.errors import MissingPackageError


@cache
def onnx() -> Any:
    """The package that writes the files.

    Raises:
        MissingPackageError: it is not installed.
    """
    found = _imported("onnx", "reading or writing ONNX")
    for part in ("checker", "helper", "numpy_helper", "shape_inference"):
        import_module(f"onnx.{part}")
    return found


@cache
def runtime() -> Any:
    """The package that runs them.

    Raises:
        MissingPackageError: it is not installed.
    """
    return _imported("onnxruntime", "running an ONNX network")


def _imported(package: str, why: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingPackageError(package, "onnx", why) from error
