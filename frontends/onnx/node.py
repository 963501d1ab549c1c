"""One node as its reader sees it: inputs by place, attributes by name, whatever the opset writes where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.frontends.onnx.values import Const, Refuse, Signal, Skip, Unknown, Value
from snnir.ops import Array


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    Attributes:
        inputs: None where one is left out. attributes: tensors among them as arrays. outputs: names of its values.
        opset: version of the standard's operators.
    """

    kind: str
    inputs: Sequence[Value | None]
    attributes: dict[str, Any]
    outputs: Sequence[str]
    opset: int

    def given(self, place: int) -> Value | None:
        """What is at a place; None where it is left out.

        Raises:
            Skip: it comes from a node that was refused.
        """
        value = self.inputs[place] if place < len(self.inputs) else None
        if isinstance(value, Unknown):
            raise Skip
        return value

    def signal(self, place: int = 0) -> Signal:
        """The signal at a place.

        Raises:
            Refuse: a constant is there.
        """
        value = self.given(place)
        if not isinstance(value, Signal):
            raise Refuse(f"its input {place} is a constant", expected="a value that follows from the inputs")
        return value

    def const(self, place: int, what: str) -> Array:
        """The constant at a place, called `what` in errors.

        Raises:
            Refuse: it is left out, or follows from the inputs.
        """
        value = self.given(place)
        if not isinstance(value, Const):
            said = "is left out" if value is None else "follows from the network's inputs"
            raise Refuse(f"its {what} {said}", expected=f"a constant {what}")
        return value.array

    def maybe(self, place: int, what: str) -> Array | None:
        """As `const`; None where it is left out."""
        return None if self.given(place) is None else self.const(place, what)

    def ints(self, place: int, name: str) -> list[int] | None:
        """Whole numbers that newer opsets take as an input and older ones as an attribute; None where none are."""
        array = self.maybe(place, name) if place < len(self.inputs) else None
        found = self.attributes.get(name) if array is None else array.reshape(-1).tolist()
        if found is None:
            return None
        return [int(n) for n in (found if isinstance(found, (list, tuple)) else [found])]

    def number(self, place: int, name: str) -> float | None:
        """As `ints`, for a single number."""
        array = self.maybe(place, name) if place < len(self.inputs) else None
        if array is not None:
            return float(np.asarray(array).reshape(-1)[0])
        found = self.attributes.get(name)
        return None if found is None else float(found)

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)
