"""NIR's neurons: the eight primitives that hold a membrane or a synaptic current.

The equations are NIR's own (Pedersen et al., Nat. Commun. 15:8122, 2024). They are continuous in time; how they
become one step of length dt is said by `snnir.semantics.Semantics`. Time constants are in seconds. A parameter is a
scalar or an array that broadcasts to the population's shape (no time, no batch axis).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from snnir.ops.base import Array, Op, Shape, ShapeError, default, known


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Neuron(Op):
    """What all neurons share: parameters that broadcast, positive time constants."""

    stateful: ClassVar[bool] = True
    time_constants: ClassVar[tuple[str, ...]] = ()

    @property
    def own_shape(self) -> Shape | None:
        """The population's shape as far as the parameters tell it; None when all are scalars."""
        shape = np.broadcast_shapes(*(getattr(self, name).shape for name in self.arrays))
        return shape or None

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving, own = known(shapes), self.own_shape
        if arriving is None:
            return own
        if own is None:
            return arriving
        try:
            joint = np.broadcast_shapes(arriving, own)
        except ValueError:
            joint = None
        if joint != arriving:
            raise ShapeError(f"parameters of shape {list(own)} do not fit an input of shape {list(arriving)}")
        return arriving

    def verify(self) -> Iterator[str]:
        yield from super().verify()
        try:
            np.broadcast_shapes(*(getattr(self, name).shape for name in self.arrays))
        except ValueError:
            shapes = ", ".join(f"{name} {list(getattr(self, name).shape)}" for name in self.arrays)
            yield f"parameter shapes do not fit one another: {shapes}"
        for name in self.time_constants:
            tau = getattr(self, name)
            if tau.size and not (tau > 0).all():
                yield f"{name} is {tau.min():.6g} s, expected a positive time in seconds"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class I(Neuron):  # noqa: E742 - NIR's own name
    """Integrator: dv/dt = r I; output v."""

    arrays: ClassVar[tuple[str, ...]] = ("r",)
    linear: ClassVar[bool] = True
    r: Array = default(1.0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LI(Neuron):
    """Leaky integrator: tau dv/dt = (v_leak - v) + r I; output v."""

    arrays: ClassVar[tuple[str, ...]] = ("tau", "r", "v_leak")
    time_constants: ClassVar[tuple[str, ...]] = ("tau",)
    linear: ClassVar[bool] = True
    tau: Array
    r: Array = default(1.0)
    v_leak: Array = default(0.0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CubaLI(Neuron):
    """Current-based leaky integrator: tau_syn di/dt = -i + w_in S; tau_mem dv/dt = (v_leak - v) + r i; output v."""

    arrays: ClassVar[tuple[str, ...]] = ("tau_syn", "tau_mem", "r", "v_leak", "w_in")
    time_constants: ClassVar[tuple[str, ...]] = ("tau_syn", "tau_mem")
    linear: ClassVar[bool] = True
    tau_syn: Array
    tau_mem: Array
    r: Array = default(1.0)
    v_leak: Array = default(0.0)
    w_in: Array = default(1.0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SpikingNeuron(Neuron):
    """A neuron with threshold and reset; output 1 at a spike, else 0."""

    spiking: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class IF(SpikingNeuron):
    """Integrate and fire: dv/dt = r I; spike when v passes v_threshold; then v becomes v_reset."""

    arrays: ClassVar[tuple[str, ...]] = ("r", "v_threshold", "v_reset")
    r: Array = default(1.0)
    v_threshold: Array
    v_reset: Array = default(0.0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LIF(SpikingNeuron):
    """Leaky integrate and fire: tau dv/dt = (v_leak - v) + r I; spike at v_threshold; then v becomes v_reset."""

    arrays: ClassVar[tuple[str, ...]] = ("tau", "r", "v_leak", "v_threshold", "v_reset")
    time_constants: ClassVar[tuple[str, ...]] = ("tau",)
    tau: Array
    r: Array = default(1.0)
    v_leak: Array = default(0.0)
    v_threshold: Array
    v_reset: Array = default(0.0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CubaLIF(SpikingNeuron):
    """Current-based LIF: tau_syn di/dt = -i + w_in S; tau_mem dv/dt = (v_leak - v) + r i; threshold, reset as LIF."""

    arrays: ClassVar[tuple[str, ...]] = (
        "tau_syn",
        "tau_mem",
        "r",
        "v_leak",
        "v_threshold",
        "v_reset",
        "w_in",
    )
    time_constants: ClassVar[tuple[str, ...]] = ("tau_syn", "tau_mem")
    tau_syn: Array
    tau_mem: Array
    r: Array = default(1.0)
    v_leak: Array = default(0.0)
    v_threshold: Array
    v_reset: Array = default(0.0)
    w_in: Array = default(1.0)
