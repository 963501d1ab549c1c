"""The shapes of a model's inputs: given, said by the model, or fixed by the first layer."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import fx, nn

from snnir.errors import UsageError
from snnir.frontends.torch_fx.modules import input_shape_of, is_leaf, keeps_shape
from snnir.ops import Shape


def arguments(module: nn.Module) -> tuple[str, ...]:
    """Names of the arguments of forward() that are inputs: those without a default."""
    parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    free = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return tuple(p.name for p in free if p.default is p.empty)


def by_argument(value: Any, names: Sequence[str], single: type | tuple[type, ...]) -> dict[str, Any]:
    """`value`, one entry or several in a sequence or a mapping, by the names of forward()'s arguments.

    Args:
        single: the type of one entry, or of the parts of one entry.
    """
    if isinstance(value, Mapping):
        return {names[0] if name == "input" and len(names) == 1 else str(name): v for name, v in value.items()}
    if isinstance(value, single) or (isinstance(value, Sequence) and value and isinstance(value[0], single)):
        if isinstance(value, Sequence) and not isinstance(value[0], Integral):
            return dict(zip(names, value, strict=False))
        return {names[0]: value} if names else {}
    if isinstance(value, Sequence):
        return dict(zip(names, value, strict=False))
    raise UsageError(f"cannot read a {type(value).__name__} as the shapes or examples of {', '.join(names)}")


def as_shape(value: Any) -> Shape:
    """A shape from an int or a sequence of ints."""
    return tuple(int(n) for n in (value if isinstance(value, Sequence) else (value,)))


def probed(module: nn.Module, names: Sequence[str]) -> dict[str, Shape]:
    """Shapes that the first layers fix, found on a bare trace of the structure."""
    tracer = _Probe()
    try:
        tracer.trace(module)
    except Exception:  # what cannot be traced is said by the real trace
        pass
    found: dict[str, Shape] = {}
    for node in tracer.graph.nodes:
        if node.op == "placeholder" and node.target in names:
            shape = _fixed_by(module, node)
            if shape is not None:
                found[node.target] = shape
    return found


class _Probe(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m)

    def create_arg(self, a: Any) -> Any:
        return None if isinstance(a, (torch.Tensor, nn.Module)) else super().create_arg(a)


def _fixed_by(module: nn.Module, source: fx.Node) -> Shape | None:
    pending = [source]
    while pending:
        node = pending.pop(0)
        for user in node.users:
            if user.op == "call_function" and user.target is operator.getitem and user.args[1] == 0:
                pending.append(user)  # (output, state) of a layer with state
            if user.op != "call_module" or (user.args and user.args[0] is not node):
                continue  # a layer's state is no input
            layer = module.get_submodule(str(user.target))
            shape = input_shape_of(layer)
            if shape is not None:
                return shape
            if keeps_shape(layer):
                pending.append(user)
    return None
