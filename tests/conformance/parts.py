"""What the definitions of the conformance cases are made of: ops on a coarse lattice of numbers, and named mistakes.

One step is 2^-10 s, and weights, thresholds and ratios of times are short binary fractions: float32 holds them all, so
whoever computes in float32 has the same network before him as whoever computes in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Edge, Graph
from snnir.ops import Op, Shape
from snnir.semantics import NIR_SEMANTICS, Semantics

STEP = 2.0**-10  # seconds
Mistake = Callable[[Graph], Graph]


@dataclass(frozen=True)
class Definition:
    """One case before it is computed.

    Attributes:
        name, group, probes: as in the manifest.
        build: makes the graph from a random generator.
        mistakes: in words -> what makes the graph of whoever makes that mistake; each must show in the outputs.
        stimulus: makes the inputs by name from a generator and the graph; default spikes.
        on_threshold: whether membranes are to meet their threshold exactly.
    """

    name: str
    group: str
    probes: str
    build: Callable[[np.random.Generator], Graph]
    mistakes: Mapping[str, Mistake]
    stimulus: Callable[[np.random.Generator, Graph], dict[str, Any]] | None = None
    on_threshold: bool = False
    nested: bool = False
    numbers: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Definition] = {}


def case(name: str, probes: str, mistakes: Mapping[str, Mistake], group: str = "core", **more: Any) -> Any:
    """Enters the builder that follows as a case."""

    def enter(build: Callable[[np.random.Generator], Graph]) -> Any:
        CASES[name] = Definition(name, group, probes, build, mistakes, **more)
        return build

    return enter


# -- ops -------------------------------------------------------------------------------------------------------------


def full(n: int | Shape, value: Any) -> Any:
    return np.array(np.broadcast_to(np.asarray(value, np.float32), n if isinstance(n, tuple) else (n,)))


def weights(rng: np.random.Generator, *shape: int, low: float = -0.5, high: float = 1.0) -> Any:
    """Multiples of 1/16 between `low` and `high`."""
    return (rng.integers(round(low * 16), round(high * 16) + 1, shape) / 16).astype(np.float32)


def linear(rng: np.random.Generator, n_in: int, n_out: int, **bounds: float) -> ops.Affine:
    """Weights with a bias of 0: some importers know no Linear, and only one case is about that."""
    return ops.Affine(weight=weights(rng, n_out, n_in, **bounds), bias=full(n_out, 0.0))


def affine(rng: np.random.Generator, n_in: int, n_out: int, **bounds: float) -> ops.Affine:
    return ops.Affine(weight=weights(rng, n_out, n_in, **bounds), bias=weights(rng, n_out, low=-0.125, high=0.375))


def lif(
    n: int | Shape, tau: Any = 4.0, r: Any = None, threshold: Any = 1.0, leak: Any = 0.0, reset: Any = 0.0
) -> ops.LIF:
    """`tau` in steps. Where nothing is said, r is 1 and potentials are in units of what one step adds of an input of 1.

    So whoever ignores r fails only where it is asked for.
    """
    unit = np.divide(1.0, tau) if r is None else 1.0
    return ops.LIF(
        tau=full(n, np.multiply(tau, STEP)),
        r=full(n, 1.0 if r is None else r),
        v_threshold=full(n, np.multiply(threshold, unit)),
        v_leak=full(n, np.multiply(leak, unit)),
        v_reset=full(n, np.multiply(reset, unit)),
    )


def li(n: int | Shape, tau: Any = 8.0, r: Any = 1.0, leak: Any = 0.0) -> ops.LI:
    return ops.LI(tau=full(n, np.multiply(tau, STEP)), r=full(n, r), v_leak=full(n, leak))


def if_(n: int | Shape, gain: Any = 1.0, threshold: Any = 1.0, reset: Any = 0.0) -> ops.IF:
    """`gain` is what a step adds of the input, r dt."""
    return ops.IF(r=full(n, np.divide(gain, STEP)), v_threshold=full(n, threshold), v_reset=full(n, reset))


def cubalif(
    n: int,
    tau_syn: Any = 2.0,
    tau_mem: Any = 4.0,
    r: Any = None,
    w_in: Any = None,
    threshold: Any = 1.0,
    leak: Any = 0.0,
) -> ops.CubaLIF:
    """Time constants in steps. Where nothing is said, r and w_in are such that a step adds all of the input."""
    return ops.CubaLIF(
        tau_syn=full(n, np.multiply(tau_syn, STEP)),
        tau_mem=full(n, np.multiply(tau_mem, STEP)),
        r=full(n, tau_mem if r is None else r),
        w_in=full(n, tau_syn if w_in is None else w_in),
        v_threshold=full(n, threshold),
        v_leak=full(n, leak),
        v_reset=full(n, 0.0),
    )


# -- graphs ----------------------------------------------------------------------------------------------------------


def line(n_in: int | Shape, n_out: int | Shape, semantics: Semantics = NIR_SEMANTICS, **middle: Op) -> Graph:
    """input -> the named ops in order -> output."""
    named = {"input": ops.Input(shape=_shape(n_in)), **middle, "output": ops.Output(shape=_shape(n_out))}
    return Graph(named, tuple(Edge(*pair) for pair in pairwise(named)), timed(semantics))


def net(
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
    edges: str,
    semantics: Semantics = NIR_SEMANTICS,
    **middle: Op,
) -> Graph:
    """Ops by name and edges as text: 'input>a a>n'."""
    named: dict[str, Op] = {name: ops.Input(shape=(n,)) for name, n in inputs.items()}
    named |= middle
    named |= {name: ops.Output(shape=(n,)) for name, n in outputs.items()}
    return Graph(named, tuple(Edge(*pair.split(">")) for pair in edges.split()), timed(semantics))


def timed(semantics: Semantics) -> Semantics:
    return semantics if semantics.dt is not None else semantics.with_(dt=STEP)


def _shape(n: int | Shape) -> Shape:
    return n if isinstance(n, tuple) else (n,)


# -- mistakes --------------------------------------------------------------------------------------------------------


def means(**fields: Any) -> Mistake:
    """Another semantics."""
    return lambda graph: replace(graph, semantics=graph.semantics.with_(**fields))


def sets(names: str, **values: Any) -> Mistake:
    """Other values of fields of the ops `names`; a function gets the old value."""

    def make(graph: Graph) -> Graph:
        changed = dict(graph.ops)
        for name in names.split():
            op = graph[name]
            new = {key: value(getattr(op, key)) if callable(value) else value for key, value in values.items()}
            arrays = {key: _like(getattr(op, key), value) if key in op.arrays else value for key, value in new.items()}
            changed[name] = op.with_(**arrays)
        return replace(graph, ops=changed)

    return make


def _like(old: Any, new: Any) -> Any:
    new = np.asarray(new, old.dtype)
    return np.array(np.broadcast_to(new, old.shape)) if new.ndim == 0 else new


def without(edges: str) -> Mistake:
    """Without the edges 'a>b'; ops that are then fed by nothing or read by nobody go too."""

    def make(graph: Graph) -> Graph:
        gone = {Edge(*pair.split(">")) for pair in edges.split()}
        kept = [e for e in graph.edges if e not in gone]
        named = dict(graph.ops)
        while True:
            dead = [
                n
                for n, op in named.items()
                if (not isinstance(op, ops.Input) and not any(e.target == n for e in kept))
                or (not isinstance(op, (ops.Output, ops.Input)) and not any(e.source == n for e in kept))
            ]
            if not dead:
                return replace(graph, ops=named, edges=tuple(kept))
            named = {n: op for n, op in named.items() if n not in dead}
            kept = [e for e in kept if e.source not in dead and e.target not in dead]

    return make


def skipping(name: str) -> Mistake:
    """The op hands on what it gets."""

    def make(graph: Graph) -> Graph:
        sources = [e.source for e in graph.incoming[name]]
        targets = [e.target for e in graph.outgoing[name]]
        kept = tuple(e for e in graph.edges if name not in (e.source, e.target))
        joined = tuple(Edge(a, b) for a in sources for b in targets)
        return replace(graph, ops={n: op for n, op in graph.ops.items() if n != name}, edges=(*kept, *joined))

    return make


def later(edge: str, steps: int = 1) -> Mistake:
    """The edge 'a>b' is some steps later."""

    def make(graph: Graph) -> Graph:
        source, target = edge.split(">")
        delay = ops.Delay(delay=full(graph.shapes[source], steps * (graph.semantics.dt or STEP)))
        kept = tuple(e for e in graph.edges if e != Edge(source, target))
        return replace(
            graph, ops={**graph.ops, "later": delay}, edges=(*kept, Edge(source, "later"), Edge("later", target))
        )

    return make


def replaced(name: str, make_op: Callable[[Any], Op]) -> Mistake:
    """Another op in the place of one."""
    return lambda graph: replace(graph, ops={**graph.ops, name: make_op(graph[name])})


# -- inputs ----------------------------------------------------------------------------------------------------------


def spikes(
    rng: np.random.Generator, graph: Graph, steps: int = 24, batch: int = 2, rate: float = 0.4
) -> dict[str, Any]:
    return {n: (rng.random((steps, batch, *graph.shapes[n])) < rate).astype(np.float32) for n in graph.inputs}


def currents(rng: np.random.Generator, graph: Graph, steps: int = 24, batch: int = 2) -> dict[str, Any]:
    """Multiples of 1/8 from -1 to 2."""
    return {n: (rng.integers(-8, 17, (steps, batch, *graph.shapes[n])) / 8).astype(np.float32) for n in graph.inputs}


def silence(rng: np.random.Generator, graph: Graph, steps: int = 24, batch: int = 2) -> dict[str, Any]:
    return {n: np.zeros((steps, batch, *graph.shapes[n]), np.float32) for n in graph.inputs}
