"""Two graphs side by side as one static SVG, at one scale, with the regions that passes rewrote outlined and named."""

from __future__ import annotations

from snnir.draw.comparison import Comparison, Region
from snnir.draw.placed import BOLD, LINE_SIZE, NAME_SIZE, Curve, Placed, Rect, shortened, text_width
from snnir.draw.style import mark, mixed
from snnir.draw.svg import FAINT, FONT, INK, LEGEND_GAP, PAD, attribute, curve_path, drawing, escaped, legend_of
from snnir.draw.view import Link, View

GAP, HEADER = 70.0, 60.0
AROUND, CORRIDOR, LINE_WIDTH, NAME = 7.0, 16.0, 1.6, 9.5


def beside_text(comparison: Comparison, views: tuple[View, View], places: tuple[Placed, Placed], title: str) -> str:
    """The picture: title, both graphs with a heading each, legend."""
    widths = [
        max(placed.width, text_width(view.title, LINE_SIZE), text_width(heading, NAME_SIZE) * BOLD)
        for view, placed, heading in zip(views, places, comparison.titles, strict=True)
    ]
    both = View("", tuple(box for view in views for box in view.boxes), tuple(x for view in views for x in view.links))
    legend, legend_width, legend_height = legend_of(both)
    top = PAD + HEADER + 20
    width = PAD + widths[0] + GAP + widths[1] + LEGEND_GAP + legend_width + PAD
    width = max(width, PAD * 2 + text_width(title, NAME_SIZE + 3) * BOLD)
    height = top + max(places[0].height, places[1].height, legend_height) + PAD
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label={attribute(title)} font-family="{FONT}">',
        f"<title>{escaped(title)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#FFFFFF"/>',
        _line(PAD, PAD + 12, NAME_SIZE + 3, title, INK, True),
    ]
    left = PAD
    for n, (view, placed) in enumerate(zip(views, places, strict=True)):
        lines.append(_line(left, PAD + 36, NAME_SIZE, comparison.titles[n], INK, True))
        lines.append(_line(left, PAD + 52, LINE_SIZE, view.title, FAINT))
        shown = [
            (region, {b.id: placed.boxes[b.id] for b in view.boxes if b.lines[0] in names})
            for region in comparison.regions
            if (names := set((region.before, region.after)[n]))
        ]
        under = [_outline(region, rects, view, placed, _colour(comparison, region)) for region, rects in shown]
        over = [
            _name(region.name, rect, _colour(comparison, region))
            for region, rects in shown
            for rect in _islands(rects, [(link.source, link.target) for link, _ in _inner(rects, view, placed)])
        ]
        inset = left + (widths[n] - placed.width) / 2
        lines += [f'<g transform="translate({inset:.1f} {top:.1f})">', *drawing(view, placed, under, over), "</g>"]
        left += widths[n] + GAP
    at = left - GAP + LEGEND_GAP
    lines += [f'<g transform="translate({at:.1f} {top:.1f})">', *legend, "</g>"]
    middle = PAD + widths[0] + GAP / 2
    lines.append(f'<path d="M{middle:.1f} {PAD + 24:.1f}V{height - PAD:.1f}" stroke="#CFD8DC"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _line(x: float, y: float, size: float, text: str, colour: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}"{weight}>{escaped(text)}</text>'


def _colour(comparison: Comparison, region: Region) -> str:
    return mark(comparison.marks[region.name])


def _inner(rects: dict[str, Rect], view: View, placed: Placed) -> list[tuple[Link, Curve]]:
    """The links between boxes of a region."""
    both = zip(view.links, placed.curves, strict=True)
    return [(link, curve) for link, curve in both if link.source in rects and link.target in rects]


def _outline(region: Region, rects: dict[str, Rect], view: View, placed: Placed, colour: str) -> str:
    """The outline of a region: the union of its boxes and of the links between them."""
    parts = [f"<g><title>{escaped(region.name)}</title>"]
    # All parts a little larger in the outline's colour, then all parts again in the fill's: what shows is the union.
    for more, paint in ((LINE_WIDTH, colour), (0.0, mixed(colour, "#FFFFFF", 0.12))):
        parts += [_corridor(curve, more, paint) for _, curve in _inner(rects, view, placed)]
        parts += [_surround(rect, more, paint) for rect in rects.values()]
    return "".join([*parts, "</g>"])


def _name(name: str, rect: Rect, colour: str) -> str:
    text = escaped(shortened(name, NAME, rect.width + 2 * AROUND))
    return (
        f'<text x="{rect.left - 3:.1f}" y="{rect.top - AROUND - 4:.1f}" font-size="{NAME:g}" font-weight="bold" '
        f'fill="{mixed(colour, "#000000", 0.78)}" stroke="#FFFFFF" stroke-width="3" stroke-linejoin="round" '
        f'paint-order="stroke">{text}</text>'
    )


def _corridor(curve: Curve, more: float, paint: str) -> str:
    width = CORRIDOR + 2 * more
    return f'<path d="{curve_path(curve.points)}" fill="none" stroke="{paint}" stroke-width="{width:.1f}"/>'


def _surround(r: Rect, more: float, paint: str) -> str:
    out = AROUND + more
    return (
        f'<rect x="{r.left - out:.1f}" y="{r.top - out:.1f}" width="{r.width + 2 * out:.1f}" '
        f'height="{r.height + 2 * out:.1f}" rx="{12 + more:.1f}" fill="{paint}"/>'
    )


def _islands(rects: dict[str, Rect], pairs: list[tuple[str, str]]) -> list[Rect]:
    """The topmost box of each connected part."""
    island = {ident: ident for ident in rects}
    for a, b in pairs:
        old, new = island[b], island[a]
        island = {ident: new if root == old else root for ident, root in island.items()}
    tops: dict[str, Rect] = {}
    for ident, rect in rects.items():
        root = island[ident]
        if root not in tops or rect.top < tops[root].top:
            tops[root] = rect
    return list(tops.values())
