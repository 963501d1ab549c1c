"""A view in Graphviz's DOT language. Text only: needs no Graphviz."""

from __future__ import annotations

from collections.abc import Callable

from snnir.draw.view import Box, Link, View, nested


def dot_text(view: View) -> str:
    """The view as a DOT digraph that any Graphviz program draws."""
    head = f'label={quoted(view.title)} labelloc=t fontname="Helvetica" fontsize=13'
    return digraph(view, head, _box, _link)


def digraph(view: View, head: str, box: Callable[[Box], str], link: Callable[[Link], str]) -> str:
    """The frame that all DOT texts share: boxes in clusters after their hierarchical names, then links."""
    lines = ["digraph snnir {", "  rankdir=TB nodesep=0.35 ranksep=0.42", f"  {head}"]
    lines += _clusters(view.boxes, box, 1)
    lines += [f"  {link(each)}" for each in view.links]
    return "\n".join([*lines, "}"]) + "\n"


def _clusters(boxes: tuple[Box, ...], box: Callable[[Box], str], depth: int) -> list[str]:
    pad = "  " * depth
    lines: list[str] = []
    for group, members in nested(boxes, depth - 1):
        if not group:
            lines += [pad + box(each) for each in members]
            continue
        lines.append(f"{pad}subgraph {quoted('cluster_' + group)} {{")
        look = 'style="rounded" color="#B0BEC5" fontcolor="#546E7A" fontname="Helvetica" fontsize=10 labeljust=l'
        lines.append(f"{pad}  label={quoted(group)} {look}")
        lines += [*_clusters(members, box, depth + 1), pad + "}"]
    return lines


def _box(box: Box) -> str:
    shape, style = box.family.dot
    look = f'shape={shape} style="{style}" fillcolor="{box.family.fill}" color="{box.family.line}"'
    label, tip = quoted("\n".join(box.lines)), quoted(box.details)
    return f'{box.id} [label={label} tooltip={tip} {look} fontname="Helvetica" fontsize=11]'


def _link(link: Link) -> str:
    look = ['color="#37474F"', "arrowsize=0.7"]
    if link.port:
        look.append(f'headlabel={quoted(link.port)} fontname="Helvetica" fontsize=9')
    if link.late:
        look = [
            'color="#C24A00" style=dashed label="z⁻¹" fontname="Helvetica" fontsize=10',
            *look[1:],
            "constraint=false",
        ]
    return f"{link.source} -> {link.target} [{' '.join(look)}]"


def quoted(text: str) -> str:
    """`text` as a DOT string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
