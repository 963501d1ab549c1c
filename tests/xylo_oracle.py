"""xylosim (SynSense's own C++ model of the chip) run on a specification, one sample at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from xylosim.v2 import XyloLayer, XyloSynapse

from snnir.simulators.xylo import XyloRun, XyloSpec

Array = np.ndarray[Any, np.dtype[Any]]


class XyloOracle:
    """`spec` built as Rockpool's `XyloSim.from_specification` builds it, from xylosim's own classes.

    XyloLayer keeps bare pointers to its XyloSynapse objects, so the lists of them must live as long as it does.
    """

    def __init__(self, spec: XyloSpec) -> None:
        unread = [[] for _ in range(spec.n_hidden - len(spec.weights_out))]
        self._synapses = (
            _synapses(spec.weights_in),
            _synapses(spec.weights_rec),
            unread + _synapses(spec.weights_out),
        )
        dash_syn = [spec.dash_syn, spec.dash_syn_2][: spec.n_synapses]
        self.layer = XyloLayer(
            *self._synapses,
            [list(targets) for targets in spec.aliases],
            spec.threshold.tolist(),
            spec.threshold_out.tolist(),
            bool(spec.bias.any() or spec.bias_out.any()),
            spec.bias.tolist(),
            spec.bias_out.tolist(),
            int(spec.weight_shift_in),
            int(spec.weight_shift_rec),
            int(spec.weight_shift_out),
            spec.dash_mem.tolist(),
            spec.dash_mem_out.tolist(),
            np.stack(dash_syn, axis=1).tolist(),
            spec.dash_syn_out[:, None].tolist(),
            "oracle",
        )
        self.n_synapses = spec.n_synapses

    def run(self, events: Array) -> XyloRun:
        """Run `events` (T, B, Nin), each sample from rest; everything recorded, as `simulate(..., record=True)`."""
        samples = [self._run_one(events[:, b].astype(int).tolist()) for b in range(events.shape[1])]
        return XyloRun(*(np.stack(parts, axis=1) for parts in zip(*samples, strict=True)))

    def _run_one(self, raster: list[list[int]]) -> tuple[Array, ...]:
        self.layer.reset_all()
        spikes = np.array(self.layer.evolve(raster), int)
        currents = [self.layer.rec_i_syn, self.layer.rec_i_syn2][: self.n_synapses]
        return (
            spikes,
            np.array(self.layer.rec_recurrent_spikes, int),
            np.array(self.layer.rec_v_mem, int).T,
            np.stack([np.array(current, int).T for current in currents], axis=-1),
            np.array(self.layer.rec_v_mem_out, int).T,
            np.array(self.layer.rec_i_syn_out, int).T,
        )


def _synapses(weights: Array) -> list[list[XyloSynapse]]:
    """One list per source: the first synapse's connections, then the second's."""
    by_synapse = np.atleast_3d(weights)
    return [
        [XyloSynapse(int(n), s, int(row[n, s])) for s in range(row.shape[1]) for n in np.flatnonzero(row[:, s])]
        for row in by_synapse
    ]
