"""What may be wrong with a graph as somebody read it: parameters ignored, edges lost or late, ops lost or confused.

Every function yields hypotheses about the ops it is given: those between the first op that parts and what still agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np

from snnir.edit import Editor
from snnir.graph import Edge
from snnir.ops import (
    Array,
    AvgPool2d,
    Conv1d,
    Conv2d,
    CubaLI,
    CubaLIF,
    Delay,
    Flatten,
    Input,
    Linear,
    Neuron,
    Op,
    Output,
    Scale,
    SumPool2d,
    Transpose,
)
from snnir.schedule import schedule
from snnir.validation.faults import Fault
from snnir.validation.model import Model

Change = Callable[[Op], Op | None]

_IGNORED: Mapping[str, tuple[float, str]] = {
    "r": (1.0, "fold r into the weights before it (the pass normalise-gain)"),
    "w_in": (1.0, "fold w_in into the weights before it (the pass normalise-gain)"),
    "v_leak": (0.0, "move v_leak into a bias of the op before it (bias + v_leak / r)"),
    "v_reset": (0.0, "give the target's neurons the reset value, or train with v_reset 0"),
    "v_threshold": (1.0, "give the target's neurons their thresholds, or scale weights so that all are 1"),
    "scale": (1.0, "fold the scale into the weights beside it (the pass fuse-linear)"),
    "bias": (0.0, "add the bias in the target, or feed it by a constant input of 1 (a weight per bias)"),
}


def whole_faults(model: Model) -> Iterator[Fault]:
    """A parameter ignored, or every recurrent edge lost, in the whole network (where several ops have it)."""
    for field in _IGNORED:
        concerned = [n for n, op in model.graph.ops.items() if _ignoring(op, field) is not None]
        if len(concerned) > 1:
            yield _ignored(model, concerned, field)
    back = sorted(schedule(model.graph).back_edges)
    if len(back) > 1:
        yield Fault(
            "recurrent-edge-lost", "graph", "", f"{len(back)} recurrent edges", "none of them",
            "use a target that takes recurrence, and hand the recurrent weights over", 12,
            partial(model.without_edges, back),
        )  # fmt: skip


def op_faults(model: Model, names: Iterable[str]) -> Iterator[Fault]:
    """Faults of the named ops, their parameters and what arrives there."""
    for name in names:
        op = model.graph[name]
        for field in _IGNORED:
            if _ignoring(op, field) is not None:
                yield _ignored(model, [name], field)
        yield from _changed_parameters(model, name, op)
        yield from _edges(model, name)
        if isinstance(op, Output):
            yield from _wrong_output(model, name)
        elif not isinstance(op, Input):
            yield from _lost_op(model, name, op)
        if isinstance(op, Flatten):
            yield from _flatten_order(model, name, op)


# -- parameters --------------------------------------------------------------------------------------------------------


def _ignoring(op: Op, field: str) -> Op | None:
    """The op without that parameter, or None where it has none that matters."""
    value = getattr(op, field, None) if field in op.arrays else None
    neutral = _IGNORED[field][0]
    if value is None or not np.any(value != neutral):
        return None
    changed: Op = op.with_(**{field: np.full_like(value, neutral)})
    return changed


def _ignored(model: Model, names: list[str], field: str) -> Fault:
    values = np.concatenate([getattr(model.graph[n], field).reshape(-1) for n in names])
    neutral, remedy = _IGNORED[field]
    name = "bias-dropped" if field == "bias" else f"{field}-ignored"
    changed = {n: op for n in names if (op := _ignoring(model.graph[n], field)) is not None}
    where = names[0] if len(names) == 1 else ""
    meant = f"{field} {_range(values)}" if where else f"{field} {_range(values)} of {len(names)} ops"
    return Fault(
        name,
        "graph",
        where,
        meant,
        f"{field} {neutral:g}",
        remedy,
        10 if where else 5,
        partial(model.with_ops, changed),
    )


def _range(values: Array) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _changed_parameters(model: Model, name: str, op: Op) -> Iterator[Fault]:
    def fault(what: str, meant: str, does: str, remedy: str, changed: Op, rank: int = 12) -> Fault:
        return Fault(what, "graph", name, meant, does, remedy, rank, partial(model.with_ops, {name: changed}))

    if isinstance(op, Linear) and op.weight.shape[-1] == op.weight.shape[-2] and op.weight.shape[-1] > 1:
        turned = op.with_(weight=op.weight.swapaxes(-1, -2))
        yield fault("weight-transposed", "weight (out, in)", "its transpose", "transpose the weight", turned)
    if isinstance(op, (Conv1d, Conv2d)):
        yield from _kernels(op, fault)
    if isinstance(op, (SumPool2d, AvgPool2d)):
        other = AvgPool2d if isinstance(op, SumPool2d) else SumPool2d
        changed = other(kernel_size=op.kernel_size, stride=op.stride, padding=op.padding)
        n = int(np.prod(op.kernel_size))
        yield fault("pool-confused", op.kind, other.__name__, f"scale by {n} or 1/{n} behind the pool", changed)
    if isinstance(op, (CubaLI, CubaLIF)) and np.any(op.tau_syn != op.tau_mem):
        swapped = op.with_(tau_syn=op.tau_mem, tau_mem=op.tau_syn)
        yield fault("time-constants-swapped", "tau_syn, tau_mem", "tau_mem, tau_syn", "swap them back", swapped)
    if isinstance(op, Neuron):
        yield from _uniform(op, fault)
        yield from _gains(model, name, op, fault)
    if isinstance(op, Delay):
        dt = model.semantics.dt or 1.0
        for k in (1, 2):
            longer = op.with_(delay=op.delay + k * dt)
            yield fault("delay-longer", "its delay", f"{k} steps more", "shorten the delay", longer)
            if float(op.delay.min(initial=0)) >= 0.999 * k * dt:
                shorter = op.with_(delay=op.delay - k * dt)
                yield fault("delay-shorter", "its delay", f"{k} steps less", "lengthen the delay", shorter)


def _kernels(op: Conv1d | Conv2d, fault: Callable[..., Fault]) -> Iterator[Fault]:
    axes = tuple(range(2, op.weight.ndim))
    if np.prod(op.weight.shape[2:]) > 1:
        flipped = op.with_(weight=np.flip(op.weight, axes))
        words = ("cross-correlation", "convolution (a flipped kernel)", "flip the kernel")
        yield fault("kernel-flipped", *words, flipped)
    if len(axes) == 2 and op.weight.shape[2] == op.weight.shape[3] > 1:
        turned = op.with_(weight=op.weight.swapaxes(2, 3))
        yield fault("weight-transposed", "kernel (y, x)", "kernel (x, y)", "transpose the kernel", turned)
    if op.groups == 1 and op.weight.shape[0] == op.weight.shape[1] > 1:
        swapped = op.with_(weight=op.weight.swapaxes(0, 1))
        yield fault("weight-transposed", "weight (out, in, ...)", "(in, out, ...)", "swap the channel axes", swapped)


def _uniform(op: Neuron, fault: Callable[..., Fault]) -> Iterator[Fault]:
    for field in op.arrays:
        value = getattr(op, field)
        if value.size > 1 and np.any(value != value.reshape(-1)[0]):
            for word, one in (("first", value.reshape(-1)[0]), ("mean", value.mean())):
                changed = op.with_(**{field: np.full_like(value, one)})
                does = f"one {field} for all, the {word} ({one:.4g})"
                remedy = "use a target that takes a parameter per neuron"
                yield fault("parameter-uniform", f"{field} {_range(value)}", does, remedy, changed, 14)


def _gains(model: Model, name: str, op: Neuron, fault: Callable[..., Fault]) -> Iterator[Fault]:
    """r or w_in with dt or tau multiplied in, or taken out: the conventions that frameworks mix up."""
    dt = model.meaning(name).dt or 1.0
    for field, time in (("r", "tau"), ("r", "tau_mem"), ("w_in", "tau_syn")):
        if field not in op.arrays or (time not in op.arrays and time != "tau"):
            continue
        factors: dict[str, Array | float] = {"dt": dt, "1/dt": 1 / dt}
        if time in op.arrays:
            tau = getattr(op, time)
            factors |= {f"dt/{time}": dt / tau, f"{time}/dt": tau / dt, time: tau, f"1/{time}": 1 / tau}
        for word, factor in factors.items():
            changed = op.with_(**{field: getattr(op, field) * factor})
            remedy = f"divide {field} by {word} before the network is handed over"
            yield fault("gain-convention", field, f"{field} * {word}", remedy, changed, 13)


# -- structure ---------------------------------------------------------------------------------------------------------


def _edges(model: Model, name: str) -> Iterator[Fault]:
    incoming = model.graph.incoming[name]
    back = schedule(model.graph).back_edges
    for edge in incoming:
        recurrent = edge in back or model.graph[edge.source] is model.graph[name]
        what, rank = ("recurrent-edge-lost", 11) if recurrent else ("edge-lost", 11)
        remedy = "connect it in the target; where it takes no sum of several inputs, merge them into one weight"
        yield Fault(
            what, "graph", str(edge), "this edge", "nothing", remedy, rank, partial(model.without_edges, [edge])
        )
        yield from _late(model, [edge], str(edge), "edge-delayed", 15)
        yield Fault(
            "edge-doubled", "graph", str(edge), "this edge once", "twice its values", "connect it once", 20,
            partial(_doubled, model, edge),
        )  # fmt: skip
    if len(incoming) > 1:
        yield from _late(model, list(incoming), name, "output-late" if isinstance(model.graph[name], Output) else
                         "op-late", 14)  # fmt: skip


def _late(model: Model, edges: list[Edge], where: str, what: str, rank: int) -> Iterator[Fault]:
    for k in (1, 2, 3):
        steps = f"{k} step{'s' if k > 1 else ''}"
        remedy = f"take the delay of {steps} out, or put one on all parallel paths (the pass balance-latency)"
        yield Fault(
            what, "graph", where, "no delay", f"a delay of {steps}", remedy, rank + k,
            partial(model.with_delay, edges, k),
        )  # fmt: skip


def _doubled(model: Model, edge: Edge) -> Model:
    editor = Editor(model.graph)
    twice = editor.add("twice", Scale(scale=np.asarray(2.0)))
    editor.disconnect(edge)
    editor.connect(edge.source, twice)
    editor.connect(twice, edge.target, edge.port)
    return replace(model, graph=editor.build())


def _lost_op(model: Model, name: str, op: Op) -> Iterator[Fault]:
    feeders = [e.source for e in model.graph.incoming[name]]
    shapes = model.graph.shapes
    if op.ports == ("input",) and feeders and all(shapes[f] == shapes[name] for f in feeders):
        remedy = f"use a target that has {op.kind}, or lower it before"
        yield Fault("op-lost", "graph", name, op.kind, "what arrives, unchanged", remedy, 16,
                    partial(model.bypassing, name))  # fmt: skip


def _wrong_output(model: Model, name: str) -> Iterator[Fault]:
    shape, own = model.graph.shapes[name], {e.source for e in model.graph.incoming[name]}
    for other, op in model.graph.ops.items():
        if other in own and len(own) == 1:
            continue
        if isinstance(op, Output) or model.graph.shapes[other] != shape:
            continue
        remedy = f"read {', '.join(sorted(own))} in the target"
        yield Fault("wrong-output", "graph", name, f"what {', '.join(sorted(own))} gives", f"what {other} gives",
                    remedy, 9, partial(model.reading, name, other))  # fmt: skip


def _flatten_order(model: Model, name: str, op: Flatten) -> Iterator[Fault]:
    feeders = model.graph.incoming[name]
    shape = model.graph.shapes[feeders[0].source]
    if len(model.graph.shapes[name]) != 1 or len(shape) > 4:
        return
    for axes in permutations(range(len(shape))):
        if axes == tuple(range(len(shape))):
            continue
        words = f"the axes in the order {axes}"
        remedy = "permute the columns of the weight behind it"
        yield Fault("flatten-order", "graph", name, "row-major order", words, remedy, 15,
                    partial(_permuted, model, name, axes))  # fmt: skip


def _permuted(model: Model, name: str, axes: tuple[int, ...]) -> Model:
    editor = Editor(model.graph)
    editor.replace(name, Flatten(start_dim=0))
    turned = editor.add("turned", Transpose(axes=axes))
    for edge in editor.incoming(name):
        editor.disconnect(edge)
        editor.connect(edge.source, turned)
    editor.connect(turned, name)
    return replace(model, graph=editor.build())
