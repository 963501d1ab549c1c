"""What FSDDIM's decoder costs per image, fused into synapses (spikes only) or handed on by a relay (factored).

    python benchmarks/fsddim_decoder.py [--calls 50] [--rate 0.24]

Untrained networks without stem skip, so that both ways are possible; spikes per neuron and step are assumed (the
shipped small network has .24). Energy at 45 nm: MAC 4.6 pJ, AC 0.9 pJ (Horowitz, ISSCC 2014). By our counting rule, and
by that of the paper's authors.
"""

from __future__ import annotations

import argparse
import resource
import time

import snnir
from snnir.models import fsddim
from snnir.pipeline import Step, parse_pipeline, run_pipeline


def main() -> None:
    """One paragraph per preset: what fuse-decoder's log says of both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=50, help="denoising calls per image")
    parser.add_argument("--rate", type=float, default=0.24, help="spikes per neuron and step")
    parser.add_argument("--presets", nargs="*", default=["digits", "small", "small-temporal", "paper"])
    given = parser.parse_args()
    pipeline = f"fold-batch-norm,unroll-sampler{{steps={given.calls}}},fuse-decoder{{rate={given.rate}}}"
    for preset in given.presets:
        graph = snnir.load(fsddim.build(preset, weights="none", stem_skip=False))
        start = time.process_time()
        steps: list[Step] = []
        run_pipeline(graph, parse_pipeline(pipeline), steps.append)
        prices = [e.text for step in steps for e in step.entries if e.text.startswith(("factored", "spikes-only"))]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{preset}: {time.process_time() - start:.1f} CPU-s for all passes, peak {peak:.0f} MiB")
        for text in prices:
            print(f"  {text}")


if __name__ == "__main__":
    main()
