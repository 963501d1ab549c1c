"""What the user says about where ops run: names and patterns, the narrower before the wider; every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.ops import Input, Output, Repeat, TemporalMean

SIDES = ("chip", "host")
_FIXED = (Input, Output, Repeat, TemporalMean)
_SHOWN = 6


def forced(graph: Graph, place: Mapping[str, str]) -> dict[str, str]:
    """Op name -> 'chip' or 'host', of entries that name an op or, by *, ? and [...], several.

    An entry that names fewer ops, all of them named by another, counts before it. A pattern that sends several ops to
    the chip leaves out what never runs there (inputs, outputs, Repeat, TemporalMean).

    Raises:
        CompileError: entries that name no op, or another side; ops that two entries send to different sides.
    """
    faults: list[Violation] = []
    named: dict[str, frozenset[str]] = {}
    for entry, side in place.items():
        if side not in SIDES:
            what = f"is to be placed on {side!r}"
            faults.append(Violation("placement-place", what, entry, expected="'chip' or 'host'"))
            continue
        found = [n for n in graph.ops if n == entry] or [n for n in graph.ops if fnmatchcase(n, entry)]
        if not found:
            faults.append(_nobody(graph, entry))
        several = len(found) > 1 and side == "chip"
        named[entry] = frozenset(n for n in found if not (several and isinstance(graph[n], _FIXED)))
        if found and not named[entry]:
            what = f"names only {', '.join(found[:_SHOWN])}, which never run on a chip"
            faults.append(Violation("placement-place", what, entry, expected="ops that compute"))
    for entry, names in named.items():
        for other in list(named)[: list(named).index(entry)]:
            both = names & named[other]
            if not both or place[entry] == place[other] or names < named[other] or named[other] < names:
                continue
            shown = [n for n in graph.ops if n in both]
            more = ", ..." if len(shown) > _SHOWN else ""
            faults.append(
                Violation(
                    "placement-place",
                    f"sends {', '.join(shown[:_SHOWN])}{more} to the {place[entry]}, and {other} to the {place[other]}",
                    entry,
                    expected="one side for every op; an entry within another counts before it",
                    hint="narrow one of them, or name the ops that both name themselves",
                )
            )
    if faults:
        raise CompileError(faults, title="what is said about where ops run does not fit the network")
    narrow_last = sorted(named, key=lambda entry: -len(named[entry]))
    return {name: place[entry] for entry in narrow_last for name in graph.ops if name in named[entry]}


def _nobody(graph: Graph, entry: str) -> Violation:
    close = get_close_matches(entry, list(graph.ops), 3, 0.5)
    there = list(graph.ops)
    said = ", ".join(there[:_SHOWN]) + (", ..." if len(there) > _SHOWN else "")
    hint = f"did you mean {' or '.join(close)}?" if close else ""
    return Violation("placement-place", "names no op", entry, expected=f"an op or a pattern: {said}", hint=hint)
