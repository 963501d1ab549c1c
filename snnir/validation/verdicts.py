"""What a validation finds, as data: verdicts, the first difference, named causes, traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from snnir.diffusion.unrolled import Crossing
from snnir.ops import Array, Shape

if TYPE_CHECKING:
    from snnir.compiler import CompileResult

Word = Literal[
    "identical",
    "identical after latency",
    "spike timing differs",
    "rates differ",
    "values differ",
    "wrong",
    "silent",
    "refused",
    "not installed",
]

NOTEWORTHY = 0.1  # share of a chip's difference from which on a rounding is named in one line
TOLERANCE = 1e-5  # of real values, relative to the largest so far: the rounding of two float64 programs


@dataclass(frozen=True)
class Difference:
    """A place where target and reference part: of the first op, in running order, whose own inputs still agree."""

    op: str
    step: int
    batch: int
    neuron: tuple[int, ...]
    expected: float
    got: float


@dataclass(frozen=True)
class Cause:
    """One reason for differences, found by giving the reference the same fault and running it again.

    Attributes:
        name: a field of `Semantics` ('reset', 'dt', ...) or a fault of the graph ('bias-dropped', 'edge-lost', ...);
            the list is in docs/validate.md and only ever grows.
        kind: 'semantics' (of the step, everywhere) or 'graph' (at one op or edge).
        where: the op, or the edge as 'source -> target'; '' where it is the whole network.
        meant: what the network says, in words; does: what the target does instead.
        explained: share of the differing places that are gone once the reference has this fault too (and those that
            stand before it in `Verdict.causes`), 0 to 1.
        remedy: the change of a parameter or an option that removes it.
        same: other faults which, on this input, would give the very same traces (so that it may be one of them).
    """

    name: str
    kind: Literal["semantics", "graph"]
    where: str
    meant: str
    does: str
    explained: float
    remedy: str
    same: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line for people."""
        at = f" at {self.where}" if self.where else ""
        return f"{self.name}{at}: it computes {self.does}, the network means {self.meant}"


@dataclass(frozen=True)
class IntegerCause:
    """What one rounding of a chip does, put alone into the network in floats.

    Attributes:
        name: 'weights', 'decay-membrane', ...; the list is in docs/validate.md and only ever grows.
        what: what it is on this chip, and how large in this network, in words.
        exact: every number of this kind can be written as it is, so that there was nothing to measure.
        alone: the error that it makes alone, against the network in floats (`IntegerCauses.measure`); of the layout,
            against the reference.
        corrected: the same together with the chip's own thresholds and biases, where these were calibrated to make up
            for the other roundings; else None.
        explained: share of the chip's difference that is gone once the network in floats has it, 0 to 1: alone, or
            with calibrated thresholds and biases, beyond what these explain without it; whichever is more.
            Shares of single roundings do not add up.
        by_correction: whether `explained` is with calibrated thresholds and biases.
    """

    name: str
    what: str
    exact: bool
    alone: float
    corrected: float | None
    explained: float
    by_correction: bool

    @property
    def label(self) -> str:
        """Its name, and whether it is what calibration left of it."""
        return f"{self.name}, calibrated" if self.by_correction else self.name


@dataclass(frozen=True)
class IntegerCauses:
    """Where a chip's difference comes from, measured rounding by rounding on the input of the validation.

    Attributes:
        measure: what errors are of: 'spike counts' (summed absolute difference per neuron over summed counts);
            where these agree 'spikes' (places that differ over spikes); without spikes 'values'.
        error: of the chip, against the reference.
        causes: one per rounding, the one that explains most first; 'layout' among them where the chip's layout, in
            floats and before any rounding, is not the network itself already.
        together: error of all of them in floats, against the reference.
        remainder: share of the chip's difference that all of them together do not give.
        samples: how many of the batch it was measured on; runs: of the network in floats.
    """

    measure: Literal["spike counts", "spikes", "values"]
    error: float
    causes: tuple[IntegerCause, ...]
    together: float
    remainder: float
    samples: int
    batch: int
    runs: int

    @property
    def headline(self) -> str:
        """What explains most, in a few words; only what was measured."""
        found = [c for c in self.causes if c.explained >= NOTEWORTHY]
        said = ", ".join(f"{c.label} {c.explained:.0%}" for c in found) or f"none a tenth; all at once {self.share:.0%}"
        size = f"{self.error:.2%}" if self.error >= 1e-4 else f"{100 * self.error:.1g}%"
        return f"alone, in floats, these explain the difference in {self.measure} ({size}): {said}"

    @property
    def share(self) -> float:
        """What all roundings together explain, 0 to 1."""
        return max(0.0, 1.0 - self.remainder)

    @property
    def text(self) -> str:
        """One line for people."""
        first = f"; {self.causes[0].name}: {self.causes[0].what}" if self.causes and self.causes[0].explained else ""
        return f"{self.headline}{first}"


@dataclass(frozen=True)
class Population:
    """How one recorded op fares: its spikes in the reference, the places that differ, and the first such step."""

    op: str
    spikes: int
    differing: int
    first_step: int | None


@dataclass(frozen=True)
class Traces:
    """What reference and target gave, aligned in time (a target's stated latency is taken out).

    Attributes:
        pairs: op name -> (reference, target), each (T - latency, B, *shape); in running order, outputs last.
        misshapen: op name -> (shape of the reference, shape of the target's), where these hold other numbers of values.
    """

    pairs: Mapping[str, tuple[Array, Array]]
    misshapen: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)

    @cached_property
    def places(self) -> Mapping[str, Array]:
        """Op name -> where the two differ by more than rounding, a bool array like the traces."""
        return {name: differs(*pair) for name, pair in self.pairs.items()}

    def divergence(self) -> dict[str, Array]:
        """Op name -> number of places that differ in each step, int64 (T - latency,)."""
        return {name: np.count_nonzero(w.reshape(len(w), -1), axis=1) for name, w in self.places.items()}

    def populations(self) -> tuple[Population, ...]:
        """One summary per op, in the same order."""
        found = []
        for name, counts in self.divergence().items():
            steps = np.flatnonzero(counts)
            first = int(steps[0]) if steps.size else None
            found.append(Population(name, int(np.count_nonzero(self.pairs[name][0])), int(counts.sum()), first))
        return tuple(found)


def differs(want: Array, got: Array, tolerance: float = TOLERANCE) -> Array:
    """Where two traces (T, ...) differ by more than rounding: relative to the largest value wanted until that step."""
    finite = np.abs(np.where(np.isfinite(want), want, 0.0)).reshape(want.shape[0], -1).max(axis=1, initial=1.0)
    scale = np.maximum.accumulate(finite).reshape(-1, *[1] * (want.ndim - 1))
    with np.errstate(invalid="ignore"):
        return ~(np.abs(want - got) <= max(tolerance, TOLERANCE) * scale)  # what is no number differs


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
        first: where they part; cause: the reason in words, as far as one is known.
        causes: the named reasons; together they explain `explained` of the differences (at least 99 %, else there
            are none). partial: single reasons that explain some of the differences, best first, where none is named.
        populations: how each recorded op fares, in running order.
        violations: why the target refused the network.
        crossing: of a sampler that is to hand on spikes only: what crossed from call to call in the target's run.
        integers: of a target that computes in integers: what each of its roundings explains, measured.
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
    causes: tuple[Cause, ...] = ()
    explained: float = 0.0
    partial: tuple[Cause, ...] = ()
    populations: tuple[Population, ...] = ()
    violations: tuple[dict[str, Any], ...] = ()
    crossing: Crossing | None = None
    integers: IntegerCauses | None = None

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
        traces: target -> what was compared, where `validate(..., keep_traces=True)` was asked for.
    """

    verdicts: tuple[Verdict, ...]
    steps: int
    batch: int
    seed: int | None
    results: Mapping[str, CompileResult] = field(default_factory=dict, repr=False)
    made_up: str = "random spikes"
    crossing: Crossing | None = None
    traces: Mapping[str, Traces] = field(default_factory=dict, repr=False)

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
