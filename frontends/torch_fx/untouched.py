"""A trace leaves the user's module as it was, and sees what forward() would keep from one call to the next.

forward() may write to its module: snnTorch's init_leaky() makes new states, hand-written neurons keep their membrane in
an attribute, others count calls or note values for a plot. Whatever it writes is taken back. What it reads first and
then gives a value of the network is a state, which no op of a traced forward() is: that is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from snnir.frontends.torch_fx.builder import Builder
from snnir.frontends.torch_fx.modules import home, is_leaf
from snnir.frontends.torch_fx.signals import State
from snnir.ops import Loc

_CONTAINERS = (list, dict, set)
_HINT = (
    "let a neuron of snnir.nn, or of a framework, carry its state over time; values for a plot are recorded outside "
    "forward(): snnir.interpret(graph, x, record=...)"
)


@contextmanager
def untouched(builder: Builder, root: nn.Module) -> Iterator[None]:
    """Takes back what a trace does to `root`; reports values that its forward() keeps from call to call."""
    paths = {module: path for path, module in root.named_modules()}
    kept = [_Kept.of(module) for module in paths]
    watch = _Watch({id(module) for module in paths if not is_leaf(module) and not home(module)})
    with watch.on({type(module) for module in paths if id(module) in watch.modules}):
        try:
            yield
            for one in kept:
                _report(builder, one, paths[one.module], watch)
        finally:
            for one in kept:
                one.restore()


@dataclass
class _Kept:
    """What a module holds: attributes, what containers among them hold, and the values of its tensors."""

    module: nn.Module
    attributes: dict[str, Any]
    contents: dict[str, Any]
    values: dict[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module) -> _Kept:
        attributes = dict(vars(module))
        contents = {name: value.copy() for name, value in attributes.items() if type(value) in _CONTAINERS}
        return cls(module, attributes, contents, {k: v.detach().clone() for k, v in _tensors(attributes).items()})

    def written(self) -> Iterator[tuple[str, Any, Any]]:
        """Attributes with other values than before: name, the value before, the value now."""
        for name, now in _flat(vars(self.module)).items():
            before = self.before(name)
            if now is not before or (name in self.contents and not _alike(now, self.contents[name])):
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
        with torch.no_grad():
            for name, tensor in self.overwritten().items():
                tensor.data.copy_(self.values[name])


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
        builder.report("trace-state", what, spelt, loc, hint=_HINT)

    if id(kept.module) not in watch.modules:
        return
    for name, before, now in kept.written():
        if (id(kept.module), name) not in watch.read_first or name.startswith("_"):
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
    if isinstance(value, fx.Proxy):
        return not isinstance(value.node.meta.get("value"), State)
    if isinstance(value, dict):
        return any(map(_is_symbolic, value.values()))
    return isinstance(value, (list, tuple, set)) and any(map(_is_symbolic, value))


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
