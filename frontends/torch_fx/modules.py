"""From layers to ops: one function per kind of layer, of `snnir.nn` and of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from snnir import nn as snn
from snnir import ops
from snnir.frontends.torch_fx import foreign
from snnir.frontends.torch_fx.builder import Builder, Timed, to_array
from snnir.frontends.torch_fx.shapes import flatten, unflatten
from snnir.frontends.torch_fx.signals import TIME, Refuse, Signal
from snnir.frontends.torch_fx.windows import adaptive_pool, conv, linear, pool, shuffle, unshuffle, upsample
from snnir.learning import MOMENTUM
from snnir.nn.base import Neuron

Handler = Callable[..., Signal]  # the builder, the layer, and the signals that it is called with
HANDLERS: dict[type[nn.Module], Handler] = {}
FOREIGN = ("norse", "snntorch", "spikingjelly", "sinabs", "rockpool", "lava", "bindsnet")
FOLD_HINT = (
    "fold time around it: norse.torch.Lift, SpikingJelly's layer.Conv2d(..., step_mode='m') or SeqToANNContainer, "
    "sinabs.layers.Repeat"
)
NO_TIME_AXIS = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Upsample,
)


def handles(*kinds: type[nn.Module]) -> Callable[[Callable[..., Signal]], Callable[..., Signal]]:
    """Registers a function as the reading of some kinds of layers."""

    def register(handler: Callable[..., Signal]) -> Callable[..., Signal]:
        HANDLERS.update(dict.fromkeys(kinds, handler))
        return handler

    return register


def home(module: nn.Module) -> str:
    """The package whose forward() a module runs: 'torch', 'snnir', 'norse', ...; '' for the user's own."""
    owner = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    name = owner.__module__
    if name.startswith(("torch.nn.", "torch.ao.nn.")):
        return "torch"
    if name.startswith("snnir.nn."):
        return "snnir"
    top = name.partition(".")[0]
    return top if top in FOREIGN else ""


def is_leaf(module: nn.Module) -> bool:
    """Whether a module becomes ops as a whole, instead of being traced into."""
    if foreign.handler_of(module) is not None:
        return True
    if foreign.is_through(module):
        return False
    return bool(home(module)) and not isinstance(module, (nn.Sequential, snn.TimeDistributed))


def over_time(module: nn.Module) -> bool:
    """Whether a model holds layers that take (T, B, *shape)."""
    return any(home(m) == "snnir" for m in module.modules())


def call_module(builder: Builder, tracer: Any, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The op or ops of one layer.

    Raises:
        Refuse: the layer has no counterpart.
    """
    if foreign.handler_of(layer) is not None:
        return foreign.call_foreign(builder, tracer, layer, args, kwargs)
    if home(layer) in FOREIGN:
        raise foreign.unsupported(layer, home(layer))
    handler = next((HANDLERS[cls] for cls in type(layer).__mro__ if cls in HANDLERS), None)
    if handler is None and not isinstance(layer, snn.Recurrent):
        raise _unsupported(layer)
    given = [*args, *kwargs.values()]
    wanted = 2 if isinstance(layer, snn.Wkv) else 1
    if len(given) != wanted or not all(isinstance(value, Signal) for value in given):
        count = "one tensor" if wanted == 1 else "two tensors"
        raise Refuse(f"{_kind(layer)} is called with something else than {count}")
    x = given[0]
    if any(map(is_lazy, layer.parameters(recurse=False))):
        hint = "run the model once on an input before it is compiled"
        raise Refuse(f"{_kind(layer)} has not seen its input yet, so it has no weights", hint=hint, rule="weights")
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise Refuse(
            f"{_kind(layer)} has hooks, which can change what it computes",
            hint="remove them before compiling (remove_weight_norm, prune.remove, ... where they make its weight)",
        )
    if home(layer) == "snnir" and x.lead is not None and x.lead[0] is not TIME:
        raise Refuse(f"{_kind(layer)} takes (T, B, *shape), but time has been folded away before it")
    if handler is None:
        return _recurrent(builder, tracer, layer, x)
    timeless = home(layer) == "torch" and isinstance(layer, NO_TIME_AXIS) and x.lead is not None and len(x.lead) == 2
    if timeless and builder.foreign and x.lead is not None:
        what = f"{_kind(layer)} takes no time axis, but {foreign.axes(x.lead)} arrives"
        raise Refuse(what, hint=FOLD_HINT)
    y = handler(builder, layer, *given)
    if timeless:
        return Signal(y.sources, y.shape, None, y.steps)
    return y


def _kind(layer: nn.Module) -> str:
    return f"{'snnir.' if home(layer) == 'snnir' else ''}nn.{type(layer).__name__}"


def _unsupported(layer: nn.Module) -> Refuse:
    hint = "use AvgPool2d or SumPool2d" if "MaxPool" in type(layer).__name__ else "write it with the layers of snnir.nn"
    names = sorted({kind.__name__ for kind in HANDLERS} | {"Recurrent", "Sequential", "TimeDistributed"})
    return Refuse(f"{_kind(layer)} has no counterpart in the graph", ", ".join(names), hint)


# -- weights ---------------------------------------------------------------------------------------------------------


@handles(nn.Linear)
def _linear(b: Builder, m: nn.Linear, x: Signal) -> Signal:
    return linear(b, x, m.weight, m.bias)


@handles(nn.Conv1d, nn.Conv2d)
def _conv(b: Builder, m: nn.Conv1d | nn.Conv2d, x: Signal) -> Signal:
    if m.padding_mode != "zeros":
        raise Refuse(f"padding_mode is {m.padding_mode!r}", expected="'zeros'")
    return conv(b, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)


@handles(nn.ConvTranspose2d)
def _conv_transpose(b: Builder, m: nn.ConvTranspose2d, x: Signal) -> Signal:
    if m.padding_mode != "zeros":
        raise Refuse(f"padding_mode is {m.padding_mode!r}", expected="'zeros'")
    fields: dict[str, Any] = {
        name: getattr(m, name) for name in ("stride", "padding", "output_padding", "dilation", "groups")
    }
    if m.bias is None:
        fields["bias"] = np.zeros(m.out_channels, to_array(m.weight[:0]).dtype)
    return b.emit(ops.ConvTranspose2d, x, {"weight": m.weight, "bias": m.bias}, **fields)


@handles(snn.Scale)
def _scale(b: Builder, m: snn.Scale, x: Signal) -> Signal:
    return b.emit(ops.Scale, x, {"scale": m.scale})


# -- norms -----------------------------------------------------------------------------------------------------------


@handles(nn.BatchNorm1d, nn.BatchNorm2d, snn.tdBatchNorm1d, snn.tdBatchNorm2d)
def _batch_norm(b: Builder, m: nn.modules.batchnorm._BatchNorm, x: Signal) -> Signal:
    if m.running_mean is None or m.running_var is None:
        raise Refuse(
            f"{_kind(m)} has no running statistics, so its output depends on the batch",
            hint="build it with track_running_stats=True",
        )
    tensors = {"weight": m.weight, "bias": m.bias, "mean": m.running_mean, "var": m.running_var}
    fields: dict[str, Any] = {"eps": m.eps, "alpha": getattr(m, "alpha", 1.0), "v_th": getattr(m, "v_th", 1.0)}
    dtype = to_array(m.running_mean).dtype
    if m.weight is None:
        fields["weight"] = np.ones(m.num_features, dtype)
    if m.bias is None:
        fields["bias"] = np.zeros(m.num_features, dtype)
    if m.momentum != 0.1:
        fields["metadata"] = {MOMENTUM: m.momentum}
    return b.emit(ops.BatchNorm, x, tensors, **fields)


@handles(nn.LayerNorm)
def _layer_norm(b: Builder, m: nn.LayerNorm, x: Signal) -> Signal:
    fields: dict[str, Any] = {"eps": m.eps}
    if m.weight is None:
        fields["weight"] = np.ones(m.normalized_shape, np.float32)
    if m.bias is None:
        fields["bias"] = np.zeros(m.normalized_shape, np.float32)
    return b.emit(ops.LayerNorm, x, {"weight": m.weight, "bias": m.bias}, **fields)


# -- shapes and pools ------------------------------------------------------------------------------------------------


@handles(nn.Flatten)
def _flatten(b: Builder, m: nn.Flatten, x: Signal) -> Signal:
    lenient = m.start_dim == 1 and (x.lead is None or len(x.lead) == 2) and not b.foreign
    per_sample = home(m) == "snnir" or lenient
    if not per_sample:
        return flatten(b, x, m.start_dim, m.end_dim, always=True)
    # Axes as on (B, *shape): a layer of PyTorch in a model over time means one step.
    start, end = (d - 1 if d > 0 else d for d in (m.start_dim, m.end_dim))
    return b.emit(ops.Flatten, x, start_dim=start, end_dim=end)


@handles(nn.Unflatten)
def _unflatten(b: Builder, m: nn.Unflatten, x: Signal) -> Signal:
    if not isinstance(m.dim, int):
        raise Refuse("named dimensions cannot be read")
    return unflatten(b, x, m.dim, tuple(int(n) for n in m.unflattened_size))  # type: ignore[arg-type]


@handles(snn.Reshape)
def _reshape(b: Builder, m: snn.Reshape, x: Signal) -> Signal:
    return unflatten(b, b.emit(ops.Flatten, x, part="flat") if len(x.shape) > 1 else x, -1, m.shape)


@handles(nn.AvgPool2d)
def _avg_pool(b: Builder, m: nn.AvgPool2d, x: Signal) -> Signal:
    return pool(b, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override)


@handles(snn.SumPool2d)
def _sum_pool(b: Builder, m: snn.SumPool2d, x: Signal) -> Signal:
    return pool(b, x, m.kernel_size, m.stride, m.padding, divisor_override=1)


@handles(nn.AdaptiveAvgPool2d)
def _adaptive_pool(b: Builder, m: nn.AdaptiveAvgPool2d, x: Signal) -> Signal:
    return adaptive_pool(b, x, m.output_size)


@handles(snn.Upsample2d)
def _upsample(b: Builder, m: snn.Upsample2d, x: Signal) -> Signal:
    return b.emit(ops.Upsample2d, x, factor=m.factor)


@handles(nn.Upsample)
def _upsample_torch(b: Builder, m: nn.Upsample, x: Signal) -> Signal:
    return upsample(b, x, m.size, m.scale_factor, m.mode)


@handles(nn.PixelShuffle)
def _pixel_shuffle(b: Builder, m: nn.PixelShuffle, x: Signal) -> Signal:
    return shuffle(b, x, m.upscale_factor)


@handles(nn.PixelUnshuffle)
def _pixel_unshuffle(b: Builder, m: nn.PixelUnshuffle, x: Signal) -> Signal:
    return unshuffle(b, x, m.downscale_factor)


# -- values ----------------------------------------------------------------------------------------------------------


@handles(nn.Identity)
def _identity(b: Builder, m: nn.Module, x: Signal) -> Signal:
    return x


@handles(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
def _dropout(b: Builder, m: Any, x: Signal) -> Signal:
    return b.dropped(x, m.p)


@handles(nn.ReLU, nn.Sigmoid, nn.Tanh, nn.SiLU)
def _activation(b: Builder, m: nn.Module, x: Signal) -> Signal:
    return b.emit(ops.Activation, x, function=type(m).__name__.lower())


# -- time ------------------------------------------------------------------------------------------------------------


@handles(snn.Repeat)
def _repeat(b: Builder, m: snn.Repeat, x: Signal) -> Signal:
    return b.emit(ops.Repeat, x, steps=m.steps)


@handles(snn.TemporalMean)
def _temporal_mean(b: Builder, m: snn.TemporalMean, x: Signal) -> Signal:
    return b.emit(ops.TemporalMean, x, steps=m.steps)


@handles(snn.Delay)
def _delay(b: Builder, m: snn.Delay, x: Signal) -> Signal:
    return _timed(b, m, x, ops.Delay, ("delay",))


@handles(Neuron)
def _neuron(b: Builder, m: Neuron, x: Signal) -> Signal:
    return _timed(b, m, x, m.op_type, m.op_type.arrays)


def _timed(b: Builder, m: Any, x: Signal, kind: type[ops.Op], fields: tuple[str, ...], part: str = "") -> Signal:
    values = {field: getattr(m, field) for field in fields}
    tensors = {field: value for field, value in values.items() if isinstance(value, Tensor)}
    numbers = {field: np.float64(value) for field, value in values.items() if not isinstance(value, Tensor)}
    learning = m.learning() if isinstance(m, Neuron) else {}
    y = b.emit(kind, x, tensors, part, metadata=learning, **numbers)
    for field in numbers:
        b.bind(y, field, m, field)
    b.timed.append(Timed(y.sources[0], b.loc, m))
    return y


def _recurrent(b: Builder, tracer: Any, m: Any, x: Signal) -> Signal:
    """The neuron, the connection behind it, and an edge back."""
    y = _timed(b, m.neuron, x, m.neuron.op_type, m.neuron.op_type.arrays, "neuron")
    back = tracer.signal(m.connection(tracer.proxy_of(y)))
    if not isinstance(back, Signal):
        return y  # what is wrong with the connection has been said
    if back.shape != x.shape:
        raise Refuse(f"the feedback has shape {list(back.shape)}, the input {list(x.shape)}", rule="shape")
    b.connect(back, y.sources[0])
    return y


def input_shape_of(layer: nn.Module) -> ops.Shape | None:
    """The shape of a layer's input, where the layer alone tells it."""
    if isinstance(layer, nn.Linear):
        return (layer.in_features,)
    if isinstance(layer, nn.LayerNorm):
        return tuple(layer.normalized_shape)
    if isinstance(layer, Neuron):
        return layer.to_op().own_shape
    if isinstance(layer, snn.Recurrent):
        return input_shape_of(layer.neuron) or input_shape_of(layer.connection)
    return foreign.fixed_shape(layer)


def keeps_shape(layer: nn.Module) -> bool:
    """Whether a layer's output has the shape of its input."""
    kinds = (Neuron, nn.Identity, nn.modules.dropout._DropoutNd, nn.ReLU, snn.Repeat, snn.TemporalMean, snn.Delay)
    return isinstance(layer, kinds) or foreign.handler_of(layer) is not None
