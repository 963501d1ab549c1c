"""`snnir visualize`: a picture of a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import (
    check_chips,
    debug_option,
    dt_option,
    load_source,
    passes_option,
    places_of,
    source_argument,
    source_option,
    write_file,
)

if TYPE_CHECKING:
    from snnir.draw.comparison import Comparison
    from snnir.graph import Graph

SUFFIXES = {
    ".svg": "svg",
    ".html": "html",
    ".htm": "html",
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
}


@click.command("visualize", short_help="Draw SRC as SVG, HTML, DOT or Mermaid.")
@source_argument
@click.option("-o", "--output", metavar="FILE", help="Where to; the suffix says the form: .svg, .html, .dot or .mmd.")
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["svg", "html", "dot", "mermaid"]),
    help="The form, whatever the suffix.",
)
@click.option(
    "--against",
    metavar="fused|PIPELINE|SRC2",
    help="Side by side with what passes make of it, or with another source; 'fused': the standard fusions, for a "
    "diffusion model between two denoising calls. As .svg or .html.",
)
@click.option("--target", help="With --host: a chip; draws what of SRC runs on it, and what on the host, in colours.")
@click.option("--chips", metavar="auto|N", help="With --target: draws on which of several chips what of SRC runs.")
@click.option("--host", type=click.Choice(["torch", "onnx"]), help="With --target: what runs the rest.")
@click.option("--place", multiple=True, metavar="OP=chip|host", help="With --target: where ops have to run.")
@passes_option("Passes to run first.")
@click.option("--title", help="Stands above the picture; default a summary.")
@click.option(
    "--layout",
    type=click.Choice(["auto", "own", "dot"]),
    default="auto",
    show_default=True,
    help="Who places the boxes of an SVG: Graphviz's dot, snnir itself, or dot where it is installed.",
)
@source_option
@dt_option
@debug_option
def visualize_command(
    source: str,
    output: str | None,
    form: str | None,
    against: str | None,
    target: str | None,
    chips: str | None,
    host: str | None,
    place: tuple[str, ...],
    passes: str | None,
    title: str | None,
    layout: str,
    source_options: dict[str, Any],
    dt: float | None,
) -> int:
    """Draw SRC as SVG, HTML, DOT or Mermaid. Without -o the DOT text (or -f) goes to stdout.

    The HTML is one file that opens offline: modules open and close, a click shows all about an op and lights its twins
    on the other side.

    \b
    Examples:
      snnir visualize model.py -o net.html
      snnir visualize model.py --against fused -o fused.svg
      snnir visualize model.py --target lava --host onnx -o placement.html
    """
    from snnir.draw import to_dot, to_html, to_mermaid, to_svg

    form = form or _form(output)
    if against is not None and form not in ("svg", "html"):
        raise click.BadParameter("two graphs side by side are drawn as svg or html (-o or -f)", param_hint="--against")
    check_chips(chips)
    if (target is None) != (host is None and chips is None):
        raise click.UsageError("a placement needs --target (a chip), and --host or --chips")
    if target is not None and against is not None:
        raise click.BadParameter("a placement is drawn alone, without --against", param_hint="--target")
    places = places_of(place, host)
    graph = load_source(source, dt, source_options, passes)
    if target is not None:
        from snnir.placement import partition
        from snnir.placement.chips import spread
        from snnir.placement.picture import page, picture

        if host is None:
            placement: Any = spread(graph, target, chips or "auto")
        else:
            placement = partition(graph, target, host, place=places, chips=chips or 1)
        shown_text = page(placement, title) if form == "html" else picture(placement, form, title, layout)  # type: ignore[arg-type]
        _write(shown_text, output)
        return 0
    shown = graph if against is None else _compared(graph, source, against, dt, source_options)
    if form == "svg":
        text = to_svg(shown, title, layout)  # type: ignore[arg-type]
    elif form == "html":
        text = to_html(shown, title)
    else:
        text = (to_dot if form == "dot" else to_mermaid)(graph, title)
    _write(text, output)
    return 0


def _write(text: str, output: str | None) -> None:
    if output is None or output == "-":
        click.echo(text, nl=False)
    else:
        write_file(output, text.encode())
        click.echo(f"written to {output}", err=True)


def _form(output: str | None) -> str:
    if output is None or output == "-":
        return "dot"
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES:
        raise click.BadParameter(f"{output}: the suffix is none of {', '.join(SUFFIXES)}; or give -f", param_hint="-o")
    return SUFFIXES[suffix]


def _compared(graph: Graph, source: str, against: str, dt: float | None, options: dict[str, Any]) -> Comparison:
    from dataclasses import replace

    from snnir.draw import compare
    from snnir.errors import UsageError

    file, colon, _ = against.rpartition(":")
    if against != "fused" and (Path(against).exists() or (colon and Path(file).exists())):
        model = Path(file if colon else against).suffix == ".py"
        other = load_source(against, dt, options if model else {})
        return replace(compare(graph, other), titles=(source, against))
    try:
        return compare(graph, against)
    except UsageError as error:
        raise click.BadParameter(f"{against}: no such file, and no pipeline: {error}", param_hint="--against") from None
