"""Scaling what arrives at an op by scaling the weights that feed it: g * (sum of W x + b) = sum of (g W) x + g b.

The factor walks back from a port through ops that only move or average values until it meets weights. Nothing is
changed before every feeder is known to take it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnir.graph import Edge
from snnir.ops import (
    Affine,
    Array,
    AvgPool2d,
    BatchNorm,
    Concat,
    Constant,
    Conv,
    ConvTranspose2d,
    Delay,
    Flatten,
    LayerNorm,
    Linear,
    Op,
    Pool2d,
    Repeat,
    Reshape,
    Scale,
    Shape,
    Slice,
    TemporalMean,
    TokenShift,
    Transpose,
    Upsample2d,
)
from snnir.passes.common import (
    Declined,
    Work,
    along_channels,
    compact,
    float_type,
    listed,
    per_channel,
    slice_axis,
    wide,
)


@dataclass
class Plan:
    """Ops to replace: name -> (the edge through which the factor came, the new op). `copies` get a new name."""

    ops: dict[str, tuple[Edge, Op]] = field(default_factory=dict)
    copies: set[str] = field(default_factory=set)

    def now(self, work: Work, name: str) -> Op:
        """The op at `name` once the plan is done."""
        return self.ops[name][1] if name in self.ops else work.ops[name]

    def apply(self, work: Work, made_from: tuple[str, ...] = ()) -> None:
        """Does what is planned; `made_from` names ops whose work the changed ones now do too."""
        for name, (edge, op) in self.ops.items():
            if name not in self.copies:
                work.swap(name, op, made_from)
                continue
            new = work.add(name, op, (name, *made_from), shape=work.shapes[name])
            for arriving in work.incoming(name):
                work.connect(arriving.source, new, arriving.port)
            work.disconnect(edge)
            work.connect(new, edge.target, edge.port)


def plan_gain(work: Work, edges: Iterable[Edge], gain: Array, copy: bool = False) -> Plan:
    """The rewrite after which each of `edges` carries `gain` times what it does.

    Args:
        gain: broadcasts to the shape of the value on the edges.
        copy: an op that others read too may be duplicated; otherwise it declines.

    Raises:
        Declined: something on the way cannot take the factor exactly.
    """
    plan = Plan()
    stack = [(edge, compact(wide(gain), work.shapes[edge.source])) for edge in edges]
    while stack:
        at, factor = stack.pop()
        name = at.source
        op = work.ops[name]
        if (factor == 1).all():
            continue
        work.thaw(name)
        shape = work.shapes[name]
        absorbed = absorb(op, factor, shape)
        through = {} if absorbed is not None else _through(name, op, factor, shape, work)
        if len(work.outgoing(name)) > 1:
            others = listed(e.target for e in work.outgoing(name) if e != at)
            if not copy or absorbed is None:
                raise Declined(f"{name} ({op.kind}) is also read by {others}")
            plan.copies.add(name)
        if name in plan.ops:
            raise Declined(f"{name} ({op.kind}) reaches it by two ways")
        if absorbed is not None:
            plan.ops[name] = (at, absorbed)
        for port, passed in through.items():
            stack += [(e, passed) for e in work.incoming(name) if e.port == port]
    return plan


def plan_offset(work: Work, plan: Plan, edge: Edge, offset: Array) -> bool:
    """Extends `plan` so that `edge` carries `offset` more (after the plan's gains); whether that was possible."""
    name, shape = edge.source, work.shapes[edge.source]
    offset = compact(wide(offset), shape)
    readers = work.outgoing(name)
    if name in work.frozen or (len(readers) > 1 and name not in plan.copies):
        return False
    op = plan.now(work, name)
    carried = with_offset(op, offset, shape)
    if carried is not None:
        plan.ops[name] = (edge, carried)
        return True
    passed = _offset_through(op, offset, shape, work, name)
    return passed is not None and any(plan_offset(work, plan, e, passed) for e in work.incoming(name))


def scaled_rows(op: Linear, gain: Array) -> Any:
    """`op` with its output times `gain`, an array with as many axes as the output."""
    if all(n == 1 for n in gain.shape[:-1]):
        rows = gain.reshape(-1)
    elif op.weight.ndim == 2:
        raise Declined("the factor differs along axes over which the weight is shared")
    else:
        rows = gain
    kind = float_type(op.weight)
    changes: dict[str, Array] = {"weight": (wide(op.weight) * rows[..., None]).astype(kind)}
    if isinstance(op, Affine):
        changes["bias"] = (wide(op.bias) * rows).astype(float_type(op.bias))
    return op.with_(**changes)


def absorb(op: Op, gain: Array, shape: Shape) -> Op | None:
    """The op with its output times `gain`, folded into its own arrays; None when it has none that could take it.

    Args:
        gain: float64, with as many axes as the output, whose shape is `shape`.

    Raises:
        Declined: its arrays are shared along an axis on which the gain differs.
    """
    rank = len(shape)
    if isinstance(op, Scale):
        kind = float_type(op.scale, *([gain] if op.scale.dtype.kind != "f" else []))
        return op.with_(scale=compact(wide(op.scale) * gain, shape).astype(kind))
    if isinstance(op, Constant):
        return op.with_(value=(wide(op.value) * gain).astype(float_type(op.value)))
    if isinstance(op, Linear):
        return scaled_rows(op, gain)
    if isinstance(op, LayerNorm):
        if any(n > 1 for n in gain.shape[: rank - op.weight.ndim]):
            raise Declined("the factor differs along axes that the layer norm shares")
        inner = gain.reshape(gain.shape[rank - op.weight.ndim :])
        return op.with_(
            weight=(wide(op.weight) * inner).astype(float_type(op.weight)),
            bias=(wide(op.bias) * inner).astype(float_type(op.bias)),
        )
    if not isinstance(op, (Conv, ConvTranspose2d, BatchNorm)):
        return None
    channel = per_channel(gain, shape)
    if channel is None:
        raise Declined(f"the factor differs within a channel, which the weights of a {op.kind} cannot")
    if isinstance(op, BatchNorm):
        return op.with_(
            weight=(wide(op.weight) * channel).astype(float_type(op.weight)),
            bias=(wide(op.bias) * channel).astype(float_type(op.bias)),
        )
    if isinstance(op, ConvTranspose2d):
        per_group = channel.reshape(op.groups, -1)
        n_in = op.weight.shape[0] // op.groups
        weight = wide(op.weight) * np.repeat(per_group, n_in, axis=0)[:, :, None, None]
    else:
        weight = wide(op.weight) * along_channels(channel, op.weight.ndim)
    bias = wide(op.bias) * along_channels(channel, op.bias.ndim)
    return op.with_(weight=weight.astype(float_type(op.weight)), bias=bias.astype(float_type(op.bias)))


def _through(name: str, op: Op, gain: Array, shape: Shape, work: Work) -> dict[str, Array]:
    """Port -> the factor that what arrives there needs, for an op that has no weights of its own."""
    if isinstance(op, (Delay, Repeat, TemporalMean)):
        return {"input": gain}
    if isinstance(op, (Flatten, Reshape, Transpose, Slice)):
        return {"input": _moved_back(op, gain, shape, work.arriving(name))}
    if isinstance(op, Concat):
        axis = op.axis % len(shape)
        if gain.shape[axis] == 1:
            return dict.fromkeys(op.ports, gain)
        ends = np.cumsum([work.arriving(name, port)[axis] for port in op.ports])[:-1]
        parts = np.split(gain, [int(e) for e in ends], axis=axis)
        return {p: compact(g, work.arriving(name, p)) for p, g in zip(op.ports, parts, strict=True)}
    if isinstance(op, (Upsample2d, Pool2d)):
        if gain.size != gain.shape[0]:
            raise Declined(f"the factor differs within a channel, so it cannot pass {name} ({op.kind})")
        return {"input": gain}
    if isinstance(op, TokenShift):
        if gain.shape[0] != 1:
            raise Declined(f"the factor differs from token to token, so it cannot pass {name} (TokenShift)")
        return {"input": gain}
    raise Declined(f"{name} ({op.kind}) feeds it, which has no weights")


def _moved_back(op: Op, array: Array, shape: Shape, before: Shape) -> Array:
    """Values per element of a layout op's output (`shape`), as values per element of its input (`before`)."""
    if isinstance(op, Transpose):
        return compact(array.transpose(np.argsort(op.axes)), before)
    if isinstance(op, Slice):
        axis = op.axis % len(before)
        if array.shape[axis] == 1:
            return array
        full = np.ones((*array.shape[:axis], before[axis], *array.shape[axis + 1 :]))
        full[slice_axis(op, len(before))] = array  # what is cut off is read by nobody
        return compact(full, before)
    if array.size == 1:
        return array.reshape((1,) * len(before))
    return compact(np.broadcast_to(array, shape).reshape(before), before)


def with_offset(op: Op, offset: Array, shape: Shape) -> Op | None:
    """The op with `offset` added to its own bias; None when it has none that could take it."""
    if isinstance(op, Constant):
        return op.with_(value=(wide(op.value) + offset).astype(float_type(op.value)))
    if isinstance(op, Linear):
        kept = offset.reshape(offset.shape[-1:]) if all(n == 1 for n in offset.shape[:-1]) else offset
        kept = np.broadcast_to(kept, (*kept.shape[:-1], shape[-1]))
        if isinstance(op, Affine):
            return op.with_(bias=(wide(op.bias) + kept).astype(float_type(op.bias)))
        bias = kept.astype(float_type(op.weight))
        return Affine(weight=op.weight, bias=bias, metadata=op.metadata, loc=op.loc)
    if not isinstance(op, (Conv, ConvTranspose2d, BatchNorm)):
        return None
    channel = per_channel(offset, shape)
    if channel is None:
        return None
    return op.with_(bias=(wide(op.bias) + along_channels(channel, op.bias.ndim)).astype(float_type(op.bias)))


def _offset_through(op: Op, offset: Array, shape: Shape, work: Work, name: str) -> Array | None:
    """The offset that one feeder of a weightless op needs; None when the op does not hand it on exactly."""
    if isinstance(op, (Repeat, TemporalMean)):
        return offset
    if isinstance(op, (Flatten, Reshape, Transpose)):
        return _moved_back(op, offset, shape, work.arriving(name))
    if offset.size != offset.shape[0]:
        return None
    if isinstance(op, Upsample2d):
        return offset
    if isinstance(op, Pool2d) and not any(op.padding):  # padding would water the offset down at the border
        return offset if isinstance(op, AvgPool2d) else offset / float(np.prod(op.kernel_size))
    return None
