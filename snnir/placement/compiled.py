"""A placement compiled: every part an artifact of its own side, measured cut by cut, and the script that runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from snnir.contents import npz, source
from snnir.errors import CompileError, UsageError, Violation
from snnir.interpreter.stepping import rest_of
from snnir.ops import Array
from snnir.placement import describe, lockstep
from snnir.placement.integers import Integers
from snnir.placement.joined import Joined, in_own_time
from snnir.placement.running import held, in_floats, run
from snnir.placement.types import Part, Placement
from snnir.target import Files

if TYPE_CHECKING:
    from snnir.compiler import CompileResult


@dataclass(frozen=True, eq=False)
class PartitionArtifact(Joined):
    """A network as parts for a chip and a host; attributes as `Joined`."""

    placement: Placement
    results: Mapping[str, CompileResult]
    floats: Mapping[str, CompileResult]
    shown: Mapping[str, Array]
    values: Mapping[str, Array]
    report: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self,
        inputs: Mapping[str, Array],
        record: tuple[str, ...] = (),
        chip: Literal["compiled", "float", "vendor"] = "compiled",
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Runs all parts, state at rest.

        Args:
            inputs: input name -> (T, B, *shape).
            record: names of ops whose values lie between parts.
            chip: 'compiled' for the chip's integers (and the host's framework), 'vendor' for the same in the chip
                maker's software (Lava 0.10), 'float' for all parts in the interpreter: the whole network's own numbers,
                exactly.

        Raises:
            UsageError: a recorded op whose value stays inside a part; a chip without such software.
            CompileError: its software is not here.
        """
        how = {"compiled": self._compiled, "vendor": self._in_vendor_software, "float": in_floats}
        if chip == "float":
            values = run(self.placement, inputs)
        else:
            with TemporaryDirectory() as place:
                batch = next(iter(inputs.values())).shape[1]
                values = run(self.placement, inputs, how[chip], partial(self._stepped, Path(place), batch))
        if chip == "vendor":
            self._confirm(values)
        return self._handed(values, record)

    def _compiled(self, part: Part, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return run_compiled(self.results[part.name], part, inputs)

    def _stepped(self, place: Path, batch: int, part: Part) -> tuple[lockstep.Step, Mapping[str, int]]:
        return stepped(self.results[part.name], part, place, batch)

    def _confirm(self, values: Mapping[str, Array]) -> None:
        """The parts of loops in the maker's software, on the very values that went into them step by step."""
        for part in (p for loop in self.placement.loops for p in loop.parts if p.side == "chip"):
            found = self._in_vendor_software(part, {name: values[name] for name in part.graph.inputs})
            wrong = [op for op, end in part.gives.items() if not np.array_equal(found[end], values[op])]
            if wrong:
                what = "gives something else in its maker's software than in its simulator"
                raise CompileError([Violation("placement-vendor", what, name) for name in wrong])

    def _in_vendor_software(self, part: Part, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return run_compiled(self.results[part.name], part, inputs, vendor=part.side == "chip")

    def files(self) -> Mapping[str, bytes]:
        """A folder per part, `run.py`, `placement.json`, `input.npz`, `expected.npz`, `README.md`."""
        found = self._files("snnir.placement.run_script")
        found = found | Files({"lockstep.py": lambda: source("snnir.placement.lockstep")})
        return found | Files({"holds.npz": lambda: npz(self._holds())} if self.placement.loops else {})

    def _holds(self) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for loop in self.placement.loops:
            rest = rest_of(self.placement.graph, [hold.rest for hold in loop.holds if hold.rest])
            for k, hold in enumerate(loop.holds):
                made = held(hold, rest)
                found |= {f"{loop.name}.{k}.steps": np.asarray(made.steps), f"{loop.name}.{k}.rest": made.rest}
        return found

    def described(self) -> dict[str, Any]:
        """`placement.json`."""
        return describe.data(self.placement) | self._ends()

    def _readme(self) -> str:
        placement = self.placement
        chips = ", ".join(f"`{part.name}`" for part in placement.chips)
        lines = [
            f"# A spiking network shared by {placement.target} and a host ({placement.host})",
            "",
            "    python run.py                       # on input.npz beside it; compares with expected.npz",
            "    python run.py other.npz -o out.npz  # on other input; outputs (T, B, *shape) into a file",
            "    python run.py --float               # the chip's parts in floats, on the host",
            "",
            "It needs NumPy and the host's framework, not snnir. The chip's parts run in the bit-exact simulator that "
            f"lies in their folders ({chips}), where each also has its own `run.py`.",
            "",
            "State is at rest when a call begins, and lives through its steps, in every part.",
            "",
            "```",
            str(placement),
            "```",
            "",
            *(f"* {line}" for line in self.report.get("cuts", ())),
        ]
        return "\n".join(lines) + "\n"


def run_compiled(
    result: CompileResult, part: Part, inputs: Mapping[str, Array], vendor: bool = False
) -> dict[str, Array]:
    """A compiled part, its outputs in the network's own time: what comes late is waited for.

    Raises:
        UsageError: `vendor`, and the part's artifact runs in nobody else's software.
    """
    runs = getattr(result.artifact, "run_vendor", None) if vendor else result.artifact.run
    if runs is None:
        raise UsageError(f"{part.name} runs in no software of its chip's maker here: chip='compiled' is its simulator")
    return in_own_time(lambda held: runs(held, ()), inputs, result.latency, getattr(result.artifact, "lags", {}))[0]


def watched(result: CompileResult, part: Part, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, int]]:
    """As `run_compiled`; and by output, how often neurons spiked several times in a step, where one spike leaves."""
    runs = getattr(result.artifact, "run_watched", None)
    if runs is None:
        return run_compiled(result, part, inputs), {}
    return in_own_time(runs, inputs, result.latency, getattr(result.artifact, "lags", {}))


def stepped(result: CompileResult, part: Part, place: Path, batch: int) -> tuple[lockstep.Step, Mapping[str, int]]:
    """A compiled part of a loop at rest, its files in a folder of `place`: what makes one step, and what comes late."""
    folder = place / part.name
    for path, data in result.artifact.files().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    state = any(op.stateful for op in part.graph.ops.values())
    model = {"lava": "loihi", "torch": "", "onnx": ""}.get(result.target, "xylo")
    simulator = import_module(f"snnir.simulators.{model}") if model else None
    return lockstep.in_folder(folder, result.target, batch, state, simulator)


def compiled(
    placement: Placement,
    shown: Mapping[str, Array],
    allow: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    made: Integers | None = None,
    **how: Any,
) -> PartitionArtifact:
    """Compiles every part for its side, and measures.

    Args:
        placement: of the network.
        shown: input to measure and calibrate with, (T, B, *shape) by name.
        allow, options: of the target. how: what `snnir.compiler.prepare` takes besides.
        made: the chip's parts, where the placement was found with them.

    Raises:
        CompileError: what shows only in a part's integers, all parts at once.
    """
    from snnir.compiler import prepare

    faults: list[Violation] = []
    if made is None:
        made = Integers(shown, tuple(allow), options or {}, how)
        faults += [v for found in made.make(placement).values() for v in found]
    values, chips = made.values, made.results(placement)
    results: dict[str, CompileResult] = {}
    floats: dict[str, CompileResult] = {}
    for part in placement.parts:
        try:
            compiled_for_host = prepare(part.graph).compile(placement.host)
        except CompileError as error:
            faults += error.violations
            continue
        (results if part.side == "host" else floats)[part.name] = compiled_for_host
        if part.name in chips:
            results[part.name] = chips[part.name]
    if faults:
        raise CompileError(faults, title=f"a part does not go onto {placement.target}")
    measured = _measured(placement, results, values)
    report = _report(placement, results, measured)
    kept = {name: values[name] for name in values if name not in shown}
    return PartitionArtifact(placement, results, floats, dict(shown), kept, report)


def _measured(
    placement: Placement, results: Mapping[str, CompileResult], values: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """What the integers change: at every cut, on the very values that the network in floats gives there; at the end."""
    found: list[dict[str, Any]] = []
    for part in placement.chips:
        given = {name: values[name] for name in part.graph.inputs}
        got, several = watched(results[part.name], part, given)
        for op, end in part.gives.items():
            lost = {"several": several[end]} if several.get(end) else {}
            found.append({"part": part.name, "value": op} | difference(got[end], values[op]) | lost)
    inputs = {n: values[n] for n in placement.graph.inputs}
    batch = next(iter(inputs.values())).shape[1]
    with TemporaryDirectory() as place:
        whole = run(
            placement,
            inputs,
            lambda p, x: run_compiled(results[p.name], p, x),
            lambda p: stepped(results[p.name], p, Path(place), batch),
        )
    for name in placement.graph.outputs:
        found.append({"part": "", "value": name} | difference(whole[name], values[name]))
    return found


def difference(got: Array, expected: Array) -> dict[str, Any]:
    """Share of values that differ, largest difference, its root mean square over that of the expected values."""
    apart = np.asarray(got, np.float64) - expected
    size = float(np.sqrt(np.mean(np.square(expected))))
    return {
        "differ": float(np.mean(np.abs(apart) > 1e-6 * max(1.0, float(np.abs(expected).max())))),
        "largest": float(np.abs(apart).max()),
        "rms": float(np.sqrt(np.mean(np.square(apart)))),
        "of_rms": size,
    }


def _report(
    placement: Placement, results: Mapping[str, CompileResult], measured: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    count = {side: sum(p.side == side for p in placement.places.values()) for side in ("chip", "host", "driver")}
    lines = []
    for name, inner in ((name, results[name].report) for name in placement.spreads):
        lines += [f"{name}/{line}" for line in inner["cuts"][: -len(placement.spreads[name].graph.outputs)]]
    for m in measured:
        where = f"{m['part']}: {m['value']}" if m["part"] else f"all parts together: {m['value']}"
        lines.append(
            f"{where}: {100 * m['differ']:.3g} % of the values differ from floats, by {m['largest']:.3g} at most, "
            f"{m['rms']:.3g} root mean square (values: {m['of_rms']:.3g})"
            + (f"; spiked more than once in a step {m['several']} times: one leaves the chip" if "several" in m else "")
        )
    moved = [line for round_ in placement.moved for line in describe.moved_lines(round_)]
    return {
        "host": placement.host,
        "placed": f"{count['chip']} ops on the chip, {count['host']} on the host, {count['driver']} between them",
        "parts": f"{len(placement.chips)} for the chip, {len(placement.parts) - len(placement.chips)} for the host",
        "crossings": [describe.crossing_line(c) for c in placement.crossings],
        "cuts": lines,
        "measured": [dict(m) for m in measured],
        "misfits": [dict(m) for m in placement.misfits],
        **({"moved_to_host": moved} if moved else {}),
        **({"chips": describe.chips_lines(placement)} if placement.spreads else {}),
        "part_reports": {name: dict(result.report) for name, result in results.items() if name.endswith("-chip")},
    }
