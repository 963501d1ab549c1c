"""The frameworks' own NIR importers beside snnir's targets: 25 kinds of graphs, two conventions of r, two spellings.

    python benchmarks/nir_importers.py            # measure; write nir_importers.json and docs/importers.md's tables
    python benchmarks/nir_importers.py --check    # exit 1 if docs/importers.md does not show what the .json holds

Every graph (`tests/graph_kinds.py`) is written in two conventions: r1 leaves r = w_in = 1, disc writes r = tau/dt and
w_in = tau_syn/dt, so that a step adds its input in full. Through snnir each is run with its parameters as arrays and,
where they are uniform, as scalars: four graphs per kind and target. Every run is compared with the reference, step by
step: 100 steps of random spikes, 8 samples, dt 0.1 ms (the one step that all importers can take: snnTorch's is fixed).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import snnir
from snnir.graph import Graph
from snnir.importers import IMPORTERS, ImporterVerdict, check_importer
from snnir.ops import Neuron
from snnir.registry import backend_names

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.graph_kinds import GRAPH_KINDS, STYLES, make_graph  # noqa: E402 - the tests lie beside this folder

DT = 1e-4
RESULTS = ROOT / "benchmarks" / "nir_importers.json"
DOCUMENT = ROOT / "docs" / "importers.md"
TARGETS = tuple(n for n in ("torch", *IMPORTERS) if n in backend_names())
WORDS = {
    "r-ignored": "r ignored",
    "w-in-ignored": "w_in ignored",
    "v-leak-ignored": "v_leak ignored",
    "reset-ignored": "v_reset ignored",
    "tau-ignored": "tau ignored",
    "dt-implied": "another dt",
    "decay-rule": "exponential decay",
    "gain-rule": "another input gain",
    "reset-rule": "subtracts",
    "several-spikes": "several spikes a step",
    "membrane-floor": "membrane cut off",
    "comparison": ">=",
    "node-lost": "node lost",
    "node-idle": "nodes never run",
    "edge-lost": "edge lost",
    "edge-late": "edge late",
    "edge-wrong": "wrong edge",
    "wrong-output": "wrong output",
    "output-not-summed": "output not summed",
    "start-of-cycle": "bias of the cycle missing at step 0",
    "batch-axis": "takes no batch",
    "unbounded": "values without bounds",
}
HIDES = ("decay-rule", "several-spikes", "gain-rule", "comparison")  # told once, as 'another neuron'


def scalars(graph: Graph) -> Graph:
    """The same graph, uniform neuron parameters written as one number."""

    def short(op: Neuron) -> Neuron:
        fields = {f: getattr(op, f) for f in op.arrays}
        same = {f: a.reshape(-1)[0].reshape(()) for f, a in fields.items() if a.size and not np.ptp(a)}
        return op.with_(**same)

    return replace(graph, ops={n: short(op) if isinstance(op, Neuron) else op for n, op in graph.ops.items()})


def through_snnir(kind: str, targets: Iterable[str] = TARGETS, **drive: Any) -> dict[str, list[str]]:
    """Target -> one word per graph of a kind: 'same', 'refused: why', or what snnir's verdict is."""
    found: dict[str, list[str]] = {name: [] for name in targets}
    for style in STYLES:
        graph = make_graph(0, kind, style, dt=DT)
        for spelt in (graph, scalars(graph)):
            for v in snnir.validate(spelt, tuple(found), **drive).verdicts:
                word = "same" if v.verdict in ("identical", "identical after latency") else v.verdict
                found[v.target].append(f"refused: {v.cause}" if v.verdict == "refused" else word)
    return found


def own_importer(name: str, kind: str, style: str, **drive: Any) -> dict[str, Any]:
    """What a framework's own importer makes of a graph: its verdict, the faults by name, the words of a crash."""
    found = check_importer(make_graph(0, kind, style, dt=DT), name, **drive)
    return summary(found)


def summary(found: ImporterVerdict) -> dict[str, Any]:
    """A verdict as it is kept: without what every run measures anew."""
    faults = sorted({fault.kind for fault in found.faults})
    return {"verdict": found.verdict, "faults": faults, "error": found.error[:120]}


def scalar_file() -> str:
    """What nir.read says of a file whose neuron parameters are scalars."""
    import h5py
    import nir

    from snnir.nir_io import write

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scalars.nir"
        path.write_bytes(write(make_graph(0, "affine-lif", "r1", dt=DT)))
        with h5py.File(path, "a") as file:
            for name in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
                group = file["node/nodes/n1"]
                value = group[name][0]
                del group[name]
                group[name] = value
        try:
            nir.read(str(path))
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return "read"


def measure() -> dict[str, Any]:
    """Everything; some ten minutes of one core."""
    import torch

    torch.set_num_threads(1)
    versions: dict[str, str] = {}
    rows: dict[str, Any] = {}
    for kind in GRAPH_KINDS:
        own: dict[str, dict[str, Any]] = {}
        for name, its in IMPORTERS.items():
            versions |= its.versions()
            own[name] = {style: own_importer(name, kind, style) for style in STYLES}
        rows[kind] = {"snnir": through_snnir(kind), "own": own}
        print(kind, file=sys.stderr, flush=True)
    return {"versions": versions, "dt": DT, "scalar_file": scalar_file(), "kinds": rows}


# -- tables --------------------------------------------------------------------------------------------------------


def by_chance(found: dict[str, Any]) -> bool:
    """Whether a node is lost from the middle, so that the rest depends on the order of memory addresses."""
    return "node-lost" in found["faults"] and (
        "node-idle" in found["faults"] or found["verdict"] == "crashes in the run"
    )


def cell(found: dict[str, Any]) -> str:
    """An importer's result in a few words."""
    if found["verdict"] == "same":
        return "="
    if found["verdict"] == "crashes on import":
        return "crash"
    kinds = [k for k in found["faults"] if k not in HIDES]
    if by_chance(found):
        return "**wrong** or a crash, by chance: node lost"
    said = [WORDS.get(k, k) for k in kinds] + (["another neuron"] if len(kinds) < len(found["faults"]) else [])
    if found["verdict"] == "crashes in the run" and found["faults"] != ["batch-axis"]:
        return f"crash in the run: {', '.join(said)}" if said else "crash in the run"
    if found["verdict"] == "same on this input":
        return f"= here, but {', '.join(said)}"
    return f"**wrong**: {', '.join(said)}" if found["faults"] != ["batch-axis"] else "= without a batch, else crash"


def styles(found: dict[str, dict[str, Any]]) -> str:
    """Both conventions in one cell."""
    words = {style: cell(found[style]) for style in STYLES}
    if len(set(words.values())) == 1:
        return words[STYLES[0]]
    return "<br>".join(f"{style}: {word}" for style, word in words.items())


def snnir_cell(words: list[str]) -> str:
    """'=' where all of a kind's graphs are the same."""
    kinds = dict.fromkeys("=" if w == "same" else "refused" if w.startswith("refused") else f"**{w}**" for w in words)
    return ", ".join(kinds)


def table(results: dict[str, Any]) -> str:
    """One row per kind: through snnir and, beside it, the framework's own importer."""
    rows = results["kinds"]
    targets = list(next(iter(rows.values()))["snnir"])
    heads = ["graph", *(f"snnir: {t}" for t in targets if t not in IMPORTERS)]
    for name in IMPORTERS:
        heads += [f"snnir: {name}"] * (name in targets) + [f"{name}'s own importer"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for kind, row in rows.items():
        cells = [f"`{kind}`", *(snnir_cell(row["snnir"][t]) for t in targets if t not in IMPORTERS)]
        for name in IMPORTERS:
            cells += [snnir_cell(row["snnir"][name])] if name in targets else []
            cells.append(styles(row["own"][name]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def totals(results: dict[str, Any]) -> str:
    """How many of the graphs each way is the same, refused or crashed, and silently wrong."""
    rows = results["kinds"].values()
    heads = ("way", "graphs", "the same", "refused, or a crash", "wrong or a crash, by chance", "silently wrong")
    lines = [f"| {' | '.join(heads)} |", "|---" + "|--:" * 5 + "|"]
    for name in next(iter(rows))["snnir"]:
        words = [word for row in rows for word in row["snnir"][name]]
        same, refused = words.count("same"), sum(w.startswith("refused") for w in words)
        wrong = len(words) - same - refused
        lines.append(f"| snnir's target `{name}` | {len(words)} | {same} | {refused} | 0 | {wrong} |")
    for name, its in IMPORTERS.items():
        found = [row["own"][name][style] for row in rows for style in STYLES]
        chance = sum(by_chance(f) for f in found)
        crash = sum(f["verdict"].startswith("crashes") and not by_chance(f) for f in found)
        same = sum(f["verdict"] == "same" for f in found)
        wrong = len(found) - same - crash - chance
        lines.append(f"| {its.title}'s own importer | {len(found)} | {same} | {crash} | {chance} | {wrong} |")
    return "\n".join(lines)


def crashes(results: dict[str, Any]) -> str:
    """The words of every crash, with the graphs that it meets."""
    seen: dict[tuple[str, str], list[str]] = {}
    for kind, row in results["kinds"].items():
        for name in IMPORTERS:
            for style in STYLES:
                error = row["own"][name][style]["error"]
                if error:
                    at = seen.setdefault((name, re.sub(r"\(\d+x\d+ and \d+x\d+\)", "", error).strip()), [])
                    at += [kind] if kind not in at else []
    lines = ["| importer | error | graphs |", "|---|---|---|"]
    lines += [f"| {name} | `{error}` | {', '.join(kinds)} |" for (name, error), kinds in seen.items()]
    return "\n".join(lines)


def versions(results: dict[str, Any]) -> str:
    """The releases that were run."""
    return "Measured with " + ", ".join(f"{name} {number}" for name, number in results["versions"].items()) + "."


BLOCKS = {"versions": versions, "totals": totals, "table": table, "crashes": crashes}


def document(results: dict[str, Any]) -> str:
    """docs/importers.md with its blocks filled."""
    text = DOCUMENT.read_text()
    for name, made in BLOCKS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"{DOCUMENT.name} has no block <!-- {name} -->")
        text = pattern.sub(lambda m, t=made: f"{m[1]}{t(results)}\n{m[2]}", text)  # type: ignore[misc]
    return text


def main() -> int:
    """Measures and writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare docs/importers.md with the stored results")
    parser.add_argument("--tables", action="store_true", help="write the tables from the stored results")
    arguments = parser.parse_args()
    if not (arguments.check or arguments.tables):
        RESULTS.write_text(json.dumps(measure(), indent=1) + "\n")
    new = document(json.loads(RESULTS.read_text()))
    if arguments.check:
        return int(new != DOCUMENT.read_text())
    DOCUMENT.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
