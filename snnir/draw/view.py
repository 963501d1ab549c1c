"""What there is to draw: boxes with text, links, groups. It knows nothing of files or coordinates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from snnir import ops
from snnir.draw.style import Family, family
from snnir.errors import CompileError
from snnir.graph import Graph
from snnir.naming import identifiers
from snnir.ops import Array, Op, Shape
from snnir.schedule import schedule


@dataclass(frozen=True)
class Box:
    """An op as it is drawn.

    Attributes:
        id: a Python identifier, unique in its view.
        lines: its text, first the op's name.
        details: all that is known about it, one fact per line.
        groups: the modules it lies in, outermost first, each by its whole path: 'down', 'down.0' for `down.0.lif`.
            Only modules of several boxes, and of those that hold the same boxes only the innermost.
    """

    id: str
    family: Family
    lines: tuple[str, ...]
    details: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Link:
    """An edge as it is drawn: between boxes, by id. `late`: it carries the value of the step before."""

    source: str
    target: str
    port: str = ""
    late: bool = False


@dataclass(frozen=True)
class View:
    """A graph as it is drawn; boxes and links in graph order. `tints`: group -> colour of its frame."""

    title: str
    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    tints: Mapping[str, str] = field(default_factory=dict)

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that occur, in the order of the first."""
        return tuple(dict.fromkeys(box.family for box in self.boxes))


def view(graph: Graph, title: str | None = None) -> View:
    """What there is to draw of a graph. Shapes that cannot be inferred are unknown; edges to nowhere are left out."""
    try:
        shapes = dict(graph.shapes)
    except CompileError:
        shapes = {}
    ids = identifiers(graph.ops)
    sound = tuple(e for e in graph.edges if e.source in ids and e.target in ids)
    if len(sound) < len(graph.edges):
        graph = replace(graph, edges=sound)
    late = schedule(graph).back_edges
    groups = _groups(graph)
    boxes = tuple(_box(graph, name, ids[name], shapes.get(name), groups[name]) for name in graph.ops)
    links = tuple(
        Link(ids[e.source], ids[e.target], e.port if len(graph[e.target].ports) > 1 else "", e in late)
        for e in graph.edges
    )
    return View(_summary(graph, shapes) if title is None else title, boxes, links)


def nested(boxes: Iterable[Box], depth: int) -> list[tuple[str, tuple[Box, ...]]]:
    """Boxes by the group they lie in at `depth`; those that lie in none come first, under ''."""
    found: dict[str, list[Box]] = {"": []}
    for box in boxes:
        found.setdefault(box.groups[depth] if len(box.groups) > depth else "", []).append(box)
    return [(group, tuple(members)) for group, members in found.items()]


def amount(n: float) -> str:
    """A number of things in at most four characters: 950, 9.2k, 1.4M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size * 0.9995:
            short = n / size
            return f"{short:.0f}{unit}" if short >= 99.5 else f"{short:.1f}".removesuffix(".0") + unit
    return f"{n:.0f}"


def shape_text(shape: Shape | None) -> str:
    """A shape as people write it: 32x28x28 with the multiplication sign."""
    if shape is None:
        return "shape unknown"
    return "×".join(map(str, shape)) or "scalar"


def _summary(graph: Graph, shapes: dict[str, Shape]) -> str:
    ends = [" + ".join(shape_text(shapes.get(n)) for n in names) for names in (graph.inputs, graph.outputs)]
    parts = [f"{ends[0] or 'nothing'} → {ends[1] or 'nothing'}", f"{len(graph)} ops"]
    parameters = sum(_size(op) for op in graph.ops.values())
    parts.append(f"{amount(parameters)} parameters")
    if graph.semantics.dt is not None:
        parts.append(f"step {graph.semantics.dt * 1e3:g} ms")
    return " · ".join(parts)


def _size(op: Op) -> int:
    return sum(array.size for field in op.arrays if (array := getattr(op, field)) is not None)


def _box(graph: Graph, name: str, ident: str, shape: Shape | None, groups: tuple[str, ...]) -> Box:
    op = graph[name]
    what = " ".join(part for part in (op.kind, _detail(op)) if part)
    size = _size(op)
    lines = [name, what, shape_text(shape)]
    if size > 1 and not isinstance(op, ops.Constant):
        lines[2] += f" · {amount(size)} par."
    details = [name, what, f"shape {shape_text(shape)}", f"{size:,} parameters"]
    details += [f"at {op.loc}"] if op.loc else []
    details += [f"made from {', '.join(graph.origin[name])}"] if name in graph.origin else []
    return Box(ident, family(op), tuple(lines), "\n".join(details), groups)


def _groups(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Op name -> the modules to draw around it. An op's own name is no module (`lif.1` is a second `lif`)."""
    paths: dict[str, list[str]] = {}
    members: Counter[str] = Counter()
    for name in graph.ops:
        parts = name.split(".")
        prefixes = [".".join(parts[:i]) for i in range(1, len(parts)) if all(parts[:i])]
        paths[name] = [path for path in prefixes if path not in graph]
        members.update(paths[name])
    # An inner module with as many members as an outer one holds the same ops.
    hidden = {outer for found in paths.values() for outer, inner in pairwise(found) if members[outer] == members[inner]}
    return {
        name: tuple(path for path in found if members[path] > 1 and path not in hidden) for name, found in paths.items()
    }


def _detail(op: Op) -> str:
    """What sets this op apart from others of its kind, in a few characters."""
    if isinstance(op, (ops.Conv, ops.ConvTranspose2d)):
        stride = max(op.strides if isinstance(op, ops.Conv) else op.stride)
        groups = f", {op.groups} groups" if op.groups > 1 else ""
        return shape_text(op.weight.shape[2:]) + (f" /{stride}" if stride > 1 else "") + groups
    if isinstance(op, ops.Pool2d):
        return shape_text(op.kernel_size)
    if isinstance(op, ops.Upsample2d):
        return shape_text(op.factor)
    if isinstance(op, ops.Neuron):
        return ", ".join(f"{'τ' if f == 'tau' else 'τ ' + f[4:]} {_span(getattr(op, f))}" for f in op.time_constants)
    if isinstance(op, ops.Delay):
        return _span(op.delay)
    if isinstance(op, ops.Activation):
        return op.function
    if isinstance(op, (ops.Repeat, ops.TemporalMean)):
        return f"{op.steps} steps"
    if isinstance(op, ops.Slice):
        return f"{op.start}:{op.stop}" + (f":{op.step}" if op.step != 1 else "")
    return ""


def _span(seconds: Array) -> str:
    if not seconds.size or not np.isfinite(seconds).all():
        return "?"
    low, high = float(seconds.min()) * 1e3, float(seconds.max()) * 1e3
    short = f"{low:.3g}"
    return f"{short} ms" if f"{high:.3g}" == short else f"{short}..{high:.3g} ms"
