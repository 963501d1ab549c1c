"""The graph: ops by name, edges between ports, one semantics, and where everything came from.

A `Graph` is immutable; `snnir.edit.Editor` makes changed copies. Several edges into one port sum (NIR's convention);
a value that is needed twice is read by two edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.naming import identifiers
from snnir.ops import Array, Constant, Input, Op, Output, Shape, ShapeError, SpikingNeuron
from snnir.semantics import Semantics

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True, order=True)
class Edge:
    """A value flows from op `source` into `port` of op `target`, in the same step."""

    source: str
    target: str
    port: str = "input"

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}" + ("" if self.port == "input" else f".{self.port}")


@dataclass(frozen=True, eq=False)
class Graph:
    """A network.

    Attributes:
        ops: name -> op, in an order that passes and files keep.
        edges: the connections.
        semantics: what one step means to the author of the network.
        origin: op name -> names of the source ops it was made from; an op that is missing here is its own origin.
        metadata: free-form data of the graph itself.
    """

    ops: Mapping[str, Op]
    edges: tuple[Edge, ...]
    semantics: Semantics = Semantics()
    origin: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", MappingProxyType(dict(self.ops)))
        object.__setattr__(self, "edges", tuple(e if isinstance(e, Edge) else Edge(*e) for e in self.edges))
        object.__setattr__(self, "origin", MappingProxyType(dict(self.origin)))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    # -- reading ---------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Op:
        return self.ops[name]

    def __contains__(self, name: object) -> bool:
        return name in self.ops

    def __len__(self) -> int:
        return len(self.ops)

    def __str__(self) -> str:
        from snnir.text import to_text

        return to_text(self)

    def __repr__(self) -> str:
        return f"<Graph of {len(self.ops)} ops, {len(self.edges)} edges>"

    def _repr_svg_(self) -> str:
        from snnir.draw import to_svg

        return to_svg(self)

    @cached_property
    def incoming(self) -> Mapping[str, tuple[Edge, ...]]:
        """Op name -> the edges that end at it."""
        return self._by(lambda edge: edge.target)

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[Edge, ...]]:
        """Op name -> the edges that leave it."""
        return self._by(lambda edge: edge.source)

    def _by(self, end: Any) -> Mapping[str, tuple[Edge, ...]]:
        lists: dict[str, list[Edge]] = {name: [] for name in self.ops}
        for edge in self.edges:
            if end(edge) in lists:
                lists[end(edge)].append(edge)
        return {name: tuple(found) for name, found in lists.items()}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the `Input` ops, in graph order."""
        return tuple(name for name, op in self.ops.items() if isinstance(op, Input))

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the `Output` ops, in graph order."""
        return tuple(name for name, op in self.ops.items() if isinstance(op, Output))

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Op name -> shape of its output, without time and batch axes.

        Raises:
            CompileError: some op cannot take what arrives, or some shape stays unknown.
        """
        found, faults = self._infer_shapes()
        if faults:
            raise CompileError(faults, title="shapes do not fit")
        return found

    def sources(self, name: str) -> tuple[str, ...]:
        """The source ops that op `name` was made from."""
        return self.origin.get(name, (name,))

    def to_networkx(self) -> networkx.DiGraph[str]:
        """The structure as a networkx DiGraph: nodes are op names; parallel edges to several ports merge."""
        import networkx as nx

        structure: networkx.DiGraph[str] = nx.DiGraph()
        structure.add_nodes_from(self.ops)
        structure.add_edges_from((edge.source, edge.target) for edge in self.edges)
        return structure

    # -- weights ---------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Array]:
        """Every array of every op, keyed `op.field`."""
        return {
            f"{name}.{array}": getattr(op, array)
            for name, op in self.ops.items()
            for array in op.arrays
            if getattr(op, array) is not None
        }

    def with_weights(self, weights: Mapping[str, Any]) -> Graph:
        """A copy with some arrays replaced, e.g. by those of a trained module.

        Args:
            weights: `op.field` -> array or tensor of the same shape. Op names may be spelt as in the graph or as
                Python identifiers, which is how emitted modules spell them (so `module.state_dict()` fits).

        An array keeps its type, but one of integers that is given other numbers than its type holds takes theirs. An
        entry that comes back as it was but for the rounding of a shorter type stays as it was.

        Raises:
            CompileError: a key names no array of this graph, a shape differs, or a value is no finite real number.
        """
        spelt = {ident: name for name, ident in identifiers(self.ops).items()}
        changes: dict[str, dict[str, Array]] = {}
        faults: list[Violation] = []
        for key, value in weights.items():
            stem, _, slot = key.rpartition(".")
            name = stem if stem in self.ops else spelt.get(stem, "")
            op = self.ops.get(name)
            if op is None or slot not in op.arrays:
                faults.append(Violation("weights-key", "names no array of this graph", where=key))
                continue
            array, old = _as_array(value), getattr(op, slot)
            if old is None:
                faults.append(Violation("weights-key", f"{name} has no {slot}", where=key))
                continue
            if array.dtype.kind not in "fiub":
                what = f"holds {array.dtype}"
                faults.append(Violation("weights-kind", what, where=key, expected="real numbers"))
                continue
            with np.errstate(over="ignore"):  # what the old type cannot hold is named below
                kept = array.astype(_kept_type(array, old.dtype), copy=True)
            if array.shape != old.shape:
                what = f"shape {list(array.shape)}"
                faults.append(Violation("weights-shape", what, where=key, expected=str(list(old.shape))))
            elif not np.isfinite(array).all():
                faults.append(Violation("weights-finite", "holds values that are not finite", where=key))
            elif not np.isfinite(kept).all():
                what = f"holds values that {old.dtype} cannot hold"
                faults.append(Violation("weights-finite", what, where=key))
            else:
                if kept.dtype == old.dtype and array.dtype.itemsize < old.dtype.itemsize:
                    with np.errstate(over="ignore"):  # what only lost digits in the module's type was not trained
                        kept = np.where(old.astype(array.dtype) == array, old, kept)
                changes.setdefault(name, {})[slot] = kept
        if faults:
            raise CompileError(faults, title="weights do not fit the graph")
        return replace(self, ops={n: op.with_(**changes[n]) if n in changes else op for n, op in self.ops.items()})

    # -- soundness -------------------------------------------------------------------------------------------------

    def verify(self) -> Graph:
        """Returns the graph itself when it is sound.

        Raises:
            CompileError: with every fault: of ops, edges, shapes, and cycles that hold no state.
        """
        faults = list(self.violations())
        if faults:
            raise CompileError(faults, title="the graph is not sound")
        return self

    def violations(self) -> Iterator[Violation]:
        """Yields every fault of the graph; nothing when it is sound."""
        yield from self._op_faults()
        if any(isinstance(op, SpikingNeuron) for op in self.ops.values()):
            yield from self.semantics.violations()
        edge_faults = list(self._edge_faults())
        yield from edge_faults
        if edge_faults:
            return
        from snnir.rates import meeting_rates
        from snnir.schedule import stateless_cycles

        for cycle in stateless_cycles(self):
            yield Violation(
                "graph-cycle",
                f"the cycle {' -> '.join([*cycle, cycle[0]])} holds no state, so its values are undefined",
                where=cycle[0],
                loc=str(self.ops[cycle[0]].loc or ""),
                expected="a neuron or a delay on every cycle",
                hint="route the feedback through a neuron, an integrator or a Delay",
            )
        for edge, rate, others in meeting_rates(self):
            hint = "bring all that meets there to the same steps by Repeat and TemporalMean"
            if isinstance(self.ops[edge.source], Constant):
                hint = "give it a Constant of its own"
            yield Violation(
                "graph-steps",
                f"brings {rate} steps for one of the input, to what has {others}",
                where=str(edge),
                loc=str(self.ops[edge.target].loc or ""),
                expected="as many steps in all that an op reads",
                hint=hint,
            )
        yield from (fault for fault in self._infer_shapes()[1] if fault.rule != "op")  # those stand above

    def _op_faults(self) -> Iterator[Violation]:
        for name, op in self.ops.items():
            if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
                what = "its name holds half a character (a lone surrogate), which no file holds"
                yield Violation("op-name", what, where=ascii(name), loc=str(op.loc or ""))
            if op.__dict__.get("_sound"):
                continue
            messages = list(op.verify())
            for message in messages:
                yield Violation("op", message, where=f"{name} ({op.kind})", loc=str(op.loc or ""))
            if not messages:  # ops are immutable: a sound one needs no second look
                object.__setattr__(op, "_sound", True)

    def _edge_faults(self) -> Iterator[Violation]:
        seen: set[Edge] = set()
        fed: set[tuple[str, str]] = set()
        for edge in self.edges:
            for end, role in ((edge.source, "source"), (edge.target, "target")):
                if end not in self.ops:
                    there = ", ".join(list(self.ops)[:8]) + (", ..." if len(self.ops) > 8 else "")
                    yield Violation(
                        "edge-dangling", f"its {role} {end!r} does not exist", str(edge), hint=f"ops: {there}"
                    )
            if edge in seen:
                yield Violation("edge-duplicate", "stands twice; edges are not weights", where=str(edge))
            seen.add(edge)
            target = self.ops.get(edge.target)
            if target is not None and edge.port not in target.ports:
                takes = ", ".join(target.ports) or "no input"
                yield Violation("edge-port", f"{target.kind} has no port {edge.port!r}", str(edge), expected=takes)
            source = self.ops.get(edge.source)
            if isinstance(source, Output):
                yield Violation("edge-output", "leaves an output", where=str(edge))
            fed.add((edge.target, edge.port))
        for name, op in self.ops.items():
            for port in op.ports:
                if (name, port) not in fed:
                    what = "nothing arrives" if port == "input" else f"nothing arrives at port {port!r}"
                    yield Violation("op-unconnected", what, where=f"{name} ({op.kind})", loc=str(op.loc or ""))
        if not self.inputs and not any(isinstance(op, Constant) for op in self.ops.values()):
            yield Violation("graph-inputs", "has no input", expected="at least one Input")
        if not self.outputs:
            yield Violation("graph-outputs", "has no output", expected="at least one Output")

    def _infer_shapes(self) -> tuple[dict[str, Shape], list[Violation]]:
        from collections import deque

        shapes: dict[str, Shape] = {}
        faults: dict[str, Violation] = {}
        pending = deque(self.ops)
        waiting = set(pending)
        # An op's own parameters may be smaller than its population, so what they say counts only where no path from an
        # input tells the shape.
        guessing = False
        while pending or not guessing:
            if not pending:
                guessing = True
                pending.extend(name for name in self.ops if name not in shapes)
                waiting.update(pending)
                continue
            name = pending.popleft()
            waiting.discard(name)
            if name in faults:
                continue
            try:
                shape = self._infer_one(name, shapes, guessing)
            except (ShapeError, ValueError, TypeError, IndexError, ZeroDivisionError) as error:
                op = self.ops[name]
                # Where its own fields do not fit one another, that is the fault, whatever comes of it here.
                own = next((m for m in op.verify() if m not in set(Op.verify(op))), None)
                if own is None and not isinstance(error, ShapeError):
                    raise
                rule, what = ("shape", str(error)) if own is None else ("op", own)
                faults[name] = Violation(rule, what, f"{name} ({op.kind})", str(op.loc or ""))
                continue
            if shape is None or shapes.get(name) == shape:
                continue
            if guessing and name in shapes and shapes[name] != (op := self.ops[name]).infer({}):
                what = f"its shape does not settle: {list(shapes[name])}, then {list(shape)}"
                faults[name] = Violation("shape", what, f"{name} ({op.kind})", str(op.loc or ""))
                continue
            shapes[name] = shape
            for edge in self.outgoing[name]:
                if edge.target not in waiting and edge.target in self.ops:
                    pending.append(edge.target)
                    waiting.add(edge.target)
        if not faults:
            for name, op in self.ops.items():
                if name not in shapes:
                    what = "its shape cannot be inferred"
                    hint = "give it array parameters, an input_shape, or a path from an input"
                    faults[name] = Violation("shape", what, f"{name} ({op.kind})", str(op.loc or ""), hint=hint)
        return shapes, list(faults.values())

    def _infer_one(self, name: str, shapes: Mapping[str, Shape], guessing: bool) -> Shape | None:
        op = self.ops[name]
        arriving: dict[str, Shape | None] = {}
        first: dict[str, str] = {}
        for edge in self.incoming[name]:
            shape = shapes.get(edge.source)
            if shape is None:
                continue
            if arriving.setdefault(edge.port, shape) != shape:
                there = f"{list(arriving[edge.port] or ())} from {first[edge.port]}"
                raise ShapeError(f"{there} and {list(shape)} from {edge.source} cannot be summed")
            first.setdefault(edge.port, edge.source)
        if len(arriving) < len(op.ports) and not guessing:
            return None
        shape = op.infer(arriving)
        if shape is not None and 0 in shape and not isinstance(op, Input):
            raise ShapeError(f"gives shape {list(shape)}: nothing at all")
        return shape


def _as_array(value: Any) -> Array:
    """An array or tensor (on any device, of any float type) as an array."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    try:
        return np.asarray(tensor)
    except TypeError:  # bfloat16, which NumPy does not have
        return np.asarray(tensor.float())


def _kept_type(new: Array, old: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which `new` values stand where `old` ones stood: nothing may be cut off or wrapped around."""
    if old.kind == "f":
        return old
    if new.dtype.kind == "f":
        return new.dtype
    return old if np.array_equal(new.astype(old), new) else new.dtype


def chain(
    *ops: Op | tuple[str, Op], semantics: Semantics | None = None, metadata: Mapping[str, Any] | None = None
) -> Graph:
    """A graph in which every op feeds the next: a convenience for tests and examples.

    An op without a name is called by its kind in lower case; a second one gets a number behind it.
    """
    named: dict[str, Op] = {}
    for item in ops:
        name, op = item if isinstance(item, tuple) else (item.kind.lower(), item)
        stem, n = name, 1
        while name in named:
            name, n = f"{stem}_{n}", n + 1
        named[name] = op
    names = list(named)
    edges = tuple(Edge(a, b, named[b].ports[0]) for a, b in pairwise(names))
    return Graph(named, edges, semantics or Semantics(), metadata=metadata or {})
