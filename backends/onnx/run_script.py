"""The script that lies beside the models and runs them; it needs NumPy and ONNX Runtime, not snnir."""

RUN = '''"""Runs the network on a NumPy file: python run.py input.npz output.npz [--steps]

input.npz holds one array (T, B, ...) per input, by the input's name, or (T, ...) for one sample; output.npz gets one
per output. With --steps the network runs step by step (step.onnx, its states before the first step from start.npz);
otherwise at once (sequence.onnx). Both give the same.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

try:
    import numpy as np
    import onnxruntime
except ModuleNotFoundError as error:
    sys.exit(f"{__file__} needs {error.name}, which is not there: pip install {error.name}")

HERE = Path(__file__).resolve().parent
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}


def load(name: str) -> onnxruntime.InferenceSession:
    """One of the models, on the CPU."""
    rounding = ["MatMulScaleFusion"]  # keeps factors as float32 in float64 models, too
    try:
        return onnxruntime.InferenceSession(
            str(HERE / name), providers=["CPUExecutionProvider"], disabled_optimizers=rounding
        )
    except Exception as error:  # ONNX Runtime has a class of its own for every fault
        sys.exit(f"{HERE / name}: cannot be loaded: {error}")


def at_once(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs the whole sequence: arrays (T, B, ...) by name."""
    session = load("sequence.onnx")
    given = {i.name: np.asarray(inputs[i.name], TYPES[i.type]) for i in session.get_inputs()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, given)))


def by_steps(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same step by step."""
    session = load("step.onnx")
    follows = json.loads(session.get_modelmeta().custom_metadata_map["snnir.states"])  # state -> the one after it
    types = {i.name: TYPES[i.type] for i in session.get_inputs() if i.name not in follows}
    steps, batch = inputs[next(iter(types))].shape[:2]
    try:
        start = npz_files().read(HERE / "start.npz")
        states = {name: np.repeat(start[name][None], batch, axis=0) for name in follows}
    except (ValueError, KeyError) as error:
        sys.exit(f"{HERE / 'start.npz'}: cannot be the states of step.onnx: {error}")
    names = [o.name for o in session.get_outputs()]
    found: dict[str, list[np.ndarray]] = {name: [] for name in names if name not in follows.values()}
    for t in range(steps):
        given = {name: np.asarray(inputs[name][t], kind) for name, kind in types.items()}
        values = dict(zip(names, session.run(None, {**given, **states})))
        states = {name: values[after] for name, after in follows.items()}
        for name, series in found.items():
            series.append(values[name])
    return {name: np.stack(series) for name, series in found.items()}


def npz_files():
    """`npz_files.py` beside this file."""
    sys.path.insert(0, str(HERE))
    try:
        return import_module("npz_files")
    except ModuleNotFoundError:
        sys.exit(f"{HERE / 'npz_files.py'}: is missing")


def main(source: str, target: str, steps: bool) -> None:
    """Reads the inputs, runs the network, writes its outputs."""
    files = npz_files()
    if steps and not (HERE / "step.onnx").exists():
        sys.exit("--steps: this network has no step.onnx")
    session = load("step.onnx" if steps else "sequence.onnx")
    states = json.loads(session.get_modelmeta().custom_metadata_map["snnir.states"]) if steps else {}
    shapes = {i.name: i.shape[1 if steps else 2 :] for i in session.get_inputs() if i.name not in states}
    try:
        given = files.inputs(files.read(source), shapes)
    except ValueError as error:
        sys.exit(f"{source}: {error}")
    outputs = (by_steps if steps else at_once)(given)
    try:
        files.write(target, outputs)
    except ValueError as error:
        sys.exit(f"{target}: {error}")


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--steps"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    main(*arguments, "--steps" in sys.argv)
'''
