"""A compiled network for Loihi: its integers, its files, and its way to run here, bit for bit as in Lava."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from snnir.backends.lava import host
from snnir.backends.lava.chip import ALIGN
from snnir.backends.lava.inputs import Code
from snnir.backends.lava.plan import Plan
from snnir.backends.lava.quantise import Quantised
from snnir.errors import UsageError
from snnir.graph import Graph
from snnir.ops import Array
from snnir.roundings import FloatModel
from snnir.simulators.loihi import LoihiRun, LoihiSpec, simulate


@dataclass(frozen=True, eq=False)
class LavaArtifact:
    """What the lava target makes of a graph.

    Attributes:
        graph: the network, after all passes.
        plan: its layout; cells: its neurons in integers; codes: of its inputs.
        spec: all integers together, for the simulator and for Lava.
        shown: input that travels with it, (T, 1, *shape) by name.
        report: what was decided and what it cost, as JSON data.
        netx: whether a netx file belongs to it.
        weight_bits: of its weights, sign included.
    """

    graph: Graph
    plan: Plan
    cells: Sequence[Quantised]
    codes: Mapping[str, Code]
    spec: LoihiSpec
    shown: Mapping[str, Array]
    report: Mapping[str, Any] = field(default_factory=dict)
    netx: bool = False
    weight_bits: int = 16
    vendor: ClassVar[str] = "Lava 0.10"  # what `run_vendor` runs in

    @property
    def latency(self) -> int:
        """Steps by which the (latest) outputs come later than the source network's."""
        return max((read.lag for read in self.plan.reads.values()), default=0)

    @property
    def lags(self) -> Mapping[str, int]:
        """Steps by which each population and each output comes later than the source network's."""
        return self.plan.lags

    def files(self) -> Mapping[str, bytes]:
        """`network.npz`, `input.npz`, `simulate.py` with the simulator, `run.py` for Lava, `host.py`, `README.md`."""
        from snnir.backends.lava.emit import files

        return files(self)

    def floats(self) -> FloatModel | None:
        """The network as it is laid out, in floats, with a list of its roundings to put into it."""
        from snnir.backends.lava.floats import LavaFloats

        return LavaFloats(self)

    def run(
        self, inputs: Mapping[str, Array], record: tuple[str, ...] = ()
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Runs in the bit-exact simulator, state at rest.

        Args:
            inputs: input name -> (T, B, *shape): spikes, or the numbers it was compiled for.
            record: names of populations (or of the source ops they were made from).

        Returns:
            Outputs (T, B, *shape) in the chip's own time (`lags` late), currents and membranes in the source's units;
            and spikes of the recorded populations, likewise.

        Raises:
            ValueError: an input is missing, or holds something else than spikes where it was compiled for them.
            UsageError: a recorded op that has no neurons on the chip.
        """
        names = {name: self._population(name) for name in record}
        return self._values(self.simulate(inputs), names)

    def run_vendor(
        self, inputs: Mapping[str, Array], record: tuple[str, ...] = ()
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """As `run`, in Lava itself: this artifact's `run.py` as a process of Lava's Python, one sample at a time.

        Raises:
            CompileError: there is no Lava here.
            LavaError: it failed.
        """
        from snnir.backends.lava.vendor import run_in_lava

        names = {name: self._population(name) for name in record}
        return self._values(run_in_lava(self.files(), inputs), names)

    def _values(self, run: LoihiRun, names: Mapping[str, str]) -> tuple[dict[str, Array], dict[str, Array]]:
        return self.outputs_of(run), {name: self.population(own, run) for name, own in names.items()}

    def simulate(self, inputs: Mapping[str, Array], record: bool = False) -> LoihiRun:
        """The simulator's own traces, by cell; `record` u and v in any case (else where an output reads them)."""
        encoded = host.encode([code.to_json() for code in self.codes.values()], inputs)
        numbers = any(read.trace != "spikes" for read in self.plan.reads.values())
        return simulate(self.spec, encoded, record=record or numbers)

    @property
    def outputs(self) -> tuple[list[dict[str, Any]], dict[str, Array]]:
        """How outputs are read, for `host.py`: descriptions and arrays."""
        scales = {q.cell.name: 1.0 / (ALIGN * q.scale) for q in self.cells}
        described: list[dict[str, Any]] = []
        arrays: dict[str, Array] = {}
        for k, (name, read) in enumerate(self.plan.reads.items()):
            described.append(
                {
                    "name": name,
                    "shape": list(self.plan.network.outputs[name]),
                    "trace": read.trace,
                    "cells": list(read.cells),
                    "lag": read.lag,
                }
            )
            per_cell = np.array([1.0 if read.trace == "spikes" else scales[cell] for cell in read.cells])
            arrays |= {
                f"reads.{k}.which": read.which,
                f"reads.{k}.index": read.index,
                f"reads.{k}.shift": read.shift,
                f"reads.{k}.scale": per_cell[read.which],
                f"reads.{k}.constant": np.asarray(read.constant),
            }
        return described, arrays

    def outputs_of(self, run: LoihiRun) -> dict[str, Array]:
        """Outputs (T, B, *shape) by name, in the source's units and the chip's own time."""
        traces = {"spikes": run.spikes, "u": run.u or {}, "v": run.v or {}}
        described, arrays = self.outputs
        return host.decode(described, arrays, host.integers(described, arrays, traces))

    @property
    def spiking(self) -> list[str]:
        """The cells that spike, in order, without the driver and relays."""
        return [c.name for c in self.plan.cells if c.trace == "spikes" and not c.driver and not c.relay]

    def population(self, name: str, run: LoihiRun) -> Array:
        """A population's spikes (T, B, *shape), put together from its cells."""
        cells = self.plan.cells_of(name)
        first = run.spikes[cells[0].name]
        shape = self.plan.network.populations[name].shape
        values = np.zeros((*first.shape[:2], int(np.prod(shape))))
        for cell in cells:
            values[:, :, cell.ids] = run.spikes[cell.name]
        return values.reshape(*first.shape[:2], *shape)

    def _population(self, name: str) -> str:
        there = {n for n in self.plan.network.populations if self.plan.cells_of(n)[0].trace == "spikes"}
        found = [name] if name in there else [n for n in there if name in self.graph.sources(n)]
        if len(found) != 1:
            raise UsageError(
                f"cannot record {name}: it is no population of spikes; there are {', '.join(sorted(there))}"
            )
        return found[0]
