"""The decoder as a relay: x is handed on as numbers, and DDIM's factors cost as little as they can."""

from __future__ import annotations

import numpy as np

from snnir.diffusion.unrolled import call_of
from snnir.graph import Graph
from snnir.operations import our_rule
from snnir.ops import Concat, Conv, Input, Op, Scale
from snnir.passes.common import Declined, Work, listed, wide
from snnir.passes.compose import add_ops, compose
from snnir.passes.convolution import add_biases, as_filter, bias_of, bias_through
from snnir.passes.decoder_paths import Paths, bare, is_factor
from snnir.passes.gains import plan_gain
from snnir.pipeline import Log


def factored(graph: Graph, log: Log) -> Graph:
    """The graph with b in the weights that end a call, and a stem's skip in the relay where that is cheaper."""
    work = Work(graph)
    entries = [n for n in graph.ops if Paths.takes_start(graph, n)]
    for name in [n for n, op in graph.ops.items() if is_factor(op) and call_of(n) is not None]:
        if not _hands_on(work, name):
            _into_weights(work, name, log)
    for name in entries:
        _stem_into_relay(work, name, log)
    return work.build()


def _hands_on(work: Work, name: str) -> bool:
    """Whether a factor belongs to the relay itself, so that there are no weights for it to go into."""
    return any(isinstance(work.ops[f], Input) or is_factor(work.ops[f]) for f in work.feeders(name))


def _into_weights(work: Work, name: str, log: Log) -> None:
    op = work.ops[name]
    assert isinstance(op, Scale)
    try:
        plan = plan_gain(work, work.incoming(name), op.scale)
        if not work.can_bypass(name):
            raise Declined("what feeds it also feeds what reads it")
    except Declined as reason:
        log.declined(name, f"its factor stays: {reason}")
        return
    plan.apply(work, (name,))
    work.bypass(name)
    log.did(name, f"its factor went into {listed(plan.ops)}")


def _stem_into_relay(work: Work, stem: str, log: Log) -> None:
    """Where a call's first convolution also feeds its last one: relay and skip become one convolution of the relay.

    Before:  x -> stem -> concat -> last -> next;  x -> keep -> next
    After:   x -> keep' -> next;                   concat' -> last' -> next
    """
    for edge in work.outgoing(stem):
        concat = work.ops[edge.target]
        readers = work.readers(edge.target)
        if not isinstance(concat, Concat) or len(readers) != 1 or concat.inputs < 2:
            continue
        last = work.ops[readers[0]]
        keep = _beside(work, stem, readers[0])
        first = work.ops[stem]
        if isinstance(first, Conv) and isinstance(last, Conv) and last.groups == 1 and keep is not None:
            try:
                _fold(work, stem, edge.port, edge.target, readers[0], keep)
                log.did(keep, f"took over what {stem} sends to {readers[0]}")
            except Declined as reason:
                log.declined(stem, f"what it sends to {readers[0]} stays: {reason}")
            return


def _beside(work: Work, stem: str, last: str) -> str | None:
    """The factor that hands on what `stem` reads to what `last` feeds."""
    before = set(work.feeders(stem))
    after = {(e.target, e.port) for e in work.outgoing(last)}
    for feeder in before:
        for name in work.readers(feeder):
            if is_factor(work.ops[name]) and set(work.feeders(name)) == before:
                if {(e.target, e.port) for e in work.outgoing(name)} == after:
                    return name
    return None


def _fold(work: Work, stem: str, port: str, joined: str, last: str, keep: str) -> None:
    first, concat, end_op, factor = work.ops[stem], work.ops[joined], work.ops[last], work.ops[keep]
    if not (isinstance(first, Conv) and isinstance(concat, Concat) and isinstance(end_op, Conv)):
        raise Declined(f"{stem}, {joined} and {last} are no convolution, concatenation and convolution")
    if concat.axis % len(work.shapes[joined]) != 0 or len(work.feeders(joined, port)) != 1:
        raise Declined(f"{joined} does not keep its channels apart")
    start, middle, end = work.arriving(stem), work.shapes[stem], work.shapes[last]
    at = concat.ports.index(port)
    widths = [work.arriving(joined, p)[0] for p in concat.ports]
    first_channel = sum(widths[:at])
    mine = np.arange(first_channel, first_channel + widths[at])
    part = end_op.with_(weight=end_op.weight[:, mine], bias=np.zeros(end[0]), input_shape=None)
    whole = compose(bare(first), bare(part), start, middle, end, True, lambda _: None)
    relay = add_ops(factor, whole, start, end, lambda _: None)
    now = our_rule(part, middle, None) + our_rule(factor, start, None)
    then = our_rule(relay, start, None)
    if then.joules >= now.joules:
        raise Declined(f"it would take {then.macs:.3g} MACs a step instead of {now.macs:.3g}")
    second = as_filter(part, middle)
    assert second is not None
    through = bias_through(second, bias_of(first, middle), middle, end)
    kind = end_op.weight.dtype
    bias = add_biases(wide(end_op.bias), through).astype(kind)
    kept = np.delete(end_op.weight, mine, axis=1)
    work.swap(keep, _in_type(relay, kind), (stem, last))
    work.swap(last, end_op.with_(weight=kept, bias=bias), (stem,))
    _drop_port(work, joined, concat, at)


def _in_type(op: Op, kind: np.dtype) -> Op:
    changed: Op = op.with_(**{a: getattr(op, a).astype(kind) for a in op.arrays})
    return changed


def _drop_port(work: Work, name: str, op: Concat, at: int) -> None:
    """Takes one port off a concatenation; with one left it goes."""
    left = [work.feeders(name, p) for i, p in enumerate(op.ports) if i != at]
    shapes = [work.arriving(name, p) for i, p in enumerate(op.ports) if i != at]
    for edge in work.incoming(name):
        work.disconnect(edge)
    if len(left) == 1:
        for reader in work.outgoing(name):
            for source in left[0]:
                work.connect(source, reader.target, reader.port)
        work.remove(name)
        return
    channels = sum(s[0] for s in shapes)
    work.swap(name, op.with_(inputs=len(left)), (), (channels, *shapes[0][1:]))
    for i, sources in enumerate(left):
        for source in sources:
            work.connect(source, name, f"in{i}")
