"""Is it the same network? The reference and every target on the same input, and one verdict per target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from snnir.compiler import CompileResult, compile, load
from snnir.diffusion.unrolled import counted_crossing, crossing, sampler_of
from snnir.errors import CompileError, MissingPackageError, UsageError
from snnir.graph import Graph
from snnir.interpreter import as_inputs, interpret
from snnir.ops import Array, SpikingNeuron, Threshold
from snnir.semantics import Semantics
from snnir.stimuli import RATE, described, stimuli
from snnir.validation.comparing import aligned, compare, real
from snnir.validation.verdicts import Report, Traces, Verdict, differs


@np.errstate(over="ignore", invalid="ignore")  # what grows beyond all numbers is a verdict, not a warning
def validate(
    source: Any,
    targets: str | Sequence[str],
    inputs: Array | Mapping[str, Array] | None = None,
    *,
    steps: int | None = None,
    batch: int = 8,
    seed: int = 0,
    rate: float = RATE,
    dt: float | None = None,
    semantics: Semantics | None = None,
    keep_traces: bool = False,
    **options: Any,
) -> Report:
    """Runs the reference interpreter and every target on the same input and compares them.

    Args:
        source: anything that `snnir.load` takes.
        targets: names of targets.
        inputs: (T, B, *shape) or a dict by input name; default what the graph says its inputs look like
            (`snnir.stimuli`), else random spikes, which every target can take.
        steps, batch, seed, rate: of such inputs: T (default what the graph says, else 100), B, the generator's seed,
            spikes per channel and step.
        dt, semantics: as for `snnir.load`.
        keep_traces: whether the report holds what was compared (`Report.traces`).
        options: of `snnir.compile`.

    Returns:
        One verdict per target, in order.

    Raises:
        CompileError: the source or the input is not sound (a target that refuses gives a verdict instead).
        UsageError: an unknown target.
    """
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    if not targets:
        raise UsageError("name at least one target")
    graph = load(source, dt=dt, semantics=semantics)
    x = as_inputs(graph, inputs if inputs is not None else stimuli(graph, steps, batch, seed, rate), np.float64)
    watched = populations(graph)
    if sampler_of(graph) is not None:
        watched += dict.fromkeys(e.source for e in crossing(graph) if e.source not in watched)
    reference = run_reference(graph, x, watched)
    verdicts: list[Verdict] = []
    results: dict[str, CompileResult] = {}
    kept: dict[str, Traces] = {}
    for target in targets:
        try:
            results[target] = compile(graph, target, **{"calibrate": x, **options})
            verdict, traces = _judge(graph, results[target], x, reference)
            verdicts.append(verdict)
            if keep_traces:
                kept[target] = traces
        except CompileError as error:
            reasons = tuple(v.to_json() for v in error.violations)
            verdicts.append(Verdict(target, "refused", False, cause=error.violations[0].what, violations=reasons))
        except MissingPackageError as error:
            verdicts.append(Verdict(target, "not installed", False, cause=str(error)))
    first = next(iter(x.values()))
    return Report(
        tuple(verdicts),
        first.shape[0],
        first.shape[1],
        None if inputs is not None else seed,
        results,
        "event counts as the model describes them" if described(graph) else "random spikes",
        counted_crossing(graph, reference),
        kept,
    )


def populations(graph: Graph) -> list[str]:
    """The ops whose spikes are compared, besides the outputs."""
    return [name for name, op in graph.ops.items() if isinstance(op, (SpikingNeuron, Threshold))]


def run_reference(
    graph: Graph, x: Mapping[str, Array], record: Sequence[str], semantics: Semantics | None = None
) -> dict[str, Array]:
    """What the recorded ops and the outputs give, by name."""
    return _traces(graph, interpret(graph, x, semantics=semantics, record=record))


def _traces(graph: Graph, run: tuple[Any, Mapping[str, Array]]) -> dict[str, Array]:
    outputs, recorded = run
    by_name = outputs if isinstance(outputs, Mapping) else {graph.outputs[0]: outputs}
    return {**recorded, **by_name}


def _judge(
    graph: Graph, result: CompileResult, x: dict[str, Array], reference: Mapping[str, Array]
) -> tuple[Verdict, Traces]:
    lags = {name: result.latency for name in graph.outputs} | dict(getattr(result.artifact, "lags", {}))
    watched = [n for n in reference if n not in graph.outputs and n in result.graph]
    got = _traces(graph, result.run(x, record=watched))
    traces = aligned(graph, reference, got, lags)
    flips = None
    if result.in_floats:
        single = _traces(graph, result.run({n: v.astype(np.float32) for n, v in x.items()}, record=watched))
        flips = sum(int(np.count_nonzero(differs(got[n], v, real(v) * 1e-3))) for n, v in single.items())
    verdict = compare(graph, result.target, traces, latency=result.latency, flips=flips, quantised=not result.in_floats)
    crossed = counted_crossing(graph, {name: side for name, (_, side) in traces.pairs.items()})
    if crossed is not None:
        verdict = replace(verdict, crossing=crossed, ok=verdict.ok and not crossed.faults)
    if verdict.first is not None and not verdict.cause:
        cause = _named_cause(graph, x, watched, got) if result.in_floats else "fixed-point weights and decays"
        verdict = replace(verdict, cause=cause)
    return verdict, traces


_ALTERNATIVES: Mapping[str, tuple[Any, ...]] = {
    "comparison": (">", ">="),
    "reset": ("value", "subtract", "delayed-value", "delayed-subtract", "held-subtract"),
    "decay": ("euler", "exponential"),
    "gain": ("ode", "unit"),
    "order": ("synapse-first", "membrane-first"),
    "latency_neuron": (0, 1),
    "recurrent_bias_at_start": (True, False),
    "start": ("rest", "zero"),
}


def _named_cause(graph: Graph, x: dict[str, Array], watched: list[str], got: Mapping[str, Array]) -> str:
    """The one field of the semantics whose other value would make the reference do what the target does."""
    best: tuple[int, str] | None = None
    for name, values in _ALTERNATIVES.items():
        for value in values:
            if value == getattr(graph.semantics, name):
                continue
            other = graph.semantics.with_(**{name: value})
            traces = aligned(graph, run_reference(graph, x, watched, other), got)
            left = sum(int(np.count_nonzero(places)) for places in traces.places.values())
            if best is None or left < best[0]:
                was = getattr(graph.semantics, name)
                best = (left, f"{name}: it computes {value!r}, the network means {was!r}")
    return best[1] if best is not None and best[0] == 0 else "no single field of the semantics explains it"
