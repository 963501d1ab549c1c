"""The script that lies beside the models and runs them; it needs NumPy and ONNX Runtime, not snnir."""

RUN = '''"""Runs the network on a NumPy file: python run.py input.npz output.npz [--steps]

input.npz holds one array (T, B, ...) per input, by the input's name; output.npz gets one per output. With --steps the
network runs step by step (step.onnx, its states before the first step from start.npz); otherwise at once
(sequence.onnx). Both give the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}


def load(name: str) -> onnxruntime.InferenceSession:
    """One of the models, on the CPU."""
    rounding = ["MatMulScaleFusion"]  # keeps factors as float32 in float64 models, too
    return onnxruntime.InferenceSession(
        str(HERE / name), providers=["CPUExecutionProvider"], disabled_optimizers=rounding
    )


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
    with np.load(HERE / "start.npz") as start:
        states = {name: np.repeat(start[name][None], batch, axis=0) for name in follows}
    names = [o.name for o in session.get_outputs()]
    found: dict[str, list[np.ndarray]] = {name: [] for name in names if name not in follows.values()}
    for t in range(steps):
        given = {name: np.asarray(inputs[name][t], kind) for name, kind in types.items()}
        values = dict(zip(names, session.run(None, {**given, **states})))
        states = {name: values[after] for name, after in follows.items()}
        for name, series in found.items():
            series.append(values[name])
    return {name: np.stack(series) for name, series in found.items()}


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--steps"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    with np.load(arguments[0]) as file:
        given = dict(file)
    np.savez(arguments[1], **(by_steps if "--steps" in sys.argv else at_once)(given))
'''
