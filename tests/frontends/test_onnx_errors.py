"""Broken and unreadable ONNX files: one clear error each; all nodes that cannot be read at once, by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import snnir
from snnir.errors import CompileError, MissingPackageError, UsageError, Violation
from tests.cli.kit import said
from tests.frontends.onnx_models import exported, model, node

ROW = ["n", 6]
W = np.ones((6, 3), np.float32)


def reasons(net: Any, folder: Path, **options: Any) -> list[Violation]:
    """Every reason why a model is refused."""
    path = folder / "net.onnx"
    onnx.save(net, path)
    with pytest.raises(CompileError) as caught:
        snnir.load(path, **options)
    return list(caught.value.violations)


def only(net: Any, folder: Path, **options: Any) -> Violation:
    (violation,) = reasons(net, folder, **options)
    return violation


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "holds no graph"), (b"\x00\x01not protobuf", "is no ONNX model"), (b"import torch\n", "is no ONNX model")],
)
def test_what_is_no_onnx_file(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(CompileError, match=what) as caught:
        snnir.load(path)
    assert [v.where for v in caught.value.violations] == [str(path)]


def test_files_that_are_missing_or_cut_off(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"gone\.onnx: does not exist"):
        snnir.load(tmp_path / "gone.onnx")
    path = exported(torch.nn.Linear(6, 3), (6,), tmp_path / "net.onnx")
    whole = path.read_bytes()
    for part in (3, 2):
        path.write_bytes(whole[: len(whole) * (part - 1) // part])
        with pytest.raises(CompileError) as caught:
            snnir.load(path)
        assert len(caught.value.violations) == 1


def test_graphs_that_break_the_rules_of_onnx(tmp_path: Path) -> None:
    net = model([node("Relu", ["x"])], {"x": ROW})
    net.graph.node[0].input[0] = "nothing"
    violation = only(net, tmp_path)
    assert violation.rule == "onnx-file"
    assert "nothing" in violation.what
    net = model([node("MatMul", ["x", "w"])], {"x": ROW}, {"w": W})
    net.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7
    assert "is no sound ONNX model" in only(net, tmp_path).what


def test_old_opsets_sparse_arrays_and_lost_data(tmp_path: Path) -> None:
    old = model([node("Relu", ["x"])], {"x": ROW})
    old.opset_import[0].version = 6
    assert (only(old, tmp_path).rule, only(old, tmp_path).expected) == ("onnx-opset", "opset 7 or later")
    sparse = model([node("MatMul", ["x", "w"])], {"x": ROW}, {"w": W})
    entries = (
        helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [0]),
    )
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(*entries, [6, 3]))
    assert only(sparse, tmp_path).rule == "onnx-sparse"
    text = model([node("MatMul", ["x", "w"])], {"x": ROW}, {"w": W})
    text.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.STRING, [1], [b"a"]))
    assert only(text, tmp_path).rule in ("onnx-file", "onnx-data")


@pytest.mark.parametrize("size", [6, 5000])
@pytest.mark.parametrize("place", ["gone.bin", "../outside.bin", "/etc/hostname"])
def test_data_beside_the_file_that_is_not_there_or_not_its_own(place: str, size: int, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(np.ones(3 * size, np.float32).tobytes())
    net = model([node("MatMul", ["x", "w"])], {"x": ["n", size]}, {"w": np.ones((size, 3), np.float32)})
    tensor = net.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    violation = only(net, folder)
    assert violation.rule in ("onnx-data", "onnx-file")
    assert "w" in violation.what


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnir.backends.onnx import package

    path = exported(torch.nn.Linear(6, 3), (6,), tmp_path / "net.onnx")
    package.onnx.cache_clear()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'snnir\[onnx\]'"):
        snnir.load(path)
    monkeypatch.undo()
    package.onnx.cache_clear()
    assert snnir.load(path).shapes["y"] == (3,)


# -- nodes -----------------------------------------------------------------------------------------------------------


def test_all_operators_without_a_counterpart_are_named_with_all_their_nodes(tmp_path: Path) -> None:
    nodes = [
        node("Softmax", ["x"], ["a"], name="first"),
        node("Softmax", ["a"], ["b"], name="second"),
        node("Erf", ["b"], ["c"], name=""),
        node("Gelu", ["c"], ["d"], name="odd", domain="com.microsoft"),
        node("Relu", ["d"]),
    ]
    net = model(nodes[:3], {"x": ROW}, outputs=("c",))
    net.graph.node.extend(nodes[3:])
    found = {(v.rule, v.where, v.what) for v in reasons(net, tmp_path)}
    assert found == {
        ("onnx-op", "first, second", "the operator Softmax has no counterpart in the graph"),
        ("onnx-op", "erf c", "the operator Erf has no counterpart in the graph"),
        ("onnx-op", "odd", "the operator com.microsoft.Gelu has no counterpart in the graph"),
    }


def test_all_nodes_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], name="/net/turn/Transpose", perm=[1, 0]),
        node("Relu", ["a"], ["b"], name="follows from what is refused"),
        node("Gather", ["x", "i"], ["c"], name="picks", axis=1),
        node("Div", ["one", "x"], ["d"], name="divides"),
        node("MatMul", ["x", "u"], ["e"], name="fits"),
        node("Reshape", ["x", "s"], ["f"], name="mixes"),
        node("Greater", ["x", "one"], ["g"], name="compares"),
        node("Where", ["g", "x", "d"], ["h"], name="chooses"),
        node("Add", ["e", "e"], ["y"], name="doubles"),
    ]
    arrays = {"i": np.array([0, 3, 1]), "one": np.float32(1), "u": W, "s": np.array([-1])}
    found = {v.where: v for v in reasons(model(nodes, {"x": ROW}, arrays, outputs=("y", "f")), tmp_path)}
    assert set(found) == {
        "net.turn.Transpose (Transpose)",
        "picks (Gather)",
        "divides (Div)",
        "mixes (Reshape)",
        "chooses (Where)",
    }
    assert found["net.turn.Transpose (Transpose)"].loc == f"{tmp_path / 'net.onnx'} (/net/turn/Transpose)"
    assert "mixes samples of shape [6] with the batch" in found["mixes (Reshape)"].what


def floats(*values: float) -> Any:
    return np.asarray(values, np.float32)


def whole(**values: int) -> dict[str, Any]:
    return {name: np.array([value]) for name, value in values.items()}


TO_FLOAT = {"to": TensorProto.FLOAT}
OF_BATCH = [
    node("Shape", ["x"], ["s"]),
    node("Cast", ["s"], ["f"], **TO_FLOAT),
    node("Gather", ["f", "i"], ["k"]),
    node("Mul", ["x", "k"]),
]
BOTH = [
    node("Greater", ["x", "c"], ["t"]),
    node("Cast", ["t"], ["p"], **TO_FLOAT),
    node("GreaterOrEqual", ["x", "c"], ["u"]),
    node("Cast", ["u"], ["q"], **TO_FLOAT),
    node("Add", ["p", "q"]),
]
CUTS = [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Cast", ["i"], **TO_FLOAT)]
REFUSED: dict[str, tuple[Any, Any, Any]] = {
    "pads axis 0 by 0 and 1 with dilation 2": (
        [node("Conv", ["x", "w"], pads=[0, 1], dilations=[2])],
        ["n", 2, 9],
        {"w": np.ones((1, 2, 2), np.float32)},
    ),
    "follows from the network's inputs": ([node("Conv", ["x", "x"])], [1, 2, 3], {}),
    "multiplies two values": ([node("MatMul", ["x", "x"])], ["n", 3, 3], {}),
    "transposes its input": ([node("Gemm", ["x", "w"], transA=1)], [1, 6], {"w": W[:1]}),
    "places of its maxima": ([node("MaxPool", ["x"], ("y", "i"), kernel_shape=[2])], ["n", 2, 8], {}),
    "runs backwards": ([node("Slice", ["x", "a", "b", "c", "d"])], ROW, whole(a=5, b=0, c=1, d=-1)),
    "which is a leading one": ([node("Slice", ["x", "a", "b", "c"])], ROW, whole(a=1, b=2, c=0)),
    "is in training mode": ([node("Dropout", ["x", "r", "t"])], ROW, {"r": np.float32(0.5), "t": np.array(True)}),
    "by mode 'linear'": ([node("Resize", ["x", "", "s"], mode="linear")], ["n", 1, 2, 2], {"s": floats(1, 1, 2, 2)}),
    "computes with the batch size": (OF_BATCH, ROW, {"i": np.array(0)}),
    "reduces axes": ([node("ReduceMean", ["x"], keepdims=1)], ROW, {}),
    "cuts values to int64": (CUTS, ROW, {}),
    "compares both by > and by >=": (BOTH, ROW, {"c": np.float32(1)}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_node_is_refused_with_the_reason(what: str, tmp_path: Path) -> None:
    nodes, dims, arrays = REFUSED[what]
    assert what in only(model(nodes, {"x": dims}, arrays), tmp_path).what


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    bad = W.copy()
    bad[2, 1] = np.nan
    violation = only(model([node("MatMul", ["x", "w"])], {"x": ROW}, {"w": bad}), tmp_path)
    assert "weight holds nan at index [1, 2]" in violation.what


# -- axes and options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "what"),
    [
        (["T", "B", 6], "time may be one of its first two axes"),
        ([1, "n", 6], "time may be one of its first two axes"),
        ([4, 6], "its first axis may be a batch or part of a sample"),
        (["n", 3, "width"], "a sample's axes are open"),
        ([], "its first axis may be a batch or part of a sample"),
    ],
)
def test_axes_that_are_not_clear(dims: Any, what: str, tmp_path: Path) -> None:
    violation = only(model([node("Relu", ["x"])], {"x": dims}), tmp_path)
    assert (violation.rule, violation.where) == ("onnx-axes", "x")
    assert what in violation.what
    assert "axes=" in violation.hint or "input_shape=" in violation.hint


def test_inputs_that_disagree_are_named_together(tmp_path: Path) -> None:
    net = model(
        [node("Relu", ["x"], ["y"]), node("Relu", ["z"], ["w"])], {"x": [5, 6], "z": ["a", "b"]}, outputs=("y", "w")
    )
    assert [v.where for v in reasons(net, tmp_path)] == ["x", "z"]


def test_options(tmp_path: Path) -> None:
    onnx.save(model([node("Add", ["x", "z"])], {"x": ROW, "z": ROW}), tmp_path / "net.onnx")
    for options, what in (
        ({"axes": "NCHW"}, "give one of B, TB, BT, sample"),
        ({"preset": "small"}, "no option preset; there are axes and input_shape"),
        ({"input_shape": (6,)}, "there are 2 inputs"),
        ({"input_shape": {"q": (6,)}}, "input_shape names q; the inputs are x, z"),
    ):
        with pytest.raises(UsageError, match=what):
            snnir.load(tmp_path / "net.onnx", **options)


def test_the_command_line_takes_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(model([node("Relu", ["x"])], {"x": ["T", "B", 6]}), tmp_path / "net.onnx")
    source, out = str(tmp_path / "net.onnx"), str(tmp_path / "out")
    status, _, error = said(capsys, "inspect", source)
    assert status == 1
    assert "axes=TB" in error
    assert said(capsys, "inspect", source, "-S", "axes=TB")[0] == 0
    assert said(capsys, "compile", source, "-t", "torch", "-o", out, "-S", "axes=TB")[0] == 0
    assert (tmp_path / "out" / "manifest.json").is_file()
