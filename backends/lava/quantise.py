"""From a layout in real numbers to Loihi's integers.

Every cell has one number to choose: V, its threshold in units of weights (a unit is 64 of u and v). A weight of w
thresholds then is w V units, and becomes q << k: mixed weights are q = -127..127, handed over as 2q with weight_exp
k - 1, which Lava keeps exactly; weights of one sign are q = 0..255 with weight_exp k. Every wire has its own k, the
least that holds its largest weight, so wires of different size lose nothing to one another. Graded inputs count x *
scale, so their weights are w V / scale, and k may be negative.

V is the largest for which it is certain that no current wraps, that biases and weights can be written, and, where that
leaves V at 4096 or more, that no membrane is cut off below; at most 8192, beyond which nothing is won, or as much as
weights far below the threshold need. Where membranes are cut off on the input that the network is measured on, V is
made smaller. Within the octave below its largest value, V is what rounds the weights best; so weights that lie on a
grid of integers stay exact.

Thresholds that differ within a cell (Lava's vth is one number) cost no more: a neuron's weights are in its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snnir.backends.lava.chip import (
    ALIGN,
    MAX_BIAS,
    MAX_BIAS_EXP,
    MAX_THRESHOLD,
    STATE_LIMIT,
    UNITY,
)
from snnir.backends.lava.inputs import Code
from snnir.backends.lava.plan import Cell, Plan, Wire
from snnir.backends.lava.ways import Way, arriving, connections_of, ways_of
from snnir.errors import CompileError, Violation
from snnir.ops import Array
from snnir.simulators.loihi import Connection, Convolution, LoihiSpec, Population, largest_currents

MOST = 8192.0  # units of a threshold beyond which precision hardly grows
ENOUGH = 4096.0  # units of a threshold that are not given up to keep membranes from being cut off far below
LEAST = 16.0  # units of a threshold below which the network would be another one
_MARGIN = 0.98  # of the range of currents, for what rounding adds
_SAMPLE = 20_000  # weights of a wire that V is chosen by
NEVER = 1 << 30  # steps: longer than any run


@dataclass(frozen=True, eq=False)
class Quantised:
    """One cell in integers.

    Attributes:
        scale: V, units per threshold (per unit of what is read, for readouts).
        vth, bias_mant, bias_exp: as Lava takes them.
        connections: one or two per wire.
        weight_error: root mean square error of the weights over their root mean square; lost: weights rounded to 0.
        current: bound on |u|. deepest: bound on how far below its level a membrane falls, in v's units; infinite if
            nothing leaks.
    """

    cell: Cell
    scale: float
    vth: int
    bias_mant: Array
    bias_exp: int
    connections: tuple[Connection | Convolution, ...]
    weights: int
    lost: int
    weight_error: float
    current: float
    deepest: float


def quantise(
    plan: Plan,
    codes: Mapping[str, Code],
    strict: bool,
    threshold: int | None,
    weight_bits: int,
    caps: Mapping[str, float],
    plain: bool = False,
) -> list[Quantised]:
    """Every cell in integers.

    Args:
        plan: a plan without faults. codes: of the inputs. strict: whether the source spikes at v > threshold only.
        threshold: units of all thresholds, instead of what is best.
        weight_bits: with the sign; 8 by one connection per wire, 9 by one per sign, 16 by a coarse and a fine one.
        caps: the largest scale of some cells, whose membranes were cut off at more.
        plain: weights without exponents, as netx files have them.

    Raises:
        CompileError: with every cell that has no sound scale.
    """
    if threshold is not None and threshold > MAX_THRESHOLD:
        what, most = f"threshold={threshold} units does not fit 17 bits", f"at most {MAX_THRESHOLD}"
        raise CompileError([Violation("lava-threshold", what, expected=most, hint="leave the option out")])
    found: list[Quantised] = []
    faults: list[Violation] = []
    for cell in plan.cells:
        wires = [w for w in plan.wires if w.target == cell.name]
        bias = plan.bias.get(cell.name, np.zeros(cell.size))
        if cell.driver:
            found.append(Quantised(cell, 1.0, 0, np.ones(1, int), 0, (), 0, 0, 0.0, 0.0, 0.0))
            continue
        try:
            cap = caps.get(cell.name, np.inf)
            found.append(_quantised(cell, wires, bias, codes, strict, threshold, weight_bits, cap, plain))
        except CompileError as error:
            faults += error.violations
    if faults:
        raise CompileError(faults, title="the network does not fit Loihi's ranges")
    return found


def assemble(plan: Plan, cells: Sequence[Quantised], codes: Mapping[str, Code], period: int | None = None) -> LoihiSpec:
    """The specification that the simulator takes, and Lava.

    `period`: steps of a call, where calls follow one another; every cell is then reset as a call begins there.

    Raises:
        CompileError: a current could wrap (which the choice of scales rules out).
    """
    populations = tuple(
        Population(
            name=q.cell.name,
            size=q.cell.size,
            vth=q.vth,
            du=q.cell.du,
            dv=q.cell.dv,
            bias_mant=q.bias_mant,
            bias_exp=q.bias_exp,
            **_reset(plan, q.cell, period),
        )
        for q in cells
    )
    spec = LoihiSpec(
        inputs={name: int(np.prod(code.shape)) for code in codes.values() for name in code.parts},
        populations=populations,
        connections=tuple(c for q in cells for c in q.connections),
    )
    peaks = {name: peak for code in codes.values() for name, (_, peak) in code.parts.items()}
    bounds = largest_currents(spec, peaks)
    faults = [
        Violation("lava-wrap", f"a current may reach {bound:.3g}", where=name, expected=f"less than {STATE_LIMIT}")
        for name, bound in bounds.items()
        if bound >= STATE_LIMIT
    ]
    if faults:
        raise CompileError(faults, title="currents may wrap")
    return spec


def _reset(plan: Plan, cell: Cell, period: int | None) -> dict[str, int]:
    """Lava counts steps from 1."""
    if period is not None and not cell.driver:
        return {"reset_interval": period, "reset_offset": (cell.lag + 1) % period}
    if cell.name in plan.resets:
        return {"reset_interval": NEVER, "reset_offset": plan.resets[cell.name] + 1}
    return {}


# -- one cell ----------------------------------------------------------------------------------------------------------


def _quantised(
    cell: Cell,
    wires: Sequence[Wire],
    bias: Array,
    codes: Mapping[str, Code],
    strict: bool,
    threshold: int | None,
    weight_bits: int,
    cap: float,
    plain: bool,
) -> Quantised:
    ways = [way for wire in wires for way in ways_of(wire, codes, weight_bits)]
    most = arriving(ways) * UNITY / (cell.du + 1)  # thresholds that a current can hold; dear of large matrices
    top = _largest_scale(cell, ways, most, bias)
    if plain and ways:
        top["netx files hold weights without exponents"] = min(way.limit / way.largest for way in ways)
    if threshold is not None and cell.trace == "spikes":
        scale = float(threshold)
        if scale > min(top.values()):
            _refuse(cell, top, scale)
    else:
        if min(top.values()) < LEAST:
            _refuse(cell, top, LEAST)
        scale = _scale(cell, ways, min(cap, _wanted(cell, ways, most, bias, min(top.values()))))
    mant, exp = _mantissa(bias * scale * ALIGN)
    connections: list[Connection | Convolution] = []
    total, error, power, lost = 0, 0.0, 0.0, 0
    for way in ways:
        made, got = connections_of(way, scale)
        if not made:
            what = f"all weights from {way.wire.source} are too small to be written, and would be 0"
            hint = "use fewer input_bits" if way.graded else "raise them against the threshold, or leave them out"
            raise CompileError([Violation("lava-range", what, cell.source, hint=hint)])
        connections += made
        there = way.weight != 0
        total += way.wire.synapses(there)
        lost += way.wire.synapses(there & (got == 0))
        error += float(way.wire.sums((got - way.weight) ** 2).sum())
        power += way.power
    current = most * scale * ALIGN
    leak = cell.dv / UNITY
    deepest = (current + np.abs(bias) * scale * ALIGN) / leak if leak else np.where(current > 0, np.inf, 0.0)
    return Quantised(
        cell=cell,
        scale=scale,
        vth=_threshold(cell, scale, strict),
        bias_mant=mant,
        bias_exp=exp,
        connections=tuple(connections),
        weights=total,
        lost=lost,
        weight_error=float(np.sqrt(error / power)) if power else 0.0,
        current=float(current.max(initial=0.0)),
        deepest=float(np.max(deepest, initial=0.0)),
    )


def _largest_scale(cell: Cell, ways: Sequence[Way], most: Array, bias: Array) -> dict[str, float]:
    """The largest V for which all that must hold does, by what limits it; `most`: currents, in thresholds."""
    largest = float(most.max(initial=0.0))
    constant = float(np.abs(bias).max(initial=0.0))
    limits = {"the threshold has 17 bits": float(MAX_THRESHOLD)}
    if largest:
        limits["its current must not wrap"] = _MARGIN * STATE_LIMIT / ALIGN / largest
    if constant:
        limits["its bias has 12 bits and an exponent up to 7"] = MAX_BIAS * 2**MAX_BIAS_EXP / ALIGN / constant
    for way in ways:
        name = "its weights have 8 bits and an exponent up to 7"
        limits[name] = min(limits.get(name, np.inf), way.limit * 2.0 ** way.shifts[1] / way.largest)
    if cell.trace == "u":  # it must stay below the threshold, too, which 17 bits can say
        limits["its current must not wrap"] = limits.get("its current must not wrap", np.inf) * _MARGIN
    return limits


def _wanted(cell: Cell, ways: Sequence[Way], most: Array, bias: Array, top: float) -> float:
    """The largest V that is worth having; `most`: currents, in thresholds."""
    reach = float((most + np.abs(bias)).max(initial=0.0))
    if cell.trace == "u":
        return top
    leak = cell.dv / UNITY
    whole = STATE_LIMIT / ALIGN * leak / reach if reach else np.inf
    if cell.trace == "v":
        finest = 2.0 * max((way.limit / way.largest for way in ways), default=1.0)  # all weights have all their bits
        return min(top, max(whole * _MARGIN, min(finest, ENOUGH)))
    if not ways:
        return min(top, MOST)
    main = max(ways, key=lambda way: way.power)
    needed = max(MOST, main.limit / main.largest)  # weights far below the threshold need more to be there at all
    return min(top, needed, max(whole, ENOUGH, needed if needed > MOST else 0.0))


def _scale(cell: Cell, ways: Sequence[Way], top: float) -> float:
    """The V in the octave below `top` that rounds the weights best."""
    if not ways:
        return float(2.0 ** np.floor(np.log2(top)))
    main = max(ways, key=lambda way: way.power)
    rng = np.random.default_rng(0)
    samples = []
    for way in ways:
        values = way.weight[way.weight != 0]
        if len(values) > _SAMPLE:
            values = rng.choice(values, _SAMPLE, replace=False)
        samples.append((way, values, way.power / max(float((values**2).sum()), 1e-300)))
    whole = [n * 2.0 ** np.floor(np.log2(top * main.largest / n)) / main.largest for n in range(64, 128)]
    if cell.trace == "spikes":
        whole.append(2.0 ** np.floor(np.log2(top)))
    errors = []
    for scale in whole:
        error = 0.0
        for way, values, share in samples:
            q, k = way.rounded(scale, values)
            error += share * float(((q * (2.0**k / scale) - values) ** 2).sum())
        errors.append(error)
    power = sum(share * float((values**2).sum()) for _, values, share in samples)
    good = min(errors) + 1e-18 * power
    return max(scale for scale, error in zip(whole, errors, strict=True) if error <= good)


def _threshold(cell: Cell, scale: float, strict: bool) -> int:
    """vth: Lava spikes at v > 64 vth."""
    if cell.trace != "spikes":
        return MAX_THRESHOLD
    vth = round(scale) if strict else int(np.ceil(scale - 1e-6)) - 1
    return int(np.clip(vth, 0, MAX_THRESHOLD))


def _mantissa(wanted: Array) -> tuple[Array, int]:
    """Mantissas (0 where none is wanted) and their common exponent."""
    largest = float(np.abs(wanted).max(initial=0.0))
    exp = 0
    while np.rint(largest / 2**exp) > MAX_BIAS and exp < MAX_BIAS_EXP:
        exp += 1
    return np.clip(np.rint(wanted / 2**exp), -MAX_BIAS, MAX_BIAS).astype(int), exp


def _refuse(cell: Cell, top: Mapping[str, float], wanted: float) -> None:
    reason = min(top, key=lambda name: top[name])
    raise CompileError(
        [
            Violation(
                "lava-range",
                f"its threshold can be {top[reason]:.4g} units of weight at most, because {reason}",
                where=cell.source,
                expected=f"at least {wanted:.6g} units",
                hint="make its largest weights smaller against its threshold, or its synaptic time constant shorter",
            )
        ]
    )
