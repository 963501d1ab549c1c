"""How many spikes of a sampler flip in single precision, and why.

    python benchmarks/float32_flips.py --preset digits --calls 10 --batch 16

The same unrolled sampler runs in float64 and in float32, in the reference interpreter and in PyTorch. A spike that
differs has a cause: rounding at the threshold, or a spike in front of it that differs. Ops run layer by layer, so in
the first population of each image that differs nothing in front of it does, and in each of its neurons the first step
that differs can only be rounding: there the float64 membrane must lie within rounding of the threshold. The script
prints that margin, and exits with 1 where it is larger than LARGEST.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import snnir
from snnir.diffusion.spec import spec_of
from snnir.graph import Graph
from snnir.pipeline import parse_pipeline, run_pipeline
from snnir.schedule import schedule

Array = np.ndarray[Any, np.dtype[Any]]
LARGEST = 1e-5  # of the threshold: some tens of roundings of float32


def flips(want: Array, got: Array) -> Array:
    """Where two spike trains differ."""
    return (want > 0.5) != (got > 0.5)


def margins(graph: Graph, name: str, x: Array, differs: Array) -> Array:
    """|u - v_th| / v_th, in float64, at the first step that differs of each neuron of one population.

    u is the membrane before the reset: what is recorded where there was no spike; where there was one, the step is run
    again with a threshold that cannot be reached.
    """
    op = graph[name]
    v_th = float(np.max(op.v_threshold))  # type: ignore[attr-defined]
    first = np.argmax(differs, axis=0)
    hit = differs.any(axis=0)
    at = (first[hit], *np.nonzero(hit))
    # The membrane of a step follows from the one before it and the current: u = decay * v[t - 1] + current.
    silent = {**graph.ops, name: op.with_(v_threshold=np.full_like(op.v_threshold, 1e30))}  # type: ignore[attr-defined]
    sources = [edge.source for edge in graph.incoming[name]]
    _, found = snnir.interpret(graph, x, record=[f"{name}:v", *sources], dtype=np.float64)
    current = sum(found[s] for s in sources)
    before = np.concatenate([np.zeros_like(found[f"{name}:v"][:1]), found[f"{name}:v"][:-1]])
    dt = float(graph.semantics.dt or 0.0)
    tau, r = float(silent[name].tau), float(silent[name].r)  # type: ignore[attr-defined]
    u = before * (1 - dt / tau) + (dt / tau) * r * current
    return np.asarray(np.abs(u[at] - v_th) / v_th)


def main() -> int:
    """Prints a table; 1 where a first flip is no rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    options = {"weights": given.weights} if given.weights else {}
    source = snnir.load("models/fsddim.py", preset=given.preset, **options)
    text = f"fold-batch-norm,unroll-sampler{{steps={given.calls}}},fuse-decoder{{mode=factored}}"
    graph = run_pipeline(source, parse_pipeline(text))
    spec = spec_of(graph)
    drawn = np.random.default_rng(given.seed).normal(size=(1, given.batch, *spec.currents))
    x = np.broadcast_to(drawn.astype(np.float32).astype(np.float64), (spec.steps, *drawn.shape[1:]))
    names = [n for n in schedule(graph).order if graph[n].spiking]
    exact, spikes = snnir.interpret(graph, x, record=names, dtype=np.float64)
    runs = {"interpreter": snnir.interpret(graph, x, record=names, dtype=np.float32)}
    runs["torch"] = snnir.compile(graph, "torch").run(x.astype(np.float32), record=names)
    total = sum(v.size for v in spikes.values())
    rate = sum(float(v.sum()) for v in spikes.values()) / total
    print(
        f"{given.preset}, {given.calls} calls, {given.batch} images: {total:,} neuron steps, {rate:.3f} spikes in each"
    )
    worst = 0.0
    for name, (image, found) in runs.items():
        different = {n: flips(spikes[n], found[n]) for n in names}
        count = sum(int(d.sum()) for d in different.values())
        off = float(np.abs(np.asarray(image, np.float64).mean(axis=0) - exact.mean(axis=0)).max())
        print(f"{name} in float32: {count} of {total:,} spikes flip ({count / total:.2e}); image off by {off:.2e}")
        for image_at in range(given.batch):
            one = slice(image_at, image_at + 1)
            first = next((n for n in names if different[n][:, one].any()), None)
            if first is not None:
                margin = margins(graph, first, x[:, one], different[first][:, one])
                worst = max(worst, float(margin.max()))
                print(f"  image {image_at}: first in {first}, |u - v_th| / v_th at most {margin.max():.2e}")
    return int(worst > LARGEST)


if __name__ == "__main__":
    sys.exit(main())
