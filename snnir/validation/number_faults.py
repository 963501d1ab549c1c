"""What may be wrong with numbers: weights wrapped, saturated or rounded to few bits; a factor that nobody meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from snnir.ops import Array, Neuron, Op
from snnir.validation.faults import Fault
from snnir.validation.model import Model

BITS = (8, 4, 16, 6, 5, 7, 3, 2, 10, 12)
FRACTIONS = tuple(range(11))  # of fixed-point numbers: a weight is a whole number of 2^-k


def weighted(model: Model, names: Iterable[str]) -> list[str]:
    """Those of the named ops that have a weight."""
    return [n for n in names if "weight" in model.graph[n].arrays and "bias" not in _norms(model.graph[n])]


def _norms(op: Op) -> tuple[str, ...]:
    return op.arrays if op.kind in ("BatchNorm", "LayerNorm") else ()


def number_faults(model: Model, names: Iterable[str]) -> Iterator[Fault]:
    """Every rounding of the weights, of all ops together and of each of the named ones alone."""
    everywhere = weighted(model, model.graph.ops)
    if len(everywhere) > 1:
        yield from _roundings(model, everywhere, "", 7)
    for name in weighted(model, names):
        yield from _roundings(model, [name], name, 18)


def _roundings(model: Model, names: list[str], where: str, rank: int) -> Iterator[Fault]:
    weights = {n: np.asarray(getattr(model.graph[n], "weight"), np.float64) for n in names}  # noqa: B009
    seen: list[Mapping[str, Array]] = [weights]
    for name, does, remedy, further, rounding in _ways():
        changed = {n: rounding(w) for n, w in weights.items()}
        if any(all(np.array_equal(changed[n], other[n]) for n in names) for other in seen):
            continue
        seen.append(changed)
        ops: dict[str, Op] = {n: model.graph[n].with_(weight=w) for n, w in changed.items()}
        yield Fault(
            name, "graph", where, "weights as they are", does, remedy, rank + further, partial(model.with_ops, ops)
        )


Way = tuple[str, str, str, int, Callable[[Array], Array]]
Unit = Callable[[Array], Array]


def _ways() -> Iterator[Way]:
    finer = "choose the scale so that the largest weight is 127 (symmetric), or round with saturation"
    more = "give the weights more bits, or quantise per channel, or train with the rounding"
    for words, unit in _scales():
        yield "weight-wrapped", f"int8 that overflows, a unit of {words}", finer, 0, partial(_int8, unit, True)
        yield "weight-saturated", f"int8 cut at its ends, a unit of {words}", finer, 1, partial(_int8, unit, False)
    for bits in BITS:
        whole, each = (partial(kind, 2 ** (bits - 1) - 1) for kind in (_part_of_largest, _part_of_each))
        yield "weight-quantised", f"{bits} bits, one unit per op", more, 0, partial(_rounded, whole, np.rint)
        yield "weight-quantised", f"{bits} bits, one unit per output", more, 1, partial(_rounded, each, np.rint)
        yield "weight-quantised", f"{bits} bits, cut towards 0", more, 2, partial(_rounded, whole, np.trunc)
    for k in FRACTIONS:
        fixed = partial(_power, k)
        yield "weight-quantised", f"multiples of 2^-{k}", more, 1, partial(_rounded, fixed, np.rint)
        yield "weight-quantised", f"multiples of 2^-{k}, cut towards 0", more, 3, partial(_rounded, fixed, np.trunc)
    yield "weight-quantised", "float16", more, 1, _half


def _scales() -> Iterator[tuple[str, Unit]]:
    for top in (128, 255, 256, 127):
        yield f"the largest weight / {top}", partial(_part_of_largest, top)
    for k in FRACTIONS:
        yield f"2^-{k}", partial(_power, k)


def _part_of_largest(top: int, w: Array) -> Array:
    return np.asarray(np.abs(w).max(initial=0.0) / top)


def _part_of_each(top: int, w: Array) -> Array:
    return np.asarray(np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True) / top)


def _power(k: int, w: Array) -> Array:
    return np.asarray(2.0**-k)


def _half(w: Array) -> Array:
    return w.astype(np.float16).astype(np.float64)


def _int8(unit: Unit, wraps: bool, w: Array) -> Array:
    step = unit(w)
    if not step > 0:
        return w
    whole = np.rint(w / step)
    whole = (whole + 128) % 256 - 128 if wraps else np.clip(whole, -128, 127)
    return np.asarray(whole * step)


def _rounded(unit: Unit, way: Callable[[Array], Array], w: Array) -> Array:
    step = np.where(unit(w) > 0, unit(w), 1.0)
    return np.asarray(way(w / step) * step)


# -- factors -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Factor:
    """A family of faults: some arrays of an op times one number, which a search has to find."""

    name: str
    where: str
    fields: tuple[str, ...]
    model: Model

    def fault(self, factor: float) -> Fault:
        """The member of this factor."""
        op = self.model.graph[self.where]
        changed = op.with_(**{f: getattr(op, f) * factor for f in self.fields})
        remedy = f"multiply {', '.join(self.fields)} by {1 / factor:.6g} in the target"
        does = f"about {factor:.4g} times that"
        return Fault(
            self.name, "graph", self.where, ", ".join(self.fields), does, remedy, 40,
            partial(self.model.with_ops, {self.where: changed}),
        )  # fmt: skip


def factors(model: Model, names: Iterable[str]) -> Iterator[Factor]:
    """The families for the named ops: threshold, weight, bias and time constants times a number."""
    for name in names:
        op = model.graph[name]
        for field in ("v_threshold", "threshold"):
            if field in op.arrays:
                yield Factor("threshold-scaled", name, (field,), model)
        if "weight" in op.arrays and not _norms(op):
            yield Factor("weight-scaled", name, ("weight",), model)
            if "bias" in op.arrays and np.any(getattr(op, "bias")):  # noqa: B009
                yield Factor("bias-scaled", name, ("bias",), model)
        if isinstance(op, Neuron) and op.time_constants:
            yield Factor("tau-scaled", name, op.time_constants, model)
            for field in op.time_constants if len(op.time_constants) > 1 else ():
                yield Factor("tau-scaled", name, (field,), model)
