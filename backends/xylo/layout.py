"""Where a network's parts are on a chip: blocks of hidden neurons, output neurons, and the connections between ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from snnir.backends.xylo.chip import Chip
from snnir.errors import Violation
from snnir.ops import Array
from snnir.projections import Network
from snnir.semantics import Semantics

Matrix = Literal["in", "rec", "out"]
Kind = Literal["current", "direct", "relay", "driver", "starter"]


@dataclass(frozen=True)
class Block:
    """Hidden neurons with consecutive ids.

    Attributes:
        name: the population's, or the relayed source's with `~n` for the n-th relay (`~~n` where ops have a `~`).
        kind: 'current' CubaLIF neurons; 'direct' LIF and IF neurons; relays, drivers, starters (`parts`).
        first, size: ids.
        lag: steps by which its spikes come later than in the source network.
    """

    name: str
    kind: Kind
    size: int
    lag: int
    first: int = 0

    @property
    def ids(self) -> Array:
        return np.arange(self.first, self.first + self.size)


@dataclass(frozen=True, eq=False)
class Feed:
    """A projection on the chip: `weight` (sources, targets) in the source's units, between the ids `pre` and `post`."""

    matrix: Matrix
    target: str
    source: str
    pre: Array
    post: Array
    weight: Array
    delay: int


@dataclass(frozen=True, eq=False)
class Wire:
    """One-to-one connections from `pre` to `post`: into relays, or from drivers to the neurons that they bias."""

    matrix: Matrix
    target: str
    pre: Array
    post: Array


@dataclass(frozen=True, eq=False)
class Plan:
    """A network laid out on a chip.

    Attributes:
        blocks: hidden neurons in order of id.
        outputs: population -> first output neuron, for populations that are output neurons themselves.
        relayed: whether output neurons only repeat hidden neurons; then `tapped` holds those hidden ids, in order.
        reads: output name -> (population, neuron) of each of its elements.
        lags: population and output name -> steps late.
        input_delay: steps by which the host must hold back the input, for sources whose input takes a step itself.
        channels: input name -> first channel.
        feeds, relays, biases, starts: connections (biases: from drivers, starts: from starters).
        faults: what stands in the way of running it; sizes and most connections are there nevertheless.
        bent: the loops that run too slowly, where that is allowed.
    """

    chip: Chip
    network: Network
    semantics: Semantics
    blocks: tuple[Block, ...] = ()
    outputs: Mapping[str, int] = field(default_factory=dict)
    relayed: bool = False
    tapped: Array = field(default_factory=lambda: np.zeros(0, int))
    reads: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    lags: Mapping[str, int] = field(default_factory=dict)
    input_delay: int = 0
    channels: Mapping[str, int] = field(default_factory=dict)
    feeds: tuple[Feed, ...] = ()
    relays: tuple[Wire, ...] = ()
    biases: tuple[Wire, ...] = ()
    starts: tuple[Wire, ...] = ()
    faults: tuple[Violation, ...] = ()
    bent: tuple[Violation, ...] = ()

    @property
    def n_in(self) -> int:
        return sum(self.network.inputs.values())

    @property
    def n_hidden(self) -> int:
        return sum(block.size for block in self.blocks)

    @property
    def n_out(self) -> int:
        if self.relayed:
            return len(self.tapped)
        return sum(self.network.populations[name].size for name in self.outputs)

    @property
    def block_of(self) -> dict[str, Block]:
        return {block.name: block for block in self.blocks}

    def of_kind(self, kind: Kind) -> Block | None:
        """The drivers or the starters; None where there are none."""
        return next((block for block in self.blocks if block.kind == kind), None)

    @property
    def input_expansion(self) -> int:
        """How many hidden neurons, from the first, must be within reach of the inputs."""
        wires: list[Any] = [*self.feeds, *self.relays]
        posts = [wire.post for wire in wires if wire.matrix == "in"]
        return max((int(post.max()) + 1 for post in posts if len(post)), default=0)

    @property
    def output_expansion(self) -> int:
        """How many hidden neurons, to the last, must be within reach of the outputs."""
        wires: list[Any] = [*self.feeds, *self.biases]
        pres = [wire.pre for wire in wires if wire.matrix == "out"]
        pres += [self.tapped] if self.relayed else []
        return max((self.n_hidden - int(pre.min()) for pre in pres if len(pre)), default=0)

    def fan_out(self) -> Array:
        """Distinct hidden targets of every hidden neuron."""
        reached = np.zeros((self.n_hidden, self.n_hidden), bool)
        for feed in self.feeds:
            if feed.matrix == "rec":
                reached[np.ix_(feed.pre, feed.post)] |= feed.weight != 0
        for wire in (*self.relays, *self.biases, *self.starts):
            if wire.matrix == "rec":
                reached[wire.pre, wire.post] = True
        drivers, starters = self.of_kind("driver"), self.of_kind("starter")
        if drivers and starters:
            reached[drivers.ids, starters.ids] = True
        own = [block.ids for block in self.blocks if block.kind in ("direct", "relay", "starter")]
        for ids in own:  # they take back their own spikes
            reached[ids, ids] = True
        return reached.sum(axis=1)
