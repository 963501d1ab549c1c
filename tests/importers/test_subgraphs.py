"""Files with subgraphs: their ops are found within them, or as the one module that stands for all."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnir.importers import check_importer

DT = 1e-4


def affine(rng: np.random.Generator, n: int, m: int, bias: float) -> Any:
    import nir

    return nir.Affine(rng.normal(0.3, 1, (n, m)).astype(np.float32), np.full(n, bias, np.float32))


def neuron(kind: str, n: int) -> Any:
    import nir

    fields = {"r": 20.0, "v_leak": 0.0, "v_reset": 0.0}
    more = {"tau": 2e-3, "v_threshold": 2.0}
    if kind == "CubaLIF":
        more = {"tau_mem": 2e-3, "tau_syn": 1e-3, "w_in": 10.0, "v_threshold": 16.0}
    return getattr(nir, kind)(**{name: np.full(n, value, np.float32) for name, value in {**fields, **more}.items()})


def nested(path: Path, kind: str, recurrent: bool) -> Path:
    """input, fc, a subgraph `block`, fc2, lif2, output."""
    import nir

    rng = np.random.default_rng(0)

    def ends(n: int, m: int) -> dict[str, Any]:
        return {"input": nir.Input({"input": np.array([n])}), "output": nir.Output({"output": np.array([m])})}

    inner = {**ends(6, 6), "lif": neuron(kind, 6), "w": affine(rng, 6, 6, 0.0)}
    edges = [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")]
    if not recurrent:
        edges = [("input", "w"), ("w", "lif"), ("lif", "output")]
    nodes = {**ends(4, 3), "fc": affine(rng, 6, 4, 0.1), "block": nir.NIRGraph(inner, edges)}
    nodes |= {"fc2": affine(rng, 3, 6, 0.1), "lif2": neuron(kind, 3)}
    line = ["input", "fc", "block", "fc2", "lif2", "output"]
    nir.write(str(path), nir.NIRGraph(nodes, list(pairwise(line))))
    return path


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "faults"), [("norse", {"r-ignored"}), ("snntorch", set()), ("spikingjelly", set())])
def test_ops_of_a_subgraph_are_found_within_it(name: str, faults: set[str], tmp_path: Path) -> None:
    pytest.importorskip(name)
    found = check_importer(nested(tmp_path / "nested.nir", "LIF", False), name, dt=DT, batch=4)
    assert {fault.kind for fault in found.faults} == faults
    assert all(set(fault.where) == {"block.lif", "lif2"} for fault in found.faults)
    if faults:
        assert found.explained == found.returned


@pytest.mark.oracle
def test_a_module_that_stands_for_a_subgraph_is_compared_as_a_whole(tmp_path: Path) -> None:
    """Rockpool makes one LIFTorch of a recurrent subgraph: nothing in it is lost."""
    file = nested(tmp_path / "nested.nir", "CubaLIF", True)
    assert check_importer(file, "norse", dt=DT, batch=4).verdict == "same"
    pytest.importorskip("rockpool")
    found = check_importer(file, "rockpool", dt=DT, batch=4)
    kinds = {fault.kind for fault in found.faults}
    assert not kinds & {"node-lost", "node-idle", "edge-lost", "input-unknown", "output-unknown"}
    (whole,) = (fault for fault in found.faults if fault.kind == "answers-otherwise")
    assert whole.where == ("block.lif", "block.w")
    assert found.explained is None
