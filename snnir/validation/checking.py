"""Is it the same network? The reference and every target on the same input, and one verdict per target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from snnir.compiler import CompileResult, compile, load
from snnir.diffusion.unrolled import counted_crossing, crossing, sampler_of
from snnir.errors import CompileError, MissingPackageError, UsageError, fail
from snnir.graph import Graph
from snnir.interpreter import as_inputs, interpret
from snnir.ops import Array, SpikingNeuron, Threshold
from snnir.semantics import Semantics
from snnir.stimuli import RATE, described, stimuli
from snnir.validation.comparing import aligned, compare, real
from snnir.validation.roundings import integer_causes
from snnir.validation.search import Probe, explain
from snnir.validation.verdicts import Report, Traces, Verdict, differs

FIXED_POINT = "it computes in integers; which of its roundings it is, was not measured"


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
    vendor: bool = False,
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
        vendor: whether chips run in their vendor's own software as well, where the target can (lava: in Lava, as a
            process of its own Python): one more verdict each.
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
    if not graph.inputs:
        raise fail("validate-input", "has no input, so nothing says how many steps to run", expected="an Input")
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
            if vendor and hasattr(results[target].artifact, "run_vendor"):
                verdicts.append(_vendors(graph, results[target], x, reference, traces, verdict))
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


def _vendors(
    graph: Graph,
    result: CompileResult,
    x: dict[str, Array],
    reference: Mapping[str, Array],
    simulated: Traces,
    here: Verdict,
) -> Verdict:
    """The verdict on the same artifact in its vendor's software, which must give what the simulator here gives."""
    name = f"{result.target} in {result.artifact.vendor}"  # type: ignore[attr-defined]
    try:
        verdict, traces = _judge(graph, replace(result, artifact=_InVendors(result.artifact)), x, reference, False)
    except CompileError as error:  # what else could be wrong, the run in the simulator has said
        return Verdict(name, "not installed", False, cause=str(error))
    verdict = replace(verdict, target=name)
    parted = [n for n, (_, got) in traces.pairs.items() if not np.array_equal(got, simulated.pairs[n][1])]
    if not parted:  # the same values, and so for the same reasons
        return replace(verdict, cause=here.cause, integers=here.integers)
    cause = f"the simulator of {result.target} gives something else than {result.artifact.vendor} in {parted[0]}"  # type: ignore[attr-defined]
    return replace(verdict, verdict="wrong", ok=False, cause=cause)


class _InVendors:
    """An artifact that runs in its vendor's software."""

    def __init__(self, artifact: Any) -> None:
        self._artifact = artifact

    def __getattr__(self, name: str) -> Any:
        return getattr(self._artifact, name)

    def run(self, inputs: Mapping[str, Array], record: tuple[str, ...] = ()) -> Any:
        """As the artifact's own `run`, elsewhere."""
        return self._artifact.run_vendor(inputs, record)


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
    graph: Graph, result: CompileResult, x: dict[str, Array], reference: Mapping[str, Array], explained: bool = True
) -> tuple[Verdict, Traces]:
    lags = {name: result.latency for name in graph.outputs} | dict(getattr(result.artifact, "lags", {}))
    watched = [n for n in reference if n not in graph.outputs and n in result.graph]
    steps, late = len(next(iter(x.values()))), max(lags.values(), default=0)
    if late >= steps:
        raise fail(
            "input-too-short",
            f"{steps} steps of input end before anything that they cause arrives, {late} steps late",
            where=result.target,
            expected=f"more than {late} steps",
            hint="take --steps, or longer recorded input",
        )

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return _traces(graph, result.run(inputs, record=watched))

    got = run(x)
    flips = None
    if result.in_floats:
        single = run({n: v.astype(np.float32) for n, v in x.items()})
        flips = sum(int(np.count_nonzero(differs(got[n], v, real(v) * 1e-3))) for n, v in single.items())
    verdict, traces = judge(
        graph,
        x,
        got,
        result.target,
        reference=reference,
        latency=result.latency,
        lags=lags,
        flips=flips,
        quantised=not result.in_floats,
        probe=run if result.in_floats else None,
    )
    if verdict.cause == FIXED_POINT and explained:
        verdict = _explained(verdict, graph, result, x, reference, traces, lags)
    return verdict, traces


def _explained(
    verdict: Verdict,
    graph: Graph,
    result: CompileResult,
    x: Mapping[str, Array],
    reference: Mapping[str, Array],
    traces: Traces,
    lags: Mapping[str, int],
) -> Verdict:
    """What each rounding of the target explains; where it has no list of them, whether its graph is the network."""
    model = result.artifact.floats() if hasattr(result.artifact, "floats") else None
    found = None if model is None else integer_causes(model, graph, x, reference, traces, lags)
    if found is not None:
        return replace(verdict, cause=found.text, integers=found)
    if not _same_before_rounding(graph, result, x, reference):
        return verdict
    proof = "in floats, the network as it was after all passes gives the reference's outputs in every place"
    return replace(verdict, cause=f"{FIXED_POINT}: {proof}")


def _same_before_rounding(
    graph: Graph, result: CompileResult, x: Mapping[str, Array], reference: Mapping[str, Array]
) -> bool:
    """Whether the target's graph, computed in floats, is still the network: then what differs are its integers."""
    try:
        lowered = run_reference(result.graph, x, [])
    except (CompileError, UsageError):
        return False
    given = {name: lowered.get(name) for name in graph.outputs}
    return all(
        v is not None and v.shape == reference[n].shape and not differs(reference[n], v).any() for n, v in given.items()
    )


def judge(
    graph: Graph,
    inputs: Array | Mapping[str, Array],
    got: Mapping[str, Array],
    target: str = "other",
    *,
    reference: Mapping[str, Array] | None = None,
    latency: int = 0,
    lags: Mapping[str, int] | None = None,
    flips: int | None = None,
    quantised: bool = False,
    probe: Probe | None = None,
) -> tuple[Verdict, Traces]:
    """The verdict on what any implementation gave, with its causes, and the traces that were compared.

    Args:
        graph: the network.
        inputs: what both got: (T, B, *shape), or a dict by input name.
        got: op or output name -> (T, B, *shape): of the populations that are known, and of the outputs.
        target: what to call the implementation.
        reference: what `run_reference` gave; default it is run.
        latency: steps by which the outputs are stated to be late; lags: the same by name.
        flips: places where its float32 run differs from its float64 run.
        quantised: it computes in integers, and so promises rates only.
        probe: runs it on other inputs, so that causes that explain the same can be told apart (see `explain`).

    Raises:
        CompileError: the graph or the inputs are not sound.
    """
    x = as_inputs(graph, inputs, np.float64)
    if reference is None:
        reference = run_reference(graph, x, [n for n in got if n in graph and n not in graph.outputs])
    lags = dict.fromkeys(graph.outputs, latency) if lags is None else lags
    traces = aligned(graph, reference, got, lags)
    verdict = compare(graph, target, traces, latency=latency, flips=flips, quantised=quantised)
    crossed = counted_crossing(graph, {name: side for name, (_, side) in traces.pairs.items()})
    if crossed is not None:
        verdict = replace(verdict, crossing=crossed, ok=verdict.ok and not crossed.faults)
    if verdict.first is None or verdict.cause:
        return verdict, traces
    if quantised:
        return replace(verdict, cause=FIXED_POINT), traces
    why = explain(graph, x, got, lags=lags, probe=probe)
    return replace(verdict, cause=why.text, causes=why.causes, explained=why.explained, partial=why.partial), traces
