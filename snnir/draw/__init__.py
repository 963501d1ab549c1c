"""Pictures of graphs: one neutral view, drawn as DOT, Mermaid or SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from snnir.graph import Graph

__all__ = ["to_dot", "to_mermaid", "to_svg"]


def to_dot(graph: Graph, title: str | None = None) -> str:
    """The graph in Graphviz's DOT language; hierarchical names become clusters."""
    from snnir.draw.dot import dot_text
    from snnir.draw.view import view

    return dot_text(view(graph, title))


def to_mermaid(graph: Graph, title: str | None = None) -> str:
    """The graph as a Mermaid flowchart, which GitHub and GitLab render inside Markdown."""
    from snnir.draw.mermaid import mermaid_text
    from snnir.draw.view import view

    return mermaid_text(view(graph, title))


def to_svg(graph: Graph, title: str | None = None, layout: Literal["auto", "own", "dot"] = "auto") -> str:
    """The graph as a self-contained SVG picture.

    Args:
        graph: any graph; one whose shapes do not fit is drawn with the shapes that are known.
        title: stands above the picture; default a summary of the graph.
        layout: who places the boxes: 'dot' Graphviz, 'own' a layered layout in pure Python, 'auto' the first where
            its program `dot` is on the PATH, else the second.

    Raises:
        UsageError: layout 'dot', and the program is not on the PATH, or fails.
    """
    from snnir.draw.layered import place
    from snnir.draw.svg import svg_text
    from snnir.draw.view import view

    shown = view(graph, title)
    placed = None
    if layout != "own":
        from snnir.draw.graphviz import place_by_dot

        placed = place_by_dot(shown, required=layout == "dot")
    return svg_text(shown, placed or place(shown))
