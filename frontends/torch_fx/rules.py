"""The semantics of a traced model: what its layers say of a step, if they agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from snnir.frontends.torch_fx.builder import Builder, Timed
from snnir.frontends.torch_fx.populations import Rule, converted
from snnir.nn.base import Neuron
from snnir.ops import IF, I
from snnir.semantics import Gain, Semantics

UNSAID: Any = object()
FIELDS = (
    "decay",
    "gain",
    "order",
    "comparison",
    "reset",
    "spikes_per_step",
    "recurrent_bias_at_start",
    "start",
    "membrane_floor",
)


def semantics_of(builder: Builder, dt: float | None, given: Semantics | None) -> Semantics:
    """The one rule of a step; disagreements are reported to the builder.

    Args:
        dt: the time step in seconds, for layers that do not say it.
        given: what a step means, over the layers' own words.
    """
    said = given or Semantics()
    if dt is not None and not dt > 0:
        builder.report("time-step", f"dt is {dt} s", "model", expected="a positive time in seconds")
    if given is not None:
        _one_gain(builder, said, given.gain)
    else:
        for field in FIELDS:
            if field == "gain":
                _one_gain(builder, said)
            value = _agreed(builder, field)
            said = said.with_(**{field: value}) if value is not UNSAID else said
    own = said.dt if said.dt is not None else _agreed_dt(builder)
    if own is not None and dt is not None and own != dt:
        first = next((t for t in builder.timed if t.layer.dt == own), None)
        builder.report(
            "time-step",
            f"dt={dt:g} s is asked for, but the model says {own:g} s",
            first.name if first else "model",
            first.loc if first else None,
            hint="leave dt out, or build the layers without dt",
        )
    step = own if own is not None else dt
    if step is None and builder.timed:
        first = builder.timed[0]
        builder.report(
            "time-step",
            "the time step is not known, but time constants need it",
            first.name,
            first.loc,
            hint="say it: dt=... (seconds) in the layers or in load(), --dt on the command line",
        )
    return said.with_(dt=step)


def _says(layer: Any, field: str) -> Any:
    """What a layer says of a field of the semantics; UNSAID when the field does not concern it."""
    if isinstance(layer, Rule):
        return layer.says.get(field, UNSAID)
    if field == "dt":
        return UNSAID if layer.dt is None else layer.dt
    if not isinstance(layer, Neuron) or field in ("start", "order", "recurrent_bias_at_start"):
        return UNSAID
    if field == "decay" and layer.op_type in (I, IF):
        return UNSAID
    if field in ("comparison", "reset", "spikes_per_step") and layer.firing is None:
        return UNSAID
    return getattr(layer.semantics, field)


def _one_gain(builder: Builder, said: Semantics, wanted: Gain | None = None) -> None:
    """Layers of other frameworks take their input in different ways; the graph has one, and their gains hold the rest.

    Args:
        said: what is known of a step so far: its decay.
        wanted: the gain; default that of all layers, 'ode' where they differ.
    """
    gains = {_says(timed.layer, "gain") for timed in builder.timed} - {UNSAID}
    if wanted is None and len(gains) < 2:
        return
    to: Gain = wanted or "ode"
    for i, timed in enumerate(builder.timed):
        if isinstance(timed.layer, Rule) and timed.layer.says.get("gain", to) != to:
            dt = timed.layer.dt or builder.dt or 1.0
            builder.ops[timed.name] = converted(builder.ops[timed.name], said.decay, to, dt)
            for field in ("r", "w_in"):
                builder.bindings.pop((timed.name, field), None)
            builder.timed[i] = replace(timed, layer=replace(timed.layer, says={**timed.layer.says, "gain": to}))


def _agreed_dt(builder: Builder) -> float | None:
    value = _agreed(builder, "dt")
    return None if value is UNSAID else value


def _agreed(builder: Builder, field: str) -> Any:
    first: Timed | None = None
    value: Any = UNSAID
    for timed in builder.timed:
        here = _says(timed.layer, field)
        if here is UNSAID:
            continue
        if first is None:
            first, value = timed, here
        elif here != value:
            builder.report(
                "semantics-conflict",
                f"{field} is {here!r} here, but {value!r} in {first.name} at {first.loc}",
                timed.name,
                timed.loc,
                expected=f"the same {field} in all layers",
            )
            break
    return value
