"""A spread network as it is drawn: every chip a frame and a colour of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from snnir.draw.style import Family
from snnir.draw.view import Box, View, view
from snnir.naming import identifiers
from snnir.placement.chips.describe import place
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


def spread_view(spread: Spread, title: str | None = None) -> View:
    """What there is to draw: ops keep their shapes, colours and frames say on which chip they are.

    An op that several chips hold is drawn on the first; its text names the others.
    """
    plain = view(spread.graph)
    ids = identifiers(spread.graph.ops)
    colour = {part.name: COLOURS[i % len(COLOURS)] for i, part in enumerate(spread.chips)}
    frames = {part.name: f"{part.name} ({spread.target})" for part in spread.chips}
    first = {ids[name]: chips[0] for name, chips in spread.places.items() if chips}
    said = {ids[name]: place(spread, name) for name in spread.graph.ops}
    boxes = tuple(
        _box(
            box,
            colour.get(first.get(box.id, ""), APART),
            said[box.id],
            frames.get(first.get(box.id, "")),
            first.get(box.id, "outside"),
        )
        for box in plain.boxes
    )
    tints = {frames[name]: line for name, (_, line) in colour.items()}
    many = f"{len(spread.chips)} chip{'s' if len(spread.chips) > 1 else ''}"
    return View(title or f"{plain.title} · {many}", boxes, plain.links, tints)


def _box(box: Box, colours: tuple[str, str], where: str, frame: str | None, label: str) -> Box:
    family: Family = replace(box.family, fill=colours[0], line=colours[1], label=f"{box.family.label}, {label}")
    copied = (f"{box.lines[-1]} · {where}",) if frame and ", " in where else box.lines[-1:]
    return replace(
        box,
        family=family,
        lines=(*box.lines[:-1], *copied),
        details=f"{box.details}\n{where}",
        groups=(frame,) if frame else (),
    )


def picture(
    spread: Spread,
    form: Literal["svg", "dot", "mermaid"] = "svg",
    title: str | None = None,
    layout: Literal["auto", "own", "dot"] = "auto",
) -> str:
    """The text of a picture in one of three forms.

    Raises:
        UsageError: layout 'dot' without Graphviz.
    """
    from snnir.placement.picture import drawn

    return drawn(spread_view(spread, title), form, layout)
