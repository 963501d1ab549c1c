"""Runs a network that several Xylo chips share: all chips, one after the other, spikes handed on between them.

    python run.py                       # on input.npz beside this file; says how far the chips' integers are off
    python run.py other.npz -o out.npz  # on other input; spikes (T, B, *shape) into a file
    python run.py --xylosim             # in SynSense's own simulator (pip install xylosim)
    python run.py --float               # in floats (float64, in ONNX Runtime): the network's own spikes

It needs NumPy, not snnir.

Input: one array per input, (T, B, *shape), whole numbers of 0 to 15 events. `placement.json` says which chips there are
and what goes between them; they run in the bit-exact simulators that lie in their folders. A chip runs over all steps
of the input before the next one begins, and what it gives late is put back into the network's own time: so cuts add no
step. State is at rest before the first step.

One spike per neuron and step leaves a chip. Where a neuron behind a cut spikes more often in a step, it is counted and
said.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


@cache
def loaded(path: Path) -> Any:
    """A Python file as a module of its own, whatever others are called alike."""
    name = "part_" + "_".join(path.relative_to(HERE).with_suffix("").parts).replace("-", "_")
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path}: cannot be read")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def on_chip(step: dict[str, Any], inputs: dict[str, Any], xylosim: bool) -> tuple[dict[str, Any], dict[str, int]]:
    """A chip's spikes by name, in the network's own time; and how often a neuron behind each spiked several times."""
    part = loaded(HERE / step["name"] / "run.py")
    description, spec, simulator = part.load()
    steps = len(next(iter(inputs.values())))
    late = description["latency"]
    held = {n: np.concatenate([x, np.zeros((late, *x.shape[1:]), x.dtype)]) for n, x in inputs.items()}
    events = part.events_of(description, held)
    ran = simulator.simulate(spec, events, record=True)
    spikes = part.run_xylosim(spec, events) if xylosim else ran.spikes
    given = {
        out["name"]: spikes[:, :, out["neurons"]].reshape(*spikes.shape[:2], *out["shape"])[out["lag"] :][:steps]
        for out in description["outputs"]
    }
    several: dict[str, int] = {}
    for name, neurons in step["watched"].items():
        if "hidden" in neurons:
            several[name] = int((ran.spikes_hidden[:, :, neurons["hidden"]] > 1).sum())
        else:  # an output neuron that could spike once more
            left = ran.v_out >= spec.threshold_out
            several[name] = int((left & (ran.spikes > 0))[:, :, neurons["output"]].sum())
    return {op: given[end] for op, end in step["gives"].items()}, several


def in_floats(step: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """What a chip's part of the network gives in floats; as many spikes in a step as the network itself."""
    found = loaded(HERE / step["name"] / "float" / "run.py").at_once(inputs)
    return {op: found[end] for op, end in step["gives"].items()}


def picked(step: dict[str, Any], values: dict[str, Any]) -> Any:
    """Spikes put where they are wanted: slices, pieces together again, outputs."""
    parts = [values[name].reshape(*values[name].shape[:2], -1) for name in step["reads"]]
    chosen = np.concatenate(parts, axis=2)[:, :, step["index"]]
    if step["delay"]:
        chosen = np.concatenate([np.zeros_like(chosen[: step["delay"]]), chosen])[: len(chosen)]
    return chosen.reshape(*chosen.shape[:2], *step["shape"])


def run(
    plan: dict[str, Any], inputs: dict[str, Any], xylosim: bool = False, floats: bool = False
) -> tuple[dict[str, Any], dict[str, int]]:
    """Every value between chips, and the outputs, (T, B, *shape) by name; and how often cuts held spikes back."""
    values, several = dict(inputs), dict[str, int]()
    for step in plan["steps"]:
        if step["kind"] == "pick":
            values[step["name"]] = picked(step, values)
            continue
        reads = {name: values[name] for name in step["reads"]}
        given, more = (in_floats(step, reads), {}) if floats else on_chip(step, reads, xylosim)
        values |= given
        several |= more
    return values, several


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
    for name, x in found.items():
        if ((x < 0) | (x > 15) | (x != np.rint(x))).any():
            raise ValueError(f"input {name!r} must hold whole numbers of 0 to 15 events")
    return found


def compared(name: str, got: Any, expected: Any, floats: bool = False) -> str:
    """Spikes beside those of the whole network in floats; of several in a step, one leaves a chip."""
    share = float((got != (expected if floats else np.minimum(expected, 1))).mean())
    return f"{name}: {int(got.sum())} spikes, {100 * share:.3g} % of {got.size} values differ from floats"


def checked(options: Any, plan: dict[str, Any]) -> str:
    """What the chips run in, in words; stops where it is not there."""
    if options.xylosim and options.float:
        sys.exit("--float and --xylosim exclude each other: the chips run in one of them")
    if options.xylosim and find_spec("xylosim") is None:
        sys.exit("--xylosim needs SynSense's simulator: pip install xylosim")
    if not options.float:
        return ", in xylosim" if options.xylosim else ""
    if plan["no_float"]:
        sys.exit(f"--float: {plan['no_float']}")
    if find_spec("onnxruntime") is None:
        sys.exit("--float needs ONNX Runtime: pip install onnxruntime")
    return " in floats"


def main() -> None:
    """Reads input, runs the chips, prints what crosses and what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", help=".npz with one array per input; default input.npz")
    parser.add_argument("-o", "--output", help=".npz to write the spikes to")
    parser.add_argument("--xylosim", action="store_true", help="run in xylosim instead of NumPy")
    parser.add_argument("--float", action="store_true", help="run in floats instead of the chips' integers")
    options = parser.parse_args()
    if altered := files().altered(HERE):
        sys.exit(f"{HERE}: not as it was compiled: {', '.join(altered)}; compile the network again")
    plan = json.loads((HERE / "placement.json").read_text())
    where = checked(options, plan)
    try:
        inputs = read(Path(options.input or HERE / "input.npz"), plan)
    except (OSError, ValueError) as error:
        sys.exit(f"{options.input or 'input.npz'}: {error}")
    values, several = run(plan, inputs, options.xylosim, options.float)
    expected = {}
    if options.input is None:
        try:
            expected = files().read(HERE / "expected.npz")
        except ValueError as error:
            sys.exit(f"{HERE / 'expected.npz'}: {error}")
    for step in (step for step in plan["steps"] if step["kind"] == "chip"):
        print(f"{step['name']} ({plan['target']}{where})")
        for name in step["gives"]:
            told = f"{name}: {int(values[name].sum())} spikes"
            if expected:
                told = compared(name, values[name], expected[name], options.float)
            print(f"    {told}")
            if several.get(name):
                print(f"    {name}: spiked more than once in a step {several[name]} times; one spike leaves the chip")
    for name in plan["outputs"]:
        if expected:
            print(f"beside the whole network in floats: {compared(name, values[name], expected[name], options.float)}")
        else:
            for b, counts in enumerate(values[name].sum(axis=0)):
                print(f"{name}[{b}]: {' '.join(str(int(n)) for n in np.ravel(counts))}")
    if options.output:
        try:
            files().write(options.output, {name: values[name] for name in plan["outputs"]})
        except ValueError as error:
            sys.exit(f"{options.output}: {error}")


if __name__ == "__main__":
    main()
