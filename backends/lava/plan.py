"""Where a network's neurons go on Loihi, and when: cells, wires between them, and what outputs are read from.

A *cell* is one Lava process of neurons: a population, or the part of one whose neurons share their decays (Lava's du
and dv are one number per process). Everything linear between two cells is one *wire*, a matrix or a convolution: it
takes one step, and holds its spikes back for as many more as it takes for values that belong together to meet
(`snnir.lags`). Lava's Conv cannot hold back: in front of one, *relays* hand spikes on, step by step.

A network starts when its first input reaches a cell: `lag` steps after the run does. Until then constants must not act.
Three ways, all exact:

- a cell's own bias, and a reset of the cell (Lava's `LIFReset`) in the very step in which the network's time begins
  there; spikes that the bias has caused before are spent by then;
- where they are not (a loop or a Delay brings spikes of earlier steps back) and for constants that go through a
  synaptic current: a *driver*, a neuron that spikes in every step, and wires from it that begin in time;
- what only an output adds, the host adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from snnir.backends.lava.chip import UNITY
from snnir.errors import Violation
from snnir.kernels import Geometry
from snnir.naming import apart
from snnir.ops import Array
from snnir.projections import Network

PART = "#"  # in the names of what is no op of the network: "lif#0" is a part of it, "#driver" the driver
RELAY = "~"  # in the names of cells that hand on the spikes of another: "conv1~2" runs two steps later
FORGET = UNITY - 1  # of du: a current that keeps nothing; of dv: a membrane that keeps a 4096th

Trace = Literal["spikes", "u", "v"]


def mark(sign: str, network: Network) -> str:
    """`sign`, repeated until no name of the network holds it: a name put together with it is no op's."""
    return apart(sign, (*network.inputs, *network.populations, *network.outputs))


@dataclass(frozen=True, eq=False)
class Cell:
    """Neurons of one process, in real numbers, in the source's units.

    Attributes:
        name: on the chip; source: the population's or output's name; ids: which of its neurons.
        trace: what leaves it: spikes, or for what never spikes the membrane v or the current u, which the host reads.
        decay, decay_syn: per step; du, dv: the integers for them.
        level: the value that the chip's 0 stands for (the reset's, or a readout's start).
        unit: thresholds above that level; 1 for what never spikes.
        gain: of what arrives, on the membrane or on the current.
        drive: constant of the membrane, relative to the level.
        lag: steps by which it runs late.
        relay: for what only hands on spikes: whose, and how many steps later. driver: whether it is the driver.
    """

    name: str
    source: str
    ids: Array
    trace: Trace
    decay: Array
    decay_syn: Array
    du: int
    dv: int
    level: Array
    unit: Array
    gain: Array
    drive: Array
    lag: int
    relay: tuple[str, int] | None = None
    driver: bool = False

    @property
    def size(self) -> int:
        return len(self.ids)

    @property
    def current_based(self) -> bool:
        return self.du != FORGET


@dataclass(frozen=True, eq=False)
class Wire:
    """`weight` (targets, sources), in thresholds of the target cell, from an input, a cell or the driver to a cell.

    With a `geometry` it is a convolution, and `weight` (channels out, channels in / groups, height, width) its kernels.
    `delay`: steps beyond the one that every connection takes. `source_delay`: steps that it takes in the source.
    `why`: why it is a matrix or a convolution, in words. `driven`: whether it comes from the driver.
    """

    source: str
    target: str
    weight: Array
    delay: int
    source_delay: int = 0
    geometry: Geometry | None = None
    why: str = ""
    driven: bool = False

    def apply(self, sent: Array) -> Array:
        """What arrives at the targets, (n, targets), for `sent` (n, sources)."""
        return sent @ self.weight.T if self.geometry is None else self.geometry.apply(self.weight, sent)

    def sums(self, weight: Array) -> Array:
        """What other weights of this shape give where everything sent is 1: (targets,)."""
        return np.asarray(weight.sum(axis=1) if self.geometry is None else self.geometry.sums(weight))

    def synapses(self, weight: Array) -> int:
        """The synapses that weights of this shape make."""
        return int(np.count_nonzero(weight)) if self.geometry is None else self.geometry.synapses(weight)


@dataclass(frozen=True, eq=False)
class Read:
    """What an output is: element e is `trace` of neuron `index[e]` of cell `cells[which[e]]`, `shift` steps before.

    `constant` is what the host adds, in the output's own unit.
    """

    cells: tuple[str, ...]
    which: Array
    index: Array
    shift: Array
    trace: Trace
    lag: int
    constant: Array


@dataclass(frozen=True, eq=False)
class Plan:
    """A network laid out for Loihi.

    Attributes:
        cells, wires, reads (by output).
        bias: cell -> constant per step, in thresholds, by its own bias.
        resets: cell -> the step (from 0) in which it is reset, because something may have happened before.
        lags: of populations and outputs.
        faults: what stands in the way; slow_loops: loops that take longer than in the source.
        notes: what is not exact, in words.
    """

    network: Network
    cells: tuple[Cell, ...] = ()
    wires: tuple[Wire, ...] = ()
    reads: Mapping[str, Read] = field(default_factory=dict)
    bias: Mapping[str, Array] = field(default_factory=dict)
    resets: Mapping[str, int] = field(default_factory=dict)
    lags: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Violation, ...] = ()
    slow_loops: tuple[Violation, ...] = ()
    notes: tuple[str, ...] = ()

    def cells_of(self, name: str) -> tuple[Cell, ...]:
        """The cells of a population or output."""
        return tuple(c for c in self.cells if c.source == name)

    @property
    def feeds_forward(self) -> bool:
        """Whether no spike acts on a later step of the source network than its own."""
        return all(w.source_delay == 0 for w in self.wires)
