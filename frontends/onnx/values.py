"""What flows along an ONNX graph's edges while it is read: signals, constants, and what was refused.

Leading axes (time, batch) have no size in a graph of snnir. To follow them through the shape arithmetic of a file, each
stands for a large prime: a size that no layer has, and whose products tell of what they are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.ops import Array, Shape

PRIMES = {"T": 65537, "B": 65539}
Lead = tuple[str, ...]


class Refuse(Exception):
    """A node cannot become part of the graph; says why, what would be accepted, and what to do."""

    def __init__(self, what: str, expected: str = "", hint: str = "", rule: str = "onnx-node") -> None:
        super().__init__(what)
        self.what, self.expected, self.hint, self.rule = what, expected, hint, rule


class Skip(Exception):
    """A node reads what was refused before: nothing new is to be said."""


@dataclass(frozen=True)
class Signal:
    """A value at every step: the sum of the outputs of some ops.

    Attributes:
        sources: names of the ops; each once. shape: without leading axes.
        lead: the leading axes: 'T', 'B', or both in one, 'TB' (time first) or 'BT'.
        truth: whether it is a comparison's result, which may only be cast to a number.
    """

    sources: tuple[str, ...]
    shape: Shape
    lead: Lead
    truth: bool = False


@dataclass(frozen=True)
class Const:
    """An array that is known when the file is read; `sized` if it tells the length of a leading axis."""

    array: Array
    sized: bool = False


class Unknown:
    """What a refused node gives."""


UNKNOWN = Unknown()
Value = Signal | Const | Unknown


@dataclass(frozen=True)
class Axes:
    """The sizes that leading axes stand for: primes, or the size itself where the file fixes it."""

    sizes: dict[str, int]

    def lengths(self, lead: Lead) -> Shape:
        """The size of each leading axis."""
        return tuple(int(np.prod([self.sizes[letter] for letter in axis])) for axis in lead)

    def full(self, x: Signal) -> Shape:
        """The shape of a signal with its leading axes."""
        return (*self.lengths(x.lead), *x.shape)

    def tells(self, array: Array) -> bool:
        """Whether numbers that follow from the length of an open leading axis still tell it."""
        open_sizes = [n for n in self.sizes.values() if n in PRIMES.values()]
        if array.dtype.kind not in "iu":
            return bool(open_sizes) and bool(array.any())
        return any(((array != 0) & (array % n == 0)).any() for n in open_sizes)

    def split(self, shape: Shape, lead: Lead) -> tuple[Lead, Shape] | None:
        """The leading axes and the rest of a shape that a signal with leading axes `lead` was given; None: neither."""
        letters = "".join(lead)
        for form in ((letters,), tuple(letters)) if letters else ((),):
            lengths = self.lengths(form)
            if shape[: len(form)] == lengths:
                return form, shape[len(form) :]
        return None
