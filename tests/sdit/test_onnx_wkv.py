"""WKV in ONNX files: a Scan over the tokens, at once, step by step, within a cycle, at extremes, and read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.graph import Edge, Graph
from snnir.semantics import Semantics
from tests.backends.onnx_family import built, same_everywhere

pytestmark = pytest.mark.oracle
TOKENS, CHANNELS = 7, 3
RNG = np.random.default_rng(2)


def mixer(feedback: bool = False, tokens: int = TOKENS) -> Graph:
    """Two inputs into WKV and neurons; with `feedback` their spikes come back into k."""
    nodes: dict[str, ops.Op] = {
        "k": ops.Input(shape=(tokens, CHANNELS)),
        "v": ops.Input(shape=(tokens, CHANNELS)),
        "wkv": ops.Wkv(log_decay=np.array([-3.0, 0.1, 1.0]), first=np.array([0.4, -1.0, 0.0])),
        "lif": ops.LIF(tau=np.float64(4e-3), r=4.0, v_threshold=np.float64(0.4)),
        "output": ops.Output(),
    }
    edges = [Edge("k", "wkv", "k"), Edge("v", "wkv", "v"), Edge("wkv", "lif"), Edge("lif", "output")]
    if feedback:
        nodes["back"] = ops.Affine(weight=RNG.normal(size=(CHANNELS, CHANNELS)), bias=RNG.normal(size=CHANNELS))
        edges += [Edge("lif", "back"), Edge("back", "wkv", "k")]
    return Graph(nodes, tuple(edges), Semantics(dt=1e-3)).verify()


@pytest.mark.parametrize("feedback", [False, True])
def test_every_value_is_the_interpreters(feedback: bool) -> None:
    assert same_everywhere(mixer(feedback)) > 50


def test_one_token_alone() -> None:
    same_everywhere(mixer(tokens=1))


def test_extremes_over_394_tokens() -> None:
    decay = np.array([-80.0, -8.0, 0.0, 3.0, 80.0])
    nodes = {
        "k": ops.Input(shape=(394, 5)),
        "v": ops.Input(shape=(394, 5)),
        "wkv": ops.Wkv(log_decay=decay, first=RNG.normal(size=5)),
        "y": ops.Output(),
    }
    graph = Graph(nodes, (Edge("k", "wkv", "k"), Edge("v", "wkv", "v"), Edge("wkv", "y"))).verify()
    artifact = built(graph)
    for spread, single in ((3.0, 1e-5), (1e3, 1e-3)):
        x = {"k": RNG.normal(0, spread, (1, 2, 394, 5)), "v": RNG.normal(size=(1, 2, 394, 5))}
        want = snnir.interpret(graph, x)
        np.testing.assert_allclose(artifact.run(x)[0]["y"], want, rtol=0, atol=1e-11)
        short = artifact.run({name: a.astype(np.float32) for name, a in x.items()})[0]["y"]
        np.testing.assert_allclose(short, want, rtol=0, atol=single)


def test_the_file_holds_one_scan_per_wkv_and_reads_back(tmp_path: Any) -> None:
    graph = mixer()
    artifact = built(graph)
    scans = [n for n in artifact.sequence(np.float32).graph.node if n.op_type == "Scan"]
    assert len(scans) == 2  # the neurons' over time, and this one
    inner = next(a.g for a in scans[0].attribute if a.name == "body")
    assert sum(n.op_type != "Identity" for n in inner.node) == 12
    path = tmp_path / "sequence.onnx"
    path.write_bytes(artifact.files()["sequence.onnx"])
    again = snnir.load(path)
    x = {name: RNG.normal(size=(5, 2, TOKENS, CHANNELS)) for name in ("k", "v")}
    np.testing.assert_array_equal(snnir.interpret(again, x), snnir.interpret(graph, x))
