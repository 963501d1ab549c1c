"""Names: from op names, which may hold any character, to unique Python identifiers."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Op name -> Python identifier, unique and stable: `down.0.lif` becomes `down_0_lif`.

    The same names in the same order always give the same identifiers, so that weights find their way back.
    """
    taken: set[str] = set()
    found: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"\W", "_", name, flags=re.ASCII) or "op"
        if stem[0].isdigit() or keyword.iskeyword(stem) or stem == "self":
            stem = f"_{stem}" if stem[0].isdigit() else f"{stem}_"
        ident, n = stem, 1
        while ident in taken:
            n += 1
            ident = f"{stem}_{n}"
        taken.add(ident)
        found[name] = ident
    return found


def fresh(stem: str, taken: Iterable[str]) -> str:
    """`stem`, or `stem.1`, `stem.2`, ...: the first that is not taken."""
    there = taken if isinstance(taken, (set, dict)) else set(taken)
    name, n = stem, 0
    while name in there:
        n += 1
        name = f"{stem}.{n}"
    return name
