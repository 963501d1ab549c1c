"""The main job, end to end: one network, five targets, proof that it is the same network, and its accuracy on each.

    python examples/digits/demo.py            # the shipped weights
    python examples/digits/demo.py --train    # train through the emitted Norse module first (about half a minute)

Writes the artifacts to `out/digits/<target>` and the picture of the network to `out/digits/network.svg`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import data
import model
import train
from rich.console import Console
from rich.table import Table

import snnir
from snnir.activity import measure
from snnir.compiler import save_all
from snnir.cost import cost

TARGETS = ("xylo-audio3", "norse", "snntorch", "torch", "nir")
ROOT = Path(__file__).parents[2]


def main() -> None:
    """Compiles, validates, scores, saves, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train anew instead of taking the shipped weights")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out" / "digits")
    options = parser.parse_args()
    console = Console()
    start = time.perf_counter()
    graph = train.train("norse") if options.train else snnir.load(str(model.HERE / "model.py"))
    train_images, _, images, labels = data.load()
    x = data.events(images)
    report = snnir.validate(graph, TARGETS, inputs=data.events(train_images[:64]))
    reference = data.accuracy(snnir.interpret(graph, x), labels)

    table = Table(title=f"digits, {len(labels)} test images, reference accuracy {100 * reference:.1f} %")
    for column in ("target", "verdict", "latency", "accuracy", "synaptic operations per image"):
        table.add_column(column, justify="left" if column in ("target", "verdict") else "right")
    for verdict in report.verdicts:
        result = report.results.get(verdict.target)
        if result is None:
            table.add_row(verdict.target, verdict.words, "", "", verdict.cause)
            continue
        share = data.accuracy(result.run(x), labels)
        words = verdict.words + (f" ({100 * verdict.count_error:.1f} % of counts)" if verdict.count_error else "")
        per_step = cost(graph, measure(graph, x, result.run))
        counted = (per_step.acs + per_step.macs) * data.STEPS
        table.add_row(verdict.target, words, f"{verdict.latency} steps", f"{100 * share:.1f} %", f"{counted:,.0f}")
    console.print(table)

    picture = options.output / "network.svg"
    picture.unlink(missing_ok=True)  # of the last run: a folder with files of others is not replaced
    save_all(report.results, options.output, overwrite=True)
    from snnir.draw import to_svg

    picture.write_text(to_svg(graph))
    for target in report.results:
        console.print(f"  {options.output / target}")
    console.print(f"  {picture}")
    console.print(f"{time.perf_counter() - start:.0f} s")
    if not report.ok:
        sys.exit(1)


if __name__ == "__main__":
    main()
