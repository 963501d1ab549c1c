"""A view as a Mermaid flowchart: text that GitHub, GitLab and many editors draw inside Markdown."""

from __future__ import annotations

from snnir.draw.style import FAMILIES
from snnir.draw.view import Box, Link, View, nested


def mermaid_text(view: View) -> str:
    """The view as a Mermaid flowchart."""
    number = {family: i for i, family in enumerate(dict.fromkeys((*FAMILIES, *view.families)))}
    # A YAML string in double quotes is spelt as in JSON, so a title may hold anything.
    lines = ["---", f"title: {_yaml(view.title)}", "---", "flowchart TD"]
    lines += _groups(view.boxes, 1)
    lines += [f"  {_link(link)}" for link in view.links]
    for found in view.families:
        members = ",".join(f"n_{box.id}" for box in view.boxes if box.family == found)
        dash = ",stroke-dasharray:4 3" if found.shape == "plain" else ""
        lines.append(f"  classDef f{number[found]} fill:{found.fill},stroke:{found.line},color:#1A1A1A{dash}")
        lines.append(f"  class {members} f{number[found]}")
    late = [i for i, link in enumerate(view.links) if link.late]
    if late:
        lines.append(f"  linkStyle {','.join(map(str, late))} stroke:#C24A00,stroke-dasharray:5 3")
    return "\n".join(lines) + "\n"


def _groups(boxes: tuple[Box, ...], depth: int) -> list[str]:
    pad = "  " * depth
    lines: list[str] = []
    for group, members in nested(boxes, depth - 1):
        if group:
            ident = "g_" + "".join(c if c.isalnum() else f"_{ord(c):x}" for c in group)
            lines += [f"{pad}subgraph {ident}[{_text(_plain(group))}]", *_groups(members, depth + 1), f"{pad}end"]
            continue
        for box in members:
            before, after = box.family.mermaid
            lines.append(f"{pad}n_{box.id}{before}{_text('<br/>'.join(_plain(line) for line in box.lines))}{after}")
    return lines


def _link(link: Link) -> str:
    says = " ".join(part for part in ("z⁻¹" if link.late else "", link.port) if part)
    arrow = "-.->" if link.late else "-->"
    return f"n_{link.source} {arrow}{f'|{_text(_plain(says))}|' if says else ''} n_{link.target}"


def _plain(text: str) -> str:
    """`text` without anything that Mermaid or HTML would read as markup."""
    return "".join(c if c.isalnum() or c in " ._-,:/()+=×·→τ⁻¹" else f"#{ord(c)};" for c in text)


def _text(text: str) -> str:
    return f'"{text}"'


def _yaml(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
