"""Placements as they are drawn: every part a frame, the chip's in one colour and the host's in another; or every chip
in one of its own (`snnir.placement.chips.picture`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from snnir.draw.style import Family
from snnir.draw.view import Box, View, view
from snnir.naming import identifiers
from snnir.placement.chips import picture as chips
from snnir.placement.chips.types import Spread
from snnir.placement.types import Placement, Side

COLOURS: dict[Side, tuple[str, str, str]] = {
    "chip": ("#FBD9C2", "#C24A00", "on the chip"),
    "host": ("#D3E6F5", "#0072B2", "on the host"),
    "driver": ("#FFFFFF", "#546E7A", "between them"),
}
"""Side -> fill, line, and what the legend says; of Okabe and Ito's palette, as all pictures."""


def placed_view(placement: Placement, title: str | None = None) -> View:
    """What there is to draw: ops keep their shapes, colours say where they run."""
    plain = view(placement.graph)
    ids = identifiers(placement.graph.ops)
    part_of: dict[str, str] = {}
    tints: dict[str, str] = {}
    for part in placement.parts:
        frame = f"{part.name} ({placement.target if part.side == 'chip' else placement.host})"
        tints[frame] = COLOURS[part.side][1]
        own = {n for n in part.graph.ops if n in placement.graph and n not in part.graph.inputs}
        for name in own:
            part_of.setdefault(ids[name], frame)
    sides = {ids[name]: place.side for name, place in placement.places.items()}
    reasons = {ids[name]: place.reason for name, place in placement.places.items()}
    boxes = tuple(_box(box, sides[box.id], reasons[box.id], part_of.get(box.id)) for box in plain.boxes)
    chips = sum(part.side == "chip" for part in placement.parts)
    said = f"{plain.title} · {chips} parts for {placement.target}, {len(placement.parts) - chips} for {placement.host}"
    return View(title or said, boxes, plain.links, tints)


def _box(box: Box, side: Side, reason: str, frame: str | None) -> Box:
    fill, line, label = COLOURS[side]
    family: Family = replace(box.family, fill=fill, line=line, label=f"{box.family.label}, {label}")
    details = f"{box.details}\n{label}: {reason}"
    return replace(box, family=family, details=details, groups=(frame,) if frame else ())


def page(placement: Placement | Spread, title: str | None = None) -> str:
    """One HTML file that opens offline: every part a frame in its side's or its chip's colour, which opens and closes;
    a tooltip and the panel say where an op runs and why, and what of it crosses."""
    from snnir.draw.page import coloured_text

    if isinstance(placement, Spread):
        shown, notes = chips.spread_view(placement, title), chips.notes(placement)
        return coloured_text(placement.graph, shown, notes, chips.hint(placement), chips.frames(placement))
    hint = f"Orange runs on the chip ({placement.target}), blue on the host ({placement.host}), white between them."
    return coloured_text(placement.graph, placed_view(placement, title), _notes(placement), hint)


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
