"""Random graphs of both dialects for the passes: rich in what a pass looks for, small, and with numbers that tell.

Structure is drawn by hypothesis (so failures shrink), numbers come from a drawn seed, in float64, so that rounding
cannot flip a spike. `same` holds two graphs to the same outputs and, where op names survive, to the same values there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import snnir
from snnir import ops
from snnir.graph import Edge, Graph
from snnir.ops import Op, Shape, SpikingNeuron
from snnir.pipeline import Entry, parse_pipeline, run_pipeline
from snnir.semantics import Semantics

Array = np.ndarray[Any, np.dtype[Any]]
MAPS: tuple[Shape, ...] = ((2, 5, 4), (3, 4, 6), (4, 3, 3), (1, 6, 6), (2, 1, 1))
MIXED: tuple[Shape, ...] = (*MAPS, (2, 6), (3, 5), (4,), (6,))
several = settings(max_examples=200)


def run(pipeline: str, graph: Graph) -> tuple[Graph, list[Entry]]:
    """The graph after a pipeline, and the pipeline's log."""
    entries: list[Entry] = []
    after = run_pipeline(graph, parse_pipeline(pipeline), lambda step: entries.extend(step.entries))
    return after, entries


def declined(entries: list[Entry], *words: str) -> bool:
    """Whether the log holds a refusal whose place and reason hold all the words."""
    return any(e.kind == "declined" and all(w in f"{e.where}: {e.text}" for w in words) for e in entries)


def kinds(graph: Graph) -> list[str]:
    """The op types of a graph besides inputs and outputs, sorted."""
    return sorted(op.kind for op in graph.ops.values() if not isinstance(op, (ops.Input, ops.Output)))


def inputs(graph: Graph, seed: int, steps: int = 7, batch: int = 2) -> dict[str, Array]:
    """Random input: spikes for every other input, numbers for the rest."""
    rng = np.random.default_rng(seed)
    found = {}
    for i, name in enumerate(graph.inputs):
        shape = (steps, batch, *graph.shapes[name])
        found[name] = (rng.random(shape) < 0.4).astype(float) if (i + seed) % 2 else rng.normal(0.2, 1.0, shape)
    return found


def same(before: Graph, after: Graph, seed: int = 0, steps: int = 7, tolerance: float = 1e-7) -> None:
    """Fails unless both graphs give the same outputs, and the same spikes wherever a spiking op kept its name."""
    x = inputs(before, seed, steps)
    names = [n for n, op in before.ops.items() if op.spiking and n in after and after[n].spiking]
    want, spikes = snnir.interpret(before, x, record=names)
    got, spikes_after = snnir.interpret(after, x, record=names)
    assert before.outputs == after.outputs
    want = want if isinstance(want, dict) else {before.outputs[0]: want}
    got = got if isinstance(got, dict) else {after.outputs[0]: got}
    for name in before.outputs:
        scale = float(np.abs(want[name]).max(initial=1e-3))
        np.testing.assert_allclose(got[name], want[name], rtol=0, atol=tolerance * scale, err_msg=name)
    for name in names:
        there, here = spikes[name], spikes_after[name]
        np.testing.assert_array_equal(here.reshape(here.shape[0], -1), there.reshape(there.shape[0], -1), err_msg=name)


def wired(edges: str, **ops: Any) -> Graph:
    """A graph whose edges are written `a>b c>d.port`."""
    pairs = [edge.split(">") for edge in edges.split()]
    return Graph(ops, tuple((a, *b.split(".")) for a, b in pairs), Semantics(dt=1e-3)).verify()  # type: ignore[misc]


class Grow:
    """A graph that is being drawn: values of known shape, to which ops are added."""

    def __init__(self, draw: st.DrawFn, semantics: Semantics, odd: bool = True, branch: int = 4) -> None:
        self.draw, self.semantics, self.odd, self.branch = draw, semantics, odd, branch
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.ops: dict[str, Op] = {}
        self.edges: dict[Edge, None] = {}
        self.shapes: dict[str, Shape] = {}

    # -- drawing -----------------------------------------------------------------------------------------------------

    def one(self, items: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(items)))

    def chance(self, one_in: int = 2) -> bool:
        return self.draw(st.integers(0, one_in - 1)) == 0

    def n(self, *shape: int) -> Array:
        return self.rng.normal(0.2, 1.0, shape)

    def bias(self, *shape: int) -> Array:
        return np.zeros(shape) if self.chance(3) else self.n(*shape) * 0.5

    def spread(self, shape: Shape) -> Shape:
        """A shape that broadcasts to `shape`."""
        choices: list[Shape] = [shape, (), (shape[0], *[1] * (len(shape) - 1)), shape[-1:], (1, *shape[1:])]
        return self.one(choices)

    # -- building ----------------------------------------------------------------------------------------------------

    def add(self, op: Op, *sources: str, name: str = "") -> str:
        name = name or f"{op.kind.lower()}{len(self.ops)}"
        ports = op.ports if len(op.ports) > 1 else op.ports * len(sources)
        shape = op.infer({p: self.shapes[s] for p, s in zip(ports, sources, strict=True)})
        assert shape is not None
        self.ops[name], self.shapes[name] = op, shape
        for port, source in zip(ports, sources, strict=True):
            self.edges[Edge(source, name, port)] = None
        return name

    def alike(self, shape: Shape, beside: str = "") -> list[str]:
        return [n for n, s in self.shapes.items() if s == shape and n != beside]

    def extend(self, menu: Sequence[str]) -> None:
        """Adds one op of the menu after some value, perhaps summed with another one."""
        names = list(self.ops)
        source = self.one(names) if self.chance(self.branch) else names[-1]
        shape = self.shapes[source]
        if "twin" in menu and len(names) > 2 and self.chance(4):
            self.twin(self.one(names[1:]))
            return
        fitting = [kind for kind in menu if kind != "twin" and len(shape) in FITS.get(kind, (1, 2, 3))]
        if not fitting:
            return
        op = BUILDERS[self.one(fitting)](self, shape)
        if isinstance(op, (ops.Concat, ops.Multiply)):
            others = [s if self.chance() else self.one(self.alike(shape)) for s in [source] * (len(op.ports) - 1)]
            self.add(op, source, *others)
            return
        if isinstance(op, ops.Constant):
            self.add(op)  # a value of that shape, for a later sum
            return
        others = self.alike(shape, source)
        self.add(op, source, *([self.one(others)] if others and self.chance(self.branch) else []))

    def twin(self, name: str) -> None:
        """A second op like `name`, with the same inputs."""
        op = self.ops[name]
        if isinstance(op, ops.Input):
            return
        twin = f"{op.kind.lower()}{len(self.ops)}"
        self.ops[twin], self.shapes[twin] = op.with_(), self.shapes[name]
        for edge in [e for e in self.edges if e.target == name]:
            self.edges[Edge(edge.source, twin, edge.port)] = None

    def recur(self) -> None:
        """A way back from a neuron to an earlier op of the same shape that takes one input."""
        neurons = [n for n, op in self.ops.items() if isinstance(op, ops.Neuron)]
        if not neurons:
            return
        late = self.one(neurons)
        shape = self.shapes[late]
        names = list(self.ops)
        early = [
            n for n in names[: names.index(late) + 1] if self.ops[n].ports == ("input",) and self.takes(n) == shape
        ]
        if not early:
            return
        target = self.one(early)
        if self.chance(4):
            self.edges[Edge(late, target)] = None
            return
        self.edges[Edge(self.add(self.weight(shape), late), target)] = None

    def takes(self, name: str) -> Shape:
        return next(self.shapes[e.source] for e in self.edges if e.target == name)

    def weight(self, shape: Shape) -> Op:
        """Some weight that keeps the shape."""
        if len(shape) == 3:
            return ops.Conv2d(weight=self.n(shape[0], shape[0], 3, 3) * 0.3, bias=self.bias(shape[0]), padding=1)
        return ops.Affine(weight=self.n(shape[-1], shape[-1]) * 0.4, bias=self.bias(shape[-1]))

    def closing(self, shape: Shape) -> Op:
        return _dense(self, shape) if len(shape) == 1 else self.one([_conv, _pointwise])(self, shape)

    def finish(self, max_outputs: int = 4, closed: bool = False) -> Graph:
        """Every value that nobody reads becomes an output (`closed`: through weights of its own)."""
        read = {e.source for e in self.edges}
        loose = [n for n in self.ops if n not in read] or [list(self.ops)[-1]]
        if closed:
            loose = [self.add(self.closing(self.shapes[n]), n) for n in loose]
        outputs: dict[Shape, str] = {}
        for name in loose:
            shape = self.shapes[name]
            if shape not in outputs or (len(outputs) < max_outputs and self.chance(3)):
                outputs[shape] = self.add(ops.Output(), name, name=f"out{len(self.ops)}")
            else:
                self.edges[Edge(name, outputs[shape])] = None
        return Graph(self.ops, tuple(self.edges), self.semantics).verify()


def _conv(g: Grow, shape: Shape) -> Op:
    channels, *sizes = shape
    axes = len(sizes)
    kernel = tuple(g.draw(st.integers(1, 5)) for _ in sizes)
    dilation = tuple(g.one([1, 1, 2]) for _ in sizes)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    groups = g.one([n for n in (1, 1, 2, 3, 4, channels) if channels % n == 0])
    c_out = groups * g.draw(st.integers(1, 3 if groups < 3 else 1))
    stride: Any = 1
    padding: Any = "same" if g.chance(5) else tuple(g.draw(st.integers(0, 2)) for _ in sizes)
    if padding != "same":
        stride = tuple(g.one([1, 1, 2, 3]) for _ in sizes)
        padding = tuple(max(p, (r - n + 1) // 2) for p, r, n in zip(padding, reach, sizes, strict=True))
    weight = g.n(c_out, channels // groups, *kernel)
    cls = ops.Conv2d if axes == 2 else ops.Conv1d
    op = cls(weight=weight, bias=g.bias(c_out), stride=stride, padding=padding, dilation=dilation, groups=groups)
    if g.odd and g.chance(6):
        op = op.with_(bias=g.n(*(op.infer({"input": shape}) or ())))
    return op.with_(input_shape=tuple(sizes)) if g.chance(5) else op


def _pointwise(g: Grow, shape: Shape) -> Op:
    c_out = g.draw(st.integers(1, 4))
    cls = ops.Conv2d if len(shape) == 3 else ops.Conv1d
    return cls(weight=g.n(c_out, shape[0], *[1] * (len(shape) - 1)), bias=g.bias(c_out))


def _pool(g: Grow, shape: Shape) -> Op:
    cls = g.one([ops.AvgPool2d, ops.SumPool2d])
    kernel = tuple(g.draw(st.integers(1, min(3, n))) for n in shape[1:])
    padding = tuple(g.draw(st.integers(0, k // 2)) for k in kernel)
    stride = kernel if g.chance() else tuple(g.draw(st.integers(1, 3)) for _ in kernel)
    return cls(kernel_size=kernel, stride=stride, padding=padding)


def _transposed(g: Grow, shape: Shape) -> Op:
    groups = g.one([n for n in (1, 1, 2, shape[0]) if shape[0] % n == 0])
    c_out = g.draw(st.integers(1, 2))
    kernel, stride = (g.draw(st.integers(1, 3)), g.draw(st.integers(1, 3))), (g.draw(st.integers(1, 2)), 2)
    padding = tuple(min(g.draw(st.integers(0, 1)), (k - 1) // 2) for k in kernel)
    return ops.ConvTranspose2d(
        weight=g.n(shape[0], c_out, *kernel), bias=g.bias(c_out * groups), stride=stride, padding=padding, groups=groups
    )


def _dense(g: Grow, shape: Shape) -> Op:
    lead = shape[:-1] if len(shape) > 1 and g.odd and g.chance() else ()
    n_out = g.draw(st.integers(1, 5))
    weight = g.n(*lead, n_out, shape[-1])
    if g.chance(3):
        return ops.Linear(weight=weight)
    wide = (*shape[:-1], n_out) if g.chance() else (n_out,)
    return ops.Affine(weight=weight, bias=g.bias(*wide))


def _scale(g: Grow, shape: Shape) -> Op:
    return ops.Scale(scale=g.n(*g.spread(shape)) + 0.5)


def _norm(g: Grow, shape: Shape) -> Op:
    n = shape[0]
    alpha, v_th = (1.0, 1.0) if g.chance() else (0.7071, 0.8)
    return ops.BatchNorm(weight=g.n(n), bias=g.n(n), mean=g.n(n), var=g.rng.random(n) + 0.1, alpha=alpha, v_th=v_th)


def _reshape(g: Grow, shape: Shape) -> Op:
    n = int(np.prod(shape))
    to: list[Shape] = [(n,), (n, 1, 1), (1, n), shape]
    return ops.Reshape(shape=g.one(to))


def _flatten(g: Grow, shape: Shape) -> Op:
    start = g.draw(st.integers(0, len(shape) - 1))
    return ops.Flatten(start_dim=start, end_dim=g.one([-1, start]))


def _slice(g: Grow, shape: Shape) -> Op:
    axis = g.draw(st.integers(0, len(shape) - 1))
    start = g.draw(st.integers(0, shape[axis] - 1))
    return ops.Slice(axis=axis, start=start, stop=g.draw(st.integers(start + 1, shape[axis])))


def neuron(g: Grow, shape: Shape, kind: type[Op] | None = None) -> Op:
    """A population with gains, leaks and resets of all kinds."""
    kind = kind or g.one([ops.I, ops.IF, ops.LI, ops.LIF, ops.CubaLI, ops.CubaLIF])
    dt, rng, spread = g.semantics.dt or 1e-3, g.rng, g.spread(shape)
    fields: dict[str, Any] = {}
    for name in kind.arrays:
        if name.startswith("tau"):
            fields[name] = dt * rng.uniform(2.0, 20.0, spread)
    if g.chance():
        fields["r"] = rng.uniform(0.5, 30.0, g.spread(shape))
    if "w_in" in kind.arrays and g.chance():
        fields["w_in"] = rng.uniform(0.5, 5.0, g.spread(shape))
    if "v_leak" in kind.arrays and g.chance(3):
        fields["v_leak"] = rng.uniform(-0.2, 0.2, g.spread(shape))
    if "v_threshold" in kind.arrays:
        fields["v_threshold"] = rng.uniform(0.1, 0.6, g.spread(shape))
        if g.chance(3):
            fields["v_reset"] = rng.uniform(-0.4, 0.05, g.spread(shape))
    return kind(**fields)


BUILDERS: dict[str, Callable[[Grow, Shape], Op]] = {
    "conv": _conv,
    "pointwise": _pointwise,
    "pool": _pool,
    "transposed": _transposed,
    "dense": _dense,
    "scale": _scale,
    "norm": _norm,
    "reshape": _reshape,
    "flatten": _flatten,
    "slice": _slice,
    "neuron": neuron,
    "spiking": lambda g, shape: neuron(g, shape, g.one([ops.IF, ops.LIF, ops.CubaLIF])),
    "concat": lambda g, shape: ops.Concat(
        inputs=g.draw(st.integers(2, 3)), axis=g.draw(st.integers(0, len(shape) - 1))
    ),
    "concat0": lambda g, shape: ops.Concat(inputs=g.draw(st.integers(2, 3))),
    "upsample": lambda g, shape: ops.Upsample2d(factor=(g.draw(st.integers(1, 3)), g.draw(st.integers(1, 2)))),
    "transpose": lambda g, shape: ops.Transpose(axes=tuple(g.draw(st.permutations(range(len(shape)))))),
    "delay": lambda g, shape: ops.Delay(
        delay=(g.semantics.dt or 1e-3) * g.rng.integers(0, 3, g.spread(shape)).astype(float)
    ),
    "threshold": lambda g, shape: ops.Threshold(threshold=g.n(*g.spread(shape))),
    "multiply": lambda g, shape: ops.Multiply(),
    "activation": lambda g, shape: ops.Activation(function=g.one(["sigmoid", "relu", "tanh"])),
    "shift": lambda g, shape: ops.TokenShift(mix=g.rng.random(shape[1:])),
    "constant": lambda g, shape: ops.Constant(value=g.n(*shape)),
}
FITS = {"conv": (2, 3), "pointwise": (2, 3), "pool": (3,), "transposed": (3,), "upsample": (3,), "shift": (2,)}


@st.composite
def graphs(
    draw: st.DrawFn,
    menu: Sequence[str],
    shapes: Sequence[Shape] = MIXED,
    max_ops: int = 7,
    recurrence: bool = True,
    semantics: Semantics | None = None,
    odd: bool = True,
    branch: int = 4,
    closed: bool = False,
) -> Graph:
    """A sound graph made of the ops on the menu (a name that stands twice is twice as likely).

    Args:
        shapes: of the inputs. max_ops: most ops between inputs and outputs. odd: bias maps, weights with leading axes.
        branch: one op in so many reads some earlier value, or a sum of two. closed: outputs come from weights.
    """
    g = Grow(draw, semantics or Semantics(dt=1e-3), odd, branch)
    shape = g.one(shapes)
    g.add(ops.Input(shape=shape), name="in0")
    if g.chance(3):
        g.add(ops.Input(shape=g.one([shape, *shapes])), name="in1")
    for _ in range(draw(st.integers(2, max_ops))):
        g.extend(menu)
    for _ in range(draw(st.integers(0, 2)) if recurrence else 0):
        g.recur()
        for _ in range(draw(st.integers(0, 2))):
            g.extend(menu)
    return g.finish(closed=closed)


def spikes_somewhere(graph: Graph, seed: int = 0) -> bool:
    """Whether any neuron of the graph spikes on the random input."""
    names = [n for n, op in graph.ops.items() if isinstance(op, SpikingNeuron)]
    _, recorded = snnir.interpret(graph, inputs(graph, seed), record=names)
    return any(values.any() for values in recorded.values())
