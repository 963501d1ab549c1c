"""What ops without synapses compute: norms, gates, products, WKV, means, sums; per step and batch element.

Counting rules:

* Of a formula's terms, an addition or subtraction is an accumulate (AC), and a multiplication, with an addition behind
  it or without, a multiply-accumulate (MAC): what the same hardware does for synapses. Exponentials, divisions and
  square roots are counted beside them, each as one. Comparisons, changes of sign and moves are free.
* Every element counts, whatever its value: 0 is no exception, as it is at synapses.
* What depends on parameters alone (e^log_decay) is computed once and is free; so is a weight of 1 or a bias of 0.
* Numbers that meet at a port are added, an accumulate each; where the same sum goes to several ops, once. Currents that
  meet at a neuron are free, since its synapses accumulate into it.

The formulas are those of the reference interpreter:

====================  ==========================================================================================
Activation            sigmoid 1 / (1 + e^-x): 1 exp, 1 AC, 1 division. silu x / (1 + e^-x): the same. tanh
                      1 - 2 / (1 + e^(x + x)): 1 exp, 3 AC, 1 division. exp: 1. relu2: 1 MAC. relu: none.
Multiply              1 MAC.
LayerNorm             per row of m: mean m AC, 1 MAC; deviations m AC; variance m MAC, 1 MAC; eps 1 AC, 1 root,
                      1 division; times 1 / deviation m MAC; weights and biases a MAC each, an AC for a bias alone.
Wkv                   per token and channel: 7 AC, 6 MAC, 4 exp, 1 division (the running form, which no exponential
                      overflows: two for what has been, two for the token, each for y and for the sums).
TemporalMean          an AC per event or number that arrives, 1 MAC per mean.
====================  ==========================================================================================

TokenShift, Scale, BatchNorm and pools are linear with fixed weights: they have synapses (`snnir.synapses`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import prod

import numpy as np

from snnir import ops
from snnir.activity import Activity, pace
from snnir.graph import Graph
from snnir.ops import Op, Shape
from snnir.synapses import fan_out


@dataclass(frozen=True)
class Arithmetic:
    """Operations of ops without synapses.

    Attributes:
        acs, macs: additions; multiplications, with an addition or without.
        exponentials, divisions, roots: what has no price in the literature's convention.
    """

    acs: float = 0.0
    macs: float = 0.0
    exponentials: float = 0.0
    divisions: float = 0.0
    roots: float = 0.0

    def __add__(self, other: Arithmetic) -> Arithmetic:
        return Arithmetic(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, n: float) -> Arithmetic:
        """`n` times as many."""
        return Arithmetic(*(getattr(self, f.name) * n for f in fields(self)))

    @property
    def special(self) -> float:
        """Exponentials, divisions and roots together."""
        return self.exponentials + self.divisions + self.roots

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))


def arithmetic(op: Op, shape: Shape, arriving: float) -> Arithmetic:
    """What one step of an op takes beside its synapses and its neurons.

    Args:
        op: any op. shape: of its output.
        arriving: events and numbers that arrive in the steps that make one of its own (TemporalMean alone asks).
    """
    if isinstance(op, ops.Activation):
        return _ACTIVATIONS[op.function].times(prod(shape))
    if isinstance(op, ops.Multiply):
        return Arithmetic(macs=prod(shape))
    if isinstance(op, ops.Wkv):
        return Arithmetic(acs=7, macs=6, exponentials=4, divisions=1).times(prod(shape))
    if isinstance(op, ops.LayerNorm):
        return _layer_norm(op).times(prod(shape) / op.weight.size)
    if isinstance(op, ops.TemporalMean):
        return Arithmetic(acs=arriving, macs=prod(shape))
    return Arithmetic()


_ACTIVATIONS = {
    "sigmoid": Arithmetic(acs=1, exponentials=1, divisions=1),
    "silu": Arithmetic(acs=1, exponentials=1, divisions=1),
    "tanh": Arithmetic(acs=3, exponentials=1, divisions=1),
    "exp": Arithmetic(exponentials=1),
    "relu2": Arithmetic(macs=1),
    "relu": Arithmetic(),
}


def _layer_norm(op: ops.LayerNorm) -> Arithmetic:
    """Of one row."""
    size = op.weight.size
    weighted = int(np.count_nonzero(op.weight != 1))
    biased = int(np.count_nonzero((op.weight == 1) & (op.bias != 0)))
    return Arithmetic(acs=2 * size + 1 + biased, macs=2 * size + 2 + weighted, divisions=1, roots=1)


def others_by_op(graph: Graph, sends: Activity) -> dict[str, Arithmetic]:
    """Op name -> what it computes beside synapses and neurons, per step of the graph's input; every op, in order."""
    shapes, paces, sums = graph.shapes, pace(graph), _sums(graph, sends)
    found: dict[str, Arithmetic] = {}
    for name, op in graph.ops.items():
        own = arithmetic(op, shapes[name], _arriving(graph, name, sends)).times(float(paces[name]))
        found[name] = own + Arithmetic(acs=sums.get(name, 0.0))
    return found


def _sums(graph: Graph, sends: Activity) -> dict[str, float]:
    """Op name -> additions of numbers that meet at its ports, where no synapse and no neuron does them."""
    shapes, paces = graph.shapes, pace(graph)
    found: dict[str, float] = {}
    counted: set[frozenset[str]] = set()
    at_synapses: list[tuple[str, list[str]]] = []
    elsewhere: list[tuple[str, list[str]]] = []
    for name, op in graph.ops.items():
        for sources in () if isinstance(op, ops.Neuron) else _meetings(graph, name, sends):
            synaptic = fan_out(op, shapes[sources[0]]) is not None
            (at_synapses if synaptic else elsewhere).append((name, sources))
    counted.update(frozenset(sources) for _, sources in at_synapses)  # `snnir.cost.arrivals` adds them
    for name, sources in elsewhere:
        if frozenset(sources) not in counted:
            counted.add(frozenset(sources))
            additions = (len(sources) - 1) * prod(shapes[sources[0]]) * float(paces[sources[0]])
            found[name] = found.get(name, 0.0) + additions
    return found


def _meetings(graph: Graph, name: str, sends: Activity) -> list[list[str]]:
    """Per port of an op at which several numbers arrive, their sources."""
    ports = [[e.source for e in graph.incoming[name] if e.port == port] for port in graph[name].ports]
    numbers = [[source for source in sources if source not in sends.events] for sources in ports]
    return [sources for sources in numbers if len(sources) > 1]


def _arriving(graph: Graph, name: str, sends: Activity) -> float:
    """Events, and numbers once they have been added, per step of a TemporalMean; 0 for other ops."""
    op = graph[name]
    if not isinstance(op, ops.TemporalMean):
        return 0.0
    size, sources = prod(graph.shapes[name]), [e.source for e in graph.incoming[name]]
    events = [np.broadcast_to(sends.rate.get(s, 1.0), graph.shapes[s]).sum() for s in sources if s in sends.events]
    return op.steps * (float(sum(events)) + size * any(s not in sends.events for s in sources))


def in_words(found: Arithmetic, form: Callable[[float], str]) -> str:
    """`12 AC + 34 MAC + 5 exponentials + 6 divisions`: what there is of each."""
    words = ("AC", "MAC", "exponential", "division", "square root")
    amounts = [getattr(found, f.name) for f in fields(found)]
    said = [
        f"{form(n)} {word}{'s' if word.islower() and n != 1 else ''}"
        for word, n in zip(words, amounts, strict=True)
        if n
    ]
    return " + ".join(said)
