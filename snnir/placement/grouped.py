"""Ops of a placement under the reason that they share, and long lines broken: what its text is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap

WIDTH = 100  # columns of a placement's text, if nobody says

_READ = re.compile(r"^.*?, which is not on the chip, reads it: ")
_LABEL = re.compile(r"^ *\S+ {2,}(?=\S)")
_DEEPEST = 20  # columns by which what follows a label is put in


def shared_reason(reason: str) -> str:
    """A reason without what is different from op to op: which of its readers is elsewhere."""
    return _READ.sub("read by what is not on the chip: ", reason)


def grouped(rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Lines: every heading once, below it the names by kind.

    Args:
        rows: (heading, kind, name) of every op.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for heading, kind, name in rows:
        found.setdefault(heading, {}).setdefault(kind, []).append(name)
    for heading, kinds in found.items():
        yield f"  {heading}"
        yield from _by_kind(kinds)


def _by_kind(kinds: Mapping[str, list[str]]) -> Iterator[str]:
    width = max(map(len, kinds))
    for kind, names in kinds.items():
        yield f"    {kind:<{width}}  {', '.join(names)}"


def broken(lines: Iterable[str], width: int) -> Iterator[str]:
    """Lines of at most `width` columns: what is too long goes on under its own text, behind its label if it has one.

    Names stay in one piece, so a name that is longer stands out.
    """
    for line in lines:
        if len(line) <= width:
            yield line
            continue
        label = _LABEL.match(line)
        own = len(line) - len(line.lstrip(" "))
        hang = len(label[0]) if label is not None and len(label[0]) <= _DEEPEST else own + 4
        yield from wrap(
            line,
            max(width, 40),
            subsequent_indent=" " * hang,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
