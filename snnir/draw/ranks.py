"""How far down each box stands."""

from __future__ import annotations

from collections import deque

from snnir.draw.view import View


def ranks(view: View) -> dict[str, int]:
    """Rank of each box: below all that feeds it in the same step, above all that it feeds back to."""
    after: dict[str, list[str]] = {box.id: [] for box in view.boxes}
    before: dict[str, list[str]] = {box.id: [] for box in view.boxes}
    for link in view.links:
        if link.source == link.target:
            continue
        a, b = (link.target, link.source) if link.late else (link.source, link.target)
        after[a].append(b)
        before[b].append(a)
    missing = {name: len(found) for name, found in before.items()}
    ready = deque(name for name, n in missing.items() if n == 0)
    rank = dict.fromkeys(after, 0)
    order: list[str] = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for other in after[name]:
            rank[other] = max(rank[other], rank[name] + 1)
            missing[other] -= 1
            if missing[other] == 0:
                ready.append(other)
    # What only sources off the longest way feed (a constant, a second input) moves down to what reads it.
    latest: dict[str, int] = {}
    for name in reversed(order):
        latest[name] = min((latest[other] - 1 for other in after[name]), default=rank[name])
    loose: set[str] = set()
    for name in order:
        if latest[name] > rank[name] and all(other in loose for other in before[name]):
            loose.add(name)
    for name in reversed(order):
        if name in loose and after[name]:
            rank[name] = min(rank[other] for other in after[name]) - 1
    low = min(rank.values())
    return {name: value - low for name, value in rank.items()}
