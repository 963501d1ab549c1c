"""Which time step a file means. NIR has no field for it, but every exporter leaves a fingerprint in r, w_in and tau.

discrete     r = tau/dt, w_in = tau_syn/dt, r = 1/dt      snnTorch, SpikingJelly, Lava: a step adds the whole input
rockpool     r = tau e^(-dt/tau) / dt                     Rockpool; its importer reads dt = min tau/(1 + r)
continuous   r = 1, w_in = 1                              Norse, sinabs, SpikingJelly's decay_input: says nothing
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from snnir.doctor.finding import Chart, Convention, Population
from snnir.doctor.neurons import LONGEST_STEP, time_constants
from snnir.doctor.sheet import NEURONS, Node, Sheet
from snnir.nir_io.time_step import SPREAD, damped, is_round, one_value
from snnir.ops import Array

READINGS = {
    "gain": "r = tau/dt (snnTorch, SpikingJelly, Lava)",
    "gain-w-in": "w_in = tau_syn/dt (snnTorch, SpikingJelly)",
    "gain-rate": "r = 1/dt (SpikingJelly)",
    "rockpool-export": "r = tau e^(-dt/tau)/dt (Rockpool's exporter)",
    "rockpool-import": "dt = min tau/(1 + r) (Rockpool's importer)",
    "steps": "tau is counted in steps (sinabs)",
}
"""How a reader may get dt from one population's parameters; the keys are those of `Population.readings`."""


def read_time_steps(sheet: Sheet) -> list[Population]:
    """What every population of sound numbers says of dt."""
    nodes = [n for n in sheet.root.all_nodes() if n.known and n.kind in NEURONS]
    return [found for node in nodes if (found := _population(node)) is not None]


def known_step(sheet: Sheet, populations: Iterable[Population]) -> float | None:
    """The dt in seconds that the file says, or that all populations that say something agree on."""
    if sheet.semantics is not None and sheet.semantics.dt is not None:
        return sheet.semantics.dt
    said = [p.dt for p in populations if p.dt is not None]
    return said[0] if said and max(said) - min(said) <= SPREAD * max(said) else None


def commonest_step(sheet: Sheet, populations: Iterable[Population]) -> float | None:
    """As `known_step`; where populations disagree, what most of them imply; no implied step that looks like ms."""
    if sheet.semantics is not None and sheet.semantics.dt is not None:
        return sheet.semantics.dt
    said = [p.dt for p in populations if p.dt is not None and p.dt <= LONGEST_STEP]
    return max(dict.fromkeys(said), key=said.count) if said else None


def _population(node: Node) -> Population | None:
    r = node.array("r")
    if r is None or not r.size or not np.isfinite(r).all():
        return None
    pairs: list[tuple[str, Array, Array]] = []
    names = time_constants(node)
    if not names:
        pairs = [("gain-rate", np.ones(()), r)]
    else:
        tau = node.array("tau_mem" if "tau_mem" in names else "tau")
        w_in, tau_syn = node.array("w_in"), node.array("tau_syn")
        pairs = [] if tau is None else [("gain", tau, r)]
        if tau_syn is not None and w_in is not None:
            pairs.append(("gain-w-in", tau_syn, w_in))
    readings: dict[str, float] = {}
    gains: list[tuple[Convention, float | None]] = []
    for relation, tau, gain in pairs:
        if not tau.size or not np.isfinite(gain).all() or not np.isfinite(tau).all() or (tau <= 0).any():
            return None
        try:
            tau, gain = np.broadcast_arrays(tau, gain)
        except ValueError:
            return None
        gains.append(_one(relation, tau, gain, readings))
    if not gains:
        return None
    if names:
        tau = pairs[0][1]
        if (tau >= 1).all() and (r == 1).all():
            readings["steps"] = 1.0
    said = [(convention, dt) for convention, dt in gains if dt is not None]
    convention, dt = said[0] if said else gains[0]
    return Population(node.path, node.kind, convention, dt, readings)


def _one(relation: str, tau: Array, gain: Array, readings: dict[str, float]) -> tuple[Convention, float | None]:
    """The convention of one pair of time constant and gain, and its dt."""
    if (gain == 1).all():
        return "continuous", None
    if (gain <= 0).any():
        return "other", None
    straight = one_value(tau / gain)
    if straight is not None:
        readings[relation] = straight
    if relation == "gain":
        readings["rockpool-import"] = float((tau / (1 + gain)).min())
        late = one_value(damped(tau, gain))
        if late is not None:
            readings["rockpool-export"] = late
            if not (straight is not None and is_round(straight)) and is_round(late):
                return "rockpool", late
    return ("other", None) if straight is None else ("discrete", straight)


def check_time_steps(sheet: Sheet, populations: list[Population], chart: Chart) -> None:
    """What the populations say, whether they agree, and whether a step of that length is stable."""
    spoken = sheet.semantics.dt if sheet.semantics is not None else None
    said = [p for p in populations if p.dt is not None]
    if spoken is None:
        _foreign(sheet, populations, said, chart)
    elif populations:
        others = [p for p in said if p.dt is not None and abs(p.dt - spoken) > SPREAD * spoken]
        alike: dict[str, list[str]] = {}
        for p in others[:6]:
            alike.setdefault(f"{p.dt:g} s", []).append(p.node)
        more = ", ".join(f"{step} in {', '.join(nodes)}" for step, nodes in alike.items())
        what = f"snnir's metadata says dt = {spoken:g} s" + (f"; r and tau alone would say {more}" if more else "")
        chart.add("time-step-said", "", what)
    _convention(populations, spoken, chart)
    dt = commonest_step(sheet, populations)
    euler = sheet.semantics is None or sheet.semantics.decay == "euler"
    if dt is not None and euler:
        for node in sheet.root.all_nodes():
            if node.known and node.kind in NEURONS:
                _stability(node, dt, chart)


def _foreign(sheet: Sheet, populations: list[Population], said: list[Population], chart: Chart) -> None:
    """Notes for a file that does not say its dt."""
    for p in said:
        others = [f"{READINGS[rule]} gives {dt:.4g} s" for rule, dt in p.readings.items() if dt != p.dt]
        more = f"; {', '.join(others)}" if others else ""
        rules = [READINGS[rule] for rule, dt in p.readings.items() if dt == p.dt]
        chart.add("time-step", p.node, f"dt = {p.dt:g} s by {' and '.join(rules)}{more}")
    if known_step(sheet, populations) is None and said:
        groups: dict[float, list[str]] = {}
        for p in said:
            groups.setdefault(p.dt or 0.0, []).append(p.node)
        parts = "; ".join(f"{dt:g} s: {', '.join(names)}" for dt, names in groups.items())
        chart.add("time-step-disagree", "", f"r and tau imply different time steps: {parts}")
    if populations and not said:
        parts = ", ".join(p.node for p in populations[:6]) + (", ..." if len(populations) > 6 else "")
        steps = any("steps" in p.readings for p in populations)
        alone = all(p.convention == "continuous" for p in populations)
        why = "r = 1 says nothing of dt" if alone else "r and tau stand in no fixed ratio"
        more = "; tau looks as if counted in steps, as sinabs writes it (dt = 1)" if steps else ""
        chart.add("time-step-unsaid", "", f"{why} ({parts}){more}")


def _convention(populations: list[Population], spoken: float | None, chart: Chart) -> None:
    scaled = [p.node for p in populations if p.dt is not None]
    plain = [p.node for p in populations if p.convention == "continuous"]
    if scaled and plain and spoken is None:
        what = f"r = 1 in {', '.join(plain[:6])}, but r scaled by 1/dt in {', '.join(scaled[:6])}"
        chart.add("convention-mixed", "", what)


def _stability(node: Node, dt: float, chart: Chart) -> None:
    for name in time_constants(node):
        tau = node.array(name)
        if tau is None or not tau.size or not np.isfinite(tau).all() or (tau <= 0).any():
            continue
        least = float(tau.min())
        what = f"its {name} is {least:g} s, the step {dt:g} s: the factor per step is {1 - dt / least:.3g}"
        if dt > 2 * least * (1 + SPREAD):
            chart.add("euler-unstable", node.path, what)
        elif dt > least * (1 + SPREAD):
            chart.add("euler-coarse", node.path, what)


def check_reset(sheet: Sheet, chart: Chart) -> None:
    """NIR cannot say whether a reset subtracts."""
    spiking = [n.path for n in sheet.root.all_nodes() if n.known and n.kind in ("IF", "LIF", "CubaLIF")]
    if spiking and sheet.semantics is None and not chart.has("own-metadata"):
        shown = ", ".join(spiking[:6]) + (f" and {len(spiking) - 6} more" if len(spiking) > 6 else "")
        chart.add(
            "reset-unknown", "", f"nothing says whether a spike resets to v_reset or subtracts the threshold: {shown}"
        )
