"""normalise-gain: neurons in one canonical form, in which a step adds exactly what arrives.

Under the graph's own semantics a neuron obeys (`snnir.discretise`)

    i = decay_syn * i + gain_syn * x;   v = decay * v + gain * i + (1 - decay) * v_leak;   v > v_threshold, v_reset

and three changes of variables leave its spikes as they are:

- gain: both gains become 1 and the weights in front are multiplied by gain * gain_syn (currents scale along). In NIR's
  terms r = tau / dt and w_in = tau_syn / dt (euler), r = 1 / (1 - e^(-dt/tau)) (exponential), r = 1 / dt (IF, I).
- zero: all potentials move by a constant, so that v_leak (or v_reset) is 0: v_threshold - c, v_reset - c, v_leak - c.
  LI and CubaLI output their potential, so the biases downstream get c back, through their weights.
- threshold: all potentials are divided by v_threshold, which becomes 1, and so are the weights in front.

    Before:  affine -> LIF(tau=20 ms, r=3, v_leak=0.1, v_threshold=1, v_reset=0.1), dt = 1 ms, euler
    After:   affine * 3 * dt/tau -> LIF(tau=20 ms, r=tau/dt=20, v_leak=0, v_threshold=0.9, v_reset=0)

ALL weights that feed a neuron are scaled, recurrent ones too. What has no weights, or is read by others, gets a Scale
in between, which is exact as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from snnir.discretise import recurrence
from snnir.graph import Graph
from snnir.interpreter.stateless import STATELESS
from snnir.ops import (
    IF,
    LI,
    Array,
    BatchNorm,
    Conv,
    ConvTranspose2d,
    CubaLI,
    Linear,
    Neuron,
    Op,
    Output,
    Repeat,
    Scale,
    SpikingNeuron,
    TemporalMean,
)
from snnir.passes.common import Declined, Work, compact, float_type, listed, wide
from snnir.passes.gains import plan_gain, with_offset
from snnir.passes.timing import in_time
from snnir.pipeline import Keeps, Log, Pass
from snnir.schedule import schedule


@dataclass(frozen=True)
class NormaliseGain(Pass):
    """Brings neurons to a canonical form.

    Attributes:
        gain: make the discrete gains 1 (needs dt).
        zero: which potential becomes 0: 'leak', 'reset' or 'none'.
        threshold: make v_threshold 1.
        insert: put a Scale in front of a neuron where what feeds it cannot be scaled; else that neuron's gain stays.
        bias_map: let the offset of a LI become a convolution's bias map (snn dialect only).
    """

    name: ClassVar[str] = "normalise-gain"
    keeps: ClassVar[Keeps] = "exact"
    gain: bool = True
    zero: Literal["leak", "reset", "none"] = "leak"
    threshold: bool = False
    insert: bool = True
    bias_map: bool = True

    def run(self, graph: Graph, log: Log) -> Graph:
        return in_time(graph, log, self._rewrite)

    def _rewrite(self, graph: Graph, log: Log, frozen: frozenset[str]) -> Graph:
        work = Work(graph, frozen)
        cyclic = {name for group in schedule(graph).groups if group.cyclic for name in group.ops}
        for name in graph.ops:
            if not isinstance(work.ops[name], Neuron):
                continue
            try:
                work.thaw(name)
                self._shift(work, name, log, name in cyclic)
            except Declined as reason:
                log.declined(name, f"its potentials stay: {reason}")
            try:
                work.thaw(name)
                self._scale(work, name, log)
            except Declined as reason:
                log.declined(name, f"its gain stays: {reason}")
        return work.build()

    # -- potentials ------------------------------------------------------------------------------------------------

    def _shift(self, work: Work, name: str, log: Log, cyclic: bool) -> None:
        op: Any = work.ops[name]
        if self.zero == "none" or "v_leak" not in op.arrays:
            if self.zero == "reset" and isinstance(op, IF) and op.v_reset.any():
                raise Declined(f"the membrane of an {op.kind} starts at 0, not at v_reset")
            return
        which = "v_reset" if self.zero == "reset" and isinstance(op, SpikingNeuron) else "v_leak"
        shift = wide(getattr(op, which))
        if not shift.any():
            return
        semantics = work.source.semantics
        if semantics.start != "rest":
            raise Declined("the membrane starts at 0, not at v_leak, and would start elsewhere after a shift")
        if semantics.membrane_floor is not None:
            raise Declined(f"the membrane's floor {semantics.membrane_floor:g} does not move along")
        if isinstance(op, SpikingNeuron) and "subtract" in semantics.reset:
            raise Declined("a reset that subtracts the threshold would subtract another number after a shift")
        moved = ("v_leak", "v_threshold", "v_reset") if isinstance(op, SpikingNeuron) else ("v_leak",)
        changes = {field: (wide(getattr(op, field)) - shift).astype(_kind(op)) for field in moved}
        if isinstance(op, (LI, CubaLI)):
            if cyclic:
                raise Declined("it lies on a cycle, which its v_leak reaches before the first step")
            self._give_back(work, name, shift)
        work.swap(name, op.with_(**changes))
        log.did(name, f"moved its potentials so that {which} is 0")

    def _give_back(self, work: Work, name: str, offset: Array) -> None:
        """Adds `offset`, which the output of `name` loses, to the biases that read it; all of them or none."""
        changed: dict[str, Op] = {}
        stack = [(name, np.broadcast_to(offset, work.shapes[name]))]
        while stack:
            source, lost = stack.pop()
            for edge in work.outgoing(source):
                target = edge.target
                op = changed.get(target, work.ops[target])
                work.thaw(target)
                if isinstance(op, (Repeat, TemporalMean)):
                    stack.append((target, lost))
                    continue
                if not op.linear or op.stateful or isinstance(op, Output):
                    raise Declined(f"{target} ({op.kind}) reads it and has no bias to take its v_leak")
                through = _effect(op, edge.port, lost, work, target)
                if not isinstance(op, (Linear, Conv, ConvTranspose2d, BatchNorm)):
                    stack.append((target, through))
                    continue
                changed[target] = self._with_bias(op, through, target)
        for target, op in changed.items():
            work.swap(target, op, (name,))

    def _with_bias(self, op: Op, offset: Array, name: str) -> Op:
        new = with_offset(op, compact(offset, offset.shape), offset.shape)
        if new is not None:
            return new
        if not isinstance(op, Conv) or not self.bias_map:
            raise Declined(f"the bias of {name} ({op.kind}) would become a map")
        bias = op.bias.reshape(-1, *(1,) * op.axes) if op.bias.ndim == 1 else op.bias
        return op.with_(bias=(wide(bias) + offset).astype(float_type(op.bias)))

    # -- gains -----------------------------------------------------------------------------------------------------

    def _scale(self, work: Work, name: str, log: Log) -> None:
        op: Any = work.ops[name]
        factor: Array = np.ones(())
        changes: dict[str, Any] = {}
        if self.gain:
            factor, changes = self._unit_gain(work, op)
        if self.threshold and isinstance(op, SpikingNeuron):
            over, divided = self._unit_threshold(work, op)
            factor, changes = factor * over, {**changes, **divided}
        if not changes:
            return
        kind = _kind(op)
        where = self._put_in_front(work, name, compact(factor, work.shapes[name]))
        work.swap(name, op.with_(**{field: np.asarray(value).astype(kind) for field, value in changes.items()}))
        log.did(name, f"{', '.join(changes)} made canonical; the factor went into {where}")

    @staticmethod
    def _unit_gain(work: Work, op: Any) -> tuple[Array, dict[str, Array]]:
        semantics = work.source.semantics
        if semantics.dt is None and semantics.gain == "ode":
            raise Declined("the time step is not known")
        if semantics.decay == "shift":
            raise Declined("decay 'shift' is an integer rule")
        named = semantics if semantics.dt is not None else semantics.with_(dt=_any_dt(op))
        rule = recurrence(op, named)
        one = np.float64(1.0)
        unit = recurrence(op.with_(r=one, **({"w_in": one} if "w_in" in op.arrays else {})), named)
        close = 8 * np.finfo(_kind(op)).eps
        gains = [g for g in (rule.gain, rule.gain_syn) if g is not None]
        if all((np.abs(g - 1) <= close).all() for g in gains):
            return np.ones(()), {}
        changes = {"r": 1.0 / unit.gain}
        if unit.gain_syn is not None and rule.gain_syn is not None:
            changes["w_in"] = 1.0 / unit.gain_syn
            return rule.gain * rule.gain_syn, changes
        return rule.gain, changes

    @staticmethod
    def _unit_threshold(work: Work, op: Any) -> tuple[Array, dict[str, Array]]:
        threshold = wide(op.v_threshold)
        if (threshold == 1).all():
            return np.ones(()), {}
        if not (threshold > 0).all():
            raise Declined(f"a threshold of {threshold.min():g} cannot become 1 by a positive factor")
        if work.source.semantics.membrane_floor is not None:
            raise Declined("the membrane's floor does not scale along")
        scaled = {f: wide(getattr(op, f)) / threshold for f in ("v_leak", "v_reset") if f in op.arrays}
        return 1.0 / threshold, {**scaled, "v_threshold": np.ones_like(threshold)}

    def _put_in_front(self, work: Work, name: str, factor: Array) -> str:
        """Multiplies what arrives at `name`, in the weights where possible, with a Scale elsewhere."""
        if (factor == 1).all():
            return "nothing: it was 1"
        scaled: list[str] = []
        rest, why = [], ""
        plans = []
        for edge in work.incoming(name):
            try:
                plans.append(plan_gain(work, [edge], factor))
            except Declined as reason:
                rest.append(edge)
                why = str(reason)
        if rest and not self.insert:
            raise Declined(why)
        for plan in plans:
            plan.apply(work, (name,))
            scaled += plan.ops
        if rest:
            kind = float_type(*(getattr(work.ops[name], array) for array in work.ops[name].arrays))
            op = Scale(scale=factor.astype(kind), loc=work.ops[name].loc)
            new = work.add(f"{name}.gain", op, (name,), shape=work.shapes[name])
            for edge in rest:
                work.disconnect(edge)
                work.connect(edge.source, new)
            work.connect(new, name)
            scaled.append(f"a Scale ({why})")
        return listed(scaled)


def _effect(op: Op, port: str, offset: Array, work: Work, name: str) -> Array:
    """What an offset at one port of a linear op adds to its output, by the op's own meaning."""
    zeros = {p: np.zeros((1, *work.arriving(name, p))) for p in op.ports}
    given = {**zeros, port: wide(np.broadcast_to(offset, zeros[port].shape[1:]))[None]}
    function = STATELESS[type(op)]
    return (function(op, *given.values()) - function(op, *zeros.values()))[0]


def _kind(op: Op) -> np.dtype[Any]:
    return float_type(*(getattr(op, array) for array in op.arrays))


def _any_dt(op: Op) -> float:
    """Some step length, for a rule whose gain does not depend on it."""
    taus = [float(getattr(op, array).min()) for array in op.arrays if array.startswith("tau")]
    return min(taus, default=1.0) / 10
