"""forward() with a loop over time, as snnTorch's tutorials write it: a few rounds are traced, and must be one step.

A value within the loop is marked with its round: the source of `fc` in round 1 is called fc, NUL, 1. What is computed a
second time from the same sources is the same op; a layer with state is called once per round, with its own state of the
round before. `torch.stack` over all rounds gives the sequence. Anything else that mixes rounds is refused, so that a
trace that ends means the same for any number of steps.

The loop reads x[t] of an input (T, B, ...), or the same input (B, ...) in every round ('static'): then the graph
repeats the input as often as the loop runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from snnir.frontends.torch_fx.signals import BATCH, SEQUENCE, STEP, Lead, Refuse, Signal, Size, State

ROUNDS = 12  # of a loop over T of unknown length: two show what a round hands to the next, more that it goes on so
_MARK = "\0"
STEP_HINT = "compile the module that does one step, forward(x, state) -> (y, state): snnir runs it over time"
MIX = "compute within a step, collect the steps in a list, and torch.stack it"


@dataclass(frozen=True, eq=False)
class Counted(Size):
    """The number of steps, where Python code counts up to it: that of the example, or ROUNDS."""

    rounds: int = ROUNDS

    def __index__(self) -> int:  # type: ignore[override]
        return self.rounds


@dataclass
class Called:
    """A layer that one round has called: from what, what it gave, and how often it was called.

    `layer` is the layer itself: as long as it is held, no other can have its id.
    """

    layer: Any
    sources: tuple[str, ...]
    value: Any
    needs_state: bool
    count: int = 1


@dataclass
class Loop:
    """What is known of a loop over time.

    Attributes:
        static: every round reads the same input.
        length: how many rounds a loop over T is traced for.
        made: what has been emitted, by what it computes.
        calls: layers of other frameworks by id.
        rounds: how often the loop ran, once something was stacked.
        picked: whether forward() has read a step of a sequence.
    """

    static: bool
    length: int = ROUNDS
    made: dict[Any, Signal] = field(default_factory=dict)
    calls: dict[int, Called] = field(default_factory=dict)
    rounds: int | None = None
    picked: bool = False

    @property
    def seen(self) -> bool:
        """Whether there is a loop: steps were picked, or a layer was called once more."""
        return self.picked or any(called.count > 1 for called in self.calls.values())

    @property
    def lead(self) -> Lead:
        """The leading axes of the model's inputs."""
        return STEP if self.static else (Counted("T", self.length), BATCH)


def parted(x: Signal) -> tuple[Signal, int | None]:
    """A signal without its mark, and the round that it belongs to; None for what no round made.

    Raises:
        Refuse: it is a sum over several rounds.
    """
    marks = {int(mark) for _, found, mark in (name.partition(_MARK) for name in x.sources) if found}
    if len(marks) > 1:
        raise Refuse("adds up values of different steps", hint=MIX)
    names = tuple(dict.fromkeys(name.partition(_MARK)[0] for name in x.sources))
    return (replace(x, sources=names), marks.pop()) if marks else (x, None)


def marked(value: Any, at: int | None) -> Any:
    """Signals and states as those of a round."""
    if at is None:
        return value
    if isinstance(value, Signal):
        return replace(value, sources=tuple(f"{name.partition(_MARK)[0]}{_MARK}{at}" for name in value.sources))
    if isinstance(value, State):
        state = State(value.owner)
        state.parts = [at]
        return state
    return type(value)(marked(v, at) for v in value) if isinstance(value, (tuple, list)) else value


def unmarked_name(name: str) -> str:
    """The op behind a source's name."""
    return name.partition(_MARK)[0]


def together(inputs: Mapping[str, Signal]) -> tuple[dict[str, Signal], int | None]:
    """Inputs without marks, and the one round that they belong to."""
    plain: dict[str, Signal] = {}
    rounds: set[int] = set()
    for port, x in inputs.items():
        plain[port], at = parted(x)
        rounds |= set() if at is None else {at}
    if len(rounds) > 1:
        raise Refuse("computes with values of different steps", hint=MIX)
    return plain, rounds.pop() if rounds else None


def identity(kind: type, inputs: Mapping[str, Signal], tensors: Mapping[str, Any], fields: Mapping[str, Any]) -> Any:
    """What an op computes, as a key: equal keys, equal values. `tensors`: something hashable for each."""
    values = tuple((k, v.tobytes() if isinstance(v, np.ndarray) else repr(v)) for k, v in sorted(fields.items()))
    ports = tuple((port, x.sources, x.shape, x.lead) for port, x in sorted(inputs.items()))
    return kind, ports, tuple(sorted(tensors.items())), values


def step(loop: Loop, x: Signal, at: int) -> Signal:
    """x[at] of a sequence."""
    loop.picked = True
    if at < 0:
        raise Refuse("picks a step counted from the end", hint=MIX)
    result: Signal = marked(replace(x, lead=STEP), at)
    return result


def stacked(loop: Loop, values: Any, dim: int) -> Any:
    """torch.stack of what the rounds gave, in their order."""
    if dim != 0 or not isinstance(values, (tuple, list)) or not values:
        raise Refuse("stacks along another axis than a new one in front", expected="torch.stack(steps)")
    if all(isinstance(v, State) for v in values):
        return State(values[0].owner)
    if not all(isinstance(v, Signal) for v in values):
        raise Refuse("stacks something else than the steps of the loop")
    found = [parted(v) for v in values]
    first = found[0][0]
    same = all((x.sources, x.shape, x.lead) == (first.sources, first.shape, first.lead) for x, _ in found)
    if not same or [at for _, at in found] != list(range(len(found))):
        raise Refuse("stacks something else than one value of every step, in order", hint=MIX)
    if loop.rounds not in (None, len(found)):
        raise Refuse(f"stacks {len(found)} steps here, {loop.rounds} elsewhere")
    loop.rounds = len(found)
    return Signal(first.sources, first.shape, SEQUENCE, len(found) if loop.static else first.steps)


def check_states(called: Called | None, states: tuple[Any, ...], name: str, kind: str) -> None:
    """The states that a round hands to a layer: none or zeros in the first, the layer's own of the round before later.

    Raises:
        Refuse: anything else.
    """
    for state in states or (None,):
        if called is None:
            zero = isinstance(state, Tensor) and not bool(state.detach().ne(0).any())
            if not (state is None or zero):
                raise Refuse(f"the state of {kind} before the first step is not zero", expected="zeros, or None")
        elif isinstance(state, Signal):
            x, at = parted(state)
            given = called.value if isinstance(called.value, (tuple, list)) else (called.value,)
            own = any(isinstance(v, Signal) and v.sources == x.sources for v in given)
            if not own or at != called.count - 1:
                raise Refuse(f"{kind} gets another signal as its state", expected="its own of the step before")
        elif isinstance(state, State):
            if state.owner != name or state.parts != [called.count - 1]:
                raise Refuse(f"{kind} gets the state of {state.owner}", expected="its own of the step before")
        elif isinstance(state, Tensor) or (state is None and called.needs_state):
            raise Refuse(f"{kind} starts anew in every step", expected="its own state of the step before")
