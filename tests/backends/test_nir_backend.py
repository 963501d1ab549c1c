"""The nir target: strictly standard files, read back by nir itself with type checking."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.graph import Edge, Graph, chain
from snnir.semantics import Semantics


def denoiser() -> Graph:
    """Two branches, batch norms, a concatenation: what a spiking UNet is made of, without upsampling."""
    rng = np.random.default_rng(0)

    def conv(c_out: int, c_in: int) -> ops.Conv2d:
        return ops.Conv2d(weight=rng.normal(0, 0.5, (c_out, c_in, 3, 3)), bias=rng.normal(size=c_out), padding=1)

    def norm(c: int) -> ops.BatchNorm:
        w, b, mean, var = rng.uniform(0.5, 2, c), rng.normal(size=c), rng.normal(size=c), rng.uniform(0.5, 2, c)
        return ops.BatchNorm(weight=w, bias=b, mean=mean, var=var, alpha=0.7)

    lif = ops.LIF(tau=5e-3, r=5.0, v_threshold=1.0)
    return Graph(
        {
            "input": ops.Input(shape=(2, 5, 6)),
            "a": conv(3, 2),
            "norm_a": norm(3),
            "lif_a": lif,
            "b": conv(4, 2),
            "norm_b": norm(4),
            "lif_b": lif,
            "cat": ops.Concat(inputs=2),
            "out": conv(2, 7),
            "dead": norm(2),
            "output": ops.Output(),
        },
        (
            *map(Edge, ("input", "a", "norm_a"), ("a", "norm_a", "lif_a")),
            *map(Edge, ("input", "b", "norm_b"), ("b", "norm_b", "lif_b")),
            Edge("lif_a", "cat", "in0"),
            Edge("lif_b", "cat", "in1"),
            Edge("cat", "out"),
            Edge("input", "dead"),
            Edge("out", "output"),
        ),
        Semantics(dt=1e-3),
    )


@pytest.mark.oracle
def test_a_network_with_snn_ops_becomes_standard_nir(tmp_path: Path) -> None:
    graph = denoiser()
    x = np.random.default_rng(1).normal(size=(20, 2, 2, 5, 6))
    result = snnir.compile(graph, target="nir", verify_passes=True)
    np.testing.assert_allclose(result.run(x), snnir.interpret(graph, x), rtol=1e-9, atol=1e-9)
    result.save(tmp_path / "out")
    read = nir.read(str(tmp_path / "out" / "graph.nir"), type_check=True)
    kinds = sorted(type(node).__name__ for node in read.nodes.values())
    assert kinds == ["Conv2d", "Conv2d", "Conv2d", "Conv2d", "Input", "LIF", "LIF", "Output"]


def test_what_nir_cannot_say_is_refused_with_every_name() -> None:
    graph = chain(ops.Input(shape=(3, 4)), ops.Activation(function="silu"), ops.TokenShift(mix=0.5), ops.Output())
    with pytest.raises(snnir.CompileError) as caught:
        snnir.compile(graph, target="nir")
    assert [(v.rule, v.where) for v in caught.value.violations] == [("nir-op", "activation"), ("nir-op", "tokenshift")]


def test_unknown_options_are_refused() -> None:
    with pytest.raises(snnir.UsageError, match="colour"):
        snnir.compile(denoiser(), target="nir", colour="blue")
