"""Large graphs in a picture that cannot be opened: inner modules become one box each, until few enough boxes show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from snnir.draw.nest import Container, containers
from snnir.draw.style import MODULE
from snnir.draw.view import Box, Link, View

MOST = 140  # boxes; above that nobody follows a line any more


def folded(shown: View, changed: Mapping[str, str], most: int = MOST) -> View:
    """A view with at most about `most` boxes: levels of modules are folded from inside as long as there are more.

    Only modules that are one piece are framed, or folded.

    Args:
        shown: any view.
        changed: box id -> what changed it; a folded module says what is at work inside.
    """
    nest = containers(shown)
    # Frames around modules that are not one piece would pull apart what follows one another.
    shown = replace(shown, boxes=tuple(replace(b, groups=tuple(p for p in b.groups if p in nest)) for b in shown.boxes))
    level = max((_depth(path, nest) for path in nest), default=0)
    inside = {box.id: list(box.groups) for box in shown.boxes}
    while level > 0 and len({_stand_in(box.id, inside, level) for box in shown.boxes}) > most:
        level -= 1
    if level == max(_depth(path, nest) for path in nest):
        return shown
    stands = {box.id: _stand_in(box.id, inside, level) for box in shown.boxes}
    members: dict[str, list[Box]] = {}
    for box in shown.boxes:
        members.setdefault(stands[box.id], []).append(box)
    # Layout programs want plain identifiers, and boxes have theirs already.
    prefix = "module"
    while any(box.id.startswith(prefix) for box in shown.boxes):
        prefix += "_"
    plain = {ident: f"{prefix}{k}" if ident[0] == "." else ident for k, ident in enumerate(members)}
    boxes = tuple(_box(ident, plain[ident], several, changed) for ident, several in members.items())
    links = dict.fromkeys(
        Link(plain[stands[x.source]], plain[stands[x.target]], x.port if stands[x.target] == x.target else "", x.late)
        for x in shown.links
        if stands[x.source] != stands[x.target] or stands[x.source] == x.source
    )
    return View(shown.title, boxes, tuple(links))


def _depth(path: str, nest: Mapping[str, Container]) -> int:
    return 0 if not path else 1 + _depth(nest[path].parent, nest)


def _stand_in(ident: str, inside: Mapping[str, list[str]], level: int) -> str:
    """The box itself, or the module that is closed around it when `level` levels are open; no identifier has a dot."""
    paths = inside[ident]
    return f".{paths[level]}" if len(paths) > level else ident


def _box(ident: str, plain: str, members: list[Box], changed: Mapping[str, str]) -> Box:
    if not ident.startswith("."):
        return members[0]
    path = ident[1:]
    at_work = dict.fromkeys(part for box in members for part in changed.get(box.id, "").split(" + ") if part)
    lines = (path, f"{len(members)} ops", ", ".join(at_work))
    groups = members[0].groups
    outer = groups[: groups.index(path)]
    return Box(plain, MODULE, lines, "\n".join([path, *(box.lines[0] for box in members)]), outer)
