"""What a placement is: which op runs where and why, what crosses, and the parts that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from snnir.graph import Graph
from snnir.ops import Array

if TYPE_CHECKING:
    from snnir.placement.chips.types import Spread

Side = Literal["chip", "host", "driver"]
"""'driver': what the script that runs the parts does: Repeat and TemporalMean, which change what a step is; and the
Delays of a loop that lies on both sides."""


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
class Hold:
    """A value that waits between the parts of a loop.

    Attributes:
        name: under which parts read it: a Delay's own, or that of an edge that is late in the network.
        sources: what is added up and held.
        steps: how long, whole steps from 1 on; of the value's shape.
        rest: the op whose value before the first step is the first that comes; '' for 0.
    """

    name: str
    sources: tuple[str, ...]
    steps: Array
    rest: str = ""


@dataclass(frozen=True, eq=False)
class Loop:
    """Parts on both sides that wait for one another: they run step by step, each keeping its state.

    Attributes:
        name: e.g. 'loop-0'.
        parts: each makes a step as soon as what it reads is known.
        holds: what comes round.
        members: the ops of the cycle.
    """

    name: str
    parts: tuple[Part, ...]
    holds: tuple[Hold, ...]
    members: frozenset[str]

    @property
    def given(self) -> frozenset[str]:
        """The names of all values that are made within: by parts, and by holds."""
        return frozenset({n for part in self.parts for n in part.gives} | {hold.name for hold in self.holds})

    def means(self, name: str) -> str:
        """The op whose value it is, where `name` is an op's or a hold's."""
        return next((hold.rest for hold in self.holds if hold.name == name and hold.rest), name)


@dataclass(frozen=True, eq=False)
class Placement:
    """A network cut into parts.

    Attributes:
        graph: the whole network.
        target, host: where the chip's and the host's parts go.
        places: op name -> where it runs, and why.
        steps: parts, encoders and loops, in the order in which they run; none needs a later one.
        crossings: what goes from side to side.
        misfits: what could run on the chip but does not fit it: as JSON data.
        moved: what left the chip because of rules that only integers show, round by round: as JSON data.
        spreads: chip part that no chip runs as it is -> what of it is on which: several chips, or one of which the
            script does the slices.
    """

    graph: Graph
    target: str
    host: str
    places: Mapping[str, Place]
    steps: tuple[Part | Encode | Loop, ...]
    crossings: tuple[Crossing, ...] = ()
    misfits: tuple[Mapping[str, Any], ...] = field(default=())
    moved: tuple[Mapping[str, Any], ...] = field(default=())
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts alone, those of loops too."""
        return parts_of(self.steps)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """The loops that lie on both sides."""
        return tuple(step for step in self.steps if isinstance(step, Loop))

    def means(self, name: str) -> str:
        """The op whose value a part reads under `name`."""
        return next((loop.means(name) for loop in self.loops if loop.means(name) != name), name)

    @property
    def chips(self) -> tuple[Part, ...]:
        """The parts that run on the chip."""
        return tuple(part for part in self.parts if part.side == "chip")

    def __str__(self) -> str:
        from snnir.placement.describe import text

        return text(self)


def parts_of(steps: Iterable[Part | Encode | Loop]) -> tuple[Part, ...]:
    """The parts among them, in running order."""
    found: list[Part] = []
    for step in steps:
        found += step.parts if isinstance(step, Loop) else [step] if isinstance(step, Part) else []
    return tuple(found)
