"""The backend of the onnx target, and the artifact it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from snnir.backends.onnx.model import recording_model, sequence_model, start_values, step_model
from snnir.backends.onnx.package import onnx, runtime
from snnir.backends.onnx.plan import Plan
from snnir.backends.onnx.run_script import RUN
from snnir.backends.onnx.target import TARGET
from snnir.contents import source
from snnir.errors import UsageError
from snnir.graph import Graph
from snnir.ops import Array
from snnir.pipeline import Pass
from snnir.target import Files, Target


@dataclass(frozen=True)
class OnnxBackend:
    """Writes a graph as ONNX, op by op under its own names."""

    target: Target = TARGET

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Makes sure that no option is given but those of every target.

        Raises:
            UsageError: one is.
        """
        unknown = sorted(set(options) - {"allow", "calibrate"})
        if unknown:
            raise UsageError(f"target onnx has no option {', '.join(unknown)}; it takes none")

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Pass, ...]:
        """No passes: ONNX Runtime fuses what it can itself, and a viewer shows the network as it was drawn."""
        return ()

    def build(self, graph: Graph, options: Mapping[str, Any]) -> OnnxArtifact:
        """The artifact of a graph. No options but those of every target.

        Raises:
            UsageError: an option; this target has none.
            MissingPackageError: the package onnx is not installed.
        """
        self.check_options(options)
        onnx()
        return OnnxArtifact(graph)


@dataclass(frozen=True)
class OnnxArtifact:
    """`sequence.onnx`, `step.onnx` with its start values, and a script that runs them."""

    graph: Graph
    sessions: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def latency(self) -> int:
        """None: outputs come in the source network's steps."""
        return 0

    @cached_property
    def plan(self) -> Plan:
        """How the graph runs."""
        return Plan(self.graph)

    @property
    def report(self) -> Mapping[str, Any]:
        """Why there is no `step.onnx`, where there is none."""
        why = self.plan.no_single_step
        return {"no step.onnx": "; ".join(why)} if why else {}

    @property
    def dtype(self) -> Any:
        """The type of the files' real values."""
        return np.float64 if self.graph.semantics.number_format == "float64" else np.float32

    def files(self) -> Files:
        """`sequence.onnx`, `run.py`, `npz_files.py`; `step.onnx`, `start.npz` where a step of the input is one of the
        outputs."""
        makers = {"sequence.onnx": lambda: self.sequence().SerializeToString(), "run.py": RUN.encode}
        makers["npz_files.py"] = lambda: source("snnir.npz_files")
        if not self.plan.no_single_step:
            makers["step.onnx"] = lambda: self.step().SerializeToString()
            makers["start.npz"] = lambda: start_values(self.plan, self.dtype)
        return Files(makers)

    def sequence(self, dtype: Any = None) -> Any:
        """The ONNX model of whole sequences; dtype: float32 or float64, default the network's."""
        return sequence_model(self.plan, dtype or self.dtype)

    def step(self, dtype: Any = None) -> Any:
        """The ONNX model of one step."""
        return step_model(self.plan, dtype or self.dtype)

    def run(
        self, inputs: Mapping[str, Array], record: tuple[str, ...] = ()
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Runs the sequence in ONNX Runtime, in the precision of the inputs; see `snnir.target.Artifact`.

        Raises:
            MissingPackageError: ONNX Runtime is not installed.
        """
        double = any(np.asarray(value).dtype == np.float64 for value in inputs.values())
        dtype = np.float64 if double else np.float32
        key = (double, record)
        if key not in self.sessions:
            self.sessions.clear()  # a session holds the weights once more
            self.sessions[key] = session(recording_model(self.plan, dtype, record))
        given = {name: np.ascontiguousarray(inputs[name], dtype) for name in self.graph.inputs}
        found = self.sessions[key].run(None, given)
        count = len(self.graph.outputs)
        outputs = dict(zip(self.graph.outputs, found[:count], strict=True))
        return outputs, dict(zip(record, found[count:], strict=True))


def session(model: Any, threads: int = 1) -> Any:
    """A model in ONNX Runtime, on the CPU.

    Its MatMulScaleFusion keeps the factor beside a matrix product as a float32, also in float64 models: it stays away.
    """
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    chosen = {"providers": ["CPUExecutionProvider"], "disabled_optimizers": ["MatMulScaleFusion"]}
    return ort.InferenceSession(model.SerializeToString(), options, **chosen)


ONNX = OnnxBackend()
