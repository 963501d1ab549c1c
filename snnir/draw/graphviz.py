"""Coordinates from Graphviz's `dot`, where that program is on the PATH. Only places; the SVG is ours either way."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

from snnir.draw.dot import digraph
from snnir.draw.placed import Curve, Placed, Point, Rect, box_size
from snnir.draw.view import Box, Link, View
from snnir.errors import UsageError

SECONDS = 60.0  # dot takes half a second for a thousand boxes; some graphs it never finishes
POINTS_PER_INCH = 72.0


def place_by_dot(view: View, required: bool = False) -> Placed | None:
    """Coordinates by `dot`; None when the program is missing or fails.

    Raises:
        UsageError: the program is missing or fails, and is `required`.
    """
    program = shutil.which("dot")
    if program is not None and view.boxes:
        try:
            numbers = {link: k for k, link in enumerate(view.links)}
            text = digraph(view, "pad=0", _box, lambda link: _link(link, numbers[link]))
            done = subprocess.run([program, "-Tjson"], input=text.encode(), capture_output=True, timeout=SECONDS)
            if done.returncode == 0:
                return _read(view, json.loads(done.stdout))
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
            pass  # the own layout does it then
    if required and view.boxes:
        raise UsageError("layout 'dot' needs a working program `dot` of Graphviz on the PATH; layout 'own' needs none")
    return None


def _box(box: Box) -> str:
    width, height = (side / POINTS_PER_INCH for side in box_size(box))
    return f'{box.id} [shape=box fixedsize=true width={width:.4f} height={height:.4f} label=""]'


def _link(link: Link, number: int) -> str:
    label = 'label="zz" fontsize=16' if link.late else ""
    # Feedback is given the other way round, so that dot ranks along the data flow.
    if link.late and link.source != link.target:
        return f"{link.target} -> {link.source} [id={number} dir=back {label}]"
    return f"{link.source} -> {link.target} [id={number} {label}]"


def _read(view: View, found: dict[str, Any]) -> Placed:
    _, _, width, height = (float(v) for v in found["bb"].split(","))

    def point(text: str) -> Point:
        x, y = text.split(",")[-2:]
        return float(x), height - float(y)

    boxes: dict[str, Rect] = {}
    frames: dict[str, Rect] = {}
    for item in found.get("objects", []):
        if "pos" in item:
            x, y = point(item["pos"])
            boxes[item["name"]] = Rect(
                x, y, float(item["width"]) * POINTS_PER_INCH, float(item["height"]) * POINTS_PER_INCH
            )
        elif "bb" in item:
            x0, y0, x1, y1 = (float(v) for v in item["bb"].split(","))
            frames[item["name"].removeprefix("cluster_")] = Rect(
                (x0 + x1) / 2, height - (y0 + y1) / 2, x1 - x0, y1 - y0
            )
    edges = sorted(found.get("edges", []), key=lambda edge: int(edge["id"]))
    curves = [_curve(link, edge, point) for link, edge in zip(view.links, edges, strict=True)]
    return Placed(boxes, tuple(curves), width, height, frames)


def _curve(link: Link, edge: dict[str, Any], point: Any) -> Curve:
    way: list[Point] = []
    first: Point | None = None
    last: Point | None = None
    for part in edge["pos"].split():
        if part.startswith("s,"):
            first = point(part)
        elif part.startswith("e,"):
            last = point(part)
        else:
            way.append(point(part))
    if first is not None:
        way = [first, first, way[0], *way]
    if last is not None:
        way = [*way, way[-1], last, last]
    if link.late and link.source != link.target:
        way.reverse()
    label = point(edge["lp"]) if "lp" in edge else way[len(way) // 2]
    return Curve(tuple(way), label)
