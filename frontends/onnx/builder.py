"""The graph under construction: ops under their nodes' names, sums as edges, and all that is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from snnir.errors import Violation
from snnir.frontends.onnx.values import Axes, Const, Lead, Refuse, Signal
from snnir.graph import Edge
from snnir.naming import fresh
from snnir.ops import Array, Constant, Loc, Op, Reshape, Scale, Shape, ShapeError, Upsample2d


class Builder:
    """Collects ops, edges and violations; `name` and `loc` are those of the node that is being read."""

    def __init__(self, axes: Axes, lead: Lead) -> None:
        self.axes, self.lead = axes, lead
        self.ops: dict[str, Op] = {}
        self.edges: dict[Edge, None] = {}
        self.violations: list[Violation] = []
        self.comparisons: dict[str, str] = {}  # '>' or '>=' -> the first node that compares so
        self.reserved: set[str] = set()
        self.kept: set[str] = set()  # ops whose value more than one node reads: they stay as they are
        self.name, self.loc = "", Loc()

    def refuse(self, error: Refuse, kind: str) -> None:
        """Records why the node at hand cannot be read."""
        where = f"{self.name} ({kind})"
        self.violations.append(Violation(error.rule, error.what, where, str(self.loc), error.expected, error.hint))

    # -- ops -------------------------------------------------------------------------------------------------------

    def add(self, op: Op, part: str = "", name: str = "") -> str:
        """Adds an op without edges; gives its name, which no other op, input or output has."""
        stem = name or (f"{self.name}.{part}" if part else self.name)
        found = stem if name else fresh(stem, {*self.ops, *self.reserved})
        self.ops[found] = op
        return found

    def connect(self, x: Signal, name: str, port: str = "input") -> None:
        """Lets an op read a signal."""
        if x.truth:
            raise Refuse("reads truth values", expected="numbers: Greater or GreaterOrEqual followed by a Cast")
        for source in x.sources:
            self.edges[Edge(source, name, port)] = None

    def emit(self, op: Op, x: Signal | Mapping[str, Signal], part: str = "") -> Signal:
        """Adds an op that reads `x`, one signal or one per port; gives its output.

        Raises:
            Refuse: the op cannot take what arrives.
        """
        inputs = {"input": x} if isinstance(x, Signal) else dict(x)
        faults = list(op.verify())
        if faults:
            raise Refuse("; ".join(faults))
        try:
            shape = op.infer({port: signal.shape for port, signal in inputs.items()})
        except ShapeError as error:
            raise Refuse(str(error), rule="onnx-shape") from None
        leads = {signal.lead for signal in inputs.values()}
        if len(leads) > 1:
            raise Refuse(f"signals with leading axes {' and '.join(', '.join(lead) for lead in sorted(leads))} meet")
        if shape is None:
            raise Refuse("its shape cannot be inferred", rule="onnx-shape")
        name = self.add(op, part)
        for port, signal in inputs.items():
            self.connect(signal, name, port)
        return Signal((name,), shape, leads.pop())

    def constant(self, array: Array, lead: Lead, part: str = "constant") -> Signal:
        """An array as a signal that is the same in every step and for every sample."""
        return Signal((self.add(Constant(value=array, loc=self.loc), part),), array.shape, lead)

    def reshaped(self, x: Signal, shape: Shape, part: str = "") -> Signal:
        """The same elements in another shape; no op where nothing changes."""
        return x if x.shape == shape else self.emit(Reshape(shape=shape, loc=self.loc), x, part)

    # -- operands --------------------------------------------------------------------------------------------------

    def fitted(self, value: Const, x: Signal) -> Array:
        """A constant operand as it broadcasts against a signal's shape, its leading axes taken away.

        Raises:
            Refuse: it differs between steps or samples, or depends on how many there are.
        """
        array, full = value.array, self.axes.full(x)
        if value.sized and array.size and self.axes.tells(array):
            raise Refuse("computes with the batch size (or the number of steps)", expected="numbers that are known")
        extra = array.ndim - len(x.shape)
        for axis in range(max(extra, 0)):
            if array.shape[0] == 1:
                array = array[0]
                continue
            same_size = extra <= len(x.lead) and array.shape[0] == full[len(x.lead) - extra + axis]
            if not same_size or not (array == array[:1]).all():
                raise Refuse(f"a constant of shape {list(value.array.shape)} does not fit samples of {list(x.shape)}")
            array = array[0]
        return array

    def operand(self, value: Const, x: Signal) -> Array:
        """As `fitted`, and it changes no shape: the constant broadcasts to the signal."""
        array = self.fitted(value, x)
        try:
            fits = np.broadcast_shapes(array.shape, x.shape) == x.shape
        except ValueError:
            fits = False
        if not fits:
            raise Refuse(f"a constant of shape {list(array.shape)} does not fit samples of {list(x.shape)}")
        return array

    def spread(self, x: Signal, shape: Shape) -> Signal:
        """`x` broadcast to `shape`: the same shape, or one value per channel that goes everywhere.

        Raises:
            Refuse: any other broadcast.
        """
        if x.shape == shape:
            return x
        if len(shape) == 3 and x.shape == (shape[0], 1, 1):
            return self.emit(Upsample2d(factor=shape[1:], loc=self.loc), x, "spread")
        what = f"a signal of shape {list(x.shape)} cannot be broadcast to {list(shape)}"
        raise Refuse(what, expected="equal shapes, or (C, 1, 1) and (C, H, W)")

    def total(self, signals: Sequence[Signal]) -> Signal:
        """The sum of signals: no op, all of them feed whoever reads it; only broadcasting and x + x need one."""
        first, *others = signals
        for other in others:
            first = self._sum(first, other)
        return first

    def _sum(self, a: Signal, b: Signal) -> Signal:
        if a.lead != b.lead:
            raise Refuse(f"signals with leading axes {', '.join(a.lead)} and {', '.join(b.lead)} meet")
        if a.shape != b.shape:
            try:
                joint = np.broadcast_shapes(a.shape, b.shape)
            except ValueError:
                joint = ()
            if len(a.shape) != len(b.shape) or not joint:
                raise Refuse(f"samples of shape {list(a.shape)} and {list(b.shape)} cannot be summed")
            a, b = self.spread(a, joint), self.spread(b, joint)
        twice = tuple(source for source in a.sources if source in b.sources)
        once = tuple(source for source in (*a.sources, *b.sources) if source not in twice)
        if twice:
            double = Scale(scale=np.asarray(2.0), loc=self.loc)
            once += self.emit(double, Signal(twice, a.shape, a.lead), "twice").sources
        return Signal(once, a.shape, a.lead)

    def scaled(self, x: Signal, factor: Any, part: str = "") -> Signal:
        """x * factor; no op where that is 1."""
        array: Any = np.asarray(factor)
        return x if (array == 1).all() else self.emit(Scale(scale=array, loc=self.loc), x, part)

    def minus(self, x: Signal, part: str = "minus") -> Signal:
        """-x."""
        return self.scaled(x, np.float64(-1.0), part)
