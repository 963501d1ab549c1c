"""Plain ONNX models of one node or a few, each against ONNX Runtime; types, and functions of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import snnir
from snnir import ops
from snnir.errors import CompileError
from tests.frontends.onnx_models import model, node, runtime, same_as_runtime

pytestmark = pytest.mark.oracle
QUICK = settings(max_examples=40)
RNG = np.random.default_rng(7)


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


W = normal(6, 4, 3, 3)
IMAGE, ROW = ["batch", 4, 9, 8], ["batch", 6]
NODES: dict[str, Any] = {
    "Gemm with factors": model(
        [node("Gemm", ["x", "w", "c"], alpha=0.5, beta=2.0)], {"x": ROW}, {"w": normal(6, 3), "c": normal(1, 3)}
    ),
    "Gemm without bias": model([node("Gemm", ["x", "w"], transB=1)], {"x": ROW}, {"w": normal(3, 6)}),
    "Gemm and a signal": model(
        [node("Gemm", ["x", "w", "z"], beta=-1.0)], {"x": ROW, "z": ["batch", 3]}, {"w": normal(6, 3)}
    ),
    "MatMul and Add": model(
        [node("MatMul", ["x", "w"], ["p"]), node("Add", ["c", "p"])], {"x": ROW}, {"w": normal(6, 3), "c": normal(3)}
    ),
    "MatMul from the left": model([node("MatMul", ["w", "x"])], {"x": ["b", 6, 5]}, {"w": normal(3, 6)}),
    "a product that is read twice keeps its value": model(
        [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "c"], ["s"]), node("Mul", ["p", "s"])],
        {"x": ROW},
        {"w": normal(6, 3), "c": normal(3)},
    ),
    "bias of a convolution": model(
        [node("Conv", ["x", "w"], ["p"]), node("Add", ["p", "c"])], {"x": IMAGE}, {"w": W, "c": normal(6, 1, 1)}
    ),
    "a map is no bias": model(
        [node("Conv", ["x", "w"], ["p"]), node("Add", ["p", "c"])], {"x": IMAGE}, {"w": W, "c": normal(6, 7, 6)}
    ),
    "x + x + 1": model([node("Add", ["x", "x"], ["d"]), node("Add", ["d", "one"])], {"x": ROW}, {"one": normal(1)}),
    "Sum": model([node("Sum", ["x", "c", "z", "x"])], {"x": ROW, "z": ROW}, {"c": normal(1, 6)}),
    "Sub, both ways": model(
        [node("Sub", ["x", "c"], ["a"]), node("Sub", ["c", "a"], ["b"]), node("Sub", ["b", "z"])],
        {"x": ROW, "z": ROW},
        {"c": normal(6)},
    ),
    "Mul per channel": model([node("Mul", ["x", "c"])], {"x": IMAGE}, {"c": normal(4, 1, 1)}),
    "a gate per channel": model([node("Mul", ["g", "x"])], {"x": IMAGE, "g": ["batch", 4, 1, 1]}),
    "a value per channel added": model([node("Add", ["g", "x"])], {"x": IMAGE, "g": ["batch", 4, 1, 1]}),
    "Pow": model([node("Pow", ["x", "three"])], {"x": ROW}, {"three": np.float32(3)}),
    "Neg, Abs": model([node("Neg", ["x"], ["a"]), node("Abs", ["a"], ["b"]), node("Add", ["a", "b"])], {"x": ROW}),
    "Clip from below": model([node("Clip", ["x", "low"])], {"x": ROW}, {"low": np.float32(-0.3)}),
    "Clip from above": model([node("Clip", ["x", "", "high"])], {"x": ROW}, {"high": np.float32(0.3)}),
    "Clip with attributes": model([node("Clip", ["x"], min=-0.2, max=0.5)], {"x": ROW}, opset=10),
    "Max, Min": model(
        [node("Max", ["x", "z", "c"], ["a"]), node("Min", ["a", "x"], ["b"]), node("Min", ["b", "c"])],
        {"x": ROW, "z": ROW},
        {"c": normal(6)},
    ),
    "PRelu": model([node("PRelu", ["x", "c"])], {"x": IMAGE}, {"c": normal(4, 1, 1)}),
    "HardSigmoid": model([node("HardSigmoid", ["x"], alpha=0.3, beta=0.4)], {"x": ROW}),
    "Split": model(
        [node("Split", ["x", "n"], ["a", "b", "c"], axis=1), node("Concat", ["c", "a", "b"], axis=-1)],
        {"x": ROW},
        {"n": np.array([1, 3, 2])},
    ),
    "Slice of several axes": model(
        [node("Slice", ["x", "from", "to", "axes", "by"])],
        {"x": IMAGE},
        {
            "from": np.array([-3, 1]),
            "to": np.array([2**40, -1]),
            "axes": np.array([1, -1]),
            "by": np.array([1, 2]),
        },
    ),
    "Gather of one and of some": model(
        [node("Gather", ["x", "i"], ["a"], axis=1), node("Gather", ["a", "j"], axis=2)],
        {"x": IMAGE},
        {"i": np.array(-2), "j": np.array([1, 3, 5])},
    ),
    "Concat with a constant": model([node("Concat", ["x", "c"], axis=2)], {"x": [1, 2, 3]}, {"c": normal(1, 2, 4)}),
    "Pad": model(
        [node("Pad", ["x", "pads", "v"])],
        {"x": IMAGE},
        {"pads": np.array([0, 1, 0, 2, 0, 0, 3, 1]), "v": np.float32(2)},
    ),
    "GlobalMaxPool": model([node("GlobalMaxPool", ["x"])], {"x": IMAGE}),
    "GlobalAveragePool": model([node("GlobalAveragePool", ["x"])], {"x": ["n", 4, 7]}),
    "ReduceSum": model([node("ReduceSum", ["x", "a"], keepdims=0)], {"x": IMAGE}, {"a": np.array([2, 3])}),
    "Squeeze, Unsqueeze": model(
        [node("Unsqueeze", ["x", "a"], ["u"]), node("Squeeze", ["u", "b"], ["s"]), node("Mul", ["s", "c"])],
        {"x": ROW},
        {"a": np.array([1, -1]), "b": np.array([-1]), "c": normal(1, 6)},
    ),
    "LayerNormalization": model([node("LayerNormalization", ["x", "c"], axis=2)], {"x": IMAGE}, {"c": normal(9, 8)}),
    "BatchNormalization of a row": model(
        [node("BatchNormalization", ["x", "a", "b", "m", "v"], epsilon=0.1)],
        {"x": ROW},
        {"a": normal(6), "b": normal(6), "m": normal(6), "v": np.abs(normal(6))},
    ),
    "Expand": model([node("Expand", ["x", "s"])], {"x": ["n", 4, 1, 1]}, {"s": np.array([1, 4, 3, 2])}),
    "a weight that is prepared in the file": model(
        [
            node("Transpose", ["w"], ["t"]),
            node("Mul", ["t", "two"], ["u"]),
            node("Gemm", ["x", "u", "c"], transB=1),
        ],
        {"x": ROW},
        {"w": normal(6, 3), "two": np.float32(2), "c": normal(3)},
    ),
    "a batch size that is computed": model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Concat", ["n", "rest"], ["to"], axis=0),
            node("Reshape", ["x", "to"], ["r"]),
            node("ConstantOfShape", ["to"], ["ones"], value=onnx.helper.make_tensor("v", TensorProto.FLOAT, [1], [1])),
            node("Add", ["r", "ones"]),
        ],
        {"x": IMAGE},
        {"zero": np.array([0]), "rest": np.array([24, 12])},
    ),
    "two outputs and a constant one": model(
        [node("Relu", ["x"], ["y"]), node("Identity", ["x"], ["z"])], {"x": ROW}, outputs=("y", "z")
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_node(name: str, tmp_path: Path) -> None:
    fixed = any(d.dim_value == 1 for d in NODES[name].graph.input[0].type.tensor_type.shape.dim[:1])
    same_as_runtime(NODES[name], tmp_path, batch=1 if fixed else 3)


def test_sums_and_biases_take_no_ops_of_their_own(tmp_path: Path) -> None:
    onnx.save(NODES["MatMul and Add"], tmp_path / "a.onnx")
    assert [op.kind for op in snnir.load(tmp_path / "a.onnx").ops.values()] == ["Input", "Affine", "Output"]
    onnx.save(NODES["bias of a convolution"], tmp_path / "b.onnx")
    assert [op.kind for op in snnir.load(tmp_path / "b.onnx").ops.values()] == ["Input", "Conv2d", "Output"]


@QUICK
@given(data=st.data())
def test_random_convolutions(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    axes, groups = data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 2]))
    each = lambda low, high: [data.draw(st.integers(low, high)) for _ in range(axes)]  # noqa: E731
    kernel, stride, size = each(1, 3), each(1, 3), each(6, 9)
    auto = data.draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    dilation = each(1, 2) if auto in ("NOTSET", "VALID") else [1] * axes
    fields: dict[str, Any] = {"strides": stride, "dilations": dilation, "group": groups, "auto_pad": auto}
    if auto == "NOTSET":
        before = each(0, 2)
        fields["pads"] = [
            *before,
            *(b + d * data.draw(st.integers(-(b // d), 1)) for b, d in zip(before, dilation, strict=True)),
        ]
    weights = {"w": normal(4, 4 // groups, *kernel), "c": normal(4)}
    net = model([node("Conv", ["x", "w", "c"], **fields)], {"x": ["n", 4, *size]}, weights)
    same_as_runtime(net, tmp_path_factory.mktemp("net"))


@QUICK
@given(data=st.data())
def test_random_pools(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    axes = data.draw(st.integers(1, 2))
    each = lambda low, high: [data.draw(st.integers(low, high)) for _ in range(axes)]  # noqa: E731
    kind = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    kernel, size = each(1, 5), each(6, 11)
    fields: dict[str, Any] = {"kernel_shape": kernel, "strides": each(1, 3), "ceil_mode": data.draw(st.integers(0, 1))}
    fields["pads"] = [data.draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
    if kind == "AveragePool":
        fields["count_include_pad"] = data.draw(st.integers(0, 1))
    elif not any(fields["pads"]):
        fields["dilations"] = [
            data.draw(st.integers(1, 2)) if 2 * k - 1 <= n else 1 for k, n in zip(kernel, size, strict=True)
        ]
    net = model([node(kind, ["x"], **fields)], {"x": ["n", 2, *size]}, opset=22)
    same_as_runtime(net, tmp_path_factory.mktemp("net"))


@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("place", ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"])
def test_resizing_is_read_only_where_it_repeats_elements(place: str, nearest: str, tmp_path: Path) -> None:
    read = 0
    for factor in (2, 3, 4):
        fields = {"mode": "nearest", "coordinate_transformation_mode": place, "nearest_mode": nearest}
        scales = {"s": np.array([1, 1, factor, factor], np.float32)}
        net = model([node("Resize", ["x", "", "s"], **fields)], {"x": ["n", 2, 5, 4]}, scales)
        onnx.save(net, tmp_path / "net.onnx")
        x = RNG.normal(size=(3, 2, 5, 4)).astype(np.float32)
        (wanted,) = runtime(tmp_path / "net.onnx", {"x": x})
        repeats = np.array_equal(wanted, x.repeat(factor, 2).repeat(factor, 3))
        if repeats:
            same_as_runtime(net, tmp_path)
        else:
            with pytest.raises(CompileError, match="each element repeated"):
                snnir.load(tmp_path / "net.onnx")
        read += repeats
    expected = {
        ("asymmetric", "floor"): 3,
        ("half_pixel", "round_prefer_floor"): 3,
        ("half_pixel", "round_prefer_ceil"): 3,
    }
    wanted_count = expected.get((place.replace("pytorch_", ""), nearest))
    assert wanted_count is None or read == wanted_count


def test_resizing_to_sizes(tmp_path: Path) -> None:
    sizes = {"s": np.array([1, 2, 10, 12])}
    net = model(
        [node("Resize", ["x", "", "", "s"], coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        {"x": [1, 2, 5, 4]},
        sizes,
    )
    graph = same_as_runtime(net, tmp_path, batch=1)
    assert [op.factor for op in graph.ops.values() if isinstance(op, ops.Upsample2d)] == [(2, 3)]


@pytest.mark.parametrize(
    ("kind", "comparison"), [("Greater", ">"), ("GreaterOrEqual", ">="), ("Less", ">"), ("LessOrEqual", ">=")]
)
def test_comparisons_are_thresholds(kind: str, comparison: str, tmp_path: Path) -> None:
    nodes = [node(kind, ["x", "c"], ["t"]), node("Cast", ["t"], to=TensorProto.FLOAT)]
    graph = same_as_runtime(model(nodes, {"x": ROW}, {"c": normal(6)}), tmp_path)
    assert graph.semantics.comparison == (">=" if kind.endswith("Equal") else ">")
    flipped = [node(kind, ["c", "x"], ["t"]), node("Cast", ["t"], to=TensorProto.FLOAT)]
    same_as_runtime(model(flipped, {"x": ROW}, {"c": normal(6)}), tmp_path)


def test_double_precision_and_halves(tmp_path: Path) -> None:
    weight = RNG.normal(size=(6, 3))
    net = model([node("MatMul", ["x", "w"])], {"x": ROW}, {"w": weight}, kind=TensorProto.DOUBLE)
    onnx.save(net, tmp_path / "d.onnx")
    graph = snnir.load(tmp_path / "d.onnx")
    assert graph.semantics.number_format == "float64"
    np.testing.assert_array_equal(graph["matmul y"].weight, weight.T)
    half = model([node("MatMul", ["x", "w"])], {"x": ROW}, {"w": weight.astype(np.float16)}, kind=TensorProto.FLOAT16)
    onnx.save(half, tmp_path / "h.onnx")
    np.testing.assert_array_equal(
        snnir.load(tmp_path / "h.onnx")["matmul y"].weight, weight.T.astype(np.float16).astype(np.float32)
    )


def test_functions_of_the_file_are_spelt_out(tmp_path: Path) -> None:
    net = model([node("Relu", ["x"])], {"x": ROW})
    net.graph.node[0].CopyFrom(node("Twice", ["x"], domain="own"))
    body = [onnx.helper.make_node("Add", ["a", "a"], ["b"])]
    net.functions.append(
        onnx.helper.make_function("own", "Twice", ["a"], ["b"], body, [onnx.helper.make_opsetid("", 18)])
    )
    net.opset_import.append(onnx.helper.make_opsetid("own", 1))
    graph = same_as_runtime(net, tmp_path)
    assert [op.kind for op in graph.ops.values()] == ["Input", "Scale", "Output"]
