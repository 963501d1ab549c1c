"""Plan and integers together: the specification that the simulator, and the chip, take."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snnir.backends.xylo.chip import MAX_WEIGHT
from snnir.backends.xylo.layout import Plan
from snnir.backends.xylo.parts import (
    DRIVER_BIAS,
    OUTPUT_RELAY_SHIFT,
    OUTPUT_RELAY_THRESHOLD,
    OUTPUT_RELAY_WEIGHT,
    STARTER_BIAS,
    STARTER_SPIKES,
)
from snnir.backends.xylo.quantise import Cells, Shifts
from snnir.ops import Array
from snnir.simulators.xylo import XyloSpec


def relay_unit(shifts: Shifts) -> int:
    """log2 of a relay's threshold: a unit in which weights of both matrices, in and rec, are whole."""
    return max(shifts.rec, shifts.into - 1, 0)


def assemble(plan: Plan, cells: Mapping[str, Cells], shifts: Shifts, dt: float) -> XyloSpec:
    """The specification of a plan with all its integers.

    Args:
        plan: a plan without faults.
        cells: population name -> its integers.
        shifts: of the three matrices (the third is set by the relays where outputs are relayed).
        dt: seconds per step.
    """
    n, m = plan.n_hidden, plan.n_out
    first, last = max(plan.input_expansion, 1), max(plan.output_expansion, 1)
    if not plan.chip.expands:
        first = last = n
    into, rec, out = (np.zeros(shape, np.int64) for shape in ((plan.n_in, n), (n, n), (n, m)))
    matrix = {"in": into, "rec": rec, "out": out}
    hidden = {"dash_mem": np.ones(n), "dash_syn": np.ones(n), "threshold": np.ones(n), "bias": np.zeros(n)}
    output = {"dash_mem": np.ones(m), "dash_syn": np.ones(m), "threshold": np.ones(m), "bias": np.zeros(m)}
    place = plan.block_of
    for name, cell in cells.items():
        there, values = (output, plan.outputs[name]) if name in plan.outputs else (hidden, place[name].first)
        where = slice(values, values + cell.ideal.size)
        there["dash_mem"][where], there["dash_syn"][where] = cell.dash_mem, cell.dash_syn
        there["threshold"][where], there["bias"][where] = cell.threshold, cell.bias
        for feed, weight in zip(cell.ideal.feeds, cell.weights, strict=True):
            matrix[feed.matrix][np.ix_(feed.pre, feed.post)] += weight
        if cell.ideal.driver is not None:
            matrix[cell.ideal.driver.matrix][cell.ideal.driver.pre, cell.ideal.driver.post] += cell.driving
        if cell.ideal.starter is not None:
            rec[cell.ideal.starter.pre, cell.ideal.starter.post] += cell.starting
        if name not in plan.outputs:
            ids = place[name].ids
            rec[ids, ids] += cell.returning
    unit = relay_unit(shifts)
    for block in plan.blocks:
        if block.kind == "relay":
            rec[block.ids, block.ids] = -(1 << unit - shifts.rec)
            hidden["threshold"][block.ids], hidden["dash_mem"][block.ids] = 1 << unit, 0
        elif block.kind == "driver":
            hidden["threshold"][block.ids] = hidden["bias"][block.ids] = DRIVER_BIAS
        elif block.kind == "starter":
            drivers = plan.of_kind("driver")
            assert drivers is not None  # starters stand beside them
            rec[block.ids, block.ids] = rec[drivers.ids, block.ids] = -MAX_WEIGHT
            hidden["bias"][block.ids], hidden["dash_mem"][block.ids] = STARTER_BIAS, 0
            hidden["threshold"][block.ids] = STARTER_BIAS // STARTER_SPIKES
    for wire in plan.relays:
        shift = shifts.of(wire.matrix)
        matrix[wire.matrix][wire.pre, wire.post] = 1 << unit + 1 - shift
    shift_out = shifts.out
    if plan.relayed:
        shift_out = OUTPUT_RELAY_SHIFT
        out[plan.tapped, np.arange(m)] = OUTPUT_RELAY_WEIGHT
        output["threshold"][:], output["dash_mem"][:] = OUTPUT_RELAY_THRESHOLD, 0
    one_synapse = plan.chip.expands  # Audio 3 and IMU write the synapse axis even when there is one
    return XyloSpec(
        weights_in=_with_synapses(into[:, :first], one_synapse),
        weights_rec=_with_synapses(rec, one_synapse),
        weights_out=out[n - last :],
        dash_mem=hidden["dash_mem"],
        dash_mem_out=output["dash_mem"],
        dash_syn=hidden["dash_syn"],
        dash_syn_2=np.ones(n),
        dash_syn_out=output["dash_syn"],
        threshold=hidden["threshold"],
        threshold_out=output["threshold"],
        bias=hidden["bias"],
        bias_out=output["bias"],
        dt=dt,
        family=plan.chip.name,
        weight_shift_in=shifts.into,
        weight_shift_rec=shifts.rec,
        weight_shift_out=shift_out,
    )


def _with_synapses(weights: Array, keep_axis: bool) -> Array:
    return weights[..., None] if keep_axis else weights
