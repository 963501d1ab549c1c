"""Operations of an image and their energy, by our counting rule (`snnir.cost`) and by the FSDDIM authors' side by side.

Ours: a synapse that takes part in a step; an accumulate where an event arrives, a multiply-accumulate per value that is
not 0 elsewhere; borders counted exactly, biases not. Numbers that meet at a port are added (an accumulate each) and
then multiplied once, whereas events act one by one.

The authors' (utils.CountMulAdd of their code, arXiv 2312.01742): where spikes arrive, additions = spikes x kernel x
output channels / stride^2, plus one per output for the bias; where numbers arrive, as many multiplications as a dense
layer has, and as many additions plus one per output. A linear layer that resamples is not charged: the next one is, as
if fused with it, on the values before (down: kernel 2k with stride 2 on the spikes before the pool; up: kernel k + 2 on
the spikes before the upsampling). Scale, pools and batch norms are not charged. Then MAC = multiplications,
AC = additions - multiplications. Neurons (an addition per step, a multiplication per step without a spike) are counted
apart and do not enter the energy.

Energy: 45 nm, 32-bit floats, 4.6 pJ per MAC and 0.9 pJ per AC (Horowitz, ISSCC 2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from snnir import ops
from snnir.activity import Activity, bound, pace
from snnir.cost import arrivals
from snnir.graph import Graph
from snnir.ops import Array, Op, Shape
from snnir.synapses import fan_out

MAC_JOULES, AC_JOULES = 4.6e-12, 0.9e-12
WEIGHTED = (ops.Linear, ops.Conv)


@dataclass(frozen=True)
class Operations:
    """Accumulates and multiply-accumulates."""

    acs: float = 0.0
    macs: float = 0.0

    def __add__(self, other: Operations) -> Operations:
        return Operations(self.acs + other.acs, self.macs + other.macs)

    def times(self, n: float) -> Operations:
        """`n` times as many."""
        return Operations(self.acs * n, self.macs * n)

    @property
    def joules(self) -> float:
        """The energy at 45 nm."""
        return self.acs * AC_JOULES + self.macs * MAC_JOULES

    def __str__(self) -> str:
        return f"{self.acs:.3g} ACs + {self.macs:.3g} MACs = {self.joules * 1e6:.3g} uJ"


@dataclass(frozen=True)
class ImageCost:
    """What one image takes.

    Attributes:
        ours: by our rule. papers: by the authors' rule.
        neuron_additions, neuron_multiplications: of the neurons, by the authors' rule; in neither of the two.
    """

    ours: Operations
    papers: Operations
    neuron_additions: float
    neuron_multiplications: float


def assumed(graph: Graph, rate: float) -> Activity:
    """An activity in which every neuron sends `rate` events per step, and every other value is a number."""
    most = bound(graph)
    rates = {name: value * rate if name in most.events else value for name, value in most.rate.items()}
    return Activity(rates, most.events)


def per_image(graph: Graph, steps: int, activity: Activity) -> ImageCost:
    """The operations of `steps` steps.

    Args:
        graph: a sound graph; for a whole image an unrolled sampler.
        steps: SNN steps; those of a call, which all calls of an unrolled sampler share.
        activity: what its ops send: measured (`snnir.activity.measure`), or `assumed`.

    Raises:
        CompileError: shapes do not fit.
    """
    ours, papers = sum(by_op(graph, activity).values(), Operations()), Operations()
    shapes, paces = graph.shapes, pace(graph)
    skipped = {name for name in graph.ops if _resamples(graph, name)}
    adds = muls = 0.0
    for name, op in graph.ops.items():
        often = float(paces[name])
        if isinstance(op, ops.Neuron):
            adds += often * prod(shapes[name])
            spikes = float(np.broadcast_to(activity.rate[name], shapes[name]).sum()) if op.spiking else 0.0
            muls += often * (prod(shapes[name]) - spikes)
        if isinstance(op, WEIGHTED) and name not in skipped:
            for sent, shape, wider in _arriving(graph, name, skipped, activity.events):
                events = sent in activity.events
                spikes = float(np.broadcast_to(activity.rate.get(sent, np.ones(())), shape).sum())
                papers += paper_rule(op, shape, shapes[name], spikes if events else None, wider).times(often)
    return ImageCost(ours.times(steps), papers.times(steps), adds * steps, muls * steps)


def by_op(graph: Graph, activity: Activity) -> dict[str, Operations]:
    """Op name -> its operations per step of the graph's input, by our rule; every op, in graph order."""
    paces = pace(graph)
    return {
        name: sum((Operations(*arrivals(graph, name, port, activity)) for port in op.ports), Operations()).times(
            float(paces[name])
        )
        for name, op in graph.ops.items()
    }


def our_rule(op: Op, arriving: Shape, rate: float | Array | None) -> Operations:
    """One op, one step. rate: events per element of what arrives; None where numbers arrive."""
    reached = fan_out(op, arriving)
    if reached is None:
        return Operations()
    if rate is None:
        return Operations(macs=float(reached.sum()))
    return Operations(acs=float((reached * rate).sum()))


def paper_rule(op: Op, arriving: Shape, end: Shape, spikes: float | None, wider: int = 0) -> Operations:
    """One weighted op, one step, by the authors' rule.

    Args:
        op: a convolution or dense weights; anything else costs nothing.
        arriving, end: shapes of its input and output.
        spikes: how many arrive; None where numbers do.
        wider: by how much its kernel is wider because of an upsampling before it.
    """
    if not isinstance(op, WEIGHTED):
        return Operations()
    if spikes is None:
        inputs = arriving[0] // op.groups if isinstance(op, ops.Conv) else arriving[-1]
        taps = prod(op.weight.shape[2:]) if isinstance(op, ops.Conv) else 1
        return Operations(acs=float(prod(end)), macs=float(prod(end)) * inputs * taps)
    if isinstance(op, ops.Conv):
        kernel, stride = prod(k + wider for k in op.weight.shape[2:]), prod(op.strides)
        return Operations(acs=spikes * kernel * op.weight.shape[0] / op.groups / stride + prod(end))
    return Operations(acs=spikes * op.weight.shape[-2] + prod(end))


def _resamples(graph: Graph, name: str) -> bool:
    """Whether weights only complete a pool or an upsampling in front of them."""
    if not isinstance(graph[name], ops.Conv):
        return False
    feeders = [graph[e.source] for e in graph.incoming[name]]
    return all(isinstance(f, (ops.Pool2d, ops.Upsample2d)) for f in feeders)


def _arriving(graph: Graph, name: str, skipped: set[str], events: frozenset[str]) -> list[tuple[str, Shape, int]]:
    """What an op is charged for: senders, their shapes, and how much wider its kernel counts."""
    found: list[tuple[str, Shape, int]] = []
    stack = [(e, 0) for e in graph.incoming[name]]
    numbers: set[tuple[str, str]] = set()  # ports at which numbers have arrived: others are added to them
    while stack:
        edge, wider = stack.pop()
        at = edge.source
        op = graph[at]
        looks_through = at in skipped or isinstance(op, (ops.Concat, ops.Pool2d, ops.Upsample2d, ops.BatchNorm))
        if looks_through and graph.incoming[at]:
            if isinstance(op, ops.Conv) and any(
                isinstance(graph[e.source], ops.Upsample2d) for e in graph.incoming[at]
            ):
                wider += max(op.weight.shape[2:]) - 1
            stack += [(e, wider) for e in graph.incoming[at]]
        elif at in events or (edge.target, edge.port) not in numbers:
            found.append((at, graph.shapes[at], wider))
            numbers |= set() if at in events else {(edge.target, edge.port)}
    return found
