"""A network as it was built: any order of calls, any feeds, and every node under a reading of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from snnir.graph import Graph
from snnir.importers.readings import Reading, Stepper
from snnir.importers.wiring import Feed, Wiring, meant
from snnir.ops import Array, Input, Output
from snnir.schedule import rest_order, schedule


@dataclass(frozen=True)
class Built:
    """The calls of a step, what is returned, and how every node reads the file.

    Attributes:
        calls: (node, feeds) in running order; output: the feeds of what is returned.
        readings: op -> its reading; the file's own where it is missing.
        rest: values before the first step, for the feeds that are late from the file's own structure.
    """

    graph: Graph
    calls: tuple[tuple[str, tuple[Feed, ...]], ...]
    output: tuple[Feed, ...]
    readings: Mapping[str, Reading] = field(default_factory=dict)
    rest: Mapping[str, Array] = field(default_factory=dict)

    def run(self, x: Array, shape: tuple[int, ...]) -> Array | None:
        """The output (T, B, *shape) on x; None where sizes do not fit.

        What no feed gives is 0, before the first step as well.
        """
        steppers: dict[str, Stepper] = {}
        now: dict[str, Array] = {}
        returned = np.zeros((*x.shape[:2], *shape))
        for t in range(x.shape[0]):
            before, now = (now if t else dict(self.rest)), {self.graph.inputs[0]: x[t]}
            for name, feeds in self.calls:
                arrived = _sum(feeds, now, before, (x.shape[1], *_arriving(self.graph, name)))
                if arrived is None:
                    return None
                if name not in steppers:
                    reading = self.readings.get(name, Reading(self.graph[name], self.graph.semantics))
                    steppers[name] = Stepper(reading, x.shape[1], self.graph.shapes[name])
                now[name] = steppers[name].step(arrived)
            value = _sum(self.output, now, before, (x.shape[1], *shape))
            if value is None:
                return None
            returned[t] = value
        return returned


def as_meant(graph: Graph) -> Built:
    """The network that the file means."""
    feeds = meant(graph)
    inner = [n for n in schedule(graph).order if not isinstance(graph[n], (Input, Output))]
    return Built(graph, tuple((n, feeds[n]) for n in inner), feeds[graph.outputs[0]], rest=_rest(graph))


def as_built(graph: Graph, wiring: Wiring, readings: Mapping[str, Reading]) -> Built | None:
    """The network that was observed; None where some feed could not be told."""
    if wiring.output is None or any(feeds is None for _, feeds in wiring.calls):
        return None
    calls = tuple((name, feeds) for name, feeds in wiring.calls if feeds is not None)
    return Built(graph, calls, wiring.output, readings)


def _arriving(graph: Graph, name: str) -> tuple[int, ...]:
    return graph.shapes[graph.incoming[name][0].source]


def _sum(
    feeds: Sequence[Feed], now: Mapping[str, Array], before: Mapping[str, Array], shape: tuple[int, ...]
) -> Array | None:
    total = np.zeros(shape)
    for source, late in feeds:
        value = before.get(source) if late or source not in now else now[source]
        if value is None:
            continue
        if value.size // value.shape[0] != total.size // shape[0]:
            return None
        total = total + value.reshape(value.shape[0], *shape[1:])
    return total


def _rest(graph: Graph) -> dict[str, Array]:
    """The outputs before step 0 of what the file's late edges carry, one sample: as the reference has them."""
    found: dict[str, Array] = {}
    for name in rest_order(graph):
        op, shape = graph[name], graph.shapes[name]
        stepper = Stepper(Reading(op, graph.semantics), 1, shape)
        if op.stateful:
            found[name] = stepper.rest
        elif isinstance(op, Input) or not graph.semantics.recurrent_bias_at_start:
            found[name] = np.zeros((1, *shape))
        else:
            total = np.zeros((1, *_arriving(graph, name)))
            for edge in graph.incoming[name]:
                total = total + found[edge.source]
            found[name] = stepper.step(total)
    late = {source for feeds in meant(graph).values() for source, lag in feeds if lag}
    return {name: value for name, value in found.items() if name in late}
