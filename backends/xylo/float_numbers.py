"""One population's numbers as the network means them, as they are rounded, and as the chip has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.backends.xylo.chip import MAX_BIAS, MAX_DASH
from snnir.backends.xylo.parts import dash_decay, nearest_dash
from snnir.backends.xylo.quantise import Cells, amplitudes, integer_threshold
from snnir.ops import Array
from snnir.roundings import near


@dataclass(frozen=True, eq=False)
class Numbers:
    """One population's numbers, (targets,) each, weights (sources, targets) per feed, in the network's units.

    `weights` and `constant` are charges: what they add to the membrane in all, before any leak. `take` is what a
    spike takes off at once; of DIRECT neurons that reset a step later, before the membrane has decayed.
    """

    decay_mem: Array
    decay_syn: Array
    weights: tuple[Array, ...]
    threshold: Array
    take: Array
    constant: Array


def wanted_numbers(cells: Cells) -> Numbers:
    """As the network means them."""
    ideal = cells.ideal
    take = ideal.take if ideal.direct else ideal.threshold
    return Numbers(ideal.decay_mem, ideal.decay_syn, ideal.charge, ideal.threshold, take, ideal.constant)


def rounded_numbers(cells: Cells, wanted: Numbers) -> Numbers:
    """What thresholds and constants would be without calibration, at the scale that was chosen."""
    ideal, scale = cells.ideal, cells.scale
    threshold = near(integer_threshold(ideal.threshold * scale, ideal.strict) / scale, ideal.threshold)
    charge = amplitudes(ideal, cells.dash_syn)
    back = 2.0**cells.back
    late = charge if ideal.late else np.ones(ideal.size)
    take = near(np.rint(ideal.take * late * scale / back) * back / scale / late, ideal.take)
    driving = np.rint(ideal.constant * charge * scale / back) * back if ideal.driver is not None else 0.0 * scale
    left = np.clip(np.rint(ideal.constant * scale - driving / charge), -MAX_BIAS, MAX_BIAS)
    constant = driving / charge + (0.0 if ideal.direct else left)
    return Numbers(
        wanted.decay_mem,
        wanted.decay_syn,
        wanted.weights,
        threshold,
        take if ideal.direct else threshold,
        near(constant / scale, ideal.constant),
    )


def got_numbers(cells: Cells, wanted: Numbers) -> Numbers:
    """The chip's integers, in the network's units."""
    ideal, scale = cells.ideal, cells.scale
    charge, back = amplitudes(ideal, cells.dash_syn), 2.0**cells.back
    rounded = rounded_numbers(cells, wanted)
    threshold = near((cells.threshold - cells.offset) / scale, rounded.threshold)
    late = charge if ideal.late else np.ones(ideal.size)
    take = near(-cells.returning * back / scale / late, rounded.take)
    slow = nearest_dash(ideal.decay_mem) == MAX_DASH
    hold = np.where(slow, 0.0, np.rint(ideal.lift / (2.0**cells.dash_syn - 1.0) * scale / back))
    constant = (cells.driving - hold) * back / charge + (0 if ideal.direct else cells.bias)
    return Numbers(
        near(dash_decay(cells.leak), ideal.decay_mem),
        near(dash_decay(cells.dash_syn), ideal.decay_syn),
        tuple(
            near(w * (2.0 ** cells.shifts.of(f.matrix)) / scale / charge, exact)
            for f, w, exact in zip(ideal.feeds, cells.weights, ideal.charge, strict=True)
        ),
        threshold,
        take if ideal.direct else threshold,
        near(constant / scale, rounded.constant),
    )
