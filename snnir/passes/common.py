"""What the passes share: saying no with a reason, dtypes, arrays that broadcast, and running order."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from snnir.edit import Editor
from snnir.graph import Graph
from snnir.ops import Array, Flatten, Op, Reshape, Shape, Slice
from snnir.schedule import schedule


class Declined(Exception):
    """A rewrite that would not be exact, or not be worth it. The text is the reason, for the log."""


class Work(Editor):
    """An editor that also knows the shape of every value, and which ops must stay as they are."""

    def __init__(self, graph: Graph, frozen: frozenset[str] = frozenset()) -> None:
        super().__init__(graph)
        self.shapes: dict[str, Shape] = dict(graph.shapes)
        self.frozen = frozen

    def add(self, name: str, op: Op, made_from: Iterable[str] = (), shape: Shape | None = None) -> str:
        """Adds an op. `shape` is that of its output."""
        if shape is None:
            raise ValueError(f"the shape of {name} is not given")
        name = super().add(name, op, made_from)
        self.shapes[name] = shape
        return name

    def swap(self, name: str, op: Op, made_from: Iterable[str] = (), shape: Shape | None = None) -> None:
        """Puts another op at `name`, as `replace`; `shape` where it changes."""
        self.replace(name, op, made_from)
        if shape is not None:
            self.shapes[name] = shape

    def arriving(self, name: str, port: str = "input") -> Shape:
        """The shape that arrives at a port."""
        return next(self.shapes[e.source] for e in self.incoming(name) if e.port == port)

    def feeders(self, name: str, port: str = "input") -> list[str]:
        """The ops that feed a port."""
        return [e.source for e in self.incoming(name) if e.port == port]

    def readers(self, name: str) -> list[str]:
        """The ops that read the output of `name`, one per edge."""
        return [e.target for e in self.outgoing(name)]

    def only_reader(self, name: str) -> str:
        """The one op that reads `name`.

        Raises:
            Declined: there are several.
        """
        readers = self.readers(name)
        if len(readers) != 1:
            raise Declined(f"{name} is read by {listed(readers)}")
        return readers[0]

    def thaw(self, *names: str) -> None:
        """Raises Declined when one of the named ops must stay as it is."""
        held = [name for name in names if name in self.frozen]
        if held:
            raise Declined(f"{held[0]} lies on a cycle, where the step of a value could change")


def order(graph: Graph) -> tuple[str, ...]:
    """All op names, feeders first."""
    return schedule(graph).order


def listed(names: Iterable[str]) -> str:
    """Names for a message: all, or the first few."""
    there = list(dict.fromkeys(names))
    if not there:
        return "nothing"
    return ", ".join(there[:4]) + (f" and {len(there) - 4} more" if len(there) > 4 else "")


def float_type(*arrays: Array) -> np.dtype:
    """The float dtype of what is computed from `arrays`; scalars count only where there is nothing else."""
    real = [a.dtype for a in arrays if a.dtype.kind == "f" and a.ndim] or [a.dtype for a in arrays if a.ndim == 0]
    real = [d for d in real if d.kind == "f"]
    return np.result_type(*real) if real else np.dtype(np.float64)


def wide(array: Array) -> Array:
    """`array` in float64, in which all algebra is done before it is rounded once."""
    return array.astype(np.float64)


def compact(array: Array, shape: Shape) -> Array:
    """`array`, which broadcasts to `shape`, with as many axes; length 1 along those where it is constant."""
    full = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    for axis, n in enumerate(full.shape):
        first = full[(slice(None),) * axis + (slice(0, 1),)]
        if n > 1 and bool((full == first).all()):
            full = first
    return full


def per_channel(array: Array, shape: Shape) -> Array | None:
    """The vector (shape[0],) that `array` is along axis 0, or None when it also varies along others."""
    small = compact(array, shape)
    if small.size != small.shape[0]:
        return None
    return np.broadcast_to(small.reshape(-1), (shape[0],))


def along_channels(vector: Array, rank: int) -> Array:
    """A vector as an array that broadcasts along axis 0 of a value of that rank."""
    return vector.reshape(-1, *(1,) * (rank - 1))


def size(shape: Shape) -> int:
    """Number of elements."""
    return prod(shape)


def slice_axis(op: Slice, rank: int) -> tuple[slice, ...]:
    """The index that a `Slice` takes out of a value of that rank."""
    axis = op.axis % rank
    return (*(slice(None),) * axis, slice(op.start, op.stop, op.step))


def layout(op: Op, start: Shape, end: Shape) -> Op:
    """From shape `start` to `end`: a Flatten, which NIR has, where it can do it, else a Reshape; named after `op`."""
    for first in range(len(start)):
        for last in range(first, len(start)):
            flatten = Flatten(start_dim=first, end_dim=last, metadata=op.metadata, loc=op.loc)
            if flatten.infer({"input": start}) == end:
                return flatten
    return Reshape(shape=end, metadata=op.metadata, loc=op.loc)
