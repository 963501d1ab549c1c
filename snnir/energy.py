"""What an inference takes: synaptic operations, neuron updates, energy at 45 nm; for a diffusion model, an image too.

The counting rules are those of `snnir.cost` and, beside them, the FSDDIM authors' (`snnir.operations`). Energy is of
arithmetic alone, on 32-bit floats in 45 nm CMOS: 4.6 pJ per MAC and 0.9 pJ per AC (Horowitz, ISSCC 2014, figure 1.1.9:
multiplication 3.7 pJ, addition 0.9 pJ). Memory accesses, which cost more on most machines, clocks and leakage are none
of it. Neuron updates stand apart: an addition each, and a multiplication for the leak where there was no spike. So do
ops without synapses (`snnir.arithmetic`): their additions and multiplications have the same prices, and exponentials,
divisions and roots, for which the figure has none, are counted without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from snnir import ops
from snnir.activity import Activity, measure, pace
from snnir.arithmetic import Arithmetic, others_by_op
from snnir.graph import Graph
from snnir.operations import AC_JOULES, MAC_JOULES, ImageCost, Operations, by_op, per_image
from snnir.ops import Array

SOURCE = "45 nm CMOS, 32-bit floats: Horowitz, ISSCC 2014"
CALLS = 50
MEASURED_CALLS, MEASURED_IMAGES = 10, 2
Run = Callable[..., tuple[Any, Mapping[str, Array]]]


@dataclass(frozen=True)
class Activities:
    """What the ops of a graph sent in a run, and what run that was.

    Attributes:
        activity: mean over steps and samples.
        steps: of the input, per inference.
        origin: the run in words.
        calls: inferences per image, for a denoising network; None for any other.
        inputs: (T, B, *shape) by input name: one that was run, for whoever runs it again.
    """

    activity: Activity
    steps: int
    origin: str
    calls: int | None
    inputs: Mapping[str, Array]


@dataclass(frozen=True)
class OpEnergy:
    """One op's share of an inference.

    Attributes:
        name, kind: of the op.
        rate: mean events per element and step that it sends; None where it sends numbers, or nobody needed to know.
        operations: synaptic operations.
        updates: neurons times steps.
        other: what it computes beside synapses and neurons.
    """

    name: str
    kind: str
    rate: float | None
    operations: Operations
    updates: float
    other: Arithmetic = Arithmetic()

    @property
    def priced(self) -> Operations:
        """Synaptic operations, and what of the other ones has a price."""
        return self.operations + priced(self.other)


@dataclass(frozen=True)
class Energy:
    """What an inference takes.

    Attributes:
        rows: one per op, in graph order.
        steps, origin, calls: as in `Activities`.
        inference: the whole, by both rules.
        rate: mean spikes per neuron and step, of all that spike; None where nothing does.
    """

    rows: tuple[OpEnergy, ...]
    steps: int
    origin: str
    calls: int | None
    inference: ImageCost
    rate: float | None

    @property
    def neurons(self) -> Operations:
        """The neurons' own operations per inference: additions without a multiplication, and pairs of both."""
        pairs = self.inference.neuron_multiplications
        return Operations(acs=self.inference.neuron_additions - pairs, macs=pairs)

    @property
    def other(self) -> Arithmetic:
        """What ops without synapses compute per inference; in none of the sums of `inference`."""
        return sum((row.other for row in self.rows), Arithmetic())

    def to_json(self) -> dict[str, Any]:
        """All figures as plain JSON data; energies in joules."""
        whole = {"ours": self.inference.ours, "paper": self.inference.papers, "neurons": self.neurons}
        rows = [
            {
                "name": r.name,
                "kind": r.kind,
                "rate": r.rate,
                "updates": r.updates,
                **_figures(r.operations),
                "other": _other(r.other),
            }
            for r in self.rows
        ]
        updates = self.inference.neuron_additions
        found: dict[str, Any] = {
            "constants": {"mac_joules": MAC_JOULES, "ac_joules": AC_JOULES, "source": SOURCE},
            "input": self.origin,
            "steps": self.steps,
            "rate": self.rate,
            "ops": rows,
            "per_inference": {
                "updates": updates,
                **{name: _figures(o) for name, o in whole.items()},
                "other": _other(self.other),
            },
        }
        if self.calls is not None:
            image = {name: _figures(o.times(self.calls)) for name, o in whole.items()}
            other = _other(self.other.times(self.calls))
            found["per_image"] = {"calls": self.calls, "updates": updates * self.calls, **image, "other": other}
        return found


def _figures(operations: Operations) -> dict[str, float]:
    return {"acs": operations.acs, "macs": operations.macs, "joules": operations.joules}


def priced(other: Arithmetic) -> Operations:
    """The additions and multiplications."""
    return Operations(other.acs, other.macs)


def _other(found: Arithmetic) -> dict[str, float]:
    return {**asdict(found), "joules": priced(found).joules}


def energy(graph: Graph, run: Activities) -> Energy:
    """The operations of an inference and their energy.

    Args:
        graph: a sound graph.
        run: what its ops sent (`recorded` or `made_up`).

    Raises:
        CompileError: shapes do not fit, or a Delay's time step is unknown.
    """
    shapes, paces, sent = graph.shapes, pace(graph), run.activity
    others = others_by_op(graph, sent)
    rows = tuple(
        OpEnergy(
            name,
            graph[name].kind,
            float(np.mean(sent.rate[name])) if name in sent.rate and name in sent.events else None,
            found.times(run.steps),
            float(prod(shapes[name]) * run.steps * paces[name]) if isinstance(graph[name], ops.Neuron) else 0.0,
            others[name].times(run.steps),
        )
        for name, found in by_op(graph, sent).items()
    )
    spikes = [np.broadcast_to(sent.rate[n], shapes[n]).ravel() for n, op in graph.ops.items() if op.spiking]
    rate = float(np.concatenate(spikes).mean()) if spikes else None
    return Energy(rows, run.steps, run.origin, run.calls, per_image(graph, run.steps, sent), rate)


def recorded(graph: Graph, x: Mapping[str, Array], calls: int | None = None, run: Run | None = None) -> Activities:
    """What ops send on given input (T, B, *shape) by input name; run: as in `snnir.activity.measure`.

    Raises:
        CompileError: x does not fit, or the time step is unknown.
    """
    steps, batch = next(iter(x.values())).shape[:2]
    origin = f"recorded input, {steps} steps, {_many(batch, 'sample')}"
    return Activities(measure(graph, x, run), steps, origin, _calls(graph, calls), x)


def made_up(
    graph: Graph, calls: int | None = None, steps: int | None = None, seed: int = 0, run: Run | None = None
) -> Activities:
    """What ops send on made-up input: a denoising network samples images, anything else gets `snnir.stimuli`.

    Args:
        calls: denoising calls per image; default CALLS, or what the network is made for. Few of them (MEASURED_CALLS,
            over all noise levels) are run.
        steps: of the stimuli; a denoising network's are its own.
        seed: of stimuli or noise.
        run: as in `snnir.activity.measure`.

    Raises:
        CompileError: the graph cannot run, or its metadata does not describe it.
    """
    from snnir.diffusion.unrolled import sampler_of
    from snnir.stimuli import described, stimuli

    fields = graph.metadata.get("diffusion")
    if isinstance(fields, Mapping):
        if sampler_of(graph) is not None:
            return _unrolled(graph, seed, run)
        if "host" in fields:
            return _by_host(graph, fields["host"], seed, run)
        return _denoising(graph, calls, seed, run)
    x = stimuli(graph, steps, seed=seed)
    length, batch = next(iter(x.values())).shape[:2] if x else (steps or 1, 1)
    what = "input as the model describes it" if described(graph) else "random spikes, .3 per channel and step"
    origin = f"{what} (seed {seed}), {length} steps, {_many(batch, 'sample')}"
    return Activities(measure(graph, x, run), length, origin, None, x)


def _calls(graph: Graph, calls: int | None) -> int | None:
    """Inferences per image: of a denoising network as many as it takes, of a whole sampler 1, else None."""
    from snnir.diffusion.unrolled import sampler_of

    fields = graph.metadata.get("diffusion")
    if not isinstance(fields, Mapping):
        return None
    if sampler_of(graph) is not None:
        return 1
    return len(fields["host"]["time_code"]) if "host" in fields else calls or CALLS


class _Calls:
    """Runs a network call after call, and keeps what each sent."""

    def __init__(self, graph: Graph, run: Run | None) -> None:
        from snnir.interpreter import interpret

        self.graph = graph
        self.run: Run = run or partial(interpret, graph)
        self.found: list[Activity] = []
        self.inputs: list[Mapping[str, Array]] = []

    def __call__(self, x: Mapping[str, Array]) -> Array:
        """The output of a call."""
        outputs: list[Any] = []

        def kept(inputs: Mapping[str, Array], record: Any) -> tuple[Any, Mapping[str, Array]]:
            made, sent = self.run(inputs, record=record)
            outputs.append(made)
            return made, sent

        self.found.append(measure(self.graph, x, kept))
        self.inputs.append(x)
        return np.asarray(outputs[0])

    def mean(self) -> Activity:
        """Over all calls; what sent numbers in any sends numbers."""
        rate = {n: np.asarray(np.mean([f.rate[n] for f in self.found], axis=0)) for n in self.found[0].rate}
        return Activity(rate, frozenset.intersection(*(f.events for f in self.found)))

    @property
    def middle(self) -> Mapping[str, Array]:
        """What went into the call halfway."""
        return self.inputs[len(self.inputs) // 2]


def _denoising(graph: Graph, calls: int | None, seed: int, run: Run | None) -> Activities:
    from snnir.diffusion.labels import told
    from snnir.diffusion.sample import noise, sample
    from snnir.diffusion.spec import spec_of

    spec, network = spec_of(graph), _Calls(graph, run)
    measured = min(calls or CALLS, MEASURED_CALLS)
    start = noise(spec, MEASURED_IMAGES, seed)
    labels = [i % spec.classes for i in range(MEASURED_IMAGES)] if spec.classes else None
    denoise = told(lambda *given: network(dict(zip(spec.inputs, given, strict=True))), spec, labels)
    sample(denoise, spec, start, measured)
    origin = f"{_many(measured, 'denoising call')} of {MEASURED_IMAGES} images (seed {seed}), {spec.steps} steps each"
    return Activities(network.mean(), spec.steps, origin, calls or CALLS, network.middle)


def _by_host(graph: Graph, fields: Mapping[str, Any], seed: int, run: Run | None) -> Activities:
    from snnir.diffusion.events import EventHost, sample

    host, network = EventHost.from_dict(fields), _Calls(graph, run)
    start = np.stack([np.random.default_rng([seed, i]).standard_normal(len(host.mean)) for i in range(MEASURED_IMAGES)])
    sample(host, lambda events: network({graph.inputs[0]: events.astype(np.float32)}).sum(axis=0), start)
    origin = f"{host.calls} denoising calls of {MEASURED_IMAGES} images (seed {seed}), {host.steps} steps each"
    return Activities(network.mean(), host.steps, origin, host.calls, network.middle)


def _unrolled(graph: Graph, seed: int, run: Run | None) -> Activities:
    from snnir.diffusion.sample import noise
    from snnir.diffusion.spec import fold_pixels, spec_of

    spec = spec_of(graph)
    start = fold_pixels(noise(spec, MEASURED_IMAGES, seed), spec.fold)
    x = {spec.input: np.repeat(start[None], spec.steps, axis=0)}
    origin = f"noise of {MEASURED_IMAGES} images (seed {seed}) through the whole sampler, {spec.steps} steps"
    return Activities(measure(graph, x, run), spec.steps, origin, 1, x)


def _many(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
