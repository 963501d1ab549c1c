"""`spread`: a network on as few chips as can hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from snnir.errors import CompileError, UsageError, Violation
from snnir.graph import Graph
from snnir.ops import Array, SpikingNeuron
from snnir.placement.chips import faults
from snnir.placement.chips.packing import Load, Packer
from snnir.placement.chips.parts import Aim, Net
from snnir.placement.chips.picks import output_picks, slice_pick, whole_pick
from snnir.placement.chips.types import Cut, Pick, Spread
from snnir.placement.examples import example
from snnir.placement.fitting import of_room, violations_of
from snnir.placement.types import Part
from snnir.target import Backend


def spread(
    source: Any,
    target: str,
    chips: int | str = "auto",
    *,
    calibrate: Any = None,
    allow: Sequence[str] = (),
    dt: float | None = None,
    **options: Any,
) -> Spread:
    """Cuts a spiking network into parts for several chips of one kind; one chip if that holds it.

    Spikes leave a chip through its output neurons, one per neuron and step, and enter the next through its input
    channels. Loops lie in one chip. Every chip keeps all rules of the target.

    Args:
        source: a graph, or anything that `snnir.load` takes.
        target: one of the Xylo family.
        chips: how many there are at most; 'auto' for as many as it needs.
        calibrate: recorded input, (T, B, *shape) or a dict by input name.
        allow: 'approximate' lets the chips run what they cannot run exactly, also cuts that lose spikes.
        dt: the time step in seconds, as for `load`.
        options: the target's own.

    Raises:
        CompileError: with every reason why no number of chips can hold the network.
        UsageError: a target that is no such chip, or a number of chips that is none.
    """
    from snnir.compiler import load
    from snnir.interpreter import as_inputs
    from snnir.registry import backend

    chip = backend(target)
    most = chips_of(chips)
    require_chips(chip)
    graph = load(source, dt=dt)
    shown = as_inputs(graph, calibrate) if calibrate is not None else example(graph)
    strict = calibrate is not None and "approximate" not in allow
    return spread_over(graph, chip, most, shown, strict, tuple(allow), options)


def spread_over(
    graph: Graph,
    chip: Backend,
    most: int | None,
    shown: Mapping[str, Array],
    strict: bool,
    allow: tuple[str, ...] = (),
    options: Mapping[str, Any] | None = None,
) -> Spread:
    """`spread` for a chip as such.

    Args:
        graph: the network. chip: with ports that other chips can continue. most: chips; None for any number.
        shown: input, (T, B, *shape) by name. strict: refuse a cut where the network spikes more than once in a step.
        allow, options: as for `spread`.

    Raises:
        CompileError: as for `spread`.
    """
    return spread_counted(graph, chip, most, several_of(graph, shown), strict, allow, options or {})


def spread_counted(
    graph: Graph,
    chip: Backend,
    most: int | None,
    several: Mapping[str, int],
    strict: bool,
    allow: tuple[str, ...],
    options: Mapping[str, Any],
) -> Spread:
    """`spread_over` where `several` says how often each population spikes more than once in a step (`several_of`)."""
    single = violations_of(graph, chip, allow, options)
    if not single:
        return _alone(graph, chip)
    net = Net(graph)
    picks, found = output_picks(net)
    found += _meaning(net, single)
    if found:
        raise CompileError(found, title=f"the network cannot run on {chip.target.title}, on however many")
    packer = Packer(net, chip, allow, options, several, strict)
    loads = _loads(packer, most)
    return _made(packer, loads, picks, single)


def require_chips(chip: Backend) -> None:
    """Makes sure that several chips of a kind can make up a network.

    Raises:
        UsageError: they cannot.
    """
    if chip.target.ports is None or chip.target.ports.inputs is None:
        raise UsageError(f"{chip.target.name} is no chip of which several make up a network; there are xylo-...")


def chips_of(chips: int | str) -> int | None:
    """How many chips there may be; None for any number.

    Raises:
        UsageError: it is neither 'auto' nor a number from 1 on.
    """
    if chips == "auto":
        return None
    try:
        count = int(chips)
    except (TypeError, ValueError):
        count = 0
    if count < 1 or isinstance(chips, (bool, float)):
        raise UsageError(f"chips is {chips!r}, expected 'auto' or a number from 1 on")
    return count


def _alone(graph: Graph, chip: Backend) -> Spread:
    name = "00-chip"
    part = Part(name, "chip", graph, {output: output for output in graph.outputs})
    inner = {op for op in graph.ops if op not in (*graph.inputs, *graph.outputs)}
    places = {op: (name,) if op in inner else () for op in graph.ops}
    return Spread(graph, chip.target.name, (part,), places, ports=chip.target.ports)


def _meaning(net: Net, single: Sequence[Violation]) -> list[Violation]:
    """What no number of chips can mend."""
    meaning = net.graph.semantics
    found = [v for v in single if not of_room(v) and not v.rule.endswith("output-source")]
    if meaning.latency_input or meaning.latency_neuron:
        what = f"values take {meaning.latency_input} and {meaning.latency_neuron} steps from inputs and neurons"
        hint = "cut the network that it was made from"
        found.append(Violation("placement-latency", what, expected="a network without latencies", hint=hint))
    return found


def several_of(graph: Graph, shown: Mapping[str, Array]) -> dict[str, int]:
    """Population -> neuron-steps of the shown input, (T, B, *shape) by name, in which it spikes more than once."""
    from snnir.interpreter import interpret

    if graph.semantics.spikes_per_step == 1:
        return {}
    names = [name for name, op in graph.ops.items() if isinstance(op, SpikingNeuron)]
    _, values = interpret(graph, dict(shown), record=names)
    return {name: count for name in names if (count := int(np.count_nonzero(values[name] > 1)))}


def _loads(packer: Packer, most: int | None) -> list[Load]:
    title = packer.chip.target.title
    loads, _ = packer.best()
    if loads is None and packer.strict and packer.several:
        packer.strict = False
        bent, _ = packer.best()
        if bent is not None:
            found = faults.spiking_twice(packer, bent)
            raise CompileError(found, title=f"a cut between {title} chips would lose spikes")
    if loads is None:
        largest = faults.most_that_go(packer)
        some = f"; the most that would go is {largest}" if largest else ""
        raise CompileError(faults.unsplittable(packer), title=f"no number of {title} chips holds the network{some}")
    if most is not None and len(loads) > most:
        raise CompileError([faults.too_few(packer, loads, most)], title="the network needs more chips")
    return loads


# -- the result --------------------------------------------------------------------------------------------------------


def _made(packer: Packer, loads: Sequence[Load], outputs: Sequence[Pick], single: Sequence[Violation]) -> Spread:
    net, target = packer.net, packer.chip.target
    steps: list[Part | Pick] = []
    pieces: dict[str, list[Aim]] = {}
    chip_of: dict[str, str] = {}
    held: dict[str, list[str]] = {name: [] for name in net.graph.ops}
    known = {*net.graph.inputs}
    for number, load in enumerate(loads):
        part = net.part(f"{number:02d}-chip", load.aims, load.inside)
        for value in part.graph.inputs:
            if value not in known:
                steps.append(slice_pick(net, value))
                known.add(value)
        steps.append(part)
        for aim in load.aims:
            chip_of[aim.value] = part.name
            if aim.whole:
                known.add(aim.name)
                continue
            pieces.setdefault(aim.name, []).append(aim)
            if sum(p.stop - p.start for p in pieces[aim.name]) == net.size(aim.name):
                steps.append(whole_pick(net, pieces[aim.name]))
                known.add(aim.name)
        for op in net.cone(load.aims, load.inside).members:
            held[op].append(part.name)
    steps += outputs
    places = {name: tuple(chips) for name, chips in held.items()}
    cuts = _cuts(packer, steps, chip_of)
    why = tuple(v.to_json() for v in single)
    return Spread(net.graph, target.name, tuple(steps), places, cuts, why, target.ports)


def _cuts(packer: Packer, steps: Sequence[Part | Pick], chip_of: Mapping[str, str]) -> tuple[Cut, ...]:
    """What chips give to chips, in running order."""
    made_of: dict[str, tuple[str, ...]] = {}
    targets: dict[str, list[str]] = {value: [] for value in chip_of}
    for step in steps:
        if isinstance(step, Pick):
            made_of[step.name] = step.sources
            continue
        for name in step.graph.inputs:
            for value in _given(name, made_of):
                if value in targets and step.name not in targets[value]:
                    targets[value].append(step.name)
    widths = {v: _width(packer.net, v, steps) for v in chip_of}
    return tuple(
        Cut(value, widths[value], chip_of[value], tuple(to), packer.several.get(value.partition("[")[0], 0))
        for value, to in targets.items()
        if to
    )


def _given(name: str, made_of: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The values that chips give, of which a value is made."""
    return [v for source in made_of[name] for v in _given(source, made_of)] if name in made_of else [name]


def _width(net: Net, value: str, steps: Sequence[Part | Pick]) -> int:
    part = next(step for step in steps if isinstance(step, Part) and value in step.gives)
    return int(np.prod(part.graph.shapes[part.gives[value]]))
