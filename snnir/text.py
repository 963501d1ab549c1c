"""The text form of a graph: one line per op, readable in diffs and bug reports, and read back without loss.

    snnir.Graph 1
    semantics(dt=0.001, decay="euler", ...)
    x = Input(shape=(4,))
    fc = Linear(weight=f32[6,4]#5891b5b522d5) <- x
    lif = LIF(tau=0.02, v_threshold=f32[6]=1.0) <- fc, rec from ("net.lif",) @ "model.py":12 "net.lif"
    rec = Linear(weight=f32[6,6]#e258d248fda9) <- lif
    y = Output(shape=(6,)) <- lif

Fields at their default are left out. Behind `<-` stand the sources, `port: source` where the port is not `input`;
`from` is the origin, `meta` the metadata, `@` file, line and module. Values are as in `snnir.literals`. Edges are
grouped by their target, so their order among different targets is not kept: nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.graph import Edge, Graph
from snnir.literals import Reader, TextError, digest, quoted, spelt_name, written
from snnir.ops import KINDS, Array, Loc, Op
from snnir.semantics import Semantics
from snnir.values import identical

HEAD = "snnir.Graph 1"


def to_text(graph: Graph, limit: int | None = 8) -> str:
    """A graph as text.

    Args:
        graph: any graph, sound or not.
        limit: arrays of more elements are written as a hash of their content, unless all elements are equal; None
            writes every array in full.
    """
    lines = [HEAD, f"semantics({_assigned(graph.semantics.to_json(), limit)})"]
    if graph.metadata:
        lines.append(f"metadata({written(dict(graph.metadata), limit)})")
    lines += [_op_line(graph, name, op, limit) for name, op in graph.ops.items()]
    lines += [
        f"edge({spelt_name(e.source)} -> {_ported(e.target, e.port)})" for e in graph.edges if e.target not in graph.ops
    ]
    lines += [
        f"origin({spelt_name(name)}, {written(behind, limit)})"
        for name, behind in graph.origin.items()
        if name not in graph.ops
    ]
    return "\n".join(lines) + "\n"


def _assigned(values: Mapping[str, Any], limit: int | None) -> str:
    return ", ".join(f"{name}={written(value, limit)}" for name, value in values.items())


def _ported(name: str, port: str) -> str:
    return spelt_name(name) if port == "input" else f"{spelt_name(port)}: {spelt_name(name)}"


def _op_line(graph: Graph, name: str, op: Op, limit: int | None) -> str:
    shown = {
        f.name: getattr(op, f.name) for f in fields(op) if f.name not in ("metadata", "loc") and not _is_default(op, f)
    }
    # A float64 scalar is by far the commonest parameter: it is written as a bare number.
    plain = {k: float(v) if _is_bare(op, k, v) else v for k, v in shown.items()}
    line = f"{spelt_name(name)} = {op.kind}({_assigned(plain, limit)})"
    sources = [_ported(e.source, e.port) for e in graph.incoming[name]]
    line += f" <- {', '.join(sources)}" if sources else ""
    line += f" from {written(graph.origin[name], limit)}" if name in graph.origin else ""
    line += f" meta {written(dict(op.metadata), limit)}" if op.metadata else ""
    if op.loc is not None:
        line += f" @ {quoted(op.loc.file)}:{op.loc.line} {quoted(op.loc.module)}"
    return line


def _is_default(op: Op, item: Field[Any]) -> bool:
    value = getattr(op, item.name)
    if isinstance(item.default, int) and isinstance(value, tuple):  # one size for all axes
        return all(identical(n, item.default) for n in value)
    if item.default is not MISSING:
        return identical(value, item.default)
    if item.default_factory is not MISSING:
        return identical(np.asarray(value), np.asarray(item.default_factory()))
    return False


def _is_bare(op: Op, name: str, value: Any) -> bool:
    return name in op.arrays and isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype == np.float64


def from_text(text: str, arrays: Mapping[str, Array] | None = None) -> Graph:
    """The graph that `to_text` wrote. It is not verified.

    Args:
        text: the text.
        arrays: where arrays are found that the text names by their hash; the keys do not matter, so the weights of
            the graph (`graph.weights()`) or of any other source serve.

    Raises:
        CompileError: with every line that cannot be read, and every array that is not given.
    """
    given = {digest(array): array for array in (np.asarray(a) for a in (arrays or {}).values())}
    parts = _Parts(given)
    lines = text.split("\n")
    if not lines or lines[0].strip() != HEAD:
        what = f"the text begins with {lines[0][:40]!r}"
        raise CompileError(
            [Violation("text", what, where="line 1", expected=repr(HEAD))], title="no graph in text form"
        )
    for number, line in enumerate(lines[1:], 2):
        if line.strip() and not line.startswith("#"):
            parts.read(number, line)
    if parts.faults:
        raise CompileError(parts.faults, title="the text cannot be read")
    edges = tuple(edge for edges in parts.edges.values() for edge in edges)
    return Graph(parts.ops, edges, parts.semantics, parts.origin, parts.metadata)


@dataclass
class _Parts:
    """What has been read so far."""

    given: Mapping[str, Array]
    ops: dict[str, Op] = field(default_factory=dict)
    edges: dict[str, list[Edge]] = field(default_factory=dict)
    origin: dict[str, tuple[str, ...]] = field(default_factory=dict)
    semantics: Semantics = field(default_factory=Semantics)
    metadata: dict[str, Any] = field(default_factory=dict)
    faults: list[Violation] = field(default_factory=list)

    def read(self, number: int, line: str) -> None:
        """Reads one line, or notes why it cannot be read."""
        reader = Reader(line, self._find)
        try:
            name = reader.name()
            if reader.take("="):
                self._op(reader, name)
            else:
                self._directive(reader, name)
            if not reader.at_end():
                raise reader.fail("the end of the line")
        except _MissingArray as error:
            hint = "from_text(text, arrays=graph.weights()), or write the text with limit=None"
            self.faults.append(
                Violation("text-array", f"array {error} is not given", where=f"line {number}", hint=hint)
            )
        except (TextError, ValueError, TypeError, OverflowError, MemoryError) as error:
            self.faults.append(Violation("text", str(error), where=f"line {number}"))

    def _find(self, wanted: str) -> Array:
        if wanted not in self.given:
            raise _MissingArray(f"#{wanted}")
        return self.given[wanted]

    def _op(self, reader: Reader, name: str) -> None:
        kind = reader.word("the kind of an op")
        if kind not in KINDS:
            raise TextError(f"there is no op called {kind!r}")
        if name in self.ops:
            raise TextError(f"the op {name!r} stands twice")
        reader.need("(")
        values = dict(reader.items(")", lambda: _assignment(reader)))
        edges = self.edges.setdefault(name, [])
        if reader.take("<-"):
            edges.append(_incoming(reader, name))
            while reader.take(","):
                edges.append(_incoming(reader, name))
        if reader.take("from "):
            self.origin[name] = reader.value()
        metadata = reader.value() if reader.take("meta ") else {}
        loc = _loc(reader) if reader.take("@") else None
        made: Any = KINDS[kind]
        self.ops[name] = made(**values, metadata=metadata, loc=loc)

    def _directive(self, reader: Reader, word: str) -> None:
        reader.need("(")
        if word == "semantics":
            self.semantics = Semantics.from_json(dict(reader.items(")", lambda: _assignment(reader))))
        elif word == "metadata":
            self.metadata = reader.value()
            reader.need(")")
        elif word == "edge":
            source = reader.name()
            reader.need("->")
            first = reader.name()
            edge = Edge(source, reader.name(), first) if reader.take(":") else Edge(source, first)
            reader.need(")")
            self.edges.setdefault(edge.target, []).append(edge)
        elif word == "origin":
            name = reader.name()
            reader.need(",")
            self.origin[name] = reader.value()
            reader.need(")")
        else:
            raise TextError(f"expected `name = Op(...)`, semantics, metadata, edge or origin, found {word!r}")


class _MissingArray(Exception):
    """An array that the text names only by its hash, and that was not given."""


def _assignment(reader: Reader) -> tuple[str, Any]:
    name = reader.word("a field")
    reader.need("=")
    return name, reader.value()


def _incoming(reader: Reader, target: str) -> Edge:
    first = reader.name()
    return Edge(reader.name(), target, first) if reader.take(":") else Edge(first, target)


def _loc(reader: Reader) -> Loc:
    file = reader.string()
    reader.need(":")
    line = reader.value()
    return Loc(file, line, reader.string())
