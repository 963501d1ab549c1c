"""The semantics of a traced model: what its layers say of a step, if they agree."""

from __future__ import annotations

from typing import Any

from snnir.frontends.torch_fx.builder import Builder, Timed
from snnir.nn.base import Neuron
from snnir.ops import IF, I
from snnir.semantics import Semantics


def semantics_of(builder: Builder, dt: float | None, given: Semantics | None) -> Semantics:
    """The one rule of a step; disagreements are reported to the builder.

    Args:
        dt: the time step in seconds, for layers that do not say it.
        given: what a step means, over the layers' own words.
    """
    said = given or Semantics()
    if dt is not None and not dt > 0:
        builder.report("time-step", f"dt is {dt} s", "model", expected="a positive time in seconds")
    if given is None:
        for field in ("decay", "gain", "comparison", "reset"):
            value = _agreed(builder, field)
            said = said.with_(**{field: value}) if value is not None else said
    own = said.dt if said.dt is not None else _agreed(builder, "dt")
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
    """What a layer says of a field of the semantics; None when the field does not concern it."""
    if field == "dt":
        return layer.dt
    if not isinstance(layer, Neuron):
        return None
    if field == "decay" and layer.op_type in (I, IF):
        return None
    if field in ("comparison", "reset") and layer.firing is None:
        return None
    return getattr(layer.semantics, field)


def _agreed(builder: Builder, field: str) -> Any:
    first: Timed | None = None
    value: Any = None
    for timed in builder.timed:
        here = _says(timed.layer, field)
        if here is None:
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
