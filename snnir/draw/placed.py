"""Where things are drawn: coordinates in pixels, y downwards; shared by the layouts and the SVG writer."""

from __future__ import annotations

from dataclasses import dataclass, field

from snnir.draw.view import Box

Point = tuple[float, float]


@dataclass(frozen=True)
class Rect:
    """A rectangle by its centre."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        """Lowest x."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """Highest x."""
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        """Lowest y."""
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        """Highest y."""
        return self.y + self.height / 2


@dataclass(frozen=True)
class Curve:
    """A link's way: cubic Bezier control points (1 + 3 n of them), and where its label stands."""

    points: tuple[Point, ...]
    label: Point


@dataclass(frozen=True)
class Placed:
    """A view's coordinates: boxes by id, curves in the order of the links, frames around groups, and the size."""

    boxes: dict[str, Rect]
    curves: tuple[Curve, ...]
    width: float
    height: float
    frames: dict[str, Rect] = field(default_factory=dict)


_NARROW, _WIDE = frozenset("iIjl.,:'|!()[]ft/ r-·"), frozenset("mwMWABCDEFGHKNOPQRSUVXYZ%@→×#")


def text_width(text: str, size: float) -> float:
    """About how wide `text` is in a sans-serif face of `size` pixels; a little more rather than less."""
    return size * sum(0.36 if c in _NARROW else 0.72 if c in _WIDE else 1.0 if ord(c) > 0x2FFF else 0.58 for c in text)


def shortened(text: str, size: float, limit: float) -> str:
    """`text` with its middle left out where it is wider than `limit` pixels; ends of names tell most."""
    if text_width(text, size) <= limit:
        return text
    head, tail = len(text) // 3, len(text) // 2
    while tail > 3 and text_width(f"{text[:head]}…{text[-tail:]}", size) > limit:
        head, tail = max(0, head - 1), tail - 1 if head < tail else tail
    return f"{text[:head]}…{text[-tail:]}"


NAME_SIZE, LINE_SIZE = 12.0, 10.5
BOLD = 1.08  # bold type is wider by so much
MAX_TEXT = 210.0
BOX_HEIGHT = 54.0
MARGIN_OF_SHAPE = {"octagon": 24.0, "hexagon": 36.0, "slanted": 36.0, "pill": 32.0, "notched": 32.0}


def box_size(box: Box) -> tuple[float, float]:
    """Width and height of a box that holds its text."""
    name, *rest = box.lines
    widest = max(text_width(name, NAME_SIZE) * BOLD, *(text_width(line, LINE_SIZE) for line in rest), 64.0)
    return min(widest, MAX_TEXT) + MARGIN_OF_SHAPE.get(box.family.shape, 20.0), BOX_HEIGHT
