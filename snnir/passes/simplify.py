"""simplify: what has no effect goes, what is there twice stands once.

    Before:  a -> scale(1) -> flatten -> flatten -> fc;  a -> conv -> lif;  a -> conv (the same) -> lif;  a -> dead
    After:   a -> flatten -> fc;  a -> conv -> lif

Four rules, each exact, until none applies:
- an op that reaches no output goes (inputs stay: they are the graph's interface);
- an op that is the identity on what arrives goes: Scale by 1, Delay of 0, Reshape or Flatten to the same shape, pools
  of one pixel, Upsample2d by 1, Concat of one input, Slice of everything, Transpose of nothing, Repeat and
  TemporalMean of one step;
- Flatten and Reshape in a row become one;
- two ops of the same type with equal fields and the same inputs become one, also neurons: the same input and the same
  start give the same spikes. Ops with state on a cycle are left alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from snnir.edit import Editor
from snnir.graph import Graph
from snnir.ops import (
    Array,
    Concat,
    Delay,
    Flatten,
    Input,
    Op,
    Output,
    Pool2d,
    Repeat,
    Reshape,
    Scale,
    Slice,
    TemporalMean,
    Transpose,
    Upsample2d,
    same,
)
from snnir.passes.common import Work, layout
from snnir.passes.timing import in_time
from snnir.pipeline import Keeps, Log, Pass
from snnir.schedule import schedule


@dataclass(frozen=True)
class Simplify(Pass):
    """Removes dead ops, identities, chains of reshapes and duplicates.

    Attributes:
        dead, identities, layouts, duplicates: which of the four rules apply.
    """

    name: ClassVar[str] = "simplify"
    keeps: ClassVar[Keeps] = "exact"
    dead: bool = True
    identities: bool = True
    layouts: bool = True
    duplicates: bool = True

    def run(self, graph: Graph, log: Log) -> Graph:
        if self.dead:  # a dead op shares no cycle with a live one, so no delay can move
            graph = _without_dead(graph, log)
        twins: dict[str, str] = {}
        return in_time(graph, log, lambda g, log, frozen: self._rewrite(g, log, frozen, twins), twins)

    def _rewrite(self, graph: Graph, log: Log, frozen: frozenset[str], twins: dict[str, str]) -> Graph:
        work = Work(graph, frozen)
        # Feeders come first, so one walk meets every op after all that it reads is as simple as it gets.
        plan = schedule(graph)
        cyclic = {name for group in plan.groups if group.cyclic for name in group.ops}
        seen: dict[Any, list[str]] = {}
        for name in plan.order:
            if name not in work.ops or name in frozen:
                continue
            if self.identities and _is_identity(work, name):
                if self._bypass(work, name, log):
                    continue
            if self.layouts:
                _join_layouts(work, name, log)
                if self.identities and _is_identity(work, name) and self._bypass(work, name, log):
                    continue
            if self.duplicates and not (work.ops[name].stateful and name in cyclic):
                _merge_duplicate(work, name, seen, log, twins)
        return work.build()

    @staticmethod
    def _bypass(work: Work, name: str, log: Log) -> bool:
        if not work.can_bypass(name):
            log.declined(name, "the identity, but without it two equal edges would stand side by side")
            return False
        what = work.ops[name].kind
        work.bypass(name)
        log.did(name, f"removed: this {what} is the identity")
        return True


def _without_dead(graph: Graph, log: Log) -> Graph:
    alive: set[str] = set()
    stack = list(graph.outputs)
    while stack:
        name = stack.pop()
        if name not in alive:
            alive.add(name)
            stack += [edge.source for edge in graph.incoming[name]]
    editor = Editor(graph)
    for name, op in graph.ops.items():
        if name not in alive and not isinstance(op, Input):
            editor.remove(name)
            log.did(name, "removed: it reaches no output")
    return editor.build()


def _is_identity(work: Work, name: str) -> bool:
    op = work.ops[name]
    if isinstance(op, Scale):
        return bool((op.scale == 1).all())
    if isinstance(op, Delay):
        return bool((op.delay == 0).all())
    if isinstance(op, (Flatten, Reshape)):
        return work.arriving(name) == work.shapes[name]
    if isinstance(op, Pool2d):
        return set(op.kernel_size) | set(op.stride) == {1} and not any(op.padding)
    if isinstance(op, Upsample2d):
        return set(op.factor) == {1}
    if isinstance(op, Concat):
        return op.inputs == 1
    if isinstance(op, Slice):
        return work.arriving(name) == work.shapes[name]
    if isinstance(op, Transpose):
        return list(op.axes) == list(range(len(op.axes)))
    if isinstance(op, (Repeat, TemporalMean)):
        return op.steps == 1
    return False


def _join_layouts(work: Work, name: str, log: Log) -> None:
    """`name` reads what the Flatten or Reshape before it reads; that one goes when nobody else needs it."""
    op = work.ops[name]
    feeders = work.feeders(name) if isinstance(op, (Flatten, Reshape)) else []
    if len(feeders) != 1 or not isinstance(work.ops[feeders[0]], (Flatten, Reshape)) or feeders[0] in work.frozen:
        return
    before = feeders[0]
    joined = layout(op, work.arriving(before), work.shapes[name])
    work.swap(name, joined, (before,))
    for edge in work.incoming(name):
        work.disconnect(edge)
    for edge in work.incoming(before):
        work.connect(edge.source, name)
    if not work.outgoing(before):
        work.remove(before)
    log.did(name, f"joined with {before}")


def _merge_duplicate(work: Work, name: str, seen: dict[Any, list[str]], log: Log, twins: dict[str, str]) -> None:
    op = work.ops[name]
    if isinstance(op, (Input, Output)):
        return
    read = frozenset((edge.source, edge.port) for edge in work.incoming(name))
    candidates = seen.setdefault((type(op), read, _digest(op)), [])
    for twin in candidates:
        if twin not in work.ops or read != {(edge.source, edge.port) for edge in work.incoming(twin)}:
            continue  # joined with its reader, or what feeds it across a cycle was simplified meanwhile
        taken = {(e.target, e.port) for e in work.outgoing(twin)}
        if not same(op, work.ops[twin]):
            continue
        if any((e.target, e.port) in taken for e in work.outgoing(name)):
            log.declined(name, f"does the same as {twin}, but both feed one port, which adds them up")
            continue
        readers = [e.target for e in work.outgoing(name)]
        work.redirect(name, twin)
        work.replace(twin, work.ops[twin], (name,))
        work.remove(name)
        if op.stateful:
            twins[name] = twin
        log.did(name, f"removed: {twin} does the same" + (f" for {', '.join(readers[:3])}" if readers else ""))
        return
    candidates.append(name)


def _digest(op: Op) -> str:
    """A hash of the op's own fields: equal ops have equal hashes."""
    h = hashlib.blake2b(digest_size=16)
    for key, value in op.parameters().items():
        h.update(key.encode())
        h.update(_bytes(value) if isinstance(value, np.ndarray) else repr(value).encode())
    return h.hexdigest()


def _bytes(array: Array) -> bytes:
    # Adding 0 makes -0.0 and 0.0, which compare equal, hash alike.
    return f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array + array.dtype.type(0)).tobytes()
