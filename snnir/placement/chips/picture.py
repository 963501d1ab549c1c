"""A spread network as it is drawn: every chip a frame and a colour of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from snnir.draw.style import Family
from snnir.draw.view import Box, View, view
from snnir.naming import identifiers
from snnir.placement.chips.describe import chip_facts, crossing_facts, named, place, used
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


@dataclass(frozen=True)
class Drawn:
    """How an op on a chip is drawn: in which frame, in which colours; what is said of its place and its crossings."""

    frame: str
    colours: tuple[str, str]
    label: str
    where: str
    crossing: str


@dataclass(frozen=True)
class DrawnOn:
    """Op -> how it is drawn, and frame -> colour of its line."""

    ops: Mapping[str, Drawn]
    tints: Mapping[str, str]


def drawn_on(spread: Spread, part: str = "", colours: Sequence[tuple[str, str]] = COLOURS) -> DrawnOn:
    """The ops of a spread network on their chips.

    An op that several chips hold is drawn on the first; its text names the others. `part`: whose chips they are.
    """
    colour = {chip.name: colours[i % len(colours)] for i, chip in enumerate(spread.chips)}
    titles = _titles(spread, part)
    ops = {
        name: Drawn(
            titles[on[0]], colour[on[0]], named(part, on[0]), place(spread, name), _crossing(spread, name, part)
        )
        for name, on in spread.places.items()
        if on
    }
    return DrawnOn(ops, {title: colour[name][1] for name, title in titles.items()})


def spread_view(spread: Spread, title: str | None = None) -> View:
    """What there is to draw: ops keep their shapes, colours and frames say on which chip they are."""
    plain = view(spread.graph)
    drawn = drawn_on(spread)
    names = dict(zip((box.id for box in plain.boxes), spread.graph.ops, strict=True))
    boxes = tuple(_box(box, drawn.ops.get(names[box.id]), place(spread, names[box.id])) for box in plain.boxes)
    many = f"{len(spread.chips)} chip{'s' if len(spread.chips) > 1 else ''}"
    return View(title or f"{plain.title} · {many}", boxes, plain.links, drawn.tints)


def _box(box: Box, on: Drawn | None, where: str) -> Box:
    fill, line = on.colours if on else APART
    family: Family = replace(
        box.family, fill=fill, line=line, label=f"{box.family.label}, {on.label if on else 'outside'}"
    )
    details = "\n".join(said for said in (box.details, where, on.crossing if on else "") if said)
    lines = (*box.lines[:-1], last_line(box, on)) if on else box.lines
    return replace(box, family=family, lines=lines, details=details, groups=(on.frame,) if on else ())


def last_line(box: Box, on: Drawn) -> str:
    """The last line of an op's text: its size, and what of it crosses or which chips hold a copy."""
    last = box.lines[-1]
    if on.crossing:
        return f"{last.partition(' · ')[0]} · {on.crossing}"
    return f"{last} · {on.where}" if ", " in on.where else last


def _titles(spread: Spread, part: str = "") -> dict[str, str]:
    """Chip -> what its frame is called; one that holds nothing but copies is named by the frame that they are in."""
    return {
        name: ", ".join(named(part, one) for one in held) + ("" if part else f" ({spread.target})")
        for name, held in _held(spread).items()
    }


def _held(spread: Spread) -> dict[str, list[str]]:
    """Chip that ops are drawn on -> that chip, and those that hold nothing but what is drawn there and on others."""
    first = {chips[0] for chips in spread.places.values() if chips}
    held = {part.name: [part.name] for part in spread.chips if part.name in first}
    for part in (part for part in spread.chips if part.name not in held):
        at = next(chips[0] for chips in spread.places.values() if part.name in chips)
        held[at].append(part.name)
    return held


def _crossing(spread: Spread, name: str, part: str) -> str:
    """How many spikes of an op go to which chip, of how many that there is room for."""
    found: dict[str, int] = {}
    for cut in spread.cuts:
        if cut.value.partition("[")[0] == name:
            for chip in cut.targets:
                found[chip] = found.get(chip, 0) + cut.width
    room = f" of {spread.ports.inputs}" if spread.ports else ""
    return ", ".join(f"{width}{room} → {named(part, chip)}" for chip, width in found.items())


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


def frames(spread: Spread, part: str = "") -> dict[str, list[tuple[str, str]]]:
    """Frame -> what a page says of its chips."""
    parts, titles = {chip.name: chip for chip in spread.chips}, _titles(spread, part)
    return {
        titles[first]: [
            (f"{named(part, name)} {key}" if len(held) > 1 else key, said)
            for name in held
            for key, said in chip_facts(spread, parts[name])
        ]
        for first, held in _held(spread).items()
    }


def why(spread: Spread) -> str:
    """Why one chip is not enough."""
    return "; ".join(f"{v['what']} (expected {v['expected']})" for v in spread.single)


def hint(spread: Spread) -> str:
    """What the page says of the colours, of the limits, and of what one chip does not run."""
    several = len(spread.chips) > 1
    said = f"Every chip ({spread.target}) has a colour and a frame; what is white lies between them."
    said = said if several else f"One chip ({spread.target}) holds all; what is white lies outside."
    if spread.ports is not None:
        said += f" {spread.ports.inputs} channels go into a chip, {spread.ports.outputs} output neurons come off it."
    if not spread.alone:
        does = "One chip does not hold the network" if several else "It does not run the network as it is"
        said += f" {does}: {why(spread)}."
    return said
