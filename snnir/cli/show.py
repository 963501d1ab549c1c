"""How results look: JSON, tables, violations, amounts."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from snnir.errors import Violation

PLACE = 40  # characters of a source location in a table; its end tells most
FILE_WIDTH = 120  # of tables that go into a file or a pipe
FILE_HEIGHT = 25  # nothing is cut to it
TALLEST = 5  # lines of a row in a table of violations; longer texts are read more easily as a list


def console(stderr: bool = False) -> Console:
    """A console on stdout or stderr; it colours only terminals, and none where NO_COLOR is set."""
    stream = sys.stderr if stderr else sys.stdout
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdigit() and int(columns) else None if stream.isatty() else FILE_WIDTH
    # with a width alone rich takes 80 columns where FORCE_COLOR is set and TERM is dumb, as in many CI services
    height = None if width is None else FILE_HEIGHT
    return Console(file=stream, width=width, height=height, highlight=False, soft_wrap=False, emoji=False, markup=False)


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
    with_target = any(target for target, _ in found)
    rows = [_row(target if with_target else None, violation) for target, violation in found]
    widths = _widths(rows, out.width)
    if widths is None or len(found) == 1 or _height(rows, widths) > TALLEST:
        for target, violation in found:
            out.print(_listed(title, target, violation, out.width))
        return
    listing = table(*(("target",) if with_target else ()), "rule", "op", "found", "limit", "what to do")
    for column, width in zip(listing.columns, widths, strict=True):
        column.width = width
    for row in rows:
        listing.add_row(*row)
    out.print(listing)


def _row(target: str | None, v: Violation) -> list[Text]:
    where = Text(v.where or "whole graph")
    if v.loc:
        place = short_loc(v.loc).partition(" (")[0]
        where.append("\n" + (place if len(place) <= PLACE else f"…{place[1 - PLACE :]}"), style="dim")
    return [
        *([Text(target)] if target is not None else []),
        Text(v.rule, style="red"),
        where,
        *cells(v.what, v.expected, v.hint),
    ]


def _widths(rows: Sequence[Sequence[Text]], width: int) -> list[int] | None:
    """Widths of the columns: names whole up to a limit, the last three share the rest; None where it is too little."""
    natural = [max(max(map(len, row[k].plain.split("\n"))) for row in rows) for k in range(len(rows[0]))]
    *names, place = natural[:-3]
    names = [max(6, min(n, 24)) for n in names]
    texts = [max(len("what to do"), n) for n in natural[-3:]]
    rest = width - 3 * (len(natural) - 1) - 2 - sum(names)
    wanted = min(place, PLACE)
    place = max(6, min(wanted, rest - 54))
    rest -= place
    if place < min(wanted, 26) or rest < 54:
        return None
    if sum(texts) > rest:
        share = [rest * part // 10 for part in (4, 2, 4)]
        texts = [min(n, part) for n, part in zip(texts, share, strict=True)]
        spare = rest - sum(texts)
        for k in sorted(range(3), key=lambda k: -natural[-3:][k]):  # what short columns leave goes to the longest
            more = min(spare, max(0, natural[-3:][k] - texts[k]))
            texts[k], spare = texts[k] + more, spare - more
    return [*names, place, *texts]


def _height(rows: Sequence[Sequence[Text]], widths: Sequence[int]) -> int:
    """Lines of the tallest row."""
    from textwrap import wrap

    return max(
        sum(max(1, len(wrap(line, width))) for line in cell.plain.split("\n"))
        for row in rows
        for cell, width in zip(row, widths, strict=True)
    )


def _listed(title: str, target: str, violation: Violation, width: int) -> Text:
    """A violation as lines, those that are too long continued under their own beginning."""
    from textwrap import wrap

    shown = Text("error: " if title == "error" else "", style="bold red")
    lines: list[str] = []
    for line in ((f"{target}: " if target else "") + str(violation)).splitlines():
        indent = " " * 11 if line.startswith("  ") else "  "
        lines += wrap(line, max(20, width), subsequent_indent=indent, break_on_hyphens=False) or [""]
    return shown.append("\n".join(lines), style="not bold default")


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
    """The figures of a report as (name, text) lines, one per group; lists of records are left to the JSON form."""
    lines: list[tuple[str, str]] = []
    for key, value in _plain(report).items():
        if key in set(known) or _is_records(value):
            continue
        if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            lines += [(f"{key}.{name}", figure(inner)) for name, inner in value.items()]
        elif isinstance(value, list) and value and all(isinstance(v, str) and " " in v for v in value):
            lines += [(key if k == 0 else "", sentence) for k, sentence in enumerate(value)]
        else:
            lines.append((key, figure(value, of_limit=key == "used")))
    return lines


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value)


def figure(value: Any, of_limit: bool = False) -> str:
    """A figure in words; where `of_limit`, a pair is a number and its limit."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, dict):
        if len(value) > 8 and all(isinstance(v, str) for v in value.values()):  # a word for each of many ops
            return ", ".join(f"{word} ({n} ops)" for word, n in Counter(value.values()).most_common())
        if value and all(
            isinstance(v, int) and str(k).isdigit() for k, v in value.items()
        ):  # a number: how many have it
            return ", ".join(f"{n} x {k}" for k, n in value.items())
        inner = [
            f"{name} ({figure(v, of_limit)})" if isinstance(v, dict) else f"{name} {figure(v, of_limit)}"
            for name, v in value.items()
            if not _is_records(v)
        ]
        return ", ".join(inner) or "none"
    if isinstance(value, list):
        if of_limit and len(value) == 2:
            return f"{figure(value[0])} of {figure(value[1])}"
        if len(value) > 8:
            return f"{len(value)} values"
        return (" to " if len(value) == 2 and value[0] != value[1] else " ").join(
            dict.fromkeys(map(figure, value))
        ) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
