"""From traces to a verdict: equal, or where they part first and which known mistake that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from snnir.conformance.suite import Case
from snnir.ops import Array

Word = Literal["exact", "quantised", "refused", "crashed", "wrong"]
WORDS: tuple[Word, ...] = ("exact", "quantised", "refused", "crashed", "wrong")

# Of integer targets: summed difference of spike counts over summed counts, and of real values the root mean square
# difference over the root mean square. Above it the network is another one. As in `snnir validate`.
RATE_LIMIT = 0.5
FARTHEST = 3  # steps by which a late answer is recognised as such


@dataclass(frozen=True)
class CaseVerdict:
    """What one target or library makes of one case.

    Attributes:
        verdict: 'exact'; 'quantised': an integer target that is near, which is all that integers can be; 'refused'
            with a reason; 'crashed'; 'wrong': without a word of warning, another network.
        reason: why, in a line: the refusal, the error, or the first difference.
        looks_like: the known mistake that gives just this answer, if one does.
        differing: values of the outputs that differ. error: of a quantised answer, relative (see `RATE_LIMIT`).
    """

    case: str
    group: str
    verdict: Word
    reason: str = ""
    looks_like: str = ""
    differing: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class Score:
    """The verdicts on all cases. `subject` is the target or adapter."""

    subject: str
    verdicts: tuple[CaseVerdict, ...]

    def count(self, word: Word, group: str | None = None) -> int:
        """How many cases have a verdict."""
        return sum(v.verdict == word and group in (None, v.group) for v in self.verdicts)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and nothing crashed: what cannot be done is refused."""
        return not (self.count("wrong") or self.count("crashed"))

    @property
    def summary(self) -> str:
        """One line: '44/57 exact · 13 refused · 0 silently wrong'."""
        parts = [f"{self.count('exact')}/{len(self.verdicts)} exact"]
        for word, text in (("quantised", "not exact: quantised"), ("refused", "refused"), ("crashed", "crashed")):
            if self.count(word):  # type: ignore[arg-type]
                parts.append(f"{self.count(word)} {text}")  # type: ignore[arg-type]
        return " · ".join([*parts, f"{self.count('wrong')} silently wrong"])

    def to_json(self) -> dict[str, Any]:
        """The score as plain JSON data."""
        return {
            "subject": self.subject,
            "ok": self.ok,
            "summary": self.summary,
            "counts": {word: self.count(word) for word in WORDS},
            "verdicts": [asdict(v) for v in self.verdicts],
        }


def judge(
    case: Case, traces: Mapping[str, Array], lags: Mapping[str, int] | None = None, quantised: bool = False
) -> CaseVerdict:
    """The verdict on traces of a case.

    Args:
        traces: name -> (T, B, *shape) of every output and of any of the recorded populations.
        lags: steps by which a trace comes late as its target states.
        quantised: whether the target computes in integers, and is judged by how near it is.
    """
    late = lags or {}
    wanted = {**case.population_spikes(), **case.expected()}
    pairs = {name: _aligned(wanted[name], traces[name], late.get(name, 0)) for name in wanted if name in traces}
    places = {name: _differ(*pair, case.tolerance) for name, pair in pairs.items()}
    differing = sum(int(np.count_nonzero(places[name])) for name in case.outputs)
    if not any(where.any() for where in places.values()):
        return CaseVerdict(case.name, case.group, "exact")
    outputs = {name: pairs[name] for name in case.outputs}
    error = max(_error(*pair) for pair in outputs.values())
    if quantised and error <= RATE_LIMIT:
        reason = f"{_kind(outputs)} off by {error:.1%}"
        return CaseVerdict(case.name, case.group, "quantised", reason, differing=differing, error=error)
    first = _first(pairs, places)
    exact_claim = not quantised and not any(late.values())
    known = _known(case, {name: got for name, (_, got) in outputs.items()}) if exact_claim else ""
    return CaseVerdict(case.name, case.group, "wrong", first, known, differing, error)


def _aligned(want: Array, got: Array, lag: int) -> tuple[Array, Array]:
    return (want[: want.shape[0] - lag], got[lag:]) if lag else (want, got)


def _differ(want: Array, got: Array, tolerance: float) -> Array:
    scale = max(1.0, float(np.abs(want).max(initial=0.0)))
    with np.errstate(invalid="ignore", over="ignore"):
        return ~(np.abs(want - got) <= tolerance * scale)  # what is no number differs


def _first(pairs: Mapping[str, tuple[Array, Array]], places: Mapping[str, Array]) -> str:
    """The earliest difference, in words."""
    name = min((n for n, where in places.items() if where.any()), key=lambda n: int(np.argwhere(places[n])[0][0]))
    step, batch, *neuron = (int(i) for i in np.argwhere(places[name])[0])
    want, got = (float(side[(step, batch, *neuron)]) for side in pairs[name])
    return f"{name}{neuron if neuron else ''} at step {step}, sample {batch}: {got:g}, expected {want:g}"


def _known(case: Case, got: Mapping[str, Array]) -> str:
    """The mistake that gives these outputs, or ''."""
    for words, outputs in case.mistaken().items():
        if not any(_differ(outputs[name], there, case.tolerance).any() for name, there in got.items()):
            return words
    for late in range(1, FARTHEST + 1):
        for steps, words in ((late, "late"), (-late, "early")):
            if _shifted(case, got, steps):
                return f"every output comes {late} step{'s' if late > 1 else ''} {words}"
    if not any(np.any(there) for there in got.values()):
        return "nothing comes out"
    return ""


def _shifted(case: Case, got: Mapping[str, Array], steps: int) -> bool:
    for name, want in case.expected().items():
        there = got[name]
        if not np.any(want):
            return False
        pair = (want[: len(want) - steps], there[steps:]) if steps > 0 else (want[-steps:], there[: len(there) + steps])
        if _differ(*pair, case.tolerance).any():
            return False
    return True


def _kind(outputs: Mapping[str, tuple[Array, Array]]) -> str:
    return "spike counts" if all(_whole(want) for want, _ in outputs.values()) else "values"


def _whole(trace: Array) -> bool:
    return bool(np.array_equal(trace, np.rint(trace)))


def _error(want: Array, got: Array) -> float:
    if _whole(want):
        return float(np.abs(want.sum(0) - got.sum(0)).sum() / max(float(np.abs(want).sum()), 1.0))
    return float(np.sqrt(np.mean((want - got) ** 2) / max(float(np.mean(want**2)), 1e-300)))


def refused(case: Case, reason: str) -> CaseVerdict:
    """The verdict on a refusal."""
    return CaseVerdict(case.name, case.group, "refused", reason)


def crashed(case: Case, error: Exception) -> CaseVerdict:
    """The verdict on an error that is no refusal."""
    text = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    return CaseVerdict(case.name, case.group, "crashed", said)


def scored(subject: str, verdicts: Sequence[CaseVerdict]) -> Score:
    """The score of a target or an adapter."""
    return Score(subject, tuple(verdicts))
