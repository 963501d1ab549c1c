"""Runs the parts of a placement one after the other: what `run.py` of a compiled one does, here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.interpreter import interpret
from snnir.interpreter.stepping import Steps, rest_of
from snnir.ops import Array
from snnir.placement import lockstep
from snnir.placement.types import Encode, Hold, Loop, Part, Placement

Runner = Callable[[Part, Mapping[str, Array]], Mapping[str, Array]]
Stepper = Callable[[Part], tuple[lockstep.Step, Mapping[str, int]]]
"""A part at rest -> what makes one step of it, and by how many steps each output comes late."""


def in_floats(part: Part, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A part in the interpreter: outputs by name."""
    found = interpret(part.graph, dict(inputs))
    return found if isinstance(found, dict) else {part.graph.outputs[0]: found}


def run(
    placement: Placement, inputs: Mapping[str, Array], runner: Runner = in_floats, stepper: Stepper | None = None
) -> dict[str, Array]:
    """Every value that lies between parts, and the network's outputs, (T, B, *shape) by op name.

    Args:
        placement: of the network.
        inputs: input name -> (T, B, *shape). State is at rest before the first step.
        runner: how a part runs; default in floats, as the whole network's meaning says.
        stepper: how a part of a loop makes its steps; default likewise.
    """
    values: dict[str, Array] = dict(inputs)
    for step in placement.steps:
        if isinstance(step, Encode):
            values[step.name] = encoded(step, values)
            continue
        if isinstance(step, Loop):
            values.update(looped(placement, step, values, stepper))
            continue
        found = runner(step, {name: values[name] for name in step.graph.inputs})
        values.update({op: found[end] for op, end in step.gives.items()})
    return values


def encoded(step: Encode, values: Mapping[str, Array]) -> Array:
    """Repeat: every step becomes `steps`; TemporalMean: as many become one.

    Raises:
        CompileError: the steps do not divide into means.
    """
    total = values[step.sources[0]]
    for name in step.sources[1:]:
        total = total + values[name]
    if step.kind == "Repeat":
        return total.repeat(step.steps, axis=0)
    if total.shape[0] % step.steps:
        what = f"{total.shape[0]} steps do not divide into means over {step.steps}"
        raise CompileError([Violation("steps", what, where=step.name)], title="steps do not fit")
    return np.asarray(total.reshape(-1, step.steps, *total.shape[1:]).mean(axis=1))


def looped(
    placement: Placement, loop: Loop, values: Mapping[str, Array], stepper: Stepper | None = None
) -> dict[str, Array]:
    """What the parts of a loop give, step by step, and what its holds hand on, (T, B, *shape) by name."""
    made = loop.given
    outside = [values[n] for part in loop.parts for n in part.graph.inputs if n not in made]
    like = outside[0] if outside else next(iter(values.values()))
    needed = {*loop.members, *(hold.rest for hold in loop.holds)} & set(placement.graph.ops)
    rest = rest_of(placement.graph, sorted(needed), like.dtype, like.shape[1])
    runners: list[lockstep.Runner] = []
    for part in loop.parts:
        if stepper is None:
            inside = loop.members | made
            given = {n: values[n] for n in part.graph.inputs if n not in inside}
            alone = Steps(part.graph, inside, given, rest, like)
            runners.append(lockstep.Runner(part.graph.inputs, part.gives, alone.step))
        else:
            step, late = stepper(part)
            runners.append(lockstep.Runner(part.graph.inputs, part.gives, step, late))
    holds = {hold.name: held(hold, rest, like.dtype) for hold in loop.holds}
    return lockstep.Loop(runners, holds, values, len(like)).run()


def held(hold: Hold, rest: Mapping[str, Array], dtype: Any = float) -> lockstep.Held:
    """A hold with its first value."""
    first = rest[hold.rest] if hold.rest else np.zeros((1, *hold.steps.shape), dtype)
    return lockstep.Held(hold.sources, hold.steps, first)
