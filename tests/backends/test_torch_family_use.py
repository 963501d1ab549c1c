"""Emitted modules used as any module is: other sizes, precisions, layouts, copies, pickles; bad input is named."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import snnir
from snnir import ops
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.semantics import Semantics
from tests.backends.family import FAMILY, built
from tests.strategies import make_graph

pytestmark = pytest.mark.oracle
KINDS = ["affine-lif", "recurrence-cubalif", "conv2d-flatten"]


def graph_and_input(kind: str) -> tuple[Graph, torch.Tensor]:
    graph = make_graph(0, kind, "disc")
    x = torch.rand(6, 3, *graph.shapes["input"], generator=torch.Generator().manual_seed(0))
    return graph, x


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_batches_layouts_and_copies(kind: str, target: str) -> None:
    graph, x = graph_and_input(kind)
    module = built(graph, target).module().eval()
    y = module(x)
    kept = x.clone()
    assert torch.equal(module(x[:1]), y[:1])
    torch.testing.assert_close(module(x[:, 1:2]), y[:, 1:2])
    assert torch.equal(module(x.transpose(0, 1).contiguous().transpose(0, 1)), y)
    held = x[:1].expand(6, *x.shape[1:])
    assert torch.equal(module(held), module(held.clone()))
    for other in (copy.deepcopy(module), built(graph, target).module().eval()):
        other.load_state_dict(module.state_dict())
        assert torch.equal(other(x), y)
    with torch.inference_mode():
        assert torch.equal(module(x), y)
    given = x.clone().requires_grad_()
    module(given).sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    weights = dict(module.named_parameters())
    assert torch.equal(torch.func.functional_call(module, weights, (x,)), y)
    assert torch.equal(x, kept)
    for dtype in (torch.float64, torch.bfloat16):
        assert copy.deepcopy(module).to(dtype)(x.to(dtype)).dtype == dtype


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("kind", KINDS)
def test_input_of_another_shape_is_named(kind: str, target: str) -> None:
    """Without an axis for time or batch it was taken for something else, and no steps gave one step."""
    graph, x = graph_and_input(kind)
    module = built(graph, target).module()
    shape = x.shape[2:]
    wrong = [x[0], x[:0], x[:, :0], torch.rand(6, 3, *(n + 1 for n in shape)), x[None], torch.rand(6, 3)]
    for given in wrong:
        with pytest.raises(ValueError, match=r"input has the shape \[.*\], expected \(T, B, ") as caught:
            module(given)
        assert str(list(given.shape)) in str(caught.value)


@pytest.mark.parametrize("target", FAMILY)
def test_input_is_not_broadcast(target: str) -> None:
    lif = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.5))
    graph = chain(ops.Input(shape=(4,)), ("lif", lif), ops.Output(), semantics=Semantics(dt=1e-3))
    module = built(graph, target).module()
    for wrong in (torch.rand(6, 3, 1), torch.rand(6, 3, 5), torch.rand(6, 3, 2, 4)):
        with pytest.raises(ValueError, match=r"expected \(T, B, 4\)"):
            module(wrong)


def test_inputs_have_the_same_steps_and_samples() -> None:
    nodes: dict[str, ops.Op] = {"a": ops.Input(shape=(2,)), "b": ops.Input(shape=(2,)), "out": ops.Output()}
    graph = Graph(nodes, (snnir.Edge("a", "out"), snnir.Edge("b", "out")), Semantics(dt=1e-3))
    module = built(graph, "torch").module()
    assert module(a=torch.rand(5, 3, 2), b=torch.rand(5, 3, 2)).shape == (5, 3, 2)
    for wrong in (torch.rand(5, 1, 2), torch.rand(1, 3, 2)):
        with pytest.raises(ValueError, match=r"b has \[.*\] steps and samples, the first input \[5, 3\]"):
            module(a=torch.rand(5, 3, 2), b=wrong)


CODE = """
import pickle, sys
sys.modules["snnir"] = None
import numpy as np, torch
from model import Model
x = torch.from_numpy(np.load("x.npy"))
model = Model().eval()
with torch.no_grad():
    y = model(x)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(x), y)
    torch.save(model.state_dict(), "state.pt")
    other = Model({k: torch.zeros_like(v) for k, v in model.state_dict().items()})
    other.load_state_dict(torch.load("state.pt"))
    assert torch.equal(other(x), y)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(x), y)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), y)
np.save("y.npy", y.numpy())
"""


def test_the_folder_in_a_process_without_snnir(tmp_path: Path) -> None:
    graph, x = graph_and_input("affine-lif")
    snnir.compile(graph, target="torch").save(tmp_path / "out")
    np.save(tmp_path / "out" / "x.npy", x.numpy())
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    y = np.load(tmp_path / "out" / "y.npy")
    np.testing.assert_allclose(y, interpret(graph, x.numpy()), atol=1e-5)
