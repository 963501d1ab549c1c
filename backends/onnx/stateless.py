"""Every op without state as ONNX nodes: values (N, *shape), or with more leading axes where the op allows it.

ONNX Runtime has no convolution or pooling in float64; there they are spelt as a gather of each window's elements and a
matrix product, which is what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from snnir import ops
from snnir.backends.onnx.tokens import wkv
from snnir.backends.onnx.writer import Writer
from snnir.interpreter.windows import windows
from snnir.ops import Array, Op, Shape

ANY_LEADING = (
    ops.Output,
    ops.Scale,
    ops.Threshold,
    ops.Activation,
    ops.Multiply,
    ops.LayerNorm,
    ops.Concat,
    ops.Slice,
    ops.TokenShift,
    ops.Wkv,
)
"""Ops that never look at leading axes: they take (T, B, *shape) as it is."""


def apply(
    w: Writer, name: str, op: Op, inputs: Sequence[str], shapes: Sequence[Shape], lead: int, comparison: str
) -> str:
    """The nodes of one op; gives its value, called `name`."""
    return _EMIT[type(op)](w, name, op, inputs, shapes, lead, comparison)


def _output(w: Writer, name: str, op: ops.Output, x: Sequence[str], *_: object) -> str:
    return w.node("Identity", x, name, own=True)


def _linear(w: Writer, name: str, op: ops.Linear, x: Sequence[str], shapes: Sequence[Shape], lead: int, _: str) -> str:
    bias = op.bias if isinstance(op, ops.Affine) else None
    if op.weight.ndim == 2 and lead + len(shapes[0]) == 2:
        inputs = [x[0], w.weight(f"{name}.weight", op.weight)]
        if bias is not None:
            inputs.append(w.weight(f"{name}.bias", bias))
        return w.node("Gemm", inputs, name, own=True, transB=1)
    end = name if bias is None else f"{name}.product"
    if op.weight.ndim == 2:
        matrix = w.weight(f"{name}.weight", op.weight.T, turned=True)
        value = w.node("MatMul", [x[0], matrix], end, bias is None)
    else:
        last = w.ints("last_axis", [-1])
        column = w.node("Unsqueeze", [x[0], last], f"{name}.column")
        product = w.node("MatMul", [w.weight(f"{name}.weight", op.weight), column], f"{name}.matrix_product")
        value = w.node("Squeeze", [product, last], end, bias is None)
    return value if bias is None else w.node("Add", [value, w.weight(f"{name}.bias", bias)], name, own=True)


def _scale(w: Writer, name: str, op: ops.Scale, x: Sequence[str], *_: object) -> str:
    return times(w, x[0], f"{name}.scale", op.scale, name, own=True)


def times(w: Writer, x: str, weight: str, factor: Array, out: str, own: bool = False) -> str:
    """x * factor.

    ONNX Runtime takes a single factor within 1e-5 of 1 for 1 and drops it, the decay of a slow neuron among them; so
    such a one is spelt x + x * (factor - 1).
    """
    single = factor.reshape(-1)[0].astype(np.float64) if factor.size == 1 else None
    if single is None or not 0 < abs(single - 1) < 1e-4:
        return w.node("Mul", [x, w.weight(weight, factor)], out, own)
    more = w.weight(f"{weight}_less_1", factor.astype(w.root.dtype) - 1)
    return w.node("Add", [x, w.node("Mul", [x, more], f"{out}.more")], out, own)


def _threshold(
    w: Writer, name: str, op: ops.Threshold, x: Sequence[str], s: Sequence[Shape], lead: int, comparison: str
) -> str:
    return w.cast(compare(w, name, x[0], w.weight(f"{name}.threshold", op.threshold), comparison), name, own=True)


def compare(w: Writer, name: str, value: str, threshold: str, comparison: str) -> str:
    """Where the threshold is passed, as truth values."""
    return w.node("Greater" if comparison == ">" else "GreaterOrEqual", [value, threshold], f"{name}.fired")


def _conv(w: Writer, name: str, op: ops.Conv, x: Sequence[str], shapes: Sequence[Shape], *_: object) -> str:
    by_channel = op.bias.ndim == 1
    zero = not op.bias.any()
    bias = op.bias if not by_channel or w.root.dtype == np.float32 else op.bias.reshape(-1, *(1,) * op.axes)
    if w.root.dtype == np.float32:
        inputs = [x[0], w.weight(f"{name}.weight", op.weight)]
        if by_channel and not zero:
            inputs.append(w.weight(f"{name}.bias", bias))
        pads = [*(p for p, _ in op.pads), *(p for _, p in op.pads)]
        sizes: dict[str, Any] = {"kernel_shape": list(op.weight.shape[2:]), "strides": list(op.strides)}
        settings = {**sizes, "pads": pads, "dilations": list(op.dilations), "group": op.groups}
        if by_channel or zero:
            return w.node("Conv", inputs, name, own=True, **settings)
        value = w.node("Conv", inputs, f"{name}.product", **settings)
    else:
        taps = _taps(shapes[0][1:], op.weight.shape[2:], op.strides, op.pads, op.dilations)
        value = _by_matrix(w, name, x[0], taps, op.weight, op.groups)
    return w.node("Add", [value, w.weight(f"{name}.bias", bias)], name, own=True)


def _conv_transpose(
    w: Writer, name: str, op: ops.ConvTranspose2d, x: Sequence[str], shapes: Sequence[Shape], *_: object
) -> str:
    if w.root.dtype == np.float32:
        inputs = [x[0], w.weight(f"{name}.weight", op.weight), w.weight(f"{name}.bias", op.bias)]
        settings: dict[str, Any] = {"kernel_shape": list(op.weight.shape[2:]), "strides": list(op.stride)}
        settings |= {"pads": [*op.padding, *op.padding], "dilations": list(op.dilation), "group": op.groups}
        return w.node("ConvTranspose", inputs, name, own=True, output_padding=list(op.output_padding), **settings)
    # The convolution of the input with zeros between its elements, filters flipped (as the reference has it).
    (h, wide), (sh, sw) = shapes[0][1:], op.stride
    spread = np.zeros(((h - 1) * sh + 1 + op.output_padding[0], (wide - 1) * sw + 1 + op.output_padding[1]), np.int64)
    spread[: (h - 1) * sh + 1 : sh, : (wide - 1) * sw + 1 : sw] = np.arange(1, h * wide + 1).reshape(h, wide)
    kernel = op.weight.shape[2:]
    reach = [(d * (k - 1), d * (k - 1)) for d, k in zip(op.dilation, kernel, strict=True)]
    taps = windows(spread[None, None], kernel, (1, 1), reach, op.dilation)[0, 0]
    taps = taps[op.padding[0] : taps.shape[0] - op.padding[0], op.padding[1] : taps.shape[1] - op.padding[1]]
    per_group = op.weight.shape[0] // op.groups
    flipped = op.weight[:, :, ::-1, ::-1].reshape(op.groups, per_group, *op.weight.shape[1:])
    filters = flipped.swapaxes(1, 2).reshape(-1, per_group, *kernel)
    value = _by_matrix(w, name, x[0], taps, filters, op.groups)
    return w.node("Add", [value, w.weight(f"{name}.bias", op.bias[:, None, None])], name, own=True)


def _taps(
    size: Shape, kernel: Shape, stride: Sequence[int], pads: Sequence[tuple[int, int]], dilation: Sequence[int]
) -> Array:
    """Which element, counted from 1, each window reads at each of its places; 0 is padding. (*output size, *kernel)."""
    image = np.arange(1, int(np.prod(size)) + 1).reshape(1, 1, *size)
    return windows(image, kernel, stride, pads, dilation)[0, 0]


def _gathered(w: Writer, name: str, x: str, taps: Array, axes: int) -> tuple[str, Shape]:
    """Each window's elements, (N, C, kernel places, windows), and the output's size."""
    size = taps.shape[:-axes]
    flat = w.node("Reshape", [x, w.ints("rows_of_channels", [0, 0, -1])], f"{name}.flat")
    padded = w.node("Pad", [flat, w.ints("one_zero_before", [0, 0, 1, 0, 0, 0])], f"{name}.padded")
    index = taps.reshape(int(np.prod(size)), -1).T
    return w.node("Gather", [padded, w.weight(f"{name}.windows", index, np.int64)], f"{name}.window", axis=2), size


def _by_matrix(w: Writer, name: str, x: str, taps: Array, weight: Array, groups: int) -> str:
    found, size = _gathered(w, name, x, taps, weight.ndim - 2)
    places, count = int(np.prod(weight.shape[1:])), int(np.prod(size))
    split = w.ints(f"{name}.grouped", [-1, groups, places, count])
    rows = w.node("Reshape", [found, split], f"{name}.window_rows")
    filters = w.weight(f"{name}.weight", weight.reshape(groups, -1, places))
    product = w.node("MatMul", [filters, rows], f"{name}.window_product")
    return w.node("Reshape", [product, w.ints(f"{name}.shape", [-1, weight.shape[0], *size])], f"{name}.product")


def _pool(w: Writer, name: str, op: ops.Pool2d, x: Sequence[str], shapes: Sequence[Shape], *_: object) -> str:
    mean = isinstance(op, ops.AvgPool2d)
    pads = [(p, p) for p in op.padding]
    if w.root.dtype != np.float32:
        found, size = _gathered(w, name, x[0], _taps(shapes[0][1:], op.kernel_size, op.stride, pads, (1, 1)), 2)
        kind = "ReduceMean" if mean else "ReduceSum"
        summed = w.node(kind, [found, w.ints("window_axis", [2])], f"{name}.sums", keepdims=0)
        return w.node("Reshape", [summed, w.ints(f"{name}.shape", [0, 0, *size])], name, own=True)
    settings = {"kernel_shape": list(op.kernel_size), "strides": list(op.stride), "pads": [*op.padding, *op.padding]}
    # A mean times its size would round, where counts of spikes are whole; and ONNX's pools take little padding.
    if not mean or any(p >= k for p, k in zip(op.padding, op.kernel_size, strict=True)):
        each = 1 / float(np.prod(op.kernel_size)) if mean else 1.0
        filters = w.weight(f"{name}.window", np.full((shapes[0][0], 1, *op.kernel_size), each))
        return w.node("Conv", [x[0], filters], name, own=True, group=shapes[0][0], **settings)
    return w.node("AveragePool", [x[0]], name, own=True, count_include_pad=1, **settings)


def _reshape(w: Writer, name: str, op: Op, x: Sequence[str], shapes: Sequence[Shape], *_: object) -> str:
    shape = op.infer({"input": shapes[0]})
    if isinstance(op, ops.Flatten) and shape is not None and len(shape) == 1:
        return w.node("Flatten", x, name, own=True, axis=1)
    return w.node("Reshape", [x[0], w.ints(f"{name}.shape", [-1, *(shape or ())])], name, own=True)


def _batch_norm(w: Writer, name: str, op: ops.BatchNorm, x: Sequence[str], shapes: Sequence[Shape], *_: object) -> str:
    # Folded in float64, as the reference does it.
    factor = op.weight.astype(np.float64) * (op.alpha * op.v_th) / np.sqrt(op.var.astype(np.float64) + op.eps)
    offset = op.bias.astype(np.float64) - factor * op.mean
    along = (-1, *(1,) * (len(shapes[0]) - 1))
    scaled = times(w, x[0], f"{name}.factor", factor.reshape(along), f"{name}.scaled")
    return w.node("Add", [scaled, w.weight(f"{name}.offset", offset.reshape(along))], name, own=True)


def _concat(w: Writer, name: str, op: ops.Concat, x: Sequence[str], shapes: Sequence[Shape], *_: object) -> str:
    axis = op.axis if op.axis < 0 else op.axis - len(shapes[0])
    return w.node("Concat", x, name, own=True, axis=axis)


def _upsample(w: Writer, name: str, op: ops.Upsample2d, x: Sequence[str], shapes: Sequence[Shape], *_: object) -> str:
    if shapes[0][1:] == (1, 1):  # one value per channel goes everywhere, which Resize would do pixel by pixel
        return w.node("Expand", [x[0], w.ints(f"{name}.size", [1, 1, *op.factor])], name, own=True)
    if w.root.dtype == np.float32:
        scales = w.weight(f"{name}.scales", [1, 1, *op.factor])
        settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return w.node("Resize", [x[0], "", scales], name, own=True, mode="nearest", **settings)
    rows = w.ints(f"{name}.rows", np.arange(shapes[0][1]).repeat(op.factor[0]).tolist())
    columns = w.ints(f"{name}.columns", np.arange(shapes[0][2]).repeat(op.factor[1]).tolist())
    return w.node("Gather", [w.node("Gather", [x[0], rows], f"{name}.taller", axis=2), columns], name, True, axis=3)


def _transpose(w: Writer, name: str, op: ops.Transpose, x: Sequence[str], *_: object) -> str:
    return w.node("Transpose", x, name, own=True, perm=[0, *(a + 1 for a in op.axes)])


def _slice(w: Writer, name: str, op: ops.Slice, x: Sequence[str], shapes: Sequence[Shape], *_: object) -> str:
    axis = op.axis if op.axis < 0 else op.axis - len(shapes[0])
    ends = [w.ints(f"{name}.{what}", [v]) for what, v in (("start", op.start), ("stop", op.stop), ("axis", axis))]
    return w.node("Slice", [x[0], *ends, w.ints(f"{name}.step", [op.step])], name, own=True)


def _multiply(w: Writer, name: str, op: ops.Multiply, x: Sequence[str], *_: object) -> str:
    return w.node("Mul", x, name, own=True)


def _layer_norm(w: Writer, name: str, op: ops.LayerNorm, x: Sequence[str], *_: object) -> str:
    weights = [w.weight(f"{name}.weight", op.weight), w.weight(f"{name}.bias", op.bias)]
    if w.root.dtype == np.float32:
        return w.node("LayerNormalization", [x[0], *weights], name, True, axis=-op.weight.ndim, epsilon=op.eps)
    # Spelt out, because ONNX holds epsilon in float32.
    axes = w.ints(f"{name}.axes", list(range(-op.weight.ndim, 0)))
    centred = w.node("Sub", [x[0], w.node("ReduceMean", [x[0], axes], f"{name}.mean")], f"{name}.centred")
    square = w.node("Mul", [centred, centred], f"{name}.square")
    var = w.node(
        "Sum", [w.node("ReduceMean", [square, axes], f"{name}.var"), w.weight("eps", op.eps)], f"{name}.var_eps"
    )
    even = w.node("Div", [centred, w.node("Sqrt", [var], f"{name}.spread")], f"{name}.even")
    return w.node("Add", [w.node("Mul", [even, weights[0]], f"{name}.weighted"), weights[1]], name, own=True)


_ACTIVATIONS = {"sigmoid": "Sigmoid", "relu": "Relu", "exp": "Exp", "tanh": "Tanh"}


def _activation(w: Writer, name: str, op: ops.Activation, x: Sequence[str], *_: object) -> str:
    if op.function == "silu":
        return w.node("Mul", [x[0], w.node("Sigmoid", x, f"{name}.sigmoid")], name, own=True)
    if op.function == "relu2":
        positive = w.node("Relu", x, f"{name}.relu")
        return w.node("Mul", [positive, positive], name, own=True)
    return w.node(_ACTIVATIONS[op.function], x, name, own=True)


def _token_shift(
    w: Writer, name: str, op: ops.TokenShift, x: Sequence[str], shapes: Sequence[Shape], lead: int, _: str
) -> str:
    rank = lead + 2
    pads = [0] * (2 * rank)
    pads[lead] = 1  # one token of zeros before the first ...
    pads[rank + lead] = -1  # ... and the last one left out
    before = w.node("Pad", [x[0], w.ints(f"{name}.pads", pads)], f"{name}.before")
    kept = w.node("Mul", [x[0], w.weight(f"{name}.mix", op.mix)], f"{name}.kept")
    rest = 1 - op.mix.astype(w.root.dtype)
    shifted = w.node("Mul", [before, w.weight(f"{name}.rest", rest)], f"{name}.shifted")
    return w.node("Add", [kept, shifted], name, own=True)


_EMIT: dict[type[Op], Callable[..., str]] = {
    ops.Output: _output,
    ops.Linear: _linear,
    ops.Affine: _linear,
    ops.Scale: _scale,
    ops.Threshold: _threshold,
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.SumPool2d: _pool,
    ops.AvgPool2d: _pool,
    ops.Flatten: _reshape,
    ops.Reshape: _reshape,
    ops.BatchNorm: _batch_norm,
    ops.Concat: _concat,
    ops.Upsample2d: _upsample,
    ops.ConvTranspose2d: _conv_transpose,
    ops.Transpose: _transpose,
    ops.Slice: _slice,
    ops.Multiply: _multiply,
    ops.LayerNorm: _layer_norm,
    ops.Activation: _activation,
    ops.TokenShift: _token_shift,
    ops.Wkv: wkv,
}
