"""Compile time against graph size: load, verify, passes and emission of chains of 1k, 3k and 10k ops.

    python benchmarks/compile_time.py

Prints seconds and microseconds per op; a linear compiler shows about the same microseconds in every row. Then what a
user waits for, in seconds of processor time beside what it may take; exits with 1 where one takes longer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

import snnir
from snnir import ops
from snnir.graph import Graph, chain
from snnir.semantics import Semantics

PASSES = "simplify,fold-batch-norm,split-concat,fuse-linear,normalise-gain"


def network(n_ops: int) -> Graph:
    """A chain of Linear, Scale, BatchNorm and LIF, four ops a layer, with a skip around every second layer."""
    rng = np.random.default_rng(0)
    layers: list[tuple[str, ops.Op]] = []
    for i in range(n_ops // 4):
        layers += [
            (f"{i}.linear", ops.Affine(weight=rng.normal(size=(8, 8)), bias=rng.normal(size=8))),
            (f"{i}.scale", ops.Scale(scale=rng.uniform(0.5, 2, 8))),
            (
                f"{i}.norm",
                ops.BatchNorm(weight=np.ones(8), bias=np.zeros(8), mean=rng.normal(size=8), var=np.ones(8)),
            ),
            (f"{i}.lif", ops.LIF(tau=np.full(8, 0.02), r=np.full(8, 3.0), v_threshold=np.ones(8))),
        ]
    return chain(ops.Input(shape=(8,)), *layers, ops.Output(), semantics=Semantics(dt=1e-3))


def help_seconds() -> float:
    """Processor time of a fresh `snnir --help`."""
    code = "import sys, time; import snnir.cli; snnir.cli.run(['--help']); print(time.process_time(), file=sys.stderr)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr)


def processor_seconds(run: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def published_sdit() -> None:
    """The published SDiT, 11,667,259 parameters: loaded, and compiled to PyTorch and ONNX, files and all."""
    from snnir.models import sdit

    graph = snnir.load(sdit.build("mnist"))
    for target in ("torch", "onnx"):
        dict(snnir.compile(graph, target).files())


def published_fsddim() -> None:
    """The published FSDDIM, 52,536,705 parameters: loaded, and compiled to NIR and, 50 calls fused, to Norse."""
    from snnir.models import fsddim

    graph = snnir.load(fsddim.build("paper"))
    dict(snnir.compile(graph, "nir").files())
    dict(snnir.compile(graph, "norse", passes="fold-batch-norm,unroll-sampler{steps=50},fuse-decoder").files())


WAITS: dict[str, tuple[Callable[[], float], float]] = {
    "snnir --help": (lambda: min(help_seconds() for _ in range(5)), 0.3),
    "FSDDIM as published: load, nir, norse": (lambda: processor_seconds(published_fsddim), 60.0),
    "SDiT as published: load, torch, onnx": (lambda: processor_seconds(published_sdit), 30.0),
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10000])
    parser.add_argument("--targets", nargs="+", default=["nir", "torch", "norse", "snntorch"])
    options = parser.parse_args()
    print(f"{'target':10} {'ops':>7} {'after':>7} {'seconds':>9} {'us per op':>10}")
    for target in options.targets:
        for size in options.sizes:
            graph = network(size)
            start = time.perf_counter()
            result = snnir.compile(graph, target=target, passes=PASSES)
            dict(result.artifact.files())  # a file is made when it is asked for
            seconds = time.perf_counter() - start
            print(
                f"{target:10} {len(graph):7d} {len(result.graph):7d} {seconds:9.2f} {1e6 * seconds / len(graph):10.1f}"
            )
    late = False
    print(f"\n{'what':40} {'seconds':>9} {'at most':>9}")
    for what, (measure, most) in WAITS.items():
        seconds = measure()
        late |= seconds > most
        print(f"{what:40} {seconds:9.2f} {most:9.1f}")
    sys.exit(late)


if __name__ == "__main__":
    main()
