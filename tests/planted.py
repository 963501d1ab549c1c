"""Networks with one fault planted, run by a simulator of their own, and what `snnir.explain` makes of them.

Graphs come from `tests.strategies`, with numbers rounded so that every implementation computes the very same floats,
and thresholds moved to where membranes come to stand exactly at them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from snnir import ops
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.semantics import NIR_SEMANTICS
from snnir.validation import aligned, compare, differs, explain
from tests.naive import back_edges
from tests.planted_simulator import DT, Plant, run
from tests.strategies import nir_graphs

Array = np.ndarray[Any, np.dtype[Any]]


# -- graphs ------------------------------------------------------------------------------------------------------------


def exact(graph: Graph, seed: int) -> Graph:
    """The graph with few-bit numbers: dt / tau is 1/2 or 1/4, weights are multiples of 1/16."""
    rng = np.random.default_rng(seed)
    old = graph.semantics.dt
    assert old is not None
    return replace(
        graph,
        ops={name: _rounded(op, old, rng) for name, op in graph.ops.items()},
        semantics=NIR_SEMANTICS.with_(dt=DT),
    ).verify()


def _rounded(op: Any, old: float, rng: np.random.Generator) -> Any:
    def grid(a: Any, step: float) -> Array:
        return np.asarray(np.rint(np.asarray(a, float) / step) * step)

    def taus(a: Any) -> Array:
        return DT * rng.choice([2.0, 4.0], np.shape(a))

    if isinstance(op, ops.Delay):
        return op.with_(delay=np.rint(op.delay / old) * DT)
    changes: dict[str, Any] = {
        name: grid(getattr(op, name), 1 / 16) for name in ("weight", "bias", "scale", "threshold") if name in op.arrays
    }
    if isinstance(op, ops.Neuron):
        for name in op.time_constants:
            changes[name] = taus(getattr(op, name))
        if len(op.time_constants) == 2:  # a graph whose two time constants are the same hides which is which
            changes["tau_syn"] = np.where(changes["tau_mem"] == 2 * DT, 4 * DT, 2 * DT)
        shape = np.shape(op.r)  # type: ignore[attr-defined]
        integrates = isinstance(op, (ops.I, ops.IF))
        changes["r"] = rng.choice([1 / DT, 0.5 / DT] if integrates else [2.0, 4.0, 0.5], shape)
        if "w_in" in op.arrays:
            changes["w_in"] = rng.choice([2.0, 4.0], shape)
        if "v_leak" in op.arrays:
            changes["v_leak"] = rng.choice([0.0, 0.125, -0.25], shape)
        if "v_threshold" in op.arrays:
            changes["v_threshold"] = rng.choice([0.75, 1.25, 1.5], shape)
            changes["v_reset"] = rng.choice([0.0, -0.25, 0.25], shape)
    return op.with_(**changes) if changes else op


def at_thresholds(graph: Graph, x: Mapping[str, Array], window: int = 6) -> Graph:
    """The graph with thresholds moved to where membranes come to stand exactly at them within the first steps.

    A neuron's new threshold is the highest value that its membrane reaches in the window without a spike, so nothing
    changes before; whoever compares with >= spikes there, and whoever compares with > does not.
    """
    for name in list(graph.ops):
        op: Any = graph[name]
        if isinstance(op, ops.SpikingNeuron):
            _, seen = interpret(graph, {n: v[:window] for n, v in x.items()}, record=[name, f"{name}:v"])
            quiet = ~(seen[name].any(axis=(0, 1)))
            highest = seen[f"{name}:v"].max(axis=(0, 1))
            where, field_name = quiet & (highest > 0.2), "v_threshold"
        elif isinstance(op, ops.Threshold):
            feeders = [e.source for e in graph.incoming[name]]
            _, seen = interpret(graph, {n: v[:window] for n, v in x.items()}, record=feeders)
            highest = sum(seen[f] for f in feeders)[window // 2].max(axis=0)
            where, field_name = highest > 0.2, "threshold"
        else:
            continue
        old = np.broadcast_to(getattr(op, field_name), highest.shape)
        graph = replace(graph, ops={**graph.ops, name: op.with_(**{field_name: np.where(where, highest, old)})})
    return graph.verify()


def spikes(graph: Graph, steps: int, batch: int, seed: int) -> dict[str, Array]:
    """Random counts 0, 1, 2 and a quarter now and then."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.choice([0.0, 1.0, 2.0, 0.25], (steps, batch, *graph.shapes[name]), p=[0.5, 0.3, 0.1, 0.1])
        for name in graph.inputs
    }


# -- faults ------------------------------------------------------------------------------------------------------------


def plants(graph: Graph, seed: int) -> Iterator[Plant]:
    """Every kind of fault that this graph can have, each at one random place."""
    rng = np.random.default_rng(seed)
    late = back_edges(graph)
    neurons = [n for n, op in graph.ops.items() if isinstance(op, ops.Neuron)]
    spiking = [n for n in neurons if isinstance(graph[n], ops.SpikingNeuron)]

    def some(names: list[Any]) -> Any:
        return names[int(rng.integers(len(names)))]

    if neurons and not any(isinstance(op, ops.Delay) for op in graph.ops.values()):
        factor = some([10.0, 0.1, 2.0, 0.5, 1000.0])
        yield Plant("dt", does=f"({factor:g} times)", rule={"dt": DT * factor})
    if neurons:
        name = some(neurons)
        yield Plant("dt", name, "(2 times)", rules={name: {"dt": 2 * DT}})
        yield Plant("decay", does="'exponential'", rule={"decay": "exponential"})
        yield Plant("gain", does="'unit'", rule={"gain": "unit"})
        yield Plant("start", does="'zero'", rule={"start": "zero"})
    if spiking:
        name = some(spiking)
        yield Plant("reset", does="'subtract'", rule={"reset": "subtract"})
        yield Plant("reset", name, "'subtract'", rules={name: {"reset": "subtract"}})
    if spiking or any(isinstance(op, ops.Threshold) for op in graph.ops.values()):
        yield Plant("comparison", does="'>='", rule={"comparison": ">="})
    cuba = [n for n in neurons if isinstance(graph[n], (ops.CubaLI, ops.CubaLIF))]
    if cuba:
        yield Plant("order", does="'membrane-first'", rule={"order": "membrane-first"})
        name = some(cuba)
        old: Any = graph[name]
        swapped = old.with_(tau_syn=old.tau_mem, tau_mem=old.tau_syn)
        yield Plant("time-constants-swapped", name, ops={name: swapped})
    for array, neutral, word in (
        ("r", 1.0, "r-ignored"),
        ("w_in", 1.0, "w_in-ignored"),
        ("v_leak", 0.0, "v_leak-ignored"),
        ("v_reset", 0.0, "v_reset-ignored"),
        ("bias", 0.0, "bias-dropped"),
        ("scale", 1.0, "scale-ignored"),
    ):
        with_it = [n for n, op in graph.ops.items() if array in op.arrays]
        if with_it:
            name = some(with_it)
            yield Plant(word, name, ops={name: _with(graph[name], array, neutral)})
        if len(with_it) > 1 and array in ("r", "bias"):
            every = {
                n: graph[n].with_(**{array: np.zeros(np.shape(getattr(graph[n], array))) + neutral}) for n in with_it
            }
            yield Plant(word, ops=every)
    forward = [e for e in graph.edges if e not in late]
    edge = some(forward)
    yield Plant("edge-lost", str(edge), lost=frozenset([edge]))
    edge = some(forward)
    yield Plant("edge-delayed", str(edge), "1 step", late={edge: 1})
    if late:
        edge = some(sorted(late))
        yield Plant("recurrent-edge-lost", str(edge), lost=frozenset([edge]))
    yield from _weights(graph, rng)
    yield from _structure(graph, rng)


def _with(op: Any, array: str, value: float) -> Any:
    return op.with_(**{array: np.zeros(np.shape(getattr(op, array))) + value})


def _weights(graph: Graph, rng: np.random.Generator) -> Iterator[Plant]:
    weighted = [n for n, op in graph.ops.items() if "weight" in op.arrays]
    square = [n for n in weighted if graph[n].weight.ndim == 2 and len(set(graph[n].weight.shape)) == 1]  # type: ignore[attr-defined]
    square = [n for n in square if graph[n].weight.shape[0] > 1]  # type: ignore[attr-defined]
    if square:
        name = square[int(rng.integers(len(square)))]
        op: Any = graph[name]
        yield Plant("weight-transposed", name, ops={name: op.with_(weight=op.weight.T.copy())})
    if weighted:
        name = weighted[int(rng.integers(len(weighted)))]
        op = graph[name]
        codes = np.rint(op.weight * 128).astype(np.int64).astype(np.int8)  # what lies outside -1..1 wraps around
        yield Plant("weight-wrapped", name, "2^-7", ops={name: op.with_(weight=codes / 128.0)})
        codes = np.clip(np.rint(op.weight * 128), -128, 127)
        yield Plant("weight-saturated", name, "2^-7", ops={name: op.with_(weight=codes / 128.0)})
        every: dict[str, Any] = {}
        for each in weighted:
            op = graph[each]
            unit = np.max(np.abs(op.weight)) / 7.0
            every[each] = op.with_(weight=np.round(op.weight / unit) * unit) if unit else op
        yield Plant("weight-quantised", "" if len(weighted) > 1 else weighted[0], "4 bits", ops=every)
    spiking = [n for n, op in graph.ops.items() if "v_threshold" in op.arrays]
    if spiking:
        name = spiking[int(rng.integers(len(spiking)))]
        op = graph[name]
        yield Plant("threshold-scaled", name, ops={name: op.with_(v_threshold=op.v_threshold * 1.5)})


def _structure(graph: Graph, rng: np.random.Generator) -> Iterator[Plant]:
    for name, op in graph.ops.items():
        if isinstance(op, (ops.SumPool2d, ops.AvgPool2d)):
            other = ops.AvgPool2d if isinstance(op, ops.SumPool2d) else ops.SumPool2d
            changed = other(kernel_size=op.kernel_size, stride=op.stride, padding=op.padding)
            yield Plant("pool-confused", name, ops={name: changed})
        if isinstance(op, (ops.Conv1d, ops.Conv2d)):
            flipped = op.weight[:, :, ::-1] if op.axes == 1 else op.weight[:, :, ::-1, ::-1]
            yield Plant("kernel-flipped", name, ops={name: op.with_(weight=flipped.copy())})
        if isinstance(op, ops.Flatten):
            shape = graph.shapes[graph.incoming[name][0].source]
            if len(shape) in (2, 3) and len(graph.shapes[name]) == 1:
                last = (*range(1, len(shape)), 0)  # channels last
                yield Plant("flatten-order", name, str(last), orders={name: last})
    for output in graph.outputs:
        own = {e.source for e in graph.incoming[output]}
        others = [
            n
            for n, op in graph.ops.items()
            if isinstance(op, ops.SpikingNeuron) and graph.shapes[n] == graph.shapes[output] and n not in own
        ]
        if others:
            source = others[int(rng.integers(len(others)))]
            yield Plant("wrong-output", output, f"what {source} gives", instead={output: source})


# -- judging -----------------------------------------------------------------------------------------------------------

Word = Literal["invisible", "undetected", "named", "equivalent", "wrong", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """What `explain` made of one planted fault.

    'named': name, place and value are the planted ones. 'equivalent': another fault was named, but on inputs that
    neither has seen, spikes and real numbers, it gives the very same traces as the planted one. 'invisible': no
    recorded value differs at all.
    """

    plant: Plant
    word: Word
    said: str


def outcomes(graph: Graph, x: Mapping[str, Array], seed: int) -> Iterator[Outcome]:
    """Plants every fault in turn, and says what becomes of it."""
    sound = run(graph, x)
    for plant in plants(graph, seed):
        got = run(graph, x, plant)
        if not any(_visible(sound[n], got[n]) for n in got):
            yield Outcome(plant, "invisible", "")
            continue
        verdict = compare(graph, "planted", aligned(graph, sound, got))
        if verdict.ok or verdict.first is None:
            yield Outcome(plant, "undetected", verdict.verdict)
            continue
        found = explain(graph, x, got, probe=lambda y, plant=plant: run(graph, y, plant))  # type: ignore[misc]
        right = [c for c in found.causes if (c.name, c.where) == (plant.name, plant.where) and plant.does in c.does]
        if not found.causes or found.model is None:
            yield Outcome(plant, "unknown", found.text)
        elif right:
            yield Outcome(plant, "named", found.text)
        else:
            same = all(_agree(found.model, plant, graph, y) for y in unseen(graph))
            yield Outcome(plant, "equivalent" if same else "wrong", found.text)


def _visible(want: Array, got: Array) -> bool:
    """Whether they differ by more than 1e-9 of the largest value so far (two linear filters commute but for less)."""
    largest = np.maximum.accumulate(np.abs(want).reshape(want.shape[0], -1).max(axis=1, initial=1.0))
    return bool(np.any(np.abs(want - got) > 1e-9 * largest.reshape(-1, *[1] * (want.ndim - 1))))


def unseen(graph: Graph) -> Iterator[dict[str, Array]]:
    """Inputs that no search has used: counts, dense and long, and real numbers of either sign."""
    for k in range(3):
        yield spikes(graph, 40, 4, 10_000 + k)
    rng = np.random.default_rng(7)
    for scale in (0.5, 2.0):
        yield {n: rng.normal(0.2, scale, (40, 4, *graph.shapes[n])) for n in graph.inputs}


def _agree(model: Any, plant: Plant, graph: Graph, x: dict[str, Array]) -> bool:
    got = run(graph, x, plant)
    mine = model.run(x, [n for n in got if n in model.graph])
    return all(not differs(mine[n], got[n]).any() for n in mine)


def drawn(n: int, start: int) -> list[Graph]:
    """Random graphs that hold state, always the same ones for the same arguments."""
    found: dict[Any, Graph] = {}  # one of each structure

    @seed(start)
    @settings(
        max_examples=4 * n,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(nir_graphs(max_ops=6))
    def collect(graph: Graph) -> None:
        if any(isinstance(op, ops.Neuron) for op in graph.ops.values()):
            found[(tuple(op.kind for op in graph.ops.values()), graph.edges)] = graph

    collect()
    return list(found.values())[-n:]  # the first ones are the smallest


def ready(graph: Graph, k: int) -> tuple[Graph, dict[str, Array]]:
    """The graph in exact numbers, with thresholds that are hit, and the input that hits them."""
    plain = exact(graph, k)
    x = spikes(plain, 24, 4, k)
    return at_thresholds(plain, x), x


def summary(found: list[Outcome]) -> str:
    """Counts, and one line per fault that was not named by its name."""
    counts = Counter(o.word for o in found)
    visible = len(found) - counts["invisible"]
    lines = [
        f"{len(found)} faults planted, {visible} visible on their input; detected {visible - counts['undetected']},"
        f" named {counts['named']}, equivalent {counts['equivalent']}, wrong {counts['wrong']},"
        f" unknown {counts['unknown']}"
    ]
    lines += [f"  {o.word}: {o.plant}: {o.said}" for o in found if o.word in ("undetected", "wrong", "unknown")]
    return "\n".join(lines)
