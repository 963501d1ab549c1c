"""A placed view as SVG text: no scripts, no references to anything outside, no ids that could clash in a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import hypot
from xml.sax.saxutils import escape, quoteattr

from snnir.draw.placed import BOLD, LINE_SIZE, MAX_TEXT, NAME_SIZE, Curve, Placed, Point, Rect, shortened, text_width
from snnir.draw.style import Family
from snnir.draw.view import Box, Link, View

PAD, HEADER, LEGEND_GAP = 20.0, 36.0, 30.0
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, FAINT, LINE, LATE = "#1A1A1A", "#546E7A", "#37474F", "#C24A00"


def svg_text(view: View, placed: Placed) -> str:
    """The picture: title, groups, links, boxes, legend."""
    legend, legend_width, legend_height = legend_of(view)
    left, top = PAD, PAD + HEADER
    width = max(
        PAD + placed.width + LEGEND_GAP + legend_width + PAD, PAD * 2 + text_width(view.title, NAME_SIZE + 1) * BOLD
    )
    height = top + max(placed.height, legend_height) + PAD
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label={attribute(view.title)} '
        f'font-family="{FONT}">',
        f"<title>{escaped(view.title)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#FFFFFF"/>',
        f'<text x="{PAD:.1f}" y="{PAD + 10:.1f}" font-size="{NAME_SIZE + 1:g}" font-weight="bold" fill="{INK}">'
        f"{escaped(view.title)}</text>",
        f'<g transform="translate({left:.1f} {top:.1f})">',
    ]
    lines += [*drawing(view, placed), "</g>"]
    at = left + placed.width + LEGEND_GAP
    lines += [f'<g transform="translate({at:.1f} {top:.1f})">', *legend, "</g>", "</svg>"]
    return "\n".join(lines) + "\n"


def drawing(view: View, placed: Placed, under: Sequence[str] = (), over: Sequence[str] = ()) -> list[str]:
    """Frames, links, boxes, and labels of links; `under` is drawn beneath links and boxes, `over` above all."""
    both = list(zip(view.links, placed.curves, strict=True))
    return [
        *(_frame(name, rect, view.tints.get(name)) for name, rect in placed.frames.items()),
        *under,
        *(_link(link, curve) for link, curve in both),
        *(_box(box, placed.boxes[box.id]) for box in view.boxes),
        *(_label(link, curve) for link, curve in both if link.late),
        *over,
    ]


def curve_path(points: Sequence[Point]) -> str:
    """Cubic Bezier points (1 + 3 n of them) as path data."""
    ways = (f"C{_point(points[i])} {_point(points[i + 1])} {_point(points[i + 2])}" for i in range(1, len(points), 3))
    return f"M{_point(points[0])}" + "".join(ways)


def _box(box: Box, rect: Rect) -> str:
    name, *rest = box.lines
    look = f'fill="{box.family.fill}" stroke="{box.family.line}" stroke-width="1.4"'
    parts = [f"<g><title>{escaped(box.details)}</title>", _outline(box.family, rect, look)]
    size, spread = NAME_SIZE, 15.0
    y = rect.y - spread * len(rest) / 2 + 4
    shown = shortened(name, size * BOLD, MAX_TEXT)
    parts.append(_text(rect.x, y, size, shown, INK, ' font-weight="bold"'))
    for line in rest:
        y += spread
        parts.append(_text(rect.x, y, LINE_SIZE, shortened(line, LINE_SIZE, MAX_TEXT), "#37474F"))
    return "".join([*parts, "</g>"])


def _text(x: float, y: float, size: float, text: str, colour: str, more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="middle" fill="{colour}"{more}>'
        f"{escaped(text)}</text>"
    )


def _outline(family: Family, r: Rect, look: str) -> str:
    """The family's shape in the rectangle."""
    corner = {"pill": r.height / 2, "round": 14.0, "box": 2.0, "plain": 2.0, "notched": 2.0}.get(family.shape)
    if corner is not None:
        dash = ' stroke-dasharray="4 3"' if family.shape == "plain" else ""
        drawn = f'<rect x="{r.left:.1f}" y="{r.top:.1f}" width="{r.width:.1f}" height="{r.height:.1f}" '
        drawn += f'rx="{corner:g}" {look}{dash}/>'
        if family.shape == "notched":  # a second line inside each side, as flow charts draw a predefined process
            x0, x1 = r.left + min(6.0, r.width / 5), r.right - min(6.0, r.width / 5)
            drawn += f'<path d="M{x0:.1f} {r.top:.1f}V{r.bottom:.1f}M{x1:.1f} {r.top:.1f}V{r.bottom:.1f}" {look}/>'
        return drawn
    cut = min({"octagon": 12.0, "hexagon": 16.0, "slanted": 16.0}[family.shape], r.height * 0.45)
    if family.shape == "hexagon":
        corners = [(r.left + cut, r.top), (r.right - cut, r.top), (r.right, r.y)]
        corners += [(r.right - cut, r.bottom), (r.left + cut, r.bottom), (r.left, r.y)]
    elif family.shape == "slanted":
        corners = [(r.left + cut, r.top), (r.right, r.top), (r.right - cut, r.bottom), (r.left, r.bottom)]
    else:
        corners = [(r.left + cut, r.top), (r.right - cut, r.top), (r.right, r.top + cut), (r.right, r.bottom - cut)]
        corners += [
            (r.right - cut, r.bottom),
            (r.left + cut, r.bottom),
            (r.left, r.bottom - cut),
            (r.left, r.top + cut),
        ]
    return f'<polygon points="{_points(corners)}" stroke-linejoin="round" {look}/>'


def _link(link: Link, curve: Curve) -> str:
    points = curve.points
    colour, dash = (LATE, ' stroke-dasharray="6 4"') if link.late else (LINE, "")
    tip = points[-1]
    back = next((p for p in reversed(points) if hypot(p[0] - tip[0], p[1] - tip[1]) > 2.0), (tip[0], tip[1] - 1))
    length = hypot(tip[0] - back[0], tip[1] - back[1])
    ux, uy = (tip[0] - back[0]) / length, (tip[1] - back[1]) / length
    base = (tip[0] - 8 * ux, tip[1] - 8 * uy)
    head = [tip, (base[0] - 3.4 * uy, base[1] + 3.4 * ux), (base[0] + 3.4 * uy, base[1] - 3.4 * ux)]
    way = [*points[:-1], (tip[0] - 5 * ux, tip[1] - 5 * uy)]
    drawn = f'<path d="{curve_path(way)}" fill="none" stroke="{colour}" stroke-width="1.3"{dash}/>'
    drawn += f'<polygon points="{_points(head)}" fill="{colour}"/>'
    if link.port:
        side, anchor = (-5, "end") if ux < -0.2 else (5, "start")  # beside the arrow, where its line does not come from
        drawn += f'<text x="{tip[0] + side:.1f}" y="{tip[1] - 5:.1f}" font-size="9" text-anchor="{anchor}" '
        drawn += f'fill="{FAINT}">'
        drawn += f"{escaped(link.port)}</text>"
    return drawn


def _label(link: Link, curve: Curve) -> str:
    """What marks a link of the step before."""
    x, y = curve.label
    box = f'<rect x="{x - 13:.1f}" y="{y - 8.5:.1f}" width="26" height="17" rx="4" fill="#FFFFFF" stroke="{LATE}"/>'
    return box + _text(x, y + 3.5, 10, "z⁻¹", LATE)


def _frame(name: str, r: Rect, tint: str | None = None) -> str:
    fill, strength, line = (tint, "0.16", tint) if tint else ("#90A4AE", "0.07", "#B0BEC5")
    return (
        f'<g><title>{escaped(name)}</title><rect x="{r.left:.1f}" y="{r.top:.1f}" width="{r.width:.1f}" '
        f'height="{r.height:.1f}" rx="8" fill="{fill}" fill-opacity="{strength}" stroke="{line}"/>'
        f'<text x="{r.left + 6:.1f}" y="{r.top + 11:.1f}" font-size="9.5" fill="{FAINT}">'
        f"{escaped(shortened(name, 9.5, max(60.0, r.width - 12)))}</text></g>"
    )


def legend_of(view: View) -> tuple[list[str], float, float]:
    """Swatches of what occurs; with their width and height."""
    if not view.boxes:
        return [], 0.0, 0.0
    lines: list[str] = []
    y = 10.0
    for family in view.families:
        look = f'fill="{family.fill}" stroke="{family.line}" stroke-width="1.2"'
        lines.append(_outline(family, Rect(16, y, 30, 16), look))
        lines.append(f'<text x="40" y="{y + 3.5:.1f}" font-size="10.5" fill="{LINE}">{escaped(family.label)}</text>')
        y += 24
    labels = [family.label for family in view.families]
    if any(link.late for link in view.links):
        lines.append(_link(Link("", "", late=True), Curve(((2, y), (12, y), (20, y), (31, y)), (0, 0))))
        labels.append("z⁻¹ one step late")
        lines.append(f'<text x="40" y="{y + 3.5:.1f}" font-size="10.5" fill="{LINE}">{labels[-1]}</text>')
        y += 24
    return lines, 40 + max(text_width(label, 10.5) for label in labels), y - 12


def _point(p: Point) -> str:
    return f"{p[0]:.1f} {p[1]:.1f}"


def _points(points: list[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def escaped(text: str) -> str:
    """`text` for XML; characters that XML cannot hold become the replacement character."""
    return escape(_FORBIDDEN.sub("�", text))


def attribute(text: str) -> str:
    return quoteattr(_FORBIDDEN.sub("�", text))
