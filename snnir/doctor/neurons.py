"""Checks of neurons' numbers: time constants, thresholds, gains, units."""

from __future__ import annotations

import numpy as np

from snnir.doctor.finding import Chart
from snnir.doctor.sheet import NEURONS, Node, Sheet
from snnir.ops import Array

LONGEST, SHORTEST = 1.0, 5e-5
"""Time constants in seconds outside of which a slip of units is likelier: membranes take 1 to 500 ms."""
LONGEST_DELAY = 1.0
STEPS_PER_TAU = 1e5
"""The most steps per time constant that a dt makes plausible, if the file says it or the neuron's own r implies it."""
LONGEST_STEP = 0.02
"""The longest step in seconds that is believed when only r and tau imply it: one in ms would be 0.1 or 1."""


def check_neurons(sheet: Sheet, dt: float | None, chart: Chart) -> None:
    """The numbers of every neuron and delay. `dt`: the time step in seconds, where it is said or implied."""
    spoken = sheet.semantics.dt if sheet.semantics is not None else None
    own = {p.node: p.dt for p in chart.populations if p.dt is not None and p.dt <= LONGEST_STEP}
    for node in sheet.root.all_nodes():
        if not node.known:
            continue
        if node.kind == "Delay":
            _delay(node, dt, chart)
        if node.kind not in NEURONS:
            continue
        for name in time_constants(node):
            _time_constant(node, name, dt, spoken or own.get(node.path), chart)
        _threshold(node, chart)
        for name in ("r", "w_in"):
            value = node.array(name)
            if value is not None and (value == 0).any():
                chart.add("r-zero", node.path, f"its {name} is 0{_count(value == 0)}")
            if value is not None and (value < 0).any():
                chart.add("r-negative", node.path, f"its {name} is {value.min():g}{_count(value < 0)}")
        reset = node.array("v_reset")
        if reset is not None and (reset != 0).any() and np.isfinite(reset).all():
            chart.add("v-reset-ignored", node.path, f"its v_reset is {span(reset)}")


def time_constants(node: Node) -> list[str]:
    """The names of a neuron's time constants."""
    return [name for name in node.arrays if name.startswith("tau")]


def span(values: Array) -> str:
    """The value of an array, or its range."""
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _count(hit: Array) -> str:
    return f" for {int(hit.sum())} of {hit.size} neurons" if hit.size > 1 and not hit.all() else ""


def _time_constant(node: Node, name: str, dt: float | None, own: float | None, chart: Chart) -> None:
    tau = node.array(name)
    if tau is None or not tau.size or not np.isfinite(tau).all():
        return
    if (tau <= 0).any():
        chart.add("tau", node.path, f"its {name} is {tau.min():g} s{_count(tau <= 0)}")
        return
    plausible = own is not None and own <= tau.max() <= STEPS_PER_TAU * own
    if tau.max() >= LONGEST and not plausible:
        like = f"{tau.max():g} ms would be usual" if tau.max() <= 1000 else "it is more than a quarter of an hour"
        what = f"its {name} is {span(tau)}, which is seconds; {like}, and sinabs counts it in steps"
        chart.add("unit", node.path, what)
    elif tau.min() <= SHORTEST and not (dt is not None and dt <= tau.min()):
        what = f"its {name} is {span(tau)} s, shorter than any usual step; norse.to_nir writes dt * tau"
        chart.add("unit", node.path, what)


def _delay(node: Node, dt: float | None, chart: Chart) -> None:
    delay = node.array("delay")
    if delay is None or not delay.size or not np.isfinite(delay).all():
        return
    if (delay < 0).any():
        chart.add("delay-negative", node.path, f"its delay is {delay.min():g} s{_count(delay < 0)}")
    elif delay.max() >= LONGEST_DELAY and not (dt is not None and dt <= delay.max() <= 1000 * dt):
        chart.add("unit", node.path, f"its delay is {span(delay)}, which is seconds; ms would be usual")
    elif dt is not None:
        steps = delay / dt
        off = np.abs(steps - np.rint(steps)) > 1e-3
        if off.any():
            chart.add("delay-steps", node.path, f"its delay is {span(steps)} steps of {dt:g} s{_count(off)}")


def _threshold(node: Node, chart: Chart) -> None:
    threshold = node.array("v_threshold")
    if threshold is None:
        return
    reset = node.array("v_reset")
    reset = np.zeros(()) if reset is None else reset
    leak = node.array("v_leak")
    try:
        threshold, reset = np.broadcast_arrays(threshold, reset)
        leak = None if leak is None else np.broadcast_to(leak, threshold.shape)
    except ValueError:
        return
    bad = threshold <= reset
    if bad.any():
        what = f"its v_threshold {span(threshold)} does not lie above its v_reset {span(reset)}{_count(bad)}"
        chart.add("threshold-reset", node.path, what)
    elif leak is not None and (leak > threshold).any():
        what = f"its v_leak {span(leak)} lies above its v_threshold {span(threshold)}{_count(leak > threshold)}"
        chart.add("fires-at-rest", node.path, what)
