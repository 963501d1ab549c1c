"""A network that is stepped by hand: for what waits, step by step, for the network itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snnir.simulators.loihi.bounds import current_bounds, largest_arrivals
from snnir.simulators.loihi.network import LoihiSpec
from snnir.simulators.loihi.neurons import Cells, aligned
from snnir.simulators.loihi.ranges import Array
from snnir.simulators.loihi.synapses import add, all_synapses


class LoihiSteps:
    """What `simulate` does, one step per call; all states start at 0.

    Args:
        spec: the network. batch: samples.
        largest: the largest magnitude that each input will hold.
    """

    def __init__(self, spec: LoihiSpec, batch: int, largest: Mapping[str, int]) -> None:
        self.spec = spec
        synapses = all_synapses(spec)
        arrivals = largest_arrivals(spec, synapses, dict(largest))
        currents = current_bounds(spec, arrivals)
        self.largest = dict(largest)
        self.wires = {n: [each.ready(self.largest.get(each.source, 1)) for each in s] for n, s in synapses.items()}
        self.cells = {
            p.name: Cells(p, batch, currents[p.name], float(arrivals[p.name].max())) for p in spec.populations
        }
        # The last steps of what is sent, the present one at the end; before the first step there is nothing.
        length = 2 + max((each.delay for group in self.wires.values() for each in group), default=0)
        self.sent = {n: np.zeros((length, batch, size), np.int32) for n, size in spec.inputs.items()}
        self.sent |= {p.name: np.zeros((length, batch, p.size), np.int8) for p in spec.populations}
        self.t = 0

    def step(self, inputs: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
        """One step of integers (B, size) by input: 'spikes', 'u' and 'v' by population, (B, N).

        Raises ValueError if an input holds more than was said.
        """
        for name, line in self.sent.items():
            line[:-1] = line[1:]
            if name in self.spec.inputs:
                line[-1] = inputs[name]
                most = int(np.abs(line[-1]).max(initial=0))
                if most > self.largest[name]:
                    raise ValueError(f"input {name!r} holds {most}, and {self.largest[name]} was the most")
        found: dict[str, dict[str, Array]] = {"spikes": {}, "u": {}, "v": {}}
        # Every connection takes a step, so that the order of populations does not matter.
        for name, cell in self.cells.items():
            line = self.sent[name]
            drive = np.zeros((1, *line.shape[1:]), np.int32)
            for each in self.wires[name]:
                add(each, drive, self.sent[each.source], len(line) - 1, len(line))
            quiet = np.empty(line.shape[1:], bool)
            cell.step(aligned(drive[0]), self.t, quiet)
            found["spikes"][name] = (~quiet).astype(np.int8)
            found["u"][name], found["v"][name] = cell.u.astype(np.int32), cell.v.astype(np.int32)
        for name, spikes in found["spikes"].items():
            self.sent[name][-1] = spikes
        self.t += 1
        return found
