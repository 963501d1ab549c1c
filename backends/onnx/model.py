"""Graphs as checked ONNX models, with what snnir means by them as metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from snnir.backends.onnx import record as network
from snnir.backends.onnx.package import onnx
from snnir.backends.onnx.plan import Plan
from snnir.backends.onnx.sequence import sequence_graph
from snnir.backends.onnx.step import step_graph
from snnir.backends.onnx.writer import IR_VERSION, OPSET, Writer
from snnir.contents import npz

FORM, STATES, SEMANTICS = "snnir.form", "snnir.states", "snnir.semantics"


def sequence_model(plan: Plan, dtype: Any) -> Any:
    """`sequence.onnx`: inputs (T, B, *shape) to outputs, state at rest before the first step."""
    return _checked(model_of(plan, "sequence", dtype))


def recording_model(plan: Plan, dtype: Any, record: Sequence[str]) -> Any:
    """The same with more outputs (see `sequence_graph`), for a single run: without the record of the network."""
    return _checked(_model(sequence_graph(_writer(plan, dtype), plan, record), {}))


def step_model(plan: Plan, dtype: Any) -> Any:
    """`step.onnx`: inputs (B, *shape) and states to outputs and the states after the step."""
    return _checked(model_of(plan, "step", dtype))


def start_values(plan: Plan, dtype: Any) -> bytes:
    """`start.npz`: every state of `step.onnx` before step 0, without the batch axis."""
    made = step_graph(_writer(plan, dtype), plan)
    arrays = {n: a.astype(np.int64 if made.states[n].integer else dtype) for n, a in made.start().items()}
    return npz(arrays)


def model_of(plan: Plan, form: str, dtype: Any) -> Any:
    """The model of a form, 'sequence' or 'step', as it is written and not yet checked."""
    w = _writer(plan, dtype)
    properties = {FORM: form, SEMANTICS: json.dumps(plan.graph.semantics.to_json())}
    if form == "step":
        made = step_graph(w, plan)
        graph, properties[STATES] = made.graph, json.dumps(dict(made.follows))
    else:
        graph = sequence_graph(w, plan)
    properties[network.KEY] = network.written(w, plan.graph)
    return _model(graph, properties)


def _model(graph: Any, properties: dict[str, str]) -> Any:
    package = onnx()
    model = package.helper.make_model(
        graph,
        producer_name="snnir",
        ir_version=IR_VERSION,
        opset_imports=[package.helper.make_opsetid("", OPSET)],
    )
    package.helper.set_model_props(model, properties)
    return model


def _writer(plan: Plan, dtype: Any) -> Writer:
    return Writer(dtype, reserved=plan.graph.ops)


def _checked(model: Any) -> Any:
    package = onnx()
    model = package.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    package.checker.check_model(model, full_check=True)
    return model
