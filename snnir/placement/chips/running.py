"""Runs the chips of a spread network one after the other: what its `run.py` does, here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from snnir.interpreter import interpret
from snnir.ops import Array
from snnir.placement.chips.types import Pick, Spread
from snnir.placement.types import Part

Runner = Callable[[Part, Mapping[str, Array]], Mapping[str, Array]]


def in_floats(part: Part, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A chip in the interpreter: outputs by name."""
    found = interpret(part.graph, dict(inputs))
    return found if isinstance(found, dict) else {part.graph.outputs[0]: found}


def run(spread: Spread, inputs: Mapping[str, Array], runner: Runner = in_floats) -> dict[str, Array]:
    """Every value that chips exchange, and the network's outputs, (T, B, *shape) by op name.

    A chip runs over all steps before the next one begins, so that a hop adds no step.

    Args:
        spread: of the network.
        inputs: input name -> (T, B, *shape). State is at rest before the first step.
        runner: how a chip runs; default in floats, as the whole network's meaning says.
    """
    values: dict[str, Array] = dict(inputs)
    for step in spread.steps:
        if isinstance(step, Pick):
            values[step.name] = picked(step, values)
            continue
        found = runner(step, {name: values[name] for name in step.graph.inputs})
        values.update({op: found[end] for op, end in step.gives.items()})
    return values


def arrivals(spread: Spread, lags: Mapping[str, Mapping[str, int]], hop: int) -> dict[str, int]:
    """Value -> steps by which it comes late when all chips run side by side, step by step.

    A chip begins when the latest of its inputs is there; the others are held back for it.

    Args:
        spread: of the network. lags: chip -> its outputs -> steps by which each comes late off the chip itself.
        hop: steps that spikes take from chip to chip.
    """
    at: dict[str, int] = dict.fromkeys(spread.graph.inputs, 0)
    outside = {*spread.graph.inputs}
    for step in spread.steps:
        if isinstance(step, Pick):
            at[step.name] = max(at[source] for source in step.sources)
            if outside.issuperset(step.sources):
                outside.add(step.name)
            continue
        begins = max((at[name] + hop * (name not in outside) for name in step.graph.inputs), default=0)
        at |= {op: begins + lags[step.name][end] for op, end in step.gives.items()}
    return at


def picked(pick: Pick, values: Mapping[str, Array]) -> Array:
    """The elements of a pick, late by its delay."""
    parts = [values[name].reshape(*values[name].shape[:2], -1) for name in pick.sources]
    chosen = np.concatenate(parts, axis=2)[:, :, list(pick.index)]
    if pick.delay:
        late = np.zeros_like(chosen)
        late[pick.delay :] = chosen[: -pick.delay]
        chosen = late
    return chosen.reshape(*chosen.shape[:2], *pick.shape)
