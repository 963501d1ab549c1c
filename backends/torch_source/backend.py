"""The backend of each target of the PyTorch family, and the artifact it makes."""

from __future__ import annotations

import hashlib
import linecache
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from snnir.backends.torch_source.neurons import Dialect
from snnir.backends.torch_source.run_script import run_script
from snnir.backends.torch_source.weights import safetensors, state, stored
from snnir.backends.torch_source.writer import Source, write
from snnir.contents import source
from snnir.errors import MissingPackageError, UsageError, did_you_mean
from snnir.graph import Graph
from snnir.learning import DROPOUT
from snnir.ops import Array
from snnir.pipeline import Pass
from snnir.target import Files, Target


@dataclass(frozen=True)
class TorchBackend:
    """A target of the family: the same source but for how neurons are written."""

    target: Target
    dialect: Dialect

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Makes sure that every option is one of every target, or of this one.

        Raises:
            UsageError: it is not.
        """
        unknown = sorted(set(options) - {"allow", "calibrate", *self.target.options})
        if unknown:
            there = ", ".join(self.target.options)
            takes = f"its options: {there}" if there else "it takes none"
            meant = did_you_mean(unknown, self.target.options)
            raise UsageError(f"{self.target.name} has no option {', '.join(unknown)}{meant}; {takes}")

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Pass, ...]:
        """No passes: the emitted module keeps the graph's own weights, so that they can be trained and taken back."""
        return ()

    def build(self, graph: Graph, options: Mapping[str, Any]) -> TorchArtifact:
        """The artifact of a graph. No options but those of every target; neither the framework nor torch is needed.

        Raises:
            UsageError: an option that these targets do not have.
        """
        self.check_options(options)
        return TorchArtifact(graph, self.target, self.dialect, write(graph, self.dialect))


@dataclass(frozen=True)
class TorchArtifact:
    """`model.py` and its weights; and the same, live."""

    graph: Graph
    target: Target
    dialect: Dialect
    source: Source

    @property
    def latency(self) -> int:
        """None: outputs come in the source network's steps."""
        return 0

    @property
    def report(self) -> Mapping[str, Any]:
        """Which neurons are the framework's own layers, and which are not and why; what training leaves out here."""
        layers = self.source.layers
        dropped = self.graph.metadata.get(DROPOUT)
        return {
            "framework layers": {name: layer.uses for name, layer in layers.items() if layer.uses},
            "own cells": {name: layer.own for name, layer in layers.items() if layer.own},
            **({"dropout not in here": dict(dropped)} if dropped else {}),
        }

    def files(self) -> Files:
        """`model.py`, `weights.safetensors`, and `run.py`, which runs it on a NumPy file, with `npz_files.py`."""
        return Files(
            {
                "model.py": self.source.text.encode,
                "weights.safetensors": lambda: safetensors(self.graph),
                "run.py": lambda: run_script(self.graph).encode(),
                "npz_files.py": lambda: source("snnir.npz_files"),
            }
        )

    @property
    def weights(self) -> Mapping[str, Array]:
        """The arrays of `weights.safetensors`, which the graph beside it need not store again."""
        return stored(self.graph)

    def module(self, dtype: Any = None) -> Any:
        """The emitted `Model`, built from the emitted text with its weights; a new one at each call.

        Args:
            dtype: a torch dtype; default what the graph's semantics say, so float32.

        Raises:
            MissingPackageError: PyTorch, safetensors or the framework is not installed.
        """
        torch = self._torch
        if dtype is None:
            dtype = torch.float64 if self.graph.semantics.number_format == "float64" else torch.float32
        weights = {name: torch.from_numpy(np.array(array)) for name, array in state(self.graph).items()}
        return self._namespace.Model(weights, dtype)

    def run(
        self, inputs: Mapping[str, Array], record: tuple[str, ...] = ()
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Runs the emitted model, in the precision of the inputs; see `snnir.target.Artifact`."""
        torch = self._torch
        double = any(np.asarray(value).dtype == np.float64 for value in inputs.values())
        model = self._evaluated[double]
        dtype = torch.float64 if double else torch.float32
        given = [torch.from_numpy(np.array(inputs[name])).to(dtype) for name in self.graph.inputs]
        with torch.no_grad():
            outputs, recorded = model(*given, record=record) if record else (model(*given), {})
        if not isinstance(outputs, dict):
            outputs = {self.graph.outputs[0]: outputs}
        return _arrays(outputs), _arrays(recorded)

    @cached_property
    def _evaluated(self) -> Mapping[bool, Any]:
        """The module for inference, in single and in double precision."""
        torch = self._torch
        return {double: self.module(torch.float64 if double else torch.float32).eval() for double in (False, True)}

    @cached_property
    def _torch(self) -> Any:
        for package in ("torch", "safetensors", *self.dialect.packages):
            try:
                import_module(package)
            except ModuleNotFoundError as error:
                if error.name != package:
                    raise
                extra = self.target.extra or self.target.name
                raise MissingPackageError(package, extra, f"running a network for {self.target.title}") from error
        return import_module("torch")

    @cached_property
    def _namespace(self) -> Any:
        """The emitted file as a module of its own; equal files share one, so that kernels compile once."""
        text = self.source.text
        name = f"snnir_emitted_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if name not in sys.modules:
            module, file = types.ModuleType(name), f"<{name}/model.py>"
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # for tracebacks
            sys.modules[name] = module  # before it runs: dataclasses look their module up
            try:
                exec(compile(text, file, "exec"), module.__dict__)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


def _arrays(tensors: Mapping[str, Any]) -> dict[str, Array]:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}
