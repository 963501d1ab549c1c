"""Graphs as one HTML file that holds everything it needs: open it, offline, in any browser.

The file carries the graph as JSON; the scripts in `web/` draw it with DOM calls only, so no name of an op can ever
become markup. Nothing is loaded, and the page's own policy forbids it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from snnir.draw.comparison import Comparison
from snnir.draw.facts import coloured_side, families, sides
from snnir.draw.offline import as_html, offline_page
from snnir.draw.placed import shortened
from snnir.draw.style import MARKS, Family, mixed
from snnir.draw.view import View, view
from snnir.graph import Graph

SCRIPTS = ("layout.js", "picture.js", "views.js", "panel.js", "page.js")
WHITE, DARK_PAPER = "#FFFFFF", "#14181B"
HINT = "Click an op, or reach it with Tab and press Space. Wheel and drag move, Ctrl + wheel zooms."
HINT_TWO = HINT + " Its twins on the other side light up; arrows left and right jump to them."


def page_text(graph: Graph, title: str | None = None) -> str:
    """The page of a single graph."""
    shown = view(graph, title)
    data = {"sides": sides({"graph": (graph, "")}), "regions": [], "said": [], "hint": HINT}
    return _page(data, title or shown.title, families([shown]))


def coloured_text(
    graph: Graph,
    shown: View,
    notes: Mapping[str, Sequence[tuple[str, str]]],
    hint: str = "",
    frames: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> str:
    """The page of a graph whose colours and frames say where its ops are; arguments as `facts.coloured_side`.

    `hint`: what the panel says of them while nothing is selected.
    """
    side = coloured_side(graph, shown, notes, frames)
    data = {"sides": {"graph": side}, "regions": [], "said": [], "hint": f"{hint} {HINT}".strip()}
    return _page(data, shown.title, families([shown]))


def comparison_text(comparison: Comparison, title: str | None = None) -> str:
    """The page of two graphs side by side."""
    graphs = {"before": comparison.before, "after": comparison.after}
    both = sides({key: (graphs[key], title) for key, title in zip(graphs, comparison.titles, strict=True)})
    ids = {key: dict(zip(graph.ops, both[key]["nodes"], strict=True)) for key, graph in graphs.items()}
    for name, twins in comparison.twins.items():
        both["before"]["nodes"][ids["before"][name]]["twins"] = [ids["after"][twin] for twin in twins]
    for name, twins in comparison.back.items():
        both["after"]["nodes"][ids["after"][name]]["twins"] = [ids["before"][twin] for twin in twins]
    for number, said in enumerate(comparison.said):
        for key in ids:
            for name in getattr(said, key):
                both[key]["nodes"][ids[key][name]]["said"].append(number)
    regions = []
    for number, region in enumerate(comparison.regions):
        members = {key: [ids[key][name] for name in getattr(region, key)] for key in ids}
        for key in ids:
            for ident in members[key]:
                both[key]["nodes"][ident]["region"] = number
        heard = {n for key in ids for ident in members[key] for n in both[key]["nodes"][ident]["said"]}
        did = [n for n in sorted(heard) if comparison.said[n].entry.kind == "did"]
        regions.append(
            {"name": region.name, "colour": comparison.marks[region.name] % len(MARKS), **members, "said": did}
        )
    data = {
        "sides": both,
        "regions": regions,
        "said": [
            {"pass": s.entry.pass_name, "kind": s.entry.kind, "where": s.entry.where, "text": s.entry.text}
            for s in comparison.said
        ],
        "hint": HINT_TWO,
    }
    shown = [view(comparison.before), view(comparison.after)]
    return _page(data, title or " → ".join(comparison.titles), families(shown))


def _page(data: dict[str, Any], title: str, kinds: list[Family]) -> str:
    data["families"] = [{"label": family.label, "shape": family.shape} for family in kinds]
    number = {family.label: k for k, family in enumerate(kinds)}
    for shown in data["sides"].values():
        for node in shown["nodes"].values():
            node["family"] = number[node["family"]]
    web = files("snnir.draw").joinpath("web")
    scripts = "\n".join(web.joinpath(name).read_text("utf-8").replace('"use strict";\n', "") for name in SCRIPTS)
    sections = "".join(_section(key, shown) for key, shown in data["sides"].items())
    body = f"""<header>
<h1>{as_html(title)}</h1>
<input id="search" type="search" placeholder="search ( / )" aria-label="search ops by name, kind or source line">
<span id="count" role="status"></span>
<span>
<button id="open-all" type="button">open all</button>
<button id="close-all" type="button">close all</button>
<button id="zoom-out" type="button" aria-label="zoom out">−</button>
<button id="zoom-in" type="button" aria-label="zoom in">+</button>
<button id="fit" type="button">fit</button>
</span>
</header>
<main id="sides">{sections}</main>
<aside>
<noscript>This picture is drawn by a script inside this file; the browser must allow it.</noscript>
{_regions(data)}<div id="details" aria-live="polite"></div>
{_legend(kinds)}</aside>
<script type="application/json" id="data">{_json(data)}</script>"""
    return offline_page(
        title, web.joinpath("page.css").read_text("utf-8") + _family_css(kinds), body, f'"use strict";\n{scripts}'
    )


def _section(key: str, shown: dict[str, Any]) -> str:
    head = f"<h2>{as_html(shown['title'])}</h2>" if shown["title"] else ""
    label = as_html(shown["title"] or "the graph")
    picture = f'<svg id="{key}-svg" role="group" aria-label="{label}"></svg>'
    return f"\n<section>{head}<p>{as_html(shown['summary'])}</p>{picture}</section>"


def _regions(data: dict[str, Any]) -> str:
    """The list of regions, folded by what was done."""
    named: dict[str, list[int]] = {}
    for number, region in enumerate(data["regions"]):
        named.setdefault(region["name"], []).append(number)
    if not named:
        return ""
    lines = ["<h3>What changed</h3>", '<nav id="regions">']
    for name, numbers in named.items():
        style = f'style="--pass: var(--pass-{data["regions"][numbers[0]]["colour"]})"'
        lines.append(f"<details{' open' * (len(numbers) < 4)}><summary {style}>{as_html(name)}")
        lines.append(f"<small>{len(numbers)} regions</small></summary>" if len(numbers) > 1 else "</summary>")
        for number in numbers:
            region = data["regions"][number]
            key = "before" if region["before"] else "after"
            ends = ", ".join(data["sides"][key]["nodes"][ident]["name"] for ident in region[key])
            amounts = f"{len(region['before'])} → {len(region['after'])}"
            lines.append(
                f'<button type="button" data-region="{number}" aria-pressed="false" {style}>'
                f"{as_html(shortened(ends, 12, 300))}<small>{amounts} ops</small></button>"
            )
        lines.append("</details>")
    return "\n".join([*lines, "</nav>"]) + "\n"


def _legend(kinds: list[Family]) -> str:
    lines = ["<h3>Legend</h3>", '<div class="legend" id="legend">']
    for k, family in enumerate(kinds):
        lines.append(f'<svg class="family-{k}" viewBox="0 0 30 18" aria-hidden="true"></svg>{as_html(family.label)}')
    return "\n".join([*lines, "</div>"]) + "\n"


def _family_css(kinds: list[Family]) -> str:
    light, dark = [], []
    for k, family in enumerate(kinds):
        light.append(f".family-{k} {{ --fill: {family.fill}; --line: {family.line}; }}")
        line = mixed(family.line, WHITE, 0.55)
        dark.append(f".family-{k} {{ --fill: {mixed(family.line, DARK_PAPER, 0.32)}; --line: {line}; }}")
    passes = " ".join(f"--pass-{k}: {colour};" for k, colour in enumerate(MARKS))
    bright = " ".join(f"--pass-{k}: {mixed(colour, WHITE, 0.7)};" for k, colour in enumerate(MARKS))
    rules = [f":root {{ {passes} }}", *light, "@media (prefers-color-scheme: dark) {", f":root {{ {bright} }}", *dark]
    return "\n".join([*rules, "}"]) + "\n"


def _json(data: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: no character of it can end the element or open a comment."""
    text = json.dumps(data, separators=(",", ":"))  # ASCII: everything else is escaped already
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
