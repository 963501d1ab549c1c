"""What all targets of the family share in writing neurons: equations, coefficients, surrogates, the shape of a class.

The coefficients are those of `snnir.discretise`, as formulas of a layer's buffers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from snnir.backends.torch_source.source import WIDTH, Classes, Layer, call, fitted, parameter
from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.learning import learned
from snnir.ops import Array, CubaLI, CubaLIF, I, Neuron, Op, SpikingNeuron, Threshold
from snnir.semantics import Semantics

EQUATIONS: Mapping[str, str] = {
    "I": "dv/dt = r I",
    "IF": "dv/dt = r I",
    "LI": "tau dv/dt = (v_leak - v) + r I",
    "LIF": "tau dv/dt = (v_leak - v) + r I",
    "CubaLI": "tau_syn di/dt = -i + w_in I; tau_mem dv/dt = (v_leak - v) + r i",
    "CubaLIF": "tau_syn di/dt = -i + w_in I; tau_mem dv/dt = (v_leak - v) + r i",
}

WHOLE = "x: (T, B, ...), all steps."


class Dialect(Protocol):
    """How one framework's people write neurons."""

    @property
    def name(self) -> str:
        """The framework's name, for people."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Import names of what an emitted model needs beside PyTorch and safetensors."""
        ...

    def neuron(self, op: Neuron, semantics: Semantics, stepwise: bool, fresh: bool, classes: Classes) -> Layer:
        """A population; `stepwise` on a cycle; `fresh` where nobody else reads its input."""
        ...

    def stateless(self, op: Op, classes: Classes) -> Layer | None:
        """The framework's own layer for an op without a membrane; None where it is written as in plain PyTorch."""
        ...

    def threshold(self, op: Threshold, semantics: Semantics, classes: Classes) -> Layer:
        """The step function."""
        ...

    def imports(self) -> list[str]:
        """Import lines of an emitted file, beside those of PyTorch."""
        ...

    def appendix(self) -> str:
        """Source that stands at the end of an emitted file."""
        ...


@dataclass(frozen=True)
class Surrogate:
    """What an op's metadata say of its gradient: kind 'triangle', 'atan' or 'fast_sigmoid', its parameter.

    triangle: max(0, 1 - |u| / p) / (2 p); atan: p / 2 / (1 + (pi / 2 p u)^2); fast_sigmoid: 1 / (1 + p |u|)^2.
    """

    kind: str
    parameter: float


_DEFAULTS = {"triangle": 0.5, "atan": 2.0, "fast_sigmoid": 25.0}


def surrogate(op: Op) -> Surrogate | None:
    """The surrogate gradient that the op's author chose; None where nothing (or nothing known) is said."""
    kind = op.metadata.get("surrogate")
    if kind not in _DEFAULTS:
        return None
    parameter = op.metadata.get("surrogate_param")
    return Surrogate(str(kind), float(_DEFAULTS[kind] if parameter is None else parameter))


def check_surrogates(graph: Graph) -> None:
    """Training an emitted module of `graph` follows the gradients that its author chose.

    Raises:
        CompileError: a surrogate that emitted modules do not have; they would take their default without a word.
    """
    faults = [
        Violation(
            "surrogate-unknown",
            f"learns by the surrogate {kind}, which emitted modules do not have",
            where=name,
            loc=str(op.loc or ""),
            expected=f"one of {', '.join(_DEFAULTS)}, or none named for a target's own",
            hint="train the module itself in PyTorch, and load it with its weights",
        )
        for name, op in graph.ops.items()
        if (kind := op.metadata.get("surrogate")) is not None and kind not in _DEFAULTS
    ]
    if faults:
        raise CompileError(faults)


def detach_reset(op: Op) -> bool | None:
    """Whether the reset stops gradients; None where the op's author does not say."""
    said = op.metadata.get("detach_reset")
    return None if said is None else bool(said)


def decay(tau: str, semantics: Semantics) -> str:
    """The factor of a state per step."""
    return f"1 - DT / self.{tau}" if semantics.decay == "euler" else f"torch.exp(-DT / self.{tau})"


def rise(tau: str, semantics: Semantics) -> str:
    """The factor of an input per step that the equation integrates to; '' for 1."""
    if semantics.gain == "unit":
        return ""
    return f"DT / self.{tau}" if semantics.decay == "euler" else f"-torch.expm1(-DT / self.{tau})"


def times(factor: str, rest: str) -> str:
    """`factor * rest`, without a factor of ''."""
    return f"{factor} * {rest}" if factor else rest


def gain(op: Neuron, semantics: Semantics) -> str:
    """The factor of the membrane's input."""
    if "tau" not in op.arrays and "tau_mem" not in op.arrays:
        return times("DT" if semantics.gain == "ode" else "", "self.r")
    return times(rise("tau" if "tau" in op.arrays else "tau_mem", semantics), "self.r")


def start(op: Neuron, semantics: Semantics) -> str:
    """The membrane before the first step; '0.0' where that is no parameter."""
    return "self.v_leak" if "v_leak" in op.arrays and semantics.start == "rest" else "0.0"


def threshold(field: str, semantics: Semantics, classes: Classes) -> str:
    """What a value must lie strictly above to be a spike, for a framework whose own comparison is strict."""
    if semantics.comparison == ">":
        return f"self.{field}"
    classes.need("just_below")
    return f"just_below(self.{field})"


def in_time(op: Neuron, semantics: Semantics) -> Semantics:
    """The semantics with the reset of a population as prompt as it can be said.

    A reset to a value that comes in the next step, but before the membrane leaks and takes its input, does what it
    would have done behind the spike: nobody reads the membrane between. With a current it comes behind both.
    """
    if semantics.reset == "delayed-value" and not current_based(op):
        return semantics.with_(reset="value")
    return semantics


def is_late(op: Neuron, semantics: Semantics) -> bool:
    """Whether spikes reset a membrane in the next step, so that they are part of its state."""
    return isinstance(op, SpikingNeuron) and semantics.reset.startswith(("delayed", "held"))


def late_reset(op: Neuron, semantics: Semantics, v: str, spikes: str, fires: str) -> tuple[list[str], list[str]]:
    """The statements of a late reset before a step's spikes and behind them; `late` is what it carries on.

    Args:
        v, spikes: variables. fires: the spikes of v as an expression.
    """
    before = f"{v} = {v} - late * self.v_threshold"
    if semantics.reset.endswith("value"):
        before = f"{v} = (1 - late) * {v} + late * self.v_reset"
    stop = ".detach()" if detach_reset(op) is True else ""
    if not semantics.reset.startswith("held"):
        return [before], [f"late = {spikes}{stop}"]
    behind = f"{v} = {v} - ({spikes}{stop} - late) * self.v_threshold  # what late took off counts"
    return [before], [behind, f"late = {fires}{stop}"]


def resets_to_zero(op: Neuron, semantics: Semantics) -> bool:
    """Whether a spike sets the membrane to 0, now or in the next step."""
    return semantics.reset.endswith("value") and not np.any(getattr(op, "v_reset", 0.0))


def current_based(op: Neuron) -> bool:
    """Whether a synaptic current lies between input and membrane."""
    return isinstance(op, (CubaLI, CubaLIF))


def describe(op: Neuron, semantics: Semantics) -> list[str]:
    """The lines of a class docstring: the equation, the reset, the discretisation."""
    then = "gives v."
    if isinstance(op, SpikingNeuron):
        reset = "v = v_reset" if semantics.reset.endswith("value") else "v = v - v_threshold"
        late = " in the next step" if semantics.reset.startswith("delayed") else ""
        if semantics.reset == "held-subtract":
            late = ", twice from a membrane that the last step left above it"
        then = f"a spike where v {semantics.comparison} v_threshold, then {reset}{late}."
    first = [f"{EQUATIONS[op.kind]}; {then}"]
    if current_based(op) or len(first[0]) > WIDTH - 8:
        first = [f"{EQUATIONS[op.kind]}.", f"{then[0].upper()}{then[1:]}"]
    if isinstance(op, I) or not op.time_constants:
        rule = "A step adds r DT times its input." if semantics.gain == "ode" else "A step adds r times its input."
    else:
        rule = "Forward Euler" if semantics.decay == "euler" else "States decay by e^(-DT/tau)"
        rule += (
            ", in steps of DT seconds." if semantics.gain == "ode" else ", in steps of DT seconds; inputs add in full."
        )
    return [*first, rule]


def arguments(op: Op, options: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The keyword arguments of a neuron layer: its parameters, then the framework's options."""
    return {**{name: parameter(getattr(op, name)) for name in op.arrays}, **(options or {})}


def class_name(op: Neuron) -> str:
    """What the class of a population is called: its op's name, but for `I`, which reads as a number."""
    return "Integrator" if isinstance(op, I) else op.kind


def keep_fields(op: Op) -> list[str]:
    """The statement that registers an op's parameters as buffers, in a method that is not indented."""
    return fitted("", f"keep({', '.join(['self', *(f'{name}={name}' for name in op.arrays)])})", 4, WIDTH - 4)


def definition(op: Op, *extras: str) -> list[str]:
    """The head of a constructor with an op's parameters and more."""
    names = ", ".join(["self", *op.arrays, *extras])
    if len(names) < WIDTH - 24:
        return [f"def __init__({names}):"]
    return ["def __init__(", f"    {names}", "):"]


def step_function(op: Threshold, semantics: Semantics, classes: Classes, options: Mapping[str, str], fires: str) -> str:
    """The call of a class for the step function; `fires` is its output, of u: how far x lies above the threshold."""
    classes.need("keep")
    given = ", ".join(options)
    methods = [
        [
            f"def __init__(self, threshold, {given}):",
            "    super().__init__()",
            *keep_fields(op),
            f"    {', '.join(f'self.{name}' for name in options)} = {given}",
        ],
        [
            "def forward(self, x: Tensor) -> Tensor:",
            f"    u = x - {threshold('threshold', semantics, classes)}",
            f"    return {fires}",
        ],
    ]
    doc = [f"y = 1 where x {semantics.comparison} threshold, else 0."]
    return call(classes.add("Threshold", class_text("NAME(nn.Module)", doc, methods)), **arguments(op, options))


def integrator(op: I, semantics: Semantics) -> str:
    """The class of an integrator over whole sequences."""
    init = [*definition(op), "    super().__init__()", *keep_fields(op)]
    forward = ["def forward(self, x: Tensor) -> Tensor:", f"    return ({gain(op, semantics)} * x).cumsum(0)"]
    return class_text("NAME(nn.Module)", [*describe(op, semantics), WHOLE], [init, forward])


def cell_text(op: Neuron, semantics: Semantics, base: str, lines: list[str]) -> str:
    """The class for one step, on that for sequences; `lines` are its body, unless the op is an integrator."""
    doc = [f"{base} one step at a time, for a loop over time. x: (B, ...); gives the output and the next state."]
    if isinstance(op, I):
        x = f"{gain(op, semantics)} * x"
        lines = [f"v = {x} if state is None else state + {x}", "return v, v"]
    body = ["def forward(self, x: Tensor, state=None):", *(f"    {line}" for line in lines)]
    return class_text(f"NAME({base})", doc, [body])


def class_text(name_and_base: str, doc: list[str], methods: list[list[str]]) -> str:
    """A class as source: docstring lines, then methods (each a list of lines, not indented)."""
    lines = [f"class {name_and_base}:"]
    if len(doc) == 1:
        lines.append(f'    """{doc[0]}"""')
    else:
        lines += [f'    """{doc[0]}', "", *(f"    {line}" for line in doc[1:]), '    """']
    for method in methods:
        lines += ["", *(f"    {line}" if line else "" for line in method)]
    return "\n".join(lines)


def moved(op: Any) -> Any:
    """The op as a dialect sees it: what is trained has no value that lets a term be left out, as 0 or 1 would."""
    fields = learned(op)
    return op.with_(**{field: _other(op, field) for field in fields}) if fields else op


def _other(op: Op, field: str) -> Array:
    """Values near those of an array, none of which is 0, whole, or that of another array; as floats."""
    array, part = getattr(op, field), 1e-3 * (1.2345678 + op.arrays.index(field))
    return np.asarray(array * (1 + part) + (array == 0) * part, np.float64)


def trained(op: Op, made: Layer, classes: Classes) -> Layer:
    """The layer, which a dialect made for `moved(op)`, with the op's own values, and what is trained as parameters."""
    fields = learned(op)
    if not fields:
        return made
    make = made.make
    for field in fields:
        array = np.asarray(getattr(op, field), np.float64)
        make = make.replace(f"{field}={parameter(_other(op, field))}", f"{field}={parameter(array)}")
    classes.need("trained")
    return replace(made, make=call("trained", make, *(f'"{field}"' for field in fields)))
