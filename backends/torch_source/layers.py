"""How each op without a membrane is written as a PyTorch module. One function per op type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from snnir import ops
from snnir.backends.torch_source.source import Classes, Layer, call, empty, number, parameter, shape, sizes
from snnir.learning import MOMENTUM, by_default, learned
from snnir.ops import Shape


def stateless(op: ops.Op, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    """The layer of an op, whose (first) input has the shape `arriving`; `stepwise` on a cycle."""
    return _WRITERS[type(op)](op, arriving, stepwise, classes)


def _part(classes: Classes, name: str, *arguments: str, **named: str) -> Layer:
    classes.need(name)
    return Layer(call(name, *arguments, **named))


def _linear(op: ops.Linear, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    if op.weight.ndim > 2:
        return _part(classes, "MultiLinear", empty(op.weight))
    return Layer(call("nn.Linear", *map(str, op.weight.shape[::-1]), bias="False"))


def _affine(op: ops.Affine, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    if op.weight.ndim > 2 or op.bias.shape != op.weight.shape[:1]:
        return _part(classes, "MultiLinear", empty(op.weight), empty(op.bias))
    return Layer(call("nn.Linear", *map(str, op.weight.shape[::-1])))


def _conv(op: ops.Conv, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    c_out, c_in, *kernel = op.weight.shape
    options = {
        "stride": "" if set(op.strides) == {1} else sizes(op.strides),
        "padding": _padding(op),
        "dilation": "" if set(op.dilations) == {1} else sizes(op.dilations),
        "groups": "" if op.groups == 1 else str(op.groups),
    }
    if op.bias.ndim > 1:
        return _part(classes, "ConvMap", empty(op.weight), empty(op.bias), **options)
    return _part(classes, f"Conv{op.axes}d", str(c_in * op.groups), str(c_out), sizes(tuple(kernel)), **options)


def as_trained(op: ops.Op, made: Layer, classes: Classes) -> Layer:
    """The layer with the parameters that training leaves alone in the model without gradients."""
    there = [field for field in by_default(type(op)) if getattr(op, field) is not None]
    alone = [field for field in there if field not in learned(op)]
    if not alone or made.make.startswith("PlainLayerNorm("):
        return made
    if alone == there and not made.uses:  # frameworks may have parameters() of their own
        return replace(made, make=f"{made.make}.requires_grad_(False)")
    classes.need("frozen")
    return replace(made, make=call("frozen", made.make, *(f'"{field}"' for field in alone)))


def _padding(op: ops.Conv) -> str:
    if isinstance(op.padding, str):
        return repr(op.padding).replace("'", '"') if op.padding == "same" else ""
    pads = tuple(before for before, _ in op.pads)
    return "" if set(pads) == {0} else sizes(pads)


def _conv_transpose(op: ops.ConvTranspose2d, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    c_in, c_out, *kernel = op.weight.shape
    options = {
        "stride": "" if set(op.stride) == {1} else sizes(op.stride),
        "padding": "" if set(op.padding) == {0} else sizes(op.padding),
        "output_padding": "" if set(op.output_padding) == {0} else sizes(op.output_padding),
        "dilation": "" if set(op.dilation) == {1} else sizes(op.dilation),
        "groups": "" if op.groups == 1 else str(op.groups),
    }
    return _part(classes, "ConvTranspose2d", str(c_in), str(c_out * op.groups), sizes(tuple(kernel)), **options)


def _pool(op: ops.Pool2d, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    window = shape(op.kernel_size), shape(op.stride)
    if all(p <= k // 2 for p, k in zip(op.padding, op.kernel_size, strict=True)):
        return _part(classes, op.kind, *window, padding="" if set(op.padding) == {0} else shape(op.padding))
    high, wide = op.padding  # more than PyTorch's pools take
    pool = _part(classes, op.kind, *window)
    return Layer(f"nn.Sequential(nn.ZeroPad2d({shape((wide, wide, high, high))}), {pool.make})")


def _flatten(op: ops.Flatten, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    n = len(arriving)
    start, end = (d + n if d < 0 else d for d in (op.start_dim, op.end_dim))
    # Counted from the end, so that leading axes do not matter.
    return Layer(f"nn.Flatten({start - n}, {end - n})") if start < end else Layer("nn.Identity()")


def _batch_norm(op: ops.BatchNorm, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    gain, momentum = op.alpha * op.v_th, op.metadata.get(MOMENTUM, 0.1)
    return _part(
        classes,
        "BatchNorm",
        str(op.mean.size),
        f"axes={len(arriving)}",
        eps="" if op.eps == 1e-5 else repr(float(op.eps)),
        momentum="" if momentum == 0.1 else repr(momentum if momentum is None else float(momentum)),
        gain="" if gain == 1.0 else repr(float(gain)),
    )


def _layer_norm(op: ops.LayerNorm, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    if not learned(op):
        return _part(classes, "PlainLayerNorm", shape(op.weight.shape), repr(float(op.eps)))
    return Layer(call("nn.LayerNorm", shape(op.weight.shape), eps="" if op.eps == 1e-5 else repr(float(op.eps))))


def _concat(op: ops.Concat, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    return _part(classes, "Concat", str(_from_end(op.axis, arriving)))


def _slice(op: ops.Slice, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    step = "" if op.step == 1 else str(op.step)
    return _part(classes, "Slice", str(_from_end(op.axis, arriving)), str(op.start), str(op.stop), step)


def _from_end(axis: int, arriving: Shape) -> int:
    return axis - len(arriving) if axis >= 0 else axis


def _reshape(op: ops.Reshape, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    return _part(classes, "Reshape", str(len(arriving)), shape(op.shape))


_ACTIVATIONS = {"sigmoid": "nn.Sigmoid()", "relu": "nn.ReLU()", "silu": "nn.SiLU()", "tanh": "nn.Tanh()"}


def _activation(op: ops.Activation, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    if op.function in _ACTIVATIONS:
        return Layer(_ACTIVATIONS[op.function])
    return _part(classes, {"exp": "Exp", "relu2": "SquaredReLU"}[op.function])


def _constant(op: ops.Constant, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    value = number(op.value) if op.value.ndim == 0 else empty(op.value)
    trained = "True" if learned(op) else ""
    return _part(classes, "Constant", value, series="True" if op.series else "", learned=trained)


def _delay(op: ops.Delay, arriving: Shape, stepwise: bool, classes: Classes) -> Layer:
    return _part(classes, "DelayCell" if stepwise else "Delay", parameter(op.delay))


_Writer = Callable[[Any, Shape, bool, Classes], Layer]
_WRITERS: dict[type[ops.Op], _Writer] = {
    ops.Linear: _linear,
    ops.Affine: _affine,
    ops.Scale: lambda op, _, __, classes: _part(classes, "Scale", empty(op.scale)),
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.ConvTranspose2d: _conv_transpose,
    ops.SumPool2d: _pool,
    ops.AvgPool2d: _pool,
    ops.Flatten: _flatten,
    ops.Reshape: _reshape,
    ops.Transpose: lambda op, _, __, classes: _part(classes, "Transpose", shape(op.axes)),
    ops.Slice: _slice,
    ops.Concat: _concat,
    ops.Multiply: lambda op, _, __, classes: _part(classes, "Multiply"),
    ops.Upsample2d: lambda op, _, __, classes: _part(classes, "Upsample2d", shape(op.factor)),
    ops.BatchNorm: _batch_norm,
    ops.LayerNorm: _layer_norm,
    ops.Activation: _activation,
    ops.TokenShift: lambda op, _, __, classes: _part(classes, "TokenShift", empty(op.mix)),
    ops.Wkv: lambda op, _, __, classes: _part(classes, "Wkv", empty(op.log_decay), empty(op.first)),
    ops.Constant: _constant,
    ops.Repeat: lambda op, _, __, classes: _part(classes, "Repeat", str(op.steps)),
    ops.TemporalMean: lambda op, _, __, classes: _part(classes, "TemporalMean", str(op.steps)),
    ops.Delay: _delay,
}
