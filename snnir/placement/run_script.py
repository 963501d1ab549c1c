"""Runs a network that a chip and a host share: all parts, one after the other.

    python run.py                       # on input.npz beside this file; says how far the chip's integers are off
    python run.py other.npz -o out.npz  # on other input; outputs (T, B, *shape) into a file
    python run.py --float               # the chip's parts in floats, on the host: the network's own numbers
    python run.py --vendor PYTHON       # the chip's parts in Lava itself, in the Python 3.10 that has lava-nc 0.10
    python run.py --vendor              # Xylo's parts in xylosim (pip install xylosim)

It needs NumPy and the host's framework, not snnir.

Input: one array per input, (T, B, *shape). `placement.json` says which parts there are and what goes between them; the
chip's parts run in the bit-exact simulators that lie in their folders. A part runs over all steps of the input before
the next one begins, but for those of a loop, which wait for one another step by step (`lockstep.py`); state is at rest
before the first step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


@cache
def beside() -> Any:
    """`lockstep.py` beside this file."""
    sys.path.insert(0, str(HERE))
    return import_module("lockstep")


def loaded(path: Path) -> Any:
    """A Python file as a module of its own, whatever others are called alike."""
    return beside().loaded(path)


def on_host(folder: Path, inputs: dict[str, Any], kind: str) -> dict[str, Any]:
    """A part in PyTorch or ONNX Runtime, float32: outputs by name."""
    if kind == "onnx":
        import onnxruntime

        types = {"tensor(float)": np.float32, "tensor(double)": np.float64}
        session = onnxruntime.InferenceSession(str(folder / "sequence.onnx"), providers=["CPUExecutionProvider"])
        given = {i.name: np.ascontiguousarray(inputs[i.name], types[i.type]) for i in session.get_inputs()}
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))
    import torch

    made = loaded(folder / "model.py").Model
    model = made().eval()
    with torch.no_grad():
        outputs = model(*(torch.from_numpy(np.array(inputs[name], np.float32)) for name in made.INPUTS))
    if not isinstance(outputs, dict):
        outputs = {made.OUTPUTS[0]: outputs}
    return {name: value.numpy() for name, value in outputs.items()}


def on_chip(folder: Path, inputs: dict[str, Any], kind: str, vendor: str | None = None) -> dict[str, Any]:
    """A part in its chip's simulator, or in its maker's software; what comes late is waited for."""
    return on_loihi(folder, inputs, vendor) if kind == "lava" else on_xylo(folder, inputs, vendor is not None)


def on_loihi(folder: Path, inputs: dict[str, Any], python: str | None = None) -> dict[str, Any]:
    """The bit-exact model of Lava's fixed_pt processes; or Lava itself, in `python`."""
    host, simulate = loaded(folder / "host.py"), loaded(folder / "simulate.py")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # where the simulator lies; it is the same in every part
    structure, spec, arrays = host.load(folder / "network.npz")
    steps = len(next(iter(inputs.values())))
    longer = waiting(inputs, structure["latency"])
    encoded = host.encode(structure["inputs"], longer)
    outputs = structure["outputs"]
    traces = in_lava(folder, longer, python) if python else simulate.run(spec, structure, encoded)
    numbers = host.integers(outputs, arrays, traces)
    found = host.decode(outputs, arrays, numbers)
    return {out["name"]: found[out["name"]][out["lag"] :][:steps] for out in outputs}


def in_lava(folder: Path, inputs: dict[str, Any], python: str) -> dict[str, dict[str, Any]]:
    """The traces that the part's own `run.py` gives in Lava's Python: trace -> population -> (T, B, n)."""
    with TemporaryDirectory() as name:
        given, found = Path(name, "given.npz"), Path(name, "traces.npz")
        files().write(given, inputs)
        command = [python, "-E", "-s", str(folder / "run.py"), str(given), "--traces", str(found)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=name)
        except OSError as error:
            raise ValueError(f"{python} does not run: {error.strerror}") from error
        if done.returncode:
            raise ValueError(f"{folder.name} in Lava: {(done.stderr.strip() or done.stdout.strip())[-2000:]}")
        traces: dict[str, dict[str, Any]] = {"spikes": {}, "u": {}, "v": {}}
        with np.load(found) as arrays:
            for key in arrays.files:
                trace, _, cell = key.partition(".")
                traces[trace][cell] = arrays[key]
    return traces


def on_xylo(folder: Path, inputs: dict[str, Any], xylosim: bool = False) -> dict[str, Any]:
    """The bit-exact model of the chip, or of all chips of the part; or SynSense's own."""
    part = loaded(folder / "run.py")
    if (folder / "placement.json").exists():
        return on_chips(folder, part, inputs, xylosim)
    description, _, _ = part.load()
    steps = len(next(iter(inputs.values())))
    found = part.run(part.events_of(description, waiting(inputs, description["latency"])), xylosim)
    return {out["name"]: found[out["name"]][out["lag"] :][:steps] for out in description["outputs"]}


def on_chips(folder: Path, part: Any, inputs: dict[str, Any], xylosim: bool) -> dict[str, Any]:
    """A part that several chips share, in their order; says how often spikes of one step could not all go on."""
    plan = json.loads((folder / "placement.json").read_text())
    values, several = part.run(plan, inputs, xylosim)
    for name, count in several.items():
        if count:
            print(f"{folder.name}: {name} spiked more than once in a step {count} times; one spike leaves the chip")
    return {name: values[name] for name in plan["outputs"]}


def waiting(inputs: dict[str, Any], late: int) -> dict[str, Any]:
    """The inputs, and `late` steps of nothing behind them."""
    return {name: np.concatenate([x, np.zeros((late, *x.shape[1:]), x.dtype)]) for name, x in inputs.items()}


def between(step: dict[str, Any], values: dict[str, Any]) -> Any:
    """Repeat: every step becomes several; TemporalMean: several become one."""
    total = sum((values[name] for name in step["reads"][1:]), values[step["reads"][0]])
    if step["kind"] == "Repeat":
        return total.repeat(step["steps"], axis=0)
    if len(total) % step["steps"]:
        raise ValueError(f"{step['name']}: {len(total)} steps do not divide into means over {step['steps']}")
    return total.reshape(-1, step["steps"], *total.shape[1:]).mean(axis=1)


def run(
    plan: dict[str, Any], inputs: dict[str, Any], floats: bool = False, vendor: str | None = None
) -> dict[str, Any]:
    """Every value between parts, and the outputs, (T, B, *shape) by name."""
    values = dict(inputs)
    for step in plan["steps"]:
        if step["kind"] == "loop":
            values.update(in_steps(step, values, plan, floats))
            if vendor is not None:
                confirmed(step, values, plan["target"], vendor)
            continue
        if step["kind"] != "part":
            values[step["name"]] = between(step, values)
            continue
        folder, given = HERE / step["name"], {name: values[name] for name in step["reads"]}
        if step["side"] == "host":
            found = on_host(folder, given, plan["host"])
        elif floats:
            found = on_host(folder / "float", given, plan["host"])
        else:
            found = on_chip(folder, given, plan["target"], vendor)
        values.update({op: found[end] for op, end in step["gives"].items()})
    return values


def in_steps(loop: dict[str, Any], values: dict[str, Any], plan: dict[str, Any], floats: bool) -> dict[str, Any]:
    """Parts that wait for one another, step by step: every value between them, (T, B, *shape) by name."""
    lockstep = beside()
    with np.load(HERE / "holds.npz") as arrays:
        holds = {
            hold["name"]: lockstep.Held(hold["reads"], *(arrays[f"{hold['arrays']}.{k}"] for k in ("steps", "rest")))
            for hold in loop["holds"]
        }
    made = {*holds, *(name for part in loop["parts"] for name in part["gives"])}
    outside = [name for part in loop["parts"] for name in part["reads"] if name not in made]
    total, batch = (values[outside[0]] if outside else next(iter(values.values()))).shape[:2]
    runners = []
    for part in loop["parts"]:
        on_host = part["side"] == "host" or floats
        folder = HERE / part["name"] / ("float" if floats and part["side"] == "chip" else "")
        kind = plan["host"] if on_host else plan["target"]
        step, late = lockstep.in_folder(folder, kind, batch, part["state"])
        runners.append(lockstep.Runner(part["reads"], part["gives"], step, late))
    return lockstep.Loop(runners, holds, values, total).run()


def confirmed(loop: dict[str, Any], values: dict[str, Any], target: str, vendor: str) -> None:
    """Runs the chip's parts of a loop in its maker's software, on the very values that went into them step by step.

    Raises ValueError if they give something else there.
    """
    for part in (part for part in loop["parts"] if part["side"] == "chip"):
        found = on_chip(HERE / part["name"], {name: values[name] for name in part["reads"]}, target, vendor)
        for name, end in part["gives"].items():
            if not np.array_equal(found[end], values[name]):
                raise ValueError(f"{part['name']} gives something else in its maker's software: {name}")


def parts_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All parts, those of loops too."""
    found: list[dict[str, Any]] = []
    for step in plan["steps"]:
        found += step["parts"] if step["kind"] == "loop" else [step] if step["kind"] == "part" else []
    return found


def files() -> Any:
    """`npz_files.py` beside this file."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    try:
        return import_module("npz_files")
    except ModuleNotFoundError:
        sys.exit(f"{HERE / 'npz_files.py'}: is missing")


def read(path: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a file; ValueError says what does not fit."""
    found: dict[str, Any] = files().inputs(files().read(path), plan["inputs"])
    return found


def compared(name: str, got: Any, expected: Any) -> str:
    """One value beside that of the whole network in floats."""
    apart = np.abs(np.asarray(got, np.float64) - expected)
    size = float(np.abs(expected).max())
    share = float((apart > 1e-6 * max(1.0, size)).mean())
    said = f"{100 * share:.3g} % of {apart.size} values differ, by {apart.max():.3g} at most"
    return f"{name}: {said} (values up to {size:.3g})"


def checked(options: Any, target: str) -> str:
    """What the chip's parts run in, in words; stops where --vendor does not say it."""
    if options.vendor is None:
        return " in floats" if options.float else ""
    if options.float:
        sys.exit("--float and --vendor exclude each other: the chip's parts run in one of them")
    if target == "lava":
        if not options.vendor:
            sys.exit("--vendor needs Lava's Python: run.py --vendor PYTHON, a Python 3.10 that has lava-nc 0.10.0")
        return ", in Lava itself"
    if options.vendor:
        sys.exit(f"--vendor takes no Python for {target}: xylosim runs in this one")
    try:
        import_module("xylosim")
    except ModuleNotFoundError:
        sys.exit("--vendor needs xylosim: pip install xylosim")
    return ", in xylosim"


def main() -> None:
    """Reads input, runs the parts, prints what crosses and what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", help=".npz with one array per input; default input.npz")
    parser.add_argument("-o", "--output", help=".npz to write the outputs to")
    parser.add_argument("--float", action="store_true", help="run the chip's parts in floats, on the host")
    parser.add_argument(
        "--vendor",
        nargs="?",
        const="",
        metavar="PYTHON",
        help="run the chip's parts in its maker's software: Lava 0.10, whose Python you name, or xylosim",
    )
    options = parser.parse_args()
    if altered := files().altered(HERE):
        sys.exit(f"{HERE}: not as it was compiled: {', '.join(altered)}; compile the network again")
    plan = json.loads((HERE / "placement.json").read_text())
    software = checked(options, plan["target"])
    needs = "onnxruntime" if plan["host"] == "onnx" else "torch"
    try:
        import_module(needs)
    except ModuleNotFoundError:
        sys.exit(f"the host's parts need {needs}: pip install {needs}")
    try:
        inputs = read(Path(options.input or HERE / "input.npz"), plan)
        values = run(plan, inputs, options.float, options.vendor)
    except (OSError, ValueError) as error:
        sys.exit(f"{options.input or 'input.npz'}: {error}")
    expected = {}
    if options.input is None:
        try:
            expected = files().read(HERE / "expected.npz")
        except ValueError as error:
            sys.exit(f"{HERE / 'expected.npz'}: {error}")
    chip = f"{plan['target']}{software}"
    for step in parts_of(plan):
        print(f"{step['name']} ({plan['host'] if step['side'] == 'host' else chip})")
        for name in step["gives"] if step["side"] == "chip" else ():
            told = (
                compared(name, values[name], expected[name]) if expected else f"{name}: {values[name].sum():g} in all"
            )
            print(f"    {told}")
    for name in plan["outputs"]:
        shape = "x".join(map(str, values[name].shape))
        if expected:
            print(f"beside the whole network in floats: {compared(name, values[name], expected[name])}")
        else:
            print(f"{name}: {shape}, values from {values[name].min():g} to {values[name].max():g}")
    if options.output:
        try:
            files().write(options.output, {name: values[name] for name in plan["outputs"]})
        except ValueError as error:
            sys.exit(f"{options.output}: {error}")


if __name__ == "__main__":
    main()
