"""An ONNX file: read, found sound, and its arrays fetched one by one. Nothing in it is run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from snnir.backends.onnx.package import onnx
from snnir.errors import CompileError, fail
from snnir.ops import Array

OLDEST_OPSET = 7  # before, broadcasting was an attribute
FEW = 4096  # elements
WHOLE = "arrays may lie in files beside the model (external data): keep them together"


@dataclass(frozen=True)
class File:
    """A model whose arrays may still lie in files beside it.

    Attributes:
        path: as it was given. model: the ModelProto. opset: version of the standard's operators.
    """

    path: str
    model: Any
    opset: int
    read: dict[str, Array] = field(default_factory=dict, repr=False)

    @property
    def properties(self) -> dict[str, str]:
        """The model's metadata."""
        return {p.key: p.value for p in self.model.metadata_props}

    def array(self, name: str) -> Array:
        """The initialiser called `name`; KeyError where there is none."""
        if name not in self.read:
            tensor = next((t for t in self.model.graph.initializer if t.name == name), None)
            if tensor is None:
                raise KeyError(name)
            self.read[name] = self.value(tensor)
        return self.read[name]

    def value(self, tensor: Any) -> Array:
        """A tensor of the file as an array; halves and bfloat16 become float32.

        Raises:
            CompileError: it is damaged, its data lies in a file that is not there, or it holds no numbers.
        """
        package = onnx()
        try:
            found = np.asarray(package.numpy_helper.to_array(tensor, base_dir=str(Path(self.path).parent)))
        except (OSError, ValueError, TypeError, package.checker.ValidationError) as error:
            raise _lost(self.path, tensor.name, error) from error
        if found.dtype.kind in "iub" or found.dtype in (np.float32, np.float64):
            return found
        try:
            return found.astype(np.float32)  # float16, bfloat16 and the float8 kinds
        except (ValueError, TypeError) as error:
            raise fail("onnx-data", f"its array {tensor.name!r} holds no numbers", where=self.path) from error


def read(path: str | os.PathLike[str]) -> File:
    """The model in a file, functions of its own spelt out where they are called. It is not checked.

    Raises:
        CompileError: there is no such file, it is no ONNX model, or one of another age.
        MissingPackageError: the package onnx is not installed.
    """
    where = os.fspath(path)
    if not os.path.isfile(where):
        what = "is a folder" if os.path.isdir(where) else "does not exist"
        raise fail("onnx-file", what, where=where, expected="an ONNX file")
    package = onnx()
    try:
        model = package.load(where, load_external_data=False)
    except Exception as error:  # protobuf's own, which onnx does not name
        what = f"is no ONNX model: {_line(error)}"
        raise fail("onnx-file", what, where=where, hint="it may be damaged, or not fetched as a whole") from error
    if not model.graph.node and not model.graph.output:
        raise fail("onnx-file", "is no ONNX model: it holds no graph", where=where)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset < OLDEST_OPSET:
        what, hint = f"is of opset {opset}", "onnx.version_converter makes newer ones of it"
        raise fail("onnx-opset", what, where=where, expected=f"opset {OLDEST_OPSET} or later", hint=hint)
    if model.functions:
        from onnx.inliner import inline_local_functions

        try:
            model = inline_local_functions(model)
        except Exception as error:  # as above
            raise fail("onnx-file", f"its functions cannot be spelt out: {_line(error)}", where=where) from error
    if model.graph.sparse_initializer:
        names = ", ".join(t.values.name for t in model.graph.sparse_initializer)
        raise fail("onnx-sparse", f"holds sparse arrays: {names}", where=where, expected="dense ones")
    _fetch_small(model, where)
    return File(where, model, opset)


def _fetch_small(model: Any, where: str) -> None:
    """Brings short arrays in from beside the file: shapes and axes are among them, which shape inference reads."""
    package = onnx()
    helper = import_module("onnx.external_data_helper")
    for tensor in model.graph.initializer:
        if helper.uses_external_data(tensor) and prod(tensor.dims) <= FEW:
            try:
                helper.load_external_data_for_tensor(tensor, str(Path(where).parent))
            except (OSError, ValueError, package.checker.ValidationError) as error:
                raise _lost(where, tensor.name, error) from error
            tensor.data_location = package.TensorProto.DEFAULT
            del tensor.external_data[:]


def _lost(where: str, name: str, error: Exception) -> CompileError:
    return fail("onnx-data", f"its array {name!r} cannot be read: {_line(error)}", where=where, hint=WHOLE)


def checked(file: File) -> Any:
    """The model with all shapes that follow from it.

    Raises:
        CompileError: it breaks the rules of ONNX; with what onnx's checker says.
    """
    package = onnx()
    try:
        package.checker.check_model(file.path)
        return package.shape_inference.infer_shapes(file.model, check_type=True, strict_mode=True, data_prop=True)
    except CompileError:
        raise
    except Exception as error:  # ValidationError, InferenceError, and what protobuf raises for files of 2 GB
        what = f"is no sound ONNX model: {_line(error)}"
        raise fail("onnx-file", what, where=file.path, hint="onnx.checker.check_model(path) says the same") from error


def _line(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
