"""Layers of Norse, read from live modules; what they compute is `snnir.frameworks.FRAMEWORKS["norse"]`.

Norse 1.1.0 steps with forward Euler. Its box layers are NIR's own equations. Its other layers have a current that takes
the input in full, i = (1 - dt / tau_syn) i + x, and acts in the same step: w_in = tau_syn / dt. Recurrent layers add
W_rec z of the step before; they have no biases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from snnir import ops
from snnir.frameworks import semantics_of
from snnir.frontends.torch_fx.foreign import Call, Table
from snnir.frontends.torch_fx.populations import NO_LEAK, number, population
from snnir.frontends.torch_fx.signals import SEQUENCE, STEP, UNKNOWN, Lead, Refuse, Signal
from snnir.ops import Array, Shape
from snnir.semantics import Semantics

_SEQUENCES = ("LIF", "LI", "IAF", "LIFRecurrent", "Lift")
_STEPS = ("heaviside", "super", "triangle", "tanh", "circ", "heavi_erfc")  # all fire above 0


def _begin(call: Call) -> Lead:
    """Checks how a layer is called; gives the axes that it takes."""
    lead = STEP if type(call.layer).__name__.endswith("Cell") else SEQUENCE
    call.takes(lead)
    call.once()
    call.given_states()
    return lead


def _end(call: Call, y: Signal, lead: Lead) -> Any:
    """(output, state), as all of Norse's layers return."""
    return y, call.state(returned=lead == STEP)


def _semantics(m: Any, reset: str = "value") -> Semantics:
    return semantics_of("norse", dt=float(m.dt), reset=reset)


def _tau(inverse: Any) -> Array:
    """Seconds, from Norse's inverse time constant."""
    return np.asarray(1.0 / number(torch.as_tensor(inverse)))


def _spikes(m: Any) -> dict[str, Any]:
    """Threshold and reset of a layer's parameters."""
    if m.p.method not in _STEPS:
        raise Refuse(f"method is {m.p.method!r}, which Norse 1.1.0 itself cannot run here", expected=", ".join(_STEPS))
    return {"v_threshold": torch.as_tensor(m.p.v_th), "v_reset": torch.as_tensor(m.p.v_reset)}


def _membrane(m: Any) -> dict[str, Any]:
    return {"v_leak": torch.as_tensor(m.p.v_leak)}


def _current(m: Any) -> dict[str, Any]:
    tau_syn = _tau(m.p.tau_syn_inv)
    return {"tau_syn": tau_syn, "tau_mem": _tau(m.p.tau_mem_inv), "w_in": tau_syn / float(m.dt)}


def _lif(call: Call) -> Any:
    lead, m = _begin(call), call.layer
    fields = {**_current(m), **_membrane(m), **_spikes(m)}
    return _end(call, population(call.b, call.x, ops.CubaLIF, _semantics(m), "norse", **fields), lead)


def _li(call: Call) -> Any:
    lead, m = _begin(call), call.layer
    y = population(call.b, call.x, ops.CubaLI, _semantics(m), "norse", **_current(m), **_membrane(m))
    return _end(call, y, lead)


def _li_linear(call: Call) -> Any:
    lead, m = _begin(call), call.layer
    x = call.b.emit(ops.Linear, call.x, {"weight": m.input_weights}, "input")
    y = population(call.b, x, ops.CubaLI, _semantics(m), "norse", **_current(m), **_membrane(m))
    return _end(call, y, lead)


def _lif_box(call: Call) -> Any:
    lead, m = _begin(call), call.layer
    fields = {"tau": _tau(m.p.tau_mem_inv), **_membrane(m), **_spikes(m)}
    return _end(call, population(call.b, call.x, ops.LIF, _semantics(m, _reset_of(m)), "norse", **fields), lead)


def _li_box(call: Call) -> Any:
    lead, m = _begin(call), call.layer
    fields = {"tau": _tau(m.p.tau_mem_inv), **_membrane(m)}
    return _end(call, population(call.b, call.x, ops.LI, _semantics(m), "norse", **fields), lead)


def _iaf(call: Call) -> Any:
    """v = v + x; the membrane starts at v_reset."""
    lead, m = _begin(call), call.layer
    spikes, dt = _spikes(m), float(m.dt)
    if not np.any(number(spikes["v_reset"])):
        y = population(call.b, call.x, ops.IF, _semantics(m), "norse", r=1.0 / dt, **spikes)
        return _end(call, y, lead)
    fields = {"tau": dt * NO_LEAK, "r": NO_LEAK, "v_leak": spikes["v_reset"], **spikes}
    return _end(call, population(call.b, call.x, ops.LIF, _semantics(m), "norse", **fields), lead)


def _recurrent(call: Call) -> Any:
    lead, m, b = _begin(call), call.layer, call.b
    x = b.emit(ops.Linear, call.x, {"weight": m.input_weights}, "input")
    y = population(b, x, ops.CubaLIF, _semantics(m), "norse", **_current(m), **_membrane(m), **_spikes(m))
    back = b.emit(ops.Linear, y, {"weight": m.recurrent_weights}, "recurrent")
    b.connect(back, y.sources[0])
    return _end(call, y, lead)


def _reset_of(m: Any) -> str:
    """What a box layer's reset function does, found by asking it for a membrane of 1.7."""
    try:
        after = [float(m.p.reset_method(*(torch.tensor(v) for v in (z, 1.7, 0.3, 0.9)))) for z in (1.0, 0.0)]
    except Exception as error:
        raise Refuse(f"reset_method cannot be asked what it does: {type(error).__name__}: {error}") from None
    for reset, value in (("value", 0.3), ("subtract", 0.8)):
        if np.allclose(after, [value, 1.7], atol=1e-5):
            return reset
    raise Refuse("reset_method is neither reset_value nor reset_subtract")


def _lift(call: Call) -> Any:
    """A module for one step, run over all of them; it hands the state on itself."""
    call.takes(SEQUENCE)
    call.given_states()
    y = call.inside(call.layer.lifted_module, STEP)
    call.carry(y)
    return y if call.layer.is_stateful or y is UNKNOWN or isinstance(y, Signal) else y[0]


def _lead(m: nn.Module) -> Lead | None:
    return SEQUENCE if type(m).__name__ in _SEQUENCES else None


def _input_shape(m: nn.Module) -> Shape | None:
    from snnir.frontends.torch_fx.modules import input_shape_of

    if hasattr(m, "lifted_module"):
        return input_shape_of(m.lifted_module)  # type: ignore[arg-type]
    size: Any = getattr(m, "input_size", None)
    return None if size is None else (int(size),)


def _dt(m: nn.Module) -> float | None:
    return None if type(m).__name__ == "Lift" else float(m.dt)  # type: ignore[arg-type]


TABLE = Table(
    title="Norse",
    prefix="norse.torch.module.",
    layers={
        "LIFCell": _lif,
        "LIF": _lif,
        "LICell": _li,
        "LI": _li,
        "LILinearCell": _li_linear,
        "LIFBoxCell": _lif_box,
        "LIBoxCell": _li_box,
        "IAFCell": _iaf,
        "IAF": _iaf,
        "LIFRecurrentCell": _recurrent,
        "LIFRecurrent": _recurrent,
        "Lift": _lift,
    },
    through=frozenset({"SequentialState"}),
    lead=_lead,
    input_shape=_input_shape,
    dt=_dt,
)
