"""What may be wrong with a step: one hypothesis per other value of each field of the semantics, and per wrong dt.

A `Fault` is a named change of a `Model`. Where the same change can be made in several places, those who want one
place get it: `semantics_faults(model)` is the whole network, `semantics_faults(model, "lif1")` one op alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from snnir.ops import CubaLI, CubaLIF, Delay, Neuron, SpikingNeuron, Threshold
from snnir.validation.model import Model


@dataclass(frozen=True)
class Fault:
    """A hypothesis.

    Attributes:
        name, kind, where, meant, does, remedy: as of `Cause`.
        rank: of several that explain equally much, the lowest is named: the simpler and the more usual fault.
        apply: the model with this fault; None where it cannot have it.
    """

    name: str
    kind: Literal["semantics", "graph"]
    where: str
    meant: str
    does: str
    remedy: str
    rank: int
    apply: Callable[[], Model | None]

    @property
    def label(self) -> str:
        """Name and place, as `Cause.same` lists it."""
        return f"{self.name} at {self.where} ({self.does})" if self.where else f"{self.name} ({self.does})"


FIELDS: Mapping[str, tuple[Any, ...]] = {
    "reset": ("value", "subtract", "delayed-value", "delayed-subtract", "held-subtract"),
    "comparison": (">", ">="),
    "decay": ("euler", "exponential"),
    "gain": ("ode", "unit"),
    "order": ("synapse-first", "membrane-first"),
    "start": ("rest", "zero"),
    "recurrent_bias_at_start": (True, False),
    "latency_neuron": (0, 1, 2),
    "latency_input": (0, 1, 2),
    "spikes_per_step": (1, None),
    "membrane_floor": (None, 0.0, -1.0),
}
"""The other values that are tried, field by field, the most usual faults first."""

GLOBAL_ONLY = ("recurrent_bias_at_start", "latency_neuron", "latency_input")
DT_FACTORS = (10.0, 0.1, 1000.0, 0.001, 2.0, 0.5, 100.0, 0.01)

_REMEDIES = {
    "reset": "reset the membrane as the network says, or let the network mean this: semantics.with_(reset={!r})",
    "comparison": "compare as the network says, or let the network mean this: semantics.with_(comparison={!r})",
    "decay": "convert the time constants (euler: 1 - dt/tau, exponential: e^(-dt/tau)) so that both give one factor",
    "gain": "fold the input gain into the weights (the pass normalise-gain) before the network is handed over",
    "order": "update the synaptic current in the order that the network says (semantics.order)",
    "start": "set the membranes to their start ({1}) before the first step",
    "recurrent_bias_at_start": "add, or leave out, the biases on recurrent paths in step 0",
    "latency_neuron": "take the latency of {0} out, or balance it with Delay ops (the pass balance-latency)",
    "latency_input": "shift the input by {0} steps, or balance it with Delay ops (the pass balance-latency)",
    "spikes_per_step": "limit the spikes per neuron and step as the network says",
    "membrane_floor": "set the lowest value of the membrane as the network says",
}


def semantics_faults(model: Model, op: str = "") -> Iterator[Fault]:
    """Every other value of every field that can matter to this model, or to one op of it."""
    kinds = [model.graph[op]] if op else list(model.graph.ops.values())
    current = model.meaning(op)
    for name, values in FIELDS.items():
        if (op and name in GLOBAL_ONLY) or not _matters(name, kinds):
            continue
        meant = getattr(current, name)
        for value in values:
            if value != meant:
                remedy = _REMEDIES[name].format(value, meant)
                yield _field_fault(model, op, name, value, repr(meant), remedy)
    yield from _dt_faults(model, op, kinds)
    if not op and not model.single:
        remedy = "compute in float64, or accept it: values that stand at a threshold are rounded over it"
        change = Fault(
            "number_format", "semantics", "", "float64", "float32", remedy, 2, partial(replace, model, single=True)
        )
        yield change


def _matters(name: str, kinds: list[Any]) -> bool:
    if name in ("reset", "spikes_per_step"):
        return any(isinstance(op, SpikingNeuron) for op in kinds)
    if name == "comparison":
        return any(isinstance(op, (SpikingNeuron, Threshold)) for op in kinds)
    if name == "order":
        return any(isinstance(op, (CubaLI, CubaLIF)) for op in kinds)
    return any(isinstance(op, Neuron) for op in kinds)


def _field_fault(model: Model, op: str, name: str, value: Any, meant: str, remedy: str, words: str = "") -> Fault:
    def apply() -> Model:
        return model.with_override(op, **{name: value}) if op else model.with_semantics(**{name: value})

    return Fault(name, "semantics", op, meant, words or repr(value), remedy, 30 if op else 0, apply)


def _dt_faults(model: Model, op: str, kinds: list[Any]) -> Iterator[Fault]:
    dt = model.meaning(op).dt
    if dt is None or not any(isinstance(k, (Neuron, Delay)) for k in kinds):
        return
    seen = {dt}
    for value in (*(dt * f for f in DT_FACTORS), 1e-3, 1e-4, 1.0):
        if any(abs(value / other - 1) < 1e-9 for other in seen):
            continue
        seen.add(value)
        factor = value / dt
        remedy = f"give the target dt = {dt:g} s, or its time constants {1 / factor:g} times their value"
        words = f"{value:g} s ({factor:g} times)"
        yield _field_fault(model, op, "dt", value, f"{dt:g} s", remedy, words)
        if not op and any(isinstance(k, Delay) for k in kinds):
            yield Fault(
                "dt", "semantics", "", f"{dt:g} s", f"{words}, delays kept in steps", remedy, 1,
                partial(_dt_but_delays, model, value),
            )  # fmt: skip


def _dt_but_delays(model: Model, value: float) -> Model:
    dt = model.semantics.dt or value
    ops = model.graph.ops.items()
    longer = {name: op.with_(delay=op.delay * (value / dt)) for name, op in ops if isinstance(op, Delay)}
    return model.with_semantics(dt=value).with_ops(longer)
