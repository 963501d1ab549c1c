"""A graph as chips see it that know only neurons and weights: populations, and what is linear between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from snnir.discretise import Recurrence
from snnir.errors import Violation
from snnir.kernels import Kernel
from snnir.ops import Array, CubaLI, CubaLIF, Neuron, Shape, SpikingNeuron, Threshold


@dataclass(frozen=True, eq=False)
class Population:
    """An op of neurons: `size` of them, coefficients of one step as flat arrays (None while dt is not known).

    A Threshold is a neuron that keeps nothing.
    """

    name: str
    op: Neuron | Threshold
    shape: Shape
    rule: Recurrence | None

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def current_based(self) -> bool:
        """Whether it has a synaptic current of its own; otherwise input acts on the membrane at once."""
        return isinstance(self.op, (CubaLIF, CubaLI))


@dataclass(frozen=True, eq=False)
class Projection:
    """`weight` (sources, targets), float64, from an input or a population to a population or an output.

    `delay`: steps from a value at the source to its effect on the target, in the source network's own time. With a
    `kernel` it is a convolution, and `weight` holds nothing (0, 0); `why` says why it is what it is, where that was a
    choice.
    """

    source: str
    target: str
    delay: int
    weight: Array
    kernel: Kernel | None = None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Network:
    """A graph as populations and projections.

    Attributes:
        inputs: input name -> number of channels, in graph order.
        populations: op name -> population, in graph order.
        outputs: output name -> shape.
        projections: grouped by target, then source, then delay; none twice.
        constants: target name -> onset -> the constant (targets,) that arrives with every step from that one on. (The
            bias of an op behind a Delay comes late.)
        faults: why it could not be read completely.
        complete: whether there are projections; otherwise only sizes are known.
    """

    inputs: Mapping[str, int]
    populations: Mapping[str, Population]
    outputs: Mapping[str, Shape]
    projections: tuple[Projection, ...]
    constants: Mapping[str, Mapping[int, Array]]
    faults: tuple[Violation, ...]
    complete: bool

    @property
    def bias(self) -> dict[str, Array]:
        """Target name -> the constant (targets,) that arrives with every step in the end."""
        total = {name: sum(parts.values(), np.zeros(1)) for name, parts in self.constants.items()}
        return {name: value for name, value in total.items() if value.any()}

    def into(self, target: str) -> tuple[Projection, ...]:
        """The projections that end at `target`."""
        return tuple(p for p in self.projections if p.target == target)

    def size(self, name: str) -> int:
        """Channels of an input, or neurons of a population."""
        return self.inputs[name] if name in self.inputs else self.populations[name].size


@dataclass(frozen=True)
class Reading:
    """How a target wants to see networks.

    Attributes:
        prefix: of the rules that faults name.
        neurons: the ops that are populations; the chip's neurons can do them.
        room: what the chip holds, for networks whose matrices would be too large to look at.
        largest: elements of a matrix beyond which one is too large.
        kernels: whether projections may be kernels. "never": matrices, and nothing is read of a network that has
            populations too large for them. The others judge projection by projection: "matrix", matrices all; "conv",
            kernels wherever there is one; "auto", kernels where matrices are large.
        small: elements of a matrix beyond which "auto" prefers kernels between populations (from inputs, `largest`).
    """

    prefix: str
    neurons: tuple[type[Neuron | Threshold], ...] = (SpikingNeuron,)
    room: str = ""
    largest: int = 1 << 26
    kernels: Literal["never", "matrix", "auto", "conv"] = "never"
    small: int = 1 << 22
