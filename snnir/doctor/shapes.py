"""Shapes along edges, as NIR means them: exact, without batch and time axes, nothing broadcast.

Every node's own fields say what it takes and gives; only where they are silent does the shape travel along the edges.
So one wrong shape is one finding, at the edge where it does not fit. Where a mismatch goes away when the leading axes
of an Input, Output or population are dropped, or when Flatten counts from 0, that is the finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from snnir.doctor.fields import full_shape, short_parameters
from snnir.doctor.finding import Chart
from snnir.doctor.sheet import ELEMENTWISE, NEURONS, Net, Node
from snnir.ops import Shape

MOST_LEADING = 2  # batch, and time


@dataclass
class Guess:
    """What is assumed to be meant: leading axes dropped per node, and Flatten nodes whose start_dim is one less."""

    dropped: dict[str, int] = field(default_factory=dict)
    lowered: set[str] = field(default_factory=set)


@dataclass
class Shapes:
    """What arrives at and leaves each node (None: unknown), and the edges where these differ."""

    takes: dict[str, Shape | None]
    gives: dict[str, Shape | None]
    misfits: list[tuple[str, str]]


def infer_shapes(net: Net, guess: Guess | None = None) -> Shapes:
    """The shapes of a flat graph, as its own fields and, where these are silent, its edges say."""
    guess = guess or Guess()
    feeds, readers = net.feeds(), net.readers()
    takes: dict[str, Shape | None] = dict.fromkeys(net.nodes)
    gives: dict[str, Shape | None] = dict.fromkeys(net.nodes)
    pending, waiting = list(net.nodes), set(net.nodes)
    while pending or (pending := _told_by_readers(net, takes, gives, readers)):
        name = pending.pop(0)
        waiting.discard(name)
        arriving = next((gives[f] for f in feeds[name] if gives[f] is not None), None)
        taken, out = _types(net.nodes[name], arriving, guess)
        takes[name] = takes[name] if taken is None else taken
        if out is not None and gives[name] is None:
            gives[name] = out
            more = [reader for reader in readers[name] if reader not in waiting]
            pending += more
            waiting.update(more)
    misfits = [
        (a, b)
        for a, b in net.edges
        if (given := gives[a]) is not None and takes[b] is not None and given != takes[b] and min(given, default=1) > 0
    ]
    return Shapes(takes, gives, misfits)


def _told_by_readers(
    net: Net, takes: dict[str, Shape | None], gives: dict[str, Shape | None], readers: Mapping[str, list[str]]
) -> list[str]:
    """Gives populations of which nothing else is known the shape that their readers take; the readers come back."""
    for name, node in net.nodes.items():
        if gives[name] is None and (node.kind in NEURONS or node.kind in ELEMENTWISE):
            wanted = next((takes[r] for r in readers[name] if takes[r] is not None), None)
            if wanted is not None and full_shape(node) == ():
                takes[name] = gives[name] = wanted
                return list(readers[name])
    return []


def _types(node: Node, arriving: Shape | None, guess: Guess) -> tuple[Shape | None, Shape | None]:
    """What a node takes and gives."""
    if not node.known:
        return None, None
    if node.kind in ("Input", "Output"):
        shape = node.sizes("shape")
        shape = None if shape is None else shape[guess.dropped.get(node.path, 0) :]
        return (arriving if shape is None else shape), shape
    if node.kind in NEURONS or node.kind in ELEMENTWISE:
        shape = _population(node, arriving, guess)
        return shape, shape
    if node.kind in ("Linear", "Affine"):
        weight = node.array("weight")
        if weight is None or weight.ndim < 2:
            return None, None
        *lead, n_out, n_in = weight.shape
        return (*lead, n_in), (*lead, n_out)
    if node.kind == "Flatten":
        return _flatten(node, arriving, guess)
    if node.kind in ("SumPool2d", "AvgPool2d"):
        return _windowed(node, arriving, arriving, None)
    return _convolution(node, arriving)


def _population(node: Node, arriving: Shape | None, guess: Guess) -> Shape | None:
    own = full_shape(node)
    if own is None:
        return arriving
    own = own[guess.dropped.get(node.path, 0) :]
    if arriving is None:
        return own or None
    try:
        return arriving if np.broadcast_shapes(own, arriving) == arriving else own
    except ValueError:
        return own


def _flatten(node: Node, arriving: Shape | None, guess: Guess) -> tuple[Shape | None, Shape | None]:
    declared = node.sizes("input_type") if node.fields.get("input_type") is not None else None
    shape = declared if declared is not None else arriving
    start, end = node.sizes("start_dim"), node.sizes("end_dim")
    if shape is None or not start or not end:
        return shape, None
    n = len(shape)
    first = start[0] + n if start[0] < 0 else start[0] - (node.path in guess.lowered)
    last = end[0] + n if end[0] < 0 else end[0]
    if not 0 <= first <= last < n:
        return shape, None
    return shape, (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])


def _convolution(node: Node, arriving: Shape | None) -> tuple[Shape | None, Shape | None]:
    weight, groups = node.array("weight"), node.sizes("groups")
    axes = 1 if node.kind == "Conv1d" else 2
    if weight is None or weight.ndim != axes + 2 or not groups:
        return None, None
    declared = node.sizes("input_shape") if node.fields.get("input_shape") is not None else None
    spatial = declared if declared is not None else arriving[-axes:] if arriving and len(arriving) > axes else None
    if spatial is None:
        return None, None
    spatial = spatial * axes if len(spatial) == 1 else spatial
    taken = (weight.shape[1] * groups[0], *spatial)
    return _windowed(node, taken, taken, weight.shape)


def _windowed(
    node: Node, taken: Shape | None, arriving: Shape | None, weight: Shape | None
) -> tuple[Shape | None, Shape | None]:
    """The size of a convolution (`weight`: its shape) or a pool that slides over `arriving`."""
    axes = 2 if weight is None else len(weight) - 2
    if arriving is None or len(arriving) != axes + 1:
        return taken, None
    kernel = node.sizes("kernel_size") if weight is None else weight[2:]
    stride, dilation = node.sizes("stride"), (1,) if weight is None else node.sizes("dilation")
    said = node.text("padding")
    if kernel is None or stride is None or dilation is None or min((*stride, *dilation), default=0) < 1:
        return taken, None
    kernel, stride, dilation = (v * axes if len(v) == 1 else v for v in (kernel, stride, dilation))
    around: Shape | None
    if said == "same":
        around = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=False))
    else:
        pads = (0,) if said == "valid" else node.sizes("padding")
        around = None if pads is None else tuple(2 * p for p in (pads * axes if len(pads) == 1 else pads))
    if around is None or any(len(v) != axes for v in (kernel, stride, dilation, around)):
        return taken, None
    size = tuple(
        (n + a - d * (k - 1) - 1) // s + 1
        for n, a, d, k, s in zip(arriving[1:], around, dilation, kernel, stride, strict=True)
    )
    return taken, (arriving[0] if weight is None else weight[0], *size)


def check_shapes(net: Net, chart: Chart) -> tuple[Shapes, Guess]:
    """Notes what does not fit; returns the shapes as they are meant, and what had to be assumed for it."""
    shapes, guess = infer_shapes(net), Guess()
    while shapes.misfits:
        better = _better(net, shapes, guess)
        if better is None:
            break
        shapes, guess = better
    for name, axes in guess.dropped.items():
        node = net.nodes[name]
        whole = (node.sizes("shape") if node.kind in ("Input", "Output") else full_shape(node)) or ()
        what = f"the {node.kind} has shape {list(whole)}; everything fits with {list(whole[axes:])}"
        chart.add("batch-axis", name, what)
    for name in sorted(guess.lowered):
        start = net.nodes[name].sizes("start_dim")
        what = f"flattens from axis {start[0] if start else ''}; what follows fits from {start[0] - 1 if start else ''}"
        chart.add("flatten-batch", name, what)
    for a, b in shapes.misfits:
        gives, takes = shapes.gives[a] or (), shapes.takes[b] or ()
        what = f"{a} gives {list(gives)}, but {b} takes {list(takes)}"
        chart.add("shape-mismatch", f"{a} -> {b}", what, todo=_advice(net.nodes[b], gives, takes))
    _sizes(net, shapes, chart)
    return shapes, guess


def _better(net: Net, shapes: Shapes, guess: Guess) -> tuple[Shapes, Guess] | None:
    """The guess that mends the most edges by one more assumption; None where none mends any without breaking others."""
    best: tuple[Shapes, Guess] | None = None
    near = {name for edge in shapes.misfits for name in edge} | {n for n, o in net.nodes.items() if o.kind == "Input"}
    for name in net.nodes:
        node = net.nodes[name]
        tries: list[Guess] = []
        if node.kind == "Flatten" and name not in guess.lowered and (node.sizes("start_dim") or (0,))[0] > 0:
            tries.append(Guess(dict(guess.dropped), guess.lowered | {name}))
        if name in near and (node.kind in ("Input", "Output") or node.kind in NEURONS or node.kind in ELEMENTWISE):
            whole = node.sizes("shape") if node.kind in ("Input", "Output") else full_shape(node)
            least = 1 + guess.dropped.get(name, 0)
            most = min(MOST_LEADING, len(whole or ()) - 1)
            leads = [
                k for k in range(least, most + 1) if node.kind in ("Input", "Output") or set((whole or ())[:k]) == {1}
            ]
            tries += [Guess({**guess.dropped, name: k}, set(guess.lowered)) for k in leads]
        for tried in tries:
            found = infer_shapes(net, tried)
            if set(found.misfits) < set(shapes.misfits) and (best is None or len(found.misfits) < len(best[0].misfits)):
                best = found, tried
    return best


def _advice(target: Node, gives: Shape, takes: Shape) -> str:
    weight = target.array("weight")
    if target.kind in ("Linear", "Affine") and weight is not None and weight.ndim == 2:
        if gives == (weight.shape[0],) and weight.shape[0] != weight.shape[1]:
            return "the weight fits when transposed: NIR's is (out, in)"
        if len(gives) > 1 and prod(gives) == weight.shape[1]:
            return "put a Flatten (start_dim 0) in front of it"
    if target.kind in ("Conv1d", "Conv2d") and len(gives) == len(takes) and gives[-1] == takes[0]:
        return "channels come last: NIR's images are (channels, height, width)"
    return ""


def _sizes(net: Net, shapes: Shapes, chart: Chart) -> None:
    """Populations written short, windows larger than their input, and shapes that nothing tells."""
    feeds = net.feeds()
    for name, node in net.nodes.items():
        if not node.known:
            continue
        population = shapes.takes[name]
        if (node.kind in NEURONS or node.kind in ELEMENTWISE) and population is not None:
            if not chart.has("batch-axis", "parameter-shapes", node=name):
                _short(node, population, chart)
        out = shapes.gives[name]
        if out is not None and min(out, default=1) < 1 and node.kind not in ("Input", "Output"):
            chart.add("shape-mismatch", name, f"its window is larger than its input {list(population or ())}")
        if node.kind == "Flatten" and population is not None and out is None and node.sizes("start_dim"):
            dims = f"start_dim {node.sizes('start_dim')}, end_dim {node.sizes('end_dim')}"
            chart.add("shape-mismatch", name, f"{dims} name no range of axes of {list(population)}")
        field_name = {"Conv1d": "input_shape", "Conv2d": "input_shape", "Flatten": "input_type"}.get(node.kind)
        if field_name is not None and node.fields.get(field_name) is None:
            rule = "input-type-missing" if node.kind == "Flatten" else "input-shape-missing"
            chart.add(rule, name, f"the {node.kind} declares no {field_name}", fixable=population is not None)
        ranks = {"Conv1d": 2, "Conv2d": 3, "SumPool2d": 3, "AvgPool2d": 3}
        arriving = next((shape for f in feeds[name] if (shape := shapes.gives[f]) is not None), None)
        silent = population is None or node.kind.endswith("Pool2d")
        if node.kind in ranks and silent and arriving is not None and len(arriving) != ranks[node.kind]:
            axes = "(channels, length)" if node.kind == "Conv1d" else "(channels, height, width)"
            chart.add("shape-mismatch", name, f"takes {axes}, but {list(arriving)} arrives")


def _short(node: Node, population: Shape, chart: Chart) -> None:
    for rule, scalar in (("scalar-parameter", True), ("broadcast-parameter", False)):
        names: Mapping[str, Shape] = {
            n: s for n, s in short_parameters(node, population).items() if (s == ()) == scalar
        }
        if names:
            said = ", ".join(f"{name} {list(shape)}" for name, shape in names.items())
            chart.add(rule, node.path, f"its population has shape {list(population)}, but {said}")
