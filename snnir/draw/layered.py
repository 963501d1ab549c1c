"""A layered layout in pure Python, for machines without Graphviz.

The usual four steps (Sugiyama et al., 1981): ranks along the data flow, with links of the step before left out; chains
of helpers where a link spans several ranks; orders that keep crossings few, by barycentres; x positions that keep
chains straight, by least squares under the order's distances. Feedback runs upwards in a lane of its own, beside the
boxes it connects.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from snnir.draw.frames import frames
from snnir.draw.monotone import monotone
from snnir.draw.placed import BOX_HEIGHT, Curve, Placed, Point, Rect, box_size
from snnir.draw.ranks import ranks
from snnir.draw.view import Link, View

RANK_GAP, BOX_GAP, LANE = 42.0, 28.0, 16.0
SWEEPS, RELAXATIONS, STRAIGHTENINGS = 8, 14, 6
MOST_TURNED = 40  # feedback lanes that are tried on both sides


@dataclass
class Node:
    """A box, or a helper on a link's way."""

    rank: int
    width: float
    box: str | None = None
    beside: int | None = None  # for the end of a feedback lane: the node it stands beside
    leftwards: bool = False  # for a feedback lane: on the left of its boxes
    up: list[tuple[int, float]] = field(default_factory=list)  # neighbours in the rank above, with weights
    down: list[tuple[int, float]] = field(default_factory=list)
    x: float = 0.0


def place(view: View) -> Placed:
    """Coordinates for a view."""
    if not view.boxes:
        return Placed({}, (), 0.0, 0.0)
    net = Net(view)
    net.order()
    net.spread()
    return net.placed()


class Net:
    """The boxes of a view in layers, with helpers where a link spans several.

    Attributes:
        layers: numbers of nodes, rank by rank, from left to right.
        ways: the nodes that each link visits, in the order of the links.
    """

    def __init__(
        self, view: View, rank: dict[str, int] | None = None, trunks: Sequence[Hashable] | None = None
    ) -> None:
        """Layers for `view`.

        Args:
            rank: of each box; default along the data flow.
            trunks: one key per link: links of the same key share their helpers. Default: none do.
        """
        self.view = view
        rank = rank or ranks(view)
        self._trunk: dict[tuple[Hashable, int], int] = {}
        self.nodes: list[Node] = [Node(rank[b.id], box_size(b)[0], b.id) for b in view.boxes]
        self.number = {box.id: i for i, box in enumerate(view.boxes)}
        self.ways: list[list[int]] = [
            self._way(link, k if trunks is None else trunks[k]) for k, link in enumerate(view.links)
        ]
        self.layers: list[list[int]] = [[] for _ in range(max(node.rank for node in self.nodes) + 1)]
        for i, node in enumerate(self.nodes):
            self.layers[node.rank].append(i)

    # -- helpers -----------------------------------------------------------------------------------------------

    def _helper(self, rank: int, beside: int | None = None) -> int:
        self.nodes.append(Node(rank, LANE, beside=beside))
        return len(self.nodes) - 1

    def _way(self, link: Link, trunk: Hashable) -> list[int]:
        """The nodes that a link visits, downwards; for feedback its lane, from the target's rank to the source's."""
        a, b = self.number[link.source], self.number[link.target]
        top, bottom = self.nodes[a].rank, self.nodes[b].rank
        if bottom <= top:
            lane = [self._helper(rank) for rank in range(bottom, top + 1)]
            self.nodes[lane[0]].beside, self.nodes[lane[-1]].beside = b, a
            self._join(lane)
            return lane
        way = [a, *(self._shared(trunk, rank) for rank in range(top + 1, bottom)), b]
        self._join(way)
        return way

    def _shared(self, trunk: Hashable, rank: int) -> int:
        if (trunk, rank) not in self._trunk:
            self._trunk[trunk, rank] = self._helper(rank)
        return self._trunk[trunk, rank]

    def _join(self, way: Sequence[int]) -> None:
        for a, b in pairwise(way):
            if any(b == there for there, _ in self.nodes[a].down):
                continue  # part of a trunk
            helpers = sum(self.nodes[i].box is None for i in (a, b))
            weight = (1.0, 2.0, 8.0)[helpers]
            self.nodes[a].down.append((b, weight))
            self.nodes[b].up.append((a, weight))

    # -- order -------------------------------------------------------------------------------------------------

    def order(self) -> None:
        """Orders every layer so that few links cross."""
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(SWEEPS):
            if fewest == 0 and sweep > 0:
                break
            downwards = sweep % 2 == 0
            for layer in self.layers[1:] if downwards else self.layers[-2::-1]:
                self._sort(layer, downwards)
            if (now := self._crossings()) < fewest or sweep == 0:
                best, fewest = [list(layer) for layer in self.layers], now
        self.layers = best
        self._turn_lanes()

    def _sort(self, layer: list[int], downwards: bool) -> None:
        beyond = self.nodes[layer[0]].rank + (-1 if downwards else 1)
        at = {i: k for k, i in enumerate(self.layers[beyond])}
        keys: dict[int, float] = {}
        for k, i in enumerate(layer):
            near = self.nodes[i].up if downwards else self.nodes[i].down
            keys[i] = sum(at[j] * w for j, w in near) / sum(w for _, w in near) if near else float(k)
        self._arrange(layer, sorted((i for i in layer if self.nodes[i].beside is None), key=lambda i: keys[i]))

    def _arrange(self, layer: list[int], free: list[int]) -> None:
        """Puts the nodes `free` in this order, and the ends of feedback lanes beside theirs."""
        lanes: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for i in sorted(layer):
            beside = self.nodes[i].beside
            if beside is not None:
                lanes[beside, self.nodes[i].leftwards].append(i)
        layer[:] = [j for i in free for j in (*reversed(lanes[i, True]), i, *lanes[i, False])]

    def _turn_lanes(self) -> None:
        """Moves feedback lanes to the left of their boxes where that saves crossings."""
        lanes = [way for k, way in enumerate(self.ways) if self._feedback(k)]
        for way in sorted(lanes, key=len)[:MOST_TURNED]:
            top, bottom = self.nodes[way[0]].rank, self.nodes[way[-1]].rank
            before, kept = (
                self._crossings(top - 1, bottom + 1),
                [list(layer) for layer in self.layers[top : bottom + 1]],
            )
            for i in way:
                self.nodes[i].leftwards = True
            for rank in {top, bottom}:
                layer = self.layers[rank]
                self._arrange(layer, [i for i in layer if self.nodes[i].beside is None])
            for rank in range(top + 1, bottom):
                self._sort(self.layers[rank], True)
            if self._crossings(top - 1, bottom + 1) >= before:
                for i in way:
                    self.nodes[i].leftwards = False
                self.layers[top : bottom + 1] = kept

    def _crossings(self, top: int = 0, bottom: int | None = None) -> int:
        """How often links cross between the ranks `top` and `bottom`."""
        total = 0
        for above, below in pairwise(self.layers[max(0, top) : None if bottom is None else bottom + 1]):
            at = {i: k for k, i in enumerate(below)}
            ends: list[int] = []
            for i in above:
                for k in sorted(at[j] for j, _ in self.nodes[i].down):
                    total += len(ends) - bisect_right(ends, k)
                for j, _ in self.nodes[i].down:
                    insort(ends, at[j])
        return total

    # -- x positions -------------------------------------------------------------------------------------------

    def spread(self) -> None:
        """Chooses x so that linked nodes stand below one another, without overlaps."""
        for layer in self.layers:
            edge = 0.0
            for i in layer:
                self.nodes[i].x = edge + self.nodes[i].width / 2
                edge += self.nodes[i].width + BOX_GAP
        for turn in range(RELAXATIONS):
            sides = ("up",) if turn % 2 == 0 else ("down",)
            for layer in self.layers if turn % 2 == 0 else reversed(self.layers):
                self._relax(layer, ("up", "down") if turn >= RELAXATIONS - 4 else sides)
        columns = self._columns()
        for _ in range(STRAIGHTENINGS):
            for column in columns:
                if not self._straighten(column):
                    for part in self._runs(column):
                        self._straighten(part)

    def _columns(self) -> list[list[int]]:
        """Nodes that should stand exactly below one another: each has at most one partner above and one below."""
        nodes = self.nodes
        pairs = [
            (-weight, abs(nodes[i].x - nodes[j].x), i, j) for i in range(len(nodes)) for j, weight in nodes[i].down
        ]
        sole = {(i, j) for _, _, i, j in pairs if len(nodes[i].down) == len(nodes[j].up) == 1}
        below: dict[int, int] = {}
        above: dict[int, int] = {}
        for _, _, i, j in sorted(pairs, key=lambda pair: (pair[2:] not in sole, pair)):
            if i not in below and j not in above:
                below[i], above[j] = j, i
        columns: list[list[int]] = []
        for i in (i for i in range(len(nodes)) if i not in above):
            column = [i]
            while column[-1] in below:
                column.append(below[column[-1]])
            columns.append(column)
        return sorted(columns, key=len, reverse=True)

    def _runs(self, column: list[int]) -> list[list[int]]:
        """The parts of a column that most want to be straight: the helpers of one link, boxes with one way through."""
        nodes = self.nodes
        runs = [[column[0]]]
        for i, j in pairwise(column):
            helpers = nodes[i].box is None and nodes[j].box is None
            sole = len(nodes[i].down) == len(nodes[j].up) == 1 and nodes[i].box is not None and nodes[j].box is not None
            if helpers or sole:
                runs[-1].append(j)
            else:
                runs.append([j])
        return runs

    def _straighten(self, column: list[int]) -> bool:
        """Gives the column one x, as its neighbours want it, where there is room for that; says whether there was."""
        nodes = self.nodes
        low, high = float("-inf"), float("inf")
        inside = set(column)
        pull, weight = 0.0, 0.0
        for i in column:
            layer = self.layers[nodes[i].rank]
            k = layer.index(i)
            if k > 0:
                low = max(low, nodes[layer[k - 1]].x + self._distance(layer[k - 1], i))
            if k + 1 < len(layer):
                high = min(high, nodes[layer[k + 1]].x - self._distance(i, layer[k + 1]))
            for j, w in (*nodes[i].up, *nodes[i].down):
                if j not in inside:
                    pull, weight = pull + nodes[j].x * w, weight + w
        if low > high + 1e-6:
            return False
        wanted = pull / weight if weight else sum(nodes[i].x for i in column) / len(column)
        for i in column:
            nodes[i].x = min(max(wanted, low), high)
        return True

    def _relax(self, layer: list[int], sides: tuple[str, ...]) -> None:
        nodes = self.nodes
        wanted: list[float] = []
        weights: list[float] = []
        shifts: list[float] = []
        shift = 0.0
        for k, i in enumerate(layer):
            if k:
                shift += self._distance(layer[k - 1], i)
            shifts.append(shift)
            near = [pair for side in sides for pair in getattr(nodes[i], side)]
            beside = nodes[i].beside
            if beside is not None:
                near = [*near, (i, 0.1)]
                side = -1.0 if nodes[i].leftwards else 1.0
                goal = nodes[beside].x + side * ((nodes[beside].width + LANE) / 2 + BOX_GAP)
                total = 0.5 + sum(w for _, w in near)
                value = (0.5 * goal + sum(nodes[j].x * w for j, w in near)) / total
            elif near:
                total = sum(w for _, w in near)
                value = sum(nodes[j].x * w for j, w in near) / total
            else:
                total, value = 0.05, nodes[i].x
            wanted.append(value - shift)
            weights.append(total)
        for i, value, back in zip(layer, monotone(wanted, weights), shifts, strict=True):
            nodes[i].x = value + back

    def _distance(self, a: int, b: int) -> float:
        left, right = self.nodes[a], self.nodes[b]
        gap = BOX_GAP if left.box is not None and right.box is not None else BOX_GAP / 2
        return (left.width + right.width) / 2 + gap

    # -- result ------------------------------------------------------------------------------------------------

    def placed(self) -> Placed:
        """The coordinates, moved so that everything starts at 0."""
        nodes = self.nodes
        boxes = {
            node.box: Rect(node.x, node.rank * (BOX_HEIGHT + RANK_GAP) + BOX_HEIGHT / 2, node.width, BOX_HEIGHT)
            for node in nodes
            if node.box is not None
        }
        arrivals = self._arrivals()
        curves = [self._curve(k, boxes, arrivals) for k in range(len(self.ways))]
        around = frames(self.view, boxes)
        xs = [p[0] for c in curves for p in c.points]
        xs += [x for r in (*boxes.values(), *around.values()) for x in (r.left, r.right)]
        ys = [p[1] for c in curves for p in c.points]
        ys += [y for r in (*boxes.values(), *around.values()) for y in (r.top, r.bottom)]
        dx, dy = -min(xs), -min(ys)
        return Placed(
            {name: _moved(rect, dx, dy) for name, rect in boxes.items()},
            tuple(
                Curve(tuple((x + dx, y + dy) for x, y in c.points), (c.label[0] + dx, c.label[1] + dy)) for c in curves
            ),
            max(xs) + dx,
            max(ys) + dy,
            {path: _moved(rect, dx, dy) for path, rect in around.items()},
        )

    def _arrivals(self) -> dict[int, float]:
        """Link number -> offset from the target's centre: several links into one box arrive side by side."""
        into: dict[int, list[int]] = defaultdict(list)
        for k, link in enumerate(self.view.links):
            if not self._feedback(k):
                into[self.number[link.target]].append(k)
        offsets: dict[int, float] = {}
        for target, several in into.items():
            several.sort(key=lambda k: (self.nodes[self.ways[k][-2]].x, self.view.links[k].port))
            spacing = 38.0 if any(self.view.links[k].port for k in several) else 20.0
            step = min(spacing, self.nodes[target].width * 0.6 / max(1, len(several) - 1))
            for n, k in enumerate(several):
                offsets[k] = (n - (len(several) - 1) / 2) * step
        return offsets

    def _feedback(self, k: int) -> bool:
        return self.nodes[self.ways[k][0]].beside is not None

    def _curve(self, k: int, boxes: dict[str, Rect], arrivals: dict[int, float]) -> Curve:
        link, way = self.view.links[k], self.ways[k]
        if self._feedback(k):
            return self._lane(boxes[link.source], boxes[link.target], way)
        points: list[Point] = [(boxes[link.source].x, boxes[link.source].bottom)]
        for i in way[1:]:
            node = self.nodes[i]
            top = node.rank * (BOX_HEIGHT + RANK_GAP)
            x = node.x + (arrivals[k] if node.box is not None else 0.0)
            _bend(points, (x, top))
            if node.box is None:
                _straight(points, (x, top + BOX_HEIGHT))
        (x0, y0), (x1, y1) = points[-4], points[-1]
        return Curve(tuple(points), ((x0 + x1) / 2, (y0 + y1) / 2))

    def _lane(self, source: Rect, target: Rect, way: list[int]) -> Curve:
        """Out of the source's side, up the lane, into the target's side."""
        first, last = self.nodes[way[0]], self.nodes[way[-1]]
        start = source.left if last.leftwards else source.right
        end = target.left if first.leftwards else target.right
        if len(way) == 1:  # from a box to itself
            leave, enter = source.y + BOX_HEIGHT * 0.24, source.y - BOX_HEIGHT * 0.24
            points = [(start, leave), (last.x, leave), (last.x, leave), (last.x, source.y)]
            points += [(last.x, enter), (last.x, enter), (end, enter)]
            return Curve(tuple(points), (last.x, source.y))
        enter = target.y + self._entry(way[0]) * BOX_HEIGHT * 0.2
        points = [(start, source.y), (last.x, source.y), (last.x, source.y), (last.x, source.top)]
        for i in reversed(way[:-1]):
            node = self.nodes[i]
            top = node.rank * (BOX_HEIGHT + RANK_GAP)
            _bend(points, (node.x, top + BOX_HEIGHT))
            if i != way[0]:
                _straight(points, (node.x, top))
        points += [(first.x, enter), (first.x, enter), (end, enter)]
        middle = min(points[3:-3], key=lambda p: abs(p[1] - (source.y + target.y) / 2))
        return Curve(tuple(points), (middle[0], (source.y + target.y) / 2) if len(way) > 2 else _halfway(points[3:7]))

    def _entry(self, end: int) -> int:
        """Which of the lanes on this side of its box this one is: they enter below one another."""
        node = self.nodes[end]
        same = [i for i in self.layers[node.rank] if self.nodes[i].beside == node.beside]
        return sorted(i for i in same if self.nodes[i].leftwards == node.leftwards).index(end)


def _bend(points: list[Point], end: Point) -> None:
    """Appends an S curve that leaves and arrives vertically."""
    x, y = points[-1]
    middle = (y + end[1]) / 2
    points += [(x, middle), (end[0], middle), end]


def _halfway(points: Sequence[Point]) -> Point:
    """The middle of a cubic Bezier curve."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = points
    return (x0 + 3 * x1 + 3 * x2 + x3) / 8, (y0 + 3 * y1 + 3 * y2 + y3) / 8


def _straight(points: list[Point], end: Point) -> None:
    points += [points[-1], end, end]


def _moved(rect: Rect, dx: float, dy: float) -> Rect:
    return Rect(rect.x + dx, rect.y + dy, rect.width, rect.height)
