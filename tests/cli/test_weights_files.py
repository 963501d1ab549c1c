"""Files of weights that cannot be used: broken, of other types, not finite; and those of layers without a bias."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import snnir
from snnir import nn
from snnir.cli.weights import graph_with
from snnir.diffusion.checkpoint import write_weights
from snnir.errors import CompileError
from snnir.models.loading import load_weights


class Bare(nn.Module):
    """Layers without some of their arrays, which a graph has nevertheless."""

    input_shape = (2, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, bias=False)
        self.norm = nn.tdBatchNorm2d(3, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.conv(x))
        return y


def graph_of(model: nn.Module) -> snnir.Graph:
    return snnir.load(model, dt=1e-3)


def test_weights_of_layers_without_a_bias_come_back(tmp_path: Path) -> None:
    """The file held zeros for a bias that the layer has not, and was refused."""
    model, other = Bare(), Bare()
    graph = graph_of(model)
    write_weights(tmp_path / "w.safetensors", graph, graph)
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(model.conv.weight, other.conv.weight)
    again = graph_with(graph_of(Bare()), str(tmp_path / "w.safetensors"))
    np.testing.assert_array_equal(again["conv"].weight, graph["conv"].weight)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"conv.weight": torch.full((3, 2, 3, 3), torch.nan)}, "weights-finite"),
        ({"conv.weight": torch.zeros(3, 2, 3, 3, dtype=torch.complex64)}, "weights-(finite|kind|file)"),
        ({"conv.bias": torch.ones(3)}, "weights-key"),
        ({"conv.weight": torch.zeros(3, 2, 5, 5)}, "weights-shape"),
        ({"ünknown.weight": torch.zeros(3)}, "weights-key"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict[str, torch.Tensor], error: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"conv.weight": torch.zeros(3, 2, 3, 3), **change}, path)
    model = Bare()
    before = model.conv.weight.detach().clone()
    with pytest.raises(CompileError, match=error):
        load_weights(model, path)
    assert torch.equal(model.conv.weight, before)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"conv.weight": torch.zeros(3, 2, 3, 3, dtype=torch.bfloat16), "conv.bias": torch.zeros(3)}, path)
    graph = graph_of(Bare())
    whole = path.read_bytes()
    for size in (0, 4, 40, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CompileError, match=r"\[weights-file\] .*cannot be read"):
            graph_with(graph, str(path))
        with pytest.raises(CompileError, match=r"\[weights-file\] .*cannot be read"):
            load_weights(Bare(), path)


def test_bfloat16_is_read_into_a_module_and_named_for_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    ones = {"conv.weight": torch.ones(3, 2, 3, 3, dtype=torch.bfloat16), "norm.mean": torch.zeros(3)}
    save_file({**ones, "norm.var": torch.ones(3), "conv.bias": torch.zeros(3)}, path)
    model = Bare()
    load_weights(model, path)
    assert bool((model.conv.weight == 1).all())
    for _ in range(2):
        with pytest.raises(CompileError, match=r"\[weights-file\] .*holds numbers that cannot be read: conv.weight"):
            graph_with(graph_of(Bare()), str(path))
        importlib.import_module("ml_dtypes")  # gives NumPy a bfloat16
