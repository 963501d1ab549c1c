"""A compiled network for Xylo: its specification, its files, and its way to run here, bit for bit as on the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnir.backends.xylo.chip import MAX_EVENTS
from snnir.backends.xylo.layout import Plan
from snnir.backends.xylo.quantise import Cells
from snnir.errors import UsageError
from snnir.graph import Graph
from snnir.ops import Array
from snnir.roundings import FloatModel
from snnir.simulators.xylo import XyloSpec, simulate


@dataclass(frozen=True, eq=False)
class XyloArtifact:
    """What the Xylo targets make of a graph.

    Attributes:
        graph: the network, after all passes.
        plan: where its neurons are; spec: the chip's integers.
        report: what was decided and what it cost, as JSON data.
        cells: the populations in integers, beside what they stand for.
    """

    graph: Graph
    plan: Plan
    spec: XyloSpec
    report: Mapping[str, Any]
    cells: Mapping[str, Cells] = field(default_factory=dict)

    @property
    def latency(self) -> int:
        """Steps by which the (latest) outputs come later than the source network's."""
        return max((self.lags[name] for name in self.plan.network.outputs), default=0)

    @property
    def lags(self) -> Mapping[str, int]:
        """Steps by which each population's and each output's spikes come later than the source network's."""
        return self.plan.lags

    def files(self) -> Mapping[str, bytes]:
        """`xylo.npz`, `xylo.json`, `run.py` and its simulator, `samna_config.py`; with samna also its configuration.

        For a denoising network also `sample.py` with the host's part: `host.json`, `diffusion_host.py`.
        """
        from snnir.backends.xylo.emit import files

        return files(self)

    def floats(self) -> FloatModel | None:
        """The network as it is laid out, in floats, with a list of the chip's roundings to put into it.

        None where the chip runs at another time step (`choose_dt`): then nothing is comparable step by step.
        """
        from snnir.backends.xylo.floats import XyloFloats

        return XyloFloats(self) if self.report["time"]["dt"] == self.report["time"]["network_dt"] else None

    def run(
        self, inputs: Mapping[str, Array], record: tuple[str, ...] = ()
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Runs in the bit-exact simulator, state at rest.

        Args:
            inputs: input name -> (T, B, *shape), whole numbers of 0 to 15 events.
            record: names of populations (or of the source ops they were made from).

        Returns:
            Spikes (T, B, *shape) by output name, in the chip's own time (`lags` late); and spike counts of the
            recorded populations, likewise.

        Raises:
            ValueError: an input that is not events.
            UsageError: a recorded op that has no neurons on the chip.
        """
        names = {name: self._population(name) for name in record}
        events = as_events(self.plan, inputs)
        run = simulate(self.spec, events, record=bool(names))
        outputs = {name: self._output(name, run.spikes) for name in self.plan.network.outputs}
        recorded = {name: self._recorded(own, run.spikes, run.spikes_hidden) for name, own in names.items()}
        return outputs, recorded

    def watched(self) -> dict[str, dict[str, list[int]]]:
        """Output name -> the neurons whose spikes it may not have all: output neurons give one per step.

        `{"hidden": ids}` for those that output neurons repeat, `{"output": ids}` where they are output neurons; these
        only if the network lets them spike several times in a step, since else it waits as the chip does.
        """
        found: dict[str, dict[str, list[int]]] = {}
        for name in self.plan.network.outputs:
            ids = self.output_ids(name)
            if self.plan.relayed:
                found[name] = {"hidden": self.plan.tapped[ids].tolist()}
            elif self.plan.semantics.spikes_per_step != 1:  # None: as many as there are
                found[name] = {"output": ids.tolist()}
        return found

    def run_watched(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, int]]:
        """As `run`; and by output name, in how many neuron-steps a `watched` neuron had more than one spike."""
        run = simulate(self.spec, as_events(self.plan, inputs), record=True)
        assert run.spikes_hidden is not None and run.v_out is not None  # noqa: PT018 - recorded
        more = (run.v_out >= self.spec.threshold_out) & (run.spikes > 0)
        several: dict[str, int] = {}
        for name, neurons in self.watched().items():
            if "hidden" in neurons:
                several[name] = int((run.spikes_hidden[:, :, neurons["hidden"]] > 1).sum())
            else:
                several[name] = int(more[:, :, neurons["output"]].sum())
        return {name: self._output(name, run.spikes) for name in self.plan.network.outputs}, several

    def output_ids(self, name: str) -> Array:
        """The output neuron of each element of an output, in its flat order."""
        reads = self.plan.reads[name]
        if not self.plan.relayed:
            return np.array([self.plan.outputs[population] + index for population, index in reads], int)
        place = self.plan.block_of
        position = {int(n): k for k, n in enumerate(self.plan.tapped)}
        return np.array([position[place[population].first + index] for population, index in reads], int)

    def _output(self, name: str, spikes: Array) -> Array:
        steps, batch = spikes.shape[:2]
        chosen = spikes[:, :, self.output_ids(name)].astype(np.float64)
        return chosen.reshape(steps, batch, *self.plan.network.outputs[name])

    def _recorded(self, name: str, spikes: Array, hidden: Array | None) -> Array:
        population = self.plan.network.populations[name]
        if name in self.plan.outputs:
            first = self.plan.outputs[name]
            values = spikes[:, :, first : first + population.size]
        else:
            assert hidden is not None
            values = hidden[:, :, self.plan.block_of[name].ids]
        return values.astype(np.float64).reshape(*values.shape[:2], *population.shape)

    def _population(self, name: str) -> str:
        populations = self.plan.network.populations
        if name in populations:
            return name
        found = [own for own in populations if name in self.graph.sources(own)]
        if len(found) != 1:
            there = ", ".join(populations)
            raise UsageError(f"cannot record {name}: it is no population of the chip; there are {there}")
        return found[0]


def as_events(plan: Plan, inputs: Mapping[str, Array], clip: bool = False) -> Array:
    """Events (T, B, channels) for the chip, held back as long as the plan asks for.

    Raises:
        ValueError: an input is missing, or holds something else than 0 to 15 events.
    """
    missing = [name for name in plan.network.inputs if name not in inputs]
    if missing:
        raise ValueError(f"no values for the input {', '.join(missing)}")
    parts: list[Array] = []
    for name, size in plan.network.inputs.items():
        x = np.asarray(inputs[name])
        x = np.minimum(x, MAX_EVENTS) if clip else x
        wrong = (x < 0) | (x > MAX_EVENTS) | (x != np.rint(x))
        if wrong.any():
            where = [int(i) for i in np.argwhere(wrong)[0]]
            value = x[tuple(where)]
            raise ValueError(f"input {name} holds {value:g} at {where}; Xylo takes whole numbers of 0 to 15 events")
        parts.append(x.reshape(*x.shape[:2], size).astype(np.int64))
    events = np.concatenate(parts, axis=2)
    if not plan.input_delay:
        return events
    held = np.zeros_like(events)
    held[plan.input_delay :] = events[: len(events) - plan.input_delay]
    return held
