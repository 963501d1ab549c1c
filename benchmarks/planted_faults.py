"""Faults planted one at a time in many random graphs: how many are detected, and how many get their right name.

    python benchmarks/planted_faults.py [--graphs 30] [--start 2]

Prints one line of counts, what went wrong, and a table by kind of fault. Some 15 faults per graph, 0.3 s each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.planted import Outcome, drawn, outcomes, ready, summary


def main() -> None:
    """Plants, explains, counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=30)
    parser.add_argument("--start", type=int, default=2, help="seed of the graphs")
    options = parser.parse_args()
    found: list[Outcome] = []
    begun = time.process_time()
    for k, graph in enumerate(drawn(options.graphs, options.start)):
        found += outcomes(*ready(graph, k), seed=k)
    print(summary(found))
    print(f"{time.process_time() - begun:.0f} s")
    words = ("named", "equivalent", "wrong", "unknown", "undetected", "invisible")
    print(f"{'fault':24}" + "".join(f"{w:>12}" for w in words))
    for name in sorted({o.plant.name for o in found}):
        counts = Counter(o.word for o in found if o.plant.name == name)
        print(f"{name:24}" + "".join(f"{counts[w]:12}" for w in words))


if __name__ == "__main__":
    main()
