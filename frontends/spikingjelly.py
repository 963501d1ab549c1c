"""Layers of SpikingJelly, read from live modules; what they compute is `snnir.frameworks.FRAMEWORKS["spikingjelly"]`.

SpikingJelly 2.0.0 counts steps. IFNode: v = v + x. LIFNode and ParametricLIFNode: v = v + (x - (v - v_reset)) / tau, or
v - (v - v_reset) / tau + x with decay_input=False; 1 / tau is sigmoid(w) where it is learned. A spike where
v - v_threshold >= 0; then v becomes v_reset, or loses v_threshold where v_reset is None. Membranes start at v_reset.
Layers take one step (B, ...) in step_mode 's' and a sequence (T, B, ...) in 'm'.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from snnir import ops
from snnir.frameworks import semantics_of
from snnir.frontends.torch_fx import modules
from snnir.frontends.torch_fx.foreign import Call, Table, with_lead
from snnir.frontends.torch_fx.populations import NO_LEAK, comparison_of, number, population, step_length
from snnir.frontends.torch_fx.signals import FOLDED, SEQUENCE, STEP, UNKNOWN, Lead, Refuse, Signal
from snnir.ops import Shape
from snnir.semantics import Semantics

NEURONS = ("IFNode", "LIFNode", "ParametricLIFNode")
MULTI = ("MultiStepContainer", "SeqToANNContainer", "NonSpikingIFNode", "NonSpikingLIFNode")


def _axes(call: Call, state: bool) -> None:
    """Checks the axes that a layer's step mode takes; layers without state also stand where time is folded."""
    single = (STEP,) if state else (STEP, (FOLDED,))
    call.takes(*((SEQUENCE,) if call.layer.step_mode == "m" else single))
    if state:
        call.once()


def _neuron(call: Call) -> Any:
    _axes(call, state=True)
    m, b, x = call.layer, call.b, call.x
    dt, leak = step_length(b), m.v_reset or 0.0
    semantics = _semantics(m)
    fields: dict[str, Any] = {"v_threshold": float(m.v_threshold), "v_reset": float(leak)}
    if not hasattr(m, "decay_input"):
        semantics = semantics.with_(gain="unit")
        if not leak:
            return population(b, x, ops.IF, semantics, "spikingjelly", **fields)
        return population(b, x, ops.LIF, semantics, "spikingjelly", tau=dt * NO_LEAK, v_leak=leak, **fields)
    steps = 1.0 / number(m.w.sigmoid()) if hasattr(m, "w") else np.asarray(float(m.tau))
    return population(b, x, ops.LIF, semantics, "spikingjelly", tau=steps * dt, v_leak=leak, **fields)


def _semantics(m: Any) -> Semantics:
    if m._neuron_precision is not None:
        raise Refuse(f"its states have a precision of their own: {m._neuron_precision}", expected="full precision")
    reset = "subtract" if m.v_reset is None else "value"
    semantics = semantics_of("spikingjelly", reset=reset, decay_input=bool(getattr(m, "decay_input", True)))
    return semantics.with_(comparison=comparison_of(m.surrogate_function, "surrogate_function"))


def _membrane(call: Call) -> Any:
    """A neuron that does not spike; its membrane is the output, step by step or as a mean."""
    call.takes(SEQUENCE)
    call.once()
    m, b, x = call.layer, call.b, call.x
    if m.decode not in (None, "mean-mem"):
        raise Refuse(f"decode is {m.decode!r}, which picks a step", "None (then stack the list), or 'mean-mem'")
    part = "membrane" if m.decode else ""
    if hasattr(m, "tau"):
        tau = float(m.tau) * step_length(b)
        y = population(b, x, ops.LI, semantics_of("spikingjelly"), "spikingjelly", part, tau=tau)
    else:
        y = population(b, x, ops.I, semantics_of("spikingjelly", decay_input=False), "spikingjelly", part)
    if m.decode is None:
        raise Refuse(
            "decode=None gives a Python list of steps", "'mean-mem'", "or read the spikes of a layer behind it"
        )
    from snnir.frontends.torch_fx.arithmetic import mean

    return mean(b, y, 0)


def _stateless(call: Call) -> Any:
    """A layer of PyTorch that folds time away by itself in step_mode 'm'."""
    _axes(call, state=False)
    handler = next(modules.HANDLERS[cls] for cls in type(call.layer).__mro__ if cls in modules.HANDLERS)
    y = handler(call.b, call.layer, with_lead(call.x, STEP))  # axes count as on (B, ...) in either mode
    return with_lead(y, call.x.lead)


def _anywhere(call: Call) -> Any:
    """A layer that takes any leading axes."""
    handler = next(modules.HANDLERS[cls] for cls in type(call.layer).__mro__ if cls in modules.HANDLERS)
    return handler(call.b, call.layer, call.x)


def _td_batch_norm(call: Call) -> Any:
    """Its weight starts at alpha v_th; the layer itself is an ordinary norm over (T * B, ...)."""
    call.takes(SEQUENCE)
    m = call.layer
    tensors = {"weight": m.weight, "bias": m.bias, "mean": m.running_mean, "var": m.running_var}
    if m.running_mean is None:
        raise Refuse("has no running statistics, so its output depends on the batch")
    return call.b.emit(ops.BatchNorm, call.x, tensors, eps=m.eps)


def _dropout(call: Call) -> Any:
    return call.b.dropped(call.x, call.layer.p)


def _voting(call: Call) -> Any:
    """The mean over each group of `voting_size` features."""
    _axes(call, state=False)
    size, (n,) = int(call.layer.voting_size), call.x.shape
    groups = n // size
    weight = np.zeros((groups, n))
    for i in range(groups):
        weight[i, i * size : (i + 1) * size] = 1.0 / size
    return call.b.emit(ops.Linear, call.x, weight=weight)


def _delay(call: Call) -> Any:
    _axes(call, state=True)
    delay = float(call.layer.delay_steps) * step_length(call.b)
    y = population(call.b, call.x, ops.Delay, Semantics(), "spikingjelly", delay=delay)
    return y


def _over_steps(call: Call) -> Any:
    """MultiStepContainer: modules for one step, run over all of them."""
    call.takes(SEQUENCE)
    return _chain(call, STEP)


def _over_folded(call: Call) -> Any:
    """SeqToANNContainer: modules without state, over (T * B, ...)."""
    call.takes(SEQUENCE)
    return _chain(call, (FOLDED,))


def _by_mode(call: Call) -> Any:
    """StepModeContainer."""
    m = call.layer
    if m.step_mode == "s":
        return _chain(call, call.x.lead)
    call.takes(SEQUENCE)
    return _chain(call, STEP if m.stateful else (FOLDED,))


def _chain(call: Call, lead: Lead | None) -> Any:
    x: Any = call.x
    for module in call.layer:
        if x is UNKNOWN:
            return UNKNOWN
        x = call.inside(module, lead, x)
    return x


def _feedback(call: Call) -> tuple[Signal, str]:
    """A signal for what the container gave in the step before, and the op that stands for it."""
    call.once()
    size = getattr(call.layer, "sub_module_out_features", None)
    shape = call.x.shape if size is None else (int(size),)
    y = call.b.emit(ops.Scale, Signal((), shape, STEP), part="feedback", scale=np.float64(1.0))
    return y, y.sources[0]


def _recurrent(call: Call) -> Any:
    """ElementWiseRecurrentContainer and LinearRecurrentContainer: y = sub_module(f(y of the step before, x))."""
    _axes(call, state=False)
    m, x = call.layer, with_lead(call.x, STEP)
    before, name = _feedback(call)
    given = call.tracer.proxy_of(before), call.tracer.proxy_of(x)
    if hasattr(m, "rc"):
        joint = call.inside(m.rc, STEP, call.b.emit(ops.Concat, {"in0": x, "in1": before}, part="joint", inputs=2))
    else:
        joint = call.tracer.signal(m.element_wise_function(*given))
    y = call.inside(m.sub_module, STEP, joint) if isinstance(joint, Signal) else UNKNOWN
    if not isinstance(y, Signal):
        return UNKNOWN
    if y.shape != before.shape:
        raise Refuse(f"the feedback has shape {list(y.shape)}, expected {list(before.shape)}", rule="shape")
    call.b.connect(y, name)
    return with_lead(y, call.x.lead)


def _lead(m: nn.Module) -> Lead | None:
    name = type(m).__name__
    if name in MULTI or name.startswith("ThresholdDependent"):
        return SEQUENCE
    mode: Any = getattr(m, "step_mode", None)
    return {"m": SEQUENCE, "s": STEP}.get(mode)


def _input_shape(m: nn.Module) -> Shape | None:
    if hasattr(m, "rc"):
        return (int(m.rc.in_features) - int(m.sub_module_out_features),)  # type: ignore[union-attr, arg-type]
    if isinstance(m, nn.Sequential):
        for child in m:
            if modules.input_shape_of(child) is not None or not modules.keeps_shape(child):
                return modules.input_shape_of(child)
    return None


_PLAIN = ("Conv1d", "Conv2d", "ConvTranspose2d", "AvgPool2d", "AdaptiveAvgPool2d", "Upsample", "Flatten")

TABLE = Table(
    title="SpikingJelly",
    prefix="spikingjelly.activation_based.",
    layers={
        **dict.fromkeys(NEURONS, _neuron),
        **dict.fromkeys(("NonSpikingIFNode", "NonSpikingLIFNode"), _membrane),
        **dict.fromkeys(_PLAIN, _stateless),
        **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), _stateless),
        **dict.fromkeys(("ThresholdDependentBatchNorm1d", "ThresholdDependentBatchNorm2d"), _td_batch_norm),
        **dict.fromkeys(("Dropout", "Dropout2d"), _dropout),
        "Linear": _anywhere,
        "VotingLayer": _voting,
        "Delay": _delay,
        "MultiStepContainer": _over_steps,
        "SeqToANNContainer": _over_folded,
        "StepModeContainer": _by_mode,
        "ElementWiseRecurrentContainer": _recurrent,
        "LinearRecurrentContainer": _recurrent,
    },
    lead=_lead,
    input_shape=_input_shape,
)
