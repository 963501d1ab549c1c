"""What the page says about each op, module and graph, as plain JSON data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from snnir.arithmetic import in_words
from snnir.cost import Cost, Row, cost
from snnir.draw.nest import Container, containers
from snnir.draw.placed import BOLD, BOX_HEIGHT, LINE_SIZE, MAX_TEXT, NAME_SIZE, box_size, shortened, text_width
from snnir.draw.view import Box, View, amount, shape_text, view
from snnir.errors import SnnirError
from snnir.graph import Graph
from snnir.ops import Op

VISIBLE = 60  # boxes that a side shows at first: what a person takes in without searching
FEWEST = 12  # boxes below which a side says too little


def sides(graphs: Mapping[str, tuple[Graph, str]]) -> dict[str, dict[str, Any]]:
    """Sides of the page by key, from graphs with their titles; all open down to the same level."""
    return _opened({key: _side(graph, title, view(graph)) for key, (graph, title) in graphs.items()})


def coloured_side(
    graph: Graph,
    shown: View,
    notes: Mapping[str, Sequence[tuple[str, str]]],
    frames: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> dict[str, Any]:
    """The one side of a page on which colours and frames mean something else than an op's kind and module.

    `shown`: of the graph, its groups frames with tints. `notes`: box id -> what to say of it first, (key, text).
    `frames`: group -> the same of its frame.
    """
    side = _side(graph, "", shown)
    for ident, lines in notes.items():
        node = side["nodes"][ident]
        node["facts"] = [*([key, text] for key, text in lines), *node["facts"]]
        node["tip"] = "\n".join(f"{key}: {text}" for key, text in lines)
        node["search"] += " " + node["tip"].lower()
    for module in side["modules"]:
        module["tint"] = shown.tints.get(module["path"], "")
        said = (frames or {}).get(module["path"], ())
        module["facts"] = [*([key, text] for key, text in said), *module["facts"]]
    return _opened({"graph": side})["graph"]


def _opened(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    open_levels = min(_open_levels(each["modules"]) for each in found.values())
    for each in found.values():
        for module, level in zip(each["modules"], _levels(each["modules"]), strict=True):
            module["open"] = level < open_levels
    return found


def _side(graph: Graph, title: str, shown: View) -> dict[str, Any]:
    """Its boxes by id, its modules from outer to inner, its feedback, and what it is in words."""
    costs = _costs(graph)
    rows = {row.name: row for row in costs.rows} if costs else {}
    nest = containers(shown)
    inside = _modules(shown, nest)
    parent = {box.id: (inside[box.id] or [""])[-1] for box in shown.boxes}
    nodes = {
        box.id: _node(graph[name], name, box, rows.get(name), _label(name, parent[box.id]))
        for name, box in zip(graph.ops, shown.boxes, strict=True)
    }
    for ident, node in nodes.items():
        node["modules"] = inside[ident]
    for link in shown.links:
        nodes[link.source]["after"].append(link.target)
        nodes[link.target]["before"].append(link.source)
        nodes[link.source]["loop"] |= link.source == link.target
    names = dict(zip((box.id for box in shown.boxes), graph.ops, strict=True))
    return {
        "title": title,
        "summary": _summary(shown, costs),
        "nodes": nodes,
        "modules": [_module(container, k, graph, inside, names, rows) for k, container in enumerate(nest.values())],
        "late": [[link.source, link.target] for link in shown.links if link.late],
    }


def families(views: list[View]) -> list[Any]:
    """The families that occur in any of the views, in the order of the first."""
    return list(dict.fromkeys(family for each in views for family in each.families))


def _costs(graph: Graph) -> Cost | None:
    """What the graph costs; None where it is not sound enough to tell."""
    try:
        return cost(graph)
    except (SnnirError, ValueError, KeyError):
        return None


def _summary(shown: View, costs: Cost | None) -> str:
    if costs is None:
        return shown.title
    work = [f"{amount(n)} {unit}" for n, unit in ((costs.acs, "AC"), (costs.macs, "MAC")) if n]
    return shown.title + (f" · at most {' + '.join(work)} per step" if work else "")


def _label(name: str, path: str) -> str:
    """A name as it is written inside the module `path`; a bare number keeps the name before it."""
    inside = name.removeprefix(f"{path}.") if path else name
    return ".".join(name.split(".")[-2:]) if inside.isdigit() else inside


# -- ops -----------------------------------------------------------------------------------------------------------


def _node(op: Op, name: str, box: Box, row: Row | None, label: str) -> dict[str, Any]:
    what, size = box.lines[1:]
    shape = size.split(" · ")[0]
    facts = [["shape", shape], *_cost_facts(row)]
    facts += [["source", str(op.loc)]] if op.loc else []
    width = box_size(Box(box.id, box.family, (label, what, size), "", ()))[0]
    return {
        "name": name,
        "label": shortened(label, NAME_SIZE * BOLD, MAX_TEXT),
        "what": what,
        "whatShort": shortened(what, LINE_SIZE, MAX_TEXT),
        "shape": shape,
        "size": shortened(size, LINE_SIZE, MAX_TEXT),
        "family": box.family.label,
        "width": round(width, 1),
        "height": BOX_HEIGHT,
        "facts": facts,
        "parameters": [[key, _value(value)] for key, value in op.parameters().items() if value is not None],
        "tip": "",
        "search": f"{name} {what} {op.loc or ''}".lower(),
        "before": [],
        "after": [],
        "loop": False,
        "twins": [],
        "region": -1,
        "said": [],
    }


def _cost_facts(row: Row | None) -> list[list[str]]:
    if row is None:
        return []
    facts = [["parameters", f"{row.parameters:,}"]] if row.parameters else []
    facts += [["neurons", f"{row.neurons:,}"]] if row.neurons else []
    facts += [["synapses", f"{row.synapses:,}"]] if row.synapses else []
    work = [f"{amount(n)} {unit}" for n, unit in ((row.acs, "AC"), (row.macs, "MAC")) if n]
    facts += [["per step", f"at most {' + '.join(work)}"]] if work else []
    facts += [["per step", in_words(row.other, amount)]] if row.other else []
    memory = [f"{amount(n)}B {what}" for n, what in ((row.weight_bytes, "weights"), (row.state_bytes, "state")) if n]
    return facts + ([["memory", ", ".join(memory)]] if memory else [])


def _value(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    if value.size == 1:
        return f"{value.reshape(()).item():.6g}"
    text = f"{shape_text(value.shape)} {value.dtype}"
    if value.size and value.dtype.kind in "fiu" and np.isfinite(value).all():
        low, high = value.min(), value.max()
        text += f", all {low:.4g}" if low == high else f", {low:.4g} … {high:.4g}"
    return text


# -- modules -------------------------------------------------------------------------------------------------------


def _modules(shown: View, nest: dict[str, Container]) -> dict[str, list[str]]:
    """Box id -> the modules around it that the picture has, outermost first."""
    return {box.id: [path for path in box.groups if path in nest] for box in shown.boxes}


def _levels(modules: list[dict[str, Any]]) -> list[int]:
    """How many modules lie around each; outer ones come first in the list."""
    levels: dict[str, int] = {}
    for module in modules:
        levels[module["path"]] = levels[module["parent"]] + 1 if module["path"] else 0
    return list(levels.values())


def _open_levels(modules: list[dict[str, Any]]) -> int:
    """How many levels to open, from outside, as long as few boxes show; the picture itself always."""
    levels = _levels(modules)
    visible = 1
    for level in range(max(levels) + 1):
        shown = visible
        for module, here in zip(modules, levels, strict=True):
            if here == level:
                visible += sum(item[0] in "bm" for row in module["rows"] for item in row) - 1
        if shown >= FEWEST and visible > VISIBLE:
            return level
    return max(levels) + 1


def _module(
    container: Container,
    number: int,
    graph: Graph,
    inside: dict[str, list[str]],
    names: dict[str, str],
    rows: dict[str, Row],
) -> dict[str, Any]:
    path = container.path
    members = [ident for ident, paths in inside.items() if not path or path in paths]
    kinds = Counter(graph[names[ident]].kind for ident in members)
    summary = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in kinds.most_common(3))
    parameters = sum(rows[names[i]].parameters for i in members if names[i] in rows)
    size = f"{len(members)} op{'s' if len(members) != 1 else ''}" + (
        f" · {amount(parameters)} par." if parameters else ""
    )
    label = shortened(_label(path, container.parent), NAME_SIZE * BOLD, MAX_TEXT)
    lines = ((label, NAME_SIZE * BOLD + 3), (summary, LINE_SIZE), (size, LINE_SIZE))
    work = [
        f"{amount(n)} {unit}"
        for unit, n in (
            ("AC", sum(rows[names[i]].acs for i in members if names[i] in rows)),
            ("MAC", sum(rows[names[i]].macs for i in members if names[i] in rows)),
        )
        if n
    ]
    return {
        "path": path,
        "tint": "",
        "number": number,
        "parent": container.parent,
        "label": label,
        "summary": shortened(summary, LINE_SIZE, MAX_TEXT),
        "size": size,
        "ops": len(members),
        "members": members,
        "facts": [["ops", size], *([["per step", f"at most {' + '.join(work)}"]] if work else [])],
        "width": round(max(min(text_width(*line), MAX_TEXT) for line in lines) + 44, 1),
        "height": BOX_HEIGHT + 4,
        "titleWidth": round(text_width(label, 11) + 30 if path else 0, 1),
        "open": True,
        "rows": [list(row) for row in container.rows],
        "ways": [
            {"source": w.source, "items": list(w.items), "port": w.port, "targets": list(w.targets)}
            for w in container.ways
        ],
    }
