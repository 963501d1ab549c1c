"""A run of a chip, or its steps by hand: populations and the events between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.simulators.xylo.events import Projection
from snnir.simulators.xylo.neurons import Neurons
from snnir.simulators.xylo.spec import (
    MAX_HIDDEN_SPIKES,
    MAX_INPUT_EVENTS,
    MAX_OUTPUT_SPIKES,
    Array,
    XyloSpec,
    is_integer,
)


@dataclass(frozen=True, eq=False)
class XyloRun:
    """What a run gave, as int16 and time first: `spikes` (T, B, Nout), 0 or 1.

    Recorded on request, after each step: `spikes_hidden` (T, B, Nhid) counts 0..31 with what aliases added,
    `v_hidden` (T, B, Nhid), `i_hidden` (T, B, Nhid, S), `v_out` and `i_out` (T, B, Nout).
    """

    spikes: Array
    spikes_hidden: Array | None = None
    v_hidden: Array | None = None
    i_hidden: Array | None = None
    v_out: Array | None = None
    i_out: Array | None = None


def simulate(spec: XyloSpec, events: Array, *, record: bool = False) -> XyloRun:
    """Run `spec` on `events` (T, B, Nin), counts of input events per channel and step; states start at rest.

    Counts above 15 act as 15, as on the chip and in xylosim (which refuses counts above 255). With `record`, hidden
    spikes, membranes and currents are kept as well. Raises ValueError if the shape does not fit or a count is
    negative or not an integer.
    """
    events = np.asarray(events)
    if events.ndim != 3 or events.shape[2] != spec.n_in:
        raise ValueError(f"events have shape {events.shape}, expected (steps, batch, {spec.n_in})")
    if not is_integer(events) or (events.size and events.min() < 0):
        raise ValueError("events must be counts: integers, none below zero")
    steps, batch, _ = events.shape
    chip = XyloSteps(spec, batch)
    spikes = np.zeros((steps, batch, spec.n_out), np.int16)
    n, m = spec.n_hidden, spec.n_out
    sizes = {"spikes_hidden": (n,), "v_hidden": (n,), "i_hidden": (n, spec.n_synapses), "v_out": (m,), "i_out": (m,)}
    kept = {name: np.zeros((steps, batch, *size), np.int16) for name, size in sizes.items() if record}

    for t in range(steps):
        spikes[t] = chip.step(events[t])
        if record:
            hidden, outputs = chip.hidden, chip.outputs
            currents = hidden.i.reshape(batch, spec.n_synapses, spec.n_hidden).transpose(0, 2, 1)
            for values, now in zip(kept.values(), (chip.fired, hidden.v, currents, outputs.v, outputs.i), strict=True):
                values[t] = now
    return XyloRun(spikes, **kept)


class XyloSteps:
    """A chip that is stepped by hand, at rest before the first step: what `simulate` does, one step per call.

    `fired` (B, Nhid) are the hidden neurons' spikes of the last step.
    """

    def __init__(self, spec: XyloSpec, batch: int) -> None:
        dash_syn = spec.dash_syn if spec.n_synapses == 1 else np.concatenate([spec.dash_syn, spec.dash_syn_2])
        self.hidden = Neurons(
            batch, spec.dash_mem, dash_syn, spec.threshold, spec.bias, MAX_HIDDEN_SPIKES, spec.aliases
        )
        self.outputs = Neurons(
            batch, spec.dash_mem_out, spec.dash_syn_out, spec.threshold_out, spec.bias_out, MAX_OUTPUT_SPIKES
        )
        self.from_input = Projection(_to_hidden(spec.weights_in, spec), spec.weight_shift_in)
        self.from_hidden = Projection(_to_hidden(spec.weights_rec, spec), spec.weight_shift_rec)
        self.to_output = Projection(_to_output(spec.weights_out, spec), spec.weight_shift_out)
        self.fired = np.zeros((batch, spec.n_hidden), np.float32)

    def step(self, events: Array) -> Array:
        """One step of `events` (B, Nin), counts from 0 on: the output spikes (B, Nout)."""
        self.from_input.deliver(np.minimum(events, MAX_INPUT_EVENTS).astype(np.float32), self.hidden.i)
        self.from_hidden.deliver(self.fired, self.hidden.i)
        self.to_output.deliver(self.fired, self.outputs.i)
        self.fired = self.hidden.step().astype(np.float32)
        return self.outputs.step()


def _to_hidden(weights: Array, spec: XyloSpec) -> Array:
    """Weights as (sources, S*Nhid), first synapse first; absent columns and synapses are zero."""
    full = np.zeros((len(weights), spec.n_synapses, spec.n_hidden), np.int8)
    by_synapse = np.atleast_3d(weights).transpose(0, 2, 1)
    full[:, : by_synapse.shape[1], : by_synapse.shape[2]] = by_synapse
    return full.reshape(len(weights), spec.n_synapses * spec.n_hidden)  # where there are no sources, too


def _to_output(weights: Array, spec: XyloSpec) -> Array:
    """Weights as (Nhid, Nout); the hidden neurons before the last len(weights) do not reach the outputs."""
    return np.concatenate([np.zeros((spec.n_hidden - len(weights), spec.n_out), np.int8), weights])
