"""A spread network in words and as JSON data."""

from __future__ import annotations

from math import prod
from typing import Any

from snnir.ops import Neuron, Threshold
from snnir.placement.chips.types import Cut, Pick, Spread
from snnir.placement.grouped import WIDTH, broken
from snnir.placement.types import Part


def data(spread: Spread) -> dict[str, Any]:
    """The structure of `placement.json`."""
    return {
        "target": spread.target,
        "steps": [_step(step) for step in spread.steps],
        "cuts": [
            {"value": c.value, "width": c.width, "from": c.source, "to": list(c.targets), "several": c.several}
            for c in spread.cuts
        ],
        "ops": {
            name: {"chips": list(chips), "loc": str(spread.graph[name].loc or "")}
            for name, chips in spread.places.items()
        },
        "single_chip": [dict(v) for v in spread.single],
    }


def _step(step: Part | Pick) -> dict[str, Any]:
    if isinstance(step, Part):
        reads, gives = list(step.graph.inputs), dict(step.gives)
        return {"name": step.name, "kind": "chip", "reads": reads, "gives": gives, "ops": len(step.graph)}
    index, shape = list(step.index), list(step.shape)
    return {
        "name": step.name,
        "kind": "pick",
        "reads": list(step.sources),
        "index": index,
        "shape": shape,
        "delay": step.delay,
    }


def text(spread: Spread, width: int = WIDTH) -> str:
    """Which op is on which chip; the chips in their order; what crosses; why one chip is not enough.

    In lines of `width` columns.
    """
    graph, chips = spread.graph, spread.chips
    lines = [f"{len(graph)} ops on {many(spread)}{': nothing is cut' * spread.alone}", ""]
    longest, kinds = max(map(len, graph.ops)), max(len(op.kind) for op in graph.ops.values())
    for name, op in graph.ops.items():
        size = " x ".join(map(str, graph.shapes[name]))
        lines.append(f"  {name:<{longest}}  {op.kind:<{kinds}}  {size:<10}  {place(spread, name)}")
    lines += ["", "in this order:"]
    lines += [f"  {chip_line(spread, part)}" for part in chips]
    if spread.cuts:
        lines += ["", "cuts (spikes per step):"]
        lines += [f"  {cut_line(cut)}" for cut in spread.cuts]
    if spread.single:
        lines += ["", f"{why_title(spread)}:"]
        lines += [f"  {v['what']}, expected {v['expected']} [{v['rule']}]" for v in spread.single]
    return "\n".join(broken(lines, width))


def many(spread: Spread) -> str:
    """How many chips there are, in words."""
    count = len(spread.chips)
    return f"{count} {spread.target} chips" if count > 1 else f"one {spread.target} chip"


def why_title(spread: Spread) -> str:
    """What `Spread.single` says, in words."""
    return "why one chip does not hold it" if len(spread.chips) > 1 else "why the chip does not run it as it is"


def place(spread: Spread, name: str) -> str:
    """Where an op is, in words."""
    chips = spread.places[name]
    if not chips:
        ends = {*spread.graph.inputs, *spread.graph.outputs, *(s.name for s in spread.steps if isinstance(s, Pick))}
        return "between chips and user" if name in ends else "no output needs it: left out"
    return ", ".join(chips) + " (in pieces)" * in_pieces(spread, name)


def in_pieces(spread: Spread, name: str) -> bool:
    """Whether chips give pieces of a population; one may hold all of it."""
    return any(value.startswith(f"{name}[") for part in spread.chips for value in part.gives)


def chip_line(spread: Spread, part: Part) -> str:
    """A chip in a line: neurons, channels, and what they are of."""
    shapes = part.graph.shapes
    neurons = [n for n, op in part.graph.ops.items() if isinstance(op, (Neuron, Threshold))]
    total = sum(prod(shapes[n]) for n in neurons)
    into, out = used(spread, part)
    return (
        f"{part.name}  {total} neurons ({', '.join(neurons)}): {into} channels in ({', '.join(part.graph.inputs)}), "
        f"{out} out ({', '.join(part.gives)})"
    )


def used(spread: Spread, part: Part) -> tuple[str, str]:
    """How many of its channels and of its output neurons a chip uses."""
    into, out = (sum(prod(part.graph.shapes[n]) for n in names) for names in (part.graph.inputs, part.graph.outputs))
    ports = spread.ports
    if ports is None:
        return str(into), str(out)
    return f"{into} of {ports.inputs}", f"{out} of {ports.outputs}"


def chip_facts(spread: Spread, part: Part) -> list[tuple[str, str]]:
    """What there is to say of a chip: its neurons, and what goes in and comes off beside what it has room for."""
    into, out = used(spread, part)
    return [
        ("goes in", f"{into} channels: {', '.join(part.graph.inputs)}"),
        ("comes off", f"{out} output neurons: {', '.join(part.gives)}"),
    ]


def named(part: str, chip: str) -> str:
    """A chip's name; within a part that needs several (`part`, else ''), that part's folder first."""
    return f"{part}/{chip}" if part else chip


def crossing_facts(spread: Spread, name: str, part: str = "") -> list[tuple[str, str]]:
    """What there is to say of an op whose spikes go from chip to chip, pieces and slices of them too: each with the
    room that its chips have. `part`: as for `named`."""
    found: list[tuple[str, str]] = []
    parts = {part.name: part for part in spread.chips}
    for cut in spread.cuts:
        if cut.value.partition("[")[0] != name:
            continue
        out = used(spread, parts[cut.source])[1]
        room = f"{out} output neurons of {named(part, cut.source)}"
        room += "".join(f", {used(spread, parts[to])[0]} channels of {named(part, to)}" for to in cut.targets)
        to = ", ".join(named(part, to) for to in cut.targets)
        found.append(("crosses", f"{cut.value}: {cut.width} spikes per step, {named(part, cut.source)} → {to}"))
        found.append(("in use", room))
        if cut.several:
            found.append(("lost", f"spikes more than once in a step {cut.several} times; one spike crosses"))
    return found


def cut_line(cut: Cut, part: str = "") -> str:
    """A cut in a line; `part`: as for `named`."""
    lost = f"; spikes more than once in a step {cut.several} times, and one crosses" if cut.several else ""
    to = ", ".join(named(part, to) for to in cut.targets)
    return f"{cut.value}: {cut.width} spikes, {named(part, cut.source)} -> {to}{lost}"
