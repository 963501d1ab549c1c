"""Random small NIR graphs for property-based tests, and inputs for them.

    @given(nir_graphs())
    def test_x(graph): ...

Structure (ops, edges, strides, shapes of parameters) is drawn by hypothesis, so failures shrink; numbers come from a
drawn seed. Over some hundred examples every NIR primitive occurs, with chains, fan-in, skip paths, self and long
recurrence. Named graphs are in `tests.graph_kinds` (`make_graph`, re-exported here).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from snnir.graph import Edge, Graph
from snnir.ops import (
    IF,
    LI,
    LIF,
    NIR_OPS,
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
    Neuron,
    Op,
    Output,
    Scale,
    Shape,
    SumPool2d,
    Threshold,
)
from snnir.semantics import NIR_SEMANTICS
from tests.graph_kinds import GRAPH_KINDS, STEPS_PER_TAU, STYLES, Maker, make_graph

__all__ = ["GRAPH_KINDS", "STEPS_PER_TAU", "STYLES", "Maker", "inputs_for", "make_graph", "nir_graphs"]

Array = np.ndarray[Any, np.dtype[Any]]
NEURONS: tuple[type[Op], ...] = (I, IF, LI, LIF, CubaLI, CubaLIF)
INPUT_SHAPES: tuple[Shape, ...] = ((3,), (4,), (2, 5), (1, 4, 4), (2, 6, 6), (2, 5, 4))


def inputs_for(
    graph: Graph, T: int = 6, B: int = 2, rng: np.random.Generator | int = 0, values: str = "mixed"
) -> dict[str, Array]:
    """Random input of every `Input` op: name -> float64 array (T, B, *shape).

    values: 'spikes' (0 or 1, rate 0.4), 'normal' (Gaussian), or 'mixed': one or the other, per input.
    """
    generator = np.random.default_rng(rng)
    found: dict[str, Array] = {}
    for name in graph.inputs:
        shape = (T, B, *graph.shapes[name])
        spikes = values == "spikes" or (values == "mixed" and generator.random() < 0.5)
        drawn = generator.random(shape) < 0.4 if spikes else generator.normal(0.3, 1.0, shape)
        found[name] = drawn.astype(np.float64)
    return found


@st.composite
def nir_graphs(
    draw: st.DrawFn,
    ops: Sequence[type[Op]] = NIR_OPS,
    max_ops: int = 8,
    recurrence: bool = True,
    fan_in: bool = True,
    several_io: bool = False,
    styles: Sequence[str] = STYLES,
    dts: Sequence[float] = (1e-3, 1e-4),
    dtypes: Sequence[Any] = (np.float32, np.float64),
    uniform: bool = False,
    odd_parameter_shapes: bool = True,
    input_shapes: Sequence[Shape] = INPUT_SHAPES,
) -> Graph:
    """A sound random NIR graph with dt in its semantics.

    Args:
        ops: the op types that may occur besides Input and Output.
        max_ops: most ops between input and output (adapters that join loose ends come on top).
        recurrence: allow cycles (each through a neuron). fan_in: allow sums and skip paths.
        several_io: allow a second input and several outputs.
        styles: see `tests.graph_kinds`. dts: time steps in seconds. dtypes: of the parameters, one per graph.
        uniform: all neurons of a population share their parameters, v_leak = v_reset = 0.
        odd_parameter_shapes: also write parameters as scalars or per channel, weights without leading axes.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maker = Maker(rng, draw(st.sampled_from(list(styles))), draw(st.sampled_from(list(dts))), draw(_one(dtypes)))
    growing = _Growing(draw, maker, frozenset(ops), uniform, odd_parameter_shapes)
    growing.start(draw(_one(input_shapes)))
    for _ in range(draw(st.integers(1, max_ops))):
        if len(growing.ops) > max_ops:
            break
        growing.grow(fan_in, recurrence, several_io)
    growing.finish(several_io)
    return Graph(growing.ops, tuple(growing.edges), NIR_SEMANTICS.with_(dt=maker.dt)).verify()


def _one(items: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(list(items))


class _Growing:
    """A graph that is being drawn: its ops, edges and the shape of every value."""

    def __init__(
        self, draw: st.DrawFn, maker: Maker, allowed: frozenset[type[Op]], uniform: bool, odd_shapes: bool
    ) -> None:
        self.draw, self.m, self.allowed, self.uniform, self.odd = draw, maker, allowed, uniform, odd_shapes
        self.ops: dict[str, Op] = {}
        self.edges: dict[Edge, None] = {}
        self.shapes: dict[str, Shape] = {}
        self.adapts = {Flatten, Linear} <= allowed  # loose ends of any shape can be joined

    def chance(self) -> bool:
        return self.draw(st.booleans())

    def add(self, op: Op, *sources: str) -> str:
        name = f"{op.kind.lower()}{len(self.ops)}"
        shape = op.infer({"input": self.shapes[sources[0]]} if sources else {})
        if shape is None:
            raise ValueError(f"{op} has no shape")
        self.ops[name], self.shapes[name] = op, shape
        for source in sources:
            self.connect(source, name)
        return name

    def connect(self, source: str, target: str) -> None:
        self.edges[Edge(source, target)] = None

    def loose_ends(self) -> list[str]:
        read = {edge.source for edge in self.edges}
        return [n for n, op in self.ops.items() if n not in read and not isinstance(op, Output)]

    def start(self, shape: Shape) -> None:
        self.ops["input"], self.shapes["input"] = Input(shape=shape), shape

    def grow(self, fan_in: bool, recurrence: bool, several_io: bool) -> None:
        """Adds one op that reads some value, and perhaps a skip path or a way back."""
        names = list(self.ops)
        last = next(n for n in reversed(names) if n in self.loose_ends() or n == names[-1])
        source = last
        if fan_in and self.adapts and len(names) > 1 and self.draw(st.integers(0, 3)) == 0:
            source = self.draw(_one(names))
        shape = self.shapes[source]
        fitting = [kind for kind in BUILDERS if kind in self.allowed and _fits(kind, shape)]
        if not fitting:
            return
        fitting += [kind for kind in fitting if kind in AXES] * 3  # few shapes admit them
        op = BUILDERS[self.draw(_one(fitting))](self, shape)
        name = self.add(op, source)
        if several_io and "input_b" not in self.ops and self.chance():
            self.ops["input_b"], self.shapes["input_b"] = Input(shape=shape), shape
            self.connect("input_b", name)
        others = [n for n in names if n != source and self.shapes[n] == shape]
        if fan_in and others and self.chance():
            self.connect(self.draw(_one(others)), name)
        if recurrence and isinstance(op, Neuron) and self.chance():
            self.recur(name)

    def recur(self, name: str) -> None:
        """A way back from `name` into itself or into an earlier neuron, straight or through a weight."""
        neurons = [n for n, op in self.ops.items() if isinstance(op, Neuron)]
        target = self.draw(_one(neurons))
        here, there = self.shapes[name], self.shapes[target]
        ways: list[Callable[[], Op | None]] = []
        if here == there:
            ways.append(lambda: None)
            ways += [lambda k=k: BUILDERS[k](self, here) for k in (Scale, Delay) if k in self.allowed]
        if len(here) == 1 and len(there) == 1 and Linear in self.allowed:
            ways.append(lambda: self.m.linear(here[0], there[0]))
        if len(here) == 3 and here == there and Conv2d in self.allowed:
            ways.append(lambda: self.m.conv(Conv2d, here[0], here[0], (3, 3), padding=(1, 1)))
        if not ways:
            return
        op = self.draw(_one(ways))()
        self.connect(name if op is None else self.add(op, name), target)

    def finish(self, several_io: bool) -> None:
        """Joins all loose ends in one output, or gives each shape an output of its own."""
        ends = self.loose_ends()
        if not ends:  # the last op only feeds itself
            ends = [list(self.ops)[-1]]
        if len({self.shapes[n] for n in ends}) > 1 and not several_io:
            ends = [self.add(self.m.linear(*self.flat(n), 3), self.last) for n in ends]
        outputs: dict[Shape, str] = {}
        for end in ends:
            shape = self.shapes[end]
            if shape not in outputs:
                name = outputs[shape] = "output" if not outputs else f"output_{len(outputs)}"
                self.ops[name] = Output(shape=shape if not self.odd or self.chance() else None)
                self.shapes[name] = shape
            self.connect(end, outputs[shape])

    def flat(self, name: str) -> tuple[int]:
        """The size of value `name`, flattened first where it has several axes; `last` is then what to read."""
        self.last = name if len(self.shapes[name]) == 1 else self.add(Flatten(start_dim=0), name)
        return (self.shapes[self.last][0],)

    # -- one builder per op: the shape that arrives -> an op ---------------------------------------------------------

    def parameter_shape(self, shape: Shape) -> Shape:
        """How an elementwise parameter is written: full, scalar, or per channel."""
        if not self.odd:
            return shape
        return self.draw(_one([shape, (), (shape[0], *[1] * (len(shape) - 1))]))

    def dense(self, shape: Shape, bias: bool) -> Op:
        lead, n_in, n_out = shape[:-1], shape[-1], self.draw(st.integers(1, 4))
        if lead and self.odd and self.chance():
            lead = ()
        weight = self.m.normal(*lead, n_out, n_in, fan_in=n_in)
        if not bias:
            return Linear(weight=weight)
        size = (*lead, n_out) if not self.odd or self.chance() else (n_out,)
        return Affine(weight=weight, bias=self.m.bias(*size))

    def conv(self, kind: type[Conv1d] | type[Conv2d], shape: Shape) -> Op:
        channels, *size = shape
        kernel = tuple(self.draw(st.integers(1, min(3, n))) for n in size)
        padding: Any = self.draw(_one(["same", "valid", 0, 1]))
        options: dict[str, Any] = {"padding": padding}
        if padding != "same":
            options["stride"] = tuple(self.draw(st.integers(1, 2)) for _ in size)
        if padding in ("same", 1) and all(2 * (k - 1) < n for k, n in zip(kernel, size, strict=True)):
            options["dilation"] = self.draw(st.integers(1, 2))
        if channels % 2 == 0 and self.chance():
            options["groups"] = 2
        if self.odd and self.chance():
            options["input_shape"] = tuple(size)
        return self.m.conv(kind, channels, 2 * self.draw(st.integers(1, 2)), kernel, **options)

    def pool(self, kind: type[SumPool2d] | type[AvgPool2d], shape: Shape) -> Op:
        kernel = tuple(self.draw(st.integers(1, min(2, n))) for n in shape[1:])
        stride = (self.draw(st.integers(1, 2)), self.draw(st.integers(1, 2)))
        # PyTorch takes padding up to half the kernel.
        padding = tuple(self.draw(st.integers(0, k // 2)) for k in kernel)
        return kind(kernel_size=kernel, stride=stride, padding=padding)

    def flatten(self, shape: Shape) -> Op:
        n = len(shape)
        start = self.draw(st.integers(0, n - 1))
        end = self.draw(st.integers(start, n - 1))
        if end == n - 1 and self.chance():
            end = -1
        return Flatten(start_dim=start, end_dim=end, input_shape=shape if self.odd and self.chance() else None)

    def delay(self, shape: Shape) -> Op:
        steps = self.m.rng.integers(0, 4, self.parameter_shape(shape))
        return Delay(delay=np.asarray(steps * self.m.dt, self.m.dtype))

    def scale(self, shape: Shape) -> Op:
        return Scale(scale=np.asarray(self.m.rng.uniform(-1.5, 1.5, self.parameter_shape(shape)), self.m.dtype))

    def threshold(self, shape: Shape) -> Op:
        drawn = self.m.rng.uniform(0.0, 1.0, self.parameter_shape(shape))
        return Threshold(threshold=np.asarray(drawn, self.m.dtype))

    def neuron(self, kind: type[Op], shape: Shape) -> Op:
        spread = self.parameter_shape(shape)
        if self.uniform:
            return self.m.neuron(kind, shape, spread=spread)
        rng = self.m.rng
        return self.m.neuron(
            kind,
            shape,
            tau=self.m.dt * rng.uniform(5.0, 40.0, spread),
            threshold=rng.uniform(0.3, 1.5, spread),
            v_leak=rng.uniform(-0.3, 0.3, spread) if self.chance() else 0.0,
            v_reset=rng.uniform(-0.5, 0.2, spread) if self.chance() else 0.0,
            spread=spread,
        )


Build = Callable[[_Growing, Shape], Op]
BUILDERS: dict[type[Op], Build] = {
    Affine: lambda g, shape: g.dense(shape, bias=True),
    Linear: lambda g, shape: g.dense(shape, bias=False),
    Conv1d: lambda g, shape: g.conv(Conv1d, shape),
    Conv2d: lambda g, shape: g.conv(Conv2d, shape),
    SumPool2d: lambda g, shape: g.pool(SumPool2d, shape),
    AvgPool2d: lambda g, shape: g.pool(AvgPool2d, shape),
    Flatten: lambda g, shape: g.flatten(shape),
    Delay: lambda g, shape: g.delay(shape),
    Scale: lambda g, shape: g.scale(shape),
    Threshold: lambda g, shape: g.threshold(shape),
    **{kind: lambda g, shape, kind=kind: g.neuron(kind, shape) for kind in NEURONS},
}


AXES: dict[type[Op], int] = {Conv1d: 2, Conv2d: 3, SumPool2d: 3, AvgPool2d: 3}


def _fits(kind: type[Op], shape: Shape) -> bool:
    """Whether an op of this kind can read a value of this shape."""
    return len(shape) == AXES.get(kind, len(shape))
