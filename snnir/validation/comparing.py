"""From traces to a verdict: who parts first, by how much, and in which word.

Spike-exact first: two rasters are the same only if every spike of every neuron is in the same step, up to a latency
that the target states. Averages and similarities hide errors, so they are reported only once exactness has failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from snnir.graph import Graph
from snnir.ops import Array, Shape
from snnir.schedule import schedule
from snnir.validation.verdicts import TOLERANCE, Difference, Traces, Verdict

# Summed difference of spike counts over summed counts, and of integer targets the root mean square difference of real
# values over their root mean square; above it the network is another one.
RATE_LIMIT = 0.5


def aligned(
    graph: Graph, reference: Mapping[str, Array], got: Mapping[str, Array], lags: Mapping[str, int] | None = None
) -> Traces:
    """Pairs (reference, target) of what both recorded, in running order, without the lags (steps, by op name)."""
    lags = lags or {}
    order = [name for name in schedule(graph).order if name in got and name in reference]
    order.sort(key=lambda name: name in graph.outputs)  # stable: outputs last
    pairs: dict[str, tuple[Array, Array]] = {}
    misshapen: dict[str, tuple[Shape, Shape]] = {}
    for name in order:
        want, given = reference[name], np.asarray(got[name])
        if given.shape[:2] != want.shape[:2] or given.size != want.size:
            misshapen[name] = (want.shape, given.shape)
            continue
        given, lag = given.reshape(want.shape), lags.get(name, 0)
        pairs[name] = (want[: want.shape[0] - lag], given[lag:]) if lag else (want, given)
    return Traces(pairs, misshapen)


def real(trace: Array) -> bool:
    """Whether a trace holds other values than whole numbers."""
    return bool(np.any(trace != np.rint(trace)))


def first_difference(graph: Graph, traces: Traces) -> Difference | None:
    """Where target and reference part, or None.

    It is the first op in running order whose own inputs still agree up to the step in which it parts: what parts
    because something before it did is no place to look, however early it is.
    """
    parted = {name: int(np.flatnonzero(c)[0]) for name, c in traces.divergence().items() if c.any()}
    if not parted:
        return None
    names = [name for name in parted if _on_its_own(graph, name, parted, set(traces.pairs))]
    name = names[0] if names else min(parted, key=parted.__getitem__)
    step, batch, *neuron = (int(i) for i in np.argwhere(traces.places[name])[0])
    want, got = (float(side[(step, batch, *neuron)]) for side in traces.pairs[name])
    return Difference(name, step, batch, tuple(neuron), want, got)


def _on_its_own(graph: Graph, name: str, parted: Mapping[str, int], recorded: set[str]) -> bool:
    """Whether the nearest recorded ops before `name` still agree when it parts."""
    late = schedule(graph).back_edges
    step = parted[name]
    seen: set[str] = set()
    ways = [(edge, 0) for edge in graph.incoming[name]]
    for edge, lag in ways:  # grows while it is walked
        lag = lag + (edge in late)
        if edge.source in recorded:
            if edge.source != name and parted.get(edge.source, step + 1) + lag <= step:
                return False
        elif edge.source not in seen:
            seen.add(edge.source)
            ways += [(before, lag) for before in graph.incoming[edge.source]]
    return True


@np.errstate(over="ignore", invalid="ignore")  # what grows beyond all numbers is a verdict, not a warning
def compare(
    graph: Graph,
    target: str,
    traces: Traces,
    *,
    latency: int = 0,
    flips: int | None = None,
    quantised: bool = False,
) -> Verdict:
    """The verdict on aligned traces, without causes.

    Args:
        graph: the network; target: a name for what was compared.
        traces: from `aligned`.
        latency: that was taken out of the outputs, in steps.
        flips: places where the target's float32 run differs from its float64 run.
        quantised: the target computes in integers, and so promises rates only.
    """
    pairs = traces.pairs
    spiking = [n for n in pairs if n not in graph.outputs or not real(pairs[n][0])]
    numbers = [n for n in pairs if n in graph.outputs and real(pairs[n][0])]
    facts: dict[str, Any] = {
        "latency": latency,
        "spikes": sum(int(np.count_nonzero(pairs[n][0])) for n in spiking),
        "differing": sum(int(np.count_nonzero(p)) for p in traces.places.values()),
        "count_error": _count_error([pairs[n] for n in spiking]),
        "max_error": max((_max_error(*pairs[n]) for n in numbers), default=0.0),
        "float32_flips": flips,
        "first": first_difference(graph, traces),
        "populations": traces.populations(),
    }
    if traces.misshapen:
        name, (want, given) = next(iter(traces.misshapen.items()))
        cause = f"{name} has shape {list(given)} (steps, batch, ...), the network means {list(want)}"
        return Verdict(target, "wrong", False, cause=cause, **facts)
    if not any(np.any(want) for want, _ in pairs.values()):
        silence = "the reference gave no spike and no value on this input; give a recorded one"
        return Verdict(target, "silent", False, cause=silence, **facts)
    endless = next((n for n, (want, _) in pairs.items() if not np.isfinite(want).all()), None)
    if endless is not None:
        cause = f"the values of {endless} grow beyond all numbers on this input, so nothing can be compared"
        return Verdict(target, "wrong", False, cause=cause, **facts)
    if facts["first"] is None:
        return Verdict(target, "identical after latency" if latency else "identical", True, **facts)
    mean_error = max((_mean_error(pairs[n]) for n in numbers), default=0.0)
    near = facts["max_error"] <= TOLERANCE or (quantised and mean_error <= RATE_LIMIT)
    counts_same = all(np.abs(w.sum(0) - g.sum(0)).max(initial=0) <= 1 for w, g in (pairs[n] for n in spiking))
    if spiking and counts_same and near:
        return Verdict(target, "spike timing differs", quantised, **facts)
    if spiking and facts["count_error"] <= RATE_LIMIT and near:
        return Verdict(target, "rates differ", quantised, **facts)
    if quantised and not spiking and near:
        return Verdict(target, "values differ", True, **facts)
    return Verdict(target, "wrong", False, **facts)


def _count_error(pairs: Sequence[tuple[Array, Array]]) -> float:
    total = sum(float(want.sum()) for want, _ in pairs)
    return sum(float(np.abs(w.sum(0) - g.sum(0)).sum()) for w, g in pairs) / max(total, 1.0)


def _mean_error(pair: tuple[Array, Array]) -> float:
    """Root mean square difference over the root mean square of what was wanted."""
    want, got = pair
    return float(np.sqrt(((want - got) ** 2).mean() / max(float((want**2).mean()), 1e-300)))


def _max_error(want: Array, got: Array) -> float:
    return float(np.abs(want - got).max(initial=0.0) / max(1.0, float(np.abs(want).max(initial=0.0))))
