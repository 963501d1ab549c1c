"""The script that lies beside `model.py` and runs it; it needs what the model needs, and NumPy."""

from __future__ import annotations

from snnir.graph import Graph


def run_script(graph: Graph) -> str:
    """The text of `run.py` for a network with the inputs of `graph`."""
    shapes = [f"    {name!r}: {tuple(graph.shapes[name])}," for name in graph.inputs]
    return _RUN.replace("SHAPES = {}", "\n".join(["SHAPES = {", *shapes, "}"]))


_RUN = '''"""Runs the model on a NumPy file: python run.py input.npz output.npz

input.npz holds one array (T, B, ...) per input, by the input's name, or (T, ...) for one sample; output.npz gets one
per output. float64 arrays are computed in float64, all others in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHAPES = {}  # of a step of a sample, by input


def loaded(dtype):
    """The model with the weights beside it; stops where they are not those of this model."""
    from model import Model
    from safetensors import SafetensorError

    try:
        model = Model(dtype=dtype).eval()
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        sys.exit(f"{HERE / 'weights.safetensors'}: cannot be the weights of model.py: {error}")
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            sys.exit(f"{HERE / 'weights.safetensors'}: {name} holds values that are not finite")
    return model


def main(source: str, target: str) -> None:
    sys.path.insert(0, str(HERE))
    try:
        import model
        import npz_files
        import numpy as np
        import torch
    except ModuleNotFoundError as error:
        sys.exit(f"{HERE / 'run.py'} needs {error.name}, which is not there")
    try:
        inputs = list(npz_files.inputs(npz_files.read(source), SHAPES).values())
    except ValueError as error:
        sys.exit(f"{source}: {error}")
    dtype = torch.float64 if any(array.dtype == np.float64 for array in inputs) else torch.float32
    with torch.no_grad():
        outputs = loaded(dtype)(*(torch.from_numpy(np.array(array)).to(dtype) for array in inputs))
    if not isinstance(outputs, dict):
        outputs = {model.Model.OUTPUTS[0]: outputs}
    try:
        npz_files.write(target, {name: value.numpy() for name, value in outputs.items()})
    except ValueError as error:
        sys.exit(f"{target}: {error}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
'''
