"""Sums, products and element-wise functions of signals, and means over axes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnir import ops
from snnir.frontends.torch_fx.builder import LITERAL, Builder
from snnir.frontends.torch_fx.calls import HANDLERS, Handler, handles
from snnir.frontends.torch_fx.shapes import reshaped
from snnir.frontends.torch_fx.signals import BATCH, TIME, Refuse, Signal, axis_of, is_time
from snnir.learning import DERIVED


@handles("add")
def add(b: Builder, x: Any, y: Any, alpha: float = 1) -> Signal:
    """x + alpha y; a number or tensor of the model is a Constant."""
    if alpha != 1:
        y = mul(b, y, alpha) if isinstance(y, Signal) else y * alpha
    if not isinstance(x, Signal):
        x, y = y, x
    if isinstance(y, (int, float)) and y == 0:  # what sum() starts from
        return x
    return b.total(x, y if isinstance(y, Signal) else b.constant(_tensor(y), x))


@handles("sub")
def sub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Signal:
    """x - alpha y."""
    return add(b, x, mul(b, y, -alpha) if isinstance(y, Signal) else -alpha * y)


@handles("rsub")
def rsub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Signal:
    """y - alpha x."""
    return sub(b, y, x, alpha)


@handles("neg")
def neg(b: Builder, x: Signal) -> Signal:
    """-x."""
    return mul(b, x, -1.0)


@handles("mul")
def mul(b: Builder, x: Any, y: Any) -> Signal:
    """x y: a Scale by a number or tensor of the model, a Multiply of two signals."""
    if not isinstance(x, Signal):
        x, y = y, x
    if not isinstance(y, Signal):
        y = _tensor(y)
        scale = b.fitted(y, x)
        whole = scale.shape == tuple(y.shape)
        if whole and (y.dim() or b.binding(y) is not None):
            return b.emit(ops.Scale, x, {"scale": y})
        metadata: dict[str, Any] = {} if y.requires_grad else dict(LITERAL)
        if names := b.made_from(y, whole):
            metadata[DERIVED] = {"scale": names}
        return b.emit(ops.Scale, x, scale=scale, metadata=metadata)
    if prod(x.shape) < prod(y.shape):
        x, y = y, x
    return b.emit(ops.Multiply, {"a": x, "b": y})


@handles("div")
def div(b: Builder, x: Any, y: Any, rounding_mode: str | None = None) -> Signal:
    """x / y for a number or tensor y of the model."""
    if isinstance(y, Signal):
        raise Refuse("division by a signal has no counterpart in the graph")
    if rounding_mode is not None:
        raise Refuse(f"rounding_mode is {rounding_mode!r}", expected="None")
    return mul(b, x, 1.0 / _tensor(y))


@handles("square")
def square(b: Builder, x: Signal) -> Signal:
    """x^2."""
    return b.emit(ops.Multiply, {"a": x, "b": x})


@handles("pow")
def power(b: Builder, x: Any, exponent: Any) -> Signal:
    """x^2; other powers have no op."""
    if isinstance(exponent, Signal) or exponent != 2:
        raise Refuse(f"the power {exponent} has no counterpart in the graph", expected="2")
    return square(b, x)


@handles("matmul")
def matmul(b: Builder, x: Any, y: Any) -> Signal:
    """x @ y for a matrix y of the model: a Linear layer over the last axis."""
    if not isinstance(x, Signal) or isinstance(y, Signal) or y.dim() != 2:
        raise Refuse(
            "a matrix product of two signals has no counterpart in the graph", expected="signal @ matrix of weights"
        )
    return b.emit(ops.Linear, x, {"weight": y.t()})


def _named_activation(function: str) -> Handler:
    return lambda b, x: b.emit(ops.Activation, x, function=function)


HANDLERS.update({name: _named_activation(name) for name in ops.Activation.KINDS if name != "relu2"})


@handles("dropout", "dropout1d", "dropout2d")
def dropout(b: Builder, x: Signal, p: float = 0.5, training: bool = True, **_: Any) -> Signal:
    """Nothing, when `training=self.training` is said; else random, and refused."""
    if training and p:
        raise Refuse("dropout that stays on outside training", hint="pass training=self.training")
    return b.dropped(x, p)


@handles("contiguous", "clone", "detach", "float", "double", "to", "type", "type_as", "requires_grad")
def same(b: Builder, x: Signal, *_: Any, **__: Any) -> Signal:
    """Calls that change no value."""
    return x


@handles("mean")
def mean(b: Builder, x: Signal, dim: Any = None, keepdim: bool = False) -> Signal:
    """Over time (when the number of steps is known), or over height and width."""
    if dim is None:
        raise Refuse("mean() over all axes mixes time and batch", hint="name the axes")
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    if len(dims) == 1 and is_time(x, dims[0]):
        return _over_time(b, x, keepdim)
    axes = sorted(axis_of(x, d) for d in dims)
    if len(x.shape) != 3 or axes != [1, 2]:
        raise Refuse(f"mean over axes {list(dims)}", expected="height and width of (channels, height, width), or time")
    y = b.emit(ops.AvgPool2d, x, part="pool", kernel_size=x.shape[1:], stride=x.shape[1:])
    return y if keepdim else reshaped(b, y, x.shape[:1])


@handles("sum")
def total(b: Builder, x: Signal, dim: Any = None, keepdim: bool = False) -> Signal:
    """Over time, when the number of steps is known."""
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    if len(dims) != 1 or dims[0] is None or not is_time(x, dims[0]):
        raise Refuse(f"sum over axes {list(dims)}", expected="time")
    return b.emit(ops.Scale, _over_time(b, x, keepdim, "mean"), scale=np.float64(x.steps or 1), metadata=LITERAL)


def _over_time(b: Builder, x: Signal, keepdim: bool, part: str = "") -> Signal:
    if x.steps is None:
        hint = "use snnir.nn.TemporalMean(steps), or load the model with an example_input of (T, B, *shape)"
        raise Refuse("reduces over time, but the number of steps is not known when compiling", hint=hint)
    y = b.emit(ops.TemporalMean, x, part=part, steps=x.steps)
    return Signal(y.sources, y.shape, (TIME, BATCH) if keepdim else (BATCH,), y.steps)


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
