"""Graphs as checked ONNX models, with what snnir means by them as metadata."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from snnir.backends.onnx.package import onnx
from snnir.backends.onnx.plan import Plan
from snnir.backends.onnx.sequence import sequence_graph
from snnir.backends.onnx.step import step_graph
from snnir.backends.onnx.writer import IR_VERSION, OPSET


def sequence_model(plan: Plan, dtype: Any, record: Sequence[str] = ()) -> Any:
    """`sequence.onnx`: inputs (T, B, *shape) to outputs, state at rest before the first step."""
    return _model(plan, sequence_graph(plan, dtype, record), {"snnir.form": "sequence"})


def step_model(plan: Plan, dtype: Any) -> Any:
    """`step.onnx`: inputs (B, *shape) and states to outputs and the states after the step."""
    made = step_graph(plan, dtype)
    return _model(plan, made.graph, {"snnir.form": "step", "snnir.states": json.dumps(dict(made.follows))})


def start_values(plan: Plan, dtype: Any) -> bytes:
    """`start.npz`: every state of `step.onnx` before step 0, without the batch axis."""
    made = step_graph(plan, dtype)
    arrays = {n: a.astype(np.int64 if made.states[n].integer else dtype) for n, a in made.start().items()}
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _model(plan: Plan, graph: Any, properties: dict[str, str]) -> Any:
    package = onnx()
    model = package.helper.make_model(
        graph,
        producer_name="snnir",
        ir_version=IR_VERSION,
        opset_imports=[package.helper.make_opsetid("", OPSET)],
    )
    semantics = json.dumps(plan.graph.semantics.to_json())
    package.helper.set_model_props(model, {"snnir.semantics": semantics, **properties})
    model = package.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    package.checker.check_model(model, full_check=True)
    return model
