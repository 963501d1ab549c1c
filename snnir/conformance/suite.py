"""The cases as they lie in the package: what the manifest says, and the arrays when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from snnir.errors import UsageError, fail, there_are
from snnir.ops import Array
from snnir.semantics import NIR_SEMANTICS, Semantics

FOLDER = Path(__file__).parent / "cases"
GROUPS = ("core", "variants")


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: of the case and of its files; group: 'core' (NIR's equations in a forward Euler step) or 'variants' (a
            step rule that `semantics` states).
        probes: the one thing that it is about, in words.
        semantics: what a step means, dt (seconds) included.
        steps, batch: T and B of all arrays. inputs, outputs: node name -> shape without T and B.
        populations: spiking nodes whose spikes are recorded too.
        tolerance: of real values, relative to the largest of them or 1.
        mistakes: in words; what whoever makes them gives is recorded.
    """

    name: str
    group: str
    probes: str
    semantics: Semantics
    steps: int
    batch: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    populations: tuple[str, ...]
    tolerance: float
    mistakes: tuple[str, ...]
    folder: Path = field(default=FOLDER, repr=False)

    @property
    def path(self) -> Path:
        """The NIR file."""
        return self.folder / f"{self.name}.nir"

    @property
    def dt(self) -> float:
        """The time step in seconds."""
        if self.semantics.dt is None:
            raise TypeError(f"{self.name} has no time step")
        return self.semantics.dt

    @property
    def deviations(self) -> dict[str, Any]:
        """The fields of the semantics in which a step is not NIR's forward Euler; empty in the group 'core'."""
        found = self.semantics.differences(NIR_SEMANTICS)
        return {name: here for name, (here, _) in found.items() if name != "dt"}

    def input_values(self) -> dict[str, Array]:
        """What goes in: node name -> (T, B, *shape), float32."""
        return {name: value.astype(np.float32) for name, value in self._part("input").items()}

    def expected(self) -> dict[str, Array]:
        """What comes out: output name -> (T, B, *shape), float64."""
        return {name: value.astype(np.float64) for name, value in self._part("expected").items()}

    def population_spikes(self) -> dict[str, Array]:
        """The spikes of hidden populations: node name -> (T, B, *shape)."""
        return {name: value.astype(np.float64) for name, value in self._part("population").items()}

    def mistaken(self) -> dict[str, dict[str, Array]]:
        """Mistake in words -> output name -> what whoever makes it gives, (T, B, *shape)."""
        return {
            words: {name: value.astype(np.float64) for name, value in self._part(f"mistake/{k}").items()}
            for k, words in enumerate(self.mistakes)
        }

    def _part(self, part: str) -> dict[str, Array]:
        start = f"{part}/"
        return {key[len(start) :]: value for key, value in self._arrays.items() if key.startswith(start)}

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        with np.load(self.folder / f"{self.name}.npz", allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def cases(patterns: Sequence[str] = (), group: str | None = None) -> tuple[Case, ...]:
    """The cases of the suite, in its order.

    Args:
        patterns: names or shell patterns ('conv*'); none of them means all.
        group: 'core' or 'variants'; None for both.

    Raises:
        UsageError: a pattern fits no case, or there is no such group.
    """
    if group is not None and group not in GROUPS:
        raise UsageError(f"no group {group!r}; there are {', '.join(GROUPS)}")
    every = _all()
    unfit = [p for p in patterns if not any(fnmatchcase(case.name, p) for case in every)]
    if unfit:
        raise UsageError(f"no case {', '.join(unfit)}{there_are(unfit, (case.name for case in every))}")
    return tuple(
        case
        for case in every
        if (not patterns or any(fnmatchcase(case.name, p) for p in patterns)) and group in (None, case.group)
    )


@cache
def _all() -> tuple[Case, ...]:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    return tuple(_case(entry) for entry in manifest["cases"])


def _case(entry: Mapping[str, Any]) -> Case:
    return Case(
        name=entry["name"],
        group=entry["group"],
        probes=entry["probes"],
        semantics=Semantics.from_json({"dt": entry["dt"], **entry["semantics"]}),
        steps=entry["steps"],
        batch=entry["batch"],
        inputs={name: tuple(shape) for name, shape in entry["inputs"].items()},
        outputs={name: tuple(shape) for name, shape in entry["outputs"].items()},
        populations=tuple(entry["populations"]),
        tolerance=entry["tolerance"],
        mistakes=tuple(entry["mistakes"]),
    )


def export(folder: Path) -> tuple[Path, ...]:
    """Copies the files of the suite into a new or empty folder; gives their paths.

    Raises:
        CompileError: the folder holds something, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise fail("output-exists", "is not empty", where=str(folder), hint="choose a new or empty folder")
        return tuple(_copied(folder))
    except OSError as error:
        raise fail("output-unwritable", f"cannot be written: {error.strerror}", where=str(folder)) from error


def _copied(folder: Path) -> Iterator[Path]:
    for source in sorted(FOLDER.iterdir()):
        if source.suffix in (".nir", ".npz", ".json"):
            (folder / source.name).write_bytes(source.read_bytes())
            yield folder / source.name
