"""Checks of names: what flattening, HDF5 and PyTorch make of them."""

from __future__ import annotations

import re

from snnir.doctor.finding import Chart
from snnir.doctor.sheet import Sheet


def check_names(sheet: Sheet, chart: Chart) -> None:
    """Names that change or collide on the way through other tools. ('/' is noted while reading.)"""
    seen: dict[str, str] = {}
    for level in sheet.root.levels():
        for name in level.nodes:
            path = level.prefix() + name
            plain = path.replace(".", "_")
            if plain in seen:
                other = seen[plain]
                same = "both are" if other == path else f"beside {other!r}: both become"
                chart.add("name-clash", path, f"{same} {path if other == path else plain!r}")
            else:
                seen[plain] = path
            odd = [word for pattern, word in _ODD if re.search(pattern, name)]
            if odd or not name:
                chart.add("name-odd", path, f"its name {name!r} holds {' and '.join(odd) or 'nothing'}")


_ODD = ((r"\.", "dots"), (r"\s", "blanks"), (r"[\x00-\x1f\x7f]", "control characters"), (r"%", "percent signs"))
