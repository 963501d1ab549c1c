"""The figures of a compile report as text: lines, and tables of populations and projections."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from textwrap import wrap
from typing import Any

import click
from rich.padding import Padding
from rich.table import Table

from snnir.cli.populations import (
    is_populations,
    left_to_file,
    notes_once,
    population_remarks,
    population_tables,
    projection_table,
)
from snnir.cli.show import console, figures

_INSET = 4  # columns by which tables are put in


def print_facts(report: Mapping[str, Any], known: Collection[str]) -> None:
    """Prints a report but for its entries in `known`."""
    out = console()
    populations: Mapping[str, Mapping[str, Any]] = {}
    if is_populations(report.get("populations")):
        populations = report["populations"]
    lines = {key: _lines(key, value, populations) for key, value in report.items() if key not in known}
    margin = max((len(name) for found in lines.values() for name, _ in found), default=0) + 4
    for key, found in lines.items():
        if key == "populations" and populations:
            click.echo("  populations")
            _print(population_tables(populations, out.width - _INSET))
            remarks = population_remarks(populations)
            if left := left_to_file(populations):
                remarks.append(f"in manifest.json also: {', '.join(left)}")
            print_wrapped(remarks)
        elif key == "written_as" and report.get("projections"):
            click.echo("  written as")
            made, reasons = projection_table(report["projections"], out.width - _INSET)
            _print([made])
            print_wrapped(reasons)
        else:
            _figures(found, margin, out.width)


def _lines(key: str, value: Any, populations: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """An entry in lines; none where it is shown as a table."""
    if key == "written_as" or (key == "populations" and populations):
        return []
    if key == "lags":  # populations have theirs in their table
        value = {name: lag for name, lag in value.items() if populations.get(name, {}).get("lag") != lag}
        return figures({key: value}) if value else []
    if key == "notes" and populations:
        value = notes_once(value, populations)
    return figures({key: value})


def _figures(lines: Iterable[tuple[str, str]], margin: int, width: int) -> None:
    for name, text in lines:
        room = max(40, width - margin)
        first, *more = wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        click.echo(f"  {name:<{margin - 4}}  {first}")
        for line in more:
            click.echo(" " * margin + line)


def _print(tables: Iterable[Table]) -> None:
    out = console()
    for made in tables:
        out.print(Padding(made, (0, 0, 0, _INSET), expand=False))


def print_wrapped(lines: Iterable[str], inset: int = _INSET) -> None:
    """Prints lines, put in, and what is too long for the terminal under its own beginning; names stay whole."""
    width, more = max(40, console().width), " " * (inset + 2)
    for line in lines:
        told = wrap(
            line,
            width,
            initial_indent=" " * inset,
            subsequent_indent=more,
            break_long_words=False,
            break_on_hyphens=False,
        )
        click.echo("\n".join(told))
