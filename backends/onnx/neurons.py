"""One step of a population, or of a delay line, as ONNX nodes; its states have names and start values.

The arithmetic, its order included, is that of `snnir.interpreter.cells`; coefficients come from `snnir.discretise`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.backends.onnx.stateless import compare, times
from snnir.backends.onnx.writer import Writer
from snnir.discretise import Recurrence, delay_steps, recurrence
from snnir.ops import Array, Delay, Neuron, Shape
from snnir.semantics import Semantics


@dataclass(frozen=True)
class State:
    """What is carried from step to step.

    Attributes:
        name: of the value before the step; after it, it is `<name>.next`.
        start: before step 0, without the batch axis: the state is (B, *start.shape).
        integer: whether it counts; otherwise it holds real values.
    """

    name: str
    start: Array
    integer: bool = False


def states(name: str, op: Neuron | Delay, semantics: Semantics, shape: Shape) -> dict[str, State]:
    """The states of an op, by what they are: v, i, spikes; line."""
    if isinstance(op, Delay):
        length = int(delay_steps(op, semantics).max(initial=0))
        return {"line": State(f"{name}.line", np.zeros((length, *shape)))} if length else {}
    rule = recurrence(op, semantics)
    found = {"v": State(f"{name}.v", np.broadcast_to(rule.start, shape))}
    if rule.decay_syn is not None:
        found["i"] = State(f"{name}.i", np.zeros(shape))
    if rule.threshold is not None and semantics.reset.startswith("delayed"):
        found["spikes"] = State(f"{name}.spikes", np.zeros(shape))
    return found


def weighted(w: Writer, name: str, op: Neuron, semantics: Semantics, x: str) -> str:
    """The input times the gain of what it arrives at; it needs no state, so it can be made for all steps at once."""
    rule = recurrence(op, semantics)
    gain = rule.gain if rule.gain_syn is None else rule.gain_syn
    return _times(w, f"{name}.input", x, f"{name}.gain", gain)


def _times(w: Writer, name: str, x: str, weight: str, factor: Array) -> str:
    return x if (factor == 1).all() else times(w, x, weight, factor, name)


def neuron_step(
    w: Writer, name: str, op: Neuron, semantics: Semantics, x: str, before: Mapping[str, str], out: str
) -> tuple[str, dict[str, str]]:
    """One step of a population.

    Args:
        x: what `weighted` gives for this step, (B, *shape). before: its states. out: name of the output's value.

    Returns:
        The output, and the states after the step.
    """
    rule, s = recurrence(op, semantics), semantics
    after: dict[str, str] = {}
    if rule.decay_syn is not None:
        decayed = _times(w, f"{name}.i_decayed", before["i"], f"{name}.decay_syn", rule.decay_syn)
        after["i"] = w.node("Add", [decayed, x], f"{name}.i.next")
        current = after["i"] if s.order == "synapse-first" else before["i"]
        x = _times(w, f"{name}.current", current, f"{name}.gain_mem", rule.gain)
    v = before["v"]
    if s.reset == "delayed-value" and rule.decay_syn is None and "spikes" in before:
        v = _to_reset(w, name, rule, _truth(w, name, before["spikes"]), v)
    v = _times(w, f"{name}.v_decayed", v, f"{name}.decay", rule.decay)
    v = w.node("Add", [v, x], f"{name}.v_driven")
    if rule.drive.any():
        # Sum, not Add: ONNX Runtime drops the addition of a number below 1e-8.
        v = w.node("Sum", [v, w.weight(f"{name}.drive", rule.drive)], f"{name}.v_leaked")
    if rule.threshold is not None and s.reset == "delayed-subtract":
        v = _less(w, name, rule, before["spikes"], v)
    elif rule.threshold is not None and s.reset == "delayed-value" and rule.decay_syn is not None:
        v = _to_reset(w, name, rule, _truth(w, name, before["spikes"]), v)
    if s.membrane_floor is not None:
        v = w.node("Max", [v, w.weight("membrane_floor", s.membrane_floor)], f"{name}.v_floored")
    if rule.threshold is None:
        after["v"] = v
        return w.node("Identity", [v], out, own=True), after
    fired = compare(w, name, v, w.weight(f"{name}.threshold", rule.threshold), s.comparison)
    if s.spikes_per_step != 1:
        spikes = _several(w, name, rule, s, v, fired, out)
    else:
        spikes = w.cast(fired, out, own=True)
    if s.reset == "value":
        v = _to_reset(w, name, rule, fired, v)
    elif s.reset == "subtract":
        v = _less(w, name, rule, spikes, v)
    after["v"] = v
    if "spikes" in before:
        after["spikes"] = spikes
    return spikes, after


def _truth(w: Writer, name: str, spikes: str) -> str:
    return w.node("Greater", [spikes, w.weight("zero", 0.0)], f"{name}.fired_before")


def _to_reset(w: Writer, name: str, rule: Recurrence, where: str, v: str) -> str:
    return w.node("Where", [where, w.weight(f"{name}.v_reset", _given(rule.v_reset)), v], f"{name}.v_reset_to")


def _less(w: Writer, name: str, rule: Recurrence, spikes: str, v: str) -> str:
    off = _times(w, f"{name}.taken_off", spikes, f"{name}.threshold", _given(rule.threshold))
    return w.node("Sub", [v, off], f"{name}.v_less")


def _given(value: Any) -> Array:
    return np.asarray(value)


def _several(w: Writer, name: str, rule: Recurrence, s: Semantics, v: str, fired: str, out: str) -> str:
    """As many spikes as the threshold fits into the membrane, up to the limit."""
    one, zero = w.weight("one", 1.0), w.weight("zero", 0.0)
    ratio = w.node("Div", [v, w.weight(f"{name}.threshold", _given(rule.threshold))], f"{name}.ratio")
    if s.comparison == ">":
        count = w.node("Sub", [w.node("Ceil", [ratio], f"{name}.ceiling"), one], f"{name}.fits")
    else:
        count = w.node("Floor", [ratio], f"{name}.fits")
    count = w.node("Max", [count, one], f"{name}.at_least_one")
    if s.spikes_per_step is not None:
        count = w.node("Min", [count, w.weight("spikes_per_step", s.spikes_per_step)], f"{name}.at_most")
    return w.node("Where", [fired, count, zero], out, own=True)


def delay_step(
    w: Writer, name: str, op: Delay, semantics: Semantics, x: str, before: Mapping[str, str], out: str
) -> tuple[str, dict[str, str]]:
    """One step of a delay line (B, steps, *shape), oldest first."""
    if "line" not in before:
        return w.node("Identity", [x], out, own=True), {}
    now = w.node("Unsqueeze", [x, w.ints("axis_1", [1])], f"{name}.arriving")
    line = w.node("Concat", [before["line"], now], f"{name}.whole_line", axis=1)
    steps = delay_steps(op, semantics)
    longest = int(steps.max())

    def back(k: int, end: str, own: bool) -> str:
        place = w.weight(f"{name}.place_{k}", longest - k, np.int64)
        return w.node("Gather", [line, place], end, own, axis=1)

    value = chosen(w, name, steps, back, out)
    ends = [w.ints("from_1", [1]), w.ints("to_end", [np.iinfo(np.int64).max]), w.ints("axis_1", [1])]
    return value, {"line": w.node("Slice", [line, *ends], f"{name}.line.next")}


def chosen(w: Writer, name: str, steps: Array, back: Any, out: str) -> str:
    """Each element from its own number of steps back; `back(k, name, own)` gives all of them k steps back."""
    kinds = sorted(set(steps.reshape(-1).tolist()))
    if len(kinds) == 1:
        return str(back(kinds[0], out, True))
    value = str(back(kinds[0], f"{name}.back_{kinds[0]}", False))
    for k in kinds[1:]:
        where = w.weight(f"{name}.is_{k}", steps == k, np.bool_)
        last = k == kinds[-1]
        chosen_so_far = out if last else f"{name}.up_to_{k}"
        value = w.node("Where", [where, back(k, f"{name}.back_{k}", False), value], chosen_so_far, last)
    return value
