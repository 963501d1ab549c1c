"""The sinabs target as data: the family's, several spikes per step, and membranes with a lowest value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from snnir.backends.sinabs.emit import LEAST_DECAY
from snnir.backends.torch_source.neurons import in_time
from snnir.backends.torch_source.target import ADAPTS, family_target, prompt_reset
from snnir.discretise import recurrence
from snnir.errors import Violation
from snnir.frameworks import FRAMEWORKS
from snnir.ops import IF, LIF, CubaLIF, I, Neuron
from snnir.target import Target

if TYPE_CHECKING:
    from snnir.graph import Graph


def prompt_or_late(graph: Graph) -> Iterator[Violation]:
    """A reset takes effect in the step of its spike; in the next one, a threshold is subtracted, and a value is taken
    where no current is lost by it."""
    semantics = graph.semantics
    if semantics.reset != "delayed-subtract" or semantics.dt is None or semantics.decay == "shift":
        yield from prompt_reset(graph)
        return
    for name, op in graph.ops.items():
        if isinstance(op, (LIF, CubaLIF)) and (abs(recurrence(op, semantics).decay) <= LEAST_DECAY).any():
            yield Violation(
                "torch-reset",
                "nothing of its membrane is left in the step in which the network means to reset it",
                where=name,
                loc=str(op.loc or ""),
                expected="a time constant longer than dt",
                hint="choose torch, norse or snntorch",
            )


def several_spikes(graph: Graph) -> Iterator[Violation]:
    """Several spikes per step need thresholds above 0, by which sinabs divides, and a reset in their step."""
    if graph.semantics.spikes_per_step == 1:
        return
    for name, op in graph.ops.items():
        if isinstance(op, (IF, LIF, CubaLIF)) and not (op.v_threshold > 0).all():
            yield Violation(
                "sinabs-spikes",
                f"several spikes per step at a threshold of {op.v_threshold.min():.6g}",
                where=name,
                loc=str(op.loc or ""),
                expected="a threshold above 0",
            )


def membrane_floor(graph: Graph) -> Iterator[Violation]:
    """sinabs bounds a membrane behind its reset: the same as before its spike where neither passes the bound."""
    floor = graph.semantics.membrane_floor
    if floor is None:
        return
    for name, op in graph.ops.items():
        if not isinstance(op, Neuron):
            continue
        for what, expected in _passes(op, floor, in_time(op, graph.semantics).reset):
            what = f"{what}, and sinabs bounds membranes (at {floor:.6g}) behind the reset"
            yield Violation("sinabs-floor", what, where=name, loc=str(op.loc or ""), expected=expected)


def _passes(op: Neuron, floor: float, reset: str) -> Iterator[tuple[str, str]]:
    """In what a membrane that is bounded behind its reset differs from one that is bounded before its spike."""
    if isinstance(op, I):
        yield "an integrator is a sum over time", "no bound, or a layer that leaks or spikes"
    if not isinstance(op, (IF, LIF, CubaLIF)):
        return
    if (op.v_threshold <= floor).any():
        yield f"a threshold of {op.v_threshold.min():.6g} is not above the bound", f"a bound below {floor:.6g}"
    if reset == "delayed-subtract":
        yield "a threshold is subtracted in the next step", "no bound, or a reset in the step of the spike"
    if reset == "subtract" and floor > 0:
        yield "a threshold is subtracted from a membrane of at most so much", "a bound of at most 0"
    if reset == "value" and (op.v_reset < floor).any():
        yield f"a spike resets to {op.v_reset.min():.6g}", f"v_reset of at least {floor:.6g}"


def _target() -> Target:
    family = family_target("sinabs", "sinabs", package="sinabs", extra="sinabs", reset=prompt_or_late)
    return replace(
        family,
        semantics=FRAMEWORKS["sinabs"].semantics,
        adapts=ADAPTS | {"spikes_per_step", "membrane_floor"},
        rules=(*family.rules, several_spikes, membrane_floor),
        limits={"spikes per step": "the network's", "states": "float32 or float64"},
    )


TARGET = _target()
