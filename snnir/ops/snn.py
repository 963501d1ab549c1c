"""The snn dialect: the least that spiking diffusion models need and NIR lacks.

Shapes carry no time and no batch axis. Every op here has a lowering to NIR, or is named as a blocker when a target
cannot take it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from snnir.ops.base import Array, Op, Shape, ShapeError, known, size_faults, sizes


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SnnOp(Op):
    """An op that NIR does not have."""

    dialect: ClassVar[str] = "snn"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BatchNorm(SnnOp):
    """y = weight * alpha * v_th * (x - mean) / sqrt(var + eps) + bias, per channel (axis 0), statistics fixed.

    alpha = v_th = 1 is ordinary batch norm; otherwise tdBN (Zheng et al., AAAI 2021), whose bias is not scaled.
    """

    arrays: ClassVar[tuple[str, ...]] = ("weight", "bias", "mean", "var")
    linear: ClassVar[bool] = True
    weight: Array
    bias: Array
    mean: Array
    var: Array
    eps: float = 1e-5
    alpha: float = 1.0
    v_th: float = 1.0

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is not None and arriving[:1] != self.mean.shape:
            raise ShapeError(f"has {self.mean.shape[0]} channels, but {list(arriving)} arrives")
        return arriving

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        if len({getattr(self, name).shape for name in self.arrays}) != 1 or self.mean.ndim != 1:
            shapes = ", ".join(f"{name} {list(getattr(self, name).shape)}" for name in self.arrays)
            yield f"expected four arrays of shape (channels,), got {shapes}"
        if self.var.size and (self.var < 0).any():
            yield f"var holds {self.var.min():.6g}, expected 0 or more"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Concat(SnnOp):
    """y = the inputs at ports in0, in1, ... one after the other along `axis` (0 = channels)."""

    linear: ClassVar[bool] = True
    inputs: int
    axis: int = 0

    @property
    def ports(self) -> tuple[str, ...]:
        return tuple(f"in{i}" for i in range(self.inputs))

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = [known(shapes, port) for port in self.ports]
        there = [shape for shape in arriving if shape is not None]
        if len(there) < len(arriving):
            return None
        rank = len(there[0])
        axis = self.axis + rank if self.axis < 0 else self.axis
        if not 0 <= axis < rank:
            raise ShapeError(f"axis {self.axis} does not exist in {list(there[0])}")
        rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in there}
        if len(rests) > 1:
            raise ShapeError(f"shapes {[list(s) for s in there]} differ beside axis {self.axis}")
        total = sum(shape[axis] for shape in there)
        return (*there[0][:axis], total, *there[0][axis + 1 :])

    def verify(self) -> Iterator[str]:
        if self.inputs < 1:
            yield f"has {self.inputs} inputs, expected at least 1"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Upsample2d(SnnOp):
    """y[c, i, j] = x[c, i // fh, j // fw]: nearest neighbour upsampling of (C, H, W) by whole factors."""

    linear: ClassVar[bool] = True
    factor: tuple[int, ...] = (2, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "factor", sizes(self.factor, 2))

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is None:
            return None
        if len(arriving) != 3:
            raise ShapeError(f"takes (channels, height, width), but {list(arriving)} arrives")
        return (arriving[0], arriving[1] * self.factor[0], arriving[2] * self.factor[1])

    def verify(self) -> Iterator[str]:
        yield from size_faults("factor", self.factor, 1, 2)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ConvTranspose2d(SnnOp):
    """Transposed convolution with PyTorch's semantics. weight: (C_in, C_out / groups, kh, kw); bias: (C_out,)."""

    arrays: ClassVar[tuple[str, ...]] = ("weight", "bias")
    linear: ClassVar[bool] = True
    weight: Array
    bias: Array
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    output_padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("stride", "padding", "output_padding", "dilation"):
            object.__setattr__(self, name, sizes(getattr(self, name), 2))

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is None:
            return None
        if len(arriving) != 3 or arriving[0] != self.weight.shape[0]:
            raise ShapeError(f"takes ({self.weight.shape[0]}, height, width), but {list(arriving)} arrives")
        size = tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + o + 1
            for n, s, p, d, k, o in zip(
                arriving[1:],
                self.stride,
                self.padding,
                self.dilation,
                self.weight.shape[2:],
                self.output_padding,
                strict=True,
            )
        )
        return (self.weight.shape[1] * self.groups, *size)

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        if self.weight.ndim != 4:
            yield f"weight has {self.weight.ndim} axes, expected (C_in, C_out / groups, kh, kw)"
            return
        faults = list(size_faults("groups", (self.groups,), 1))
        for name, least in (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1)):
            faults += size_faults(name, getattr(self, name), least, 2)
        yield from faults
        if faults:
            return
        if self.weight.shape[0] % self.groups:
            yield f"{self.weight.shape[0]} input channels do not divide into {self.groups} groups"
        if any(o >= max(s, d) for o, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True)):
            yield f"output_padding {list(self.output_padding)} must be below the stride or the dilation"
        elif self.bias.shape != (self.weight.shape[1] * self.groups,):
            yield f"bias {list(self.bias.shape)}, expected {[self.weight.shape[1] * self.groups]}"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Reshape(SnnOp):
    """y = x with the same elements in order, in another `shape`."""

    linear: ClassVar[bool] = True
    shape: Shape

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is not None and prod(arriving) != prod(self.shape):
            raise ShapeError(f"{list(arriving)} has {prod(arriving)} elements, {list(self.shape)} another number")
        return self.shape

    def verify(self) -> Iterator[str]:
        yield from size_faults("shape", self.shape, 1)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Transpose(SnnOp):
    """y = x with its axes in the order `axes`."""

    linear: ClassVar[bool] = True
    axes: tuple[int, ...]

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is None:
            return None
        if sorted(self.axes) != list(range(len(arriving))):
            raise ShapeError(f"axes {list(self.axes)} do not permute the axes of {list(arriving)}")
        return tuple(arriving[a] for a in self.axes)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Slice(SnnOp):
    """y = x[start:stop:step] along `axis`."""

    linear: ClassVar[bool] = True
    axis: int
    start: int
    stop: int
    step: int = 1

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is None:
            return None
        axis = self.axis + len(arriving) if self.axis < 0 else self.axis
        if not 0 <= axis < len(arriving):
            raise ShapeError(f"axis {self.axis} does not exist in {list(arriving)}")
        if not 0 <= self.start < self.stop <= arriving[axis]:
            raise ShapeError(f"{self.start}:{self.stop} does not lie within axis {self.axis} of {list(arriving)}")
        return (*arriving[:axis], len(range(self.start, self.stop, self.step)), *arriving[axis + 1 :])

    def verify(self) -> Iterator[str]:
        if self.step < 1:
            yield f"step is {self.step}, expected 1 or more"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Multiply(SnnOp):
    """y = a * b, two signals; b broadcasts to a."""

    @property
    def ports(self) -> tuple[str, ...]:
        return ("a", "b")

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        a, b = known(shapes, "a"), known(shapes, "b")
        if a is None or b is None:
            return a
        if b != a and (len(b) != len(a) or any(n not in (1, m) for n, m in zip(b, a, strict=True))):
            raise ShapeError(f"b {list(b)} does not broadcast to a {list(a)}")
        return a


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Constant(SnnOp):
    """y = value at every step; with `series`, value[t] at step t (its last entry is held after the end)."""

    arrays: ClassVar[tuple[str, ...]] = ("value",)
    value: Array
    series: bool = False

    @property
    def ports(self) -> tuple[str, ...]:
        return ()

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return self.value.shape[1:] if self.series else self.value.shape

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        if self.series and (self.value.ndim < 1 or self.value.shape[0] < 1):
            yield "a series needs at least one step along axis 0"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LayerNorm(SnnOp):
    """y = weight * (x - mean) / sqrt(var + eps) + bias over the last axes; weight and bias have those axes' shape."""

    arrays: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: Array
    bias: Array
    eps: float = 1e-5

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is not None and arriving[len(arriving) - self.weight.ndim :] != self.weight.shape:
            raise ShapeError(f"normalises {list(self.weight.shape)}, but {list(arriving)} arrives")
        return arriving


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Activation(SnnOp):
    """y = f(x), f one of sigmoid, relu, relu2 (relu squared), silu, exp, tanh."""

    KINDS: ClassVar[tuple[str, ...]] = ("sigmoid", "relu", "relu2", "silu", "exp", "tanh")
    function: str

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return known(shapes)

    def verify(self) -> Iterator[str]:
        if self.function not in self.KINDS:
            yield f"function is {self.function!r}, expected one of {', '.join(self.KINDS)}"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TokenShift(SnnOp):
    """y[l] = mix * x[l] + (1 - mix) * x[l - 1], x[-1] = 0, along the token axis of x (tokens, channels). RWKV-4."""

    arrays: ClassVar[tuple[str, ...]] = ("mix",)
    linear: ClassVar[bool] = True
    mix: Array

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if arriving is not None and (len(arriving) != 2 or self.mix.shape not in ((), arriving[1:])):
            raise ShapeError(f"mix {list(self.mix.shape)} does not fit tokens x channels {list(arriving)}")
        return arriving


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Wkv(SnnOp):
    """RWKV-4's causal weighted average of v by e^k along the token axis; ports k and v, both (tokens, channels).

    y_l = (sum_{i<l} e^{-(l-1-i) w + k_i} v_i + e^{u + k_l} v_l) / (the same sum without v), w = e^log_decay per token;
    log_decay and first (u): (channels,) (Peng et al., RWKV, arXiv 2305.13048, who call them time_decay, time_first).
    The logarithm is the parameter, so that training cannot turn a decay into growth.
    """

    MOST: ClassVar[float] = 80.0  # beyond it w and its multiples leave float32; e^-w is 0 long before
    arrays: ClassVar[tuple[str, ...]] = ("log_decay", "first")
    log_decay: Array
    first: Array

    @property
    def ports(self) -> tuple[str, ...]:
        return ("k", "v")

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        k, v = known(shapes, "k"), known(shapes, "v")
        if k is not None and v is not None and k != v:
            raise ShapeError(f"k {list(k)} and v {list(v)} differ")
        shape = k or v
        if shape is not None and (len(shape) != 2 or self.log_decay.shape != shape[1:]):
            raise ShapeError(f"log_decay {list(self.log_decay.shape)} does not fit tokens x channels {list(shape)}")
        return shape

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        if self.log_decay.ndim != 1 or self.first.shape != self.log_decay.shape:
            shapes = f"log_decay {list(self.log_decay.shape)} and first {list(self.first.shape)}"
            yield f"expected two arrays of shape (channels,), got {shapes}"
        if (self.log_decay > self.MOST).any():
            yield f"log_decay holds {self.log_decay.max():.6g}, expected at most {self.MOST:g}"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Repeat(SnnOp):
    """Linear encoder: every step of the input becomes `steps` equal steps. y[k * steps + s] = x[k]."""

    linear: ClassVar[bool] = True
    steps: int

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return known(shapes)

    def verify(self) -> Iterator[str]:
        if self.steps < 1:
            yield f"steps is {self.steps}, expected 1 or more"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TemporalMean(SnnOp):
    """Linear decoder: `steps` steps become one, their mean. y[k] = mean over s of x[k * steps + s]."""

    linear: ClassVar[bool] = True
    steps: int

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return known(shapes)

    def verify(self) -> Iterator[str]:
        if self.steps < 1:
            yield f"steps is {self.steps}, expected 1 or more"
