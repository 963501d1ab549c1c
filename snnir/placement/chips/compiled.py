"""A spread network compiled: every chip an artifact of its own, measured cut by cut, and the script that runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.ops import Array
from snnir.placement.chips import describe
from snnir.placement.chips.running import arrivals, in_floats, run
from snnir.placement.chips.types import Pick, Spread
from snnir.placement.examples import example
from snnir.placement.joined import Joined, in_own_time
from snnir.placement.types import Part
from snnir.stimuli import described

if TYPE_CHECKING:
    from snnir.compiler import CompileResult, Prepared


@dataclass(frozen=True, eq=False)
class ChipsArtifact(Joined):
    """A network as parts for several chips; attributes as `Joined`, and:

    Attributes:
        placement: what is on which chip.
        floats: chip -> float64, ONNX; none if `no_float` says why.
    """

    placement: Spread
    results: Mapping[str, CompileResult]
    shown: Mapping[str, Array]
    values: Mapping[str, Array]
    report: Mapping[str, Any] = field(default_factory=dict)
    floats: Mapping[str, CompileResult] = field(default_factory=dict)
    no_float: str = ""

    def run(
        self,
        inputs: Mapping[str, Array],
        record: tuple[str, ...] = (),
        chip: Literal["compiled", "float"] = "compiled",
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Runs all chips, state at rest.

        Args:
            inputs: input name -> (T, B, *shape), whole numbers of 0 to 15 events.
            record: names of populations whose spikes leave a chip.
            chip: 'compiled' for the chips' integers, 'float' for the interpreter: the network's own numbers, exactly.

        Raises:
            UsageError: a recorded op whose value stays inside a chip.
        """
        values = run(self.placement, inputs, in_floats if chip == "float" else self._compiled)
        return self._handed(values, record)

    def run_watched(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, int]]:
        """As `run`; and by output name, how often neurons that it is made of spiked several times in a step."""
        several: dict[str, int] = {}

        def counted(part: Part, given: Mapping[str, Array]) -> dict[str, Array]:
            found, more = on_chip(self.results[part.name], given)
            several.update({op: more.get(end, 0) for op, end in part.gives.items()})
            return found

        values = run(self.placement, inputs, counted)
        picks = {step.name: step for step in self.placement.steps if isinstance(step, Pick)}

        def made_of(name: str) -> int:
            return sum(map(made_of, picks[name].sources)) if name in picks else several.get(name, 0)

        outputs = self.placement.graph.outputs
        return {name: values[name] for name in outputs}, {name: made_of(name) for name in outputs}

    def _compiled(self, part: Part, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return on_chip(self.results[part.name], inputs)[0]

    def files(self) -> Mapping[str, bytes]:
        """A folder per chip, `run.py`, `placement.json`, `placement.txt`, `input.npz`, `expected.npz`, `README.md`."""
        return self._files("snnir.placement.chips.run_script")

    def described(self) -> dict[str, Any]:
        """`placement.json`."""
        found = describe.data(self.placement)
        for step in found["steps"]:
            if step["kind"] == "chip":
                # What `run.py` has to count: neurons behind output neurons, which pass one spike per step on.
                watched = self.results[step["name"]].artifact.watched()  # type: ignore[attr-defined]
                step["watched"] = {op: watched[end] for op, end in step["gives"].items() if end in watched}
        own = {"streamed_latency": self.report.get("streamed_latency"), "no_float": self.no_float}
        return found | self._ends() | own

    def _readme(self) -> str:
        lines = [
            f"# A spiking network on {describe.many(self.placement)}",
            "",
            "    python run.py                       # on input.npz beside it; compares with expected.npz",
            "    python run.py other.npz -o out.npz  # on other input; spikes (T, B, *shape) into a file",
            "    python run.py --xylosim             # in SynSense's own simulator (pip install xylosim)",
            *["    python run.py --float               # in floats (pip install onnxruntime)"] * (not self.no_float),
            "",
            "It needs NumPy, not snnir. Each chip's folder also has its own `run.py`, and `samna_config.py`.",
            "",
            "State is at rest when a call begins, and lives through its steps, on every chip.",
            "",
            "```",
            str(self.placement),
            "```",
            "",
            *(f"* {line}" for line in (*self.report.get("cuts", ()), self.report.get("time", ""))),
        ]
        return "\n".join(lines) + "\n"


def on_chip(result: CompileResult, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, int]]:
    """A chip's outputs in the network's own time; and how often neurons behind each spiked several times in a step."""
    artifact: Any = result.artifact
    return in_own_time(artifact.run_watched, inputs, result.latency, artifact.lags)


def spread_result(prepared: Prepared, target: str, chips: int | str, options: Mapping[str, Any]) -> CompileResult:
    """What `snnir.compile(..., chips=)` gives: one chip's own artifact where that is enough, else a `ChipsArtifact`.

    Args:
        prepared: the network after the user's passes.
        target, chips, options: as for `snnir.placement.chips.spread`.

    Raises:
        CompileError, UsageError: as `spread` and `compiled`.
    """
    from snnir.pipeline import pipeline_text
    from snnir.placement.chips.spread import spread

    graph, allow = prepared.graph, prepared.allow
    placement = spread(graph, target, chips, calibrate=prepared.calibrate, allow=allow, **options)
    if placement.alone:
        alone = prepared.compile(target, **options)
        return replace(alone, report={**alone.report, "chips": "1: it holds the whole network, so nothing is cut"})
    shown = prepared.calibrate if prepared.calibrate is not None else example(graph)
    recorded = prepared.calibrate is not None or described(graph)
    how = {"verify_passes": prepared.verify_passes, "hook": prepared.hook}
    found = on_chips(placement, shown, recorded, allow, options, **how)
    own = {
        "pipeline": pipeline_text(prepared.pipeline),
        "passes": list(prepared.steps),
        "ops": {"source": len(prepared.source), "target": len(graph)},
    }
    return replace(found, source=prepared.source, report={**found.report, **own})


def on_chips(
    spread: Spread,
    shown: Mapping[str, Array],
    recorded: bool,
    allow: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> CompileResult:
    """`compiled`, as a compiled network with a report; arguments and errors as there."""
    from snnir.compiler import CompileResult

    artifact = compiled(spread, shown, recorded, allow, options, **how)
    report = {
        "target": spread.target,
        "pipeline": "",
        "passes": [],
        "ops": {"source": len(spread.graph), "target": len(spread.graph)},
        "latency": 0,
        **artifact.report,
    }
    return CompileResult(spread.target, spread.graph, spread.graph, artifact, report)


def compiled(
    spread: Spread,
    shown: Mapping[str, Array],
    recorded: bool,
    allow: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> ChipsArtifact:
    """Compiles every chip, and measures.

    Args:
        spread: of the network.
        shown: input to measure with, (T, B, *shape) by name. recorded: whether to calibrate with it, too.
        allow, options: of the target. how: what `snnir.compiler.prepare` takes besides.

    Raises:
        CompileError: what shows only in a chip's integers, all chips at once.
    """
    from snnir.compiler import prepare

    values = run(spread, shown)
    results: dict[str, CompileResult] = {}
    faults: list[Violation] = []
    for part in spread.chips:
        given = _given(spread, part, values)
        try:
            prepared = prepare(part.graph, calibrate=given if recorded else None, allow=allow, **how)
            results[part.name] = prepared.compile(spread.target, **(options or {}))
        except CompileError as error:
            faults += error.violations
    if faults:
        raise CompileError(faults, title=f"a part does not go onto {spread.target}")
    measured = _measured(spread, results, values)
    kept = {name: value for name, value in values.items() if name not in shown}
    floats, no_float = _floats(spread)
    return ChipsArtifact(spread, results, dict(shown), kept, _report(spread, results, measured), floats, no_float)


def _floats(spread: Spread) -> tuple[dict[str, CompileResult], str]:
    """Every chip's part in floats, as precise as the interpreter; or why there is none: chips run without it."""
    from snnir.compiler import prepare

    if find_spec("onnx") is None:
        return {}, "written only where the package onnx is installed (pip install onnx)"
    found: dict[str, CompileResult] = {}
    meaning = spread.graph.semantics.with_(number_format="float64")
    for part in spread.chips:
        try:
            found[part.name] = prepare(replace(part.graph, semantics=meaning)).compile("onnx")
        except CompileError as error:
            return {}, f"{part.name} does not go to ONNX: {error.violations[0].what}"
    return found, ""


def _given(spread: Spread, part: Part, values: Mapping[str, Array]) -> dict[str, Array]:
    """What a chip takes when all before it run in floats: one spike per neuron and step crosses."""
    inputs = {*spread.graph.inputs}
    sliced = {n for n in part.graph.inputs if n not in inputs and _of_input(spread, n)}
    return {n: values[n] if n in inputs | sliced else np.minimum(values[n], 1) for n in part.graph.inputs}


def _of_input(spread: Spread, name: str) -> bool:
    step = next((s for s in spread.steps if s.name == name), None)
    return step is not None and not isinstance(step, Part) and set(step.sources) <= set(spread.graph.inputs)


def _measured(
    spread: Spread, results: Mapping[str, CompileResult], values: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """What the integers change: at every cut, on the very spikes that the network in floats gives there; at the end."""
    found: list[dict[str, Any]] = []
    for part in spread.chips:
        got, several = on_chip(results[part.name], _given(spread, part, values))
        for op, end in part.gives.items():
            found.append(
                {"part": part.name, "value": op, "several": several.get(end, 0)}
                | _compared(got[end], np.minimum(values[op], 1))
            )
    whole = run(spread, {n: values[n] for n in spread.graph.inputs}, lambda part, x: on_chip(results[part.name], x)[0])
    for name in spread.graph.outputs:
        found.append({"part": "", "value": name, "several": 0} | _compared(whole[name], values[name]))
    return found


def _compared(got: Array, expected: Array) -> dict[str, Any]:
    """Share of spikes that differ; error of spike counts per sample and neuron, over all of them."""
    counts, wanted = got.sum(axis=0), expected.sum(axis=0)
    error = float(np.abs(counts - wanted).sum() / max(float(wanted.sum()), 1.0))
    return {"differ": float(np.mean(got != expected)), "count_error": error, "spikes": float(wanted.sum())}


def _report(
    spread: Spread, results: Mapping[str, CompileResult], measured: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    late = streamed(spread, results)
    return {
        "chips": f"{len(spread.chips)} {spread.target}",
        "parts": [describe.chip_line(spread, part) for part in spread.chips],
        "crossings": [describe.cut_line(cut) for cut in spread.cuts],
        "cuts": [_line(m) for m in measured],
        "notes": _notes(results),
        "time": (
            "each chip runs over all steps before the next, so cuts add no step to the outputs; side by side, step by "
            f"step, outputs would come {late} steps late: the chips' own latencies, and 1 for each hop"
        ),
        "streamed_latency": late,
        "measured": [dict(m) for m in measured],
        "part_reports": {name: dict(result.report) for name, result in results.items()},
    }


def _notes(results: Mapping[str, CompileResult]) -> list[str]:
    """What the chips' reports say in words; what several say, once."""
    found: dict[str, list[str]] = {}
    for name, result in results.items():
        for note in result.report.get("notes", ()):
            found.setdefault(note, []).append(name)
    return [f"{'every chip' if len(on) == len(results) else ', '.join(on)}: {note}" for note, on in found.items()]


def _line(m: Mapping[str, Any]) -> str:
    where = f"{m['part']}: {m['value']}" if m["part"] else f"all chips together: {m['value']}"
    lost = f"; neurons behind it spiked more than once in a step {m['several']} times" if m["several"] else ""
    return (
        f"{where}: {100 * m['differ']:.3g} % of the spikes differ from floats, spike counts by "
        f"{100 * m['count_error']:.3g} % ({m['spikes']:.0f} spikes){lost}"
    )


def streamed(spread: Spread, results: Mapping[str, CompileResult]) -> int:
    """Steps by which outputs come late when all chips run side by side and a hop takes a step."""
    lags = {name: result.artifact.lags for name, result in results.items()}  # type: ignore[attr-defined]
    at = arrivals(spread, lags, hop=1)
    return max(at[name] for name in spread.graph.outputs)
