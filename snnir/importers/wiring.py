"""Who feeds whom in what an importer built: found by comparing what went into a node with what came out of others.

A feed is (source, late): the value of this step, or of the step before. What the file says is tried first, then parts
of it with other lateness, then what few other nodes give: the first that agrees in every step of every sample is it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from snnir.graph import Graph
from snnir.importers.readings import sizes
from snnir.importers.running import Recording
from snnir.interpreter.run import edge_lags
from snnir.ops import Array, Input, Output

Feed = tuple[str, int]
TOLERANCE = 1e-4  # of float32 sums, relative to the largest value


@dataclass(frozen=True)
class Wiring:
    """What feeds every call of a step, and what is returned.

    Attributes:
        calls: (node, feeds) in running order; feeds None where no sum of known values agrees.
        output: what is returned, in the same terms.
    """

    calls: tuple[tuple[str, tuple[Feed, ...] | None], ...]
    output: tuple[Feed, ...] | None


def meant(graph: Graph) -> dict[str, tuple[Feed, ...]]:
    """The feeds that the file means, by op."""
    lags, _ = edge_lags(graph, graph.semantics)
    return {name: tuple((e.source, lags.get(e, 0)) for e in graph.incoming[name]) for name in graph.ops}


def observed(graph: Graph, run: Recording, x: Array) -> Wiring:
    """The wiring of a recorded run on x (T, B, *shape)."""
    outer = {name: [y] for name, (_, y) in run.merged.items()}
    values = {graph.inputs[0]: [x.astype(np.float64)], **run.y, **outer}
    feeds = meant(graph)
    count: dict[str, int] = {}
    calls: list[tuple[str, tuple[Feed, ...] | None]] = []
    for name in run.order:
        k = count.get(name, 0)
        count[name] = k + 1
        calls.append((name, _search(feeds[name], run.x[name][k], values)))
    return Wiring(tuple(calls), _search(feeds[graph.outputs[0]], run.output, values) if run.order else None)


def _search(wanted: tuple[Feed, ...], arrived: Array, values: Mapping[str, list[Array]]) -> tuple[Feed, ...] | None:
    limit = TOLERANCE * sizes(arrived)
    for feeds in _guesses(wanted, values):
        total = summed(feeds, values, arrived.shape)
        if total is not None and bool((np.abs(total - arrived) <= limit).all()):
            return feeds
    return None


def summed(feeds: tuple[Feed, ...], values: Mapping[str, list[Array]], shape: tuple[int, ...]) -> Array | None:
    """The sum over time of the feeds, or None where one has another size; late ones give 0 in the first step."""
    total = np.zeros(shape)
    for source, late in feeds:
        value = values[source][-1]
        if value.shape[:2] != shape[:2] or value.size != total.size:
            return None
        value = value.reshape(shape)
        total[late:] += value[: shape[0] - late]
    return total


def _guesses(wanted: tuple[Feed, ...], values: Mapping[str, list[Array]]) -> Iterator[tuple[Feed, ...]]:
    there = [source for source, _ in wanted if source in values]
    if len(there) == len(wanted):
        yield wanted
    for n in range(len(there), 0, -1):  # the fewest changes first
        for part in combinations(there, n):
            for late in sorted(product((0, 1), repeat=n), key=lambda lags: _changes(part, lags, wanted)):
                yield tuple(zip(part, late, strict=True))
    every = [(name, late) for late in (0, 1) for name in values]
    yield from ((feed,) for feed in every)
    yield ()
    yield from combinations(every, 2)
    for feed in every:
        if feed not in wanted:
            yield (*(f for f in wanted if f[0] in values), feed)


def _changes(part: tuple[str, ...], lags: tuple[int, ...], wanted: tuple[Feed, ...]) -> int:
    return sum((source, late) not in wanted for source, late in zip(part, lags, strict=True))


def inner(graph: Graph) -> tuple[str, ...]:
    """The ops of a graph that a module stands for: all but inputs and outputs."""
    return tuple(n for n, op in graph.ops.items() if not isinstance(op, (Input, Output)))
