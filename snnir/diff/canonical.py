"""What an op is, whatever it is called and however its parameters are written.

NIR wants parameters in full where a graph may hold scalars, a stride may be one number or two, and a Flatten may count
from the front or from the back: all that is written in one way here, so that equal ops look equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.graph import Graph
from snnir.ops import Array, Conv, Flatten, Input, Linear, Op, Output, Pool2d, Shape


@dataclass(frozen=True)
class Canon:
    """One op.

    Attributes:
        kind: its type's name.
        form: what is structure: name -> value of all that is not a number to be learned (shapes, strides, ...).
        arrays: what is numbers: name -> array, as the op holds it.
        shape: of its output.
        digest: equal where all numbers are equal, as values: neither type nor broadcasting counts.
    """

    kind: str
    form: Mapping[str, Any]
    arrays: Mapping[str, Array]
    shape: Shape
    digest: str

    @property
    def structure(self) -> tuple[Any, ...]:
        """Equal where two ops differ in numbers at most."""
        return (self.kind, tuple(self.form.items()))


def canonical(graph: Graph) -> dict[str, Canon]:
    """Every op of a sound graph, by name."""
    shapes, seen = graph.shapes, _Digests()
    made: dict[str, Canon] = {}
    for name, op in graph.ops.items():
        shape = shapes[name]
        arriving: dict[str, Shape] = {port: () for port in op.ports}
        arriving.update((edge.port, shapes[edge.source]) for edge in graph.incoming[name])
        arrays = {n: value for n in op.arrays if (value := getattr(op, n)) is not None}
        digest = seen.of(op, arrays, shape)
        form = {"shape": list_text(shape), **_form(op, arrays, arriving)}
        made[name] = Canon(op.kind, form, arrays, shape, digest)
    return made


def list_text(shape: Shape) -> str:
    """A shape as text."""
    return str(list(shape))


def _form(op: Op, arrays: Mapping[str, Array], arriving: Mapping[str, Shape]) -> dict[str, str]:
    if isinstance(op, (Input, Output)):
        return {}
    if isinstance(op, Flatten):
        return {"input": list_text(arriving["input"])}
    if isinstance(op, Pool2d):
        return {n: list_text(getattr(op, n)) for n in ("kernel_size", "stride", "padding")}
    if isinstance(op, Conv):
        said = {"weight": op.weight.shape, "stride": op.strides, "dilation": op.dilations, "groups": (op.groups,)}
        pads = tuple(n for pair in op.pads for n in pair)
        return {n: list_text(v) for n, v in said.items()} | {"padding": list_text(pads)}
    if isinstance(op, Linear):
        return {"weight": list_text(op.weight.shape[-2:])}
    fields = {n: v for n, v in op.parameters().items() if n not in op.arrays}
    inputs = {f"input {port}": list_text(shape) for port, shape in arriving.items() if port != "input"}
    big = {n: list_text(v.shape) for n, v in arrays.items() if not _fits(v, arriving.get("input", ()))}
    absent = {n: "none" for n in op.arrays if n not in arrays}
    return {**{n: repr(v) for n, v in sorted(fields.items())}, **inputs, **big, **absent}


def _fits(value: Array, shape: Shape) -> bool:
    try:
        return np.broadcast_shapes(value.shape, shape) == shape
    except ValueError:
        return False


def spread(op_kind: str, name: str, value: Array, shape: Shape) -> Array:
    """A parameter as its population sees it: scalars and single axes spread out, where they are parameters of one."""
    whole = name == "weight" or op_kind.startswith("Conv") or not _fits(value, shape)
    return value if whole else np.broadcast_to(value, shape)


class _Digests:
    """Digests of arrays, each computed once: an unrolled sampler holds every array many times."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, Shape], tuple[Array, bytes]] = {}

    def of(self, op: Op, arrays: Mapping[str, Array], shape: Shape) -> str:
        total = hashlib.sha256()
        for name, value in sorted(arrays.items()):
            total.update(name.encode() + self._one(spread(op.kind, name, value, shape), value))
        return total.hexdigest()

    def _one(self, seen: Array, stored: Array) -> bytes:
        key = (id(stored), seen.shape)
        if key not in self.known:
            first = seen.reshape(-1)[:1].astype(np.float64) if stored.size else np.zeros(0)
            same = stored.size > 0 and bool((stored == stored.reshape(-1)[0]).all())
            # one value is one value, in whichever shape; 0.0 makes -0.0 and 0.0 the same
            data = first + 0.0 if same else np.ascontiguousarray(seen, np.float64) + 0.0
            head = "uniform" if same else str(seen.shape)
            self.known[key] = (stored, hashlib.sha256(head.encode() + data.tobytes()).digest())
        return self.known[key][1]
