"""Hypotheses on little: the part of the graph before the first op that parts, few steps, few batch elements."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from snnir.errors import SnnirError
from snnir.graph import Graph
from snnir.ops import Array, Input, Repeat, TemporalMean
from snnir.validation.comparing import aligned
from snnir.validation.faults import Fault
from snnir.validation.model import Model, cut
from snnir.validation.number_faults import Factor, factors
from snnir.validation.verdicts import Difference, Traces

ENOUGH = 0.99  # share of the differences that a named cause explains
MARGIN = 24  # steps behind the first difference on which hypotheses are screened
ROUND_FACTORS = (0.5, 2.0, 0.1, 10.0, 1.5, 0.75, 1.25, 0.25, 4.0, 0.8, 1.2, 0.9, 1.1, 0.01, 100.0, 1e-3, 1e3, 2 / 3)
ELEMENTS = 4  # batch elements on which they are

FAULTY_RUN = (SnnirError, ArithmeticError, ValueError, KeyError, TypeError, IndexError)
"""What a graph with a fault in it may raise when it is built or run: then it cannot have that fault."""


@dataclass
class Budget:
    """What a search may cost: runs, and seconds of processor time."""

    runs: int
    seconds: float
    tried: int = 0
    begun: float = field(default_factory=time.process_time)

    @property
    def spent(self) -> bool:
        """Whether no more may be tried."""
        return self.tried >= self.runs or time.process_time() - self.begun > self.seconds


@dataclass(eq=False)
class Candidate:
    """Faults on trial: the model with them, the first step that still differs, the places that do; its full traces."""

    faults: tuple[Fault, ...]
    model: Model
    step: int
    left: int
    traces: dict[str, Array] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[int, int]:
        """Of several that explain equally much, the lowest is named."""
        return len(self.faults), sum(f.rank for f in self.faults)


def between(graph: Graph, op: str, recorded: set[str]) -> list[str]:
    """`op` and the ops from there back to the nearest recorded ones (these not), nearest first."""
    found = [op]
    for name in found:  # grows while it is walked
        for edge in graph.incoming[name]:
            if edge.source not in recorded and edge.source not in found:
                found.append(edge.source)
    return [name for name in found if not isinstance(graph[name], Input)]


class Screen:
    """Scores models on a piece of what was recorded, around one first difference."""

    def __init__(
        self,
        model: Model,
        first: Difference,
        traces: Traces,
        x: Mapping[str, Array],
        got: Mapping[str, Array],
        lags: Mapping[str, int],
        budget: Budget,
    ) -> None:
        self.op, self.lags, self.budget = first.op, lags, budget
        self.suspects = between(model.graph, first.op, set(got))
        total = next(iter(x.values())).shape[0]
        places = traces.places[first.op]
        stretched = any(isinstance(op, (Repeat, TemporalMean)) for op in model.graph.ops.values())
        late = max(lags.values(), default=0)
        self.steps = total if stretched else min(total, first.step + late + 1 + MARGIN)
        which = places[: self.steps].reshape(min(self.steps, len(places)), places.shape[1], -1).any(axis=2)
        when = np.where(which.any(axis=0), which.argmax(axis=0), len(places))
        batch = np.sort(np.argsort(when, kind="stable")[:ELEMENTS])
        self.x = cut(x, self.steps, batch)
        until = None if stretched else self.steps
        region = model.upstream([first.op]).graph
        self.got = {n: np.asarray(got[n])[:until, batch] for n in traces.pairs if n in region}
        self.tried: list[Candidate] = []
        self.before = self.score(model) or (0, 0)

    def score(self, model: Model) -> tuple[int, int] | None:
        """The first step that differs and the number of places that do; None where it cannot be run."""
        self.budget.tried += 1
        try:
            part = model.upstream([self.op])
            names = [n for n in self.got if n in part.graph]
            traces = aligned(part.graph, part.run(self.x, names), self.got, self.lags)
        except FAULTY_RUN:
            return None
        if len(traces.pairs) < len(names):
            return None
        # What the fault cut off from this op is judged on the whole.
        steps = [int(np.flatnonzero(c)[0]) for c in traces.divergence().values() if c.any()]
        return min(steps, default=self.steps), sum(int(np.count_nonzero(p)) for p in traces.places.values())

    def clean(self, candidate: Candidate) -> bool:
        """Whether next to nothing is left."""
        return candidate.left <= (1 - ENOUGH) * self.before[1]

    def helps(self, candidate: Candidate) -> bool:
        """Whether it differs later, or in fewer places, than without it."""
        step, left = self.before
        return candidate.step > step or (candidate.step == step and candidate.left < left)

    def run(self, faults: Iterable[Fault], after: Candidate | None = None) -> Iterator[Candidate]:
        """Every fault that can be had (on top of those of `after`), with its score."""
        earlier = after.faults if after is not None else ()
        for fault in faults:
            if self.budget.spent:
                return
            try:
                model = fault.apply()
            except FAULTY_RUN:
                continue
            score = None if model is None or self.op not in model.graph else self.score(model)
            if model is not None and score is not None:
                candidate = Candidate((*earlier, fault), model, *score)
                self.tried.append(candidate)
                yield candidate

    def best_tried(self, n: int) -> list[Candidate]:
        """The most helpful ones so far: those that part latest, then those with the fewest differences."""
        helpful = [c for c in self.tried if self.helps(c)]
        return sorted(helpful, key=lambda c: (-c.step, c.left, c.rank))[:n]

    def fitted(self, model: Model) -> list[Candidate]:
        """The best factor of each family of faults."""
        fits = (self._fit(family) for family in factors(model, self.suspects))
        return [c for c in fits if c is not None]

    def _fit(self, family: Factor) -> Candidate | None:
        """The member that leaves least, found by a grid that grows finer."""
        width = 16.0
        best: tuple[float, Candidate] | None = None
        grid = [*ROUND_FACTORS]
        for _ in range(5):
            for candidate, factor in ((c, f) for f in grid if f != 1.0 for c in self.run([family.fault(f)])):
                if best is None or (candidate.left, -candidate.step) < (best[1].left, -best[1].step):
                    best = factor, candidate
            if best is None or self.clean(best[1]):
                break
            grid, width = [float(f) for f in best[0] * np.geomspace(1 / width, width, 13)], width ** (1 / 6)
        return best[1] if best is not None else None
