"""The log of a training run: one line of CSV per report, and a plot of it."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, fields
from pathlib import Path

from snnir.diffusion.checkpoint import replace_file, unwritable
from snnir.diffusion.train import Progress

NAME = "log.csv"
PLOTTED = {
    "image_loss": "image (v or noise)",
    "consistency_loss": "synaptic current learning",
    "variance_loss": "variance (bits a value)",
}
COLUMNS = tuple(field.name for field in fields(Progress))


class Log:
    """Appends to `folder`/log.csv. A run that is resumed drops what came after its checkpoint."""

    def __init__(self, folder: Path, seen: int = 0) -> None:
        self.path = folder / NAME
        kept = [row for row in self.rows() if int(row["step"]) <= seen] if self.path.exists() else []
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)
        replace_file(self.path, text.getvalue().encode())

    def rows(self) -> list[dict[str, str]]:
        """The lines so far; one that a kill cut off is left out, and all of a file that is no such log."""
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                return []
            return [row for row in reader if row.keys() == set(COLUMNS) and _whole(row)]

    def add(self, progress: Progress) -> None:
        """One more line.

        Raises:
            CompileError: it cannot be written.
        """
        try:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(astuple(progress))
        except OSError as error:
            raise unwritable(self.path, error) from error


def _whole(row: dict[str, str]) -> bool:
    try:
        return int(row["step"]) > 0 and len([float(value) for value in row.values()]) == len(COLUMNS)
    except (TypeError, ValueError):  # a field that is not there is None
        return False


def plot(log: Path, picture: Path) -> bool:
    """Draws the losses over the images seen; False where matplotlib is not installed."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    images = [int(row["images"]) for row in rows]
    for column, label in PLOTTED.items():
        values = [float(row.get(column) or 0) for row in rows]
        if any(values):
            axes.plot(images, values, label=label)
    axes.set(xlabel="images seen", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    with rc_context({"svg.hashsalt": "snnir"}):  # the same log, the same bytes
        figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)
    return True
