"""Parts of a placement that wait for one another, step by step: NumPy only, and nothing of snnir.

In a loop over chip and host every part keeps its state and makes one step as soon as what it reads is known. What comes
round waits in a hold: values of the steps before, as many as the network's own delay says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

Step = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass
class Runner:
    """A part that makes one step at a time.

    Attributes:
        reads: names of the values it takes. gives: name of a value -> the part's output.
        step: inputs (B, *shape) by name -> outputs (B, *shape) by name; it keeps the part's state.
        late: output -> steps by which it comes late.
        done: steps made.
    """

    reads: Sequence[str]
    gives: Mapping[str, str]
    step: Step
    late: Mapping[str, int] = field(default_factory=dict)
    done: int = 0


@dataclass
class Held:
    """The sum of some values, `steps` (of the value's shape) ago; `rest` (B or 1, *shape) before there is any."""

    sources: Sequence[str]
    steps: Any
    rest: Any


class Loop:
    """Runners and holds over a number of steps; `values` (T, B, *shape) is what they read from outside."""

    def __init__(self, runners: Sequence[Runner], holds: Mapping[str, Held], values: Mapping[str, Any], total: int):
        self.runners, self.holds, self.outside, self.total = runners, holds, values, total
        self.made: dict[str, list[Any]] = {name: [] for name in (*holds, *(n for r in runners for n in r.gives))}
        self.batch = next(iter(values.values())).shape[1]

    def run(self) -> dict[str, Any]:
        """All values, those of holds too, (T, B, *shape) by name.

        Raises ValueError where each part waits for another: a loop that is too short for its parts.
        """
        while any(r.done < self._steps(r) for r in self.runners):
            moved = False
            for runner in self.runners:
                while runner.done < self._steps(runner) and self._step(runner):
                    moved = True
            if not moved:
                raise ValueError("the parts of a loop wait for one another: its delay is too short for them")
        for name in self.holds:
            self._value(name, self.total - 1)
        return {name: np.stack(series[: self.total]) for name, series in self.made.items()}

    def _steps(self, runner: Runner) -> int:
        return self.total + max([0, *runner.late.values()])

    def _step(self, runner: Runner) -> bool:
        given: dict[str, Any] = {}
        for name in runner.reads:
            # Behind the last step nothing goes in: the part hands out what is late.
            value = self._value(name, min(runner.done, self.total - 1))
            if value is None:
                return False
            given[name] = value if runner.done < self.total else np.zeros_like(value)
        found = runner.step(given)
        for name, end in runner.gives.items():
            if 0 <= runner.done - runner.late.get(end, 0) < self.total:
                self.made[name].append(np.array(found[end]))
        runner.done += 1
        return True

    def _value(self, name: str, t: int) -> Any:
        """(B, *shape), or None where it is not known yet."""
        if name not in self.made:
            return self.outside[name][t]
        series = self.made[name]
        while name in self.holds and len(series) <= t:
            value = self._held(self.holds[name], len(series))
            if value is None:
                return None
            series.append(value)
        return series[t] if t < len(series) else None

    def _held(self, held: Held, t: int) -> Any:
        found: Any = None
        for late in np.unique(held.steps).tolist():
            value = self._sum(held.sources, t - late) if t >= late else held.rest
            if value is None:
                return None
            found = value if found is None else np.where(held.steps == late, value, found)
        # Before the first step there is one value for all samples.
        return np.broadcast_to(found, (self.batch, *held.steps.shape))

    def _sum(self, sources: Sequence[str], t: int) -> Any:
        total: Any = None
        for name in sources:
            value = self._value(name, t)
            if value is None:
                return None
            total = value if total is None else total + value
        return total


class Again:
    """A part that only runs over all steps at once: from the first step on, each time."""

    def __init__(self, run: Callable[[dict[str, Any]], Mapping[str, Any]], forgets: bool = False) -> None:
        """run: inputs (T, B, *shape) -> outputs (T, B, *shape). forgets: it has no state, so that one step will do."""
        self.run, self.forgets = run, forgets
        self.given: dict[str, list[Any]] = {}

    def step(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of this step."""
        for name, value in inputs.items():
            series = [] if self.forgets else self.given.setdefault(name, [])
            series.append(value)
            self.given[name] = series
        found = self.run({name: np.stack(series) for name, series in self.given.items()})
        return {name: value[-1] for name, value in found.items()}


def loaded(path: Path) -> Any:
    """A Python file as a module of its own, whatever others are called alike."""
    name = "part_" + "".join(c if c.isalnum() else "_" for c in str(path.resolve().with_suffix("")))
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ValueError(f"{path} cannot be read")
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def beside(folder: Path, name: str) -> Any:
    """The simulator in a part's folder; it is the same in every part."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return import_module(name)


class OnLoihi:
    """A part in the bit-exact model of Lava's fixed_pt processes, its folder's own, step by step."""

    def __init__(self, folder: Path, batch: int, simulator: Any = None) -> None:
        self.host = loaded(folder / "host.py")
        simulator = simulator or beside(folder, "loihi_simulator")
        structure, spec, self.arrays = self.host.load(folder / "network.npz")
        self.inputs, self.outputs = structure["inputs"], structure["outputs"]
        largest: dict[str, int] = {}
        for code in self.inputs:
            base = code.get("base", 0)
            largest[code["name"]] = (code["peak"] + base // 2) // base if base else code["peak"]
            if base:
                largest[code["low"]] = base // 2
        self.chip = simulator.LoihiSteps(simulator.LoihiSpec.from_npz_dict(spec), batch, largest)
        self.late = {out["name"]: int(out["lag"]) for out in self.outputs}
        shifts = [self.arrays[f"reads.{k}.shift"] for k in range(len(self.outputs))]
        self.reach = 1 + max((int(shift.max(initial=0)) for shift in shifts), default=0)
        self.traces: dict[str, dict[str, Any]] = {"spikes": {}, "u": {}, "v": {}}

    def step(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of this step, in the chip's own time."""
        encoded = self.host.encode(self.inputs, {name: np.asarray(x)[None] for name, x in inputs.items()})
        for trace, cells in self.chip.step({name: x[0] for name, x in encoded.items()}).items():
            for name, values in cells.items():
                before = self.traces[trace].get(name)
                line = values[None] if before is None else np.concatenate([before, values[None]])
                self.traces[trace][name] = line[-self.reach :]
        numbers = self.host.integers(self.outputs, self.arrays, self.traces)
        return {name: x[-1] for name, x in self.host.decode(self.outputs, self.arrays, numbers).items()}


class OnXylo:
    """A part in the bit-exact model of the chip, its folder's own, step by step."""

    def __init__(self, folder: Path, batch: int, simulator: Any = None) -> None:
        self.part = loaded(folder / "run.py")
        self.description = json.loads((folder / "xylo.json").read_text())
        simulator = simulator or beside(folder, "xylo_simulator")
        with np.load(folder / "xylo.npz") as arrays:
            spec = simulator.XyloSpec.from_npz_dict(arrays)
        self.chip = simulator.XyloSteps(spec, batch)
        self.late = {out["name"]: int(out["lag"]) for out in self.description["outputs"]}
        self.held = [np.zeros((batch, spec.n_in), int)] * int(self.description["input_delay"])

    def step(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of this step, in the chip's own time."""
        now = {**self.description, "input_delay": 0}
        self.held = [*self.held, self.part.events_of(now, {n: np.asarray(x)[None] for n, x in inputs.items()})[0]]
        spikes, self.held = self.chip.step(self.held[0]), self.held[1:]
        return {
            out["name"]: spikes[:, out["neurons"]].reshape(len(spikes), *out["shape"])
            for out in self.description["outputs"]
        }


class OnChips:
    """A part on several chips, step by step: each makes a step as soon as what it reads is there, so late spikes of one
    come to the next in the network's own time."""

    def __init__(self, folder: Path, batch: int, simulator: Any = None) -> None:
        plan = json.loads((folder / "placement.json").read_text())
        self.steps, self.outputs = plan["steps"], plan["outputs"]
        self.chips = {
            s["name"]: OnXylo(folder / s["name"], batch, simulator) for s in self.steps if s["kind"] == "chip"
        }
        at = dict.fromkeys(plan["inputs"], 0)  # value -> steps by which it comes late
        for step in self.steps:
            begins = max(at[name] for name in step["reads"])
            if step["kind"] == "pick":
                at[step["name"]] = begins
            else:
                at.update({op: begins + self.chips[step["name"]].late[end] for op, end in step["gives"].items()})
        self.late = {name: at[name] for name in self.outputs}
        self.made: dict[str, list[Any]] = {name: [] for name in at}
        self.done = dict.fromkeys(self.chips, 0)

    def step(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of this step, late by `late`."""
        for name, value in inputs.items():
            self.made[name].append(np.asarray(value))
        for step in self.steps:
            if step["kind"] == "pick":
                self._pick(step)
                continue
            t, chip = self.done[step["name"]], self.chips[step["name"]]
            if any(len(self.made[name]) <= t for name in step["reads"]):
                continue
            found = chip.step({name: self.made[name][t] for name in step["reads"]})
            self.done[step["name"]] += 1
            for name, end in step["gives"].items():
                if t >= chip.late[end]:
                    self.made[name].append(np.array(found[end]))
        batch = len(next(iter(inputs.values())))
        shapes = {step["name"]: step["shape"] for step in self.steps if step["kind"] == "pick"}
        return {n: self.made[n][-1] if self.made[n] else np.zeros((batch, *shapes[n])) for n in self.outputs}

    def _pick(self, step: dict[str, Any]) -> None:
        """Spikes put where they are wanted, as soon as they are there."""
        made = self.made[step["name"]]
        while all(len(self.made[name]) > len(made) for name in step["reads"]):
            t = len(made) - step["delay"]
            parts = [self.made[name][max(t, 0)] for name in step["reads"]]
            chosen = np.concatenate([x.reshape(len(x), -1) for x in parts], axis=1)[:, step["index"]]
            made.append((chosen if t >= 0 else np.zeros_like(chosen)).reshape(len(chosen), *step["shape"]))


class OnOnnx:
    """A part in ONNX Runtime, step by step: its `step.onnx`, which has its states as inputs and outputs."""

    def __init__(self, folder: Path, batch: int) -> None:
        onnxruntime = import_module("onnxruntime")
        self.session = onnxruntime.InferenceSession(str(folder / "step.onnx"), providers=["CPUExecutionProvider"])
        known = self.session.get_modelmeta().custom_metadata_map
        self.follows = json.loads(known["snnir.states"])  # state -> the one after it
        types = {"tensor(float)": np.float32, "tensor(double)": np.float64}
        self.types = {i.name: types[i.type] for i in self.session.get_inputs() if i.name not in self.follows}
        self.names = [o.name for o in self.session.get_outputs()]
        with np.load(folder / "start.npz") as start:
            self.states = {name: np.repeat(start[name][None], batch, axis=0) for name in self.follows}

    def step(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of this step."""
        given = {name: np.ascontiguousarray(inputs[name], kind) for name, kind in self.types.items()}
        found = dict(zip(self.names, self.session.run(None, {**given, **self.states}), strict=True))
        self.states = {name: found[after] for name, after in self.follows.items()}
        return {name: value for name, value in found.items() if name not in self.follows.values()}


class OnTorch(Again):
    """A part in PyTorch: its model runs over all steps, so it runs from the first one on, unless it has no state."""

    def __init__(self, folder: Path, forgets: bool) -> None:
        self.torch = import_module("torch")
        self.model = loaded(folder / "model.py").Model().eval()
        super().__init__(self._run, forgets)

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        with self.torch.no_grad():
            given = [self.torch.from_numpy(np.array(inputs[name], np.float32)) for name in self.model.INPUTS]
            outputs = self.model(*given)
        if not isinstance(outputs, dict):
            outputs = {self.model.OUTPUTS[0]: outputs}
        return {name: value.numpy() for name, value in outputs.items()}


def in_folder(folder: Path, kind: str, batch: int, state: bool, simulator: Any = None) -> tuple[Step, dict[str, int]]:
    """What steps the part in a folder, at rest; and by how many steps its outputs come late.

    kind: 'torch', 'onnx', or the chip. state: whether the part has any. simulator: the chip's, if not the folder's.
    """
    if kind == "torch":
        return OnTorch(folder, forgets=not state).step, {}
    if kind == "onnx":
        return OnOnnx(folder, batch).step, {}
    if kind == "lava":
        loihi = OnLoihi(folder, batch, simulator)
        return loihi.step, loihi.late
    chip = (OnChips if (folder / "placement.json").exists() else OnXylo)(folder, batch, simulator)
    return chip.step, chip.late
