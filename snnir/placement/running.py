"""Runs the parts of a placement one after the other: what `run.py` of a compiled one does, here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from snnir.interpreter import interpret
from snnir.ops import Array
from snnir.placement.types import Encode, Part, Placement

Runner = Callable[[Part, Mapping[str, Array]], Mapping[str, Array]]


def in_floats(part: Part, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A part in the interpreter: outputs by name."""
    found = interpret(part.graph, dict(inputs))
    return found if isinstance(found, dict) else {part.graph.outputs[0]: found}


def run(placement: Placement, inputs: Mapping[str, Array], runner: Runner = in_floats) -> dict[str, Array]:
    """Every value that lies between parts, and the network's outputs, (T, B, *shape) by op name.

    Args:
        placement: of the network.
        inputs: input name -> (T, B, *shape). State is at rest before the first step.
        runner: how a part runs; default in floats, as the whole network's meaning says.
    """
    values: dict[str, Array] = dict(inputs)
    for step in placement.steps:
        if isinstance(step, Encode):
            values[step.name] = encoded(step, values)
            continue
        found = runner(step, {name: values[name] for name in step.graph.inputs})
        values.update({op: found[end] for op, end in step.gives.items()})
    return values


def encoded(step: Encode, values: Mapping[str, Array]) -> Array:
    """Repeat: every step becomes `steps`; TemporalMean: as many become one."""
    total = values[step.sources[0]]
    for name in step.sources[1:]:
        total = total + values[name]
    if step.kind == "Repeat":
        return total.repeat(step.steps, axis=0)
    if total.shape[0] % step.steps:
        raise ValueError(f"{step.name}: {total.shape[0]} steps do not divide into means over {step.steps}")
    return np.asarray(total.reshape(-1, step.steps, *total.shape[1:]).mean(axis=1))
