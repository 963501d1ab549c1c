"""Layers along the time axis of (T, B, *shape): encoder, decoder, delay, and feedback."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snnir import ops
from snnir.discretise import delay_steps
from snnir.nn.base import Neuron, Parameter, array, store
from snnir.nn.dynamics import Value
from snnir.nn.source import caller
from snnir.semantics import Semantics


class Repeat(nn.Module):
    """Linear encoder: every step becomes `steps` equal steps; (T, B, *shape) -> (T * steps, B, *shape)."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.made_at = caller()
        self.steps = _positive(steps)

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.steps, dim=0)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class TemporalMean(nn.Module):
    """Linear decoder: every `steps` steps become one, their mean; (T, B, *shape) -> (T / steps, B, *shape)."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.made_at = caller()
        self.steps = _positive(steps)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] % self.steps:
            raise ValueError(f"{x.shape[0]} steps do not divide into means over {self.steps}")
        return x.unflatten(0, (-1, self.steps)).mean(dim=1)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class Delay(nn.Module):
    """y(t) = x(t - delay), 0 before anything arrived. delay: seconds, broadcasts to the shape of a sample.

    Delays must be whole numbers of steps (to within 1e-3 of a step).
    """

    delay: Value

    def __init__(self, delay: Parameter, *, dt: float | None = None) -> None:
        super().__init__()
        self.made_at = caller()
        self.dt = dt
        store(self, "delay", delay, learned=False)
        faults = list(self.to_op().verify())
        if faults:
            raise ValueError(f"Delay: {'; '.join(faults)}")

    def to_op(self) -> ops.Delay:
        """The op of the graph that this layer is."""
        return ops.Delay(delay=array(self.delay))

    def forward(self, x: Tensor) -> Tensor:
        if self.dt is None:
            raise ValueError("Delay does not know its time step: give it dt=... (seconds)")
        steps = torch.as_tensor(delay_steps(self.to_op(), Semantics(dt=self.dt)), device=x.device)
        now = torch.arange(x.shape[0], device=x.device).reshape(-1, *[1] * (x.dim() - 1))
        source = now - steps
        there = (source >= 0).expand_as(x)
        return torch.where(there, x.gather(0, source.clamp(min=0).expand_as(x)), 0)

    def extra_repr(self) -> str:
        shown = f"{list(self.delay.shape)}" if isinstance(self.delay, Tensor) else f"{self.delay:g}"
        return f"{shown}, dt={self.dt}"


class Recurrent(nn.Module):
    """A neuron layer with feedback, one step late: y[t] = neuron(x[t] + connection(y[t - 1])).

    Before the first step y is the neuron's output at rest (no spike), which the connection sees: its bias is delivered
    at step 0 already.

    Args:
        neuron: a layer of `snnir.nn.neurons`.
        connection: a layer without memory over (T, B, *shape), e.g. `Linear` or `snnir.nn.Conv2d`; its output has the
            shape of its input.
    """

    def __init__(self, neuron: Neuron, connection: nn.Module) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):
            raise ValueError(f"neuron is a {type(neuron).__name__}, expected a neuron layer of snnir.nn")
        memory = [m for m in connection.modules() if isinstance(m, (Neuron, Recurrent, Delay, Repeat, TemporalMean))]
        if memory:
            raise ValueError(f"the connection holds a {type(memory[0]).__name__}, expected layers without memory")
        self.made_at = caller()
        self.neuron = neuron
        self.connection = connection

    def forward(self, x: Tensor) -> Tensor:
        """x (T, B, *shape) -> (T, B, *shape)."""
        x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        c = self.neuron.coefficients(x)
        y, state = self.neuron.rest(c, x[0])
        outputs: list[Tensor] = []
        for current in x.unbind(0):
            y, state = self.neuron.step(current + self.connection(y.unsqueeze(0)).squeeze(0), state, c)
            outputs.append(y)
        return torch.stack(outputs)


def _positive(steps: Any) -> int:
    if steps != int(steps) or steps < 1:
        raise ValueError(f"steps is {steps}, expected a whole number of at least 1")
    return int(steps)
