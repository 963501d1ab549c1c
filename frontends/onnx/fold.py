"""Nodes that only constants feed, computed with NumPy: shapes, axes and prepared weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from snnir.frontends.onnx.node import Node
from snnir.frontends.onnx.values import Const, Refuse
from snnir.ops import Array

MOST = 1 << 27  # elements; what folds to more was no constant
Fold = Callable[[Node, list[Any]], Any]


def axes_of(node: Node, arrays: list[Any]) -> list[int] | None:
    """The axes of Squeeze, Unsqueeze and reductions, an input or an attribute."""
    if len(arrays) > 1 and arrays[1] is not None:
        return [int(a) for a in arrays[1].reshape(-1)]
    found = node.attributes.get("axes")
    return None if found is None else [int(a) for a in found]


def unsqueezed(array: Array, axes: list[int] | None) -> Array:
    rank = array.ndim + len(axes or ())
    return np.expand_dims(array, tuple(a % rank for a in axes or ()))


def _reshape(node: Node, a: list[Any]) -> Array:
    shape = [int(n) for n in (a[1] if len(a) > 1 else node.attributes["shape"])]
    if not node.attributes.get("allowzero"):
        shape = [a[0].shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return np.asarray(a[0].reshape(shape))


def _slice(node: Node, a: list[Any]) -> Array:
    starts, ends, axes, steps = slice_arguments(node, a)
    places = [slice(None)] * a[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # NumPy takes ONNX's ends beyond both sides, but for "down to the first" of a negative step.
        places[axis] = slice(start, None if step < 0 and end < -a[0].shape[axis] else end, step)
    return np.asarray(a[0][tuple(places)])


def slice_arguments(node: Node, a: list[Any]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Starts, ends, axes and steps of a Slice, inputs or attributes."""
    given: list[Any] = [*a[1:], *[None] * 4][:4]
    starts = node.attributes.get("starts") if given[0] is None else given[0].tolist()
    ends = node.attributes.get("ends") if given[1] is None else given[1].tolist()
    if starts is None or ends is None:
        raise Refuse("its starts or ends are left out")
    axes = node.attributes.get("axes") if given[2] is None else given[2].tolist()
    steps = [1] * len(starts) if given[3] is None else given[3].tolist()
    return list(starts), list(ends), list(range(len(starts))) if axes is None else list(axes), list(steps)


def _filled(node: Node, a: list[Any]) -> Array:
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return np.broadcast_to(value, tuple(int(n) for n in a[0]))


def _expand(node: Node, a: list[Any]) -> Array:
    shape = tuple(int(n) for n in a[1])
    return np.broadcast_to(a[0], np.broadcast_shapes(a[0].shape, shape))


def _cast(node: Node, a: list[Any]) -> Array:
    kind = a[1].dtype if node.kind == "CastLike" else node.attributes["to"]
    return np.asarray(a[0].astype(kind))


def _quotient(node: Node, a: list[Any]) -> Array:
    if a[0].dtype.kind in "iu":  # ONNX cuts towards zero
        return np.asarray(np.trunc(a[0] / a[1]).astype(a[0].dtype))
    return np.asarray(a[0] / a[1])


def _reduced(function: Callable[..., Any]) -> Fold:
    def fold(node: Node, a: list[Any]) -> Array:
        axes = axes_of(node, a)
        chosen = None if axes is None else tuple(axes)
        return np.asarray(function(a[0], axis=chosen, keepdims=bool(node.attributes.get("keepdims", 1))))

    return fold


def _each(function: Callable[..., Any]) -> Fold:
    return lambda node, a: np.asarray(function(*a))


def _many(function: Callable[[Any, Any], Any]) -> Fold:
    def fold(node: Node, a: list[Any]) -> Array:
        total = a[0]
        for other in a[1:]:
            total = function(total, other)
        return np.asarray(total)

    return fold


def _squeezed(node: Node, a: list[Any]) -> Array:
    axes = axes_of(node, a)
    return np.squeeze(a[0], None if axes is None else tuple(axes))


FOLDS: dict[str, Fold] = {
    "Identity": lambda node, a: a[0],
    "Reshape": _reshape,
    "Slice": _slice,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Cast": _cast,
    "CastLike": _cast,
    "Div": _quotient,
    "Gather": lambda node, a: np.asarray(np.take(a[0], a[1].astype(np.int64), node.attributes.get("axis", 0))),
    "Concat": lambda node, a: np.concatenate(a, node.attributes["axis"]),
    "Transpose": lambda node, a: np.transpose(a[0], node.attributes.get("perm")),
    "Squeeze": _squeezed,
    "Unsqueeze": lambda node, a: unsqueezed(a[0], axes_of(node, a)),
    "Range": lambda node, a: np.arange(*(n.reshape(-1)[0] for n in a)).astype(a[0].dtype),
    "Add": _each(np.add),
    "Sub": _each(np.subtract),
    "Mul": _each(np.multiply),
    "Mod": _each(np.mod),
    "Pow": _each(lambda x, y: np.power(x, y).astype(x.dtype)),
    "Neg": _each(np.negative),
    "Abs": _each(np.abs),
    "Sqrt": _each(np.sqrt),
    "Exp": _each(np.exp),
    "Floor": _each(np.floor),
    "Ceil": _each(np.ceil),
    "Reciprocal": _each(lambda x: 1 / x),
    "Equal": _each(np.equal),
    "Where": _each(np.where),
    "Min": _many(np.minimum),
    "Max": _many(np.maximum),
    "Sum": _many(np.add),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
}


def folded(node: Node, values: list[Const | None]) -> Const:
    """The constant that a node gives.

    Raises:
        Refuse: the arrays do not fit the node, or it would make a huge one.
    """
    arrays = [None if value is None else value.array for value in values]
    with np.errstate(all="ignore"):
        try:
            array = FOLDS[node.kind](node, arrays)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as error:
            raise Refuse(f"its constants do not fit: {' '.join(str(error).split())[:200]}") from None
    if array.size > MOST and 0 not in array.strides:
        raise Refuse(f"gives a constant of {array.size} numbers")
    return Const(array, any(value is not None and value.sized for value in values))
