"""A trace leaves the user's modules and their classes as they were, and sees what forward() keeps from call to call.

forward() may write to its module: snnTorch's init_leaky() makes new states, hand-written neurons keep their membrane in
an attribute, others count calls or note values for a plot. Whatever it writes is taken back. What it reads first and
then gives a value of the network is a state, which no op of a traced forward() is: that is refused.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from snnir.frontends.torch_fx.builder import Builder
from snnir.frontends.torch_fx.modules import home, is_leaf
from snnir.frontends.torch_fx.signals import State
from snnir.ops import Loc

_CONTAINERS = (list, dict, set)
_TORCHS_OWN = frozenset(vars(nn.Module()))  # hooks and the like
_NOTHING = object()
_DEPTH = 4  # of containers and objects within one another that are looked into
HINT = (
    "let a neuron of snnir.nn, or of a framework, carry its state over time; values for a plot are recorded outside "
    "forward(): snnir.interpret(graph, x, record=...)"
)


@contextmanager
def untouched(builder: Builder, root: nn.Module) -> Iterator[None]:
    """Takes back what a trace does to `root`; reports values that its forward() keeps from call to call."""
    paths = {module: path for path, module in root.named_modules()}
    for path, module in [(p, m) for m, p in paths.items()]:
        _beside(path, module, paths)
    kept = [_Kept.of(module) for module in paths]
    watch = _Watch({id(module) for module in paths if not is_leaf(module) and not home(module)})
    kinds = {cls for module in paths if id(module) in watch.modules for cls in type(module).__mro__}
    shared = [_Class.of(cls) for cls in kinds if cls.__module__.partition(".")[0] not in ("torch", "builtins")]
    with watch.on({type(module) for module in paths if id(module) in watch.modules}):
        try:
            yield
            for one in kept:
                _report(builder, one, paths[one.module], watch)
        finally:
            for one in kept:
                one.restore()
            for kind in shared:
                kind.restore()


def _beside(path: str, module: nn.Module, paths: dict[nn.Module, str]) -> None:
    """Adds the modules that a module holds in lists, dicts and other objects, where torch does not see them."""
    for name, value in _flat(vars(module)).items():
        for inner in (value, *(v for holder in _holders([value]) for v in _inside(holder))):
            if isinstance(inner, nn.Module) and inner not in paths:
                for below, part in inner.named_modules(prefix=f"{path}.{name}" if path else name):
                    paths.setdefault(part, below)


@dataclass
class _Kept:
    """What a module holds: attributes, what containers among them hold, and the values of its tensors.

    `deeper`: all that holds something else within attributes, with what it holds.
    """

    module: nn.Module
    attributes: dict[str, Any]
    contents: dict[str, Any]
    values: dict[str, Tensor]
    deeper: list[tuple[Any, Any]]

    @classmethod
    def of(cls, module: nn.Module) -> _Kept:
        attributes = dict(vars(module))
        contents = {name: value.copy() for name, value in attributes.items() if type(value) in _CONTAINERS}
        values = {k: v.detach().clone() for k, v in _tensors(attributes).items()}
        return cls(module, attributes, contents, values, [(h, _held(h)) for h in _holders(_flat(attributes).values())])

    def written(self) -> Iterator[tuple[str, Any, Any]]:
        """Attributes with other values than before: name, the value before, the value now."""
        for name, now in _flat(vars(self.module)).items():
            before = self.before(name)
            changed = now is not before or (name in self.contents and not _alike(now, self.contents[name]))
            if changed or _is_symbolic(now):
                yield name, before, now

    def before(self, name: str) -> Any:
        """The value that an attribute had; None where there was none."""
        for inside in ("_parameters", "_buffers"):
            if name in self.contents[inside]:
                return self.contents[inside][name]
        return self.attributes.get(name)

    def overwritten(self) -> dict[str, Tensor]:
        """Tensors whose numbers forward() has changed in place, by name."""
        there = _tensors(self.attributes | {k: self.contents[k] for k in ("_parameters", "_buffers")})
        return {name: there[name] for name, value in self.values.items() if not _same(there[name], value)}

    def restore(self) -> None:
        """Puts everything back."""
        own = vars(self.module)
        own.clear()
        own.update(self.attributes)
        for name, content in self.contents.items():
            held = own[name]
            if not _alike(held, content):
                held.clear()
                held.extend(content) if isinstance(held, list) else held.update(content)
        for holder, before in self.deeper:
            if not _alike(_held(holder), before):
                _refill(holder, before)
        with torch.no_grad():
            for name, tensor in self.overwritten().items():
                tensor.data.copy_(self.values[name])


@dataclass
class _Class:
    """What a class of modules holds beside its code, with what that holds: all its instances have it together."""

    kind: type
    attributes: dict[str, Any]
    deeper: list[tuple[Any, Any]]

    @classmethod
    def of(cls, kind: type) -> _Class:
        attributes = _values_of(kind)
        return cls(kind, attributes, [(h, _held(h)) for h in _holders(attributes.values())])

    def restore(self) -> None:
        """Puts everything back."""
        now = _values_of(self.kind)
        for name in now.keys() - self.attributes.keys():
            delattr(self.kind, name)
        for name, value in self.attributes.items():
            if now.get(name, _NOTHING) is not value:
                setattr(self.kind, name, value)
        for holder, before in self.deeper:
            if not _alike(_held(holder), before):
                _refill(holder, before)


def _values_of(kind: type) -> dict[str, Any]:
    """Attributes of a class that are no code."""
    plain = {name: value for name, value in vars(kind).items() if not name.startswith("__")}
    return {name: value for name, value in plain.items() if not (callable(value) or hasattr(value, "__get__"))}


@dataclass
class _Watch:
    """Which attributes of the user's own modules are read before they are written, and where they are written."""

    modules: set[int]
    read_first: set[tuple[int, str]] = field(default_factory=set)
    seen: set[tuple[int, str]] = field(default_factory=set)
    lines: dict[tuple[int, str], tuple[str, int]] = field(default_factory=dict)

    @contextmanager
    def on(self, classes: set[type]) -> Iterator[None]:
        """Watches instances of the classes."""
        plain = {cls: (cls.__getattribute__, cls.__setattr__) for cls in classes}
        own = {cls: {k: vars(cls)[k] for k in ("__getattribute__", "__setattr__") if k in vars(cls)} for cls in classes}
        try:
            for cls, (get, put) in plain.items():
                self._patch(cls, get, put)
            yield
        finally:
            for cls in classes:
                for name in ("__getattribute__", "__setattr__"):
                    setattr(cls, name, own[cls][name]) if name in own[cls] else delattr(cls, name)

    def _patch(self, cls: Any, get: Any, put: Any) -> None:
        def reading(module: Any, name: str) -> Any:
            key = id(module), name
            if key not in self.seen and id(module) in self.modules:
                self.seen.add(key)
                self.read_first.add(key)
            return get(module, name)

        def writing(module: Any, name: str, value: Any) -> None:
            key = id(module), name
            self.seen.add(key)
            frame = sys._getframe(1)
            self.lines[key] = frame.f_code.co_filename, frame.f_lineno
            put(module, name, value)

        cls.__getattribute__, cls.__setattr__ = reading, writing


def _report(builder: Builder, kept: _Kept, path: str, watch: _Watch) -> None:
    from snnir.frontends.torch_fx.tracer import short

    def say(name: str, what: str) -> None:
        file, line = watch.lines.get((id(kept.module), name), ("", 0))
        loc = Loc(short(file), line, path) if file else builder.loc
        spelt = f"{path}.{name}" if path else name
        builder.report("trace-state", what, spelt, loc, hint=HINT)

    if id(kept.module) not in watch.modules:
        return
    for name, before, now in kept.written():
        if (id(kept.module), name) not in watch.read_first or name in _TORCHS_OWN:
            continue
        if _is_symbolic(now) or (isinstance(before, Tensor) and isinstance(now, Tensor) and not _same(before, now)):
            say(name, "forward() keeps it from call to call, so the network has a state that no op stands for")
    for name, tensor in kept.overwritten().items():
        if not isinstance(tensor, nn.Parameter):  # those are clamped in some models, which changes them once
            say(name, "forward() writes over its numbers, so every call would compute with others")


def _flat(attributes: dict[str, Any]) -> dict[str, Any]:
    inside = {**attributes["_parameters"], **attributes["_buffers"]}
    return {k: v for k, v in attributes.items() if k not in ("_parameters", "_buffers", "_modules")} | inside


def _tensors(attributes: dict[str, Any]) -> dict[str, Tensor]:
    found = {name: value for name, value in _flat(attributes).items() if isinstance(value, Tensor)}
    return {name: value for name, value in found.items() if _is_plain(value)}


def _is_plain(tensor: Tensor) -> bool:
    """Whether the numbers of a tensor can be copied and compared."""
    return (
        not is_lazy(tensor)
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and tensor.device.type != "meta"
    )


def _is_symbolic(value: Any) -> bool:
    """Whether a value of the network is in there; states of layers are the graph's own business."""
    found = (value, *(inner for holder in _holders([value]) for inner in _inside(holder)))
    return any(isinstance(v, fx.Proxy) and not isinstance(v.node.meta.get("value"), State) for v in found)


def _holders(values: Iterable[Any]) -> list[Any]:
    """The containers and plain objects among values, and within these, each once."""
    found: list[Any] = []
    seen: set[int] = set()  # all of `found`, which keeps them alive
    level = list(values)
    for _ in range(_DEPTH):
        new = [v for v in level if isinstance(v, (*_CONTAINERS, tuple, deque)) or _is_object(v)]
        for one in new:
            if id(one) not in seen:
                seen.add(id(one))
                found.append(one)
        level = [inner for one in new for inner in _inside(one)]
    return found


def _is_object(value: Any) -> bool:
    """Whether it may hold a state in attributes, and is no part of the network, nor of Python."""
    if isinstance(value, (fx.Proxy, nn.Module, Tensor, type, ModuleType)):
        return False
    if callable(value) and type(value).__module__.partition(".")[0] in ("torch", "builtins", "functools"):
        return False
    return isinstance(getattr(value, "__dict__", None), dict)


def _inside(holder: Any) -> Iterable[Any]:
    held = _held(holder)
    return held.values() if isinstance(held, dict) else held


def _held(holder: Any) -> Any:
    """What a container or an object holds, as a container of its own."""
    if isinstance(holder, dict):
        return dict(holder)
    if isinstance(holder, set):
        return set(holder)
    return list(holder) if isinstance(holder, (list, tuple, deque)) else dict(vars(holder))


def _refill(holder: Any, held: Any) -> None:
    into = holder if isinstance(holder, (*_CONTAINERS, deque)) else vars(holder)
    into.clear()
    into.extend(held) if isinstance(into, (list, deque)) else into.update(held)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether the numbers are the same; NaN is NaN."""
    if a is b:
        return True
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def _alike(a: Any, b: Any) -> bool:
    """Whether two containers of a kind hold the very same things under the same keys."""
    if isinstance(a, set):
        return bool(a == b)
    keys = isinstance(a, dict) and list(a) != list(b)
    mine, theirs = (list(x.values()) if isinstance(x, dict) else list(x) for x in (a, b))
    return not keys and len(mine) == len(theirs) and all(x is y for x, y in zip(mine, theirs, strict=True))
