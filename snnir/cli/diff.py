"""`snnir diff`: what differs between two networks, matched by structure where names differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import complete_file, debug_option, dt_option, format_option, progress, source_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from snnir.diff import Difference
    from snnir.graph import Graph

MOST = 20  # lines of one heading in the text; the JSON has all


@click.command("diff", short_help="Compare two networks: structure, numbers, meaning of a step.")
@click.argument("a", metavar="A", shell_complete=complete_file)
@click.argument("b", metavar="B", shell_complete=complete_file)
@dt_option
@source_option
@format_option
@debug_option
def diff_command(a: str, b: str, dt: float | None, source_options: dict[str, Any], output_format: str) -> int:
    """Compare the structure and the numbers of two networks: .nir files, artifact folders, model files.

    Ops are matched by what they are and where they stand, so renamed ops are found again. A .nir file needs no --dt
    here: where it does not say its time step, that is compared as not said.

    Exit status 0 when both compute the same (names aside), 1 when not.

    \b
    Example:
      snnir diff before.nir after.nir
    """
    from snnir.diff import compare

    with progress(f"comparing {a} with {b}"):
        found = compare(_read(a, dt, source_options), _read(b, dt, source_options))
    if output_format == "json":
        from snnir.cli.show import print_json

        print_json("diff", {"a": a, "b": b, **found.to_json()})
    else:
        _print(a, b, found)
    return 0 if found.equal else 1


def _read(source: str, dt: float | None, options: dict[str, Any]) -> Graph:
    if source.endswith(".nir"):
        graph = _sound(source)
        if dt is not None and graph.semantics.dt is None:
            from dataclasses import replace

            return replace(graph, semantics=graph.semantics.with_(dt=dt))
        return graph
    from pathlib import Path

    from snnir.cli.common import load_source

    takes = source.endswith(".py") or source.rpartition(":")[0].endswith(".py")
    if not takes and not Path(source).exists():
        raise click.BadParameter(f"no such file or folder: {source}")
    return load_source(source, dt if takes else None, options if takes else {})


def _sound(path: str) -> Graph:
    """The file's graph; a fault of the graph in it sends to the doctor."""
    from dataclasses import replace

    from snnir.errors import CompileError
    from snnir.nir_io import read

    try:
        return read(path)
    except CompileError as error:
        if any(v.rule == "nir-file" for v in error.violations):  # no such file, or none of NIR
            raise
        hint = f"`snnir doctor {path}` names every fault; with --fix -o NEW.nir it writes a file that can be compared"
        raise CompileError([replace(v, hint=v.hint or hint) for v in error.violations], error.title) from error


def _print(a: str, b: str, found: Difference) -> None:
    from rich.text import Text

    from snnir.cli.show import console

    out = console()
    style = "green" if found.equal else "bold red"
    steps = "" if not found.semantics else ", and a step means something else"
    out.print(Text(f"{found.verdict}{steps}", style=style))
    out.print(Text(f"a  {a}\nb  {b}", style="dim"), soft_wrap=True)
    _lines(out, "a step", (f"{name}: {x} in a, {y} in b" for name, (x, y) in found.semantics.items()))
    _lines(out, "only in a", (f"{name} ({kind})" for name, kind in found.only_a.items()))
    _lines(out, "only in b", (f"{name} ({kind})" for name, kind in found.only_b.items()))
    changed = (
        f"{_both(c.a, c.b)}: " + ", ".join(f"{name} {x} in a, {y} in b" for name, (x, y) in c.fields.items())
        for c in found.changed
    )
    _lines(out, "changed", changed)
    _lines(out, "edges only in a", map(str, found.edges_only_a))
    _lines(out, "edges only in b", map(str, found.edges_only_b))
    _lines(out, "a step late in a only", map(str, found.late_only_a))
    _lines(out, "a step late in b only", map(str, found.late_only_b))
    _lines(out, "renamed", (f"{x} is {y} in b" for x, y in found.renamed))
    _lines(out, "type of numbers", (f"{op}.{name}: {x} in a, {y} in b" for op, name, x, y in found.dtypes))
    _numbers(out, found)


def _both(a: str, b: str) -> str:
    return a if a == b else f"{a} (b: {b})"


def _lines(out: Console, title: str, lines: Iterable[str]) -> None:
    from rich.text import Text

    every = list(lines)
    if not every:
        return
    out.print(Text(f"\n{title}"))
    for line in every[:MOST]:
        out.print(Text(f"  {line}"))
    if len(every) > MOST:
        out.print(Text(f"  and {len(every) - MOST} more"))


def _numbers(out: Console, found: Difference) -> None:
    if not found.numbers:
        return
    from rich.text import Text

    from snnir.cli.show import cells, count, table

    columns = ("differing", "of", "largest difference", "relative")
    listing = table("parameter", *columns, right=columns)
    rows = sorted(found.numbers, key=lambda n: -n.absolute)
    for n in rows[: 2 * MOST]:
        figures = (count(n.differing), count(n.size), f"{n.absolute:.3g}", f"{n.relative:.3g}")
        listing.add_row(*cells(f"{_both(n.a, n.b)}.{n.parameter}", *figures))
    out.print(Text(""))
    out.print(listing)
    if len(rows) > 2 * MOST:
        out.print(Text(f"and {len(rows) - 2 * MOST} more"))
