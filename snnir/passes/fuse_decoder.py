"""fuse-decoder: what lies between two denoising calls of an unrolled sampler, as weights on spikes or as a lean relay.

A call ends with a convolution without neurons, DDIM is linear, and the next call starts with another convolution. So

    x_j = (prod_{l<j} a_l) noise + sum_{i<j} b_i (prod_{i<l<j} a_l) (W_out z_i + b_out)

is a sum over the spikes z_i of all earlier calls, and the first current of call j is conv_in(x_j) (arXiv 2312.01742,
Fig. 1e):

    spikes-only   call j reads every z_i through one convolution, conv_in o conv_out times its factor, and the noise
                  through conv_in. What crosses between calls is 0 or 1. conv_in pads with zeros, so b_out becomes a
                  bias MAP, constant inside and different along the border.
    factored      x_j stays a value that is handed on. b goes into conv_out; where the first convolution's own output
                  skips to conv_out, both become one small convolution of the relay if that is cheaper.

Through an image of one channel the factored pair costs 768 + 9 x 128 operations a pixel in the paper's network, the
fused kernel 768 x 9 x 128, once per pair of calls. So `auto` takes `spikes-only` only where nothing else can be
carried, or where it is cheaper; the log has both prices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from snnir.diffusion.spec import spec_of
from snnir.diffusion.unrolled import SAMPLER, UnrolledSampler, crossing_faults, sampler_of
from snnir.graph import Graph
from snnir.passes.common import Declined
from snnir.passes.decoder_factored import factored
from snnir.passes.decoder_paths import Paths
from snnir.passes.decoder_price import Price, price_factored, price_spikes
from snnir.passes.decoder_spikes import plan_spikes, spikes_only
from snnir.pipeline import Keeps, Log, Pass


@dataclass(frozen=True)
class FuseDecoder(Pass):
    """Fuses what lies between the calls of an unrolled sampler: into weights on spikes, or into a cheap relay.

    Attributes:
        mode: `spikes-only`, `factored`, or `auto`: what the target can carry and what costs less.
        carries: what the target can send from call to call: spikes alone, or currents too.
        rate: spikes per neuron and step that prices are computed with.
    """

    name: ClassVar[str] = "fuse-decoder"
    keeps: ClassVar[Keeps] = "exact"
    mode: Literal["auto", "spikes-only", "factored"] = "auto"
    carries: Literal["currents", "spikes"] = "currents"
    rate: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is {self.rate}, expected spikes per neuron and step, 0 to 1")

    def run(self, graph: Graph, log: Log) -> Graph:
        sampler = sampler_of(graph)
        out = next(iter(graph.outputs))
        if sampler is None:
            log.declined(out, "no unrolled sampler: put unroll-sampler{steps=...} before this pass")
            return graph
        if graph.semantics.latency_neuron or graph.semantics.latency_input:
            log.declined(out, "the graph's semantics has latencies; put this pass before balance-latency")
            return graph
        steps = spec_of(graph).steps
        paths = Paths(graph)
        relaying = Log(self.name)
        relay = factored(graph, relaying)
        prices = {"factored": price_factored(relay, self.rate, steps)}
        try:
            plan = plan_spikes(paths)
            prices["spikes-only"] = price_spikes(paths, plan, self.rate, steps)
        except Declined as reason:
            plan = None
            if self.mode == "spikes-only" or self.carries == "spikes":
                log.declined(out, f"spikes-only is impossible: {reason}")
                return graph
            log.declined(out, f"not priced as spikes-only: {reason}")
        chosen, why = self._choose(prices)
        log.did(out, f"{chosen}, {why}; the decoder's share of an image, at {self.rate:g} spikes per neuron and step:")
        for name, price in prices.items():
            log.did(out, f"{name}: {price}")
        if chosen == "factored":
            log.entries += relaying.entries
        after = spikes_only(paths, plan) if chosen == "spikes-only" and plan is not None else relay
        made = UnrolledSampler(sampler.calls, chosen)
        after = replace(after, metadata={**graph.metadata, SAMPLER: made.to_dict()})
        if chosen == "spikes-only" and (faults := crossing_faults(after)):
            raise RuntimeError(f"a bug of fuse-decoder: {faults[0]}")
        return after

    def _choose(self, prices: dict[str, Price]) -> tuple[str, str]:
        if self.mode != "auto":
            return self.mode, "as asked for"
        if self.carries == "spikes":
            return "spikes-only", "the target carries spikes alone"
        if "spikes-only" not in prices:
            return "factored", "the only way"
        chosen = min(prices, key=lambda name: prices[name].ours.joules)
        ratio = max(p.ours.joules for p in prices.values()) / max(prices[chosen].ours.joules, np.finfo(float).tiny)
        return chosen, f"{ratio:.3g} times less energy than the other way"
