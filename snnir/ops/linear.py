"""NIR's stateless primitives, and Delay: dense and convolutional weights, pools, scale, threshold, flatten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from snnir.ops.base import Array, Op, Shape, ShapeError, known, size_faults, sizes, whole


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Linear(Op):
    """y = weight @ x, over the last axis. weight: (..., out, in); leading axes pair with those of x (NIR)."""

    arrays: ClassVar[tuple[str, ...]] = ("weight",)
    linear: ClassVar[bool] = True
    weight: Array

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        *lead, n_out, n_in = self.weight.shape
        if arriving is None:
            return (*lead, n_out)
        fits = arriving[-1:] == (n_in,) and (not lead or arriving[:-1] == tuple(lead))
        if not fits:
            takes = [*lead, n_in]
            raise ShapeError(f"weight {list(self.weight.shape)} takes {takes}, but {list(arriving)} arrives")
        return (*arriving[:-1], n_out)

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        if self.weight.ndim < 2:
            yield f"weight has {self.weight.ndim} axes, expected (..., out, in)"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Affine(Linear):
    """y = weight @ x + bias, over the last axis. weight: (..., out, in); bias: broadcasts to (..., out)."""

    arrays: ClassVar[tuple[str, ...]] = ("weight", "bias")
    bias: Array

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        shape = super().infer(shapes)
        if shape is None:
            return None
        try:
            fits = np.broadcast_shapes(shape, self.bias.shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(f"bias {list(self.bias.shape)} does not fit an output of shape {list(shape)}")
        return shape


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Scale(Op):
    """y = x * scale, element by element; scale broadcasts to the shape of x."""

    arrays: ClassVar[tuple[str, ...]] = ("scale",)
    linear: ClassVar[bool] = True
    scale: Array

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return _elementwise(self.scale, "scale", known(shapes))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Threshold(Op):
    """y = 1 where x passes threshold, else 0 (NIR: x > threshold; the comparison is a field of the semantics)."""

    arrays: ClassVar[tuple[str, ...]] = ("threshold",)
    spiking: ClassVar[bool] = True
    threshold: Array

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return _elementwise(self.threshold, "threshold", known(shapes))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Delay(Op):
    """y(t) = x(t - delay), 0 before anything arrived. delay: seconds, broadcasts to the shape of x."""

    arrays: ClassVar[tuple[str, ...]] = ("delay",)
    linear: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    delay: Array

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return _elementwise(self.delay, "delay", known(shapes))

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        if self.delay.size and not (self.delay >= 0).all():
            yield f"delay is {self.delay.min():.6g} s, expected 0 or more"


def _elementwise(parameter: Array, name: str, arriving: Shape | None) -> Shape | None:
    if arriving is None:
        return parameter.shape or None
    try:
        fits = np.broadcast_shapes(arriving, parameter.shape) == arriving
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{name} {list(parameter.shape)} does not fit an input of shape {list(arriving)}")
    return arriving


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Flatten(Op):
    """Merges axes start_dim..end_dim (inclusive, no batch axis: 0 is the first axis of the value itself)."""

    linear: ClassVar[bool] = True
    start_dim: int = 0
    end_dim: int = -1
    input_shape: Shape | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "start_dim", whole(self.start_dim))
        object.__setattr__(self, "end_dim", whole(self.end_dim))
        if self.input_shape is not None:
            object.__setattr__(self, "input_shape", sizes(self.input_shape))

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        arriving = self.input_shape if arriving is None else arriving
        if arriving is None:
            return None
        if self.input_shape is not None and arriving != self.input_shape:
            raise ShapeError(f"declares an input of {list(self.input_shape)}, but {list(arriving)} arrives")
        n = len(arriving)
        start = self.start_dim + n if self.start_dim < 0 else self.start_dim
        end = self.end_dim + n if self.end_dim < 0 else self.end_dim
        if not (0 <= start < n and 0 <= end < n and start <= end):
            dims = f"start_dim {self.start_dim}, end_dim {self.end_dim}"
            raise ShapeError(f"{dims} do not name a range of axes of {list(arriving)}")
        return (*arriving[:start], prod(arriving[start : end + 1]), *arriving[end + 1 :])

    def verify(self) -> Iterator[str]:
        for name in ("start_dim", "end_dim"):
            if not isinstance(getattr(self, name), int):
                yield f"{name} is {getattr(self, name)}, expected a whole number"
        if self.input_shape is not None:
            yield from size_faults("input_shape", self.input_shape, 1)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Pool2d(Op):
    """A window that slides over (C, H, W); PyTorch's semantics without ceil_mode, zero padding counted."""

    linear: ClassVar[bool] = True
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] = (0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kernel_size", "stride", "padding"):
            object.__setattr__(self, name, sizes(getattr(self, name), 2))

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is None:
            return None
        if len(arriving) != 3:
            raise ShapeError(f"takes (channels, height, width), but {list(arriving)} arrives")
        size = tuple(
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(arriving[1:], self.kernel_size, self.stride, self.padding, strict=True)
        )
        if min(size) < 1:
            raise ShapeError(f"kernel {list(self.kernel_size)} is larger than its input {list(arriving)}")
        return (arriving[0], *size)

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            yield from size_faults(name, getattr(self, name), least, 2)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SumPool2d(Pool2d):
    """y = sum over each window."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AvgPool2d(Pool2d):
    """y = mean over each window, zero padding counted in the mean (PyTorch's count_include_pad=True)."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Conv(Op):
    """Cross-correlation with PyTorch's semantics over the trailing axes. weight: (C_out, C_in / groups, *kernel).

    bias has shape (C_out,); the snn dialect also takes a bias MAP (C_out, *output size), which is what a padded
    convolution becomes when another one is fused into it. `input_shape` is NIR's declaration of the spatial size.
    """

    arrays: ClassVar[tuple[str, ...]] = ("weight", "bias")
    linear: ClassVar[bool] = True
    axes: ClassVar[int] = 0

    weight: Array
    bias: Array
    stride: tuple[int, ...] | int = 1
    padding: tuple[int, ...] | int | str = 0
    dilation: tuple[int, ...] | int = 1
    groups: int = 1
    input_shape: tuple[int, ...] | int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("stride", "dilation"):
            object.__setattr__(self, name, sizes(getattr(self, name), self.axes))
        if not isinstance(self.padding, str):
            object.__setattr__(self, "padding", sizes(self.padding, self.axes))
        object.__setattr__(self, "groups", whole(self.groups))
        if self.input_shape is not None:
            object.__setattr__(self, "input_shape", sizes(self.input_shape, self.axes))

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride per spatial axis."""
        return sizes(self.stride, self.axes)

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation per spatial axis."""
        return sizes(self.dilation, self.axes)

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """Zero padding (before, after) per spatial axis; 'same' puts the odd one after, as PyTorch does."""
        if self.padding == "valid":
            return ((0, 0),) * self.axes
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilations, self.weight.shape[2:], strict=True)]
            return tuple((total // 2, total - total // 2) for total in totals)
        return tuple((p, p) for p in sizes(self.padding, self.axes))

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        declared = None if self.input_shape is None else sizes(self.input_shape, self.axes)
        channels = self.weight.shape[1] * self.groups
        if arriving is None:
            if declared is None:
                return None
            arriving = (channels, *declared)
        if len(arriving) != self.axes + 1 or arriving[0] != channels:
            takes = f"({channels} channels, {self.axes} spatial {'axis' if self.axes == 1 else 'axes'})"
            raise ShapeError(f"takes {takes}, but {list(arriving)} arrives")
        if declared is not None and arriving[1:] != declared:
            raise ShapeError(f"declares input_shape {list(declared)}, but {list(arriving)} arrives")
        size = tuple(
            (n + sum(pad) - d * (k - 1) - 1) // s + 1
            for n, pad, d, k, s in zip(
                arriving[1:], self.pads, self.dilations, self.weight.shape[2:], self.strides, strict=True
            )
        )
        if min(size) < 1:
            raise ShapeError(f"kernel {list(self.weight.shape[2:])} is larger than its input {list(arriving)}")
        out = (self.weight.shape[0], *size)
        if self.bias.shape not in ((out[0],), out):
            raise ShapeError(f"bias {list(self.bias.shape)}, expected {[out[0]]} or a map {list(out)}")
        return out

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        if self.weight.ndim != self.axes + 2:
            yield f"weight has {self.weight.ndim} axes, expected (C_out, C_in / groups, *kernel of {self.axes})"
            return
        faults = [*size_faults("stride", sizes(self.stride), 1, self.axes)]
        faults += size_faults("dilation", sizes(self.dilation), 1, self.axes)
        if isinstance(self.padding, str) and self.padding not in ("same", "valid"):
            faults.append(f"padding is {self.padding!r}, expected sizes, 'same' or 'valid'")
        elif not isinstance(self.padding, str):
            faults += size_faults("padding", sizes(self.padding), 0, self.axes)
        if self.input_shape is not None:
            faults += size_faults("input_shape", sizes(self.input_shape), 1, self.axes)
        faults += size_faults("groups", (self.groups,), 1)
        yield from faults
        if faults:
            return
        if self.padding == "same" and max(self.strides) > 1:
            yield f"padding 'same' with stride {list(self.strides)} has no meaning (PyTorch refuses it too)"
        if self.weight.shape[0] % self.groups:
            yield f"{self.weight.shape[0]} output channels do not divide into {self.groups} groups"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Conv1d(Conv):
    """Convolution over (C, L)."""

    axes: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Conv2d(Conv):
    """Convolution over (C, H, W)."""

    axes: ClassVar[int] = 2
