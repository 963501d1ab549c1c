"""snnir's Xylo simulator against xylosim, on the same networks and a batch of 64 samples, compared bit for bit.

    OMP_NUM_THREADS=1 python benchmarks/xylo_simulator.py [--steps 50] [--runs 2] [--seed 0]

xylosim takes one sample at a time; its network is built and its input converted to lists beforehand, off the clock.
Ours is timed from the specification to the spikes, once with nothing recorded and once with every state recorded, as
xylosim always does. Times are processor time (both run on one thread), the best of `--runs`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from snnir.simulators.xylo import XyloSpec, simulate
from tests.xylo_oracle import XyloOracle

BATCH = 64


@dataclass(frozen=True)
class Case:
    """Hidden layers in a chain; `recurrent` is the density of further connections among all hidden neurons."""

    name: str
    layers: tuple[int, ...]
    outputs: int
    threshold: int
    synapses: int = 1
    density: float = 1.0
    recurrent: float = 0.0
    shift: int = 0

    def draw(self, rng: np.random.Generator) -> XyloSpec:
        n = sum(self.layers)

        def weights(*shape: int, density: float) -> Any:
            return rng.integers(-40, 41, shape) * (rng.random(shape) < density)

        rec = weights(n, n, self.synapses, density=self.recurrent)
        start = 0
        for here, there in zip(self.layers, self.layers[1:], strict=False):
            block = weights(here, there, self.synapses, density=self.density)
            rec[start : start + here, start + here : start + here + there] = block
            start += here
        hidden, out = np.ones(n, int), np.ones(self.outputs, int)
        return XyloSpec(
            weights_in=rng.integers(-20, 41, (16, self.layers[0], self.synapses)),
            weights_rec=rec,
            weights_out=weights(self.layers[-1], self.outputs, density=1.0),
            dash_mem=4 * hidden,
            dash_mem_out=4 * out,
            dash_syn=3 * hidden,
            dash_syn_2=2 * hidden,
            dash_syn_out=3 * out,
            threshold=(self.threshold << self.shift) * hidden,
            threshold_out=(self.threshold << self.shift) * out,
            bias=0 * hidden,
            bias_out=0 * out,
            weight_shift_in=self.shift,
            weight_shift_rec=self.shift,
            weight_shift_out=self.shift,
            dt=1e-3,
            family="xylo-audio2" if self.outputs <= 8 else "xylo-audio3",
        )


CASES = (
    Case("4 hidden, 2 out", (4,), 2, 400),
    Case("128-96 hidden, 10 out", (128, 96), 10, 1000),
    Case("the same, weights shifted by 4", (128, 96), 10, 1000, shift=4),
    Case("170 hidden, recurrent", (170,), 8, 1500, recurrent=1.0),
    Case("Audio 3 full: 496-496 hidden, 32 out", (496, 496), 32, 1500, density=0.12),
    Case("Audio 2 full: 1000 hidden, 2 synapses", (1000,), 8, 1500, synapses=2, recurrent=0.016),
    Case("the same, shifted by 4: saturates", (1000,), 8, 1500, synapses=2, recurrent=0.016, shift=4),
    Case("170 recurrent, shifted by 7: mostly saturated", (170,), 8, 200, recurrent=1.0, shift=7),
)


def best(run: Callable[[], Any], runs: int) -> float:
    """Processor seconds of the fastest of `runs`."""
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"batch of {BATCH}, {options.steps} steps, processor time in ms; ratio = xylosim / snnir, recording")
    print(f"{'network':46} {'hidden rate':>11} {'snnir':>8} {'recording':>9} {'xylosim':>8} {'ratio':>6}  same")
    same = True
    for case in CASES:
        rng = np.random.default_rng(options.seed)
        spec = case.draw(rng)
        events = rng.poisson(0.3, (options.steps, BATCH, 16))
        oracle = XyloOracle(spec)
        rasters = [events[:, b].tolist() for b in range(BATCH)]

        def theirs(oracle: XyloOracle = oracle, rasters: list[Any] = rasters) -> Any:
            spikes = []
            for raster in rasters:
                oracle.layer.reset_all()
                spikes.append(oracle.layer.evolve(raster))
            return np.stack(spikes, axis=1)

        def ours(spec: XyloSpec = spec, events: Any = events, record: bool = False) -> Any:
            return simulate(spec, events, record=record)

        run = simulate(spec, events, record=True)
        assert run.spikes_hidden is not None
        equal = np.array_equal(run.spikes, theirs())
        same &= equal
        plain, recording = best(ours, options.runs), best(lambda ours=ours: ours(record=True), options.runs)
        other = best(theirs, options.runs)
        print(
            f"{case.name:46} {run.spikes_hidden.mean():11.3f} {plain * 1e3:8.0f} {recording * 1e3:9.0f} "
            f"{other * 1e3:8.0f} {other / recording:6.1f}  {'yes' if equal else 'NO'}",
            flush=True,
        )
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
