"""Layers of sinabs, read from live modules; what they compute is `snnir.frameworks.FRAMEWORKS["sinabs"]`.

sinabs 3.1.3 counts steps, with exponential decay a = e^(-1 / tau). LIF: v = a_mem v + (1 - a_mem) i, or a_mem v + i
with norm_input=False; i = x, or i = a_syn (i + x) with tau_syn: the input decays in its own step. IAF: a_mem = 1, and i
in full.
MultiSpike gives floor(v / threshold) spikes, MaxSpike at most so many, SingleSpike one; MembraneSubtract takes the
threshold off for each. min_v_mem bounds the membrane after the reset, which for a bound of at most 0 is the same as
before it. Layers take (B, T, ...), those named Squeeze (B * T, ...). Feedback comes one step late, its biases too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from snnir import ops
from snnir.frameworks import semantics_of
from snnir.frontends.torch_fx import arithmetic, windows
from snnir.frontends.torch_fx.foreign import Call, Table, with_lead
from snnir.frontends.torch_fx.populations import (
    exponential_tau,
    number,
    population,
    step_length,
)
from snnir.frontends.torch_fx.shapes import sliced
from snnir.frontends.torch_fx.signals import BATCH_FIRST, FOLDED, STEP, UNKNOWN, Lead, Refuse, Signal
from snnir.ops import Array, Shape
from snnir.semantics import Semantics

_BINARY = "SingleSpike"


def _begin(call: Call) -> None:
    call.takes((FOLDED,) if type(call.layer).__name__.endswith("Squeeze") else BATCH_FIRST)
    call.once()


def _lif(call: Call) -> Any:
    """LIF, IAF and ExpLeak, with or without a synaptic current, and their recurrent and squeezing forms."""
    _begin(call)
    m, b, dt = call.layer, call.b, step_length(call.b)
    spiking = m.spike_fn is not None
    semantics = _semantics(m, spiking)
    fields: dict[str, Any] = {"recurrent": hasattr(m, "rec_connect")}
    if spiking:
        fields["v_threshold"] = m.spike_threshold
        if not (number(m.spike_threshold) > 0).all():
            raise Refuse(f"a threshold of {number(m.spike_threshold).min():g}", expected="thresholds above 0")
    leak, current = number(m.alpha_mem_calculated), _alpha(m.alpha_syn_calculated)
    kind: type[ops.Op]
    if current is not None:
        kind = ops.CubaLIF if spiking else ops.CubaLI
        fields |= {"tau_syn": exponential_tau(current, dt), "tau_mem": _tau(leak, dt)}
        fields["w_in"] = current / (1.0 - current) if m.norm_input else current
    elif (leak == 1).all():
        kind = ops.IF if spiking else ops.I
    else:
        kind = ops.LIF if spiking else ops.LI
        fields["tau"] = _tau(leak, dt)
    y = population(b, call.x, kind, semantics, "sinabs", **fields)
    if hasattr(m, "rec_connect"):
        back = call.inside(m.rec_connect, STEP, y)
        if isinstance(back, Signal):
            if np.prod(back.shape) != np.prod(call.x.shape):
                raise Refuse(f"the feedback has shape {list(back.shape)}, the input {list(call.x.shape)}", rule="shape")
            if back.shape != call.x.shape:
                back = b.emit(ops.Reshape, back, part="feedback", shape=call.x.shape)
            b.connect(back, y.sources[0])
    return y


def _alpha(value: Any) -> Array | None:
    if value is None:
        return None
    alpha = number(value)
    if not ((alpha > 0) & (alpha < 1)).all():
        raise Refuse("a synaptic decay factor lies outside 0 to 1")
    return alpha


def _tau(alpha: Array, dt: float) -> Array:
    if not ((alpha > 0) & (alpha <= 1)).all():
        raise Refuse(f"a decay factor of {alpha.min():g} to {alpha.max():g}", expected="0 to 1")
    return exponential_tau(alpha, dt)


def _semantics(m: Any, spiking: bool) -> Semantics:
    options: dict[str, Any] = {"norm_input": bool(m.norm_input), "min_v_mem": _floor(m, spiking)}
    if not spiking:
        return semantics_of("sinabs", **options)
    return semantics_of("sinabs", **options, reset=_reset(m), spikes_per_step=_most(m))


def _floor(m: Any, spiking: bool) -> float | None:
    if m.min_v_mem is None:
        return None
    floor = number(m.min_v_mem)
    if (floor != floor.flat[0]).any():
        raise Refuse("min_v_mem differs from neuron to neuron", expected="one number")
    if floor.flat[0] > 0:
        raise Refuse(f"min_v_mem is {floor.flat[0]:g}, which acts after the reset", expected="0 or below")
    if not spiking:
        raise Refuse("min_v_mem of a layer that does not spike acts behind its output", expected="None")
    return float(floor.flat[0])


def _reset(m: Any) -> str:
    name, reset = type(m.reset_fn).__name__, m.reset_fn
    if name == "MembraneSubtract":
        if reset.subtract_value is not None and (number(m.spike_threshold) != reset.subtract_value).any():
            raise Refuse(f"subtract_value is {reset.subtract_value:g}", expected="the threshold")
        return "subtract"
    if name == "MembraneReset":
        if reset.reset_value:
            what = f"sinabs 3.1.3 adds reset_value {reset.reset_value:g} in every step, with or without a spike"
            raise Refuse(what, expected="reset_value 0")
        return "value"
    raise Refuse(f"reset_fn is {name}", expected="MembraneSubtract or MembraneReset")


def _most(m: Any) -> int | None:
    """The most spikes per step."""
    spikes = m.spike_fn
    name = getattr(spikes, "__name__", type(spikes).__name__)
    if name == _BINARY:
        return 1
    if name == "MultiSpike":
        return None
    if name == "MaxSpike":
        most = getattr(spikes, "max_num_spikes_per_bin", None)
        return None if most is None else int(most)
    raise Refuse(f"spike_fn is {name}", expected="MultiSpike, MaxSpike or SingleSpike")


def _sum_pool(call: Call) -> Any:
    m = call.layer
    call.takes(STEP, (FOLDED,))
    y = windows.pool(call.b, call.x, m.kernel_size, m.stride, 0, bool(m.ceil_mode), divisor_override=1)
    return with_lead(y, call.x.lead)


def _crop(call: Call) -> Any:
    m = call.layer
    call.takes(STEP, (FOLDED,))
    _, h, w = windows.spatial(call.x)
    y = sliced(call.b, call.x, 1, slice(m.top_crop, h - m.bottom_crop))
    return sliced(call.b, y, 2, slice(m.left_crop, w - m.right_crop))


def _repeat(call: Call) -> Any:
    """A module without state over (B * T, ...)."""
    call.takes(BATCH_FIRST)
    return call.inside(call.layer.module, (FOLDED,))


def _flatten_time(call: Call) -> Any:
    call.takes(BATCH_FIRST)
    return with_lead(call.x, (FOLDED,))


def _unflatten_time(call: Call) -> Any:
    call.takes((FOLDED,))
    return with_lead(call.x, BATCH_FIRST)


def _merge(call: Call) -> Any:
    other = call.states[0] if call.states else UNKNOWN
    if not isinstance(other, Signal):
        return UNKNOWN
    if other.shape != call.x.shape:
        raise Refuse(f"merges {list(call.x.shape)} and {list(other.shape)}", expected="equal shapes", rule="shape")
    return arithmetic.add(call.b, call.x, other)


def _quantize(call: Call) -> Any:
    if call.layer.quantize:
        raise Refuse("QuantizeLayer rounds, which has no counterpart in the graph", expected="quantize=False")
    return call.x


_POPULATIONS = ("LIF", "LIFRecurrent", "IAF", "IAFRecurrent", "ExpLeak")
_SQUEEZED = ("LIFSqueeze", "IAFSqueeze", "ExpLeakSqueeze")


def _lead(m: nn.Module) -> Lead | None:
    name = type(m).__name__
    if name in _POPULATIONS or name in ("Repeat", "FlattenTime"):
        return BATCH_FIRST
    return (FOLDED,) if name in _SQUEEZED or name == "UnflattenTime" else None


def _input_shape(m: nn.Module) -> Shape | None:
    from snnir.frontends.torch_fx.modules import input_shape_of

    return input_shape_of(m.module) if type(m).__name__ == "Repeat" else None  # type: ignore[arg-type]


TABLE = Table(
    title="sinabs",
    prefix="sinabs.",
    layers={
        **dict.fromkeys((*_POPULATIONS, *_SQUEEZED), _lif),
        "SumPool2d": _sum_pool,
        "Cropping2dLayer": _crop,
        "Repeat": _repeat,
        "FlattenTime": _flatten_time,
        "UnflattenTime": _unflatten_time,
        "Merge": _merge,
        "QuantizeLayer": _quantize,
    },
    through=frozenset({"Network"}),
    lead=_lead,
    input_shape=_input_shape,
)
