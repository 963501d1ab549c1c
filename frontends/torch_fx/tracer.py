"""The trace: torch.fx runs the model's own forward() on signals, and every call becomes ops at once.

Shapes are known while tracing, so `x.shape[2]` is a plain number; the lengths of the time and batch axes are not. What
cannot be traced is recorded with its line, and the trace goes on with an unknown value, so that all faults of a model
come together.
"""

from __future__ import annotations

import inspect
import operator
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import ParametrizationList

from snnir.frontends.torch_fx import arithmetic, foreign, loops, shapes, tokens, windows
from snnir.frontends.torch_fx.builder import Builder
from snnir.frontends.torch_fx.calls import call_function, call_name
from snnir.frontends.torch_fx.loops import STEP_HINT
from snnir.frontends.torch_fx.modules import call_module, is_leaf
from snnir.frontends.torch_fx.signals import SEQUENCE, UNKNOWN, Refuse, Signal, State, Unknown, Unreadable, holds
from snnir.ops import Loc

_SNNIR = Path(__file__).parents[2]
_HERE = str(Path(__file__).parent)
_INTERNAL = (str(Path(inspect.getfile(torch)).parent), str(_SNNIR / "nn"), str(_SNNIR / "frontends"), _HERE)
_LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
LOOP_HINT = "the layers of snnir.nn run over all steps at once; for feedback use snnir.nn.Recurrent"
READERS = (arithmetic, shapes, tokens, windows)  # importing them registers their handlers
RUN_HINT = "the compiler reads forward() by running it once on symbols; this line cannot run on them"
BRANCH_HINT = "a graph has no branches; decide by the module's own attributes"


@dataclass
class History:
    """Whether forward() computed with what an earlier call of it gave: signals, or states of layers."""

    signals: bool = False
    states: bool = False


class Tracer(fx.Tracer):
    """Runs a module's forward() on signals, once, and fills a `Builder`."""

    def __init__(self, builder: Builder, fallback: Loc | None = None) -> None:
        super().__init__()
        self.builder = builder
        self.fallback = fallback or Loc()
        self.inputs: dict[str, Signal | Unknown | State] = {}
        self.overwritten: list[tuple[fx.Node, Loc]] = []
        self._branches: dict[str, bool] = {}
        self._computing = 0
        self.history: History | None = None  # where forward() is called again: what the first call left
        self.over = False
        self.result: Any = UNKNOWN

    def run(self, root: nn.Module, inputs: dict[str, Signal | Unknown | State]) -> Any:
        """What forward() gives for the signals named like its arguments: signals in the structure it returns."""
        self.inputs = inputs
        try:
            self.trace(root)
        except Exception as error:  # of the user's forward: anything
            self._blame(error)
        self.over = True
        for node, loc in self.overwritten:
            if len(node.users) > 1:
                self.builder.report(
                    "trace-inplace",
                    "writes over a tensor that is read elsewhere",
                    loc=loc,
                    hint="leave inplace=True out",
                )
        return self.result

    # -- torch.fx's own hooks ----------------------------------------------------------------------------------------

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """One proxy per argument of forward(); arguments with a default keep it."""
        positional: list[Any] = [self.root]
        keywords: dict[str, Any] = {}
        for name, parameter in list(inspect.signature(root_fn).parameters.items())[1:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            value = parameter.default
            if value is parameter.empty:
                value = self.create_proxy("placeholder", name, (), {})
            if parameter.kind is parameter.KEYWORD_ONLY:
                keywords[name] = value
            else:
                positional.append(value)

        def forward(*args: Any) -> Any:
            self.result = self._values(root_fn(*args, **keywords))
            return None

        return forward, positional

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val  # parameters are constants of the graph

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._computing or isinstance(m, ParametrizationList):  # a weight is made from parameters
            self._computing += 1
            try:
                return forward(*args, **kwargs)
            finally:
                self._computing -= 1

        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return forward(*args, **kwargs)
            except Exception as error:  # of the user's forward: anything
                self._blame(error)
                return self._unknown()

        return super().call_module(m, guarded, args, kwargs)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, (Tensor, nn.Module)):
            node = self.graph.create_node("get_attr", "constant", (), {})
            node.meta["value"] = a
            return node
        return super().create_arg(a)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Any = None,
    ) -> Any:
        if self.history is not None:
            self._recall((*args, *kwargs.values()))
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        value = self._convert(proxy.node, self._values(args), self._values(kwargs))
        return self._wrap(proxy, value)

    def proxy(self, node: fx.Node) -> Traced:
        return Traced(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """A branch on a value: recorded; the trace goes on with either answer in turn."""
        loc = self._here()
        what = "a tensor's value decides a branch (if, while, assert, and, or)"
        self.builder.report("trace-branch", what, self._scope(), loc, hint=BRANCH_HINT)
        # False, True, False, ...: a loop ends, whichever way its condition is written.
        self._branches[str(loc)] = not self._branches.get(str(loc), True)
        return self._branches[str(loc)]

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """A loop over a tensor: recorded; the body is traced once."""
        steps = self._steps_of(obj)
        if steps:
            return iter(steps)
        hint = STEP_HINT if self.builder.foreign else LOOP_HINT
        self.builder.report("trace-loop", "loops over a tensor", self._scope(), self._here(), hint=hint)
        return iter([self._unknown()])

    def _steps_of(self, proxy: fx.Proxy) -> list[Any]:
        """The first steps of a sequence that forward() loops over; empty where it is none."""
        value = proxy.node.meta.get("value")
        loop = self.builder.loop
        if loop is None or not isinstance(value, Signal) or value.lead != SEQUENCE:
            return []
        return [self.proxy_of(loops.step(loop, value, at)) for at in range(loop.length)]

    def number(self) -> int:
        """A tensor's value is needed as a Python number: recorded; the trace goes on with 1."""
        hint = STEP_HINT if self.builder.foreign else BRANCH_HINT
        self.builder.report(
            "trace-number", "a tensor is used as a Python number", self._scope(), self._here(), hint=hint
        )
        return 1

    def _recall(self, used: tuple[Any, ...]) -> None:
        """Refuses signals of an earlier call; states of layers are the graph's own business."""
        values: list[Any] = []
        fx.node.map_aggregate(used, values.append)
        for value in values:
            if isinstance(value, Traced) and value.tracer.over and self.history is not None:
                if isinstance(value.node.meta.get("value"), State):
                    self.history.states = True
                else:
                    self.history.signals = True
        if self.history is not None and self.history.signals:
            raise Unreadable("forward() computes with what an earlier call of it gave")

    # -- values --------------------------------------------------------------------------------------------------------

    def _convert(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        builder = self.builder
        before = builder.name, builder.loc
        path = str(node.target) if node.op == "call_module" else self._scope()
        builder.name = path if node.op == "call_module" else f"{path}.{node.name}" if path else node.name
        builder.loc = self._here(self.root.get_submodule(path) if node.op == "call_module" else None, path)
        try:
            if node.op == "placeholder":
                return self.inputs.get(str(node.target), UNKNOWN)
            if holds((args, kwargs), Unknown) and not self._is_stateful_call(node, args):
                return UNKNOWN
            if holds((args, kwargs), State) and node.op != "call_module":
                if builder.loop is not None and call_name(node.target) == "stack":
                    return loops.stacked(builder.loop, args[0] if args else (), 0)
                return _of_state(node.target, args)
            if node.op == "call_module":
                layer = self.root.get_submodule(path)
                if getattr(layer, "inplace", False):
                    self.overwritten += [(n, builder.loc) for n in node.all_input_nodes]
                return call_module(builder, self, layer, args, kwargs)
            if kwargs.get("inplace"):
                self.overwritten += [(n, builder.loc) for n in node.all_input_nodes]
            return call_function(builder, node.target, args, kwargs)
        except Refuse as refusal:
            builder.report(refusal.rule, refusal.what, expected=refusal.expected, hint=refusal.hint)
            return UNKNOWN
        except Exception as error:  # a call with arguments that no handler takes
            builder.report("trace-unsupported", f"{call_name(node.target)}: {_message(error)}", hint=RUN_HINT)
            return UNKNOWN
        finally:
            builder.name, builder.loc = before

    def _is_stateful_call(self, node: fx.Node, args: tuple[Any, ...]) -> bool:
        """A foreign layer whose input is known: what is wrong with its state does not keep it from being read."""
        return node.op == "call_module" and bool(args) and isinstance(args[0], Signal) and self.builder.foreign

    def signal(self, proxy: Any) -> Any:
        """The value behind what the trace handed out."""
        return self._values(proxy)

    def proxy_of(self, value: Signal) -> Any:
        """A proxy that stands for `value`, to call modules with."""
        return self._wrap(self.proxy(self.graph.create_node("get_attr", "signal", (), {})), value)

    def _unknown(self) -> Any:
        return self._wrap(self.proxy(self.graph.create_node("get_attr", "unknown", (), {})), UNKNOWN)

    def _wrap(self, proxy: fx.Proxy, value: Any) -> Any:
        if isinstance(value, (Signal, Unknown, State)):
            proxy.node.meta["value"] = value
            return proxy
        if isinstance(value, (tuple, list)) and holds(value, (Signal, Unknown, State)):
            nodes = [self.graph.call_function(operator.getitem, (proxy.node, i)) for i in range(len(value))]
            return tuple(self._wrap(self.proxy(node), v) for node, v in zip(nodes, value, strict=True))
        return value

    def _values(self, value: Any) -> Any:
        """Proxies replaced by the signals they stand for."""
        if isinstance(value, fx.Proxy):
            return value.node.meta.get("value", UNKNOWN)
        if isinstance(value, dict):
            return {k: self._values(v) for k, v in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {k: self._values(getattr(value, k)) for k in value._fields}  # type: ignore[attr-defined]
        if isinstance(value, (tuple, list)):
            return type(value)(self._values(v) for v in value)
        return value

    # -- places --------------------------------------------------------------------------------------------------------

    def _scope(self) -> str:
        return str(self.scope.module_path or "")

    def _here(self, layer: nn.Module | None = None, path: str | None = None) -> Loc:
        """The line of the model's forward() that is being traced; else where the layer was made; else the fallback."""
        file, line = _user_line(_frames(sys._getframe(1)))
        if not file:
            file, line = getattr(layer, "made_at", ("", 0))
        place = self._scope() if path is None else path
        if not file:
            return Loc(self.fallback.file, self.fallback.line, place or self.fallback.module)
        return Loc(short(file), line, place)

    def _blame(self, error: Exception) -> None:
        frames = [(f.f_code.co_filename, n) for f, n in traceback.walk_tb(error.__traceback__)]
        file, line = _user_line(reversed(frames))
        loc = Loc(short(file), line, self._scope()) if file else self._here()
        if isinstance(error, Refuse):
            self.builder.report(error.rule, error.what, self._scope(), loc, expected=error.expected, hint=error.hint)
            return
        hint = STEP_HINT if self.builder.foreign and isinstance(error, Unreadable) else RUN_HINT
        if isinstance(error, NameError) and "installed as a submodule" in str(error):
            hint = "assign the layer to the module, or use nn.ModuleList instead of a list"
        self.builder.report("trace-python", _message(error), self._scope(), loc, hint=hint)


class Traced(fx.Proxy):
    """A tensor while tracing. Its shape is known but for time and batch."""

    tracer: Tracer

    def __getattr__(self, k: str) -> Any:
        value = self.node.meta.get("value")
        if isinstance(value, Signal) and k in ("shape", "ndim"):
            return value.sizes if k == "shape" else len(value.sizes)
        if isinstance(value, Signal) and k == "device":
            return torch.device("cpu")
        if isinstance(value, Signal) and k == "dtype":
            return torch.get_default_dtype()
        return super().__getattr__(k)

    def __len__(self) -> int:
        steps = self.tracer._steps_of(self)
        if steps:
            return len(steps)
        return self.tracer.number()

    def __index__(self) -> int:
        return self.tracer.number()

    def __int__(self) -> int:
        return self.tracer.number()

    def __float__(self) -> float:
        return float(self.tracer.number())

    def __setitem__(self, index: Any, value: Any) -> None:
        state = self.node.meta.get("value")
        if isinstance(state, State):
            state.parts.append(self.tracer.signal(value))
            return
        raise Unreadable("assigns into a tensor; build it with torch.cat or arithmetic")


def _of_state(target: Any, args: Any) -> Any:
    """What forward() does with a state beside handing it to its layer: picking from an argument, or nothing."""
    state = args[0] if args and isinstance(args[0], State) else None
    if state is not None and state.argument and call_name(target) == "getitem":
        part = State(argument=state.argument)
        state.parts.append(part)
        return part
    if state is not None and state.argument and not state.owner:
        raise unknown_shape(state.argument)
    owner = state.owner if state is not None else "a layer"
    what = f"forward() computes with the state of {owner}, which is no signal of the graph"
    raise Refuse(what, hint="compute with the layer's output; for a membrane as output use a layer that does not spike")


def unknown_shape(argument: str) -> Refuse:
    """The refusal of an input whose shape nobody has said."""
    return Refuse(
        f"the shape of the input {argument!r} is not known",
        "a shape without time and batch, e.g. (1, 28, 28)",
        "give the model an attribute input_shape, or pass input_shape=... or example_input=...",
        "input-shape",
    )


def short(file: str) -> str:
    """A file's path, relative where it lies under the working directory."""
    relative = os.path.relpath(file) if os.path.isabs(file) and os.path.splitdrive(file)[0] == "" else file
    return file if relative.startswith("..") else relative


def _frames(frame: FrameType | None) -> Iterator[tuple[str, int]]:
    while frame is not None and frame.f_code is not Tracer.run.__code__:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


def _user_line(frames: Any) -> tuple[str, int]:
    """The first (innermost) place that is neither PyTorch's nor ours; rather one outside installed packages."""
    internal = (*_INTERNAL, *foreign.folders(), "<")
    outside = [(file, line) for file, line in frames if not file.startswith(internal)]
    own = [place for place in outside if not place[0].startswith(_LIBRARIES)]
    return next(iter(own or outside), ("", 0))


def _message(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    if isinstance(error, Unreadable):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
