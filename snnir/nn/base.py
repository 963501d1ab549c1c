"""What all neuron layers share: parameters, the rule of a step, running over time and by single steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from snnir import ops
from snnir.nn.dynamics import Coefficients, Firing, State, Value, coefficients, run, step
from snnir.nn.source import caller
from snnir.nn.surrogate import Surrogate
from snnir.semantics import Comparison, Decay, Gain, Reset, Semantics

Parameter = float | Tensor | np.ndarray[Any, np.dtype[Any]]


class Neuron(nn.Module):
    """A population of neurons of one kind.

    Attributes:
        op_type: the op of the graph that this layer is.
        dt: length of a step in seconds; None until somebody says it (`set_dt`, or the compiler's `dt`).
        semantics: the rule of a step, without dt.
    """

    op_type: ClassVar[type[ops.Neuron]]

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        dt: float | None,
        semantics: Semantics,
        learn: Iterable[str] = (),
        firing: Firing | None = None,
    ) -> None:
        super().__init__()
        if dt is not None and not dt > 0:
            raise ValueError(f"dt is {dt} s, expected a positive time in seconds")
        self.dt = dt
        self.semantics = semantics
        self.firing = firing
        self.made_at = caller()
        learned = (learn,) if isinstance(learn, str) else tuple(learn)
        for name in learned:
            if name not in parameters:
                raise ValueError(f"cannot learn {name!r}; {type(self).__name__} has {', '.join(parameters)}")
        for name, value in parameters.items():
            store(self, name, value, learned=name in learned)
        faults = list(self.to_op().verify())
        if faults:
            raise ValueError(f"{type(self).__name__}: {'; '.join(faults)}")

    def to_op(self) -> ops.Neuron:
        """The op of the graph that this layer is: its parameters copied, numbers as 0-d float64 arrays.

        How it learns (surrogate gradient, detached reset) is metadata: emitted modules learn in the same way.
        """
        fields: dict[str, Any] = {name: array(getattr(self, name)) for name in self.op_type.arrays}
        return self.op_type(**fields, metadata=self.learning())

    def learning(self) -> dict[str, Any]:
        """How the layer learns, as metadata of an op; empty where it does not spike.

        A surrogate of your own is there by its class alone, which no target knows: `snnir train` refuses it.
        """
        if self.firing is None:
            return {}
        surrogate, said = self.firing.surrogate, {"detach_reset": self.firing.detach_reset}
        if not surrogate.kernel:
            return {"surrogate": type(surrogate).__name__, **said}
        (parameter,) = astuple(surrogate)
        return {"surrogate": surrogate.kernel, "surrogate_param": float(parameter), **said}

    def coefficients(self, like: Tensor) -> Coefficients:
        """The recurrence of one step in the dtype of `like`.

        Raises:
            ValueError: nobody has said the time step.
        """
        if self.dt is None:
            what = f"{type(self).__name__} does not know its time step"
            raise ValueError(f"{what}: give it dt=... (seconds), or snnir.nn.set_dt(model, dt)")
        parameters = {name: getattr(self, name) for name in self.op_type.arrays}
        return coefficients(parameters, self.semantics, self.dt).to(like)

    def forward(self, x: Tensor) -> Tensor:
        """x (T, B, *shape), currents or spikes -> (T, B, *shape): spikes 0 or 1, or membranes of a leaky integrator."""
        if x.dim() < 3:
            raise ValueError(f"{type(self).__name__} takes (T, B, *shape), but {list(x.shape)} arrives")
        x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        return run(x, self.coefficients(x), self.firing)

    def rest(self, c: Coefficients, like: Tensor) -> tuple[Tensor, State]:
        """What the layer puts out before the first step, shaped like `like` (B, *shape), and its state then."""
        silent = torch.zeros_like(like)
        return silent if self.firing is not None else silent + c.start, (c.start, 0.0)

    def step(self, x: Tensor, state: State, c: Coefficients) -> tuple[Tensor, State]:
        """One step of x (B, *shape): the output and the new state. `rest` gives the first state."""
        return step(x, state, c, self.firing)

    def extra_repr(self) -> str:
        shown = [f"{name}={_brief(getattr(self, name))}" for name in self.op_type.arrays]
        shown.append(f"dt={self.dt}")
        shown += [f"{name}={value!r}" for name, (_, value) in Semantics().differences(self.semantics).items()]
        if self.firing is not None:
            shown.append(f"surrogate={self.firing.surrogate}")
        return ", ".join(shown)


class LeakyIntegrator(Neuron):
    """What LI and CubaLI share: no spikes, so no reset and no comparison."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        dt: float | None,
        decay: Decay,
        gain: Gain,
        learn: Iterable[str],
    ) -> None:
        super().__init__(parameters, dt, rule(decay=decay, gain=gain), learn)


class SpikingNeuron(Neuron):
    """What IF, LIF and CubaLIF share."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        *,
        dt: float | None,
        reset: Reset,
        comparison: Comparison,
        decay: Decay,
        gain: Gain,
        detach_reset: bool,
        surrogate: Surrogate,
        learn: Iterable[str],
    ) -> None:
        semantics = rule(reset=reset, comparison=comparison, decay=decay, gain=gain)
        firing = Firing(reset == "subtract", comparison == ">=", detach_reset, surrogate)
        super().__init__(parameters, dt, semantics, learn, firing)


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "reset": ("value", "subtract"),
    "comparison": (">", ">="),
    "decay": ("euler", "exponential"),
    "gain": ("ode", "unit"),
}


def rule(**fields: Any) -> Semantics:
    """The semantics with the given fields; ValueError names a value that does not exist."""
    for name, value in fields.items():
        if value not in _CHOICES[name]:
            raise ValueError(f"{name} is {value!r}, expected {' or '.join(map(repr, _CHOICES[name]))}")
    return Semantics(**fields)


def store(module: nn.Module, name: str, value: Parameter, learned: bool) -> None:
    """Keeps a parameter as an nn.Parameter, a buffer or a float."""
    if not learned and not isinstance(value, Tensor) and np.ndim(value) == 0:
        setattr(module, name, float(value))
        return
    tensor = torch.as_tensor(value).detach().clone()
    if learned or not tensor.is_floating_point():  # buffers keep the precision they are given in
        tensor = tensor.to(torch.get_default_dtype())
    if learned:
        module.register_parameter(name, nn.Parameter(tensor))
    else:
        module.register_buffer(name, tensor)


def array(value: Value) -> ops.Array:
    """A parameter as an array of its own."""
    return value.detach().cpu().numpy().copy() if isinstance(value, Tensor) else np.asarray(value)


def _brief(value: Value) -> str:
    return f"tensor{list(value.shape)}" if isinstance(value, Tensor) else f"{value:g}"


def number(value: Parameter) -> Any:
    """A parameter as it is, plain numbers as float."""
    return value if isinstance(value, (Tensor, np.ndarray)) else float(value)


def set_dt(module: nn.Module, dt: float) -> nn.Module:
    """Gives every layer of `module` that has a time step the step length `dt` in seconds; returns the module."""
    if not 0 < dt < float("inf"):
        raise ValueError(f"dt is {dt} s, expected a positive time in seconds")
    for layer in module.modules():
        if type(layer).__module__.startswith("snnir.nn.") and "dt" in vars(layer):
            vars(layer)["dt"] = dt
    return module
