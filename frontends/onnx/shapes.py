"""What moves elements about: reshapes, transposes, cuts and joins."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np

from snnir.frontends.onnx.builder import Builder
from snnir.frontends.onnx.fold import slice_arguments
from snnir.frontends.onnx.node import Node
from snnir.frontends.onnx.readers import reads
from snnir.frontends.onnx.values import Const, Refuse, Signal, Value
from snnir.ops import Concat, Flatten, Shape, Slice, Transpose

KEPT = "the batch axis first, and as long as it was"


def _given_shape(b: Builder, x: Signal, full: Shape, part: str = "") -> Signal:
    """`x` in the shape `full`, leading axes included.

    Raises:
        Refuse: the leading axes mix with those of samples.
    """
    found = b.axes.split(full, x.lead)
    if found is None or prod(found[1]) != prod(x.shape):
        hint = "axes=... says which axes of the inputs are time and batch"
        raise Refuse(f"mixes samples of shape {list(x.shape)} with the batch", expected=KEPT, hint=hint)
    lead, shape = found
    y = Signal(x.sources, x.shape, lead)
    if shape == y.shape:
        return y
    if len(shape) == 1 and len(y.shape) > 1:
        return b.emit(Flatten(start_dim=0, loc=b.loc), y, part)
    return b.reshaped(y, shape, part)


@reads("Reshape")
def reshape(b: Builder, node: Node) -> Value:
    """To a constant shape, in which one size may be open."""
    x = node.signal()
    full = b.axes.full(x)
    wanted = node.ints(1, "shape")
    if wanted is None:
        raise Refuse("its shape is left out")
    if not node.attribute("allowzero", 0):
        if any(n == 0 and i >= len(full) for i, n in enumerate(wanted)):
            raise Refuse(f"takes the shape {wanted} from {len(full)} axes")
        wanted = [full[i] if n == 0 else n for i, n in enumerate(wanted)]
    rest, known = prod(full), prod(n for n in wanted if n != -1)
    if wanted.count(-1) == 1 and known and rest % known == 0:
        wanted = [rest // known if n == -1 else n for n in wanted]
    return _given_shape(b, x, tuple(wanted))


@reads("Flatten")
def flatten(b: Builder, node: Node) -> Value:
    """(axes before `axis`, axes from it on)."""
    x = node.signal()
    full = b.axes.full(x)
    axis = int(node.attribute("axis", 1))
    axis = axis + len(full) if axis < 0 else axis
    return _given_shape(b, x, (prod(full[:axis]), prod(full[axis:])))


@reads("Squeeze", "Unsqueeze")
def squeeze(b: Builder, node: Node) -> Value:
    """Axes of length 1 away, or in."""
    x = node.signal()
    full, axes = list(b.axes.full(x)), node.ints(1, "axes")
    if node.kind == "Unsqueeze":
        if axes is None:
            raise Refuse("its axes are left out")
        rank = len(full) + len(axes)
        for axis in sorted(a % rank for a in axes):
            full.insert(axis, 1)
    else:
        if axes is None:
            raise Refuse("drops all axes of length 1, which may be the batch axis", expected="axes by number")
        gone = {a % len(full) for a in axes}
        if any(a < len(x.lead) for a in gone):
            raise Refuse("drops the batch axis", expected=KEPT)
        full = [n for i, n in enumerate(full) if i not in gone]
    return _given_shape(b, x, tuple(full))


@reads("Transpose")
def transpose(b: Builder, node: Node) -> Value:
    """Of a sample's axes; time and batch may change places with one another."""
    x = node.signal()
    lead, rank = len(x.lead), len(x.lead) + len(x.shape)
    order = [int(a) for a in node.attribute("perm", list(range(rank))[::-1])]
    if sorted(order[:lead]) != list(range(lead)):
        raise Refuse(f"moves the batch axis: the order is {order}", expected=KEPT)
    y = Signal(x.sources, x.shape, tuple(x.lead[a] for a in order[:lead]))
    axes = tuple(a - lead for a in order[lead:])
    return y if axes == tuple(range(len(axes))) else b.emit(Transpose(axes=axes, loc=b.loc), y)


def _axis(x: Signal, axis: int) -> int:
    """The axis of a sample that `axis` names, leading ones counted."""
    place = axis % (len(x.lead) + len(x.shape)) - len(x.lead)
    if place < 0:
        raise Refuse(f"works along axis {axis}, which is a leading one (time or batch)", expected="an axis of a sample")
    return place


def _cut(b: Builder, x: Signal, axis: int, start: int, stop: int, step: int = 1, part: str = "") -> Signal:
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    return b.emit(Slice(axis=axis, start=start, stop=stop, step=step, loc=b.loc), x, part)


@reads("Slice")
def cut(b: Builder, node: Node) -> Value:
    """Forward, along axes of a sample."""
    x = node.signal()
    arrays = [node.maybe(i, "range") for i in range(1, len(node.inputs))]
    for start, stop, axis, step in zip(*slice_arguments(node, [None, *arrays]), strict=True):
        whole = start == 0 and stop >= 2**31 - 1 and step == 1
        if whole:
            continue
        place = _axis(x, axis)
        n = x.shape[place]
        if step < 1:
            raise Refuse(f"runs backwards, with step {step}", expected="1 or more")
        first, last, _ = slice(start, stop, step).indices(n)
        if first >= last:
            raise Refuse(f"takes nothing of axis {axis}: {start}:{stop} of {n}")
        x = _cut(b, x, place, first, last, step)
    return x


@reads("Split")
def split(b: Builder, node: Node) -> list[Value]:
    """Into the sizes given, or equal ones."""
    x = node.signal()
    place = _axis(x, int(node.attribute("axis", 0)))
    sizes = node.ints(1, "split")
    if sizes is None:
        each = -(-x.shape[place] // len(node.outputs))
        sizes = [min(each, x.shape[place] - i * each) for i in range(len(node.outputs))]
    ends = np.cumsum([0, *sizes]).tolist()
    return [_cut(b, x, place, a, z, part=f"part{i}") for i, (a, z) in enumerate(pairwise(ends))]


@reads("Gather")
def gather(b: Builder, node: Node) -> Value:
    """One element of an axis, or a run of them."""
    x, index = node.signal(0), node.const(1, "index")
    axis = int(node.attribute("axis", 0))
    place = _axis(x, axis)
    flat = [int(i) % x.shape[place] for i in index.reshape(-1)]
    step = flat[1] - flat[0] if len(flat) > 1 else 1
    if index.ndim > 1 or not flat or step < 1 or flat != list(range(flat[0], flat[-1] + 1, step)):
        raise Refuse(f"takes elements {flat[:8]} of axis {axis}", expected="one, or a run of them at equal distances")
    found = _cut(b, x, place, flat[0], flat[-1] + 1, step, "" if index.ndim else "at")
    return found if index.ndim else b.reshaped(found, (*x.shape[:place], *x.shape[place + 1 :]))


@reads("Concat")
def concat(b: Builder, node: Node) -> Value:
    """Along an axis of samples; constants may stand among the signals."""
    given = [node.given(i) for i in range(len(node.inputs))]
    like = next(v for v in given if isinstance(v, Signal))
    place = _axis(like, int(node.attribute("axis", 0)))
    parts: dict[str, Signal] = {}
    for i, value in enumerate(given):
        if isinstance(value, Const):
            array = value.array
            room = Signal(like.sources, array.shape[len(like.lead) :], like.lead)
            fixed = np.ascontiguousarray(b.operand(value, room))
            value = b.constant(np.broadcast_to(fixed, room.shape), like.lead)
        if isinstance(value, Signal):
            parts[f"in{i}"] = value
    return b.emit(Concat(inputs=len(parts), axis=place, loc=b.loc), parts)


@reads("Expand")
def expand(b: Builder, node: Node) -> Value:
    """To the shape it has, or one value per channel over height and width."""
    x = node.signal()
    wanted = node.ints(1, "shape") or []
    full = b.axes.full(x)
    if len(wanted) > len(full):
        raise Refuse(f"makes {len(wanted)} axes of {len(full)}", expected="as many as there are")
    joint = np.broadcast_shapes(full, tuple(wanted))
    if joint[: len(x.lead)] != full[: len(x.lead)]:
        raise Refuse("repeats samples")
    return b.spread(x, joint[len(x.lead) :])
