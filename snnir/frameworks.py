"""What a step means in each simulator, found by experiment with the versions that are named, and held by tests.

Given a graph and the semantics of a record, the interpreter gives what the simulator gives: the same spikes, real
values up to rounding. Chips compute in integers; their records name the simulator of snnir that is the same bit for
bit. The frontends of live modules take their semantics from here, so what `snnir targets` shows is what is loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
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
        package: the distribution that the version is of, where it is called otherwise than the record.
        simulator: for integers, the simulator of snnir that gives the same bits; the interpreter computes in floats.
        module: whether live modules of it are read.
    """

    title: str
    version: str
    semantics: Semantics
    options: Mapping[str, Mapping[Any, Mapping[str, Any]]] = field(default_factory=dict)
    free: Mapping[str, str] = field(default_factory=dict)
    dt: str = "load(..., dt=...): its layers count steps"
    state: str = "in the layers"
    note: str = ""
    package: str = ""
    simulator: str = ""
    module: bool = True


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
    "rockpool": Framework(
        "Rockpool",
        "3.1.0",
        ROCKPOOL_SEMANTICS,
        {"layer": {"LIFTorch": {}, "LIFNeuronTorch": {}, "LIFBitshiftTorch": {"spikes_per_step": 31}}},
        free={"max_spikes_per_dt": "spikes_per_step"},
        dt="the layers (default 1 ms)",
        note="a current decays in the step that its input comes: w_in = e^(-dt/tau_syn); LIFBitshiftTorch rounds "
        "decays to 1 - 2^-dash: give the tau that decays so",
    ),
    "spyx": Framework(
        "Spyx",
        "1.0.0",
        Semantics(gain="unit", reset="delayed-subtract", latency_neuron=1, start="zero", recurrent_bias_at_start=False),
        {"layer": {"LIF": {}, "IF": {}, "LI": {}, "CuBaLIF": {"reset": "subtract"}}},
        state="handed over by the caller",
        note="a layer gives the spikes of the membrane before the step: outputs that spike are a step later than here",
        module=False,
    ),
    "lava": Framework(
        "Lava",
        "0.10.0",
        Semantics(gain="unit", latency_input=1, latency_neuron=1, start="zero"),
        {"arithmetic": {"float": {}, "fixed": {"number_format": "loihi-int24"}}},
        state="in the processes",
        note="Dense holds back what it sends by a step; u and v take their inputs in full; fixed_pt rounds decays to "
        "4096ths and weights to 8 bits",
        package="lava-nc",
        simulator="snnir.simulators.loihi",
        module=False,
    ),
    "xylo": Framework(
        "Xylo (xylosim)",
        "0.1.3",
        Semantics(
            decay="shift",
            gain="unit",
            comparison=">=",
            reset="subtract",
            spikes_per_step=31,
            latency_neuron=1,
            start="zero",
            number_format="xylo-int16",
        ),
        {"neuron": {"hidden": {}, "output": {"spikes_per_step": 1}}},
        state="on the chip",
        note="states shrink by x >> dash, by 1 at least; 16-bit states saturate",
        package="xylosim",
        simulator="snnir.simulators.xylo",
        module=False,
    ),
}


def semantics_of(framework: str, dt: float | None = None, *, version: str | None = None, **options: Any) -> Semantics:
    """What one step means in a framework: `semantics_of("snntorch", reset="zero", reset_delay=False, dt=1e-3)`.

    Args:
        framework: a key of `FRAMEWORKS`.
        dt: length of a step in seconds.
        version: the release that is meant; default the one that is installed, or that of the record.
        options: the framework's own choices, e.g. `reset` ('subtract', 'zero', 'value'), `reset_delay` (snnTorch),
            `decay_input` (SpikingJelly), `norm_input`, `spikes` ('multi', 'single'), `spikes_per_step` and `min_v_mem`
            (sinabs), `layer` (Rockpool, Spyx), `arithmetic` ('float', 'fixed': Lava).

    Where another release is installed than the record was compared with, a UserWarning says so.

    Raises:
        UsageError: there is no record of that framework or release, or it has no such option or value.
    """
    if framework not in FRAMEWORKS:
        raise UsageError(f"no record of {framework!r}; there are {', '.join(FRAMEWORKS)}")
    record = FRAMEWORKS[framework]
    if version is not None and version != record.version:
        hint = f"leave version out to take that of {record.version} for it"
        raise UsageError(f"no record of {record.title} {version}, only of {record.version}; {hint}")
    there = _installed(record.package or framework)
    if version is None and there not in (None, record.version):
        what = f"the record of {record.title} was compared with {record.version}, and {there} is installed"
        warnings.warn(f"{what}: hold its layers against snnir.interpret before you rely on it", stacklevel=2)
    fields: dict[str, Any] = {}
    for option, value in options.items():
        if option in record.free:
            fields[record.free[option]] = value
        elif option not in record.options:
            known = ", ".join((*record.options, *record.free)) or "none"
            raise UsageError(f"{record.title} has no option {option!r}; its options: {known}")
        elif value not in record.options[option]:
            known = ", ".join(map(repr, record.options[option]))
            raise UsageError(f"{record.title}: {option} is {value!r}, expected {known}")
    for option, values in record.options.items():  # in the record's order: a later option may depend on an earlier one
        if option in options:
            fields.update({name: _chosen(new, options) for name, new in values[options[option]].items()})
    return record.semantics.with_(dt=dt, **fields)


@cache
def _installed(package: str) -> str | None:
    """The release of a package that is there; None for none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _chosen(new: Any, options: Mapping[str, Any]) -> Any:
    """A field's value; a mapping is a choice by the option `reset`, whose default is subtraction."""
    return new[options.get("reset", "subtract")] if isinstance(new, Mapping) else new
