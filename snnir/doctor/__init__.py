"""Every fault of a NIR file at once, also behind the one at which a loader stops; repairs where there is one answer.

    diagnose(path) -> list[Finding]           examine(path) -> Diagnosis, with what each population says of dt
    repair(path, "new.nir") -> Repair         a new file; the old one is never touched

Needs h5py alone: neither nir nor torch. docs/doctor.md lists the rules, the JSON form and the repairs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snnir.doctor.finding import Diagnosis, Finding, Population
from snnir.doctor.rules import RULES, Rule

if TYPE_CHECKING:
    import os

    from snnir.doctor.repairing import Repair

__all__ = ["RULES", "Diagnosis", "Finding", "Population", "Rule", "diagnose", "examine", "repair"]


def diagnose(source: str | os.PathLike[str] | bytes) -> list[Finding]:
    """All that is wrong, risky or worth knowing in a NIR file: faults first, then risks, then notes.

    A file without a fault is one that `snnir.nir_io.read` takes. Never raises because of the file's content.

    Args:
        source: path of the file, or its content.
    """
    return list(examine(source).findings)


def examine(source: str | os.PathLike[str] | bytes) -> Diagnosis:
    """As `diagnose`, with what each population says of the time step."""
    from snnir.doctor.examining import examination

    return examination(source if isinstance(source, bytes) else Path(source)).diagnosis


def repair(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> Repair:
    """Writes a repaired copy of a NIR file: all that has one answer only is set right, the rest stays as it is.

    Args:
        source: the file; it is not touched.
        output: the new file; it must not exist.

    Raises:
        CompileError: `output` exists or cannot be written, or `source` cannot be read at all.
    """
    from snnir.doctor.repairing import repair_file

    return repair_file(Path(source), Path(output))
