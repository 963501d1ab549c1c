"""Modules as boxes that open: a view as containers within containers, each with its rows from top to bottom.

The page opens and closes modules, so sizes change there and coordinates are chosen there. What does not depend on
sizes is chosen here, once per container: the row of each child, the order within rows, the way of each value. A value
enters an open module at a gate in its upper border and leaves at one in its lower border.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from snnir.draw.layered import Net
from snnir.draw.ranks import ranks
from snnir.draw.style import IO, WIRING
from snnir.draw.view import Box, Link, View

ROOT = ""


@dataclass(frozen=True)
class Way:
    """How a value passes through a container.

    Attributes:
        source: id of the box that gives it.
        items: what it visits from top to bottom: 'b…' a box, 'm…' a module by its path, 'h…' a helper between rows,
            'i…' and 'o…' the gates where the value of that box comes in and goes out.
        targets: ids of the boxes that read it at, or beyond, the last item.
        port: of the box it ends at, where that has several.
    """

    source: str
    items: tuple[str, ...]
    targets: tuple[str, ...]
    port: str = ""


@dataclass(frozen=True)
class Container:
    """A module, or the whole picture (path ''): rows of items, gates in the first and the last of them."""

    path: str
    parent: str
    rows: tuple[tuple[str, ...], ...]
    ways: tuple[Way, ...]


def containers(view: View) -> dict[str, Container]:
    """The containers of a view by path, outer ones before inner ones."""
    # A module that holds all but inputs and outputs says nothing.
    inner = [set(box.groups) for box in view.boxes if box.family is not IO]
    whole = set.intersection(*inner) if inner else set()
    chains = {box.id: [ROOT, *(path for path in box.groups if path not in whole)] for box in view.boxes}
    forward = [link for link in view.links if not link.late]
    late = [link for link in view.links if link.late]
    for path in _tangled(view, chains, forward):
        for chain in chains.values():
            if path in chain:
                chain.remove(path)
    found: dict[str, Container] = {}
    parents: dict[str, str] = {ROOT: ROOT}
    for chain in chains.values():
        for k in range(1, len(chain)):
            parents[chain[k]] = chain[k - 1]
    for path in sorted(parents, key=lambda p: (_depth(p, parents), p)):
        made = _container(path, parents[path], chains, forward, late)
        found[path] = _turned(made, found[parents[path]]) if path else made
    return found


def _turned(inner: Container, outer: Container) -> Container:
    """`inner`, mirrored where its values would otherwise cross on their way in or out."""
    place = {item: k for row in outer.rows for k, item in enumerate(row)}
    here, crossed, pairs = f"m{inner.path}", 0, 0
    for gate, end, beside in (("i", -1, -2), ("o", 0, 1)):
        outside = {w.source: place[w.items[beside]] for w in outer.ways if w.items[end] == here}
        order = [outside[item[1:]] for row in inner.rows for item in row if item[0] == gate and item[1:] in outside]
        crossed += sum(a > b for k, a in enumerate(order) for b in order[k:])
        pairs += sum(a != b for k, a in enumerate(order) for b in order[k:])
    return replace(inner, rows=tuple(row[::-1] for row in inner.rows)) if crossed * 2 > pairs else inner


def _depth(path: str, parents: dict[str, str]) -> int:
    return 0 if path == ROOT else 1 + _depth(parents[path], parents)


def _child(chain: list[str], box: str, path: str) -> str | None:
    """What stands for a box in container `path`: the box, a module it lies in, or None where it is outside."""
    if path not in chain:
        return None
    k = chain.index(path)
    return f"m{chain[k + 1]}" if k + 1 < len(chain) else f"b{box}"


def _container(
    path: str, parent: str, chains: dict[str, list[str]], forward: list[Link], late: list[Link]
) -> Container:
    children = list(dict.fromkeys(c for box, chain in chains.items() if (c := _child(chain, box, path)) is not None))
    if not children:
        return Container(path, parent, (), ())
    # One line per value and place it goes to: it divides only where its readers part.
    lines: dict[tuple[str, str, str, str], list[str]] = {}
    for link in forward:
        a, b = (_child(chains[box], box, path) for box in (link.source, link.target))
        if a == b:
            continue
        port = link.port if b is not None and b[0] == "b" else ""
        lines.setdefault((link.source, a or f"i{link.source}", b or f"o{link.source}", port), []).append(link.target)
    # Boxes are named by number: a view's ids must be plain.
    names = list(dict.fromkeys([*children, *(end for line in lines for end in line[1:3])]))
    number = {name: f"n{k}" for k, name in enumerate(names)}
    boxes = tuple(Box(number[name], WIRING, ("",), "", ()) for name in names)
    links = [Link(number[a], number[b]) for _, a, b, _ in lines]
    rank = _ranks(children, lines, _back(path, chains, late))
    trunks = [(source, start) for source, start, _, _ in lines]
    net = Net(View("", boxes, tuple(links)), {number[name]: rank[name] for name in names}, trunks)
    net.order()
    known = dict(enumerate(names))

    def item(node: int) -> str:
        return known.get(node) or f"h{node}"

    ways = tuple(
        Way(line[0], tuple(map(item, way)), tuple(targets), line[3])
        for (line, targets), way in zip(lines.items(), net.ways, strict=True)
    )
    return Container(path, parent, tuple(tuple(map(item, layer)) for layer in net.layers), ways)


def _back(path: str, chains: dict[str, list[str]], late: list[Link]) -> list[Link]:
    ends = ((_child(chains[x.source], x.source, path), _child(chains[x.target], x.target, path)) for x in late)
    return [Link(a, b, late=True) for a, b in ends if a is not None and b is not None and a != b]


def _ranks(children: list[str], lines: Iterable[tuple[str, str, str, str]], late: list[Link]) -> dict[str, int]:
    """Rows of children below one another as values flow, gates above and below all of them."""
    number = {name: f"n{k}" for k, name in enumerate(children)}
    inside = {(a, b) for _, a, b, _ in lines if a in number and b in number}
    # Feedback that would close a cycle the wrong way round tells nothing about rows.
    inner = tuple(Link(number[a], number[b]) for a, b in sorted(inside))
    back = tuple(Link(number[x.source], number[x.target], late=True) for x in late)
    boxes = tuple(Box(each, WIRING, ("",), "", ()) for each in number.values())
    shown = View("", boxes, inner + back)
    if _knots((x.target, x.source) if x.late else (x.source, x.target) for x in shown.links):
        shown = View("", boxes, inner)
    found = ranks(shown)
    rank = {name: found[ident] + 1 for name, ident in number.items()}
    last = max(rank.values(), default=0) + 1
    for _, a, b, _ in lines:
        if a[0] == "i":
            rank[a] = 0
        if b[0] == "o":
            rank[b] = last
    taken = {old: new for new, old in enumerate(sorted(set(rank.values())))}
    return {name: taken[old] for name, old in rank.items()}


def _knots(pairs: Iterable[tuple[str, str]]) -> list[set[str]]:
    """Sets of names that reach one another."""
    import networkx as nx

    parts = nx.strongly_connected_components(nx.DiGraph(pair for pair in pairs if pair[0] != pair[1]))
    return [set(part) for part in parts if len(part) > 1]


def _tangled(view: View, chains: dict[str, list[str]], forward: list[Link]) -> list[str]:
    """Modules that cannot be one box, since a value leaves them and comes back: the smallest that untie the picture."""
    chains = {box: list(chain) for box, chain in chains.items()}
    gone: list[str] = []
    todo = list(dict.fromkeys(path for chain in chains.values() for path in chain))
    while todo:
        path = todo.pop(0)
        while True:
            ends = [tuple(_child(chains[box], box, path) for box in (x.source, x.target)) for x in forward]
            knots = _knots((a, b) for a, b in ends if a is not None and b is not None)
            knot = [name for part in knots for name in part if name[0] == "m"]
            if not knot:
                break
            members = {name[1:]: sum(name[1:] in chain for chain in chains.values()) for name in knot}
            worst = min(members, key=lambda name: (members[name], name))
            gone.append(worst)
            todo = [other for other in todo if other != worst]
            for chain in chains.values():
                if worst in chain:
                    chain.remove(worst)
    return gone
