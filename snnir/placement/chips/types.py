"""What a network spread over several chips is: the chips in their order, what is moved between them, and the cuts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnir.graph import Graph
from snnir.ops import Shape
from snnir.placement.types import Part
from snnir.target import Ports


@dataclass(frozen=True)
class Pick:
    """Spikes put where they are wanted: a slice of a value for a chip's channels, an output of neurons of two chips.

    Attributes:
        name: of the value that it makes. sources: the values that it takes from.
        index: for each of its elements, in flat order, the element of all sources laid behind one another.
        shape: of one step. delay: steps by which it comes later.
    """

    name: str
    sources: tuple[str, ...]
    index: tuple[int, ...]
    shape: Shape
    delay: int = 0


@dataclass(frozen=True)
class Cut:
    """Spikes that go from a chip to others.

    Attributes:
        value: the population, or the slice of one, that they are of.
        width: channels per step. source: the chip. targets: the chips that take it.
        several: neuron-steps of the shown input in which the network spikes more than once; one spike of them crosses.
    """

    value: str
    width: int
    source: str
    targets: tuple[str, ...]
    several: int = 0


@dataclass(frozen=True, eq=False)
class Spread:
    """A network on several chips.

    Attributes:
        graph: the whole network.
        target: the chips' target.
        steps: chips and picks, in the order in which they run; none needs a later one.
        places: op -> the chips that hold it (several where copies save a cut); none for inputs and outputs.
        cuts: what goes from chip to chip.
        single: why one chip does not run it as it is: violations as JSON data. One may still be enough, where it reads
            slices of what is too wide for its channels, or its neurons stand in another order in outputs.
        ports: what goes into a chip and out of it; None where nobody said.
    """

    graph: Graph
    target: str
    steps: tuple[Part | Pick, ...]
    places: Mapping[str, tuple[str, ...]]
    cuts: tuple[Cut, ...] = ()
    single: tuple[Mapping[str, Any], ...] = field(default=())
    ports: Ports | None = None

    @property
    def chips(self) -> tuple[Part, ...]:
        """The parts, one per chip."""
        return tuple(step for step in self.steps if isinstance(step, Part))

    @property
    def alone(self) -> bool:
        """Whether one chip runs the whole network as it is, and there is nothing to do around it."""
        return not self.single

    def __str__(self) -> str:
        from snnir.placement.chips.describe import text

        return text(self)
