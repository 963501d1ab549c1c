"""The design rules of Loihi's neurons as Lava has them, one function each; every rule yields all its breaches.

Rules about meaning (reset, start, floor, loops) hold unless approximation is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps

import numpy as np

from snnir.backends.lava.chip import MAX_DELAY
from snnir.backends.lava.planner import level_of, plan, spiking
from snnir.errors import Violation
from snnir.graph import Graph
from snnir.ops import Constant, Delay, Input, Neuron, Output, Threshold
from snnir.projections import LINEAR_OPS
from snnir.target import Rule, allowed

MOST_PARTS = 32
_NEAR = 1e-9


def unless_allowed(rule: Rule) -> Rule:
    """A rule about meaning: silent where approximation is allowed."""

    @wraps(rule)
    def strict(graph: Graph) -> Iterator[Violation]:
        if not allowed(graph, "approximate"):
            yield from rule(graph)

    return strict


def readable(graph: Graph) -> Iterator[Violation]:
    """Spiking neurons with weights between them, matrices or convolutions; membranes are read by outputs alone."""
    found = plan(graph)
    known = (Input, Output, Neuron, Threshold, Delay, Constant, *LINEAR_OPS)
    unread = not all(isinstance(op, known) for op in graph.ops.values())
    for fault in found.faults:
        if not (unread and fault.rule == "lava-output"):  # what arrives through an op that the chip has not
            yield _traced(graph, fault)
    if not graph.inputs:
        yield Violation("lava-input", "the network has no input", expected="an input, which says how long it runs")


@unless_allowed
def hard_reset(graph: Graph) -> Iterator[Violation]:
    """A spike sets the membrane to the chip's 0; there is no reset by subtraction."""
    reset = graph.semantics.reset
    populations = {
        n: p for n, p in plan(graph).network.populations.items() if spiking(p) and not isinstance(p.op, Threshold)
    }
    if reset == "delayed-value":  # LIF and IF neurons are set back before they take the next input: nobody can tell
        populations = {n: p for n, p in populations.items() if p.current_based}
    elif reset == "value":
        return
    if not populations:
        return
    what = {
        "subtract": "takes the threshold off the membrane at a spike",
        "delayed-subtract": "takes the threshold off the membrane one step after the spike",
        "held-subtract": "takes the threshold off the membrane at a spike, and asks twice of one that stays above it",
        "delayed-value": "sets the membrane one step after the spike, after it took that step's input",
    }.get(reset, "does not set the membrane to v_reset at the spike")
    yield Violation(
        "lava-reset",
        f"the network's reset {what} ({reset!r})",
        where=", ".join(_where(graph, name) for name in populations),
        loc=_loc(graph, next(iter(populations))),
        expected="reset 'value'",
        hint="train with a hard reset, choose a Xylo chip, which subtracts, or allow 'approximate' and read its cost",
    )


@unless_allowed
def starts_at_reset(graph: Graph) -> Iterator[Violation]:
    """Membranes start at the value they are reset to: both are the chip's 0."""
    for name, population in plan(graph).network.populations.items():
        rule = population.rule
        if rule is None or not spiking(population):
            continue
        apart = np.broadcast_to(np.abs(rule.start - level_of(rule)), population.size)
        if apart.max(initial=0.0) > _NEAR:
            worst = int(apart.argmax())
            start, level = (float(np.broadcast_to(v, population.size)[worst]) for v in (rule.start, level_of(rule)))
            yield Violation(
                "lava-start",
                f"membranes start at {start:.6g} (v_leak) and are reset to {level:.6g} (v_reset)",
                where=_where(graph, name),
                loc=_loc(graph, name),
                expected="the same value, which becomes the chip's 0",
                hint="set v_reset to v_leak, start membranes at 0 (semantics start='zero'), or allow 'approximate'",
            )


def thresholds(graph: Graph) -> Iterator[Violation]:
    """Thresholds above the reset: vth is 0 to 131071."""
    for name, population in plan(graph).network.populations.items():
        rule = population.rule
        if rule is None or rule.threshold is None:
            continue
        above = np.broadcast_to(rule.threshold - level_of(rule), population.size)
        if not (above > 0).all():
            low, plain = float(above.min()), isinstance(population.op, Threshold)
            said = f"threshold is {low:.6g}" if plain else f"v_threshold lies {low:.6g} above v_reset"
            yield Violation(
                "lava-threshold",
                f"{said} ({int((above <= 0).sum())} of {above.size})",
                where=_where(graph, name),
                loc=_loc(graph, name),
                expected="a threshold above 0" if plain else "a threshold above the reset",
            )


def decays(graph: Graph) -> Iterator[Violation]:
    """States that keep between 0 and all of themselves in a step."""
    for name, population in plan(graph).network.populations.items():
        rule = population.rule
        for field, decay in {} if rule is None else {"tau": rule.decay, "tau_syn": rule.decay_syn}.items():
            if decay is None or ((decay >= 0) & (decay <= 1)).all():
                continue
            wrong = (decay < 0) | (decay > 1)
            yield Violation(
                "lava-decay",
                f"a state is multiplied by {float(decay[wrong][0]):.6g} in a step ({int(wrong.sum())} neurons)",
                where=_where(graph, name),
                loc=_loc(graph, name),
                expected="a factor of 0 to 1",
                hint=f"use a longer {field}, or a shorter time step",
            )


def delays(graph: Graph) -> Iterator[Violation]:
    """A connection holds spikes back by 62 steps at most, beyond the one that it takes."""
    found = plan(graph)
    for wire in found.wires:
        if wire.delay > MAX_DELAY:
            source = "a constant" if wire.driven else wire.source
            yield Violation(
                "lava-delay",
                f"from {source} to {wire.target} values must be held back by {wire.delay} steps",
                where=wire.target,
                expected=f"at most {MAX_DELAY}",
                hint="shorten the Delay, or the longer of the paths that meet there",
            )


@unless_allowed
def loops(graph: Graph) -> Iterator[Violation]:
    """Every connection of a loop takes a step, as on the chip."""
    for fault in plan(graph).slow_loops:
        yield _traced(graph, fault)


@unless_allowed
def membrane_floor(graph: Graph) -> Iterator[Violation]:
    """Membranes have no floor but the end of 24 bits."""
    floor = graph.semantics.membrane_floor
    if floor is not None:
        yield Violation(
            "lava-floor",
            f"membranes end at {floor:.6g} in the network",
            expected="membrane_floor=None",
            hint="train without a floor, or allow 'approximate' and read what it costs",
        )


def parts(graph: Graph) -> Iterator[Violation]:
    """A population is split by du and dv, which are one number per Lava process, into 32 parts at most."""
    found = plan(graph)
    for name in found.network.populations:
        count = len(found.cells_of(name))
        if count > MOST_PARTS:
            yield Violation(
                "lava-parts",
                f"its neurons have {count} different pairs of time constants",
                where=_where(graph, name),
                loc=_loc(graph, name),
                expected=f"at most {MOST_PARTS}: every pair is a Lava process of its own",
                hint="let neurons share time constants, e.g. round them to a few values",
            )


RULES: tuple[Callable[[Graph], Iterator[Violation]], ...] = (
    readable,
    hard_reset,
    starts_at_reset,
    thresholds,
    decays,
    delays,
    loops,
    membrane_floor,
    parts,
)


def _where(graph: Graph, name: str) -> str:
    return ", ".join(graph.sources(name))


def _loc(graph: Graph, name: str) -> str:
    return str(graph[name].loc or "") if name in graph else ""


def _traced(graph: Graph, fault: Violation) -> Violation:
    """A fault with the line that its op comes from."""
    if fault.loc or fault.where not in graph:
        return fault
    return Violation(
        fault.rule, fault.what, _where(graph, fault.where), _loc(graph, fault.where), fault.expected, fault.hint
    )
