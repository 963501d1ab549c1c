"""What Loihi's integers cost: spike counts of random nets, and a denoiser's predictions and images, against floats.

    python benchmarks/lava_quantisation.py                                  # random nets
    python benchmarks/lava_quantisation.py --convolutions                   # random convolutional nets, Lava's Conv
    python benchmarks/lava_quantisation.py --fsddim digits --images 16      # models/fsddim.py, 20 DDIM steps

Nets: three dense layers (20-50-30-10), Gaussian weights that go with the root of the fan-in, input of random spikes
(0.2 per step), 300 steps, 4 samples, 3 nets each. The error is the summed difference of spike counts per sample and
neuron over summed counts, all layers together. Convolutional nets: 2 x 28 x 36 inputs, layers of 12,096, 12,096, 4,032
and 10 LIF neurons, two pools between, 100 steps, 2 samples, 2 nets each.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from typing import Any

import numpy as np

import snnir
from snnir.graph import Graph, chain
from snnir.ops import LIF, AvgPool2d, Conv2d, CubaLIF, Flatten, Input, Linear, Op, Output
from snnir.semantics import Semantics

DT = 1e-3
BITS = (8, 9, 16)


def net(rng: np.random.Generator, tau: float, current_based: bool) -> Graph:
    """Three dense layers of neurons with a time constant of `tau` steps (currents: half of it)."""
    ops: list[Op | tuple[str, Op]] = [("in", Input(shape=(20,)))]
    gain = 4.0 if tau < 50 else 1.3
    for at, (before, size) in enumerate(pairwise((20, 50, 30, 10)), 1):
        weight = rng.normal(0.1, 0.3, (size, before)) * gain / np.sqrt(before)
        full = np.ones(size)
        neurons: Op = LIF(tau=tau * DT * full, r=tau * full, v_threshold=full)
        if current_based:
            syn = tau / 2
            neurons = CubaLIF(
                tau_mem=tau * DT * full, tau_syn=syn * DT * full, r=tau * full, w_in=syn / 4 * full, v_threshold=full
            )
        ops += [(f"w{at}", Linear(weight=weight)), (f"n{at}", neurons)]
    return chain(*ops, ("out", Output()), semantics=Semantics(dt=DT))


def convolutional(rng: np.random.Generator, tau: float) -> Graph:
    """Three convolutions, two pools, and a dense layer of LIF neurons with a time constant of `tau` steps."""
    gain = 2.0 if tau < 50 else 1.0

    def conv(out: int, into: int) -> Op:
        spread = gain / np.sqrt(9 * into)
        return Conv2d(weight=rng.normal(0.15 * spread, spread, (out, into, 3, 3)), bias=np.zeros(out), padding=1)

    def lif(*shape: int) -> Op:
        return LIF(tau=np.full(shape, tau * DT), r=np.full(shape, tau), v_threshold=np.ones(shape))

    pool = AvgPool2d(kernel_size=(2, 2), stride=(2, 2))
    dense = Linear(weight=rng.normal(0.002, 3 / np.sqrt(1008), (10, 1008)))
    ops = [Input(shape=(2, 28, 36)), conv(12, 2), lif(12, 1, 1), conv(12, 12), lif(12, 1, 1), pool, conv(16, 12)]
    ops += [lif(16, 1, 1), pool, Flatten(), dense, lif(10)]
    return chain(*((f"n{i}", op) for i, op in enumerate(ops)), ("out", Output()), semantics=Semantics(dt=DT))


def convolutions() -> None:
    """Prints one line per time constant."""
    print("tau  spikes   " + "  ".join(f"{bits:2d} bits" for bits in BITS))
    for tau in (5, 20, 100):
        errors: dict[int, list[float]] = {bits: [] for bits in BITS}
        spikes = 0
        for seed in range(2):
            rng = np.random.default_rng(seed)
            graph = convolutional(rng, tau)
            x = (rng.random((100, 2, 2, 28, 36)) < 0.2).astype(float)
            for bits in BITS:
                measured = snnir.compile(graph, "lava", calibrate=x, weight_bits=bits, conv="conv").report["measured"]
                errors[bits].append(measured["count_error"])
            spikes += measured["spikes"]
        print(f"{tau:3d} {spikes:8d}   " + "  ".join(f"{100 * np.mean(e):5.2f} %" for e in errors.values()))


def nets() -> None:
    """Prints one line per kind of neuron and time constant."""
    print("neurons  tau  spikes   " + "  ".join(f"{bits:2d} bits" for bits in BITS))
    for current_based in (False, True):
        for tau in (5, 10, 20, 50, 100):
            errors: dict[int, list[float]] = {bits: [] for bits in BITS}
            spikes = 0
            for seed in range(3):
                rng = np.random.default_rng(seed)
                graph = net(rng, tau, current_based)
                x = (rng.random((300, 4, 20)) < 0.2).astype(float)
                for bits in BITS:
                    measured = snnir.compile(graph, "lava", calibrate=x, weight_bits=bits).report["measured"]
                    errors[bits].append(measured["count_error"])
                spikes += measured["spikes"]
            name = "CubaLIF" if current_based else "LIF    "
            print(f"{name} {tau:4d} {spikes:7d}   " + "  ".join(f"{100 * np.mean(e):5.2f} %" for e in errors.values()))


def denoiser(preset: str, images: int, steps: int) -> None:
    """Prints errors of v, call by call on the float network's own way, and of the images after all steps."""
    from snnir.diffusion.sample import compiled_denoiser, graph_denoiser, noise, sample
    from snnir.diffusion.spec import spec_of
    from snnir.models.fsddim import build

    graph = snnir.load(build(preset).eval())
    spec = spec_of(graph)
    start = noise(spec, images)
    reference, seen = graph_denoiser(graph), list[tuple[Any, Any, Any]]()

    def watched(x: Any, t: Any) -> Any:
        y = reference(x, t)
        seen.append((x, t, y))
        return y

    wanted = sample(watched, spec, start, steps).images
    for bits in BITS:
        result = snnir.compile(graph, "lava", weight_bits=bits)
        chip, begun = compiled_denoiser(result, spec), time.process_time()
        errors = []
        for x, t, y in seen[:: max(1, steps // 4)]:
            want, got = y.mean(axis=0), chip(x, t).mean(axis=0)
            errors.append(float(np.sqrt(((got - want) ** 2).mean() / (want**2).mean())))
        got = sample(chip, spec, start, steps).images
        apart = float(np.sqrt(((got - wanted) ** 2).mean()))
        used = result.report["used"]
        print(
            f"{bits} bits: {used['neurons']} neurons, {used['synapses']} synapses, v differs by "
            f"{', '.join(f'{100 * e:.0f} %' for e in errors)}; images by {apart:.4f} (their rms "
            f"{float(np.sqrt((wanted**2).mean())):.3f}), {time.process_time() - begun:.0f} s"
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fsddim", metavar="PRESET", help="a denoiser of models/fsddim.py instead of random nets")
    parser.add_argument("--convolutions", action="store_true", help="random convolutional nets")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, help="DDIM steps")
    options = parser.parse_args()
    if options.convolutions:
        convolutions()
    elif options.fsddim:
        denoiser(options.fsddim, options.images, options.steps)
    else:
        nets()


if __name__ == "__main__":
    main()
