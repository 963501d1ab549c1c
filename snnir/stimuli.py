"""Inputs made up for a graph: what its metadata says they look like, else random spikes.

A model whose inputs are no sparse spikes says so in its metadata:

    {"inputs": {"input": {"steps": 16, "most": 15, "mean": 7.5, "std": 3.0}}}

Every channel of a sample then has a level, normal with `mean` and `std` (numbers, or one per channel), cut to 0..`most`
events per step, and sends `steps` counts that follow it: a first-order sigma-delta coder. `mean` and `std` may also be
lists of such rows, of which each sample takes one: what several channels do together. With `shown`, the first so many
of every `steps` steps have input, and the rest are silent. Where validation, or a target that measures, has no
recorded input, it takes these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.errors import fail
from snnir.graph import Graph
from snnir.ops import Array, Shape

RATE = 0.3
STEPS = 100
_KEYS = {"steps", "shown", "most", "mean", "std"}


def described(graph: Graph) -> bool:
    """Whether a graph says what its inputs look like."""
    return bool(_hints(graph))


def stimuli(
    graph: Graph, steps: int | None = None, batch: int = 8, seed: int = 0, rate: float = RATE
) -> dict[str, Array]:
    """Inputs (T, B, *shape) by name, float64.

    Args:
        graph: the network.
        steps: T; default what the graph says, else STEPS.
        batch: B; seed: of the generator.
        rate: spikes per channel and step of inputs that are not described.

    Raises:
        CompileError: the metadata describes an input that the graph does not have, or not as above.
    """
    hints = _hints(graph)
    said = [int(hint["steps"]) for hint in hints.values() if "steps" in hint]
    length = steps or max(said, default=STEPS)
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for name in graph.inputs:
        shape = graph.shapes[name]
        if name in hints:
            found[name] = _counts(rng, hints[name], length, batch, shape)
        else:
            found[name] = (rng.random((length, batch, *shape)) < rate).astype(np.float64)
    return found


def _counts(rng: np.random.Generator, hint: Mapping[str, Any], steps: int, batch: int, shape: Shape) -> Array:
    mean, std = (np.asarray(hint[key], np.float64) for key in ("mean", "std"))
    rows = rng.random(batch)  # mean and std, where both have rows, in step
    mean, std = (a[(rows * len(a)).astype(int)] if a.ndim > len(shape) else a for a in (mean, std))
    levels = np.clip(mean + std * rng.standard_normal((batch, *shape)), 0.0, float(hint["most"]))
    t = np.arange(steps + 1).reshape(-1, *[1] * levels.ndim)
    counts: Array = np.diff(np.floor(t * levels + 0.5), axis=0)
    if "shown" in hint:
        counts[np.arange(steps) % hint["steps"] >= hint["shown"]] = 0.0
    return counts


def _hints(graph: Graph) -> Mapping[str, Mapping[str, Any]]:
    given = graph.metadata.get("inputs", {})
    for name, hint in given.items() if isinstance(given, Mapping) else [("metadata 'inputs'", None)]:
        if not isinstance(hint, Mapping) or name not in graph.inputs or not _sound(hint, graph.shapes[name]):
            raise fail(
                "metadata-inputs",
                "does not describe an input",
                where=str(name),
                expected=f"for one of {', '.join(graph.inputs)}: most, mean, std, steps and shown (see snnir.stimuli)",
            )
    return given


def _sound(hint: Mapping[str, Any], shape: Shape) -> bool:
    if not {"most", "mean", "std"} <= set(hint) <= _KEYS:
        return False
    if "shown" in hint and not 1 <= hint["shown"] <= hint.get("steps", 0):
        return False
    sizes = [np.shape(hint[key]) for key in ("mean", "std")]
    rows = {size[0] for size in sizes if len(size) > len(shape)}
    return len(rows) <= 1 and all(size == () or size[max(0, len(size) - len(shape)) :] == shape for size in sizes)
