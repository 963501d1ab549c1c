"""Files of trained weights: what network they say that they are of, and whether they are this one's."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from snnir.errors import Violation

KEY = "snnir.network"
_OF_USE = ("diffusion", "instead")  # what a graph's metadata says of its use, not of its arrays
_MEANS = ("prediction",)  # what tells networks apart whose arrays have the same shapes
_SHOWN = 3


def note(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What goes into a file's own metadata: the options that the model of a graph with this metadata was built with."""
    return {KEY: json.dumps(_options(metadata), sort_keys=True)}


def misfits(
    where: str,
    given: Mapping[str, Sequence[int]],
    wanted: Mapping[str, Sequence[int]],
    optional: Collection[str] = (),
    said: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> list[Violation]:
    """Why arrays are not those of a network; every reason, and first what they are of, where the file says it.

    Args:
        where: the file. given: its arrays' shapes. wanted: those of the network. optional: what it need not hold.
        said: the file's metadata. metadata: the network's.
    """
    found = []
    unknown, missing = sorted(given.keys() - wanted.keys()), sorted(wanted.keys() - given.keys() - set(optional))
    if unknown:
        found.append(Violation("weights-key", f"holds what this network has not: {_some(unknown)}", where))
    if missing:
        found.append(Violation("weights-missing", f"has nothing for {_some(missing)}", where))
    both = sorted(given.keys() & wanted.keys())
    other = [key for key in both if tuple(given[key]) != tuple(wanted[key])]
    if len(other) > _SHOWN:
        what = f"shapes are others: {_some([f'{key} {list(given[key])}' for key in other])}"
        expected = f"{other[0]} {list(wanted[other[0]])}, ..."
        found.append(Violation("weights-shape", what, where, expected=expected))
    else:
        for key in other:
            shape = Violation("weights-shape", f"{key} {list(given[key])}", where, expected=str(list(wanted[key])))
            found.append(shape)
    apart = [entry for entry in _apart(said or {}, metadata or {}) if found or entry[0] in _MEANS]
    if apart:
        what = "is of another network: " + ", ".join(f"{name} is {a} there and {b} here" for name, a, b in apart)
        hint = "build the network as it was trained: " + " ".join(_option(name, a) for name, a, _ in apart)
        found.insert(0, Violation("other-network", what, where, hint=hint))
    elif found:
        hint = "weights fit the network that they were trained for: the same preset, variant and options"
        found[-1] = Violation(**{**vars(found[-1]), "hint": hint})
    return found


def _options(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Names with values that JSON has, of all parts of the metadata that hold any."""
    parts = (part for key, part in metadata.items() if key not in _OF_USE and isinstance(part, Mapping))
    plain = (str, int, float, list, tuple, type(None))
    return {name: value for part in parts for name, value in part.items() if isinstance(value, plain)}


def _apart(said: Mapping[str, str], metadata: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Options that differ: name, value in the file, value here."""
    try:
        there = json.loads(said.get(KEY, "{}"))
    except ValueError:
        return []
    here = json.loads(json.dumps(_options(metadata)))
    if not isinstance(there, dict) or not here:
        return []
    both = sorted(there.keys() & here.keys(), key=lambda name: (name != "variant", name))
    return [(name, there[name], here[name]) for name in both if there[name] != here[name]]


def _option(name: str, value: Any) -> str:
    """As the command line has it."""
    if name == "variant":
        return f"--variant {value}"
    spelt = json.dumps(value).replace('"', "").replace(" ", "")
    return f"-S '{name}={spelt}'" if isinstance(value, list) else f"-S {name}={spelt}"


def _some(keys: Sequence[str]) -> str:
    more = len(keys) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
