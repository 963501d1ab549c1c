"""What the tests of reading ONNX share: models of one node or of PyTorch's exporter, and ONNX Runtime as the judge."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import snnir
from snnir.graph import Graph
from snnir.interpreter import interpret

Array = np.ndarray[Any, np.dtype[Any]]
Dims = Sequence[int | str | None]


def model(
    nodes: Sequence[Any],
    dims: Mapping[str, Dims],
    arrays: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    kind: int = TensorProto.FLOAT,
) -> Any:
    """A model of some nodes; the shapes of outputs are inferred."""
    given = [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in dims.items()]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in (arrays or {}).items()]
    ends = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "net", given, ends, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)  # fills in the outputs' shapes


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), name: str = "", **attributes: Any) -> Any:
    return helper.make_node(
        kind, list(inputs), list(outputs), name=name or f"{kind.lower()} {outputs[0]}", **attributes
    )


def exported(module: torch.nn.Module, shape: Sequence[int], path: Path, fixed: bool = False, **options: Any) -> Path:
    """A file by PyTorch's own exporter; the batch is open unless `fixed`."""
    module.eval()
    example = torch.randn(1 if fixed else 2, *shape)
    open_axes = None if fixed else {"x": {0: "batch"}, "y": {0: "batch"}}
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": open_axes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), str(path), dynamo=False, **names, **options)
    return path


def runtime(path: Path, given: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime says, without its own optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(given))]


def same_as_runtime(
    source: Any, folder: Path, batch: int = 3, steps: int = 2, positive: bool = False, **options: Any
) -> Graph:
    """Reads a file (or a model); every output is ONNX Runtime's in every step, to 1e-5. Gives the graph."""
    path = source if isinstance(source, Path) else folder / "model.onnx"
    if not isinstance(source, Path):
        onnx.save(source, path)
    graph = snnir.load(path, **options)
    rng = np.random.default_rng(0)
    x = {n: rng.normal(size=(steps, batch, *graph.shapes[n])).astype(np.float32) for n in graph.inputs}
    if positive:
        x = {name: np.abs(value) for name, value in x.items()}
    expected = [runtime(path, {name: value[t] for name, value in x.items()}) for t in range(steps)]
    found = interpret(graph, x)
    got = [found] if len(graph.outputs) == 1 else [found[name] for name in graph.outputs]
    for i, values in enumerate(got):
        wanted = np.stack([step[i] for step in expected])
        assert np.ptp(wanted) > 0
        assert values.shape == wanted.shape
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))
    return graph
