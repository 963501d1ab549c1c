"""The design rules of the Xylo family, one function each; every rule yields all its breaches.

Rules about room (channels, neurons, connections) always hold. Rules about meaning (reset, time constants, loops, floor)
hold unless approximation is allowed; then `approximations` lists them for the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps

import numpy as np

from snnir.backends.xylo.chip import Chip
from snnir.backends.xylo.layout import Plan
from snnir.backends.xylo.mapping import plan
from snnir.backends.xylo.parts import ideal_dash
from snnir.errors import Violation
from snnir.graph import Graph
from snnir.target import allowed

Rule = Callable[[Graph], Iterator[Violation]]
ChipRule = Callable[[Chip, Graph], Iterator[Violation]]


def bind(rule: ChipRule, chip: Chip) -> Rule:
    """A rule of the family as a rule of one chip; name and docstring stay."""

    @wraps(rule)
    def of_chip(graph: Graph) -> Iterator[Violation]:
        return rule(chip, graph)

    return of_chip  # type: ignore[return-value]


def unless_allowed(rule: ChipRule) -> ChipRule:
    """A rule about meaning: silent where approximation is allowed."""

    @wraps(rule)
    def strict(chip: Chip, graph: Graph) -> Iterator[Violation]:
        if not allowed(graph, "approximate"):
            yield from rule(chip, graph)

    return strict


# -- room --------------------------------------------------------------------------------------------------------------


def input_channels(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """At most 16 input channels."""
    found = plan(graph, chip)
    if found.n_in > chip.inputs:
        yield Violation(
            "xylo-input-channels",
            f"{found.n_in} input channels",
            where=", ".join(graph.inputs),
            expected=f"at most {chip.inputs}",
            hint="pool or encode the input before the chip, or choose a target for images",
        )


def hidden_neurons(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """Hidden neurons, relays and drivers included: 1000 on Audio 2, 992 on Audio 3, 496 on IMU."""
    found = plan(graph, chip)
    if found.n_hidden > chip.hidden:
        yield Violation(
            "xylo-hidden-neurons",
            f"{found.n_hidden} hidden neurons ({_parts(found)})",
            where=", ".join(n for n in found.network.populations if n not in found.outputs),
            expected=f"at most {chip.hidden}",
            hint="make layers smaller, or shorten what relays must hold back"
            if found.relays
            else "make layers smaller",
        )


def _parts(found: Plan) -> str:
    counts: dict[str, int] = {}
    for block in found.blocks:
        name = block.name if block.kind in ("current", "direct") else f"{block.kind}s"
        counts[name] = counts.get(name, 0) + block.size
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def output_neurons(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """Output neurons: 8 on Audio 2, 32 on Audio 3, 16 on IMU."""
    found = plan(graph, chip)
    if found.n_out > chip.outputs:
        yield Violation(
            "xylo-output-neurons",
            f"{found.n_out} outputs",
            where=", ".join(graph.outputs),
            expected=f"at most {chip.outputs}",
            hint="use fewer classes, or a chip with more output neurons (Audio 2: 8, IMU: 16, Audio 3: 32)",
        )


def input_expansion(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """On Audio 3 and IMU, inputs reach the first 128 hidden neurons only."""
    found = plan(graph, chip)
    if chip.expands and found.input_expansion > chip.input_expansion:
        yield Violation(
            "xylo-input-expansion",
            f"inputs must reach {found.input_expansion} hidden neurons",
            where=", ".join(dict.fromkeys(f.target for f in found.feeds if f.matrix == "in")),
            expected=f"at most {chip.input_expansion}, the first ones",
            hint=f"make the layers that read the input {chip.input_expansion} neurons or less in all",
        )


def output_expansion(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """On Audio 3 and IMU, outputs read the last 128 hidden neurons only."""
    found = plan(graph, chip)
    if chip.expands and found.output_expansion > chip.output_expansion:
        yield Violation(
            "xylo-output-expansion",
            f"outputs must read {found.output_expansion} hidden neurons",
            where=", ".join(dict.fromkeys(f.source for f in found.feeds if f.matrix == "out")),
            expected=f"at most {chip.output_expansion}, the last ones",
            hint=f"make the layers that feed the output {chip.output_expansion} neurons or less in all",
        )


def fan_out(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """Hidden targets of one hidden neuron: 64 on Audio 2, 1024 on Audio 3, 512 on IMU."""
    found = plan(graph, chip)
    reached = found.fan_out()
    for block in found.blocks:
        targets = reached[block.first : block.first + block.size]
        over = np.flatnonzero(targets > chip.fan_out)
        if not len(over):
            continue
        worst = int(targets.argmax())
        yield Violation(
            "xylo-fan-out",
            f"neuron {worst} reaches {targets[worst]} hidden neurons; {len(over)} of {block.size} reach too many",
            where=_where(graph, block.name),
            loc=_loc(graph, block.name),
            expected=f"at most {chip.fan_out} per neuron",
            hint=f"prune its outgoing weights to {chip.fan_out}, or make the layers that it feeds smaller",
        )


def connections(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """Connections between hidden neurons in all: 32,000 on Audio 2, 31,744 on Audio 3 and IMU."""
    found = plan(graph, chip)
    count = int(found.fan_out().sum())
    if count > chip.entries:
        yield Violation(
            "xylo-connections",
            f"{count} connections between hidden neurons",
            where=", ".join(n for n in found.network.populations if n not in found.outputs),
            expected=f"at most {chip.entries}",
            hint="prune weights, or make recurrent and hidden layers smaller",
        )


# -- meaning -----------------------------------------------------------------------------------------------------------


def readable(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """Spiking neurons with weights between them, read by outputs; a known time step; loops as slow as the chip's."""
    found = plan(graph, chip)
    yield from (_traced(graph, fault) for fault in found.faults)
    if not found.network.populations:
        yield Violation("xylo-neurons", "the network has no spiking neuron", expected="LIF, CubaLIF or IF populations")


@unless_allowed
def reset_by_subtraction(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """A spike takes the threshold off the membrane; it cannot set it to a value."""
    reset = graph.semantics.reset
    if reset == "subtract":
        return
    late = reset == "delayed-subtract"  # LIF and IF neurons can do that
    populations = plan(graph, chip).network.populations
    where = [n for n, p in populations.items() if not late or p.current_based]
    if where:
        what = "takes the threshold off one step after the spike" if late else "sets the membrane to v_reset at a spike"
        if reset == "held-subtract":
            what = "asks the threshold twice of a membrane that it leaves above it"
        yield Violation(
            "xylo-reset",
            f"the network's reset {what} ({reset!r})",
            where=", ".join(_where(graph, name) for name in where),
            loc=_loc(graph, where[0]),
            expected="reset 'subtract'",
            hint="train with reset by subtraction, or allow 'approximate' and read what it costs",
        )


@unless_allowed
def time_constants(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """A decay of 1 - 2^-dash per step with dash from 1 to 15; dash 0 would forget everything at once."""
    found = plan(graph, chip)
    dt = graph.semantics.dt or 0.0
    for name, population in found.network.populations.items():
        rule, op = population.rule, population.op
        if rule is None:
            continue
        decays = {"tau_mem" if population.current_based else "tau": rule.decay}
        if rule.decay_syn is not None:
            decays["tau_syn"] = rule.decay_syn
        for field, decay in decays.items():
            dash = ideal_dash(decay)
            if not (dash < 0.5).any():
                continue
            worst = int(dash.argmin())
            tau = float(np.broadcast_to(getattr(op, field), population.shape).reshape(-1)[worst])
            count = int((dash < 0.5).sum())
            least = dt * (np.sqrt(2.0) if graph.semantics.decay == "euler" else 1.0 / np.log(2.0 + np.sqrt(2.0)))
            yield Violation(
                "xylo-tau",
                f"{field} = {tau:.6g} s is {tau / dt:.3g} steps: its dash {dash[worst]:.2f} rounds to 0, which forgets "
                f"everything at once ({count} of {population.size} neurons)",
                where=_where(graph, name),
                loc=_loc(graph, name),
                expected=f"{field} of {least:.6g} s or more at dt = {dt:.6g} s",
                hint=f"use a longer {field}, or a time step of {dt * tau / least:.3g} s or less",
            )


def thresholds(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """A threshold above the resting value: the chip spikes 31 times per step at 0 or below."""
    for name, population in plan(graph, chip).network.populations.items():
        rule = population.rule
        if rule is None or rule.threshold is None:
            continue
        at_rest = not population.current_based and graph.semantics.start == "rest"
        level = rule.threshold - (rule.start if at_rest else 0.0)
        if not (np.minimum(level, rule.threshold) > 0).all():
            worst = int(np.minimum(level, rule.threshold).argmin())
            lies = f" lies {rule.threshold[worst] - level[worst]:.6g} from rest" if level[worst] <= 0 else ""
            yield Violation(
                "xylo-threshold",
                f"v_threshold = {rule.threshold[worst]:.6g}{lies}",
                where=_where(graph, name),
                loc=_loc(graph, name),
                expected="a threshold above 0, and above v_leak",
            )


@unless_allowed
def membrane_floor(chip: Chip, graph: Graph) -> Iterator[Violation]:
    """Membranes fall as low as 16 bits go."""
    floor = graph.semantics.membrane_floor
    if floor is not None:
        yield Violation(
            "xylo-floor",
            f"membranes end at {floor:.6g} in the network",
            expected="membrane_floor=None",
            hint="train without a floor, or allow 'approximate' and read what it costs",
        )


ROOM: tuple[ChipRule, ...] = (
    input_channels,
    hidden_neurons,
    output_neurons,
    input_expansion,
    output_expansion,
    fan_out,
    connections,
)
MEANING: tuple[ChipRule, ...] = (readable, reset_by_subtraction, time_constants, thresholds, membrane_floor)


def approximations(chip: Chip, graph: Graph) -> list[Violation]:
    """What is bent where approximation is allowed; nothing where it is not."""
    if not allowed(graph, "approximate"):
        return []
    bendable = (reset_by_subtraction, time_constants, membrane_floor)
    strict = [getattr(rule, "__wrapped__") for rule in bendable]  # noqa: B009 - set by functools.wraps
    return [*(v for rule in strict for v in rule(chip, graph)), *plan(graph, chip).bent]


def _own(graph: Graph, name: str) -> str:
    """The op whose spikes a block sends: itself, or what its relays hold back."""
    while name not in graph and "~" in name:
        name = name.rpartition("~")[0]
    return name


def _where(graph: Graph, name: str) -> str:
    return ", ".join(graph.sources(_own(graph, name)))


def _loc(graph: Graph, name: str) -> str:
    op = graph.ops.get(_own(graph, name))
    return str(op.loc or "") if op is not None else ""


def _traced(graph: Graph, fault: Violation) -> Violation:
    if fault.where not in graph or fault.loc:
        return fault
    return Violation(
        fault.rule, fault.what, _where(graph, fault.where), _loc(graph, fault.where), fault.expected, fault.hint
    )
