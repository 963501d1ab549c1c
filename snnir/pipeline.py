"""Passes, and pipelines of them: from text, back to text, and run one after the other.

A pass is a frozen dataclass. Its fields are its options, so `fuse-linear{max_growth=4}` is at once the spelling on the
command line, in logs and in tests. A pipeline is a tuple of passes; after each of them one hook gets a `Step`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from importlib import import_module
from time import perf_counter
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from snnir.errors import CompileError, UsageError, did_you_mean, there_are
from snnir.graph import Graph
from snnir.ops import Array

Reference = tuple[dict[str, Array], dict[str, Array]]
"""Outputs by name, and recorded values by op name; (T, B, *shape)."""
Keeps = Literal["exact", "spikes", "approximate"]
Kind = Literal["did", "declined"]

PASSES: dict[str, str] = {
    "balance-latency": "snnir.passes.balance_latency:BalanceLatency",
    "fold-batch-norm": "snnir.passes.fold_batch_norm:FoldBatchNorm",
    "fuse-decoder": "snnir.passes.fuse_decoder:FuseDecoder",
    "fuse-linear": "snnir.passes.fuse_linear:FuseLinear",
    "lift-vectors": "snnir.passes.lift_vectors:LiftVectors",
    "lower-upsample": "snnir.passes.lower_upsample:LowerUpsample",
    "normalise-gain": "snnir.passes.normalise_gain:NormaliseGain",
    "simplify": "snnir.passes.simplify:Simplify",
    "specialise-time": "snnir.passes.specialise_time:SpecialiseTime",
    "split-concat": "snnir.passes.split_concat:SplitConcat",
    "ungroup-conv": "snnir.passes.ungroup_conv:UngroupConv",
    "unroll-conv": "snnir.passes.unroll_conv:UnrollConv",
    "unroll-sampler": "snnir.passes.unroll_sampler:UnrollSampler",
}
"""Name -> 'module:class'; a module is imported when its pass is first asked for."""


BALANCED = "latency"
"""Key of a graph's metadata that balance-latency leaves: the steps by which each op has become later."""


@dataclass(frozen=True)
class Entry:
    """One line of a pass's log: what it did at an op, or why it declined to."""

    kind: Kind
    pass_name: str
    where: str
    text: str

    def __str__(self) -> str:
        verb = "" if self.kind == "did" else "declined: "
        return f"{self.pass_name}: {self.where}: {verb}{self.text}"


class Log:
    """Collects what a pass did and why it declined, in order."""

    def __init__(self, pass_name: str = "") -> None:
        self.pass_name = pass_name
        self.entries: list[Entry] = []

    def did(self, where: str, what: str) -> None:
        """The pass changed something at op `where`."""
        self.entries.append(Entry("did", self.pass_name, where, what))

    def declined(self, where: str, why: str) -> None:
        """The pass left op `where` alone although it matched; `why` is a reason that a user can act on."""
        self.entries.append(Entry("declined", self.pass_name, where, why))


@dataclass(frozen=True)
class Pass:
    """A rewrite of graphs. Subclasses add options as fields with defaults.

    Attributes:
        name: as in a pipeline's text.
        keeps: what is the same before and after: 'exact' all outputs up to rounding (so spikes too), 'spikes' the
            spikes of the outputs, 'approximate' nothing that could be checked exactly.
    """

    name: ClassVar[str] = ""
    keeps: ClassVar[Keeps] = "exact"

    def run(self, graph: Graph, log: Log) -> Graph:
        """The rewritten graph; the same object when there was nothing to do. The graph must be sound."""
        raise NotImplementedError(type(self).__name__)

    def reference(self, before: Graph, x: Mapping[str, Array], record: Sequence[str]) -> Reference:
        """What the graph after the pass must give for its input `x`, computed with the graph before, in float64.

        For most passes that is the graph before on the same input. A pass that changes what goes in says it here.

        Args:
            record: op names of the graph after; values of those that have no counterpart before may be left out.
        """
        from snnir.interpreter import interpret

        names = [name for name in record if name in before]
        values, recorded = interpret(before, x, record=names, dtype="float64")
        return (values if isinstance(values, dict) else {before.outputs[0]: values}), recorded

    def horizon(self, before: Graph) -> int | None:
        """The number of steps for which the graph after is the same; None: any number."""
        return None

    def __str__(self) -> str:
        changed = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != _default(f)]
        inside = ",".join(f"{name}={value_text(value)}" for name, value in changed)
        return self.name + (f"{{{inside}}}" if inside else "")


@dataclass(frozen=True)
class Step:
    """One pass of a pipeline, done."""

    pass_: Pass
    before: Graph
    after: Graph
    entries: tuple[Entry, ...]
    seconds: float


def run_pipeline(graph: Graph, passes: Iterable[Pass], hook: Callable[[Step], None] | None = None) -> Graph:
    """Runs passes in order. A graph that a pass changed is verified before the next one sees it.

    Raises:
        CompileError: a pass made an unsound graph (a bug of the pass; the message names it), or raised it itself.
    """
    for pass_ in passes:
        log = Log(pass_.name)
        start = perf_counter()
        if BALANCED in graph.metadata and pass_.name != "balance-latency":
            # Its delays are placed for the edges as they are; a rewrite that moves an edge would unbalance them.
            log.declined("graph", "it is balanced for a target's latencies; put this pass before balance-latency")
            after = graph
        else:
            after = pass_.run(graph, log)
        seconds = perf_counter() - start
        if after is not graph:
            try:
                after.verify()
            except CompileError as error:
                title = f"the pass {pass_} made a graph that is not sound"
                raise CompileError(error.violations, title=title) from error
        if hook is not None:
            hook(Step(pass_, graph, after, tuple(log.entries), seconds))
        graph = after
    return graph


def pass_class(name: str) -> type[Pass]:
    """The class of the pass called `name`.

    Raises:
        UsageError: no pass has that name.
    """
    if name not in PASSES:
        raise UsageError(f"no pass {name!r}{there_are([name], PASSES)}")
    module, _, attribute = PASSES[name].partition(":")
    return getattr(import_module(module), attribute)


def pipeline_text(passes: Iterable[Pass]) -> str:
    """The text of a pipeline; `parse_pipeline` reads it back. Options at their defaults are left out."""
    return ",".join(str(pass_) for pass_ in passes)


def parse_pipeline(text: str) -> tuple[Pass, ...]:
    """Reads a pipeline such as `fold-batch-norm,fuse-linear{max_growth=4,dense=true}`.

    Raises:
        UsageError: a pass or option does not exist (the message names those that do), a value does not fit its
            option, or the text is not of that form.
    """
    return tuple(_parse_pass(item) for item in _split(text))


def _split(text: str) -> list[str]:
    """The passes of a pipeline's text: split at commas outside braces."""
    items, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if depth not in (0, 1):
            raise UsageError(f"the braces of the pipeline {text!r} do not pair, at character {at + 1}")
        if char == "," and depth == 0:
            items.append(text[start:at].strip())
            start = at + 1
    if depth:
        raise UsageError(f"the pipeline {text!r} ends within braces")
    items.append(text[start:].strip())
    if items == [""]:
        return []
    if "" in items:
        raise UsageError(f"the pipeline {text!r} holds an empty name, at place {items.index('') + 1}")
    return items


def _parse_pass(text: str) -> Pass:
    name, brace, inside = text.partition("{")
    inside, _, rest = inside.partition("}")
    if rest.strip():
        raise UsageError(f"{rest.strip()!r} follows the options of pass {name.strip()!r}; a comma is missing")
    cls = pass_class(name.strip())
    there = _options(cls)  # type: ignore[arg-type]  # a class has a hash; mypy looks at that of its instances
    values: dict[str, Any] = {}
    for item in inside.split(",") if brace and inside.strip() else ():
        key, equals, value = item.partition("=")
        key = key.strip().replace("-", "_")
        if key not in there:
            known = ", ".join(f"{k}: {kind_text(v)}" for k, v in there.items()) or "none"
            meant = did_you_mean([key], there)
            raise UsageError(f"pass {cls.name!r} has no option {key!r}{meant}; its options: {known}")
        if key in values:
            raise UsageError(f"option {key!r} of pass {cls.name!r} is given twice")
        if not equals and there[key] is not bool:
            raise UsageError(f"option {key!r} of pass {cls.name!r} needs a value ({kind_text(there[key])})")
        try:
            values[key] = _value(value.strip(), there[key]) if equals else True
        except ValueError:
            wanted = kind_text(there[key])
            raise UsageError(f"option {key!r} of pass {cls.name!r} is {value.strip()!r}, expected {wanted}") from None
    missing = [f.name for f in fields(cls) if f.name not in values and _default(f) is MISSING]
    if missing:
        raise UsageError(f"pass {cls.name!r} needs the option {missing[0]!r} ({kind_text(there[missing[0]])})")
    try:
        return cls(**values)
    except ValueError as error:  # a pass may check its own values
        raise UsageError(f"pass {cls.name!r}: {error}") from None


@cache
def _options(cls: type[Pass]) -> Mapping[str, Any]:
    """The types of a pass's options by name, kept: every trial asks, and what annotations mean is dear to find out."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _value(text: str, kind: Any) -> Any:
    """`text` as a value of type `kind`; ValueError where it is none."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if text == "none" and type(None) in get_args(kind):
            return None
        kind = next(k for k in get_args(kind) if k is not type(None))
        origin = get_origin(kind)
    if origin is Literal:
        return next(choice for choice in get_args(kind) if str(choice) == text) if text in _choices(kind) else _no(text)
    if origin is tuple:
        return tuple(_value(item, get_args(kind)[0]) for item in text.split("+") if item)
    if kind is bool:
        return {"true": True, "false": False}[text] if text in ("true", "false") else _no(text)
    if kind in (int, float, str):
        return kind(text)
    raise TypeError(f"options of type {kind} cannot be written in a pipeline")


def _no(text: str) -> Any:
    raise ValueError(text)


def _choices(kind: Any) -> list[str]:
    return [str(choice) for choice in get_args(kind)]


def kind_text(kind: Any) -> str:
    """What values an option of type `kind` takes, in words."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if k is type(None) else kind_text(k) for k in get_args(kind))
    if origin is Literal:
        return " | ".join(_choices(kind))
    if origin is tuple:
        return f"{kind_text(get_args(kind)[0])} + ..."
    return {bool: "true | false", int: "an integer", float: "a number", str: "a text"}.get(kind, str(kind))


def value_text(value: Any) -> str:
    """The value of an option as a pipeline spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return "+".join(map(value_text, value))
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _default(f: Any) -> Any:
    return f.default_factory() if f.default_factory is not MISSING else f.default
