"""Placements as they are drawn: every part a frame, the chip's in one colour and the host's in another; or every chip
in one of its own (`snnir.placement.chips.picture`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from snnir.draw.style import Family
from snnir.draw.view import Box, View, view
from snnir.naming import identifiers
from snnir.placement.chips import picture as chips
from snnir.placement.chips.describe import crossing_facts, in_pieces, named
from snnir.placement.chips.types import Spread
from snnir.placement.types import Part, Place, Placement, Side

COLOURS: dict[Side, tuple[str, str, str]] = {
    "chip": ("#FBD9C2", "#C24A00", "on the chip"),
    "host": ("#D3E6F5", "#0072B2", "on the host"),
    "driver": ("#FFFFFF", "#546E7A", "between them"),
}
"""Side -> fill, line, and what the legend says; of Okabe and Ito's palette, as all pictures."""
CHIPS = tuple(colours for colours in chips.COLOURS if colours[1] != COLOURS["host"][1])
"""Of the chips of a part, in turn: none is the host's."""


def placed_view(placement: Placement, title: str | None = None) -> View:
    """What there is to draw: ops keep their shapes, colours say where they run; a part's chips, where it has several,
    are frames within its own."""
    plain = view(placement.graph)
    ids = identifiers(placement.graph.ops)
    frames: dict[str, tuple[str, ...]] = {}
    tints: dict[str, str] = {}
    drawn: dict[str, chips.Drawn] = {}
    for part in placement.parts:
        frame = part_frame(placement, part)
        tints[frame] = COLOURS[part.side][1]
        spread = placement.spreads.get(part.name)
        inner = chips.drawn_on(spread, part.name, CHIPS) if spread else chips.DrawnOn({}, {})
        tints |= inner.tints
        for name in (n for n in part.graph.ops if n in placement.graph and n not in part.graph.inputs):
            on = inner.ops.get(name)
            if frames.setdefault(ids[name], (frame, on.frame) if on else (frame,)) and on:
                drawn.setdefault(ids[name], on)
    said = {ids[name]: place for name, place in placement.places.items()}
    boxes = tuple(_box(box, said[box.id], frames.get(box.id, ()), drawn.get(box.id)) for box in plain.boxes)
    many = sum(part.side == "chip" for part in placement.parts)
    said_title = (
        f"{plain.title} · {many} parts for {placement.target}, {len(placement.parts) - many} for {placement.host}"
    )
    return View(title or said_title, boxes, plain.links, tints)


def part_frame(placement: Placement, part: Part) -> str:
    """What a part's frame is called."""
    spread = placement.spreads.get(part.name)
    several = f", {len(spread.chips)} chips" if spread and len(spread.chips) > 1 else ""
    return f"{part.name} ({placement.target if part.side == 'chip' else placement.host}{several})"


def _box(box: Box, place: Place, frames: tuple[str, ...], on: chips.Drawn | None) -> Box:
    fill, line, label = COLOURS[place.side]
    details = f"{box.details}\n{label}: {place.reason}"
    if on is not None:
        fill, line = on.colours
        details += f"\n{on.where}"
    lines = (*box.lines[:-1], chips.last_line(box, on)) if on else box.lines
    family: Family = replace(box.family, fill=fill, line=line, label=f"{box.family.label}, {on.label if on else label}")
    return replace(box, family=family, lines=lines, details=details, groups=frames)


def page(placement: Placement | Spread, title: str | None = None) -> str:
    """One HTML file that opens offline: every part a frame in its side's or its chip's colour, which opens and closes;
    a tooltip and the panel say where an op runs and why, and what of it crosses."""
    from snnir.draw.page import coloured_text

    if isinstance(placement, Spread):
        shown, notes = chips.spread_view(placement, title), chips.notes(placement)
        return coloured_text(placement.graph, shown, notes, chips.hint(placement), chips.frames(placement))
    hint = f"Orange runs on the chip ({placement.target}), blue on the host ({placement.host}), white between them."
    if placement.spreads:
        hint += " Where a part needs several chips, each has a frame and a colour within it."
    frames: dict[str, list[tuple[str, str]]] = {}
    for part in placement.chips:
        spread = placement.spreads.get(part.name)
        if spread is not None:
            frames[part_frame(placement, part)] = [("because", chips.why(spread))]
            frames |= chips.frames(spread, part.name)
    return coloured_text(placement.graph, placed_view(placement, title), _notes(placement), hint, frames)


def _notes(placement: Placement) -> dict[str, list[tuple[str, str]]]:
    """Box id -> what a page says of an op first."""
    ids = identifiers(placement.graph.ops)
    part_of = {n: p.name for p in reversed(placement.parts) for n in p.graph.ops if n not in p.graph.inputs}
    notes: dict[str, list[tuple[str, str]]] = {}
    where = {"chip": f" ({placement.target})", "host": f" ({placement.host})", "driver": ""}
    for name, place in placement.places.items():
        part = f", {part_of[name]}" if name in part_of else ""
        notes[ids[name]] = [("runs", f"{COLOURS[place.side][2]}{where[place.side]}{part}"), ("because", place.reason)]
    for crossing in placement.crossings:
        what = "graded spikes" if crossing.kind == "graded" else crossing.kind
        way = f"{crossing.width} {what} per step {'into' if crossing.to_chip else 'off'} the chip"
        notes[ids[crossing.source]].append(("crosses", way))
    for part_name, spread in placement.spreads.items():
        for name, on in spread.places.items():
            if on and name in placement.places:
                copies = f"{', '.join(named(part_name, chip) for chip in on)}{' (in pieces)' * in_pieces(spread, name)}"
                notes[ids[name]] += [("chip", copies), *crossing_facts(spread, name, part_name)]
    return notes


def picture(
    placement: Placement | Spread,
    form: Literal["svg", "dot", "mermaid"] = "svg",
    title: str | None = None,
    layout: Literal["auto", "own", "dot"] = "auto",
) -> str:
    """The text of a picture in one of three forms, of a network on a chip and a host or on several chips.

    Raises:
        UsageError: layout 'dot' without Graphviz.
    """
    from snnir.draw.dot import dot_text
    from snnir.draw.graphviz import place_by_dot
    from snnir.draw.layered import place
    from snnir.draw.mermaid import mermaid_text
    from snnir.draw.svg import svg_text

    if isinstance(placement, Spread):
        shown = chips.spread_view(placement, title)
    else:
        shown = placed_view(placement, title)
    if form != "svg":
        return dot_text(shown) if form == "dot" else mermaid_text(shown)
    placed = None if layout == "own" else place_by_dot(shown, required=layout == "dot")
    return svg_text(shown, placed or place(shown))
