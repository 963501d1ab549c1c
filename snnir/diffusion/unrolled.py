"""A sampler that is one graph: which denoising call an op belongs to, and what crosses from call to call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.diffusion.schedule import Rotation
from snnir.errors import Violation
from snnir.graph import Edge, Graph
from snnir.ops import Array, Concat, Flatten, Op, Reshape, Slice, Transpose, Upsample2d

SAMPLER = "sampler"
"""Key of a graph's metadata: the graph is a whole sampler (see `UnrolledSampler`)."""
TIME = "denoising_time"
"""Key of a graph's metadata: the diffusion time that specialise-time wrote into it."""
PREFIX = "call"
KEEPS_BINARY: tuple[type[Op], ...] = (Concat, Flatten, Reshape, Transpose, Slice, Upsample2d)
"""Ops that only move values: they give 0 and 1 where that is what arrives."""


@dataclass(frozen=True)
class UnrolledSampler:
    """A graph that takes noise (the same at every SNN step) and gives the image as a current, its mean over the steps.

    Args:
        calls: the denoising calls, first to last; x <- a x + b y after each, with y what the network gave.
        decoder: what lies between two calls: 'ddim' (relays of numbers, as unroll-sampler makes them), 'factored' or
            'spikes-only' (see fuse-decoder).
    """

    calls: tuple[Rotation, ...]
    decoder: str = "ddim"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {"calls": [[r.t, r.a, r.b] for r in self.calls], "decoder": self.decoder}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> UnrolledSampler:
        """What `to_dict` gave."""
        calls = tuple(Rotation(int(t), float(a), float(b)) for t, a, b in fields["calls"])
        return cls(calls, str(fields.get("decoder", "ddim")))


@dataclass(frozen=True)
class Crossing:
    """What crossed from call to call in a run: values of how many senders, how many were 1, and what was no spike."""

    senders: int
    values: int
    spikes: int
    faults: tuple[Violation, ...] = ()


def sampler_of(graph: Graph) -> UnrolledSampler | None:
    """The sampler that a graph is (metadata 'sampler'); None for a single denoising call, or anything else."""
    fields = graph.metadata.get(SAMPLER)
    return UnrolledSampler.from_dict(fields) if isinstance(fields, Mapping) else None


def in_call(call: int, name: str) -> str:
    """The name of the copy of op `name` in a denoising call."""
    return f"{PREFIX}.{call}.{name}"


def call_of(name: str) -> int | None:
    """The denoising call that an op belongs to, by its name (`call.3.down.conv1`: 3); None for no call's."""
    found = re.match(rf"{PREFIX}\.(\d+)\.", name)
    return int(found[1]) if found else None


def crossing(graph: Graph) -> tuple[Edge, ...]:
    """The edges from one denoising call to another; those of the graph's input and output are none."""
    calls = {name: call_of(name) for name in graph.ops}
    return tuple(
        e
        for e in graph.edges
        if calls[e.source] is not None and calls[e.target] is not None and calls[e.source] != calls[e.target]
    )


def binary_ops(graph: Graph) -> frozenset[str]:
    """The ops that can only give 0 and 1: those that spike, and those that move one such value at a time."""
    found: set[str] = set()
    waiting = [name for name, op in graph.ops.items() if op.spiking]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for edge in graph.outgoing[name]:
            target = graph[edge.target]
            alone = len({e.port for e in graph.incoming[edge.target]}) == len(graph.incoming[edge.target])
            if isinstance(target, KEEPS_BINARY) and alone:
                if all(e.source in found for e in graph.incoming[edge.target]):
                    waiting.append(edge.target)
    return frozenset(found)


def crossing_faults(graph: Graph, recorded: Mapping[str, Array] | None = None) -> list[Violation]:
    """What crosses from call to call and is no spike: one violation per sender; empty when all are 0 or 1.

    Args:
        graph: an unrolled sampler.
        recorded: values (T, B, *shape) of the senders (`{e.source for e in crossing(graph)}`) in a run; then the
            values are held to it. Without, the structure is: only ops that can give nothing but 0 and 1 may send.
    """
    binary = binary_ops(graph)
    faults: list[Violation] = []
    for name in dict.fromkeys(e.source for e in crossing(graph)):
        where, hint = f"{name} ({graph[name].kind})", "fuse-decoder{mode=spikes-only}"
        if recorded is None:
            if name not in binary:
                faults.append(
                    Violation("crossing", "sends numbers to another call", where, expected="spikes", hint=hint)
                )
            continue
        value = recorded[name]
        odd = np.argwhere((value != 0) & (value != 1))
        if len(odd):
            at = tuple(int(i) for i in odd[0])
            what = f"sends {value[at]:.6g} to another call, at step {at[0]}, index {list(at[2:])}"
            more = f"; {len(odd)} of {value.size} values are no spikes"
            faults.append(Violation("crossing", what + more, where, expected="0 or 1", hint=hint))
    return faults


def counted_crossing(graph: Graph, recorded: Mapping[str, Array]) -> Crossing | None:
    """Counts what crossed in a run; None unless the graph is a sampler whose calls are to hand on spikes only.

    Args:
        graph: any graph.
        recorded: values (T, B, *shape) by op name, with those of all senders.
    """
    sampler = sampler_of(graph)
    senders = dict.fromkeys(e.source for e in crossing(graph))
    if sampler is None or sampler.decoder != "spikes-only" or not all(name in recorded for name in senders):
        return None
    sent = [recorded[name] for name in senders]
    values, spikes = sum(v.size for v in sent), sum(int(np.count_nonzero(v == 1)) for v in sent)
    return Crossing(len(senders), values, spikes, tuple(crossing_faults(graph, recorded)))
