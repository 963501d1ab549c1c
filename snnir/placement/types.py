"""What a placement is: which op runs where and why, what crosses, and the parts that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from snnir.graph import Graph

Side = Literal["chip", "host", "driver"]
"""'driver': Repeat and TemporalMean, which change what a step is; the script that runs the parts does them."""


@dataclass(frozen=True)
class Place:
    """Where an op runs, and why."""

    side: Side
    reason: str


@dataclass(frozen=True)
class Crossing:
    """A value that goes from one side to the other.

    Attributes:
        source: the op that gives it.
        kind: 'spikes' (0 or 1), 'counts' (whole numbers up to `most`), 'graded' (real numbers that become integers on
            the way in), or 'membranes' (states that the host reads).
        width: numbers per step.
        most: of counts and spikes; None for real numbers.
        to_chip: the way it goes.
    """

    source: str
    kind: str
    width: int
    most: int | None
    to_chip: bool


@dataclass(frozen=True, eq=False)
class Part:
    """A sub-network that runs on one side, over all steps of a call at once.

    Attributes:
        name: of its folder, e.g. '3-chip'.
        side: 'chip' or 'host'.
        graph: its inputs are called like the ops whose values they take; `gives` are its other ends.
        gives: op of the whole network -> the output of `graph` that hands it on.
        rate: steps per step of the network's inputs.
    """

    name: str
    side: Side
    graph: Graph
    gives: Mapping[str, str]
    rate: Fraction = Fraction(1)


@dataclass(frozen=True)
class Encode:
    """A Repeat or a TemporalMean, done between parts."""

    name: str
    kind: Literal["Repeat", "TemporalMean"]
    steps: int
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Placement:
    """A network cut into parts.

    Attributes:
        graph: the whole network.
        target, host: where the chip's and the host's parts go.
        places: op name -> where it runs, and why.
        steps: parts and encoders, in the order in which they run; none needs a later one.
        crossings: what goes from side to side.
        misfits: what could run on the chip but does not fit it: as JSON data.
    """

    graph: Graph
    target: str
    host: str
    places: Mapping[str, Place]
    steps: tuple[Part | Encode, ...]
    crossings: tuple[Crossing, ...] = ()
    misfits: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts alone."""
        return tuple(step for step in self.steps if isinstance(step, Part))

    @property
    def chips(self) -> tuple[Part, ...]:
        """The parts that run on the chip."""
        return tuple(part for part in self.parts if part.side == "chip")

    def __str__(self) -> str:
        from snnir.placement.describe import text

        return text(self)
