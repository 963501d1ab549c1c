"""`load_module`: the steps from a module to a sound graph."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnir.errors import CompileError, UsageError
from snnir.frontends.torch_fx.builder import Binding, Builder
from snnir.frontends.torch_fx.inputs import arguments, as_shape, by_argument, probed
from snnir.frontends.torch_fx.modules import is_leaf, over_time
from snnir.frontends.torch_fx.rules import semantics_of
from snnir.frontends.torch_fx.signals import BATCH, TIME, UNKNOWN, Signal, Unknown
from snnir.frontends.torch_fx.tracer import Tracer, short
from snnir.graph import Graph
from snnir.ops import Loc, Shape
from snnir.semantics import Semantics


@dataclass(frozen=True)
class Traced:
    """A graph, and the tensor or number of the module behind each array, by (op, field)."""

    graph: Graph
    bindings: Mapping[tuple[str, str], Binding]


def load_module(
    module: nn.Module,
    dt: float | None = None,
    semantics: Semantics | None = None,
    *,
    example_input: Any = None,
    input_shape: Any = None,
    loc: Loc | None = None,
) -> Graph:
    """Reads an nn.Module.

    Ops are named by module paths (`features.0.conv`; a layer that is called again gets `.1` behind its name and shares
    its arrays). A single input is called `input`, several by forward()'s arguments; outputs `output`, `output_0`, ...,
    or by the keys of the dict that forward() returns. Dropout is off and batch norms use their running statistics,
    whatever mode the module is in. Arguments of forward() that have a default keep it.

    Args:
        module: built from layers of `snnir.nn` and `torch.nn`, with a forward() without branches on values.
        dt: time step in seconds, for layers that do not say it.
        semantics: what a step means, over the layers' own words; default what the layers say.
        example_input: a tensor (T, B, *shape) (for a model without layers of `snnir.nn`: (B, *shape)), or a sequence or
            dict of them by argument; it gives the shapes, and the number of steps.
        input_shape: shape of an input without time and batch, or a sequence or dict of them. Default: the module's
            attribute `input_shape`, else what the first layers fix.
        loc: where the module is defined, for ops that no line of a forward() calls.

    The module's attribute `graph_metadata`, a dict, becomes the graph's metadata.

    Raises:
        CompileError: with everything that cannot become part of the graph, each with its line.
        UsageError: `module` is no nn.Module, or the shapes or examples are not of the forms above.
    """
    return trace(module, dt, semantics, example_input, input_shape, loc).graph


def trace(
    module: nn.Module,
    dt: float | None = None,
    semantics: Semantics | None = None,
    example_input: Any = None,
    input_shape: Any = None,
    loc: Loc | None = None,
) -> Traced:
    """As `load_module`, with the bindings."""
    if not isinstance(module, nn.Module):
        raise UsageError(f"expected an nn.Module, got a {type(module).__name__}")
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    root = nn.Sequential(OrderedDict({type(module).__name__.lower(): module})) if is_leaf(module) else module
    fallback = loc or _definition(module)
    builder = Builder(root)
    builder.loc = fallback
    names = arguments(root)
    with _evaluating(root):
        shapes, steps = _shapes(builder, root, module, names, example_input, input_shape)
        inputs = _inputs(builder, root, names, shapes, steps, fallback)
        builder.name = type(module).__name__
        result = Tracer(builder, fallback).run(root, inputs)
    _outputs(builder, result, fallback)
    rule = semantics_of(builder, dt, semantics)
    if builder.violations:
        raise CompileError(builder.violations, title=f"{type(module).__name__} cannot be compiled")
    graph = _live(Graph(builder.ops, tuple(builder.edges), rule, metadata=_metadata(module))).verify()
    return Traced(graph, {key: b for key, b in builder.bindings.items() if key[0] in graph})


def _metadata(module: nn.Module) -> Mapping[str, Any]:
    given = getattr(module, "graph_metadata", {})
    if not isinstance(given, Mapping):
        raise UsageError(f"{type(module).__name__}.graph_metadata is a {type(given).__name__}, expected a mapping")
    return given


@contextmanager
def _evaluating(root: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients; each layer's own mode comes back."""
    modes = {layer: layer.training for layer in root.modules()}
    root.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def _shapes(
    builder: Builder, root: nn.Module, module: nn.Module, names: tuple[str, ...], example: Any, given: Any
) -> tuple[dict[str, Shape], int | None]:
    """Shape per argument, without leading axes, and the number of steps where an example tells it."""
    timed = over_time(root)
    if given is None:
        given = getattr(module, "input_shape", None)
    steps: int | None = None
    shapes: dict[str, Shape] = {}
    if given is not None and not callable(given):
        shapes = {name: as_shape(shape) for name, shape in by_argument(given, names, Integral).items()}
    elif example is None and len(names) > 0:
        shapes = probed(root, names)
    if example is not None:
        for name, tensor in by_argument(example, names, (Tensor, np.ndarray)).items():
            leading = 2 if timed else 1
            if tensor.ndim <= leading:
                expected = "(T, B, *shape)" if timed else "(B, *shape)"
                builder.report("input-shape", f"the example has shape {list(tensor.shape)}", name, expected=expected)
                continue
            shapes[name] = tuple(tensor.shape[leading:])
            steps = int(tensor.shape[0]) if timed else None
    for name in shapes:
        if name not in names:
            there = ", ".join(names)
            builder.report("input-shape", f"{name!r} is no argument of forward()", name, expected=there)
    return shapes, steps


def _inputs(
    builder: Builder,
    root: nn.Module,
    names: tuple[str, ...],
    shapes: Mapping[str, Shape],
    steps: int | None,
    fallback: Loc,
) -> dict[str, Signal | Unknown]:
    lead = (TIME, BATCH) if over_time(root) else (BATCH,)
    found: dict[str, Signal | Unknown] = {}
    for name in names:
        if name in shapes:
            builder.loc = fallback
            found[name] = builder.input("input" if len(names) == 1 else name, shapes[name], lead, steps)
            continue
        found[name] = UNKNOWN
        builder.report(
            "input-shape",
            f"the shape of the input {name!r} is not known",
            name,
            fallback,
            expected="a shape without time and batch, e.g. (1, 28, 28)",
            hint="give the model an attribute input_shape, or pass input_shape=... or example_input=...",
        )
    if not names:
        builder.report("graph-inputs", "forward() has no argument that could be an input", "model", fallback)
    return found


def _outputs(builder: Builder, result: Any, fallback: Loc) -> None:
    builder.loc = fallback
    if isinstance(result, dict):
        named = {str(key): value for key, value in result.items()}
    elif isinstance(result, (tuple, list)):
        named = {f"output_{i}": value for i, value in enumerate(result)}
    else:
        named = {"output": result}
    for name, value in named.items():
        if isinstance(value, Signal):
            builder.output(name, value)
        elif not isinstance(value, Unknown):
            builder.report(
                "trace-output",
                f"forward() returns a {type(value).__name__}",
                name,
                fallback,
                expected="tensors of the model",
            )


def _live(graph: Graph) -> Graph:
    """Without ops that no output depends on; inputs stay if anything reads them."""
    alive: set[str] = set(graph.outputs)
    pending = list(alive)
    while pending:
        for edge in graph.incoming[pending.pop()]:
            if edge.source not in alive:
                alive.add(edge.source)
                pending.append(edge.source)
    edges = tuple(edge for edge in graph.edges if edge.target in alive)
    ops = {name: op for name, op in graph.ops.items() if name in alive}
    return Graph(ops, edges, graph.semantics, metadata=graph.metadata)


def _definition(module: nn.Module) -> Loc:
    """The line of the module's class, when it is not a library's."""
    kind = type(module)
    if kind.__module__.partition(".")[0] in ("torch", "snnir") and not kind.__module__.startswith("snnir.models"):
        file, line = getattr(module, "made_at", ("", 0))
        return Loc(short(file), line) if file else Loc()
    try:
        file, line = inspect.getsourcefile(kind) or "", inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):
        return Loc()
    return Loc(short(file), line)
