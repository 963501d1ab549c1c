"""A spread network as it is drawn: every chip a frame and a colour of its own."""

from __future__ import annotations

from dataclasses import replace

from snnir.draw.style import Family
from snnir.draw.view import Box, View, view
from snnir.naming import identifiers
from snnir.placement.chips.describe import chip_facts, crossing_facts, place, used
from snnir.placement.chips.types import Spread

COLOURS: tuple[tuple[str, str], ...] = (
    ("#FBD9C2", "#C24A00"),
    ("#D3E6F5", "#0072B2"),
    ("#CDEBDF", "#00795A"),
    ("#F3DCEA", "#A8487F"),
    ("#FBEFC9", "#946B00"),
)
"""Fill and line of the chips, in turn; of Okabe and Ito's palette, as all pictures."""
APART = ("#FFFFFF", "#546E7A")
COPIES = "each of these chips needs it: a copy gives the same spikes, and saves a cut"
PIECES = "one chip cannot give all of its spikes: each gives a piece of the population, and they meet again"


def spread_view(spread: Spread, title: str | None = None) -> View:
    """What there is to draw: ops keep their shapes, colours and frames say on which chip they are.

    An op that several chips hold is drawn on the first; its text names the others.
    """
    plain = view(spread.graph)
    ids = identifiers(spread.graph.ops)
    colour = {part.name: COLOURS[i % len(COLOURS)] for i, part in enumerate(spread.chips)}
    titles = _titles(spread)
    first = {ids[name]: chips[0] for name, chips in spread.places.items() if chips}
    said = {ids[name]: place(spread, name) for name in spread.graph.ops}
    crossing = {ids[name]: _crossing(spread, name) for name in spread.graph.ops}
    boxes = tuple(
        _box(
            box,
            colour.get(first.get(box.id, ""), APART),
            said[box.id],
            titles.get(first.get(box.id, "")),
            first.get(box.id, "outside"),
            crossing[box.id],
        )
        for box in plain.boxes
    )
    tints = {title: colour[name][1] for name, title in titles.items()}
    many = f"{len(spread.chips)} chip{'s' if len(spread.chips) > 1 else ''}"
    return View(title or f"{plain.title} · {many}", boxes, plain.links, tints)


def _titles(spread: Spread) -> dict[str, str]:
    """Chip -> what its frame is called; one that holds nothing but copies is named by the frame that they are in."""
    drawn = {
        part.name: [part.name] for part in spread.chips if any(c[:1] == (part.name,) for c in spread.places.values())
    }
    for part in (part for part in spread.chips if part.name not in drawn):
        at = next(chips[0] for chips in spread.places.values() if part.name in chips)
        drawn[at].append(part.name)
    return {name: f"{', '.join(held)} ({spread.target})" for name, held in drawn.items()}


def _crossing(spread: Spread, name: str) -> str:
    """How many spikes of an op go to which chip, of how many that there is room for."""
    found: dict[str, int] = {}
    for cut in spread.cuts:
        if cut.value.partition("[")[0] == name:
            for chip in cut.targets:
                found[chip] = found.get(chip, 0) + cut.width
    room = f" of {spread.ports.inputs}" if spread.ports else ""
    return ", ".join(f"{width}{room} → {chip}" for chip, width in found.items())


def _box(box: Box, colours: tuple[str, str], where: str, frame: str | None, label: str, crossing: str) -> Box:
    family: Family = replace(box.family, fill=colours[0], line=colours[1], label=f"{box.family.label}, {label}")
    last = box.lines[-1]
    if crossing:
        last = f"{last.partition(' · ')[0]} · {crossing}"
    elif frame and ", " in where:
        last = f"{last} · {where}"
    return replace(
        box,
        family=family,
        lines=(*box.lines[:-1], last),
        details="\n".join(line for line in (box.details, where, crossing) if line),
        groups=(frame,) if frame else (),
    )


def notes(spread: Spread) -> dict[str, list[tuple[str, str]]]:
    """Box id -> what a page says of an op first: its chips, what of it crosses, and the room that there is for it."""
    ids = identifiers(spread.graph.ops)
    found: dict[str, list[tuple[str, str]]] = {}
    for name in spread.graph.ops:
        on = spread.places[name]
        where = f"{place(spread, name)} ({spread.target})" if on else place(spread, name)
        said = [("runs", where)]
        if len(on) > 1:
            said.append(("because", PIECES if where.endswith(f"(in pieces) ({spread.target})") else COPIES))
        readers = [part for part in spread.chips if name in spread.graph.inputs and name in part.graph.inputs]
        said += [("goes in", f"{used(spread, part)[0]} channels of {part.name}") for part in readers]
        found[ids[name]] = said + crossing_facts(spread, name)
    return found


def frames(spread: Spread) -> dict[str, list[tuple[str, str]]]:
    """Frame -> what a page says of its chips."""
    parts = {part.name: part for part in spread.chips}
    found: dict[str, list[tuple[str, str]]] = {}
    for title in _titles(spread).values():
        held = title.removesuffix(f" ({spread.target})").split(", ")
        several = len(held) > 1
        found[title] = [
            (f"{name} {key}" if several else key, said)
            for name in held
            for key, said in chip_facts(spread, parts[name])
        ]
    return found


def hint(spread: Spread) -> str:
    """What the page says of the colours, of the limits, and of why one chip is not enough."""
    several = len(spread.chips) > 1
    said = f"Every chip ({spread.target}) has a colour and a frame; what is white lies between them."
    said = said if several else f"One chip ({spread.target}) holds all; what is white lies outside."
    if spread.ports is not None:
        said += f" {spread.ports.inputs} channels go into a chip, {spread.ports.outputs} output neurons come off it."
    if several and spread.single:
        why = "; ".join(f"{v['what']} (expected {v['expected']})" for v in spread.single)
        said += f" One chip does not hold the network: {why}."
    return said
