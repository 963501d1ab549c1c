"""Which of a chip's roundings make its difference? Each alone is put into the network in floats, and that is run.

Exact bookkeeping, in runs of these kinds on the same input:

- none: the chip's layout in floats. What differs from the reference here is no rounding, and called 'layout'.
- one: with one rounding alone. How far is it from `none`, and how much nearer to the chip?
- one with the thresholds and biases that the chip has, where these were calibrated: calibration moves them to make up
  for what the other roundings do, so that one of these alone may be further from the chip than none at all. Credited is
  what such a run explains beyond what those thresholds and biases explain without it.
- two: where none alone explains half, pairs of those with the largest errors. Roundings may make up for one another:
  a quantiser takes the scale at which they do.
- all: with all roundings. What still differs from the chip, the list does not hold.

What single roundings explain does not add up: a spike that is lost to one cannot be lost to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Literal

import numpy as np

from snnir.graph import Graph
from snnir.ops import Array
from snnir.roundings import FloatModel
from snnir.validation.comparing import aligned, real
from snnir.validation.verdicts import IntegerCause, IntegerCauses, Traces, differs

WORK = 2e10
"""Multiplications that all runs together may take; beyond it only some samples of the batch are run, one at least."""

PAIRED = 4  # the roundings with the largest errors, whose pairs are tried where none alone explains half
HALF = 0.5
_NONE = 1e-9  # error of a layout that is the network, in other floats
CORRECTED = ("thresholds", "biases")  # what calibration moves
Measure = Literal["spike counts", "spikes", "values"]
Run = dict[str, Array]


def integer_causes(
    model: FloatModel,
    graph: Graph,
    x: Mapping[str, Array],
    reference: Mapping[str, Array],
    traces: Traces,
    lags: Mapping[str, int],
) -> IntegerCauses | None:
    """What each rounding of a chip explains; None where nothing differs that the model knows.

    Args:
        model: the chip's network in floats.
        graph, x: the network and its input, (T, B, *shape) by name.
        reference: what the network gives; traces: it and the chip's own, aligned; lags: of the chip's, by name.
    """
    changing = [r for r in model.roundings if not r.exact]
    there = {r.name for r in changing}
    correction = frozenset({model.calibration, *CORRECTED} & there) if model.calibration in there else frozenset()
    runs = 2 + len(changing) * (2 if correction else 1)
    steps, batch = next(iter(x.values())).shape[:2]
    samples = int(np.clip(WORK // max(1, model.work * steps * runs), 1, batch))
    given = {name: value[:, :samples] for name, value in x.items()}
    wanted = {name: value[:, :samples] for name, value in reference.items()}

    def run(names: Iterable[str]) -> Run:
        found = model.run(given, frozenset(names))
        pairs = aligned(graph, wanted, {n: found[n] for n in traces.pairs if n in found}, lags).pairs
        return {name: got for name, (_, got) in pairs.items()}

    none = run(())
    chip = {name: traces.pairs[name][1][:, :samples] for name in none}
    meant = {name: traces.pairs[name][0][:, :samples] for name in none}
    measure, distance = _measure(graph, meant, chip)
    if not distance(meant, chip):
        return None
    total, before = distance(meant, chip), distance(none, chip)
    known: dict[frozenset[str], tuple[float, float, float]] = {}

    def apart(names: frozenset[str]) -> tuple[float, float, float]:
        """A run's distances from no rounding, from the chip and from the reference."""
        if names not in known:
            got = run(names)
            known[names] = distance(none, got), distance(got, chip), distance(meant, got)
        return known[names]

    def explained(names: frozenset[str]) -> float:
        return max(0.0, (before - apart(names)[1]) / total)

    def cause(name: str, what: str, names: frozenset[str]) -> IntegerCause:
        alone, corrected, error = explained(names), 0.0, None
        if correction and not names & correction:
            corrected = explained(names | correction) - explained(correction)
            error = apart(names | correction)[0]
        by = corrected > alone
        return IntegerCause(name, what, False, apart(names)[0], error, max(alone, corrected), by)

    found = [
        cause(r.name, r.says, correction if r.name == model.calibration else frozenset({r.name})) for r in changing
    ]
    bent = distance(meant, none)
    if bent > _NONE:
        said = model.layout or "what the chip's layout does before any rounding"
        found.append(IntegerCause("layout", said, False, bent, None, max(0.0, (total - before) / total), False))
    everything = apart(frozenset(there))
    best = max((c.explained for c in found), default=0.0)
    if best < HALF:
        largest = sorted((c for c in found if c.name in there), key=lambda c: -c.alone)[:PAIRED]
        pairs = [
            cause(f"{a.name}+{b.name}", "both at once", frozenset({a.name, b.name}))
            for a, b in combinations(largest, 2)
        ]
        found += [c for c in pairs if c.explained == max(p.explained for p in pairs) and c.explained > best][:1]
    found.sort(key=lambda c: (-c.explained, -c.alone))
    exact = [r for r in model.roundings if r.exact]
    found += [IntegerCause(r.name, r.says, True, 0.0, None, 0.0, False) for r in exact]
    return IntegerCauses(
        measure,
        total,
        tuple(found),
        everything[2],
        everything[1] / total,
        samples,
        batch,
        1 + len(known),
    )


def _measure(graph: Graph, meant: Run, chip: Run) -> tuple[Measure, Callable[[Run, Run], float]]:
    """How far two runs are apart, by the coarsest measure in which reference and chip are."""
    spiking = [n for n in meant if n not in graph.outputs or not real(meant[n])]
    numbers = [n for n in meant if n not in spiking]
    total = sum(float(meant[n].sum()) for n in spiking)
    spikes = sum(int(np.count_nonzero(meant[n])) for n in spiking)
    size = sum(float(np.abs(meant[n]).sum()) for n in numbers)

    def counts(a: Run, b: Run) -> float:
        return sum(float(np.abs(a[n].sum(0) - b[n].sum(0)).sum()) for n in spiking) / max(total, 1.0)

    def places(a: Run, b: Run) -> float:
        return sum(int(np.count_nonzero(differs(a[n], b[n]))) for n in spiking) / max(spikes, 1)

    def values(a: Run, b: Run) -> float:
        return sum(float(np.abs(a[n] - b[n]).sum()) for n in numbers) / max(size, 1e-300)

    if counts(meant, chip):
        return "spike counts", counts
    if places(meant, chip):
        return "spikes", places
    return "values", values
