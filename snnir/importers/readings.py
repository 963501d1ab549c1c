"""How a node may have been read: the file's own way, and one changed thing after the other.

A `Reading` is an op and the semantics it runs under; a `Change` makes another of it. The search tries single changes,
then what is on record for the framework, then pairs, and keeps of what agrees only the changes that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from snnir.errors import CompileError
from snnir.frameworks import FRAMEWORKS
from snnir.interpreter.cells import DelayCell, NeuronCell
from snnir.interpreter.stateless import STATELESS
from snnir.ops import IF, LI, LIF, Affine, Array, Conv, CubaLI, CubaLIF, Delay, I, Neuron, Op, Output, Shape, Threshold
from snnir.semantics import Semantics

TOLERANCE = 1e-4  # of float32 values, relative to the largest
MARGIN = 1e-5  # of a threshold: what float32 cannot tell
FEW = 0.05  # share of (sample, neuron) traces that rounding may move at most


def sizes(values: Array) -> Array:
    """The largest absolute value of each sample of (T, B, *shape), 1 at least, in a shape that broadcasts."""
    others = tuple(axis for axis in range(values.ndim) if axis != 1)
    finite = np.where(np.isfinite(values), np.abs(values), 0.0)
    return np.maximum(1.0, finite.max(axis=others, keepdims=True, initial=0.0))


@dataclass(frozen=True)
class Reading:
    """An op and what a step of it means."""

    op: Op
    semantics: Semantics


@dataclass(frozen=True)
class Change:
    """One thing read otherwise.

    Attributes:
        kind: name of the fault; field: of the op that it is about, '' for the semantics.
        what: the fault in words; apply: the change itself.
        said: what the file says there.
    """

    kind: str
    field: str
    what: str
    apply: Callable[[Reading], Reading]
    said: str = ""


class Stepper:
    """A node under a reading, step by step."""

    def __init__(self, reading: Reading, batch: int, shape: Shape) -> None:
        self.op, self.semantics = reading.op, reading.semantics
        self.cell: NeuronCell | DelayCell | None = None
        kind = np.dtype(np.float64)
        if isinstance(self.op, Neuron):
            self.cell = NeuronCell(self.op, self.semantics, batch, shape, kind)
        elif isinstance(self.op, Delay):
            self.cell = DelayCell(self.op, self.semantics, batch, shape, kind)

    @property
    def rest(self) -> Array:
        """The output before the first step of a node with state."""
        assert self.cell is not None
        return self.cell.rest

    def step(self, x: Array) -> Array:
        """One step of x (B, *shape)."""
        if self.cell is not None:
            return self.cell.step(x)
        if isinstance(self.op, Threshold):
            above = x > self.op.threshold if self.semantics.comparison == ">" else x >= self.op.threshold
            return above.astype(x.dtype)
        return x if isinstance(self.op, Output) else STATELESS[type(self.op)](self.op, x)


def answer(reading: Reading, x: Array, shape: Shape) -> Array:
    """What a node gives on x (T, B, *shape), from rest."""
    stepper = Stepper(reading, x.shape[1], shape)
    return np.stack([stepper.step(value) for value in x])


def agrees(reading: Reading, x: Array, y: Array, shape: Shape, exactly: bool = False) -> bool:
    """Whether the reading gives y on x, up to float32's rounding: of values and, unless `exactly`, at thresholds."""
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            given = answer(reading, x, shape).reshape(y.shape)
        except CompileError:  # a combination that means nothing, such as several spikes and a late reset
            return False
        off = _off(given, y)
        if not off.any():
            return True
        differ = off.any(axis=0)
        threshold = getattr(reading.op, "v_threshold", None)
        if exactly or threshold is None or differ.mean() > FEW:
            return False
        near = np.zeros_like(differ)
        for factor in (1 - MARGIN, 1 + MARGIN):
            moved = replace(reading, op=reading.op.with_(v_threshold=threshold * factor))
            near |= _off(answer(moved, x, shape).reshape(y.shape), given).any(axis=0)
        return bool((near | ~differ).all())


def _off(given: Array, y: Array) -> Array:
    return ~(np.abs(given - y) <= TOLERANCE * sizes(y))


def search(own: Reading, framework: str, x: Array, y: Array, shape: Shape) -> tuple[Change, ...] | None:
    """The fewest changes of the file's own reading under which the node gives y on x; None if none are found."""
    if agrees(own, x, y, shape, exactly=True):
        return ()
    singles = [c for c in changes(own) if _changes_anything(own, c)]
    if agrees(own, x, y, shape):  # rounding, or what looks like it: > and >= part at the threshold alone
        rules = [c for c in singles if c.kind == "comparison" and agrees(applied(own, [c]), x, y, shape, exactly=True)]
        return tuple(rules)
    few = _samples(x, y)
    for group in _groups(singles, own, framework):
        if agrees(applied(own, group), *few, shape) and agrees(applied(own, group), x, y, shape):
            return _needed(own, group, x, y, shape)
    return None


def applied(own: Reading, group: Iterable[Change]) -> Reading:
    """The reading with changes made."""
    for change in sorted(group, key=lambda c: bool(c.field)):  # the time step first: others follow from it
        own = change.apply(own)
    return own


def _samples(x: Array, y: Array) -> tuple[Array, Array]:
    """Four samples, the last ones among them: enough to turn most guesses down."""
    return x[:, -4:], y[:, -4:]


def _needed(own: Reading, group: tuple[Change, ...], x: Array, y: Array, shape: Shape) -> tuple[Change, ...]:
    """The changes without which the node would answer otherwise."""
    kept = list(group)
    for change in group:
        rest = [c for c in kept if c is not change]
        if agrees(applied(own, rest), x, y, shape):
            kept = rest
    return tuple(kept)


def _groups(singles: list[Change], own: Reading, framework: str) -> Iterator[tuple[Change, ...]]:
    yield from ((change,) for change in singles)
    wanted = FRAMEWORKS[framework].semantics if framework in FRAMEWORKS else own.semantics
    there = {change.kind + change.what: change for change in singles}
    recorded = tuple(c for c in semantic_changes(own, wanted) if c.kind + c.what in there)
    others = [c for c in singles if c.field or c.kind in ("dt-implied", "membrane-floor")]
    for n in range(4):
        for more in combinations(others, n):
            if len({c.field or c.kind for c in more}) == n:
                yield (*more, *recorded)
    yield from combinations(singles, 2)


def _changes_anything(own: Reading, change: Change) -> bool:
    new = change.apply(own)
    if new.semantics != own.semantics:
        return True
    return any(not np.array_equal(getattr(new.op, f), getattr(own.op, f)) for f in own.op.arrays)


# -- the changes ---------------------------------------------------------------------------------------------------


def changes(own: Reading) -> Iterator[Change]:
    """Every change that is tried at a node."""
    op, semantics = own.op, own.semantics
    if isinstance(op, Affine) or isinstance(op, Conv):
        yield _set("bias-dropped", "bias", np.zeros_like(op.bias), "bias is dropped", _number(op.bias))
    if "weight" in op.arrays:
        weight: Array = vars(op)["weight"]
        if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
            yield _set("weight-transposed", "weight", weight.T.copy(), "weight is transposed")
    if "scale" in op.arrays:
        yield _set("scale-ignored", "scale", np.ones_like(vars(op)["scale"]), "scale is ignored")
    if not isinstance(op, (Neuron, Threshold)):
        return
    if isinstance(op, Neuron):
        yield from _parameters(op, semantics)
    for field, values in _RULES.items():
        for value in values:
            if value != getattr(semantics, field):
                yield _rule(field, value, semantics)


def _parameters(op: Any, semantics: Semantics) -> Iterator[Change]:
    dt = float(semantics.dt or 0.0)
    if "r" in op.arrays:
        ignored, said = "r is ignored", _number(op.r)
        yield _set("r-ignored", "r", np.ones_like(op.r), f"{ignored}, it computes with r = 1", said)
        if isinstance(op, (I, IF)):
            what = f"{ignored}, a step adds its input in full"
            yield _set("r-ignored", "r", np.full_like(op.r, 1 / dt), what, said)
        else:
            tau = op.tau if isinstance(op, (LI, LIF)) else op.tau_mem
            full = np.broadcast_to(tau / dt, op.r.shape).astype(op.r.dtype)
            what = f"{ignored}, a step adds its input in full as r = tau/dt would"
            yield _set("r-ignored", "r", full, what, said)
            gain = op.r * dt / tau
            if gain.size and np.ptp(gain):
                yield _set(
                    "r-uniform", "r", tau / dt * gain.min(), "all neurons get one input gain, the smallest", said
                )
    if "w_in" in op.arrays:
        ignored, said = "w_in is ignored", _number(op.w_in)
        yield _set("w-in-ignored", "w_in", np.ones_like(op.w_in), f"{ignored}, it computes with w_in = 1", said)
        full = np.broadcast_to(op.tau_syn / dt, op.w_in.shape).astype(op.w_in.dtype)
        yield _set("w-in-ignored", "w_in", full, f"{ignored}, the current takes a step's input in full", said)
        what = f"{ignored}, the current takes a step's input in full and decays in the same step"
        yield Change("w-in-ignored", "w_in", what, _decayed_input, said)
    if "v_reset" in op.arrays:
        what = "v_reset is ignored, a spike resets to 0"
        yield _set("reset-ignored", "v_reset", np.zeros_like(op.v_reset), what, _number(op.v_reset))
    if "v_leak" in op.arrays:
        said = _number(op.v_leak)
        yield _set("v-leak-ignored", "v_leak", np.zeros_like(op.v_leak), "v_leak is ignored, it leaks to 0", said)
        if isinstance(op, (CubaLI, CubaLIF)):
            what = "v_leak acts on the synaptic current as well"
            yield _set("v-leak-twice", "v_leak", op.v_leak * (1 + op.r), what, said)
    for value in dict.fromkeys((1e-4, 1e-3, 1.0, *_implied(op))):
        if dt and not np.isclose(value, dt, rtol=1e-9):
            what = f"a step is {value:g} s, not the network's {dt:g} s"
            if value == 1.0:
                what = f"time constants count as numbers of steps: a step of 1 s, not the network's {dt:g} s"
            yield Change("dt-implied", "", what, partial(_with_semantics, dt=value))
    if "v_threshold" in op.arrays:
        floor = -float(np.max(op.v_threshold))
        what = f"the membrane is cut off below {floor:g}; the file has no floor"
        yield Change("membrane-floor", "", what, partial(_with_semantics, membrane_floor=floor))


def _implied(op: Any) -> tuple[float, ...]:
    """The time step that Rockpool derives from a node."""
    tau = getattr(op, "tau_mem", getattr(op, "tau", None))
    return () if tau is None else (float(np.min(tau / (1 + op.r))),)


_RULES: dict[str, tuple[Any, ...]] = {
    "reset": ("value", "subtract", "delayed-value", "delayed-subtract", "held-subtract"),
    "comparison": (">", ">="),
    "decay": ("euler", "exponential"),
    "gain": ("ode", "unit"),
    "order": ("synapse-first", "membrane-first"),
    "start": ("rest", "zero"),
    "spikes_per_step": (1, None),
}
_KINDS = {
    "reset": "reset-rule",
    "comparison": "comparison",
    "decay": "decay-rule",
    "gain": "gain-rule",
    "order": "update-order",
    "start": "start",
    "spikes_per_step": "several-spikes",
}
_WORDS: dict[tuple[str, Any], str] = {
    ("reset", "value"): "a spike sets the membrane to v_reset",
    ("reset", "subtract"): "a spike subtracts the threshold from the membrane",
    ("reset", "delayed-value"): "a spike resets the membrane one step late",
    ("reset", "delayed-subtract"): "a spike subtracts the threshold one step late",
    ("reset", "held-subtract"): "a spike subtracts the threshold at once and holds the membrane for a step",
    ("comparison", ">"): "it spikes only above the threshold",
    ("comparison", ">="): "it spikes at the threshold already (>=)",
    ("decay", "euler"): "it decays by 1 - dt/tau (forward Euler)",
    ("decay", "exponential"): "it decays by e^(-dt/tau)",
    ("gain", "ode"): "the input is scaled by what the equation integrates to",
    ("gain", "unit"): "a step adds the input times r, not times r dt/tau",
    ("order", "synapse-first"): "the current is updated before the membrane",
    ("order", "membrane-first"): "the membrane reads the current of the step before",
    ("start", "rest"): "membranes start at v_leak",
    ("start", "zero"): "membranes start at 0",
    ("spikes_per_step", 1): "it gives one spike per step at most",
    ("spikes_per_step", None): "it gives several spikes per step",
}


def _rule(field: str, value: Any, semantics: Semantics) -> Change:
    words, was = _WORDS[field, value], _WORDS.get((field, getattr(semantics, field)))
    what = f"{words}; the network means: {was}" if was else words
    return Change(_KINDS[field], "", what, partial(_with_semantics, **{field: value}))


def semantic_changes(own: Reading, wanted: Semantics) -> Iterator[Change]:
    """The changes that lead from a reading's semantics to another's, but for dt."""
    for field in _RULES:
        value = getattr(wanted, field)
        value = None if field == "spikes_per_step" and value != 1 else value
        if value != getattr(own.semantics, field):
            yield _rule(field, value, own.semantics)


def _set(kind: str, field: str, value: Array, what: str, said: str = "") -> Change:
    return Change(kind, field, what, partial(_with_field, field=field, value=value), said)


def _with_field(reading: Reading, field: str, value: Array) -> Reading:
    return replace(reading, op=reading.op.with_(**{field: value}))


def _decayed_input(reading: Reading) -> Reading:
    """i = (i + x) e^(-dt/tau_syn), as Rockpool and sinabs have it."""
    tau: Array = vars(reading.op)["tau_syn"]
    ratio = float(reading.semantics.dt or 0.0) / tau.astype(np.float64)
    rise = -np.expm1(-ratio) if reading.semantics.gain == "ode" else 1.0
    return replace(reading, op=reading.op.with_(w_in=np.exp(-ratio) / rise))


def _with_semantics(reading: Reading, **fields: Any) -> Reading:
    return replace(reading, semantics=reading.semantics.with_(**fields))


def _number(array: Array) -> str:
    low, high = float(np.min(array)), float(np.max(array))
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
