"""How results look: JSON, tables, violations, amounts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from snnir.errors import Violation

FILE_WIDTH = 120  # of tables that go into a file or a pipe
NARROW = 100  # below it, violations are a list instead of a table


def console(stderr: bool = False) -> Console:
    """A console on stdout or stderr; it colours only terminals, and none where NO_COLOR is set."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else FILE_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False, emoji=False, markup=False)


def print_json(schema: str, data: Mapping[str, Any]) -> None:
    """One JSON document on stdout; `schema` names its form and version."""
    click.echo(json.dumps({"schema": f"snnir.{schema}.v1", **_plain(data)}, indent=1, ensure_ascii=False))


def as_json(schema: str, data: Mapping[str, Any]) -> bytes:
    """The bytes of the document that `print_json` prints."""
    text = json.dumps({"schema": f"snnir.{schema}.v1", **_plain(data)}, indent=1, ensure_ascii=False)
    return (text + "\n").encode()


def _plain(value: Any) -> Any:
    """`value` with NumPy numbers and arrays as JSON data; numbers that JSON lacks become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table; the columns named in `right` hold numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    numbers = set(right)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def cells(*values: Any) -> list[Text]:
    """Values as cells, none of them read as markup."""
    return [value if isinstance(value, Text) else Text(str(value)) for value in values]


def print_violations(title: str, found: Sequence[tuple[str, Violation]]) -> None:
    """Violations, each with the target it belongs to (or ''), on stderr."""
    out = console(stderr=True)
    if title != "error":
        out.print(Text(f"error: {title}", style="bold red"))
    if out.width < NARROW or len(found) == 1:
        for target, violation in found:
            head = Text("error: " if title == "error" else "", style="bold red")
            out.print(head.append((f"{target}: " if target else "") + str(violation), style="not bold default"))
        return
    with_target = any(target for target, _ in found)
    listing = table(*(("target",) if with_target else ()), "rule", "op", "found", "limit", "what to do")
    listing.show_lines = False
    for target, v in found:
        where = Text(v.where or "whole graph")
        if v.loc:
            where.append(f"\n{short_loc(v.loc)}", style="dim")
        row = cells(Text(v.rule, style="red"), where, v.what, v.expected, v.hint)
        listing.add_row(*([Text(target)] if with_target else []), *row)
    out.print(listing)


def short_loc(loc: str) -> str:
    """A source location, relative to the current folder where that is shorter."""
    here = os.getcwd() + os.sep
    return loc.removeprefix(here)


def count(n: float) -> str:
    """A whole number with separators; others with three significant digits."""
    if n == int(n):
        return f"{int(n):,}"
    return f"{n:,.0f}" if abs(n) >= 1000 else f"{n:.3g}"


def size(n: int) -> str:
    """A number of bytes."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= factor:
            return f"{n / factor:.1f} {unit}"
    return f"{n} B"


def figures(report: Mapping[str, Any], known: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The figures of a report as (name, value) lines; nested ones with a path, long lists by their length."""
    lines: list[tuple[str, str]] = []
    for key, value in _plain(report).items():
        if key in set(known):
            continue
        if isinstance(value, Mapping):
            lines += [(f"{key}.{name}", text) for name, text in figures(value)]
        elif isinstance(value, list) and (len(value) > 8 or any(isinstance(v, (list, dict)) for v in value)):
            lines.append((key, f"{len(value)} entries"))
        elif isinstance(value, list):
            lines.append((key, ", ".join(map(_figure, value)) or "none"))
        else:
            lines.append((key, _figure(value)))
    return lines


def _figure(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
