"""Frames around the ops of one module."""

from __future__ import annotations

from collections import defaultdict

from snnir.draw.placed import Rect
from snnir.draw.view import View


def frames(view: View, boxes: dict[str, Rect]) -> dict[str, Rect]:
    """Frames around groups of boxes, where no other box stands between them; two levels, which a picture can bear."""
    members: dict[str, set[str]] = defaultdict(set)
    levels: dict[str, int] = defaultdict(int)  # of groups inside
    for box in view.boxes:
        for up, group in enumerate(reversed(box.groups)):
            members[group].add(box.id)
            levels[group] = max(levels[group], up)
    found: dict[str, Rect] = {}
    for group, inside in members.items():
        if levels[group] > 1:
            continue
        pad = 6.0 + 5.0 * levels[group]
        left, right = min(boxes[i].left for i in inside) - pad, max(boxes[i].right for i in inside) + pad
        top = min(boxes[i].top for i in inside) - 16.0 - 14.0 * levels[group]
        bottom = max(boxes[i].bottom for i in inside) + pad
        others = (rect for name, rect in boxes.items() if name not in inside)
        if any(r.left < right and r.right > left and r.top < bottom and r.bottom > top for r in others):
            continue
        found[group] = Rect((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return found
