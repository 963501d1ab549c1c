"""For test suites: assert that a network is the same on every target, and say why where it is not.

    from snnir.testing import assert_equivalent

    def test_my_network_is_the_same_everywhere():
        assert_equivalent(MyNetwork(), ["torch", "norse", "xylo-audio3"], dt=1e-3, load={"example": x})

Works with pytest, unittest, or a plain script: there is nothing to register.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from snnir.compiler import load as load_network
from snnir.errors import MissingPackageError, UsageError
from snnir.ops import Array
from snnir.semantics import Semantics
from snnir.stimuli import RATE
from snnir.validation import Report, Verdict, validate

SHOWN = 5  # violations of a target that refuses

__all__ = ["NotEquivalentError", "assert_equivalent"]


class NotEquivalentError(AssertionError):
    """Some target is not the network; the message says which, where they part, and why.

    Attributes:
        report: the whole validation, with traces (`Report.traces`).
    """

    def __init__(self, message: str, report: Report) -> None:
        self.report = report
        super().__init__(message)


def assert_equivalent(
    model: Any,
    targets: str | Sequence[str],
    inputs: Array | Mapping[str, Array] | None = None,
    *,
    steps: int | None = None,
    batch: int = 8,
    seed: int = 0,
    rate: float = RATE,
    dt: float | None = None,
    semantics: Semantics | None = None,
    load: Mapping[str, Any] | None = None,
    exactly: bool = False,
    missing: Literal["fail", "skip"] = "fail",
    **options: Any,
) -> Report:
    """Runs the reference and every target on one input, and raises where a target is not the network.

    Args:
        model: anything that `snnir.load` takes: a graph, a file, an nn.Module (also of other frameworks).
        targets: names of targets.
        inputs: (T, B, *shape) or a dict by input name; default what the network says its inputs look like, else
            random spikes.
        steps, batch, seed, rate: of such inputs, as for `snnir.validate`.
        dt, semantics, load: as for `snnir.load`; `load` holds its options, e.g. {"example": x} for an nn.Module.
        exactly: whether every spike must be in its step, on integer chips too. Otherwise a target has to keep what it
            promises: identical where it computes in floats; where weights are quantised, rates within limits.
        missing: what to do where a target's package is not installed: 'fail', or 'skip' the test (pytest.skip).
        options: of `snnir.compile`, for all targets.

    Returns:
        The report, for further assertions.

    Raises:
        NotEquivalentError: an AssertionError, with a table, the first difference and its cause.
        CompileError: the model or the input is not sound.
        MissingPackageError: a target's package is not installed, and `missing` is 'fail'.
        UsageError: an unknown target.
    """
    __tracebackhide__ = True  # pytest then points at the line of the test
    if missing not in ("fail", "skip"):
        raise UsageError(f"missing is {missing!r}, expected 'fail' or 'skip'")
    graph = load_network(model, dt=dt, semantics=semantics, **(load or {}))
    drive: dict[str, Any] = {"steps": steps, "batch": batch, "seed": seed, "rate": rate}
    report = validate(graph, targets, inputs, keep_traces=True, **drive, **options)
    wrong = [v for v in report.verdicts if not _right(v, exactly)]
    if not wrong and not (report.crossing and report.crossing.faults):
        return report
    absent = [v for v in wrong if v.verdict == "not installed"]
    if absent and len(absent) == len(wrong):
        _absent(absent, missing)
        return report
    raise NotEquivalentError(_message(report, wrong, exactly), report)


def _right(v: Verdict, exactly: bool) -> bool:
    return v.verdict in ("identical", "identical after latency") if exactly else v.ok


def _absent(verdicts: Sequence[Verdict], missing: str) -> None:
    """The others are right: skips the test, or says what to install."""
    from snnir.registry import backend

    said = "; ".join(f"{v.target}: {v.cause}" for v in verdicts)
    if missing == "skip":
        import pytest

        pytest.skip(said)
    target = backend(verdicts[0].target).target
    raise MissingPackageError(target.package or target.name, target.extra or target.name, said)


def _message(report: Report, wrong: Sequence[Verdict], exactly: bool) -> str:
    same = len(report.verdicts) - len(wrong)
    origin = "recorded input" if report.seed is None else f"{report.made_up}, seed {report.seed}"
    head = f"{len(wrong)} of {len(report.verdicts)} targets "
    head += f"{'is' if len(wrong) == 1 else 'are'} not the network" + (" spike by spike" if exactly else "")
    lines = [head + (f" ({same} {'is' if same == 1 else 'are'})" if same else "")]
    lines += [f"{report.steps} steps, batch {report.batch}, {origin}", "", *_table(report, wrong)]
    for v in wrong:
        lines += ["", *_reasons(v)]
    if report.crossing is not None and report.crossing.faults:
        fault = report.crossing.faults[0]
        lines += ["", f"reference: what crosses between calls is not only 0 and 1: {fault.where} {fault.what}"]
    return "\n".join(lines)


def _table(report: Report, wrong: Sequence[Verdict]) -> list[str]:
    rows = [("", "target", "verdict", "reference spikes", "differing", "count error", "value error")]
    for v in report.verdicts:
        compared = v.verdict not in ("refused", "not installed")
        numbers = (f"{v.spikes:,}", f"{v.differing:,}", f"{v.count_error:.2%}", f"{v.max_error:.1e}")
        rows.append(("x" if v in wrong else "", v.target, v.words, *(numbers if compared else ("-",) * 4)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(w) if i > 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _reasons(v: Verdict) -> list[str]:
    """First difference and cause of one target; or why it refuses."""
    lines: list[str] = []
    if v.first is not None:
        d = v.first
        at = f"{d.op}{list(d.neuron)}" if d.neuron else d.op
        lines.append(f"{v.target}: parts at {at}, step {d.step}, sample {d.batch}: {d.got:g}, expected {d.expected:g}")
    for cause in v.causes:
        lines.append(f"{v.target}: cause: {cause.text} ({cause.explained:.0%} of the differences)")
        lines.append(f"{' ' * len(v.target)}  to remove it: {cause.remedy}")
    if not v.causes and not v.violations and v.cause:
        lines.append(f"{v.target}: cause: {v.cause}")
    for found in v.violations[:SHOWN]:
        where = f"{found['where']}: " if found["where"] else ""
        expected = f" (expected {found['expected']})" if found["expected"] else ""
        lines.append(f"{v.target}: refused: [{found['rule']}] {where}{found['what']}{expected}")
        if found["hint"]:
            lines.append(f"{' ' * len(v.target)}  help: {found['hint']}")
    if len(v.violations) > SHOWN:
        lines.append(f"{v.target}: and {len(v.violations) - SHOWN} reasons more")
    return lines or [f"{v.target}: {v.words}"]
