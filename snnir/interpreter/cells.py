"""The meaning of every op with state: neurons and delays, one step at a time over the batch."""

from __future__ import annotations

import numpy as np

from snnir.discretise import delay_steps, recurrence
from snnir.errors import CompileError
from snnir.ops import Array, Delay, Neuron, Shape
from snnir.semantics import Semantics


class NeuronCell:
    """A population under one semantics. State: `v` and, for current-based neurons, `i`, each (B, *shape)."""

    def __init__(self, op: Neuron, semantics: Semantics, batch: int, shape: Shape, dtype: np.dtype) -> None:
        rule = recurrence(op, semantics)
        self.semantics = semantics
        self.decay, self.gain, self.drive = (a.astype(dtype) for a in (rule.decay, rule.gain, rule.drive))
        self.current_based = rule.decay_syn is not None and rule.gain_syn is not None
        if rule.decay_syn is not None and rule.gain_syn is not None:
            self.decay_syn, self.gain_syn = rule.decay_syn.astype(dtype), rule.gain_syn.astype(dtype)
        self.threshold = None if rule.threshold is None else rule.threshold.astype(dtype)
        self.v_reset = np.zeros(()) if rule.v_reset is None else rule.v_reset.astype(dtype)
        self.v = np.broadcast_to(rule.start.astype(dtype), (batch, *shape)).copy()
        self.i = np.zeros((batch, *shape), dtype)
        self.late_spikes = np.zeros((batch, *shape), dtype=bool)
        faults = list(semantics.violations()) if op.spiking else []
        if faults:
            raise CompileError(faults, title="error")

    @property
    def rest(self) -> Array:
        """The output before the first step: no spike, or the membrane's start."""
        return np.zeros_like(self.v) if self.threshold is not None else self.v.copy()

    def step(self, x: Array) -> Array:
        """Advances by one step of input x (B, *shape) and returns the output."""
        s = self.semantics
        if self.current_based:
            before, self.i = self.i, self.decay_syn * self.i + self.gain_syn * x
            x = self.i if s.order == "synapse-first" else before
        if s.reset == "delayed-value" and not self.current_based:
            self._to_reset(self.late_spikes)  # snn.Leaky's order: the input of the step counts
        self.v = self.decay * self.v + self.gain * x + self.drive
        if self.threshold is None:
            return self._floored().copy()
        if s.reset in ("delayed-subtract", "held-subtract"):
            self.v = self.v - self.late_spikes * self.threshold
        elif s.reset == "delayed-value" and self.current_based:
            self._to_reset(self.late_spikes)  # snn.Synaptic's: it is lost
        self._floored()
        fired = self._above()
        if s.spikes_per_step != 1:
            return self._several(fired)
        if s.reset == "value":
            self._to_reset(fired)
        elif s.reset == "subtract":
            self.v = self.v - fired * self.threshold
        elif s.reset == "held-subtract":
            # What the step has taken off already for a membrane that was left above the threshold counts.
            self.v = self.v - (fired.astype(self.v.dtype) - self.late_spikes) * self.threshold
        self.late_spikes = self._above() if s.reset == "held-subtract" else fired
        return fired.astype(self.v.dtype)

    def _above(self) -> Array:
        above: Array = self.v > self.threshold if self.semantics.comparison == ">" else self.v >= self.threshold
        return above

    def _to_reset(self, where: Array) -> None:
        self.v = np.where(where, self.v_reset, self.v).astype(self.v.dtype, copy=False)

    def _floored(self) -> Array:
        if self.semantics.membrane_floor is not None:
            np.maximum(self.v, self.semantics.membrane_floor, out=self.v)
        return self.v

    def _several(self, fired: Array) -> Array:
        """As many spikes as the threshold fits into the membrane, up to the limit.

        Each subtracts it once; with reset 'value' the membrane is reset behind them all.
        """
        ratio = self.v / self.threshold
        count = np.ceil(ratio) - 1 if self.semantics.comparison == ">" else np.floor(ratio)
        count = np.where(fired, np.maximum(count, 1), 0)
        if self.semantics.spikes_per_step is not None:
            count = np.minimum(count, self.semantics.spikes_per_step)
        if self.semantics.reset == "value":
            self._to_reset(fired)
        else:
            self.v = (self.v - count * self.threshold).astype(self.v.dtype, copy=False)
        return count.astype(self.v.dtype)


class DelayCell:
    """A line of past values; each element is read its own number of steps back."""

    def __init__(self, op: Delay, semantics: Semantics, batch: int, shape: Shape, dtype: np.dtype) -> None:
        self.steps = np.broadcast_to(delay_steps(op, semantics), shape)
        length = int(self.steps.max(initial=0)) + 1
        self.line = np.zeros((length, batch, *shape), dtype)
        self.now = 0

    @property
    def rest(self) -> Array:
        """The output before the first step."""
        return np.zeros_like(self.line[0])

    def step(self, x: Array) -> Array:
        """Takes in x (B, *shape) and returns what each element was `delay` ago."""
        length = self.line.shape[0]
        self.line[self.now] = x
        where = (self.now - self.steps) % length
        y = np.take_along_axis(self.line, where[None, None], axis=0)[0]
        self.now = (self.now + 1) % length
        return y
