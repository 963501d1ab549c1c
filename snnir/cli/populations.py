"""What a chip's compile report says of populations and projections: a row each; what many share is said once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.table import Table

from snnir.cli.show import cells, figure, table

LONGEST = 30  # characters of a name in a table; its end tells most
_SHORTEST = 16  # what a name may be cut to, if all facts then fit one table
_FORM = 26  # columns for how a projection is written, before names are made shorter; it goes on below
_GAP = 2  # columns between those of a table
_HEADS = {
    "scale": "scale",
    "bias_mant": "bias",
    "bias_exp": "bias\n2^",
    "weights_rounded_to_zero": "rounded\nto 0",
    "weight_error": "weight\nerror",
    "lowest_membrane_in_thresholds": "lowest\nv/vth",
}
_IN_FILE = ("vth", "largest_current", "lowest_membrane", "membrane_may_be_cut_off")  # notes say what follows from them
_SHARED = ("gives", "kind", "du", "dv", "tau", "tau_mem", "tau_syn", "bias_by_driver")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")


def is_populations(value: Any) -> bool:
    """Whether it is facts by population, as `population_tables` takes them."""
    return (
        isinstance(value, dict) and bool(value) and all(isinstance(f, dict) and "neurons" in f for f in value.values())
    )


def population_tables(populations: Mapping[str, Mapping[str, Any]], width: int) -> list[Table]:
    """A row for each population; where `width` columns are too few, the rest of its facts in a further table."""
    keys = dict.fromkeys(key for facts in populations.values() for key in facts)
    shown = [key for key in keys if key not in _IN_FILE and key != "of" and not _said_in_words(key, populations)]
    columns = {_HEADS.get(key, key.replace("_", "\n")): [_cell(key, f) for f in populations.values()] for key in shown}
    one = width - sum(_GAP + _wide(column) for column in columns.items())  # left for names in a single table
    names = short_names(populations, one if _SHORTEST <= one <= LONGEST else LONGEST)
    made: list[Table] = []
    first = max(map(len, ("population", *names.values())))
    left = list(columns.items())
    while left:
        room, taken = width - first, 0
        while taken < len(left) and (not taken or room >= _GAP + _wide(left[taken])):
            room -= _GAP + _wide(left[taken])
            taken += 1
        some, left = dict(left[:taken]), left[taken:]
        made.append(_table("population", *some, right=some))
        for name, *values in zip(names.values(), *some.values(), strict=True):
            made[-1].add_row(*cells(name, *values))
    return made


def population_remarks(populations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is no number of its own for each population, once for all of which it holds."""
    found: dict[str, list[str]] = {}
    for name, facts in populations.items():
        said = [_words(key, value) for key, value in facts.items() if _said_in_words(key, populations)]
        if facts.get("of", name) != name:
            said.append(f"of {facts['of']}")
        text = ", ".join(part for part in said if part)
        found.setdefault(text, []).append(name)
    return [f"{who(names, populations)}: {text}" for text, names in found.items() if text]


def left_to_file(populations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The facts that tables leave out."""
    return [key for key in _IN_FILE if any(key in facts for facts in populations.values())]


def _said_in_words(key: str, populations: Mapping[str, Mapping[str, Any]]) -> bool:
    if key == "scale" and any("threshold" in facts for facts in populations.values()):
        return True  # the threshold is the scale, rounded
    return key in _SHARED or any(isinstance(facts.get(key), dict) for facts in populations.values())


def _cell(key: str, facts: Mapping[str, Any]) -> str:
    value = facts.get(key)
    if value is None:
        return "-"
    if key == "weight_error":
        return f"{100 * value:.2g} %" if value >= 1e-3 or not value else f"{100 * value:.2f} %"
    if key == "lowest_membrane_in_thresholds":
        return f"{value:.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float) and value >= 1000:
        return f"{value:.0f}"
    if isinstance(value, list) and len(value) == 2:
        return "..".join(dict.fromkeys(map(figure, value)))
    return figure(value)


def _words(key: str, value: Any) -> str:
    if key == "scale":
        return ""
    if key == "bias_by_driver":
        return "bias by a driver" if value else ""
    if key == "kind":
        return {"current": "current-based", "direct": "without synaptic current"}.get(value, str(value))
    if isinstance(value, dict) and {"wanted", "got", "largest_error"} <= set(value):
        return _tau(key, value)
    return f"{key} {figure(value)}" if not isinstance(value, dict) else f"{key} ({figure(value)})"


def _tau(key: str, facts: Mapping[str, Any]) -> str:
    """A time constant, and how far it is off."""
    got = facts["got"] if isinstance(facts["got"], list) else [facts["got"]]
    wanted = facts["wanted"]
    dashes = sorted(facts.get("dash", ()), key=int)
    dash = f" (dash {' to '.join(dict.fromkeys((dashes[0], dashes[-1])))})" if dashes else ""
    error = facts["largest_error"]
    off = f" (wanted {_seconds(wanted)}, off by {100 * error:.2g} % at most)" if error else ""
    return f"{key} {_seconds(got)}{dash}{off}"


def _seconds(values: Sequence[float | None]) -> str:
    said = dict.fromkeys("none" if v is None else f"{v:.4g}" for v in values)
    return " to ".join(said) + (" s" if set(said) != {"none"} else "")


# -- projections -------------------------------------------------------------------------------------------------------


def projection_table(projections: Sequence[Mapping[str, Any]], width: int) -> tuple[Table, list[str]]:
    """A row for each projection, and the reasons for its form: once for all of which it holds."""
    said = [_form(p) for p in projections]
    reasons = by_skeleton([p["why"] for p in projections if p["why"]])
    marks = {text: chr(ord("a") + k % 26) * (k // 26 + 1) for k, text in enumerate(reasons)} if len(reasons) > 1 else {}
    later = ["" if not p["delay"] else str(p["delay"]) for p in projections]
    taken = min(_FORM, max(map(len, said))) + max(map(len, ("steps", *later))) + (5 if marks else 3) * _GAP
    room = (width - taken - len("why") * bool(marks)) // 2
    names = short_names({n for p in projections for n in (p["from"], p["to"])}, max(12, min(LONGEST, room)))
    why = ("why",) if marks else ()
    made = _table("from", "to", "steps\nlater", "written as", *why, right=("steps\nlater",))
    for column in made.columns[:3]:
        column.no_wrap = True
    for p, form, steps in zip(projections, said, later, strict=True):
        letter = [marks.get(skeleton(p["why"]), "")] if marks else []
        made.add_row(*cells(names[p["from"]], names[p["to"]], steps, form, *letter))
    rest = len([p for p in projections if not p["why"]])
    head = "" if rest else "all: "
    return made, [(f"{marks[key]}: " if marks else head) + merged(texts) for key, texts in reasons.items()]


def _form(p: Mapping[str, Any]) -> str:
    if p["as"] == "matrix":
        return f"matrix {'x'.join(map(str, p['shape']))}"
    plain = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "phases": [1, 1]}
    more = [f", {n} {'x'.join(map(str, p[n])) if isinstance(p[n], list) else p[n]}" for n in plain if p[n] != plain[n]]
    return f"{p['as']} {'x'.join(map(str, p['kernels']))}{''.join(more)}"


# -- what is said of several -------------------------------------------------------------------------------------------


def notes_once(notes: Iterable[str], names: Iterable[str]) -> list[str]:
    """Notes that say the same of several populations as one: with the range of their numbers, and for which."""
    there = list(names)
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for k, note in enumerate(notes):
        name, colon, text = note.partition(": ")
        own = name in there and bool(colon)
        groups.setdefault((skeleton(text), "") if own else ("", str(k)), []).append(
            (name if own else "", text if own else note)
        )
    found = []
    for items in groups.values():
        about = [name for name, _ in items]
        text = merged([text for _, text in items])
        found.append(text if not about[0] else f"{who(about, there) if len(about) > 1 else about[0]}: {text}")
    return found


def who(names: Sequence[str], there: Iterable[str]) -> str:
    """Some of the names that there are, in words."""
    rest = [name for name in there if name not in names]
    if not rest and len(names) > 1:
        return "all"
    return f"all but {', '.join(rest)}" if rest and 2 * len(rest) < len(names) else ", ".join(names)


def skeleton(text: str) -> str:
    """A text without its numbers."""
    return _NUMBER.sub("#", text)


def by_skeleton(texts: Iterable[str]) -> dict[str, list[str]]:
    """Texts that differ in numbers alone, together."""
    found: dict[str, list[str]] = {}
    for text in texts:
        found.setdefault(skeleton(text), []).append(text)
    return found


def merged(texts: Sequence[str]) -> str:
    """Texts of one skeleton as one: ranges where their numbers differ."""
    between = _NUMBER.split(texts[0])
    slots = [sorted(set(values), key=float) for values in zip(*map(_NUMBER.findall, texts), strict=True)]
    numbers = [values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}" for values in slots]
    return "".join(part for pair in zip_longest(between, numbers, fillvalue="") for part in pair)


def short_names(names: Iterable[str], limit: int) -> dict[str, str]:
    """Names of at most `limit` characters, which end as the names do; whole if some would be the same."""
    cut = {name: name if len(name) <= limit else f"…{name[1 - limit :]}" for name in names}
    return cut if len(set(cut.values())) == len(cut) else {name: name for name in cut}


def _table(*heads: str, right: Iterable[str]) -> Table:
    made = table(*heads, right=right)
    made.padding = (0, _GAP - 1, 0, 0)
    return made


def _wide(column: tuple[str, Sequence[str]]) -> int:
    head, values = column
    return max(map(len, (*head.split("\n"), *values)))
