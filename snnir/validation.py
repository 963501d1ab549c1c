"""Is it the same network? The reference and every target on the same input, and one verdict per target.

Spike-exact first: two rasters are the same only if every spike of every neuron is in the same step, up to a latency
that the target states. Averages and similarities hide errors, so they are reported only once exactness has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from snnir.compiler import CompileResult, compile, load
from snnir.diffusion.unrolled import Crossing, counted_crossing, crossing, sampler_of
from snnir.errors import CompileError, MissingPackageError, UsageError
from snnir.graph import Graph
from snnir.interpreter import as_inputs, interpret
from snnir.ops import Array, SpikingNeuron, Threshold
from snnir.semantics import Semantics
from snnir.stimuli import RATE, described, stimuli

Word = Literal[
    "identical",
    "identical after latency",
    "spike timing differs",
    "rates differ",
    "wrong",
    "silent",
    "refused",
    "not installed",
]

TOLERANCE = 1e-5  # of real values, relative to the largest of them: the rounding of two float64 programs
# Summed difference of spike counts over summed counts, and of integer targets the root mean square difference of real
# values over their root mean square; above it the network is another one.
RATE_LIMIT = 0.5


@dataclass(frozen=True)
class Difference:
    """The first place where target and reference part."""

    op: str
    step: int
    batch: int
    neuron: tuple[int, ...]
    expected: float
    got: float


@dataclass(frozen=True)
class Verdict:
    """What one target makes of the network.

    Attributes:
        target: its name; verdict: in one of the words of `Word`; ok: whether that is what the target promises.
        latency: steps by which its outputs come late (a stated latency is not a fault).
        spikes: spikes of the reference in all compared populations; differing: (step, neuron) places that differ.
        count_error: summed absolute difference of spike counts per neuron over summed counts.
        max_error: largest error of a real-valued output, relative to the largest value.
        float32_flips: places that differ when the target runs in float32 instead of float64; None if it does not.
        first: where they part; cause: the named reason, as far as one is known.
        violations: why the target refused the network.
        crossing: of a sampler that is to hand on spikes only: what crossed from call to call in the target's run.
    """

    target: str
    verdict: Word
    ok: bool
    latency: int = 0
    spikes: int = 0
    differing: int = 0
    count_error: float = 0.0
    max_error: float = 0.0
    float32_flips: int | None = None
    first: Difference | None = None
    cause: str = ""
    violations: tuple[dict[str, Any], ...] = ()
    crossing: Crossing | None = None

    @property
    def words(self) -> str:
        """The verdict in words, with its latency."""
        steps = f"{self.latency} step{'s' if self.latency != 1 else ''}"
        return f"identical after {steps}" if self.verdict == "identical after latency" else self.verdict

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """The verdicts on all targets, and what they were measured on.

    Attributes:
        seed: of inputs that were made up, None for recorded ones.
        made_up: what such inputs were.
        crossing: as `Verdict.crossing`, in the reference's run.
    """

    verdicts: tuple[Verdict, ...]
    steps: int
    batch: int
    seed: int | None
    results: Mapping[str, CompileResult] = field(default_factory=dict, repr=False)
    made_up: str = "random spikes"
    crossing: Crossing | None = None

    @property
    def ok(self) -> bool:
        """Whether every target keeps its promise, and nothing but spikes crosses where that is the network's."""
        return all(v.ok for v in self.verdicts) and not (self.crossing and self.crossing.faults)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON data: `ok`, `input`, and a list `verdicts`."""
        origin = "recorded" if self.seed is None else f"{self.made_up}, seed {self.seed}"
        return {
            "ok": self.ok,
            "input": {"steps": self.steps, "batch": self.batch, "origin": origin},
            "verdicts": [v.to_json() for v in self.verdicts],
            "crossing": None if self.crossing is None else asdict(self.crossing),
        }


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
    watched = [name for name, op in graph.ops.items() if isinstance(op, (SpikingNeuron, Threshold))]
    if sampler_of(graph) is not None:
        watched += dict.fromkeys(e.source for e in crossing(graph) if e.source not in watched)
    reference = _traces(graph, interpret(graph, x, record=watched))
    verdicts: list[Verdict] = []
    results: dict[str, CompileResult] = {}
    for target in targets:
        try:
            results[target] = compile(graph, target, **{"calibrate": x, **options})
            verdicts.append(_judge(graph, results[target], x, reference))
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
    )


def _traces(graph: Graph, run: tuple[Any, Mapping[str, Array]]) -> dict[str, Array]:
    """Recorded populations first, in graph order, then the outputs: where they part first is the first cause."""
    outputs, recorded = run
    by_name = outputs if isinstance(outputs, Mapping) else {graph.outputs[0]: outputs}
    return {**recorded, **by_name}


def _judge(graph: Graph, result: CompileResult, x: dict[str, Array], reference: Mapping[str, Array]) -> Verdict:
    lags: Mapping[str, int] = getattr(result.artifact, "lags", {})
    watched = [n for n in reference if n not in graph.outputs and n in result.graph]
    got = _traces(graph, result.run(x, record=watched))
    pairs = {
        name: _aligned(reference[name], values, lags.get(name, result.latency if name in graph.outputs else 0))
        for name, values in got.items()
    }
    flips = None
    if result.in_floats:
        single = _traces(graph, result.run({n: v.astype(np.float32) for n, v in x.items()}, record=watched))
        flips = sum(int(np.count_nonzero(_parts(got[n], v, _real(v) * 1e-3))) for n, v in single.items())
    verdict = _compare(graph, result, pairs, reference, flips)
    crossed = counted_crossing(graph, {name: got for name, (_, got) in pairs.items()})
    if crossed is not None:
        verdict = replace(verdict, crossing=crossed, ok=verdict.ok and not crossed.faults)
    if verdict.first is not None and not verdict.cause:
        cause = _named_cause(graph, x, watched, got) if result.in_floats else "fixed-point weights and decays"
        verdict = replace(verdict, cause=cause)
    return verdict


def _aligned(want: Array, got: Array, lag: int) -> tuple[Array, Array]:
    got = got.reshape(got.shape[0], got.shape[1], *want.shape[2:])
    return (want[: want.shape[0] - lag], got[lag:]) if lag else (want, got)


def _parts(want: Array, got: Array, tolerance: float = TOLERANCE) -> Array:
    """Where two traces differ by more than rounding."""
    finite = np.where(np.isfinite(want), want, 0.0)
    scale = max(1.0, float(np.abs(finite).max(initial=0.0)))
    with np.errstate(invalid="ignore"):
        return ~(np.abs(want - got) <= max(tolerance, TOLERANCE) * scale)  # what is no number differs


def _real(trace: Array) -> bool:
    """Whether a trace holds other values than whole numbers."""
    return bool(np.any(trace != np.rint(trace)))


def _compare(
    graph: Graph,
    result: CompileResult,
    pairs: Mapping[str, tuple[Array, Array]],
    reference: Mapping[str, Array],
    flips: int | None,
) -> Verdict:
    places = {name: _parts(*pair) for name, pair in pairs.items()}
    spiking = [n for n in pairs if n not in graph.outputs or not _real(reference[n])]
    spikes = sum(int(np.count_nonzero(pairs[n][0])) for n in spiking)
    facts: dict[str, Any] = {
        "latency": result.latency,
        "spikes": spikes,
        "differing": sum(int(np.count_nonzero(p)) for p in places.values()),
        "count_error": _count_error([pairs[n] for n in spiking]),
        "max_error": max((_max_error(*pairs[n]) for n in graph.outputs if _real(reference[n])), default=0.0),
        "float32_flips": flips,
        "first": next(_first_differences(pairs, places), None),
    }
    name = result.target
    if not any(np.any(want) for want, _ in pairs.values()):
        silence = "the reference gave no spike and no value on this input; give a recorded one"
        return Verdict(name, "silent", False, cause=silence, **facts)
    endless = next((n for n, (want, _) in pairs.items() if not np.isfinite(want).all()), None)
    if endless is not None:
        cause = f"the values of {endless} grow beyond all numbers on this input, so nothing can be compared"
        return Verdict(name, "wrong", False, cause=cause, **facts)
    if facts["first"] is None:
        return Verdict(name, "identical after latency" if result.latency else "identical", True, **facts)
    quantised = not result.in_floats
    numbers = [pairs[n] for n in graph.outputs if n in pairs and _real(reference[n])]
    near = facts["max_error"] <= TOLERANCE or (quantised and max(map(_mean_error, numbers), default=0.0) <= RATE_LIMIT)
    counts_same = all(np.abs(w.sum(0) - g.sum(0)).max(initial=0) <= 1 for w, g in (pairs[n] for n in spiking))
    if spiking and counts_same and near:
        return Verdict(name, "spike timing differs", quantised, **facts)
    if spiking and facts["count_error"] <= RATE_LIMIT and near:
        return Verdict(name, "rates differ", quantised, **facts)
    return Verdict(name, "wrong", False, **facts)


def _count_error(pairs: Sequence[tuple[Array, Array]]) -> float:
    total = sum(float(want.sum()) for want, _ in pairs)
    return sum(float(np.abs(w.sum(0) - g.sum(0)).sum()) for w, g in pairs) / max(total, 1.0)


def _mean_error(pair: tuple[Array, Array]) -> float:
    """Root mean square difference over the root mean square of what was wanted."""
    want, got = pair
    return float(np.sqrt(((want - got) ** 2).mean() / max(float((want**2).mean()), 1e-300)))


def _max_error(want: Array, got: Array) -> float:
    return float(np.abs(want - got).max(initial=0.0) / max(1.0, float(np.abs(want).max(initial=0.0))))


def _first_differences(pairs: Mapping[str, tuple[Array, Array]], places: Mapping[str, Array]) -> Iterator[Difference]:
    """The earliest difference of each trace, earliest step first."""
    found: list[Difference] = []
    for name, where in places.items():
        if where.any():
            step, batch, *neuron = (int(i) for i in np.argwhere(where)[0])
            want, got = (float(side[(step, batch, *neuron)]) for side in pairs[name])
            found.append(Difference(name, step, batch, tuple(neuron), want, got))
    yield from sorted(found, key=lambda d: d.step)  # stable: at equal steps the op that comes first in the graph


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
            traces = _traces(graph, interpret(graph, x, semantics=other, record=watched))
            left = sum(int(np.count_nonzero(_parts(traces[n], got[n].reshape(traces[n].shape)))) for n in got)
            if best is None or left < best[0]:
                was = getattr(graph.semantics, name)
                best = (left, f"{name}: it computes {value!r}, the network means {was!r}")
    return best[1] if best is not None and best[0] == 0 else "no single field of the semantics explains it"
