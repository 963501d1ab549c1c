"""What is said of an importer: its verdict, the faults by name, the nodes that it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

ImportWord = Literal["same", "same on this input", "wrong", "crashes on import", "crashes in the run"]


@dataclass(frozen=True)
class Fault:
    """One thing that an importer got wrong.

    Attributes:
        kind: its name, e.g. 'r-ignored', 'edge-late', 'node-lost', 'wrong-output', 'reset-ignored', 'dt-implied'.
        where: the ops concerned.
        what: the fault in words, with the file's numbers.
        evidence: the observation that shows it.
        places: places (step, sample, element) of the output that differ if this is the only fault; None if the output
            then has another shape, or no such network can be run.
    """

    kind: str
    where: tuple[str, ...]
    what: str
    evidence: str = ""
    places: int | None = None


@dataclass(frozen=True)
class Refusal:
    """A node that the importer does not take, and its own words."""

    where: str
    kind: str
    error: str


@dataclass(frozen=True)
class ImporterVerdict:
    """What a framework's own importer makes of a NIR file.

    Attributes:
        importer: name of the framework; call: the function that was called, with what was given to it.
        versions: of the packages that took part.
        verdict: 'same' (no fault, no difference), 'same on this input' (faults that this input does not show),
            'wrong', or where it crashed; ok: whether the network is the file's.
        error: of a crash, type and message; refused: every node that it does not take by itself.
        places: places (step, sample, element) of the output that were compared; differing: those that differ.
        returned: places of the importer's own output; explained: those that the model made of `faults` gives too. None
            where there is nothing to explain, or some node's answer is not understood.
        faults: by name, those of structure first.
        notes: what else one has to know.
        steps, batch: of the input; seed: of a made-up one, None for a recorded one.
    """

    importer: str
    call: str
    versions: Mapping[str, str]
    verdict: ImportWord
    ok: bool
    error: str = ""
    refused: tuple[Refusal, ...] = ()
    places: int = 0
    differing: int = 0
    returned: int = 0
    explained: int | None = None
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    steps: int = 0
    batch: int = 0
    seed: int | None = None
    shape: tuple[tuple[int, ...], tuple[int, ...]] | None = field(default=None)

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON data."""
        return asdict(self)
