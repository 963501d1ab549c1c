"""What `--against fused` compares: a network as it is, and after the standard fusions."""

from __future__ import annotations

from snnir.draw.comparison import Comparison, compare_passes
from snnir.graph import Graph
from snnir.pipeline import parse_pipeline, run_pipeline

FUSIONS = "fold-batch-norm,split-concat,fuse-linear"
CALLS = 2  # of a sampler: the fewest between which something can be fused


def compare_fused(graph: Graph) -> Comparison:
    """The standard fusions; a diffusion model (metadata 'diffusion') is shown as its sampler of two calls."""
    if "diffusion" not in graph.metadata:
        passes = parse_pipeline(f"{FUSIONS},simplify")
        return compare_passes(graph, passes, ("before", f"after {FUSIONS}, simplify".replace(",", ", ")))
    unroll = f"unroll-sampler{{steps={CALLS}}}"
    sampler = run_pipeline(graph, parse_pipeline(unroll))
    # First the decoder: its prices are lower while the concatenations before it are whole. No simplify: it would share
    # the calls' equal constants, and with them join what belongs to different calls.
    passes = parse_pipeline(f"fuse-decoder,{FUSIONS}")
    titles = (f"before: {CALLS} denoising calls ({unroll})", f"after fuse-decoder, {FUSIONS.replace(',', ', ')}")
    return compare_passes(sampler, passes, titles)
