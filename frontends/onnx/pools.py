"""Pools, means over space, and nearest-neighbour resizing.

The graph has no maximum over windows: it is spelt out, max(a, b) = b + relu(a - b), one axis after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from snnir.frontends.onnx.builder import Builder
from snnir.frontends.onnx.elementwise import larger
from snnir.frontends.onnx.layers import even_padding, padding
from snnir.frontends.onnx.node import Node
from snnir.frontends.onnx.readers import reads
from snnir.frontends.onnx.values import Refuse, Signal, Value
from snnir.ops import Array, AvgPool2d, Concat, Conv2d, Scale, Shape, Slice, SumPool2d, Upsample2d

Pads = list[tuple[int, int]]


def _window(node: Node, size: Shape) -> tuple[Shape, Shape, Shape, Pads, Pads]:
    """Kernel, stride, dilation, padding with what `ceil_mode` adds at the end, and padding without it."""
    n = len(size)
    kernel = tuple(int(k) for k in node.attribute("kernel_shape", []))
    if len(kernel) != n or n not in (1, 2):
        raise Refuse(f"pools over {len(kernel)} axes of a sample with {n} spatial ones", expected="1 or 2")
    stride = tuple(int(s) for s in node.attribute("strides", [1] * n))
    dilation = tuple(int(d) for d in node.attribute("dilations", [1] * n))
    own = padding(node, size, kernel, stride, dilation)
    pads = list(own)
    if node.attribute("ceil_mode", 0):
        for axis, (length, k, s, d) in enumerate(zip(size, kernel, stride, dilation, strict=True)):
            before, after = pads[axis]
            reach = d * (k - 1) + 1
            count = -(-(length + before + after - reach) // s) + 1
            if (count - 1) * s >= length + before:  # a window that would begin in the padding behind is left out
                count -= 1
            pads[axis] = (before, max(after, (count - 1) * s + reach - length - before))
    return kernel, stride, dilation, pads, own


def _image(b: Builder, x: Signal) -> Signal:
    """(C, L) as (C, 1, L)."""
    return x if len(x.shape) == 3 else b.reshaped(x, (x.shape[0], 1, x.shape[1]), "image")


def _two(values: Sequence[int], fill: int) -> tuple[int, ...]:
    return (*(fill,) * (2 - len(values)), *values)


@reads("AveragePool")
def average(b: Builder, node: Node) -> Value:
    """Means over windows; where a border's elements do not all count, sums, divided by how many do."""
    x = node.signal()
    kernel, stride, dilation, pads, own = _window(node, x.shape[1:])
    if max(dilation) > 1:
        raise Refuse(f"has dilation {list(dilation)}", expected="1")
    counted = own if node.attribute("count_include_pad", 0) else [(0, 0)] * len(kernel)
    image = _image(b, x)
    ends = zip(x.shape[1:], kernel, stride, pads, strict=True)
    size = tuple((n + before + after - k) // s + 1 for n, k, s, (before, after) in ends)
    even = all(before == after for before, after in pads)
    fields: dict[str, Any] = {"kernel_size": _two(kernel, 1), "stride": _two(stride, 1)}
    fields["padding"] = _two([before for before, _ in pads], 0)
    if even and pads == counted:
        mean = b.emit(AvgPool2d(**fields, loc=b.loc), image, "" if image is x else "mean")
        return b.reshaped(mean, (x.shape[0], *size))
    if even:
        sums = b.emit(SumPool2d(**fields, loc=b.loc), image, "sum")
    else:
        ones = np.ones((x.shape[0], 1, *kernel), np.float32)
        weight, each = even_padding(ones, pads, dilation)
        weight = weight.reshape(*weight.shape[:2], *_two(weight.shape[2:], 1))
        bias = np.zeros(x.shape[0], np.float32)
        fields = {"stride": fields["stride"], "padding": _two(each, 0), "groups": x.shape[0]}
        sums = b.emit(Conv2d(weight=weight, bias=bias, **fields, loc=b.loc), image, "sum")
    counts = np.ones(())
    for n, k, s, out, pad, count in zip(x.shape[1:], kernel, stride, size, pads, counted, strict=True):
        starts = np.arange(out) * s - pad[0]
        there = np.minimum(starts + k, n + count[1]) - np.maximum(starts, -count[0])
        counts = counts[..., None] * there
    found = b.reshaped(sums, (x.shape[0], *size), "sums")
    return b.emit(Scale(scale=1 / counts[None], loc=b.loc), found)


@reads("GlobalAveragePool")
def global_average(b: Builder, node: Node) -> Value:
    """The mean over all spatial axes, which stay as 1."""
    x = node.signal()
    image = _image(b, x)
    kernel = image.shape[1:]
    pooled = b.emit(AvgPool2d(kernel_size=kernel, stride=kernel, loc=b.loc), image, "" if image is x else "mean")
    return b.reshaped(pooled, (x.shape[0], *(1,) * (len(x.shape) - 1)))


@reads("ReduceMean", "ReduceSum")
def reduce(b: Builder, node: Node) -> Value:
    """Over all spatial axes of (C, H, W) or (C, L)."""
    x = node.signal()
    rank, lead = len(x.lead) + len(x.shape), len(x.lead)
    axes = sorted(a % rank - lead for a in node.ints(1, "axes") or [])
    if len(x.shape) not in (2, 3) or axes != list(range(1, len(x.shape))):
        raise Refuse(f"reduces axes {[a + lead for a in axes]}", expected="all axes behind the channels")
    image = _image(b, x)
    kind = AvgPool2d if node.kind == "ReduceMean" else SumPool2d
    pooled = b.emit(kind(kernel_size=image.shape[1:], stride=image.shape[1:], loc=b.loc), image, "pool")
    kept = (1,) * (len(x.shape) - 1) if node.attribute("keepdims", 1) else ()
    return b.reshaped(pooled, (x.shape[0], *kept))


@reads("MaxPool")
def maximum(b: Builder, node: Node) -> Value:
    """Maxima over windows, axis by axis; a border repeats the outermost element, which its windows hold anyway."""
    x = node.signal()
    if len([name for name in node.outputs if name]) > 1:
        raise Refuse("gives the places of its maxima", expected="the maxima only")
    kernel, stride, dilation, pads, _ = _window(node, x.shape[1:])
    if any(max(pad) > d * (k - 1) for pad, k, d in zip(pads, kernel, dilation, strict=True)):
        raise Refuse(f"pads by {pads}, more than its windows reach", expected="less padding")
    if any(max(pad) and d > 1 for pad, d in zip(pads, dilation, strict=True)):
        raise Refuse("pads dilated windows", expected="dilation 1, or no padding")
    for axis, (k, s, d, pad) in enumerate(zip(kernel, stride, dilation, pads, strict=True), 1):
        x = _largest(b, _bordered(b, x, axis, pad), axis, k, s, d)
    return x


@reads("GlobalMaxPool")
def global_maximum(b: Builder, node: Node) -> Value:
    """The largest over all spatial axes, which stay as 1."""
    x = node.signal()
    for axis in range(1, len(x.shape)):
        x = _largest(b, x, axis, x.shape[axis], 1, 1)
    return x


def _bordered(b: Builder, x: Signal, axis: int, pad: tuple[int, int]) -> Signal:
    if not any(pad):
        return x
    first = _cut(b, x, axis, 0, 1, 1, "first") if pad[0] else x
    last = _cut(b, x, axis, x.shape[axis] - 1, x.shape[axis], 1, "last") if pad[1] else x
    parts = [*[first] * pad[0], x, *[last] * pad[1]]
    ports = {f"in{i}": part for i, part in enumerate(parts)}
    return b.emit(Concat(inputs=len(parts), axis=axis, loc=b.loc), ports, "border")


def _cut(b: Builder, x: Signal, axis: int, start: int, stop: int, step: int, part: str = "at") -> Signal:
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    return b.emit(Slice(axis=axis, start=start, stop=stop, step=step, loc=b.loc), x, part)


def _largest(b: Builder, x: Signal, axis: int, k: int, s: int, d: int) -> Signal:
    """Along one axis: maxima of windows of `k` elements, `d` apart, that begin every `s`; in about log2(k) steps."""
    length = x.shape[axis]
    count = (length - d * (k - 1) - 1) // s + 1
    if count < 1:
        raise Refuse(f"its windows of {k} are larger than {length}")
    reach = 1  # x[i] holds the largest of `reach` elements, `d` apart, from i on
    while 2 * reach < k:  # double it
        rest = length - d * reach
        x = larger(b, _cut(b, x, axis, 0, rest, 1), _cut(b, x, axis, d * reach, length, 1), "larger")
        length, reach = rest, 2 * reach
    begin = d * (k - reach)
    end = (count - 1) * s + 1
    here = _cut(b, x, axis, 0, end, s)
    return here if k == 1 else larger(b, here, _cut(b, x, axis, begin, begin + end, s), "larger")


@reads("Resize", "Upsample")
def resize(b: Builder, node: Node) -> Value:
    """Nearest neighbours, by whole factors."""
    x = node.signal()
    mode = node.attribute("mode", "nearest")
    if mode not in ("nearest", b"nearest"):
        raise Refuse(f"resizes by mode {mode!r}", expected="'nearest'")
    old, lead = node.kind == "Upsample" or node.opset < 11, len(x.lead)
    full = b.axes.full(x)
    scales, wanted = _scales(node, full, old)
    image = _image(b, x)
    for n, scale, out in zip(full[:lead], scales, wanted, strict=False):
        if scale != 1 or out != n:
            raise Refuse("resizes the batch axis")
    if wanted[lead] != full[lead] or len(x.shape) not in (2, 3):
        raise Refuse(f"resizes {list(x.shape)} to {list(wanted[lead:])}", expected="height and width only")
    place = _places(node, old)
    factors = []
    for n, scale, out in zip(x.shape[1:], scales[lead + 1 :], wanted[lead + 1 :], strict=True):
        if out % n or not np.array_equal(
            np.clip(place(np.arange(out), n, out, scale), 0, n - 1), np.arange(out) * n // out
        ):
            raise Refuse(f"makes {out} of {n} elements", expected="a whole multiple, each element repeated")
        factors.append(out // n)
    made = b.emit(Upsample2d(factor=_two(factors, 1), loc=b.loc), image, "" if image is x else "up")
    return b.reshaped(made, (x.shape[0], *wanted[lead + 1 :]))


def _scales(node: Node, full: Shape, old: bool) -> tuple[list[float], Shape]:
    """The factor of every axis, leading ones included, and the sizes that come of it."""
    if "axes" in node.attributes:
        raise Refuse("names its axes", expected="scales or sizes for all axes")
    sizes = None if old else node.maybe(3, "sizes")
    if sizes is not None and sizes.size:
        found = tuple(int(n) for n in sizes)
        return [out / n for n, out in zip(full, found, strict=True)], found
    scales = node.attributes.get("scales") if old and "scales" in node.attributes else None
    if scales is None:
        scales = node.const(1 if old else 2, "scales").tolist()
    if len(scales) != len(full):
        raise Refuse(f"has {len(scales)} scales for {len(full)} axes")
    return list(scales), tuple(int(np.floor(n * s + 1e-6)) for n, s in zip(full, scales, strict=True))


def _places(node: Node, old: bool) -> Callable[[Array, int, int, float], Array]:
    """Which element each element of the output reads, by the operator's own formulas."""
    how = "asymmetric" if old else node.attribute("coordinate_transformation_mode", "half_pixel")
    nearest = "floor" if old else node.attribute("nearest_mode", "round_prefer_floor")
    rounded: dict[str, Callable[[Array], Array]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }

    def places(i: Array, n: int, out: int, scale: float) -> Array:
        if how == "asymmetric":
            at = i / scale
        elif how in ("half_pixel", "half_pixel_symmetric") or (how == "pytorch_half_pixel" and out > 1):
            at = (i + 0.5) / scale - 0.5
        elif how == "pytorch_half_pixel":
            at = i * 0.0
        elif how == "align_corners":
            at = i * (n - 1) / max(out - 1, 1)
        else:
            raise Refuse(f"places pixels by {how!r}")
        return rounded[nearest](np.round(at, 6)).astype(np.int64)

    return places


@reads("Pad")
def pad(b: Builder, node: Node) -> Value:
    """Zeros (or another constant) around a sample."""
    x = node.signal()
    if node.attribute("mode", "constant") != "constant":
        raise Refuse(f"pads by mode {node.attribute('mode', '')!r}", expected="'constant'")
    full = b.axes.full(x)
    given = node.ints(1, "pads") or node.attribute("paddings", [])
    axes = node.ints(3, "axes") or list(range(len(full)))
    value = node.number(2, "value") or 0.0
    lead, half = len(x.lead), len(axes)
    for k, axis in enumerate(axes):
        before, after = given[k], given[k + half]
        place = axis % len(full) - lead
        if (before or after) and place < 0:
            raise Refuse("pads the batch axis")
        x = _cut(b, x, place, max(0, -before), x.shape[place] - max(0, -after), 1, "cut") if place >= 0 else x
        parts: dict[str, Signal] = {}
        for count, where in ((before, "before"), (0, ""), (after, "after")):
            if where and count > 0:
                shape = (*x.shape[:place], count, *x.shape[place + 1 :])
                parts[f"in{len(parts)}"] = b.constant(np.full(shape, value, np.float32), x.lead, where)
            elif not where:
                parts[f"in{len(parts)}"] = x
        if len(parts) > 1:
            x = b.emit(Concat(inputs=len(parts), axis=place, loc=b.loc), parts)
    return x
