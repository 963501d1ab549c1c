"""A table of small, named NIR graphs: the cases in which today's frameworks are known to part, built from a seed.

`make_graph(rng, kind, style)` builds one. `style` says how the file's author thought of the input gain: 'r1' leaves
r = w_in = 1, so a step adds dt/tau of the input; 'disc' writes r = tau/dt (w_in = tau_syn/dt, IF: r = 1/dt), so a step
adds all of it. Weights are scaled so that neurons spike in both styles.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from snnir.graph import Edge, Graph, chain
from snnir.ops import (
    IF,
    LI,
    LIF,
    Affine,
    AvgPool2d,
    Conv1d,
    Conv2d,
    CubaLI,
    CubaLIF,
    Delay,
    Flatten,
    I,
    Input,
    Linear,
    Op,
    Output,
    Scale,
    Shape,
    SumPool2d,
    Threshold,
)
from snnir.semantics import NIR_SEMANTICS

STYLES = ("r1", "disc")
STEPS_PER_TAU = 20.0


class Maker:
    """Random ops of one style: weights in `dtype`, time constants a multiple of `dt`."""

    def __init__(self, rng: np.random.Generator, style: str, dt: float, dtype: Any = np.float32) -> None:
        if style not in STYLES:
            raise ValueError(f"style is {style!r}, expected one of {', '.join(STYLES)}")
        self.rng, self.style, self.dt, self.dtype = rng, style, dt, np.dtype(dtype)

    def normal(self, *shape: int, fan_in: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Weights under which a handful of spikes moves a neuron by about its threshold."""
        return (self.rng.normal(0.3, 1.0, shape) * 2.0 / np.sqrt(fan_in)).astype(self.dtype)

    def bias(self, *shape: int) -> np.ndarray[Any, np.dtype[Any]]:
        return self.rng.normal(0.05, 0.1, shape).astype(self.dtype)

    def full(self, shape: Shape, value: Any) -> np.ndarray[Any, np.dtype[Any]]:
        """`value` (a number, or an array that broadcasts) over the whole population."""
        return np.array(np.broadcast_to(np.asarray(value, self.dtype), shape))

    def linear(self, n_in: int, n_out: int) -> Linear:
        return Linear(weight=self.normal(n_out, n_in, fan_in=n_in))

    def affine(self, n_in: int, n_out: int) -> Affine:
        return Affine(weight=self.normal(n_out, n_in, fan_in=n_in), bias=self.bias(n_out))

    def conv(self, kind: type[Conv1d] | type[Conv2d], c_in: int, c_out: int, kernel: Shape, **options: Any) -> Op:
        weight = self.normal(c_out, c_in // options.get("groups", 1), *kernel, fan_in=int(np.prod(kernel)) * c_in)
        return kind(weight=weight, bias=self.bias(c_out), **options)

    def neuron(
        self,
        kind: type[Op],
        shape: Shape,
        tau: Any = None,
        threshold: Any = None,
        v_leak: Any = 0.0,
        v_reset: Any = 0.0,
        spread: Shape | None = None,
    ) -> Any:
        """A neuron of `kind`; `spread` is the shape its parameters are written in (default: the population's)."""
        spread = shape if spread is None else spread
        tau = np.asarray(self.dt * STEPS_PER_TAU if tau is None else tau, np.float64)
        tau_syn = tau / 2.0
        # In style r1 a step adds dt/tau of the input, so thresholds shrink; a synaptic current piles up over tau_syn.
        level = 3.0 / STEPS_PER_TAU if self.style == "r1" else 16.0 if kind in (CubaLI, CubaLIF) else 2.0
        fields: dict[str, Any] = {"r": 1.0}
        if kind in (LI, LIF):
            fields |= {"tau": tau, "v_leak": np.multiply(v_leak, level)}
        if kind in (CubaLI, CubaLIF):
            fields |= {"tau_mem": tau, "tau_syn": tau_syn, "v_leak": np.multiply(v_leak, level), "w_in": 1.0}
        if kind in (IF, LIF, CubaLIF):
            threshold = 1.0 if threshold is None else threshold
            fields |= {"v_threshold": np.multiply(threshold, level), "v_reset": np.multiply(v_reset, level)}
        if self.style == "disc":
            fields["r"] = 1.0 / self.dt if kind in (I, IF) else tau / self.dt
            if "w_in" in fields:
                fields["w_in"] = tau_syn / self.dt
        elif kind in (I, IF):
            fields["r"] = 1.0 / (STEPS_PER_TAU * self.dt)  # r = 1 would add dt of the input: never a spike
        build: Any = kind
        return build(**{name: self.full(spread, value) for name, value in fields.items()})


Builder = Callable[[Maker], Graph]
_BUILDERS: dict[str, Builder] = {}


def _kind(name: str) -> Callable[[Builder], Builder]:
    def enter(build: Builder) -> Builder:
        _BUILDERS[name] = build
        return build

    return enter


def make_graph(
    rng: np.random.Generator | int, kind: str, style: str = "r1", dt: float = 1e-3, dtype: Any = np.float32
) -> Graph:
    """The graph called `kind` (see `GRAPH_KINDS`), verified, its dt known."""
    maker = Maker(np.random.default_rng(rng), style, dt, dtype)
    graph = _BUILDERS[kind](maker)
    return Graph(graph.ops, graph.edges, NIR_SEMANTICS.with_(dt=dt)).verify()


def _dense(m: Maker, *middle: tuple[str, Op], n_in: int = 4, n_out: int = 3) -> Graph:
    return chain(("input", Input(shape=(n_in,))), *middle, ("output", Output(shape=(n_out,))))


def _hidden(m: Maker, neuron: Op, readout: Op | None = None) -> Graph:
    """affine -> neuron(6) -> affine -> readout(3), LIF by default."""
    last = m.neuron(LIF, (3,)) if readout is None else readout
    return _dense(m, ("fc1", m.affine(4, 6)), ("n1", neuron), ("fc2", m.affine(6, 3)), ("n2", last))


@_kind("affine-lif")
def _affine_lif(m: Maker) -> Graph:
    return _hidden(m, m.neuron(LIF, (6,)))


@_kind("li-readout")
def _li_readout(m: Maker) -> Graph:
    return _hidden(m, m.neuron(LIF, (6,)), m.neuron(LI, (3,)))


@_kind("cubalif")
def _cubalif(m: Maker) -> Graph:
    return _hidden(m, m.neuron(CubaLIF, (6,)), m.neuron(CubaLIF, (3,)))


@_kind("cubali-readout")
def _cubali_readout(m: Maker) -> Graph:
    return _hidden(m, m.neuron(CubaLIF, (6,)), m.neuron(CubaLI, (3,)))


@_kind("integrator-readout")
def _integrator(m: Maker) -> Graph:
    return _hidden(m, m.neuron(LIF, (6,)), m.neuron(I, (3,)))


@_kind("conv2d-flatten")
def _conv2d(m: Maker) -> Graph:
    return chain(
        ("input", Input(shape=(2, 6, 6))),
        ("conv", m.conv(Conv2d, 2, 3, (3, 3), padding=1, stride=2)),
        ("lif", m.neuron(LIF, (3, 3, 3))),
        ("flatten", Flatten(start_dim=0)),
        ("fc", m.affine(27, 3)),
        ("out_lif", m.neuron(LIF, (3,))),
        ("output", Output(shape=(3,))),
    )


@_kind("conv1d")
def _conv1d(m: Maker) -> Graph:
    return chain(
        ("input", Input(shape=(2, 8))),
        ("conv", m.conv(Conv1d, 2, 3, (3,), padding=1, stride=2)),
        ("lif", m.neuron(LIF, (3, 4))),
        ("flatten", Flatten(start_dim=0)),
        ("fc", m.affine(12, 3)),
        ("out_lif", m.neuron(LIF, (3,))),
        ("output", Output(shape=(3,))),
    )


def _recurrent(m: Maker, kind: type[Op]) -> Graph:
    ops: dict[str, Op] = {
        "input": Input(shape=(4,)),
        "fc1": m.affine(4, 6),
        "n1": m.neuron(kind, (6,)),
        "w_rec": m.linear(6, 6),
        "fc2": m.affine(6, 3),
        "n2": m.neuron(kind, (3,)),
        "output": Output(shape=(3,)),
    }
    edges = (
        Edge("input", "fc1"),
        Edge("fc1", "n1"),
        Edge("n1", "w_rec"),
        Edge("w_rec", "n1"),
        Edge("n1", "fc2"),
        Edge("fc2", "n2"),
        Edge("n2", "output"),
    )
    return Graph(ops, edges)


@_kind("recurrence-lif")
def _recurrence_lif(m: Maker) -> Graph:
    return _recurrent(m, LIF)


@_kind("recurrence-cubalif")
def _recurrence_cubalif(m: Maker) -> Graph:
    return _recurrent(m, CubaLIF)


@_kind("recurrence-affine")
def _recurrence_affine(m: Maker) -> Graph:
    graph = _recurrent(m, LIF)
    return Graph({**graph.ops, "w_rec": m.affine(6, 6)}, graph.edges)


@_kind("long-recurrence")
def _long_recurrence(m: Maker) -> Graph:
    """The second neuron feeds the first: a cycle through two neurons and two weights."""
    graph = _hidden(m, m.neuron(LIF, (6,)))
    return Graph({**graph.ops, "back": m.linear(3, 6)}, (*graph.edges, Edge("n2", "back"), Edge("back", "n1")))


@_kind("fan-in")
def _fan_in(m: Maker) -> Graph:
    """Two weights of one input sum into one neuron."""
    ops: dict[str, Op] = {
        "input": Input(shape=(4,)),
        "a": m.affine(4, 6),
        "b": m.affine(4, 6),
        "n1": m.neuron(LIF, (6,)),
        "fc2": m.affine(6, 3),
        "n2": m.neuron(LIF, (3,)),
        "output": Output(shape=(3,)),
    }
    edges = (
        Edge("input", "a"),
        Edge("input", "b"),
        Edge("a", "n1"),
        Edge("b", "n1"),
        Edge("n1", "fc2"),
        Edge("fc2", "n2"),
        Edge("n2", "output"),
    )
    return Graph(ops, edges)


@_kind("fan-out-sum")
def _fan_out_sum(m: Maker) -> Graph:
    """Two neurons sum in the output."""
    ops: dict[str, Op] = {
        "input": Input(shape=(4,)),
        "a": m.affine(4, 3),
        "b": m.affine(4, 3),
        "n1": m.neuron(LIF, (3,)),
        "n2": m.neuron(LIF, (3,)),
        "output": Output(shape=(3,)),
    }
    pairs = (("input", "a"), ("input", "b"), ("a", "n1"), ("b", "n2"), ("n1", "output"), ("n2", "output"))
    return Graph(ops, tuple(Edge(*pair) for pair in pairs))


@_kind("skip")
def _skip(m: Maker) -> Graph:
    """A residual path around a layer."""
    ops: dict[str, Op] = {
        "input": Input(shape=(4,)),
        "fc1": m.affine(4, 4),
        "n1": m.neuron(LIF, (4,)),
        "fc2": m.affine(4, 4),
        "n2": m.neuron(LIF, (4,)),
        "fc3": m.affine(4, 3),
        "n3": m.neuron(LIF, (3,)),
        "output": Output(shape=(3,)),
    }
    line = list(ops)
    edges = [Edge(a, b) for a, b in pairwise(line)]
    return Graph(ops, (*edges, Edge("n1", "n2"), Edge("n1", "fc3")))


@_kind("v-leak")
def _v_leak(m: Maker) -> Graph:
    return _hidden(m, m.neuron(LIF, (6,), v_leak=0.3), m.neuron(LIF, (3,), v_leak=-0.2))


@_kind("v-reset")
def _v_reset(m: Maker) -> Graph:
    return _hidden(m, m.neuron(LIF, (6,), v_reset=-0.4), m.neuron(LIF, (3,), v_reset=0.25))


@_kind("heterogeneous")
def _heterogeneous(m: Maker) -> Graph:
    tau = m.dt * m.rng.uniform(10.0, 30.0, 6)
    return _hidden(m, m.neuron(LIF, (6,), tau=tau, threshold=m.rng.uniform(0.5, 1.5, 6)))


@_kind("linear")
def _linear(m: Maker) -> Graph:
    first, second = ("fc1", m.linear(4, 6)), ("fc2", m.linear(6, 3))
    return _dense(m, first, ("n1", m.neuron(LIF, (6,))), second, ("n2", m.neuron(LIF, (3,))))


@_kind("if")
def _if(m: Maker) -> Graph:
    return _hidden(m, m.neuron(IF, (6,)), m.neuron(IF, (3,)))


@_kind("delay")
def _delay(m: Maker) -> Graph:
    steps = np.array([0, 1, 2, 3, 1, 0])
    return _dense(
        m,
        ("fc1", m.affine(4, 6)),
        ("n1", m.neuron(LIF, (6,))),
        ("delay", Delay(delay=(steps * m.dt).astype(m.dtype))),
        ("fc2", m.affine(6, 3)),
        ("n2", m.neuron(LIF, (3,))),
    )


def _pooled(m: Maker, pool: Op) -> Graph:
    return chain(
        ("input", Input(shape=(2, 6, 6))),
        ("conv", m.conv(Conv2d, 2, 2, (3, 3), padding="same")),
        ("lif", m.neuron(LIF, (2, 6, 6))),
        ("pool", pool),
        ("flatten", Flatten(start_dim=0)),
        ("fc", m.affine(18, 3)),
        ("out_lif", m.neuron(LIF, (3,))),
        ("output", Output(shape=(3,))),
    )


@_kind("sumpool")
def _sumpool(m: Maker) -> Graph:
    return _pooled(m, SumPool2d(kernel_size=(2, 2), stride=(2, 2)))


@_kind("avgpool")
def _avgpool(m: Maker) -> Graph:
    return _pooled(m, AvgPool2d(kernel_size=(2, 2), stride=(2, 2)))


@_kind("scale")
def _scale(m: Maker) -> Graph:
    scale = Scale(scale=m.rng.uniform(0.5, 1.5, 6).astype(m.dtype))
    return _dense(
        m,
        ("fc1", m.affine(4, 6)),
        ("scale", scale),
        ("n1", m.neuron(LIF, (6,))),
        ("fc2", m.affine(6, 3)),
        ("n2", m.neuron(LIF, (3,))),
    )


@_kind("threshold")
def _threshold(m: Maker) -> Graph:
    threshold = Threshold(threshold=m.rng.uniform(0.1, 0.8, 6).astype(m.dtype))
    return _dense(m, ("fc1", m.affine(4, 6)), ("step", threshold), ("fc2", m.affine(6, 3)), ("n2", m.neuron(LIF, (3,))))


@_kind("nested-like")
def _nested_like(m: Maker) -> Graph:
    """Dotted names, as an imported subgraph or a traced module gives them."""
    return _dense(
        m,
        ("block.0.fc", m.affine(4, 6)),
        ("block.0.lif", m.neuron(LIF, (6,))),
        ("block.1.fc", m.affine(6, 3)),
        ("block.1.lif", m.neuron(LIF, (3,))),
    )


GRAPH_KINDS: tuple[str, ...] = tuple(_BUILDERS)
