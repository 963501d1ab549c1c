"""Layers of other frameworks: the table that each of them fills, and how the tracer uses it.

`snnir.frontends.<framework>` holds a `TABLE` of how that framework's layers are read. It is imported when a layer of
the framework is met; the framework itself never is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from snnir.frontends.torch_fx import loops
from snnir.frontends.torch_fx.builder import Builder
from snnir.frontends.torch_fx.loops import STEP_HINT, Called
from snnir.frontends.torch_fx.signals import UNKNOWN, Lead, Refuse, Signal, State, Unknown
from snnir.learning import DERIVED
from snnir.ops import Neuron, Shape

if TYPE_CHECKING:
    from snnir.frontends.torch_fx.tracer import Tracer

Handler = Callable[["Call"], Any]
TABLES = {name: f"snnir.frontends.{name}" for name in ("norse", "snntorch", "spikingjelly", "sinabs")}
AGAIN = "is called a second time in one step, which would advance its state twice"
HARMLESS = ("__init__", "__repr__", "__module__", "__doc__", "__qualname__", "extra_repr", "reset_parameters")


@dataclass(frozen=True)
class Table:
    """How the layers of one framework are read.

    Attributes:
        title: the framework's name.
        prefix: the package that its layers come from.
        layers: class name -> the ops of a layer of that class.
        through: class names of containers whose forward() is traced like a user's.
        lead: the leading axes that a layer takes, where it fixes them.
        input_shape: the shape of a layer's input without leading axes, where the layer alone tells it.
        dt: the time step that a layer says, in seconds.
    """

    title: str
    prefix: str
    layers: Mapping[str, Handler]
    through: frozenset[str] = frozenset()
    lead: Callable[[nn.Module], Lead | None] = lambda m: None
    input_shape: Callable[[nn.Module], Shape | None] = lambda m: None
    dt: Callable[[nn.Module], float | None] = lambda m: None


def table_of(module: nn.Module) -> tuple[Table, str] | None:
    """The framework that a layer comes from, and the name of its class there; None for the user's own and PyTorch's.

    A user's subclass counts as its parent's class as long as it overrides nothing of it.
    """
    own: list[type] = []
    for cls in type(module).__mro__:
        name = cls.__module__
        top = name.partition(".")[0]
        if top in TABLES:
            table: Table = import_module(TABLES[top]).TABLE
            overridden = any(key not in HARMLESS and hasattr(cls, key) for c in own for key in vars(c))
            known = name.startswith(table.prefix) and not overridden
            return (table, cls.__name__) if known else None
        if top == "torch":
            return None
        own.append(cls)
    return None


def handler_of(module: nn.Module) -> Handler | None:
    """How a layer of another framework becomes ops; None when no table knows it."""
    found = table_of(module)
    return found[0].layers.get(found[1]) if found else None


def is_through(module: nn.Module) -> bool:
    """Whether a module is another framework's container, whose forward() can be traced."""
    found = table_of(module)
    return found is not None and found[1] in found[0].through


def is_foreign(root: nn.Module) -> bool:
    """Whether a model holds layers of other frameworks."""
    return any(handler_of(m) is not None for m in root.modules())


def leading(root: nn.Module) -> Lead | None:
    """The leading axes of the inputs of a model of another framework: the outermost layer's that fixes them."""
    for module in root.modules():
        found = table_of(module)
        lead = found[0].lead(module) if found and found[1] in found[0].layers else None
        if lead is not None:
            return lead
    return None


def fixed_shape(module: nn.Module) -> Shape | None:
    """The shape of a foreign layer's input, where the layer alone tells it."""
    found = table_of(module)
    return found[0].input_shape(module) if found else None


def step_of(root: nn.Module) -> float | None:
    """The time step of the first layer that says one, in seconds."""
    for module in root.modules():
        found = table_of(module)
        dt = found[0].dt(module) if found and found[1] in found[0].layers else None
        if dt is not None:
            return dt
    return None


@dataclass(frozen=True)
class Call:
    """One call of a foreign layer: what its handler works with.

    Attributes:
        b: the graph under construction.
        tracer: runs submodules.
        layer: the module that is called.
        x: its first argument.
        states: the other arguments.
    """

    b: Builder
    tracer: Tracer
    layer: Any
    x: Signal
    states: tuple[Any, ...]

    def inside(self, module: nn.Module, lead: Lead | None, x: Signal | None = None) -> Any:
        """What a submodule gives for `x` (default the call's) with other leading axes: its value, in x's axes."""
        given = self.x if x is None else x
        value = self.tracer.signal(module(self.tracer.proxy_of(with_lead(given, lead))))
        return _relead(value, given.lead)

    def takes(self, *leads: Lead) -> None:
        """Refuses a call with other leading axes than the layer takes."""
        if self.x.lead is not None and self.x.lead not in leads:
            raise Refuse(f"{self.kind} takes {' or '.join(map(axes, leads))}, but {axes(self.x.lead)} arrives")

    def once(self) -> None:
        """Refuses a second call of a layer with state."""
        if id(self.layer) in self.b.called:
            raise Refuse(f"{self.kind} {AGAIN}", hint=STEP_HINT)
        self.b.called[id(self.layer)] = self.layer

    def given_states(self) -> tuple[Any, ...]:
        """The states that were handed in, each checked: nothing, or what an argument of forward() brings."""
        for state in self.states:
            if isinstance(state, State):
                if state.owner and state.owner != self.b.name:
                    raise Refuse(f"{self.kind} gets the state of {state.owner}", expected="its own of the step before")
                state.owner = state.owner or self.b.name
            elif isinstance(state, Tensor):
                what = f"forward() makes the state of {self.kind} anew, so the layer forgets from step to step"
                raise Refuse(what, "the state as an argument of forward(), or none", STEP_HINT)
            elif state is not None and not isinstance(state, Unknown):
                raise Refuse(f"{self.kind} gets a {type(state).__name__} as its state", "an argument of forward()")
        return self.states

    def state(self, returned: bool = False) -> State:
        """The state that the layer hands out; `returned`: forward() must return it, or it is lost after the step."""
        made = State(self.b.name)
        if returned:
            self.b.lost[made] = (self.b.name, self.b.loc, self.kind)
        return made

    def carry(self, value: Any) -> None:
        """Says that a container hands the states in `value` to the next step itself."""
        keep(self.b, value)

    @property
    def kind(self) -> str:
        """The layer's class as its users write it."""
        return f"{type(self.layer).__module__.partition('.')[0]}'s {type(self.layer).__name__}"


def call_foreign(
    builder: Builder, tracer: Tracer, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The ops of one layer of another framework.

    Raises:
        Refuse: with the reason.
    """
    handler = handler_of(layer)
    given = [*args, *kwargs.values()]
    kind = f"{type(layer).__module__.partition('.')[0]}'s {type(layer).__name__}"
    if handler is None or not given:
        raise Refuse(f"{kind} is called without an input")
    x = given[0]
    if isinstance(x, (tuple, list)) and x and isinstance(x[0], Signal):
        hint = "a layer before gives (output, state); init_hidden=True (snnTorch) or SequentialState (Norse) keep it"
        raise Refuse(f"{kind} gets an output and a state as its input", hint=hint)
    if isinstance(x, Unknown):
        return UNKNOWN
    if not isinstance(x, Signal):
        raise Refuse(f"{kind} is called with something else than one tensor")
    if layer._forward_hooks or layer._forward_pre_hooks:
        what = f"{kind} has hooks, which can change what it computes"
        raise Refuse(what, hint="remove them before compiling")
    call, there = Call(builder, tracer, layer, x, tuple(given[1:])), set(builder.ops)
    value = handler(call) if builder.loop is None else _in_loop(handler, call)
    _note_learned(builder, layer, [name for name in builder.ops if name not in there])
    return value


def _note_learned(builder: Builder, layer: nn.Module, made: list[str]) -> None:
    """Notes which parameters of a layer its populations were computed from, unless they are arrays of the graph."""
    bound = {(id(b.owner), b.attribute) for (name, _), b in builder.bindings.items() if name in made}
    names = [k for k, p in layer.named_parameters(recurse=False) if p.requires_grad and (id(layer), k) not in bound]
    for name in made:
        op = builder.ops[name]
        if names and isinstance(op, Neuron):
            behind = tuple(f"{builder.name}.{k}" if builder.name else k for k in names)
            said = {**op.metadata.get(DERIVED, {}), "a time constant or threshold": behind}
            builder.ops[name] = op.with_(metadata={**op.metadata, DERIVED: said})


def _in_loop(handler: Handler, call: Call) -> Any:
    """A layer within a loop over time: its ops in the first round, the same ops in all others."""
    loop, name = call.b.loop, call.b.name
    if loop is None:
        return handler(call)
    x, at = loops.parted(call.x)
    called = loop.calls.get(id(call.layer))
    loops.check_states(called, call.states, name, call.kind)
    if called is None:
        value = handler(Call(call.b, call.tracer, call.layer, x, ()))
        called = Called(call.layer, x.sources, value, needs_state=any(state.owner == name for state in call.b.lost))
        loop.calls[id(call.layer)] = called
    else:
        if x.sources != called.sources:
            raise Refuse(f"{call.kind} gets another input than in the step before", hint=loops.MIX)
        called.count += 1
    now = called.count - 1
    if at not in (None, now):
        raise Refuse(f"{call.kind} gets the input of another step", hint=loops.MIX)
    return loops.marked(called.value, now)


def folders() -> list[str]:
    """Where the frameworks that are imported lie: lines in there are not the user's."""
    there = [getattr(sys.modules.get(name), "__path__", None) for name in TABLES]
    return [os.path.join(next(iter(path)), "") for path in there if path]


def unsupported(module: nn.Module, framework: str) -> Refuse:
    """The refusal of a layer that no table knows."""
    what = f"{type(module).__module__}.{type(module).__name__} is a layer of {framework} with no counterpart"
    if framework not in TABLES:
        return Refuse(what, "layers of snnir.nn and torch.nn", "export the model to NIR there, and load the .nir file")
    table: Table = import_module(TABLES[framework]).TABLE
    there = ", ".join(sorted({*table.layers, *table.through}))
    overrides = [c.__name__ for c in type(module).__mro__ if c.__name__ in table.layers]
    hint = f"it changes what {overrides[0]} computes; use {overrides[0]} itself" if overrides else ""
    return Refuse(what, there, hint)


def with_lead(x: Signal, lead: Lead | None) -> Signal:
    """The same signal under other leading axes."""
    return Signal(x.sources, x.shape, lead, x.steps)


def _relead(value: Any, lead: Lead | None) -> Any:
    if isinstance(value, Signal):
        return with_lead(value, lead)
    if isinstance(value, (tuple, list)):
        return type(value)(_relead(v, lead) for v in value)
    return value


def axes(lead: Lead) -> str:
    """Leading axes as an error shows them: (T, B, ...)."""
    return "(" + ", ".join(size.label for size in lead) + ", ...)"


def keep(builder: Builder, value: Any) -> None:
    """The states in `value` reach the next step."""
    if isinstance(value, State):
        builder.lost.pop(value, None)
        keep(builder, value.parts)
    elif isinstance(value, dict):
        keep(builder, list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            keep(builder, part)
