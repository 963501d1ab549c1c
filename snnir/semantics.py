"""What one time step does: the discretisation that NIR leaves open, as data.

A `Semantics` is attached to a graph (what its author meant) and to a target (what it does). The interpreter takes
both kinds. All fields that are not time are dimensionless; dt is in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from snnir.errors import Violation

Decay = Literal["euler", "exponential", "shift"]
Gain = Literal["ode", "unit"]
Comparison = Literal[">", ">="]
Reset = Literal["value", "subtract", "delayed-value", "delayed-subtract", "held-subtract"]
Rest = Literal["rest", "zero"]
Order = Literal["synapse-first", "membrane-first"]
NumberFormat = Literal["float32", "float64", "xylo-int16", "loihi-int24"]


@dataclass(frozen=True, kw_only=True)
class Semantics:
    """The rule of one step.

    Attributes:
        dt: length of a step in seconds; None where nobody has said it (it is never guessed).
        decay: factor by which a state of time constant tau shrinks per step: 'euler' 1 - dt/tau, 'exponential'
            e^(-dt/tau), 'shift' 1 - 2^-dash (integer targets).
        gain: factor of the input: 'ode' what the equation integrates to (euler dt/tau, exponential 1 - e^(-dt/tau)),
            'unit' 1.
        order: whether the synaptic current is updated before the membrane reads it.
        comparison: a spike when v > threshold, or already when v >= threshold.
        reset: at a spike v becomes v_reset ('value') or v - threshold ('subtract'); the 'delayed-' forms do that in
            the next step, as snnTorch does by default. There the threshold is taken off the new membrane; v_reset
            replaces the old one before it leaks and takes the input (snn.Leaky) but, in current-based neurons, the
            new one, so that what came in is lost (snn.Synaptic). 'held-subtract' subtracts at once, but a membrane
            that stays above the threshold all the same must pass it twice in the next step: snn.Leaky with
            reset_delay=False.
        spikes_per_step: the most spikes a neuron gives in one step; None without limit.
        latency_input: steps a value needs from a graph input to the first neuron.
        latency_neuron: steps a spike needs from one neuron to the next (0: same step; Xylo, Lava: 1). It passes when
            the spike leaves its neuron; what reaches outputs alone has none (`snnir.interpreter.run.edge_lags`).
        recurrent_bias_at_start: whether the biases on a recurrent path already arrive at step 0.
        start: membranes start at their resting value v_leak ('rest') or at 0 ('zero').
        membrane_floor: lowest value of the membrane; None without one.
        number_format: how states are represented.
    """

    dt: float | None = None
    decay: Decay = "euler"
    gain: Gain = "ode"
    order: Order = "synapse-first"
    comparison: Comparison = ">"
    reset: Reset = "value"
    spikes_per_step: int | None = 1
    latency_input: int = 0
    latency_neuron: int = 0
    recurrent_bias_at_start: bool = True
    start: Rest = "rest"
    membrane_floor: float | None = None
    number_format: NumberFormat = "float32"

    def with_(self, **changes: Any) -> Semantics:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def violations(self) -> Iterator[Violation]:
        """Yields why no spiking neuron can follow this rule; nothing where some can."""
        if self.spikes_per_step != 1 and self.reset not in ("subtract", "value"):
            yield Violation(
                "semantics-spikes",
                f"several spikes per step with reset {self.reset!r}",
                expected="reset 'subtract' or 'value', in the step of the spikes",
                hint="let a neuron spike once per step (spikes_per_step=1), or reset it in that step",
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Semantics:
        """The inverse of `to_json`; unknown keys raise TypeError."""
        return cls(**data)

    def differences(self, other: Semantics) -> dict[str, tuple[Any, Any]]:
        """The fields in which two semantics differ: name -> (here, there)."""
        return {
            f.name: (getattr(self, f.name), getattr(other, f.name))
            for f in fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        }


NIR_SEMANTICS = Semantics()
"""How snnir reads a NIR file: forward Euler, synapse first, strict comparison, reset to v_reset."""

ROCKPOOL_SEMANTICS = Semantics(
    decay="exponential",
    gain="unit",
    comparison=">=",
    reset="subtract",
    spikes_per_step=2**16,
    start="zero",
)
"""What Rockpool's layers do (LIFTorch, LIFNeuronTorch, ExpSynTorch): states decay by e^(-dt/tau), inputs add in full,
as many spikes as the threshold fits into the membrane (up to max_spikes_per_dt), each subtracting it."""
