"""`load_module`: the steps from a module to a sound graph."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnir.errors import CompileError, UsageError
from snnir.frontends.torch_fx import foreign
from snnir.frontends.torch_fx.again import kept
from snnir.frontends.torch_fx.builder import Binding, Builder
from snnir.frontends.torch_fx.inputs import arguments, as_shape, by_argument, probed
from snnir.frontends.torch_fx.loops import ROUNDS, STEP_HINT, Loop
from snnir.frontends.torch_fx.modules import is_leaf, over_time
from snnir.frontends.torch_fx.rules import semantics_of
from snnir.frontends.torch_fx.signals import SEQUENCE, STEP, TIME, UNKNOWN, Lead, Refuse, Signal, State, Unknown
from snnir.frontends.torch_fx.tracer import Tracer, short, unknown_shape
from snnir.frontends.torch_fx.untouched import untouched
from snnir.graph import Edge, Graph
from snnir.learning import DERIVED, DROPOUT
from snnir.naming import fresh
from snnir.ops import Loc, Repeat, Shape
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
        module: built from layers of `snnir.nn`, `torch.nn`, Norse, snnTorch, SpikingJelly or sinabs, with a forward()
            without branches on values. States that forward() takes and returns are the graph's own, and no outputs.
        dt: time step in seconds, for layers that do not say it.
        semantics: what a step means, over the layers' own words; default what the layers say.
        example_input: a tensor (T, B, *shape) (for a model without layers of `snnir.nn`: (B, *shape); for layers of
            other frameworks the axes that they take), or a sequence or
            dict of them by argument; it gives the shapes, and the number of steps.
        input_shape: shape of an input without time and batch, or a sequence or dict of them. Default: the module's
            attribute `input_shape`, else what the first layers fix.
        loc: where the module is defined, for ops that no line of a forward() calls.

    The module's attribute `graph_metadata`, a dict, becomes the graph's metadata. What is dropped out in training is
    there as `dropout`, by layer.

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
    try:
        return _attempt(module, dt, semantics, example_input, input_shape, loc, None)
    except CompileError as error:
        if not foreign.is_foreign(module) or over_time(module):
            raise
        errors = [error]
    length = example_input.shape[0] if isinstance(example_input, (Tensor, np.ndarray)) else ROUNDS
    for static in (False, True):  # forward() may be the loop over time itself
        loop = Loop(static, int(length))
        try:
            return _attempt(module, dt, semantics, example_input, input_shape, loc, loop)
        except CompileError as error:
            errors += [error] if loop.seen else []
    # What is wrong beside the loop tells more than that there is one.
    raise min(errors, key=lambda e: (any(v.hint == STEP_HINT for v in e.violations), len(e.violations)))


def _attempt(
    module: nn.Module,
    dt: float | None,
    semantics: Semantics | None,
    example_input: Any,
    input_shape: Any,
    loc: Loc | None,
    loop: Loop | None,
) -> Traced:
    """One trace: of a step or of layers over sequences, or of a forward() that loops over time."""
    root = nn.Sequential(OrderedDict({type(module).__name__.lower(): module})) if is_leaf(module) else module
    fallback = loc or _definition(module)
    builder = Builder(root)
    builder.loc = fallback
    builder.loop = loop
    names = arguments(root)
    builder.foreign = not over_time(root) and foreign.is_foreign(root)
    said = None if semantics is None else semantics.dt
    builder.dt = said if said is not None else foreign.step_of(root) if dt is None else dt
    with _evaluating(root), untouched(builder, root):
        shapes, steps = _shapes(builder, root, module, names, example_input, input_shape)
        inputs = _inputs(builder, root, names, shapes, steps, fallback)
        builder.name = place = type(module).__name__
        tracer = Tracer(builder, fallback)
        result = tracer.run(root, inputs)
        state = None
        if not builder.violations:
            state = kept(tracer, root, lambda b: _inputs(b, root, names, shapes, steps, fallback), fallback, place)
    if state is not None and not builder.violations:
        builder.violations.append(state)
    foreign.keep(builder, result)
    if loop is not None:
        builder.lost.clear()  # the loop hands the states on
    _outputs(builder, _signals_of(result), fallback)
    _unused(builder, inputs, fallback)
    rule = semantics_of(builder, dt, semantics)
    if builder.violations:
        raise CompileError(builder.violations, title=f"{type(module).__name__} cannot be compiled")
    for (name, field), owner in builder.torn().items():
        op = builder.ops[name]
        derived = {**op.metadata.get(DERIVED, {}), field: (owner,)}
        builder.ops[name] = op.with_(metadata={**op.metadata, DERIVED: derived})
    graph = _live(Graph(builder.ops, tuple(builder.edges), rule, metadata=_metadata(module, builder)))
    graph = (_repeated(graph, loop.rounds or 1) if loop is not None and loop.static else graph).verify()
    return Traced(graph, {key: b for key, b in builder.bindings.items() if key[0] in graph})


def _repeated(graph: Graph, rounds: int) -> Graph:
    """The graph with every input held for as many steps as the loop runs."""
    ops = dict(graph.ops)
    edges = list(graph.edges)
    for name in graph.inputs:
        held = fresh(f"{name}.held", ops)
        ops[held] = Repeat(steps=rounds, loc=graph[name].loc)
        edges = [replace(edge, source=held) if edge.source == name else edge for edge in edges]
        edges.append(Edge(name, held))
    return Graph(ops, tuple(edges), graph.semantics, metadata=graph.metadata)


def _metadata(module: nn.Module, builder: Builder) -> Mapping[str, Any]:
    given = getattr(module, "graph_metadata", {})
    if not isinstance(given, Mapping):
        raise UsageError(f"{type(module).__name__}.graph_metadata is a {type(given).__name__}, expected a mapping")
    return {**given, DROPOUT: builder.dropout} if builder.dropout else given


@contextmanager
def _evaluating(root: nn.Module) -> Iterator[None]:
    """Evaluation mode; each layer's own mode comes back.

    Gradients are on, whatever is around the call: what a weight is computed from, and whether training reaches it, is
    what autograd notes.
    """
    modes = {layer: layer.training for layer in root.modules()}
    root.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def _shapes(
    builder: Builder, root: nn.Module, module: nn.Module, names: tuple[str, ...], example: Any, given: Any
) -> tuple[dict[str, Shape], int | None]:
    """Shape per argument, without leading axes, and the number of steps where an example tells it."""
    lead = _lead(builder, root)
    timed = TIME in lead
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
            leading = len(lead)
            if tensor.ndim <= leading:
                expected = foreign.axes(lead).replace("...", "*shape")
                builder.report("input-shape", f"the example has shape {list(tensor.shape)}", name, expected=expected)
                continue
            shapes[name] = tuple(tensor.shape[leading:])
            steps = int(tensor.shape[lead.index(TIME)]) if timed else None
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
) -> dict[str, Signal | Unknown | State]:
    lead = _lead(builder, root)
    found: dict[str, Signal | Unknown | State] = {}
    for name in names:
        if name in shapes:
            builder.loc = fallback
            found[name] = builder.input("input" if len(names) == 1 else name, shapes[name], lead, steps)
            continue
        if builder.foreign and name != names[0]:  # a state, if a layer takes it as one
            found[name] = State(argument=name)
            continue
        found[name] = UNKNOWN
        _report_shape(builder, name, fallback)
    if not names:
        builder.report("graph-inputs", "forward() has no argument that could be an input", "model", fallback)
    return found


def _lead(builder: Builder, root: nn.Module) -> Lead:
    """The leading axes of the model's inputs."""
    if over_time(root):
        return SEQUENCE
    if builder.loop is not None:
        return builder.loop.lead
    return (foreign.leading(root) if builder.foreign else None) or STEP


def _report_shape(builder: Builder, name: str, fallback: Loc) -> None:
    refusal = unknown_shape(name)
    builder.report(refusal.rule, refusal.what, name, fallback, expected=refusal.expected, hint=refusal.hint)


def _unused(builder: Builder, inputs: Mapping[str, Signal | Unknown | State], fallback: Loc) -> None:
    """States that went nowhere: arguments that no layer took, and those that forward() does not return."""
    for name, value in inputs.items():
        if isinstance(value, State) and not _is_used(value):
            _report_shape(builder, name, fallback)
    for name, loc, kind in builder.lost.values():
        builder.report(
            "state-lost",
            f"the state of {kind} is not returned, so every step would start anew",
            name,
            loc,
            expected="forward(x, state=None) that hands the state on and returns (y, state)",
            hint="norse.torch.SequentialState and norse.torch.Lift do it; layers over sequences keep it themselves",
        )


def _is_used(state: State) -> bool:
    return bool(state.owner) or any(_is_used(part) if isinstance(part, State) else True for part in state.parts)


def _signals_of(result: Any) -> Any:
    """What forward() returns without the states of its layers, which are no outputs of the network."""
    if isinstance(result, dict):
        named = {key: _signals_of(value) for key, value in result.items()}
        return {key: value for key, value in named.items() if value is not None}
    if isinstance(result, (tuple, list)):
        if not _holds_state(result):
            return result
        kept = [value for value in map(_signals_of, result) if value is not None and value != []]
        return kept[0] if len(kept) == 1 else kept
    return None if isinstance(result, State) else result


def _holds_state(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_state, value.values()))
    return isinstance(value, State) or (isinstance(value, (tuple, list)) and any(map(_holds_state, value)))


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
            try:
                builder.output(name, value)
            except Refuse as refusal:
                builder.report(refusal.rule, refusal.what, name, fallback, hint=refusal.hint)
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
    if kind.__module__.partition(".")[0] in ("torch", "snnir", *foreign.TABLES) and not kind.__module__.startswith(
        "snnir.models"
    ):
        file, line = getattr(module, "made_at", ("", 0))
        return Loc(short(file), line) if file else Loc()
    try:
        file, line = inspect.getsourcefile(kind) or "", inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):
        return Loc()
    return Loc(short(file), line)
