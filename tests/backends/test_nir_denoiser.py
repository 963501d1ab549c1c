"""A whole denoiser as strictly standard NIR: accepted by nir's own type check, and the same network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import snnir
from snnir.diffusion.spec import time_embedding
from snnir.graph import Graph, chain
from snnir.ops import NIR_OPS, Conv, Input, Output, Upsample2d
from snnir.pipeline import parse_pipeline, run_pipeline
from tests.diffusion.denoisers import denoiser, noise, rate, spiking

Array = np.ndarray[Any, np.dtype[Any]]


def given(graph: Graph) -> dict[str, Array]:
    x = noise(graph)
    time = time_embedding(np.array([700, 300]), graph.shapes["time"][0])
    return {"x": x, "time": np.broadcast_to(time, (*x.shape[:2], time.shape[1]))}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image": (1, 6, 4), "stem_skip": False},
        {"image": (1, 16, 16), "fold": 2, "widths": (8, 6)},
        {"paper": True, "image": (1, 8, 8), "widths": (3, 4, 5), "blocks": 2, "steps": 8},
    ],
    ids=["tiny", "not-square", "folded", "three-levels"],
)
def test_a_denoiser_as_nir_is_read_by_nir_and_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    graph = denoiser(**options)
    result = snnir.compile(graph, "nir")
    assert {type(op) for op in result.graph.ops.values()} <= set(NIR_OPS)
    assert not [n for n, op in result.graph.ops.items() if isinstance(op, Conv) and (op.groups > 1 or op.bias.ndim > 1)]
    result.save(tmp_path / "out")
    read = nir.read(tmp_path / "out" / "graph.nir", type_check=True)
    assert len(read.nodes) == len(result.graph)
    x = given(graph)
    want, spikes = snnir.interpret(graph, x, record=spiking(graph))
    got, found = result.run(x, record=spiking(graph))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
    assert 0.02 < rate(spikes) < 0.6
    for name, value in spikes.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_what_nir_has_read_runs_as_the_graph_does(tmp_path: Path) -> None:
    """Through nir's own objects: nothing but what nir keeps of the file."""
    graph = denoiser(1)
    result = snnir.compile(graph, "nir")
    result.save(tmp_path / "out")
    live = nir.read(tmp_path / "out" / "graph.nir", type_check=True)
    back = snnir.load(live, dt=1e-3) if graph.semantics.dt is None else snnir.load(live)
    x = given(graph)
    x["time"] = x["time"][..., None, None]
    np.testing.assert_allclose(
        snnir.interpret(back, x), snnir.interpret(graph, {**x, "time": x["time"][..., 0, 0]}), atol=1e-9
    )


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 4, 4), (1, 7, 7), (2, 3, 5), (1, 2, 1), (1, 1, 6)])
@pytest.mark.parametrize("factor", [(2, 2), (3, 2), (1, 4), (5, 5), (12, 12)])
def test_upsampling_by_shifts_is_exact(shape: tuple[int, int, int], factor: tuple[int, int]) -> None:
    graph = chain(Input(shape=shape), Upsample2d(factor=factor), Output())
    after = run_pipeline(graph, parse_pipeline("lower-upsample{alone=shift}"))
    assert {type(op) for op in after.ops.values()} <= set(NIR_OPS)
    x = np.random.default_rng(0).normal(size=(2, 2, *shape))
    np.testing.assert_allclose(snnir.interpret(after, x), snnir.interpret(graph, x), rtol=1e-15)
    spikes = (x > 0) * 1.0
    np.testing.assert_array_equal(snnir.interpret(after, spikes), snnir.interpret(graph, spikes))
