"""What the tests of the onnx target share: every op against the interpreter, at once and step by step."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.backends.onnx.backend import ONNX, OnnxArtifact, session
from snnir.backends.onnx.model import start_values
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.target import require
from tests.strategies import inputs_for
from tests.values_equal import same_values

Array = np.ndarray[Any, np.dtype[Any]]


def built(graph: Graph) -> OnnxArtifact:
    """The artifact of a graph, which the target must accept."""
    require(ONNX.target, graph)
    return ONNX.build(graph, {})


def by_steps(artifact: OnnxArtifact, inputs: Mapping[str, Array], dtype: Any) -> dict[str, Array]:
    """The outputs of `step.onnx`, run once per step with the states it gave before."""
    model = artifact.step(dtype)
    running = session(model)
    follows = json.loads({p.key: p.value for p in model.metadata_props}["snnir.states"])
    start = np.load(io.BytesIO(start_values(artifact.plan, dtype)))
    steps, batch = next(iter(inputs.values())).shape[:2]
    states = {name: np.repeat(start[name][None], batch, axis=0) for name in follows}
    names = [o.name for o in running.get_outputs()]
    series: dict[str, list[Array]] = {name: [] for name in artifact.graph.outputs}
    for t in range(steps):
        given = {name: value[t].astype(dtype) for name, value in inputs.items()}
        values = dict(zip(names, running.run(None, {**given, **states}), strict=True))
        states = {name: values[after] for name, after in follows.items()}
        for name, found in series.items():
            found.append(values[name])
    return {name: np.stack(found) for name, found in series.items()}


def same_everywhere(graph: Graph, steps: int = 12, batch: int = 2, seed: int = 0) -> int:
    """Every op in float64: equal spikes, values to 1e-9; the files' own float32 to 1e-5. Gives the spike count.

    In float32 a membrane within rounding of its threshold may fall on either side, and then nothing after it need
    agree; the reference in float32 says whether that is so: it is compared where it gives the float64 spikes.
    """
    artifact = built(graph)
    x = inputs_for(graph, T=steps, B=batch, rng=seed)
    _, expected = interpret(graph, x, record=list(graph.ops))
    outputs, recorded = artifact.run(x, tuple(graph.ops))
    spikes = same_values(graph, recorded, expected, "onnx")
    for name in graph.outputs:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-9, atol=1e-9)
    single = {name: value.astype(np.float32) for name, value in x.items()}
    _, near = interpret(graph, single, record=list(graph.ops))
    if all(np.array_equal(near[n], expected[n]) for n, op in graph.ops.items() if op.spiking):
        short, _ = artifact.run(single)
        for name in graph.outputs:
            assert short[name].dtype == np.float32
            size = max(1.0, float(np.abs(near[name]).max(initial=0)))
            np.testing.assert_allclose(short[name], near[name], rtol=1e-5, atol=1e-5 * size)
    if not artifact.plan.no_single_step:
        for name, value in by_steps(artifact, x, np.float64).items():
            np.testing.assert_allclose(value, outputs[name], rtol=1e-9, atol=1e-9)
    return spikes
