"""One denoising call in ONNX Runtime against the same call in the torch target's module, on one thread.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python benchmarks/onnx_forward.py [--preset small] [--batch 1 4 16 64]

`sequence.onnx` in float32 as the onnx target writes it, and the module that the torch target emits, with the same
weights and the same noise; outputs are compared first. Both run in turns in one process; processor time, the best of
`--runs`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

import snnir
from snnir.backends.onnx.backend import session

MODEL = Path(__file__).parents[1] / "models" / "fsddim.py"


def best(calls: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Least processor time of each call in seconds; the calls take turns."""
    found = [float("inf")] * len(calls)
    for _ in range(runs):
        for i, call in enumerate(calls):
            start = time.process_time()
            call()
            found[i] = min(found[i], time.process_time() - start)
    return found


def main() -> None:
    """One line per batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small-temporal")
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    graph = snnir.load(MODEL, preset=given.preset)
    steps = graph.metadata["diffusion"]["steps"]
    module = snnir.compile(graph, "torch").module().eval()
    running = session(snnir.compile(graph, "onnx").artifact.sequence(np.float32))
    print(f"fsddim {given.preset}, {steps} steps: one denoising call, processor time in ms")
    rng = np.random.default_rng(0)
    for batch in given.batch:
        x = {n: rng.normal(size=(1, batch, *graph.shapes[n])).repeat(steps, 0).astype(np.float32) for n in graph.inputs}
        in_torch = partial(module, *(torch.from_numpy(x[name]) for name in graph.inputs))
        in_runtime = partial(running.run, None, x)
        with torch.inference_mode():
            error = float(np.abs(in_runtime()[0] - in_torch().numpy()).max())
            torch_time, onnx_time = best((in_torch, in_runtime), given.runs)
        times = f"torch {1e3 * torch_time:8.1f}   onnx {1e3 * onnx_time:8.1f}"
        print(f"  batch {batch:3d}   {times}   onnx / torch {onnx_time / torch_time:.2f}   (differ by {error:.1e})")


if __name__ == "__main__":
    main()
