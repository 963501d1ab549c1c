"""From layers over tokens (`snnir.nn.tokens`) to ops."""

from __future__ import annotations

from typing import Any

from snnir import nn as snn
from snnir import ops
from snnir.frontends.torch_fx.builder import LEFT_ALONE, Builder
from snnir.frontends.torch_fx.modules import handles
from snnir.frontends.torch_fx.signals import Signal
from snnir.learning import DERIVED, LEARNED


@handles(snn.TokenShift)
def _token_shift(b: Builder, m: snn.TokenShift, x: Signal) -> Signal:
    return b.emit(ops.TokenShift, x, {"mix": m.mix})


@handles(snn.Wkv)
def _wkv(b: Builder, m: snn.Wkv, k: Signal, v: Signal) -> Signal:
    return b.emit(ops.Wkv, {"k": k, "v": v}, {"log_decay": m.log_decay, "first": m.first})


@handles(snn.ExponentialFilter2d)
def _exponential_filter(b: Builder, m: snn.ExponentialFilter2d, x: Signal) -> Signal:
    fields: dict[str, Any] = {
        "stride": 1,
        "padding": m.reach,
        "dilation": 1,
        "groups": len(m.weight),
        "metadata": LEFT_ALONE,
    }
    return b.emit(ops.Conv2d, x, {"weight": m.weight, "bias": m.bias}, **fields)


@handles(snn.SquaredReLU)
def _squared_relu(b: Builder, m: snn.SquaredReLU, x: Signal) -> Signal:
    return b.emit(ops.Activation, x, function="relu2")


@handles(snn.Constant)
def _constant(b: Builder, m: snn.Constant, x: Signal) -> Signal:
    metadata: dict[str, Any] = {LEARNED: True} if m.value.requires_grad else {}
    names = b.made_from(m.value)
    if names:
        metadata[DERIVED] = {"value": names}
    name = b.add(ops.Constant(value=b.array(m.value), metadata=metadata, loc=b.loc))
    made = Signal((name,), tuple(m.value.shape), x.lead, x.steps)
    if not names:
        b.bind(made, "value", m, "value")
    return made


@handles(snn.PlainLayerNorm)
def _plain_layer_norm(b: Builder, m: snn.PlainLayerNorm, x: Signal) -> Signal:
    tensors = {"weight": m.weight, "bias": m.bias}
    return b.emit(ops.LayerNorm, x, tensors, eps=m.eps, metadata=LEFT_ALONE)
