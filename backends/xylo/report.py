"""What was decided and what it cost, as plain JSON data: for the report, and for `xylo.json` in the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.backends.xylo.layout import Block, Plan
from snnir.backends.xylo.parts import dash_decay, needs_driver, time_constant
from snnir.backends.xylo.quantise import Cells
from snnir.backends.xylo.rules import approximations
from snnir.graph import Graph
from snnir.ops import Array
from snnir.semantics import Decay
from snnir.simulators.xylo import XyloSpec


def describe(
    graph: Graph,
    plan: Plan,
    cells: Mapping[str, Cells],
    spec: XyloSpec,
    measured: Mapping[str, Any],
    time: Mapping[str, float],
) -> dict[str, Any]:
    """The whole report."""
    chip, rule = plan.chip, graph.semantics.decay
    fan_out = _fan_out(spec)
    return {
        "chip": chip.title,
        "part": chip.part,
        "time": dict(time),
        "used": {
            "input_channels": [plan.n_in, chip.inputs],
            "hidden_neurons": [plan.n_hidden, chip.hidden],
            "output_neurons": [plan.n_out, chip.outputs],
            "hidden_neurons_reached_by_inputs": [plan.input_expansion, chip.input_expansion],
            "hidden_neurons_read_by_outputs": [plan.output_expansion, chip.output_expansion],
            "largest_fan_out": [int(fan_out.max(initial=0)), chip.fan_out],
            "connections": [int(fan_out.sum()), chip.entries],
            "relays": sum(b.size for b in plan.blocks if b.kind == "relay"),
            "drivers": sum(b.size for b in plan.blocks if b.kind == "driver"),
        },
        "outputs_relayed": plan.relayed,
        "input_delay": plan.input_delay,
        "lags": dict(plan.lags),
        "weight_shift": {"in": spec.weight_shift_in, "rec": spec.weight_shift_rec, "out": spec.weight_shift_out},
        "populations": {name: _population(plan, c, time["dt"], rule) for name, c in cells.items()},
        "measured": dict(measured),
        "approximations": [v.to_json() for v in approximations(chip, graph)],
        "notes": list(_notes(graph, plan, cells, time, measured)),
    }


def _fan_out(spec: XyloSpec) -> Array:
    weights = spec.weights_rec
    return (weights.any(axis=2) if weights.ndim == 3 else weights != 0).sum(axis=1)


def _population(plan: Plan, cells: Cells, dt: float, rule: Decay) -> dict[str, Any]:
    ideal = cells.ideal
    nonzero = sum(int((c != 0).sum()) for c in ideal.charge)
    lost = sum(int(((c != 0) & (w == 0)).sum()) for c, w in zip(ideal.charge, cells.weights, strict=True))
    found: dict[str, Any] = {
        "neurons": ideal.size,
        "kind": "direct" if ideal.direct else "current",
        "place": "output" if ideal.name in plan.outputs else "hidden",
        "lag": plan.lags[ideal.name],
        ("tau" if ideal.direct else "tau_mem"): _taus(ideal.decay_mem, cells.leak, dt, rule),
        "threshold": _range(cells.threshold),
        "bias": _range(cells.bias),
        "scale": [float(f"{x:.6g}") for x in (cells.scale.min(initial=np.inf), cells.scale.max(initial=0))],
        "weights": nonzero,
        "weights_rounded_to_zero": lost,
        "bias_by_driver": ideal.driver is not None,
    }
    if not ideal.direct:
        found["tau_syn"] = _taus(ideal.decay_syn, cells.dash_syn, dt, rule)
    return found


def _taus(decay: Array, dash: Array, dt: float, rule: Decay) -> dict[str, Any]:
    """Time constants wanted and got, in seconds, and the largest relative difference; None for no decay."""
    wanted, got = time_constant(decay, dt, rule), time_constant(dash_decay(dash), dt, rule)
    finite = np.isfinite(wanted) & (wanted > 0)
    errors = np.abs(got[finite] / wanted[finite] - 1.0)
    return {
        "wanted": [_number(wanted.min()), _number(wanted.max())],
        "got": [_number(got.min()), _number(got.max())],
        "largest_error": round(float(errors.max(initial=0.0)), 4),
        "dash": {str(d): int(n) for d, n in zip(*np.unique(dash, return_counts=True), strict=True)},
    }


def _number(value: Any) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _range(values: Array) -> list[int]:
    return [int(values.min(initial=0 if not values.size else values[0])), int(values.max(initial=-32768))]


def _notes(
    graph: Graph, plan: Plan, cells: Mapping[str, Cells], time: Mapping[str, float], measured: Mapping[str, Any]
) -> list[str]:
    """What a reader should know, in words."""
    notes: list[str] = []
    semantics = graph.semantics
    if measured["on"].startswith("random"):
        notes.append("not calibrated: scales assume one event per channel and step at most; give calibrate=...")
    elif measured["on"] != "recorded input":
        notes.append("calibrated on input made up as the model describes it; give calibrate=... for recorded input")
    errors = [
        _population(plan, c, time["dt"], semantics.decay)[k]["largest_error"]
        for c in cells.values()
        for k in _taus_of(c)
    ]
    worst = max(errors, default=0.0)
    if worst > 0.02 and abs(time["best_dt"] / time["dt"] - 1.0) > 1e-9:
        notes.append(
            f"time constants differ by up to {100 * worst:.0f} %, since decays are powers of two; "
            f"dt = {time['best_dt']:.6g} s suits them best (choose_dt)"
        )
    chosen = next(c for c in measured["candidates"] if c["name"] == measured["chosen"])
    if chosen["neuron_steps_with_several_spikes"]:
        count = chosen["neuron_steps_with_several_spikes"]
        times = f"{count} time{'s' if count != 1 else ''}"
        notes.append(f"hidden neurons spiked more than once in a step {times}, where the network spikes once")
    if chosen["saturated_states"]:
        count = chosen["saturated_states"]
        notes.append(f"states reached the ends of 16 bits {count} time{'s' if count != 1 else ''}")
    for name, c in cells.items():
        rule = plan.network.populations[name].rule
        if rule is not None and not c.ideal.direct and semantics.start == "rest" and np.any(rule.start != 0):
            notes.append(f"{name}: membranes start at 0 instead of v_leak, and rise to it as a bias does")
        if c.ideal.driver is None and needs_driver(plan.network, name, semantics):
            notes.append(f"{name}: no room for a driver, so 8 bits must hold its bias; a neuron less would make room")
        if c.ideal.driver is not None and plan.lags[name] == 0:
            notes.append(f"{name}: its bias comes from a driver, one step late at the start")
        elif c.ideal.driver is None and name in plan.network.bias:
            notes.append(f"{name}: its bias acts on the membrane from the first step, without the synapse's rise")
    if plan.network.bias and not semantics.recurrent_bias_at_start:
        notes.append("biases on recurrent paths act from the first step")
    return notes


def _taus_of(cells: Cells) -> tuple[str, ...]:
    return ("tau",) if cells.ideal.direct else ("tau_mem", "tau_syn")


def places(graph: Graph, plan: Plan) -> dict[str, Any]:
    """Which neuron is which: ranges of ids, and the source ops and indices behind them."""
    return {
        "inputs": [
            {"name": n, "first_channel": plan.channels[n], "channels": size, "shape": list(graph.shapes[n])}
            for n, size in plan.network.inputs.items()
        ],
        "hidden": [_block(graph, plan, block) for block in plan.blocks],
        "output": [
            {"name": n, "first": first, "last": first + plan.network.populations[n].size - 1, **_origin(graph, plan, n)}
            for n, first in plan.outputs.items()
        ],
    }


def _block(graph: Graph, plan: Plan, block: Block) -> dict[str, Any]:
    found = {
        "name": block.name,
        "kind": block.kind,
        "first": block.first,
        "last": block.first + block.size - 1,
        "lag": block.lag,
    }
    return {**found, **_origin(graph, plan, block.name)} if block.name in plan.network.populations else found


def _origin(graph: Graph, plan: Plan, name: str) -> dict[str, Any]:
    """Neuron `first + k` is element k, in C order, of `shape` of these source ops."""
    return {"source": list(graph.sources(name)), "shape": list(plan.network.populations[name].shape)}
