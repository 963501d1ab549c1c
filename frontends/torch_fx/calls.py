"""Calls of functions, operators and tensor methods: which handler reads them.

A handler is named like the function and takes its arguments, the tensor as a `Signal`. A function of torch and the
method of the same name share one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from snnir.frontends.torch_fx.builder import Builder
from snnir.frontends.torch_fx.signals import Refuse, Signal, Size, holds

Handler = Callable[..., Any]
HANDLERS: dict[str, Handler] = {}
_ALIASES: dict[Any, str] = {
    operator.truediv: "div",
    torch.concat: "cat",
    torch.concatenate: "cat",
    torch.true_divide: "div",
    torch.divide: "div",
    torch.multiply: "mul",
    torch.subtract: "sub",
    torch.negative: "neg",
    F.upsample: "interpolate",
}
_METHODS = {
    "truediv": "div",
    "divide": "div",
    "rtruediv": "rdiv",
    "radd": "add",
    "iadd": "add",
    "rmul": "mul",
    "imul": "mul",
    "multiply": "mul",
    "subtract": "sub",
}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Registers a function as the reading of calls by some names."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def call_function(builder: Builder, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The value of a call: signals (with the ops that make them), or plain values where no signal is involved.

    Raises:
        Refuse: the call has no counterpart in the graph.
    """
    name = call_name(target)
    if not isinstance(target, str) and not holds((args, kwargs), (Signal, Size)):
        return target(*args, **kwargs)
    if name == "getitem" and isinstance(args[0], (tuple, list, dict)):
        return args[0][args[1]]
    if isinstance(target, str) and target.endswith("_") and not target.endswith("__"):
        raise Refuse(f"{target}() changes a tensor in place", hint=f"use {name}()", rule="trace-inplace")
    handler = HANDLERS.get(name)
    if handler is None:
        raise Refuse(f"{name}() has no counterpart in the graph", hint="write it with the layers of snnir.nn")
    return handler(builder, *args, **{k: v for k, v in kwargs.items() if k not in ("inplace", "out", "dtype")})


def call_name(target: Any) -> str:
    """The name by which a function, operator or method is handled."""
    if not isinstance(target, str):
        return _ALIASES.get(target) or getattr(target, "__name__", repr(target)).strip("_")
    name = target.strip("_")
    return _METHODS.get(name, name)
