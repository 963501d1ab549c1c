"""`snnir visualize`: a picture of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from snnir.cli.common import (
    debug_option,
    dt_option,
    load_source,
    passes_option,
    source_argument,
    source_option,
    write_file,
)

SUFFIXES = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".mermaid": "mermaid"}


@click.command("visualize")
@source_argument
@click.option("-o", "--output", metavar="FILE", help="Where to; the suffix says the form: .svg, .dot or .mmd.")
@click.option(
    "-f", "--format", "form", type=click.Choice(["svg", "dot", "mermaid"]), help="The form, whatever the suffix."
)
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
    passes: str | None,
    title: str | None,
    layout: str,
    source_options: dict[str, Any],
    dt: float | None,
) -> int:
    """Draw SRC as SVG, DOT or Mermaid. Without -o the DOT text (or -f) goes to stdout."""
    from snnir.draw import to_dot, to_mermaid, to_svg

    form = form or _form(output)
    graph = load_source(source, dt, source_options, passes)
    if form == "svg":
        text = to_svg(graph, title, layout)  # type: ignore[arg-type]
    else:
        text = (to_dot if form == "dot" else to_mermaid)(graph, title)
    if output is None or output == "-":
        click.echo(text, nl=False)
    else:
        write_file(output, text.encode())
        click.echo(f"written to {output}", err=True)
    return 0


def _form(output: str | None) -> str:
    if output is None or output == "-":
        return "dot"
    suffix = Path(output).suffix.lower()
    if suffix not in SUFFIXES:
        raise click.BadParameter(f"{output}: the suffix is none of {', '.join(SUFFIXES)}; or give -f", param_hint="-o")
    return SUFFIXES[suffix]
