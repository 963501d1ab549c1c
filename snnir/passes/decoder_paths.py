"""Between two denoising calls: the linear paths from what spikes to the first convolution of a later call.

A value x there is a sum of terms, each a source (something that only sends 0 and 1, a graph input, a constant, or a
bias on the way), a chain of weights, and the product of the scalar factors met (those of DDIM). Copies of a call share
their op objects, so equal chains are the same objects, and what is composed of them is composed once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np

from snnir.diffusion.unrolled import binary_ops, call_of
from snnir.graph import Edge, Graph
from snnir.interpreter.stateless import STATELESS
from snnir.ops import Affine, Array, Concat, Constant, Conv, Input, Linear, Neuron, Op, Output, Scale, Shape
from snnir.passes.common import Declined, wide
from snnir.passes.compose import compose

Chain = tuple[Op, ...]


@dataclass(frozen=True)
class Term:
    """source -> chain -> times factor. In a `bias` term it is the source's own bias that goes through the chain."""

    source: str
    chain: Chain
    factor: float
    bias: bool = False
    names: tuple[str, ...] = ()  # of the ops on the way


@dataclass
class Paths:
    """The linear paths of an unrolled graph."""

    graph: Graph
    binary: frozenset[str] = field(init=False)
    _cuts: dict[tuple[int, tuple[int, ...]], list[Op]] = field(default_factory=dict)
    _whole: dict[tuple[object, ...], Op] = field(default_factory=dict)
    _biases: dict[tuple[object, ...], Array] = field(default_factory=dict)
    _held: list[Op] = field(default_factory=list)  # ids in the memos stay those of these ops
    region: dict[str, None] = field(default_factory=dict)  # the linear ops met on the way

    def __post_init__(self) -> None:
        self.binary = binary_ops(self.graph)

    # -- where calls begin -------------------------------------------------------------------------------------------

    def entries(self, first: int = 1) -> list[str]:
        """The ops that take what a call starts from (its first convolution), from call `first` on."""
        return [n for n in self.graph.ops if (call_of(n) or 0) >= first and self.takes_start(self.graph, n)]

    @staticmethod
    def takes_start(graph: Graph, name: str) -> bool:
        """Whether an op takes what its call starts from: graph inputs, or values of other calls."""
        call = call_of(name)
        if call is None or is_factor(graph[name]):
            return False
        sources = [e.source for e in graph.incoming[name]]
        return any(isinstance(graph[s], Input) or call_of(s) not in (None, call) for s in sources)

    def between(self) -> list[str]:
        """The first ops of all calls, and the linear ops from what spikes to them and to the outputs."""
        stack = [*self.entries(0), *self.graph.outputs]
        found: dict[str, None] = dict.fromkeys(stack)
        while stack:
            for edge in self.graph.incoming[stack.pop()]:
                op = self.graph[edge.source]
                linear = op.linear and not op.stateful and edge.source not in self.binary
                if linear and edge.source not in found:
                    found[edge.source] = None
                    stack.append(edge.source)
        return [n for n in self.graph.ops if n in found and n not in self.graph.outputs]

    # -- terms -------------------------------------------------------------------------------------------------------

    def terms(self, edges: Iterable[Edge]) -> list[Term]:
        """The terms of the sum that arrives through `edges`.

        Raises:
            Declined: with the name of an op that neither spikes nor is linear, or that is a call's first convolution
                itself: its kernel would grow from call to call.
        """
        found: dict[tuple[str, tuple[int, ...], bool], Term] = {}
        stack: list[tuple[str, Chain, float, tuple[str, ...]]] = [(e.source, (), 1.0, ()) for e in edges]
        while stack:
            name, chain, factor, names = stack.pop()
            op = self.graph[name]
            if name in self.binary or isinstance(op, (Input, Constant)):
                self._put(found, Term(name, chain, factor, names=names))
                continue
            if isinstance(op, Neuron) or op.stateful or not op.linear or isinstance(op, Output):
                raise Declined(f"{name} ({op.kind}) sends numbers and is not linear")
            if self.takes_start(self.graph, name):
                raise Declined(_real_skip(name, self.graph, names))
            self.region[name] = None
            names = (name, *names)
            if is_factor(op):
                gain = float(op.scale.reshape(()))  # type: ignore[attr-defined]
                stack += [(e.source, chain, factor * gain, names) for e in self.graph.incoming[name]]
            elif isinstance(op, Concat):
                for port, part in zip(op.ports, self._cut(name, op, chain), strict=True):
                    feeders = [e.source for e in self.graph.incoming[name] if e.port == port]
                    stack += [(s, (part, *chain[1:]), factor, names) for s in feeders]
            elif len(op.ports) == 1:
                if _bias(op) is not None:
                    self._put(found, Term(name, chain, factor, True, names))
                stack += [(e.source, (self._bare(op), *chain), factor, names) for e in self.graph.incoming[name]]
            else:
                raise Declined(f"{name} ({op.kind}) has no form as weights")
        return list(found.values())

    @staticmethod
    def _put(found: dict[tuple[str, tuple[int, ...], bool], Term], term: Term) -> None:
        key = term.source, tuple(map(id, term.chain)), term.bias
        before = found.get(key)
        if before is not None:
            names = tuple(dict.fromkeys((*before.names, *term.names)))
            term = replace(term, factor=before.factor + term.factor, names=names)
        found[key] = term

    def _cut(self, name: str, op: Concat, chain: Chain) -> list[Op]:
        """The first op of the chain, which reads the concatenation, as one op per part."""
        first = chain[0] if chain else None
        rank = len(self.graph.shapes[name])
        if not isinstance(first, Conv) or first.groups != 1 or op.axis % rank != 0:
            raise Declined(f"{name} (Concat) mixes spikes and numbers, and what reads it cannot be cut")
        ports = {e.port: self.graph.shapes[e.source][0] for e in self.graph.incoming[name]}
        ends = np.cumsum([ports[p] for p in op.ports])
        key = id(first), tuple(int(e) for e in ends)
        if key not in self._cuts:
            starts = [0, *key[1][:-1]]
            parts = zip(starts, key[1], strict=True)
            self._cuts[key] = [first.with_(weight=first.weight[:, a:b], input_shape=None) for a, b in parts]
            self._held += [first, *self._cuts[key]]
        return self._cuts[key]

    def _bare(self, op: Op) -> Op:
        """The op without its bias and in float64; the same object for the same op."""
        key = id(op), ()
        if key not in self._cuts:
            self._cuts[key] = [bare(op)]
            self._held.append(op)
        return self._cuts[key][0]

    # -- chains as single ops ----------------------------------------------------------------------------------------

    def composed(self, term: Term, last: Op | None) -> Op:
        """The chain of a term, and `last` behind it, as one op in float64 without bias.

        Raises:
            Declined: there is none; the reason says why.
        """
        chain = (*term.chain, *([self._bare(last)] if last is not None else []))
        key = (self.graph.shapes[term.source], *map(id, chain))
        if key not in self._whole:
            shapes = _shapes(self.graph.shapes[term.source], chain)
            whole, start = chain[0], shapes[0]
            for i, op in enumerate(chain[1:], 1):
                whole = compose(whole, op, start, shapes[i], shapes[i + 1], True, lambda _: None)
            self._whole[key] = whole
        return self._whole[key]

    def carried(self, term: Term, last: Op | None) -> Array:
        """What the bias of a term becomes behind its chain and `last`: (C_out, ...), float64, not times the factor."""
        op = self.graph[term.source]
        chain = (*term.chain, *([self._bare(last)] if last is not None else []))
        key = (self.graph.shapes[term.source], id(op), *map(id, chain))
        if key not in self._biases:
            bias = _bias(op)
            assert bias is not None
            shape = self.graph.shapes[term.source]
            spread = (
                wide(bias).reshape(-1, *(1,) * (len(shape) - 1)) if isinstance(op, Conv) and bias.ndim == 1 else bias
            )
            start = np.broadcast_to(wide(spread), shape)[None]
            self._biases[key] = reduce(lambda value, o: STATELESS[type(o)](o, value), chain, start)[0]
            self._held.append(op)
        return self._biases[key]


def is_factor(op: Op) -> bool:
    """Whether an op is one number times what arrives, as a DDIM step is."""
    return isinstance(op, Scale) and op.scale.size == 1


def bare(op: Op) -> Op:
    """The op in float64 and without its bias."""
    changes = {name: wide(getattr(op, name)) for name in op.arrays if getattr(op, name) is not None}
    if isinstance(op, Affine):
        return Linear(weight=changes["weight"], metadata=op.metadata, loc=op.loc)
    if isinstance(op, Conv):
        changes["bias"] = np.zeros(op.weight.shape[0])
    return op.with_(**changes)


def _bias(op: Op) -> Array | None:
    bias: Array | None = getattr(op, "bias", None)
    return bias if bias is not None and bias.any() else None


def _shapes(start: Shape, chain: Chain) -> list[Shape]:
    shapes = [start]
    for op in chain:
        shape = op.infer({"input": shapes[-1]})
        assert shape is not None
        shapes.append(shape)
    return shapes


def _real_skip(name: str, graph: Graph, readers: tuple[str, ...]) -> str:
    to = next((n for n in readers if isinstance(graph[n], (Conv, Linear))), readers[0] if readers else "the next call")
    return (
        f"{name} ({graph[name].kind}), the first of its call, also sends its numbers past all neurons to {to}: as "
        "weights on spikes its kernel would grow with every call. Build the model with stem_skip=False"
    )
