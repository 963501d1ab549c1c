"""The decoder as weights on spikes: every call reads the spikes of all earlier calls, and the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.graph import Graph
from snnir.ops import Affine, Array, Constant, Conv, Input, Linear, Op, Scale, Shape
from snnir.passes.common import Declined, Work, float_type, wide
from snnir.passes.decoder_paths import Paths, Term
from snnir.passes.gains import absorb


@dataclass(frozen=True)
class Target:
    """An op behind the calls' boundary and the terms that arrive at it.

    Attributes:
        name: a call's first convolution, or the graph's output.
        weights: the op that the terms go through; None at the output.
    """

    name: str
    weights: Op | None
    terms: tuple[Term, ...]


def plan_spikes(paths: Paths) -> list[Target]:
    """What every call after the first, and the output, receives.

    Raises:
        Declined: some value between calls cannot be written as weights on spikes.
    """
    graph = paths.graph
    entries = paths.entries()
    found = []
    for name in (*entries, *graph.outputs):
        op = None if name in graph.outputs else graph[name]
        if op is not None and not isinstance(op, (Conv, Linear)):
            raise Declined(f"{name} ({op.kind}), which takes what other calls send, has no weights")
        terms = tuple(paths.terms(graph.incoming[name]))
        for term in terms:
            if not term.bias and (op is not None or term.chain):
                paths.composed(term, op)  # declines here, before anything is changed
        found.append(Target(name, op, terms))
    return found


def spikes_only(paths: Paths, plan: list[Target]) -> Graph:
    """The graph in which what crosses between calls is 0 or 1."""
    work = Work(paths.graph)
    for target in plan:
        for edge in work.incoming(target.name):
            work.disconnect(edge)
        if target.weights is not None:
            _rewrite(work, paths, target)
    remove_unread(work, paths.region)  # now the names of what ended the calls are free for what ends them now
    for target in plan:
        if target.weights is None:
            _rewrite(work, paths, target)
    return work.build()


def _rewrite(work: Work, paths: Paths, target: Target) -> None:
    graph, name, inside = paths.graph, target.name, target.weights is not None
    shape = graph.shapes[name]
    bias = _bias(paths, target, shape)
    # The noise's own weights keep the op's name, and the bias.
    sources = sorted((t for t in target.terms if not t.bias), key=lambda t: not isinstance(graph[t.source], Input))
    readers = [(e.target, e.port) for e in work.outgoing(name)] if inside else [(name, "input")]
    for i, term in enumerate(sources):
        op = _weights(paths, term, target.weights, shape)
        behind = [s for n in term.names for s in graph.sources(n)]
        if bias is not None and isinstance(op, (Conv, Linear)):
            op, bias = _with_bias(op, bias), None
        if i == 0 and inside:
            work.swap(name, op, behind)
            work.connect(term.source, name)
            continue
        wish = f"{name}.from.{term.source}" if inside else _last_name(term, name)
        new = work.add(wish, op, [name, *behind] if inside else behind, shape=shape)
        work.connect(term.source, new)
        for reader, port in readers:
            work.connect(new, reader, port)
    if bias is not None:
        new = work.add(f"{name}.bias", Constant(value=bias), [name] if inside else [], shape=shape)
        for reader, port in readers:
            work.connect(new, reader, port)


def _last_name(term: Term, name: str) -> str:
    """The name of weights in front of the output: that of what they were."""
    heavy = [n for n in term.names if "ddim" not in n] or list(term.names)
    return heavy[0] if heavy else f"{name}.from.{term.source}"


def _weights(paths: Paths, term: Term, last: Op | None, shape: Shape) -> Op:
    """The chain of a term times its factor, in the precision of the weights it replaces."""
    if last is None and not term.chain:
        return Scale(scale=np.asarray(term.factor))
    whole = paths.composed(term, last)
    gain = np.full((1,) * len(shape), term.factor)
    scaled = absorb(whole, gain, shape)
    assert scaled is not None
    originals = [paths.graph[n] for n in term.names] + ([last] if last is not None else [])
    kind = float_type(*(getattr(op, "weight", np.zeros(())) for op in originals))
    return scaled.with_(**{a: getattr(scaled, a).astype(kind) for a in scaled.arrays})


def _bias(paths: Paths, target: Target, shape: Shape) -> Array | None:
    """All biases on the way and the op's own: (C,) where that is constant over the map, else a map; None for zero."""
    total = np.zeros(shape)
    own = getattr(target.weights, "bias", None)
    if own is not None:
        spread = (
            own.reshape(-1, *(1,) * (len(shape) - 1)) if isinstance(target.weights, Conv) and own.ndim == 1 else own
        )
        total = total + wide(spread)
    through = 0.0
    for term in target.terms:
        if term.bias:
            part = term.factor * paths.carried(term, target.weights)
            through = max(through, float(np.abs(part).max(initial=0.0)))
            total = total + part
    if not total.any():
        return None
    flat = total.reshape(shape[0], -1) if len(shape) > 1 else total[:, None]
    level = flat.mean(axis=1)
    constant = bool((np.abs(flat - level[:, None]) <= 1e-13 * max(through, 1e-30)).all())
    return np.asarray(flat[:, 0]) if constant or through == 0.0 else total


def _with_bias(op: Op, bias: Array) -> Op:
    kind = float_type(op.weight)  # type: ignore[attr-defined]
    if isinstance(op, Conv):
        return op.with_(bias=bias.astype(kind))
    assert isinstance(op, Linear)
    return Affine(weight=op.weight, bias=bias.astype(kind), metadata=op.metadata, loc=op.loc)


def remove_unread(work: Work, region: dict[str, None]) -> None:
    """Removes ops of the region that nobody reads any more, and what only fed those."""
    waiting = [n for n in region if n in work.ops and not work.outgoing(n)]
    while waiting:
        name = waiting.pop()
        if name not in work.ops or work.outgoing(name) or name not in region:
            continue
        before = [e.source for e in work.incoming(name)]
        work.remove(name)
        waiting += before
