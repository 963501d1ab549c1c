"""bitshift-decays: time constants that Xylo has, so that a network is trained with the decays it will run with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from snnir.discretise import recurrence
from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.ops import Array, CubaLI, CubaLIF, Neuron
from snnir.pipeline import Keeps, Log, Pass
from snnir.semantics import Semantics

MOST = 15  # the chips' longest shift


def nearest(decay: Array) -> Array:
    """The decay 1 - 2^-dash, dash 1 to 15, nearest to a decay per step (in dash)."""
    with np.errstate(divide="ignore"):
        dash = -np.log2(np.maximum(1.0 - decay, 0.0))
    return np.asarray(1.0 - np.exp2(-np.clip(np.rint(np.minimum(dash, MOST)), 1, MOST)))


def shifted(decay: Array) -> bool:
    """Whether all decays are 1 - 2^-dash."""
    return bool(np.allclose(decay, nearest(decay), rtol=1e-6, atol=0))


@dataclass(frozen=True)
class BitshiftDecays(Pass):
    """Replaces time constants by the nearest that decay by 1 - 2^-dash per step, as Xylo's states do.

    Attributes:
        allowed: whether time constants may change; otherwise they must be such already.
    """

    name: ClassVar[str] = "bitshift-decays"
    keeps: ClassVar[Keeps] = "approximate"
    allowed: bool = False

    def run(self, graph: Graph, log: Log) -> Graph:
        """The graph with such decays.

        Raises:
            CompileError: time constants would change, and that is not allowed: all of them.
        """
        changed, faults = {}, []
        for name, op in graph.ops.items():
            if not isinstance(op, Neuron) or not op.time_constants:
                continue
            new = {}
            for field, decay, wanted in decays(op, graph.semantics):
                if shifted(decay):
                    continue
                tau = time_constant(wanted, graph.semantics)
                was, now = float(getattr(op, field).mean()), float(tau.mean())
                faults.append(_fault(name, op, f"{field} = {was:.6g} s", f"{field} = {now:.6g} s"))
                log.did(name, f"{field} from {was:.6g} s to {now:.6g} s in the mean")
                new[field] = tau.reshape(getattr(op, field).shape)
                # Rockpool's synapses decay their inputs too; such a one stays such a one.
                if field == "tau_syn" and graph.semantics.gain == "unit" and isinstance(op, (CubaLI, CubaLIF)):
                    if np.allclose(op.w_in, decay):
                        new["w_in"] = np.broadcast_to(wanted, np.broadcast_shapes(wanted.shape, op.w_in.shape)).copy()
            if new:
                changed[name] = op.with_(**new)
        if faults and not self.allowed:
            raise CompileError(faults, title="decays are not those of a chip")
        return replace(graph, ops={**graph.ops, **changed}) if changed else graph


def decays(op: Neuron, semantics: Semantics) -> Iterator[tuple[str, Array, Array]]:
    """For each time constant: its field, the decay per step, the nearest that is a shift."""
    rule = recurrence(op, semantics)
    yield "tau_mem" if isinstance(op, (CubaLI, CubaLIF)) else "tau", rule.decay, nearest(rule.decay)
    if rule.decay_syn is not None:
        yield "tau_syn", rule.decay_syn, nearest(rule.decay_syn)


def time_constant(decay: Array, semantics: Semantics) -> Array:
    """The time constant in seconds of a decay per step."""
    dt = semantics.dt or 0.0
    return np.asarray(dt / (1.0 - decay) if semantics.decay == "euler" else -dt / np.log(decay))


def _fault(name: str, op: Neuron, what: str, expected: str) -> Violation:
    hint = "allow 'approximate' to change it, or train with that time constant"
    return Violation(
        "rockpool-bitshift",
        f"{what} does not decay by 1 - 2^-dash in a step",
        where=name,
        loc=str(op.loc or ""),
        expected=expected,
        hint=hint,
    )
