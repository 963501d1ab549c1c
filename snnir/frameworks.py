"""What a step means in each simulator, found by experiment with the versions that are named, and held by tests.

The frontends of live modules take their semantics from here, so what `snnir targets` shows is what is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnir.errors import UsageError
from snnir.semantics import ROCKPOOL_SEMANTICS, Semantics


@dataclass(frozen=True)
class Framework:
    """A simulator's rule of one step, as data.

    Attributes:
        title: its name as its authors write it.
        version: the release that the record was compared with, step by step.
        semantics: with the framework's defaults, without dt.
        options: the framework's own choices: option -> value -> fields of `Semantics` that differ then.
        free: options whose value is a field of `Semantics` itself: option -> field.
        dt: who says how long a step is.
        state: where the state lives between steps.
        note: what else one has to know.
    """

    title: str
    version: str
    semantics: Semantics
    options: Mapping[str, Mapping[Any, Mapping[str, Any]]] = field(default_factory=dict)
    free: Mapping[str, str] = field(default_factory=dict)
    dt: str = "load(..., dt=...): its layers count steps"
    state: str = "in the layers"
    note: str = ""


FRAMEWORKS: dict[str, Framework] = {
    "norse": Framework(
        "Norse",
        "1.1.0",
        Semantics(),
        {"reset": {"value": {"reset": "value"}, "subtract": {"reset": "subtract"}}},
        dt="the layers (default 1 ms)",
        state="handed over by the caller",
        note="a current takes its input in full: w_in = tau_syn / dt",
    ),
    "snntorch": Framework(
        "snnTorch",
        "1.0.0",
        Semantics(gain="unit", reset="delayed-subtract"),
        {
            "reset": {"subtract": {}, "zero": {"reset": "delayed-value"}},
            "reset_delay": {True: {}, False: {"reset": {"subtract": "held-subtract", "zero": "value"}}},
        },
        note="'none' resets nothing: a leaky integrator and a threshold behind it",
    ),
    "spikingjelly": Framework(
        "SpikingJelly",
        "2.0.0",
        Semantics(comparison=">="),
        {
            "reset": {"value": {"reset": "value"}, "subtract": {"reset": "subtract"}},
            "decay_input": {True: {}, False: {"gain": "unit"}},
        },
        note="v_reset=None subtracts; the membrane leaks to v_reset and starts there",
    ),
    "sinabs": Framework(
        "sinabs",
        "3.1.3",
        Semantics(
            decay="exponential",
            comparison=">=",
            reset="subtract",
            spikes_per_step=None,
            recurrent_bias_at_start=False,
            start="zero",
        ),
        {
            "reset": {"subtract": {}, "value": {"reset": "value"}},
            "norm_input": {True: {}, False: {"gain": "unit"}},
            "spikes": {"multi": {}, "single": {"spikes_per_step": 1}},
        },
        free={"spikes_per_step": "spikes_per_step", "min_v_mem": "membrane_floor"},
        note="a current decays in the step that its input comes: w_in holds that factor",
    ),
    "rockpool": Framework("Rockpool", "3.1.0", ROCKPOOL_SEMANTICS, dt="the layers (default 1 ms)"),
}


def semantics_of(framework: str, dt: float | None = None, **options: Any) -> Semantics:
    """What one step means in a framework: `semantics_of("snntorch", reset="zero", reset_delay=False, dt=1e-3)`.

    Args:
        framework: a key of `FRAMEWORKS`.
        dt: length of a step in seconds.
        options: the framework's own choices, e.g. `reset` ('subtract', 'zero', 'value'), `reset_delay` (snnTorch),
            `decay_input` (SpikingJelly), `norm_input`, `spikes` ('multi', 'single'), `spikes_per_step` and `min_v_mem`
            (sinabs).

    Raises:
        UsageError: there is no record of that framework, or it has no such option or value.
    """
    if framework not in FRAMEWORKS:
        raise UsageError(f"no record of {framework!r}; there are {', '.join(FRAMEWORKS)}")
    record = FRAMEWORKS[framework]
    fields: dict[str, Any] = {}
    for option, value in options.items():
        if option in record.free:
            fields[record.free[option]] = value
        elif option not in record.options:
            there = ", ".join((*record.options, *record.free)) or "none"
            raise UsageError(f"{record.title} has no option {option!r}; its options: {there}")
        elif value not in record.options[option]:
            there = ", ".join(map(repr, record.options[option]))
            raise UsageError(f"{record.title}: {option} is {value!r}, expected {there}")
    for option, values in record.options.items():  # in the record's order: a later option may depend on an earlier one
        if option in options:
            fields.update({name: _chosen(new, options) for name, new in values[options[option]].items()})
    return record.semantics.with_(dt=dt, **fields)


def _chosen(new: Any, options: Mapping[str, Any]) -> Any:
    """A field's value; a mapping is a choice by the option `reset`, whose default is subtraction."""
    return new[options.get("reset", "subtract")] if isinstance(new, Mapping) else new
