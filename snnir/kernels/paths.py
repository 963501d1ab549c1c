"""From one population to others through a graph's ops: the kernels of all ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from snnir import ops
from snnir.graph import Edge, Graph
from snnir.kernels.kernel import Kernel, NoKernel, identity, image_of, plus, then
from snnir.kernels.of_ops import kernel_of
from snnir.ops import Array, Op, Shape


@dataclass(frozen=True, eq=False)
class _Way:
    """What ops on the way make of the source's image: nothing yet but reshaping (None), a kernel, or why it is none."""

    kernel: Kernel | None = None
    fault: str = ""


def kernels_from(
    graph: Graph,
    source: str,
    reach: set[str],
    lags: Mapping[Edge, int],
    order: Sequence[str],
    delays: Mapping[str, Array],
) -> dict[tuple[str, int], list[Kernel | str]]:
    """Where values of `source` arrive, and by which kernels: (target, delay) -> kernels that add up, or reasons.

    Args:
        graph: the network; reach: the ops between `source` and the targets; order: ops in running order.
        lags: steps that edges take; delays: of Delay ops, in steps.
    """
    arriving: dict[tuple[str, str], dict[int, list[_Way]]] = {}
    ends: dict[tuple[str, int], list[Kernel | str]] = {}

    def send(name: str, ways: Mapping[int, list[_Way]]) -> None:
        for edge in graph.outgoing[name]:
            lag = lags.get(edge, 0)
            for delay, found in ways.items():
                if edge.target in reach:
                    arriving.setdefault((edge.target, edge.port), {}).setdefault(delay + lag, []).extend(found)
                if edge.target not in reach or isinstance(graph[edge.target], ops.Output):
                    ends.setdefault((edge.target, delay + lag), []).extend(_end(w, graph.shapes[name]) for w in found)

    send(source, {0: [_Way()]})
    for name in order:
        op = graph[name]
        if name not in reach or isinstance(op, ops.Output):
            continue
        shapes = {e.port: graph.shapes[e.source] for e in graph.incoming[name]}
        out: dict[int, list[_Way]] = {}
        for port in op.ports:
            for delay, found in arriving.get((name, port), {}).items():
                ways = _merged(found, shapes[port])
                if isinstance(op, ops.Delay):
                    steps = np.unique(delays[name])
                    late = int(steps[0]) if len(steps) == 1 else 0
                    fault = "" if len(steps) == 1 else f"{name} delays some of it longer than the rest"
                    out.setdefault(delay + late, []).extend(replace(w, fault=w.fault or fault) for w in ways)
                    continue
                made = [_through(name, op, port, shapes, graph.shapes[name], way) for way in ways]
                out.setdefault(delay, []).extend(made)
        send(name, {delay: _merged(ways, graph.shapes[name]) for delay, ways in out.items()})
    return {key: _summed(ways) for key, ways in ends.items()}


def _through(name: str, op: Op, port: str, shapes: Mapping[str, Shape], shape: Shape, way: _Way) -> _Way:
    if way.fault:
        return way
    if isinstance(op, (ops.Reshape, ops.Flatten)):
        return way
    try:
        own = kernel_of(op, port, shapes, shape)
        return _Way(own if way.kernel is None else then(way.kernel, own))
    except NoKernel as fault:
        return _Way(fault=f"of {name} ({op.kind}), {fault}")


def _end(way: _Way, shape: Shape) -> Kernel | str:
    return way.fault or way.kernel or identity(image_of(shape))


def _merged(ways: Sequence[_Way], shape: Shape) -> list[_Way]:
    """Ways that add up as few as possible."""
    faults = [way for way in ways if way.fault]
    if faults:
        return faults[:1]
    if len(ways) < 2:
        return list(ways)
    kernels = _summed([way.kernel or identity(image_of(shape)) for way in ways])
    return [_Way(kernel) for kernel in kernels if isinstance(kernel, Kernel)]


def _summed(ways: Sequence[Kernel | str]) -> list[Kernel | str]:
    found: list[Kernel | str] = []
    for way in ways:
        for at, other in enumerate(found):
            if isinstance(way, Kernel) and isinstance(other, Kernel) and way.source == other.source:
                total = plus(other, way) if way.target == other.target else None
                if total is not None:
                    found[at] = total
                    break
        else:
            found.append(way)
    return found
