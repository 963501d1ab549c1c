"""Running a network: populations in the order of their dependence, blocks of steps at a time where no cycle is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snnir.simulators.loihi.bounds import current_bounds, largest_arrivals
from snnir.simulators.loihi.network import LoihiSpec, Population
from snnir.simulators.loihi.neurons import Cells, aligned
from snnir.simulators.loihi.ranges import INT32, Array, integers, out_of
from snnir.simulators.loihi.synapses import add, all_synapses

_BLOCK = 2**17  # drives computed ahead at a time, in values


@dataclass(frozen=True, eq=False)
class LoihiRun:
    """What a run gave, by population, time first: `spikes` (T, B, N) int8, and if recorded `u` and `v` (T, B, N) int32.

    `u` and `v` are as after the step, so `v` is 0 where a neuron has fired.
    """

    spikes: Mapping[str, Array]
    u: Mapping[str, Array] | None = None
    v: Mapping[str, Array] | None = None


def simulate(spec: LoihiSpec, inputs: Mapping[str, Array], *, record: bool = False) -> LoihiRun:
    """Run `spec` on `inputs`, each (T, B, size) and integer (values, for graded connections); all states start at 0.

    Raises ValueError if an input is missing or unknown, is not integer, or its shape does not fit.
    """
    steps, batch = _checked(spec, inputs)
    spikes: dict[str, Array] = {name: np.asarray(inputs[name], np.int32) for name in spec.inputs}
    spikes |= {p.name: np.zeros((steps, batch, p.size), np.int8) for p in spec.populations}
    largest = {n: max(-int(spikes[n].min(initial=0)), int(spikes[n].max(initial=0))) for n in spec.inputs}
    synapses = all_synapses(spec)
    arrivals = largest_arrivals(spec, synapses, largest)
    currents = current_bounds(spec, arrivals)
    wires = {name: [each.ready(largest.get(each.source, 1)) for each in group] for name, group in synapses.items()}
    recorded: list[dict[str, Array]] = [
        {p.name: np.zeros((steps, batch, p.size), np.int32) for p in spec.populations if record} for _ in range(2)
    ]
    for together in _in_order(spec):
        cells = [Cells(p, batch, currents[p.name], float(arrivals[p.name].max())) for p in together]
        names = {p.name for p in together}
        length = max(1, _BLOCK // (batch * sum(p.size for p in together)))
        for start in range(0, steps, length):
            stop = min(start + length, steps)
            drives = [np.zeros((stop - start, batch, p.size), np.int32) for p in together]
            for population, drive in zip(together, drives, strict=True):
                for each in wires[population.name]:
                    if each.source not in names:
                        add(each, drive, spikes[each.source], start, stop)
            fired = [spikes[p.name].view(bool) for p in together]
            cyclic = [[each for each in wires[p.name] if each.source in names] for p in together]
            ready = [aligned(d) if not back else d for d, back in zip(drives, cyclic, strict=True)]
            for t in range(start, stop):
                for i, cell in enumerate(cells):
                    now, back = ready[i][t - start], cyclic[i]
                    if back:
                        for each in back:
                            add(each, now[None], spikes[each.source], t, t + 1)
                        now = aligned(now)
                    quiet = fired[i][t]
                    cell.step(now, t, quiet)
                    if back:
                        np.logical_not(quiet, out=quiet)
                    if record:
                        recorded[0][together[i].name][t] = cell.u
                        recorded[1][together[i].name][t] = cell.v
            for block, back in zip(fired, cyclic, strict=True):
                if not back:  # nobody has looked at them yet
                    np.logical_not(block[start:stop], out=block[start:stop])
    found = {p.name: spikes[p.name] for p in spec.populations}
    return LoihiRun(found, *recorded) if record else LoihiRun(found)


def _in_order(spec: LoihiSpec) -> list[list[Population]]:
    """Populations grouped so that whatever a group needs from outside is known before: cycles stay together."""
    index = {p.name: i for i, p in enumerate(spec.populations)}
    reaches = np.eye(len(index), dtype=bool)
    for connection in spec.connections:
        if connection.source in index:
            reaches[index[connection.source], index[connection.target]] = True
    for via in range(len(index)):
        reaches |= reaches[:, via, None] & reaches[via]
    groups: dict[tuple[int, ...], list[Population]] = {}
    for i, population in enumerate(spec.populations):
        cycle = tuple(np.flatnonzero(reaches[i] & reaches[:, i]).tolist())
        groups.setdefault(cycle, []).append(population)
    return [groups[cycle] for cycle in sorted(groups, key=lambda cycle: int(reaches[:, cycle[0]].sum()))]


def _checked(spec: LoihiSpec, inputs: Mapping[str, Array]) -> tuple[int, int]:
    problems = [f"there is no input {name!r}" for name in inputs if name not in spec.inputs]
    problems += [f"input {name!r} is missing" for name in spec.inputs if name not in inputs]
    if not spec.inputs:
        problems.append("a network without inputs has no length to run for")
    shape: tuple[int, ...] = (0, 0)
    for name, size in spec.inputs.items():
        values = integers(inputs.get(name, np.zeros((0, 0, size), int)))
        if values.ndim != 3 or values.shape[2] != size:
            problems.append(f"input {name!r} has shape {values.shape}, expected (steps, batch, {size})")
            continue
        if name in inputs and shape not in ((0, 0), values.shape[:2]):
            problems.append(f"input {name!r} has {values.shape[:2]} steps and samples, another has {shape}")
        shape = values.shape[:2] if name in inputs else shape
        problems += out_of(values, *INT32, f"input {name!r}")
    if problems:
        raise ValueError("cannot run: " + "; ".join(problems))
    return shape[0], shape[1]
