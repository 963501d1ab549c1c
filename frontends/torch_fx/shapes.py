"""Reshapes, slices and concatenations of signals. Axes are counted as the model does, leading axes included."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from snnir import ops
from snnir.frontends.torch_fx import loops
from snnir.frontends.torch_fx.builder import Builder
from snnir.frontends.torch_fx.calls import handles
from snnir.frontends.torch_fx.signals import (
    BATCH,
    BATCH_FIRST,
    FOLDED,
    SEQUENCE,
    TIME,
    Lead,
    Refuse,
    Signal,
    Size,
    axis_of,
    holds,
)

TIME_HINT = "use snnir.nn.TemporalMean for a mean over time; steps cannot be picked out of a sequence"


@handles("getattr")
def attribute(b: Builder, x: Signal, name: str, *_: Any) -> Any:
    """An attribute of a tensor other than its shape."""
    raise Refuse(f"the tensor's attribute {name!r} has no counterpart in the graph")


@handles("size")
def size(b: Builder, x: Signal, dim: int | None = None) -> Any:
    """Sizes: numbers, but for time and batch."""
    return x.sizes if dim is None else x.sizes[dim]


@handles("dim", "ndimension")
def dims(b: Builder, x: Signal) -> int:
    """Number of axes, leading ones included."""
    return len(x.sizes)


@handles("cat")
def cat(b: Builder, tensors: Sequence[Any], dim: int = 0, axis: int | None = None) -> Signal:
    """Concatenation along an axis of the sample."""
    like = next(t for t in tensors if isinstance(t, Signal))
    where = axis_of(like, dim if axis is None else axis)
    if len(tensors) == 1:
        return like
    parts = [t if isinstance(t, Signal) else _beside(b, t, like, where) for t in tensors]
    return b.emit(ops.Concat, {f"in{i}": p for i, p in enumerate(parts)}, inputs=len(parts), axis=where)


def _beside(b: Builder, value: Tensor, like: Signal, axis: int) -> Signal:
    """A tensor of the model that is concatenated with `like`: of its shape, but along `axis` of its own length."""
    if value.dim() < len(like.shape):
        raise Refuse(f"a constant of shape {list(value.shape)} does not fit samples of shape {list(like.shape)}")
    own = value.shape[axis - len(like.shape)]
    shape = (*like.shape[:axis], own, *like.shape[axis + 1 :])
    return b.constant(value, Signal(like.sources, shape, like.lead, like.steps))


@handles("expand")
def expand(b: Builder, x: Signal, *sizes: Any) -> Signal:
    """Broadcasts to `sizes`; the leading ones come from x.shape."""
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    own = sizes[len(x.sizes) - len(x.shape) :]
    if holds(own, Size) or len(own) != len(x.shape):
        raise Refuse("expands other axes than those of the sample")
    return b.spread(x, tuple(m if n == -1 else n for n, m in zip(own, x.shape, strict=True)))


@handles("expand_as")
def expand_as(b: Builder, x: Any, other: Signal) -> Any:
    """Broadcasts to the shape of `other`; a tensor of the model does so where it meets a signal."""
    return b.spread(x, other.shape) if isinstance(x, Signal) else x


def reshaped(b: Builder, x: Signal, shape: Sequence[int], part: str = "") -> Signal:
    """`x` with its samples in another shape; nothing when it is theirs already."""
    shape = tuple(int(n) for n in shape)
    if -1 in shape:
        rest = prod(n for n in shape if n != -1)
        if shape.count(-1) > 1 or rest == 0 or prod(x.shape) % rest:
            raise Refuse(f"samples of shape {list(x.shape)} do not fit {list(shape)}", rule="shape")
        shape = tuple(prod(x.shape) // rest if n == -1 else n for n in shape)
    return x if shape == x.shape else b.emit(ops.Reshape, x, part=part, shape=shape)


@handles("reshape", "view")
def reshape(b: Builder, x: Signal, *sizes: Any) -> Signal:
    """A new shape whose leading sizes come from x.shape: (T, B, *shape), (T * B, *shape) or (B, *shape)."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    _ = x.sizes  # refuses where the leading axes are not known
    for lead in _leads_like(x.lead or ()):
        head, tail = sizes[: len(lead)], sizes[len(lead) :]
        free = sum(n == -1 for n in sizes if not isinstance(n, Size))
        fits = len(head) == len(lead) and all(isinstance(h, Size) and h == n for h, n in zip(head, lead, strict=True))
        if not fits and len(lead) == 1 and head and not isinstance(head[0], Size) and head[0] == -1:
            fits = free == 1 and not holds(tail, Size) and prod(tail) == prod(x.shape)
        if fits and not holds(tail, Size):
            y = reshaped(b, x, tail)
            return Signal(y.sources, y.shape, lead, y.steps)
    shown = ", ".join(n.label if isinstance(n, Size) else str(n) for n in sizes)
    raise Refuse(
        f"reshape to ({shown}) does not keep time and batch in front",
        expected="leading sizes taken from x.shape, e.g. x.reshape(*x.shape[:2], -1)",
    )


def _leads_like(lead: Lead) -> tuple[Lead, ...]:
    """The forms that leading axes can take without mixing with the sample."""
    if lead in ((TIME, BATCH), (FOLDED,)):
        return (lead, (TIME, BATCH), (FOLDED,))
    return (lead,)


@handles("flatten")
def flatten(b: Builder, x: Signal, start_dim: int = 0, end_dim: int = -1, always: bool = False) -> Signal:
    """Merges axes of the sample, or time and batch."""
    if x.lead in (SEQUENCE, BATCH_FIRST) and start_dim == 0 and end_dim in (1, -len(x.shape) - 1):
        return Signal(x.sources, x.shape, (FOLDED,), x.steps)
    start, end = axis_of(x, start_dim), axis_of(x, end_dim)
    return b.emit(ops.Flatten, x, start_dim=start, end_dim=end) if always or start != end else x


@handles("unflatten")
def unflatten(b: Builder, x: Signal, dim: int, sizes: Any) -> Signal:
    """Splits an axis of the sample, or T * B into T and B."""
    if x.lead == (FOLDED,) and dim == 0:
        return reshape(b, x, *sizes, *x.shape)
    axis = axis_of(x, dim)
    rest = prod(n for n in sizes if n != -1)
    whole = tuple(x.shape[axis] // rest if n == -1 else int(n) for n in sizes)
    return reshaped(b, x, (*x.shape[:axis], *whole, *x.shape[axis + 1 :]))


@handles("unsqueeze")
def unsqueeze(b: Builder, x: Signal, dim: int) -> Signal:
    """A new axis of length 1."""
    if dim >= 0 and x.lead is None:
        axis_of(x, dim)
    axis = dim + len(x.shape) + 1 if dim < 0 else dim - len(x.lead or ())
    if not 0 <= axis <= len(x.shape):
        raise Refuse(f"unsqueeze({dim}) adds an axis before time or batch")
    return reshaped(b, x, (*x.shape[:axis], 1, *x.shape[axis:]))


@handles("squeeze")
def squeeze(b: Builder, x: Signal, dim: int | None = None) -> Signal:
    """Takes away axes of length 1, by number."""
    if dim is None:
        raise Refuse("squeeze() without an axis takes away batch or time when they are 1", hint="name the axis")
    axis = axis_of(x, dim)
    return x if x.shape[axis] != 1 else reshaped(b, x, (*x.shape[:axis], *x.shape[axis + 1 :]))


@handles("permute")
def permute(b: Builder, x: Signal, *dims: Any) -> Signal:
    """Another order of the sample's axes; leading axes stay where they are."""
    order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    n = len(x.sizes)
    order = tuple(d + n if d < 0 else d for d in order)
    lead = len(x.lead or ())
    if order[:lead] != tuple(range(lead)):
        raise Refuse(f"permute{order} moves the time or batch axis", expected="time first, then batch")
    return transposed(b, x, tuple(d - lead for d in order[lead:]))


@handles("transpose", "swapaxes", "swapdims")
def transpose(b: Builder, x: Signal, dim0: int, dim1: int) -> Signal:
    """Swaps two axes of the sample."""
    a, c = axis_of(x, dim0), axis_of(x, dim1)
    order = list(range(len(x.shape)))
    order[a], order[c] = order[c], order[a]
    return transposed(b, x, tuple(order))


def transposed(b: Builder, x: Signal, axes: tuple[int, ...], part: str = "") -> Signal:
    return x if axes == tuple(range(len(axes))) else b.emit(ops.Transpose, x, part=part, axes=axes)


@handles("stack")
def stack(b: Builder, tensors: Any, dim: int = 0) -> Any:
    """All steps of a loop over time."""
    if b.loop is None:
        raise Refuse("stack() has no counterpart in the graph", hint="use torch.cat along an axis of the sample")
    return loops.stacked(b.loop, tensors, dim)


@handles("getitem")
def getitem(b: Builder, x: Signal, index: Any) -> Signal:
    """Slices, single positions and new axes of the sample; time and batch are taken whole."""
    items = index if isinstance(index, tuple) else (index,)
    if b.loop is not None and x.lead == SEQUENCE and isinstance(index, int):
        return loops.step(b.loop, x, index)
    if x.lead is None and not (items and items[0] is Ellipsis):
        _ = x.sizes
    taken = sum(item is not None and item is not Ellipsis for item in items)
    if Ellipsis not in [i for i in items if i is Ellipsis]:
        items = (*items, Ellipsis)
    lead = len(x.lead) if x.lead is not None else 2
    at = items.index(Ellipsis)
    items = (*items[:at], *[slice(None)] * (len(x.shape) + lead - taken), *items[at + 1 :])
    shape: list[int] = []
    axis = -lead
    for item in items:
        if item is None:
            if axis < 0:
                raise Refuse("a new axis before time or batch")
            shape.append(1)
            continue
        if axis < 0:
            if item != slice(None):
                hint = loops.STEP_HINT if b.foreign else TIME_HINT
                which = "time" if axis == -2 and x.lead else "batch"
                raise Refuse(f"picks from the {which} axis", expected="x[:, :, ...]", hint=hint)
        elif axis >= len(x.shape):
            raise Refuse(f"more indices than a sample of shape {list(x.shape)} has axes")
        elif isinstance(item, slice):
            x = sliced(b, x, axis, item)
            shape.append(x.shape[axis])
        elif isinstance(item, int):
            at_item = item + x.shape[axis] if item < 0 else item
            x = sliced(b, x, axis, slice(at_item, at_item + 1))
        else:
            raise Refuse(f"an index of type {type(item).__name__}", expected="slices and whole numbers")
        axis += 1
    return reshaped(b, x, shape)


def sliced(b: Builder, x: Signal, axis: int, where: slice) -> Signal:
    """A part of one axis of the sample; nothing when it is all of it."""
    start, stop, step = where.indices(x.shape[axis])
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    return b.emit(ops.Slice, x, part=f"axis{axis}", axis=axis, start=start, stop=stop, step=step)


@handles("narrow")
def narrow(b: Builder, x: Signal, dim: int, start: int, length: int) -> Signal:
    """x[start : start + length] along an axis."""
    return sliced(b, x, axis_of(x, dim), slice(start, start + length))


@handles("split", "split_with_sizes")
def split(b: Builder, x: Signal, split_size_or_sections: Any, dim: int = 0) -> tuple[Signal, ...]:
    """Pieces along an axis."""
    axis, sizes = axis_of(x, dim), split_size_or_sections
    total = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, total - at) for at in range(0, total, sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(sliced(b, x, axis, slice(at, at + n)) for at, n in zip(starts, sizes, strict=True))


@handles("chunk")
def chunk(b: Builder, x: Signal, chunks: int, dim: int = 0) -> tuple[Signal, ...]:
    """At most `chunks` pieces of equal length along an axis."""
    return split(b, x, -(-x.shape[axis_of(x, dim)] // chunks), dim)
