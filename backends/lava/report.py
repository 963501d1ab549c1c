"""What was decided and what it cost, as plain JSON data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from snnir.backends.lava.artifact import LavaArtifact
from snnir.backends.lava.chip import ALIGN, STATE_LIMIT, UNITY
from snnir.backends.lava.plan import Wire
from snnir.backends.lava.quantise import ENOUGH, Quantised
from snnir.ops import Array
from snnir.simulators.loihi import Connection, Convolution, synapse_count

_GIVES = {"spikes": "spikes", "u": "currents, read by the host", "v": "membranes, read by the host"}
_COARSE = 0.02  # relative error of a time constant, or of weights, that is worth a note


def describe(artifact: LavaArtifact, measured: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report."""
    spec, plan = artifact.spec, artifact.plan
    dt = artifact.graph.semantics.dt or 0.0
    projections = [_wire(wire) for wire in plan.wires]
    populations = {q.cell.name: _cell(q, dt) for q in artifact.cells if not q.cell.driver and not q.cell.relay}
    return {
        "arithmetic": "Lava 0.10 (lava-nc), fixed_pt models: Loihi's integers",
        "used": {
            "processes_of_neurons": len(spec.populations),
            "neurons": sum(p.size for p in spec.populations),
            "connections": len(spec.connections),
            "convolutions": sum(isinstance(c, Convolution) for c in spec.connections),
            "synapses": sum(_synapses(c) for c in spec.connections),
            "longest_delay": max((wire.delay for wire in plan.wires), default=0),
        },
        "lags": dict(plan.lags),
        "inputs": [code.to_json() for code in artifact.codes.values()],
        "populations": populations,
        "projections": projections,
        "written_as": [_written(p) for p in projections],
        "measured": dict(measured),
        "approximations": [v.to_json() for v in plan.slow_loops],
        "notes": list(_notes(artifact, populations)),
    }


def _synapses(connection: Connection | Convolution) -> int:
    """The synapses of a connection; those of a convolution, one per kernel weight and place where it acts."""
    if isinstance(connection, Connection):
        return int(np.count_nonzero(connection.weights))
    return synapse_count(connection)


def _wire(wire: Wire) -> dict[str, Any]:
    """How one projection is written, and why."""
    found: dict[str, Any] = {"from": wire.source, "to": wire.target, "delay": wire.delay}
    if wire.geometry is None:
        return found | {"as": "matrix", "shape": list(wire.weight.shape), "why": wire.why}
    g = wire.geometry
    return found | {
        "as": "Conv",
        "kernels": list(wire.weight.shape),
        "source": list(g.source),
        "target": list(g.target),
        "stride": list(g.stride),
        "padding": list(g.padding),
        "dilation": list(g.dilation),
        "groups": g.groups,
        "phases": list(g.phases),
        "why": wire.why,
    }


def _written(p: Mapping[str, Any]) -> str:
    """One projection in a line."""
    ends = f"{p['from']} to {p['to']}" + (
        f", {p['delay']} step{'s' if p['delay'] != 1 else ''} later" if p["delay"] else ""
    )
    if p["as"] == "matrix":
        return f"{ends}: a matrix {'x'.join(map(str, p['shape']))}" + (f" ({p['why']})" if p["why"] else "")
    plain = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "phases": [1, 1]}
    more = "".join(f", {name} {_numbers(p[name])}" for name, value in plain.items() if p[name] != value)
    return f"{ends}: Lava's Conv, kernels {'x'.join(map(str, p['kernels']))}{more} ({p['why']})"


def _numbers(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _cell(q: Quantised, dt: float) -> dict[str, Any]:
    cell = q.cell
    found: dict[str, Any] = {
        "of": cell.source,
        "neurons": cell.size,
        "gives": {"spikes": "spikes", "u": "currents, read by the host", "v": "membranes, read by the host"}[
            cell.trace
        ],
        "lag": cell.lag,
        "scale": float(f"{q.scale:.6g}"),
        "vth": q.vth,
        "du": cell.du,
        "dv": cell.dv,
        "bias_mant": [int(np.min(q.bias_mant)), int(np.max(q.bias_mant))],
        "bias_exp": q.bias_exp,
        "weights": q.weights,
        "weights_rounded_to_zero": q.lost,
        "weight_error": round(q.weight_error, 6),
        "largest_current": [round(q.current), STATE_LIMIT],
        "lowest_membrane": None if not np.isfinite(q.deepest) else round(-min(q.deepest, STATE_LIMIT)),
        "lowest_membrane_in_thresholds": round(float(-min(q.deepest, STATE_LIMIT)) / ALIGN / q.scale, 2),
        "membrane_may_be_cut_off": bool(q.deepest >= STATE_LIMIT),
    }
    if cell.trace != "u":
        found["tau_mem"] = _tau(cell.decay, 1.0 - cell.dv / UNITY, dt)
    if cell.current_based:
        found["tau_syn"] = _tau(cell.decay_syn, (UNITY - 1 - cell.du) / UNITY, dt)
    return found


def _tau(decay: Array, got: float, dt: float) -> dict[str, Any]:
    """Time constants -dt / ln(decay) wanted and got in seconds, and the largest relative difference; None for none."""
    with np.errstate(divide="ignore"):
        wanted = -dt / np.log(np.clip(decay, 1e-300, 1.0))
        there = -dt / np.log(got) if 0 < got < 1 else (np.inf if got >= 1 else 0.0)
    finite = np.isfinite(wanted) & (decay > 1.0 / UNITY)
    errors = np.abs(there / wanted[finite] - 1.0) if np.isfinite(there) else np.ones(int(finite.sum()))
    return {
        "wanted": [_number(float(wanted.min())), _number(float(wanted.max()))],
        "got": _number(float(there)),
        "largest_error": round(float(errors.max(initial=0.0)), 5),
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _notes(artifact: LavaArtifact, populations: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What a reader should know, in words."""
    yield from artifact.plan.notes
    convolutions = [wire for wire in artifact.plan.wires if wire.geometry is not None]
    relays = sum(cell.relay is not None for cell in artifact.plan.cells)
    if convolutions:
        yield (
            f"{len(convolutions) - relays} of {len(artifact.plan.wires) - relays} projections are Lava's Conv, whose "
            "integers are q 2^k written out, since it knows no exponents; the others are matrices"
        )
    if relays:
        neurons = sum(cell.size for cell in artifact.plan.cells if cell.relay)
        yield f"{relays} relays ({neurons} neurons) hold spikes back in front of convolutions, a step each"
    for name, code in ((c.name, c) for c in artifact.codes.values()):
        if code.graded and code.scale != 1.0:
            limit = code.peak / code.scale
            yield (
                f"{name}: the host sends numbers as integers of {int(code.peak).bit_length() + 1} bits, x * "
                f"{code.scale:.6g}, cut to -{limit:.6g}..{limit:.6g}"
                + (f"; in two parts, {code.base} * high + low, for Lava's Conv" if code.base else "")
            )
    for name, facts in populations.items():
        if facts["gives"] == "spikes" and facts["scale"] < ENOUGH / 4:
            what = "currents could wrap otherwise, or its weights or biases not be written"
            yield f"{name}: its threshold is {facts['scale']:g} units only, since {what}"
        if facts["weight_error"] > _COARSE:
            yield f"{name}: rounding changes its weights by {100 * facts['weight_error']:.1f} % (root mean square)"
        for field in ("tau_mem", "tau_syn"):
            error = facts.get(field, {}).get("largest_error", 0.0)
            if error > _COARSE:
                yield f"{name}: {field} differs by {100 * error:.0f} %, since decays are 4096ths"
        if facts["membrane_may_be_cut_off"]:
            depth = -facts["lowest_membrane_in_thresholds"]
            yield f"{name}: membranes are cut off {depth:.4g} thresholds below their reset, if they ever fall so low"
