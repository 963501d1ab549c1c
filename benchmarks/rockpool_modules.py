"""The module that snnir emits for Rockpool against the same network written by hand in Rockpool, on one CPU thread.

    python benchmarks/rockpool_modules.py [--rounds 15]

A dense network of LinearTorch and LIFTorch, 100 steps, 16 samples; only weights are trained. Both have the same weights
and must give the same spikes. Rounds are interleaved; times are processor milliseconds, the best of all rounds; a ratio
is the median over rounds of the ratio within a round. Forward is without gradients, a training step is forward, loss
and backward.

The emitted module leaves out the matrix of zeros through which a LIFTorch without recurrent weights sends its spikes
back at every step; that is the difference.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from rockpool.nn.combinators import Sequential
from rockpool.nn.modules.torch import LIFTorch, LinearTorch
from torch import Tensor

import snnir

STEPS, BATCH = 100, 16
SIZES = (64, 256, 256, 10)
DT = 1e-3  # seconds


def by_hand() -> Sequential:
    """Rockpool's own, with weights so small that neurons give a spike now and then; only they are trained."""
    torch.manual_seed(0)
    layers = []
    for n_in, n_out in pairwise(SIZES):
        weight = (0.6 + 0.6 * torch.randn(n_in, n_out)) / n_in
        layers.append(LinearTorch((n_in, n_out), weight=weight))
        layers.append(LIFTorch(n_out, tau_mem=torch.tensor(0.01), tau_syn=torch.tensor(0.005), dt=DT))
    network = Sequential(*layers)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.endswith("weight"))
    return network


def timed(work: Callable[[], Tensor]) -> float:
    """Processor milliseconds of a call."""
    start = time.process_time()
    work()
    return 1e3 * (time.process_time() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    theirs = by_hand()
    ours = snnir.compile(theirs, "rockpool").module()
    x = (torch.rand(STEPS, BATCH, SIZES[0]) < 0.2).float()
    swapped = x.transpose(0, 1).contiguous()  # Rockpool takes (B, T, N)

    def run_theirs() -> Tensor:
        theirs.reset_state()
        y, _, _ = theirs(swapped)
        return y

    def forward(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def work() -> Tensor:
            with torch.no_grad():
                return run()

        return work

    def training(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def work() -> Tensor:
            loss = run().square().mean()
            loss.backward()
            return loss

        return work

    same = torch.equal(forward(run_theirs)().transpose(0, 1), forward(lambda: ours(x))())
    spikes = int(forward(lambda: ours(x))().sum())
    print(f"spikes of the outputs: {spikes}, {'the same' if same else 'NOT the same'}")
    for name, kind in (("forward", forward), ("training step", training)):
        ratios, best = [], [float("inf"), float("inf")]
        for _ in range(rounds):
            pair = [timed(kind(run_theirs)), timed(kind(lambda: ours(x)))]
            best = [min(a, b) for a, b in zip(best, pair, strict=True)]
            ratios.append(pair[1] / pair[0])
        ratio = statistics.median(ratios)
        print(f"{name:14} by hand {best[0]:7.1f} ms   emitted {best[1]:7.1f} ms   ratio {ratio:.2f}")
    return 0 if same and spikes else 1


if __name__ == "__main__":
    sys.exit(main())
