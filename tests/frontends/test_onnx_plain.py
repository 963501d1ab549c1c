"""Plain ONNX models: PyTorch's exporter against ONNX Runtime; axes of time and batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnir
from snnir import ops
from snnir.errors import CompileError
from snnir.graph import chain
from snnir.interpreter import interpret
from snnir.semantics import Semantics
from tests.backends.onnx_family import built
from tests.backends.test_torch_family_ops import STATELESS
from tests.frontends.onnx_models import exported, model, node, runtime, same_as_runtime
from tests.strategies import inputs_for

pytestmark = pytest.mark.oracle
RNG = np.random.default_rng(7)


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


# -- PyTorch's exporter ----------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Two branches, a gate, a concatenation and nearest-neighbour upsampling, as U-Nets have them."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.gate = nn.Linear(8, 8)
        self.leave = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        y = F.silu(self.norm(self.down(x)))
        gate = torch.sigmoid(self.gate(y.mean((2, 3))))
        y = y * gate[:, :, None, None] + y
        y = F.interpolate(y, scale_factor=2, mode="nearest")
        return self.leave(torch.cat([x, F.leaky_relu(y, 0.1) + x], 1)).clamp(-0.2, 0.4)


class Tokens(nn.Module):
    """Shapes that are computed from the batch size, slices, splits, chunks of a normalised sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 12)
        self.scale = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.mix(self.norm(x)).chunk(2, -1)
        y = (torch.tanh(a) * torch.exp(-b.abs()) * self.scale - 0.3) / 1.7
        y = y.transpose(1, 2).reshape(x.shape[0], 3, 2, -1)
        first, rest = y[:, 0], y[:, 1:].flatten(1)
        return torch.cat([first.reshape(x.size(0), -1), torch.relu(rest) ** 2], 1).view(x.size(0), -1, 3)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3, bias=False)), (4,)),
    "mlp over tokens": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), (5, 4)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(8, 8, 3, groups=4, dilation=2, stride=2),
            nn.PReLU(8),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(32, 5),
        ),
        (3, 17, 17),
    ),
    "one axis": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 6, 5, padding=2, stride=2), nn.Hardsigmoid(), nn.AvgPool1d(2, 1, 1), nn.MaxPool1d(2)
        ),
        (2, 15),
    ),
    "decoder": (
        lambda: nn.Sequential(
            nn.Linear(3, 32),
            nn.Unflatten(1, (8, 2, 2)),
            nn.ConvTranspose2d(8, 4, 3, 2, 1, 1, groups=2),
            nn.ReLU6(),
            nn.Upsample(scale_factor=(2, 3)),
            nn.ZeroPad2d((1, 0, 2, 1)),
            nn.Conv2d(4, 1, 1),
            nn.AdaptiveAvgPool2d(1),
        ),
        (3,),
    ),
    "residual": (Residual, (3, 8, 8)),
    "tokens": (Tokens, (4, 6)),
}


@pytest.mark.parametrize("fixed", [False, True], ids=["open", "fixed"])
@pytest.mark.parametrize("name", MODULES)
def test_pytorch_exports(name: str, fixed: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    make, shape = MODULES[name]
    path = exported(make(), shape, tmp_path / "net.onnx", fixed)
    graph = same_as_runtime(path, tmp_path, batch=1 if fixed else 3)
    assert graph.inputs == ("x",)
    assert graph.outputs == ("y",)


@pytest.mark.parametrize("options", [{"opset_version": 9}, {"opset_version": 12}, {"opset_version": 20}])
def test_older_and_newer_opsets(options: dict[str, Any], tmp_path: Path) -> None:
    for name in ("cnn", "residual", "mlp over tokens"):
        make, shape = MODULES[name]
        same_as_runtime(exported(make(), shape, tmp_path / f"{name}.onnx", **options), tmp_path)


def test_exports_that_were_not_folded(tmp_path: Path) -> None:
    make, shape = MODULES["cnn"]
    options = {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
    graph = same_as_runtime(exported(make(), shape, tmp_path / "net.onnx", **options), tmp_path)
    assert graph["1.BatchNormalization"].kind == "BatchNorm"


def test_names_and_places_are_those_of_the_modules(tmp_path: Path) -> None:
    path = exported(Residual(), (3, 8, 8), tmp_path / "net.onnx")
    graph = snnir.load(path)
    assert {"enter.Conv", "down.Conv", "gate.Gemm", "leave.Conv"} <= set(graph.ops)
    assert str(graph["gate.Gemm"].loc) == f"{path} (/gate/Gemm)"
    assert [graph[name].kind for name in ("enter.Conv", "gate.Gemm")] == ["Conv2d", "Affine"]


def test_an_imported_network_compiles_and_runs_on_targets(tmp_path: Path) -> None:
    make, shape = MODULES["cnn"]
    path = exported(make(), shape, tmp_path / "net.onnx")
    x = RNG.normal(size=(2, 3, *shape)).astype(np.float32)
    expected = np.stack([runtime(path, {"x": step})[0] for step in x])
    for target in ("torch", "norse", "onnx"):
        np.testing.assert_allclose(snnir.compile(str(path), target).run(x), expected, atol=1e-5)


def test_arrays_beside_the_file(tmp_path: Path) -> None:
    make, shape = MODULES["decoder"]
    path = exported(make(), shape, tmp_path / "net.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    assert (tmp_path / "net.bin").stat().st_size > 1000
    same_as_runtime(path, tmp_path)


# -- axes of time and batch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, (_, op) in STATELESS.items() if not op.stateful])
def test_models_over_time_and_batch(name: str, tmp_path: Path) -> None:
    """What the onnx target writes, its record taken out: (T, B, ...) and (T*B, ...), sizes computed on the way."""
    shape, op = STATELESS[name]
    graph = chain(("input", ops.Input(shape=shape)), ("op", op), ops.Output(), semantics=Semantics(dt=1e-3))
    net = onnx.load_from_string(built(graph).files()["sequence.onnx"])
    del net.metadata_props[:]
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(CompileError, match="time may be one of its first two axes"):
        snnir.load(tmp_path / "net.onnx")
    again = snnir.load(tmp_path / "net.onnx", axes="TB")
    x = inputs_for(graph, T=4, B=3)["input"].astype(np.float32)
    (expected,) = runtime(tmp_path / "net.onnx", {"input": x})
    np.testing.assert_allclose(interpret(again, x), expected, atol=1e-5)
    np.testing.assert_allclose(interpret(again, x), interpret(graph, x), atol=1e-5)


def test_batch_before_time_and_no_batch_at_all(tmp_path: Path) -> None:
    w = normal(6, 3)
    swap = model(
        [
            node("Transpose", ["x"], ["t"], name="to time first", perm=[1, 0, 2]),
            node("MatMul", ["t", "w"], ["p"]),
            node("Transpose", ["p"], ["u"], name="and back", perm=[1, 0, 2]),
            node("Relu", ["u"]),
        ],
        {"x": ["B", "T", 6]},
        {"w": w},
    )
    onnx.save(swap, tmp_path / "swap.onnx")
    graph = snnir.load(tmp_path / "swap.onnx", axes="BT")
    assert [op.kind for op in graph.ops.values()] == ["Input", "Linear", "Activation", "Output"]
    x = normal(5, 2, 6)
    (expected,) = runtime(tmp_path / "swap.onnx", {"x": x.swapaxes(0, 1)})
    np.testing.assert_allclose(interpret(graph, x), expected.swapaxes(0, 1), atol=1e-5)
    bare = model([node("MatMul", ["x", "w"])], {"x": [4, 6]}, {"w": w})
    onnx.save(bare, tmp_path / "bare.onnx")
    graph = snnir.load(tmp_path / "bare.onnx", axes="sample")
    assert graph.shapes[graph.outputs[0]] == (4, 3)
    with pytest.raises(CompileError, match="may be a batch or part of a sample"):
        snnir.load(tmp_path / "bare.onnx")
    assert snnir.load(tmp_path / "bare.onnx", axes="B").shapes["y"] == (3,)


def test_open_sizes_of_samples_are_given(tmp_path: Path) -> None:
    net = model([node("Conv", ["x", "w"])], {"x": ["n", 4, "h", "w_"]}, {"w": normal(6, 4, 3, 3)})
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(CompileError, match=r"a sample's axes are open\n  help +give input_shape"):
        snnir.load(tmp_path / "net.onnx")
    graph = same_as_runtime(tmp_path / "net.onnx", tmp_path, input_shape=(4, 6, 5))
    assert graph.shapes["y"] == (6, 4, 3)
    assert snnir.load(tmp_path / "net.onnx", input_shape={"x": (4, 7, 7)}).shapes["y"] == (6, 5, 5)
    with pytest.raises(CompileError, match=r"has samples of shape \[4, 'h', 'w_'\], not \[3, 7, 7\]"):
        snnir.load(tmp_path / "net.onnx", input_shape=(3, 7, 7))
