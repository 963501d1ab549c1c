"""The graph under construction: ops with the names and lines of the model, and which tensor each array came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnir.errors import Violation
from snnir.frontends.torch_fx import loops
from snnir.frontends.torch_fx.loops import Loop
from snnir.frontends.torch_fx.signals import TIME, Lead, Refuse, Signal, State
from snnir.graph import Edge
from snnir.learning import DERIVED, LEARNED, by_default, note
from snnir.learning import LITERAL as IN_CODE
from snnir.naming import fresh
from snnir.ops import (
    Array,
    Constant,
    Input,
    Loc,
    Op,
    Output,
    Repeat,
    Scale,
    Shape,
    ShapeError,
    TemporalMean,
    Upsample2d,
)

LEFT_ALONE: Mapping[str, Any] = {LEARNED: False}
"""Metadata of an op whose arrays training leaves alone, as it does in the model."""
LITERAL: Mapping[str, Any] = {**LEFT_ALONE, IN_CODE: True}
"""The same, of a number that stands in the code: no tensor of the model holds it, so files of weights do not."""


@dataclass(frozen=True)
class Binding:
    """The tensor (or number) of a module that an array of the graph is a copy of, or the transpose of."""

    owner: nn.Module
    attribute: str
    name: str
    transposed: bool = False


@dataclass(frozen=True)
class Timed:
    """A layer that has a time step: its op's name, its line, and the layer."""

    name: str
    loc: Loc
    layer: Any


class Builder:
    """Collects ops, edges, violations. `name` and `loc` are those of the construct that is being read.

    `earlier`: of another call of the same module; equal arrays are its own, so that they are in memory once.
    """

    def __init__(self, root: nn.Module, earlier: Builder | None = None) -> None:
        self.ops: dict[str, Op] = {}
        self.edges: dict[Edge, None] = {}
        self.violations: list[Violation] = []
        self.bindings: dict[tuple[str, str], Binding] = {}
        self.timed: list[Timed] = []
        self.dt: float | None = None  # for layers of other frameworks, which count steps
        self.foreign = False  # a model of another framework: its leading axes are what they are there
        self.called: dict[int, nn.Module] = {}  # by id, layers with state, which one step can call once
        self.loop: Loop | None = None  # forward() loops over time
        self.dropout: dict[str, float] = {}  # what is dropped out in training, by the layer's path
        self._dropped_at: set[Loc] = set()
        self.lost: dict[State, tuple[str, Loc, str]] = {}  # states that forward() has to return
        self.name = ""
        self.loc = Loc()
        self._owners: dict[int, Binding] = {}  # by id of the tensor
        # forward() may put another tensor in its place (snnTorch's init_leaky() does): were the old one freed, a tensor
        # made later could have its id, and would be taken for it.
        self._alive: list[Tensor] = []
        self._arrays: dict[int, Array] = {}
        self._earlier = {} if earlier is None else earlier._arrays
        for path, module in root.named_modules():
            for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    name = f"{path}.{attribute}" if path else attribute
                    self._owners.setdefault(id(tensor), Binding(module, attribute, name))
                    self._alive.append(tensor)

    # -- violations ------------------------------------------------------------------------------------------------

    def report(self, rule: str, what: str, where: str = "", loc: Loc | None = None, **fields: str) -> None:
        """Records a violation, one per source line and rule."""
        place = str(loc or self.loc)
        known = any(
            v.loc == place and v.rule == rule and (v.what == what or rule == "trace-python") for v in self.violations
        )
        if not known:
            self.violations.append(Violation(rule, what, where or self.name, place, **fields))

    def dropped(self, x: Signal, p: float) -> Signal:
        """`x`, part of which training leaves out: outside training that does nothing."""
        if p and (self.loop is None or self.loc not in self._dropped_at):  # a round of a loop is like the others
            self.dropout[self.name] = float(p)
            self._dropped_at.add(self.loc)
        return x

    # -- ops -------------------------------------------------------------------------------------------------------

    def emit(
        self,
        kind: type[Op],
        x: Signal | Mapping[str, Signal],
        tensors: Mapping[str, Tensor | None] | None = None,
        part: str = "",
        **fields: Any,
    ) -> Signal:
        """Adds an op that reads `x` (one signal, or one per port) and gives its output.

        Args:
            kind: the op's type.
            tensors: array fields that are tensors of the model; None entries are left out.
            part: name of this op within the construct, when that needs several; the last one has none.
            fields: the other fields.

        Raises:
            Refuse: the op cannot take what arrives.
        """
        inputs = {"input": x} if isinstance(x, Signal) else dict(x)
        given = {field: tensor for field, tensor in (tensors or {}).items() if tensor is not None}
        if self.loop is None:
            return self._emit(kind, inputs, given, part, fields)
        inputs, at = loops.together(inputs)
        same = {k: id(t) if id(t) in self._owners else to_array(t).tobytes() for k, t in given.items()}
        key = loops.identity(kind, inputs, same, fields)
        if key not in self.loop.made:
            self.loop.made[key] = self._emit(kind, inputs, given, part, fields)
        y: Signal = loops.marked(self.loop.made[key], at)
        return y

    def _emit(
        self,
        kind: type[Op],
        inputs: Mapping[str, Signal],
        given: Mapping[str, Tensor],
        part: str,
        fields: Mapping[str, Any],
    ) -> Signal:
        arrays: dict[str, Any] = {field: self.array(tensor) for field, tensor in given.items()}
        op = kind(**arrays, **{**fields, "metadata": self._noted(kind, given, fields)}, loc=self.loc)
        faults = list(op.verify())
        if faults:
            raise Refuse("; ".join(faults), rule="op")
        try:
            shape = op.infer({port: signal.shape for port, signal in inputs.items()})
        except ShapeError as error:
            raise Refuse(str(error), rule="shape") from None
        if shape is None:
            raise Refuse("its shape cannot be inferred", rule="shape")
        name = self.add(op, part)
        for field, tensor in given.items():
            binding = self.binding(tensor)
            if binding is not None:
                self.bindings[name, field] = binding
        for port, signal in inputs.items():
            self.connect(signal, name, port)
        return Signal((name,), shape, _lead(inputs.values()), _steps(op, inputs.values()))

    def _noted(self, kind: type[Op], given: Mapping[str, Tensor], fields: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata of an op: what was said, and what of its arrays training changes in the model."""
        said = dict(fields.get("metadata", {}))
        if LEARNED not in said and (by_default(kind) or any(t.requires_grad for t in given.values())):
            said |= note(kind, (field for field, tensor in given.items() if tensor.requires_grad))
        derived = {field: self.made_from(tensor) for field, tensor in given.items()}
        if any(derived.values()):
            said[DERIVED] = {field: names for field, names in derived.items() if names}
        return said

    def add(self, op: Op, part: str = "") -> str:
        """Adds an op without edges under the current name, or a fresh one like it; returns the name it got."""
        stem = f"{self.name}.{part}" if part and self.name else part or self.name
        name = fresh(stem, self.ops)
        self.ops[name] = op
        return name

    def connect(self, x: Signal, name: str, port: str = "input") -> None:
        """Lets op `name` read `x`."""
        for source in x.sources:
            self.edges[Edge(source, name, port)] = None

    def input(self, name: str, shape: Shape, lead: Lead, steps: int | None) -> Signal:
        """Adds an input."""
        self.name = name
        return Signal((self.add(Input(shape=shape, loc=self.loc)),), shape, lead, steps)

    def output(self, name: str, x: Signal) -> None:
        """Adds an output."""
        self.name = name
        whole = (
            len(x.lead or ()) == 2 or x.steps is not None
        )  # a sequence, or what is left of one whose length is known
        if self.loop is not None and (loops.parted(x)[1] is not None or not whole):
            raise Refuse("gives one step of the loop, not all", hint=loops.MIX, rule="trace-output")
        self.connect(x, self.add(Output(loc=self.loc)))

    def constant(self, value: Tensor, like: Signal) -> Signal:
        """A tensor of the model as a signal that can be added to `like`."""
        if value.dim() == len(like.shape) + 2 and like.lead and like.lead[0] is TIME and value.shape[0] > 1:
            if value.shape[1] != 1:
                raise Refuse(f"a constant of shape {list(value.shape)} differs over the batch")
            array = np.broadcast_to(to_array(value[:, 0]), (value.shape[0], *like.shape)).copy()
            name = self.add(Constant(value=array, series=True, loc=self.loc), "constant")
            return Signal((name,), like.shape, like.lead, like.steps)
        array = self.fitted(value, like)
        key = ("constant", array.tobytes(), array.shape, like.shape)
        if self.loop is not None and key in self.loop.made:  # the loop's first round has made it
            return replace(self.loop.made[key], lead=like.lead, steps=like.steps)
        full = np.broadcast_to(array, like.shape).copy()
        whole = full.size == value.numel()
        metadata: dict[str, Any] = {LEARNED: True} if value.requires_grad else {}
        if names := self.made_from(value, whole):
            metadata[DERIVED] = {"value": names}
        name = self.add(Constant(value=full, metadata=metadata, loc=self.loc), "constant")
        if whole and id(value) in self._owners:
            self.bindings[name, "value"] = self._owners[id(value)]
        made = Signal((name,), like.shape, like.lead, like.steps)
        if self.loop is not None:
            self.loop.made[key] = made
        return made

    def bind(self, x: Signal, field: str, owner: nn.Module, attribute: str) -> None:
        """Says that array `field` of the op behind `x` is a copy of a number of the model."""
        path = x.sources[0]
        self.bindings[path, field] = Binding(owner, attribute, f"{path}.{attribute}")

    # -- arrays ----------------------------------------------------------------------------------------------------

    def binding(self, tensor: Tensor) -> Binding | None:
        """The tensor of the model that `tensor` is, or is the transpose of."""
        if id(tensor) in self._owners:
            return self._owners[id(tensor)]
        whole, turned = self._whole(tensor)
        return None if whole is None else replace(self._owners[id(whole)], transposed=turned)

    def _whole(self, tensor: Tensor) -> tuple[Tensor | None, bool]:
        """The tensor of the model that `tensor` is a view of all of, and whether as its transpose."""
        base = tensor._base
        if base is None or id(base) not in self._owners or base.requires_grad != tensor.requires_grad:
            return None, False
        here = tensor.shape, tensor.stride(), tensor.storage_offset()
        if here == (base.shape, base.stride(), base.storage_offset()):
            return base, False
        turned = base.t() if base.dim() == 2 else base
        return (base, True) if here == (turned.shape, turned.stride(), turned.storage_offset()) else (None, False)

    def made_from(self, tensor: Tensor, whole: bool = True) -> tuple[str, ...]:
        """Names of the parameters that training changes and that a tensor is computed from, or follows; () of one
        that is such a parameter itself, or its transpose (where that is the only use of it).

        Args:
            whole: whether all of the tensor is used as it is, instead of repeated.
        """
        if whole and self.binding(tensor) is not None:
            return ()
        leaves = list(_leaves(tensor))
        place = tensor.untyped_storage().data_ptr()
        leaves += [t for t in self._alive if t.requires_grad and t.untyped_storage().data_ptr() == place != 0]
        named = {id(t): self._owners[id(t)].name if id(t) in self._owners else "a parameter" for t in leaves}
        return tuple(sorted(set(named.values())))

    def torn(self) -> dict[tuple[str, str], str]:
        """Arrays (op, field) that are the transpose of a parameter that is used as it is, too, with its name."""
        straight = {b.name for b in self.bindings.values() if not b.transposed}
        turned: dict[str, list[tuple[str, str]]] = {}
        for key, binding in self.bindings.items():
            if binding.transposed and getattr(binding.owner, binding.attribute).requires_grad:
                turned.setdefault(binding.name, []).append(key)
        return {key: name for name, keys in turned.items() if name in straight for key in keys}

    def array(self, tensor: Tensor) -> Array:
        """A copy of a tensor; tensors of the model that are used twice share one copy."""
        if id(tensor) not in self._owners:
            whole, turned = self._whole(tensor)
            if whole is None:
                return to_array(tensor)
            return np.ascontiguousarray(self.array(whole).T) if turned else self.array(whole)
        if id(tensor) not in self._arrays:
            self._arrays[id(tensor)] = self._shared(tensor)
        return self._arrays[id(tensor)]

    def _shared(self, tensor: Tensor) -> Array:
        """The array that an earlier call made of the same tensor, if the numbers are the same still."""
        made = self._earlier.get(id(tensor))
        if made is not None and tensor.device.type == "cpu" and tensor.dtype == torch.from_numpy(made).dtype:
            there = tensor.detach().numpy()
            if made.shape == there.shape and np.array_equal(made, there):
                return made
        return to_array(tensor)

    def fitted(self, value: Tensor, like: Signal) -> Array:
        """A constant as an array that broadcasts to the shape of `like`, its leading axes of length 1 taken away.

        Raises:
            Refuse: it does not broadcast.
        """
        array = self.array(value)
        while array.ndim > len(like.shape) and array.shape[0] == 1:
            array = array[0]
        try:
            fits = np.broadcast_shapes(array.shape, like.shape) == like.shape
        except ValueError:
            fits = False
        if not fits:
            raise Refuse(f"a constant of shape {list(value.shape)} does not fit samples of shape {list(like.shape)}")
        return array

    # -- sums ------------------------------------------------------------------------------------------------------

    def total(self, a: Signal, b: Signal) -> Signal:
        """a + b: no op, both feed whoever reads the sum; only broadcasting and x + x need one."""
        if a.shape != b.shape:
            a, b = self._broadcast(a, b)
        twice = [source for source in a.sources if source in b.sources]
        once = [source for source in (*a.sources, *b.sources) if source not in twice]
        if twice:
            both = Signal(tuple(twice), a.shape, a.lead, a.steps)
            doubled = self.emit(Scale, both, part="twice", scale=np.float64(2.0), metadata=LITERAL)
            once += doubled.sources
        return Signal(tuple(once), a.shape, _lead([a, b]), a.steps if a.steps == b.steps else None)

    def _broadcast(self, a: Signal, b: Signal) -> tuple[Signal, Signal]:
        try:
            joint = np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            joint = None
        if joint is None or len(a.shape) != len(b.shape):
            raise Refuse(f"samples of shape {list(a.shape)} and {list(b.shape)} cannot be summed", rule="shape")
        return self.spread(a, joint), self.spread(b, joint)

    def spread(self, x: Signal, shape: Shape) -> Signal:
        """`x` broadcast to `shape`: one value per channel goes everywhere.

        Raises:
            Refuse: any other broadcast.
        """
        if x.shape == shape:
            return x
        if len(shape) == 3 and x.shape == (shape[0], 1, 1):
            return self.emit(Upsample2d, x, part="spread", factor=shape[1:])
        raise Refuse(
            f"a signal of shape {list(x.shape)} cannot be broadcast to {list(shape)}",
            expected="equal shapes, or (C, 1, 1) and (C, H, W)",
        )


def _leaves(tensor: Tensor) -> Iterator[Tensor]:
    """The parameters that a tensor was computed from, as autograd has noted them."""
    if tensor.is_leaf:
        if tensor.requires_grad:
            yield tensor
        return
    pending: list[Any] = [tensor.grad_fn]
    seen = set(pending)
    while pending:
        node = pending.pop()
        if hasattr(node, "variable"):
            yield node.variable
        for before, _ in getattr(node, "next_functions", ()):
            if before is not None and before not in seen:
                seen.add(before)
                pending.append(before)


def to_array(tensor: Tensor) -> Array:
    """A tensor's values as an array of its own; half precision becomes float32.

    Raises:
        Refuse: it holds no numbers, or some in a form that NumPy has not.
    """
    if tensor.device.type == "meta":
        raise Refuse("its tensors are on the device 'meta', which holds no numbers", "loaded weights", rule="weights")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        form = "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        raise Refuse(f"holds a {form} tensor", "plain tensors of numbers", rule="weights")
    if tensor.is_floating_point() and tensor.element_size() < 2:
        raise Refuse(f"holds {str(tensor.dtype).removeprefix('torch.')}", "float16 or longer", rule="weights")
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy().copy()


def _lead(signals: Any) -> Lead | None:
    leads = {signal.lead for signal in signals}
    if len(leads) == 1:
        return leads.pop()
    if None in leads:
        return None
    shown = " and ".join("(" + ", ".join(size.label for size in lead) + ", ...)" for lead in leads if lead)
    raise Refuse(f"tensors with different leading axes meet: {shown}")


def _steps(op: Op, signals: Any) -> int | None:
    steps = {signal.steps for signal in signals}
    here = steps.pop() if len(steps) == 1 else None
    if here is None:
        return None
    if isinstance(op, Repeat):
        return here * op.steps
    return here // op.steps if isinstance(op, TemporalMean) else here
