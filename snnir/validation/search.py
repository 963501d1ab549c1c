"""Why does it differ? Faults are put into the reference, one at a time, until it does what the other one does.

1. Where: the first op that parts although its inputs agree. Only faults between there and what agrees can be its cause.
2. Which: every hypothesis runs on the part of the graph before that op, on a few steps and batch elements around the
   first difference (`Screen`). What survives runs on the whole, and the places where it still differs are counted.
3. More: where other ops part on their own, the search goes on from the model with the first fault in it.

A cause is named only if what remains is at most 1 % of the differences; everything else is 'partial', or unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from snnir.errors import SnnirError
from snnir.graph import Graph
from snnir.interpreter import as_inputs
from snnir.ops import Array
from snnir.semantics import Semantics
from snnir.validation.comparing import aligned, first_difference
from snnir.validation.faults import Fault, semantics_faults
from snnir.validation.graph_faults import op_faults, whole_faults
from snnir.validation.model import Model
from snnir.validation.number_faults import number_faults
from snnir.validation.probing import probe_input
from snnir.validation.screen import ENOUGH, FAULTY_RUN, Budget, Candidate, Screen
from snnir.validation.verdicts import Cause, Difference, Traces

CONFIRMED = 48  # hypotheses that are run on the whole
BEAM = 6  # hypotheses to which a second one is added where none does alone
PROBES = 8  # further inputs on which hypotheses that agree are told apart, where the other one can be run
PARTIAL = 5  # partial causes that are listed

Probe = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Explanation:
    """Why two implementations of a network differ.

    Attributes:
        causes: named reasons, in the order in which they were found; empty where no reasons explain 99 %.
        explained: share of the differing places that the causes (or the best partial one) explain, 0 to 1.
        partial: where nothing is named: what explains some of the differences, best first.
        first: where they part; differing: places that differ.
        tried: runs of the reference with a fault in it.
        model: the reference with the causes in it (None without any): `model.run(inputs, names)` gives what it gives.
    """

    causes: tuple[Cause, ...]
    explained: float
    partial: tuple[Cause, ...]
    first: Difference | None
    differing: int
    tried: int
    model: Model | None = None

    @property
    def text(self) -> str:
        """One line for people."""
        if self.first is None:
            return "no difference"
        if self.causes:
            return "; ".join(c.text for c in self.causes)
        unknown = f"unknown: none of {self.tried:,} faults that were tried explains it"
        if not self.partial:
            return unknown
        return f"{unknown}; the most, {self.partial[0].explained:.0%}, does {self.partial[0].text}"


def explain(
    graph: Graph,
    inputs: Array | Mapping[str, Array],
    traces: Mapping[str, Array],
    semantics: Semantics | None = None,
    *,
    lags: Mapping[str, int] | None = None,
    probe: Probe | None = None,
    most: int = 4,
    runs: int = 6000,
    seconds: float = 30.0,
) -> Explanation:
    """Finds out why some implementation does not do what the network means.

    Args:
        graph: the network.
        inputs: what both got: (T, B, *shape), or a dict by input name.
        traces: what the implementation gave: op or output name -> (T, B, *shape). The more populations, the better:
            only faults between the first one that parts and those that agree are tried.
        semantics: what a step means; default the graph's own.
        lags: steps by which traces may come late, by name.
        probe: runs the implementation on other inputs (a dict by name) and returns such traces. With it, causes that
            would explain the same differences are told apart by inputs on which they differ.
        most: causes that are put on top of one another.
        runs, seconds: when the search gives up (of processor time).

    Raises:
        CompileError: the graph or the inputs are not sound.
    """
    x = as_inputs(graph, inputs, np.float64)
    model = Model(graph.verify(), semantics or graph.semantics)
    shaped = {name: np.asarray(v) for name, v in traces.items() if name in graph}
    return _Search(x, shaped, lags or {}, probe, Budget(runs, seconds)).run(model, most)


@dataclass
class _Search:
    x: Mapping[str, Array]
    got: Mapping[str, Array]
    lags: Mapping[str, int]
    probe: Probe | None
    budget: Budget

    def run(self, model: Model, most: int) -> Explanation:
        now = self.compared(model, self.whole(model))
        first, before = first_difference(model.graph, now), self.count(now)
        causes: list[Cause] = []
        left, others = before, list[Candidate]()
        while left and len(causes) < most and not self.budget.spent:
            parts = first_difference(model.graph, now)
            if parts is None:
                break
            found, more, same = self.round(model, parts, now)
            others = others or more
            if found is None:
                break
            causes += self.causes(model, found, before, same)
            model, left = found.model, found.left
            now = self.compared(model, found.traces)
        explained = 1 - left / before if before else 1.0
        if explained >= ENOUGH:
            return Explanation(tuple(causes), explained, (), first, before, self.budget.tried, model)
        singles = [self.cause(c.faults[-1], 1 - c.left / before) for c in others if len(c.faults) == 1]
        partial = sorted((*causes, *singles), key=lambda c: -c.explained)[:PARTIAL]
        partial = [c for c in partial if c.explained > 0]
        best = partial[0].explained if partial else 0.0
        return Explanation((), best, tuple(partial), first, before, self.budget.tried)

    # -- running and counting --------------------------------------------------------------------------------------

    def whole(self, model: Model) -> dict[str, Array]:
        """All that was recorded, by this model."""
        return model.run(self.x, [name for name in self.got if name in model.graph])

    def compared(self, model: Model, reference: Mapping[str, Array]) -> Traces:
        """The model's traces beside the target's."""
        return aligned(model.graph, reference, self.got, self.lags)

    def count(self, traces: Traces, names: set[str] | None = None) -> int:
        """Places that differ; a population that is not there, or has another shape, differs wherever it spikes."""
        count = sum(int(np.count_nonzero(p)) for n, p in traces.places.items() if names is None or n in names)
        lost = [n for n in self.got if n not in traces.pairs and (names is None or n in names)]
        return count + sum(int(np.count_nonzero(self.got[name])) for name in lost)

    def cause(self, fault: Fault, explained: float, same: tuple[str, ...] = ()) -> Cause:
        return Cause(
            fault.name, fault.kind, fault.where, fault.meant, fault.does, max(0.0, explained), fault.remedy, same
        )

    def causes(self, model: Model, found: Candidate, before: int, same: list[Candidate]) -> Iterator[Cause]:
        """One cause per fault of the candidate; what each explains counts those before it."""
        alone = [c.faults[0].label for c in same if len(c.faults) == 1 and len(found.faults) == 1]
        for fault in found.faults[:-1]:
            applied = fault.apply() or model
            part = self.count(self.compared(applied, self.whole(applied)))
            yield self.cause(fault, 1 - part / before)
        yield self.cause(found.faults[-1], 1 - found.left / before, tuple(alone))

    # -- one round -------------------------------------------------------------------------------------------------

    def round(
        self, model: Model, first: Difference, now: Traces
    ) -> tuple[Candidate | None, list[Candidate], list[Candidate]]:
        """The faults that make the first parting op agree; what only helps; others that give the same traces."""
        screen = Screen(model, first, now, self.x, self.got, self.lags, self.budget)
        clean = [c for c in screen.run(self.hypotheses(model, screen.suspects)) if screen.clean(c)]
        if clean and self.probe is not None:
            resolved, _ = self.confirmed(clean, screen, now)
            found = self.apart(self.modest(resolved, now), screen) if resolved else None
            if found is not None and self.holds(model, found[0], screen):  # what a new experiment confirms is enough
                return found[0], [], found[1]
        clean += [c for c in screen.run(number_faults(model, screen.suspects)) if screen.clean(c)]
        resolved, others = self.confirmed(clean or screen.best_tried(CONFIRMED // 4), screen, now)
        if not resolved:
            resolved, more = self.confirmed(screen.fitted(model), screen, now)
            others += more
        if not resolved:
            resolved, _ = self.confirmed(self.pairs(screen), screen, now)
        others.sort(key=lambda c: (c.left, c.rank))
        if not resolved:
            return None, others, []
        best, same = self.apart(self.modest(resolved, now), screen)
        return best, others, same

    def hypotheses(self, model: Model, suspects: list[str]) -> Iterator[Fault]:
        """What is tried first, in order: rules and structure."""
        yield from semantics_faults(model)
        yield from whole_faults(model)
        yield from op_faults(model, suspects)
        for name in suspects:
            if model.graph[name].stateful or model.graph[name].spiking:
                yield from semantics_faults(model, name)

    def pairs(self, screen: Screen) -> list[Candidate]:
        """Two faults at once, where the first alone makes the op part later."""
        found: list[Candidate] = []
        for candidate in screen.best_tried(BEAM):
            later = self.hypotheses(candidate.model, screen.suspects)
            for pair in screen.run(later, candidate):
                if screen.clean(pair):
                    found.append(pair)
        return found

    def confirmed(
        self, candidates: list[Candidate], screen: Screen, now: Traces
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Those that hold on the whole, and those that only help; both best first."""
        region = set(screen.got)
        here, before = self.count(now, region), self.count(now)
        resolved: list[Candidate] = []
        others: list[Candidate] = []
        for candidate in sorted(candidates, key=lambda c: (c.left, c.rank))[:CONFIRMED]:
            if self.budget.spent:
                break
            self.budget.tried += 1
            try:
                candidate.traces = self.whole(candidate.model)
            except FAULTY_RUN:
                continue
            traces = self.compared(candidate.model, candidate.traces)
            candidate.left = self.count(traces)
            if self.count(traces, region) <= (1 - ENOUGH) * here:
                resolved.append(candidate)
            elif candidate.left < before:
                others.append(candidate)
        for found in (resolved, others):
            found.sort(key=lambda c: (c.left, c.rank))
        return resolved, others

    # -- telling apart ---------------------------------------------------------------------------------------------

    def modest(self, resolved: list[Candidate], now: Traces) -> list[Candidate]:
        """Faults of single ops, where a fault of all ops at once leaves something to explain all the same."""
        single = [c for c in resolved if not any(f.kind == "graph" and not f.where for f in c.faults)]
        enough = (1 - ENOUGH) * self.count(now)
        return resolved if not single or any(c.left <= enough for c in resolved) else single

    def apart(self, resolved: list[Candidate], screen: Screen) -> tuple[Candidate, list[Candidate]]:
        """The best of those that hold, and those that nothing tells apart from it."""
        rivals = resolved
        for seed in range(PROBES if self.probe is not None else 0):
            if len(rivals) < 2 or self.budget.spent:
                break
            rivals = self.probed(rivals, screen, seed)
        least = min(c.left for c in rivals)
        best, *rest = sorted((c for c in rivals if c.left <= least), key=lambda c: c.rank)
        return best, [c for c in rest if _equal(c.traces, best.traces)]

    def probed(self, rivals: list[Candidate], screen: Screen, seed: int) -> list[Candidate]:
        """Those that do best on another input; all of them where it tells none apart."""
        x = probe_input(self.x, seed)
        runs = [(c, run) for c in rivals if (run := self.region(c.model, screen, x)) is not None]
        if all(_equal(run, runs[0][1]) for _, run in runs):
            return rivals
        answer = self.answer(x, screen)
        if not answer:
            return rivals
        counts = [self.apart_by(c.model, run, answer) for c, run in runs]
        return [c for (c, _), count in zip(runs, counts, strict=True) if count <= min(counts)]

    def holds(self, model: Model, found: Candidate, screen: Screen) -> bool:
        """Whether the candidate foretells what the implementation does on inputs that nobody has seen."""
        wrong = before = 0
        for seed in range(PROBES, PROBES + 4):
            x = probe_input(self.x, seed)
            answer = self.answer(x, screen)
            run, plain = (self.region(m, screen, x) for m in (found.model, model))
            if run is None or plain is None:
                return False
            wrong += self.apart_by(found.model, run, answer)
            before += self.apart_by(model, plain, answer)
        return wrong <= (1 - ENOUGH) * before

    def region(self, model: Model, screen: Screen, x: Mapping[str, Array]) -> dict[str, Array] | None:
        """What the model gives in the part that is looked at; None where it cannot be run."""
        self.budget.tried += 1
        try:
            part = model.upstream([screen.op])
            return part.run(x, [n for n in screen.got if n in part.graph])
        except FAULTY_RUN:
            return None

    def answer(self, x: Mapping[str, Array], screen: Screen) -> dict[str, Array]:
        """What the implementation gives there; nothing where it cannot take such input."""
        if self.probe is None:
            return {}
        try:
            return {n: np.asarray(v) for n, v in self.probe(x).items() if n in screen.got}
        except SnnirError:
            return {}

    def apart_by(self, model: Model, run: Mapping[str, Array], answer: Mapping[str, Array]) -> int:
        """Places in which the two differ."""
        traces = aligned(model.graph, run, answer, self.lags)
        return sum(int(np.count_nonzero(p)) for p in traces.places.values())


def _equal(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    """Whether two runs agree wherever both recorded something."""
    from snnir.validation.verdicts import differs

    return all(a[n].shape == b[n].shape and not differs(a[n], b[n]).any() for n in a if n in b)
