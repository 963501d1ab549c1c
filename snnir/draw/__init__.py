"""Pictures of graphs: one neutral view, drawn as DOT, Mermaid, SVG, or as a page that opens and lights up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from snnir.draw.comparison import Comparison
    from snnir.draw.placed import Placed
    from snnir.draw.view import View
    from snnir.graph import Graph

__all__ = ["compare", "to_dot", "to_html", "to_mermaid", "to_svg"]

Layout = Literal["auto", "own", "dot"]


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


def to_svg(shown: Graph | Comparison, title: str | None = None, layout: Layout = "auto") -> str:
    """A graph, or two side by side, as a self-contained SVG picture.

    Side by side, large graphs are drawn with their inner modules as one box each.

    Args:
        shown: any graph (one whose shapes do not fit is drawn with the shapes that are known), or what `compare` gave.
        title: stands above the picture; default a summary of the graph, or the titles of the sides.
        layout: who places the boxes: 'dot' Graphviz, 'own' a layered layout in pure Python, 'auto' the first where
            its program `dot` is on the PATH, else the second.

    Raises:
        UsageError: layout 'dot', and the program is not on the PATH, or fails.
    """
    from snnir.draw.beside import beside_text
    from snnir.draw.comparison import Comparison
    from snnir.draw.folded import folded
    from snnir.draw.svg import svg_text
    from snnir.draw.view import view

    if isinstance(shown, Comparison):
        before, after = shown.changed
        views = (folded(view(shown.before), before), folded(view(shown.after), after))
        places = (_placed(views[0], layout), _placed(views[1], layout))
        return beside_text(shown, views, places, title or " → ".join(shown.titles))
    single = view(shown, title)
    return svg_text(single, _placed(single, layout))


def _placed(view: View, layout: Layout) -> Placed:
    from snnir.draw.graphviz import place_by_dot
    from snnir.draw.layered import place

    placed = None if layout == "own" else place_by_dot(view, required=layout == "dot")
    return placed or place(view)


def to_html(shown: Graph | Comparison, title: str | None = None) -> str:
    """A graph, or two side by side, as one HTML file that opens offline: pan, zoom, search, modules that open.

    A click on an op, or Space, shows its shape, parameters, source line, cost and what the passes said of it, and
    lights its twins on the other side.

    Args:
        shown: any graph, or what `compare` gave.
        title: of the page; default a summary of the graph, or the titles of the sides.
    """
    from snnir.draw.comparison import Comparison
    from snnir.draw.page import comparison_text, page_text

    return comparison_text(shown, title) if isinstance(shown, Comparison) else page_text(shown, title)


def compare(graph: Graph, against: Graph | str) -> Comparison:
    """A graph beside what became of it, for `to_svg` and `to_html`.

    Args:
        graph: the left side.
        against: another graph, a pipeline of passes, or 'fused': the standard fusions, and for a diffusion model its
            sampler of two calls before and after fuse-decoder.

    Raises:
        UsageError: `against` is no pipeline.
        CompileError: a pass says no.
    """
    from snnir.draw.comparison import compare_passes, compare_sources
    from snnir.draw.fused import compare_fused
    from snnir.pipeline import parse_pipeline

    if not isinstance(against, str):
        return compare_sources(graph, against)
    return compare_fused(graph) if against == "fused" else compare_passes(graph, parse_pipeline(against))
