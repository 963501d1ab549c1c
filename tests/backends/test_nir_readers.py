"""What other readers of NIR make of a denoiser's file: the table in docs/fsddim.md."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from tests.diffusion.denoisers import denoiser

READERS = {  # package: (module, function, options, what it raises, the error's text)
    "norse": ("norse.torch", "from_nir", {"dt": 1e-3}, KeyError, "pool"),
    "snntorch": ("snntorch.import_nir", "import_from_nir", {}, ValueError, "Unknown node type .*Scale"),
    "spikingjelly": (
        "spikingjelly.activation_based.nir_exchange",
        "import_from_nir",
        {"dt": 1e-3},
        ValueError,
        "Unknown node type .*Scale",
    ),
    "sinabs": ("sinabs.nir", "from_nir", {"batch_size": 1}, ValueError, "truth value of an array"),
    "rockpool": ("rockpool.nn.modules", "from_nir", {}, NotImplementedError, "Cannot convert"),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers") / "out"
    snnir.compile(denoiser(3, double=False), "nir").save(folder)
    return folder / "graph.nir"


@pytest.mark.oracle
def test_nir_takes_it_with_type_checking(file: Path) -> None:
    import nir

    read = nir.read(file, type_check=True)
    assert {type(node).__name__ for node in read.nodes.values()} >= {"Conv2d", "LIF", "Scale", "AvgPool2d"}


@pytest.mark.oracle
@pytest.mark.parametrize("package", READERS)
def test_what_a_reader_lacks(package: str, file: Path) -> None:
    """A reader that comes to take the file fails this test: then it belongs in the table as one that does."""
    import nir

    pytest.importorskip(package)
    module, function, options, error, text = READERS[package]
    logging.disable(logging.WARNING)  # norse says of every neuron that it ignores its r
    try:
        with pytest.raises(error, match=text):
            getattr(import_module(module), function)(nir.read(file), **options)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.oracle
def test_norse_knows_no_average_pool() -> None:
    """It drops the node: the output of a chain has the wrong size, and where two ops read it there is a KeyError."""
    import nir
    import torch

    norse = pytest.importorskip("norse.torch")
    pool = nir.AvgPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0]))
    conv: dict[str, Any] = {"weight": np.ones((2, 2, 1, 1), np.float32), "bias": np.zeros(2, np.float32)}
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2, 4, 4])}),
        "conv": nir.Conv2d(input_shape=(4, 4), stride=1, padding=0, dilation=1, groups=1, **conv),
        "pool": pool,
        "output": nir.Output(output_type={"output": np.array([2, 2, 2])}),
    }
    chain = nir.NIRGraph(nodes, [("input", "conv"), ("conv", "pool"), ("pool", "output")])
    found = norse.from_nir(chain, dt=1e-3)(torch.ones(1, 2, 4, 4))
    assert (found[0] if isinstance(found, tuple) else found).shape[-2:] == (4, 4)
    branches = {name: nir.Scale(scale=np.ones((2, 2, 2), np.float32)) for name in ("a", "b")}
    forked = {"input": nodes["input"], "pool": pool, **branches, "output": nodes["output"]}
    edges = [("input", "pool"), ("pool", "a"), ("pool", "b"), ("a", "output"), ("b", "output")]
    with pytest.raises(KeyError, match="pool"):
        norse.from_nir(nir.NIRGraph(forked, edges), dt=1e-3)
