"""One importer, one file: import, run, compare, and name what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from snnir.compiler import compile, load
from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.importers.diagnosis import Diagnosis, named, off_by
from snnir.importers.evidence import alone
from snnir.importers.findings import Fault, ImporterVerdict, ImportWord, Refusal
from snnir.importers.running import Crash, attempt, build, modules_of, nir_file, one_by_one
from snnir.importers.table import Importer, importer
from snnir.importers.wiring import inner
from snnir.interpreter import as_inputs, interpret
from snnir.ops import Array
from snnir.semantics import NIR_SEMANTICS, Semantics
from snnir.stimuli import RATE, stimuli

PROBES = (1.0, 3.0, 10.0, 40.0)  # spreads of the samples of normal values that are run beside the input
IMPORTS = 8  # of a file whose import hangs on chance
ALONE = 2  # samples of the input that are run without a batch axis


def check_importer(
    source: Any,
    framework: str,
    inputs: Array | Mapping[str, Array] | None = None,
    *,
    steps: int | None = None,
    batch: int = 8,
    seed: int = 0,
    rate: float = RATE,
    dt: float | None = None,
    semantics: Semantics | None = None,
) -> ImporterVerdict:
    """Runs a framework's own NIR importer on a network and says what it got wrong.

    A `.nir` file is given to it as it is; any other source is exported with the `nir` target first. Beside the input a
    few samples of normal values are run, so that faults show that a gentle input would hide; they count in `faults`
    but not in `places` and `differing`.

    Args:
        source: anything that `snnir.load` takes, with one input and one output.
        framework: a name in `snnir.importers.IMPORTERS`.
        inputs: (T, B, *shape); default what the graph says its inputs look like, else random spikes.
        steps, batch, seed, rate: of such inputs.
        dt, semantics: as for `snnir.load`.

    Raises:
        CompileError: the source or the input is not sound, NIR cannot say it, or it has several inputs or outputs.
        MissingPackageError: the framework is not installed.
        UsageError: no importer of that name is known.
    """
    its = importer(framework)
    its.require()
    graph = load(source, dt=dt, semantics=semantics)
    file, graph = _as_file(source, graph)
    _one_each(graph)
    made = None if inputs is not None else seed
    x = as_inputs(graph, inputs if inputs is not None else stimuli(graph, steps, batch, seed, rate), np.float64)
    values = next(iter(x.values()))
    verdict = _checked(its, file, graph, values)
    return replace(
        verdict,
        call=its.call({"dt": graph.semantics.dt, "batch_size": values.shape[1]}),
        versions=its.versions(),
        steps=values.shape[0],
        batch=values.shape[1],
        seed=made,
        notes=(*_unsaid(graph), *_chance(its, file, graph, verdict, values), *((its.note,) if its.note else ())),
    )


def _unsaid(graph: Graph) -> tuple[str, ...]:
    """What the network means that no field of NIR says."""
    differ = graph.semantics.differences(NIR_SEMANTICS.with_(dt=graph.semantics.dt))
    said = ", ".join(f"{field} {value!r}" for field, (value, _) in differ.items() if field != "number_format")
    return (f"the network means {said}; NIR has no field for it, so no importer can know",) if said else ()


def _chance(its: Importer, file: bytes, graph: Graph, verdict: ImporterVerdict, x: Array) -> tuple[str, ...]:
    """What more imports of the same file give, where a node is lost from the middle of the network.

    nirtorch's executor then starts at one of several nodes, by the order of memory addresses.
    """
    kinds = {fault.kind for fault in verdict.faults}
    if "node-lost" not in kinds or not (verdict.error or "node-idle" in kinds):
        return ()
    found: Counter[str] = Counter()
    kept: list[object] = []  # what stays in memory moves what comes next
    for _ in range(IMPORTS):
        try:
            run = attempt(its, file, graph, graph.semantics.dt, _probed(x))
            kept.append(run)
            found[f"run only {', '.join(run.order)}"] += 1
        except Crash as crash:
            found["crash"] += 1
            kept.append(crash)
    said = ", ".join(f"{count} {what}" for what, count in found.most_common())
    return (f"the result hangs on chance (addresses in memory): of {IMPORTS} more imports {said}",) * (len(found) > 1)


def _as_file(source: Any, graph: Graph) -> tuple[bytes, Graph]:
    """The NIR file that the framework's users would have, and the graph as snnir reads that file."""
    if isinstance(source, (str, Path)) and str(source).endswith(".nir"):
        return Path(source).read_bytes(), graph
    lowered = compile(graph, "nir").graph
    return nir_file(lowered), lowered


def _one_each(graph: Graph) -> None:
    faults = [
        Violation("importer-ports", f"has {len(names)} {what}s", where=", ".join(names), expected=f"one {what}")
        for what, names in (("input", graph.inputs), ("output", graph.outputs))
        if len(names) != 1
    ]
    if faults:
        raise CompileError(faults, title="frameworks' importers take one input and one output")


def _probed(x: Array, seed: int = 0) -> Array:
    """The input, and samples of normal values behind it, exact in float32."""
    rng = np.random.default_rng(seed)
    size = max(1.0, float(np.abs(x).max(initial=0.0)))
    probes = [spread * size * rng.standard_normal((x.shape[0], 1, *x.shape[2:])) for spread in PROBES]
    return np.concatenate([x, *probes], axis=1).astype(np.float32).astype(np.float64)


def _checked(its: Importer, file: bytes, graph: Graph, values: Array) -> ImporterVerdict:
    dt, batch = graph.semantics.dt, values.shape[1]
    x = _probed(values)
    faults: list[Fault] = []
    error = ""
    try:
        run = attempt(its, file, graph, dt, x)
    except Crash as crash:
        word: ImportWord = "crashes on import" if crash.stage == "import" else "crashes in the run"
        blank = ImporterVerdict(its.name, "", {}, word, False, crash.error)
        if crash.stage == "import":
            return replace(blank, refused=_refused(its, graph, x))
        kept = [*range(min(ALONE, batch)), *range(batch, x.shape[1])]
        try:
            run = one_by_one(its, file, graph, dt, x[:, kept])
        except Crash as again:
            lost = _lost_nodes(its, file, graph, dt)
            return replace(blank, error=again.error, faults=lost, refused=_refused(its, graph, x) if not lost else ())
        x, batch, error = x[:, kept], min(ALONE, batch), crash.error
        flat = tuple(n for n in graph.ops if graph[n].kind == "Flatten")
        what = "the batch axis is taken as part of the population: it runs only without one"
        faults.append(Fault("batch-axis", flat, what, f"{x.shape[1]} samples ran one by one, without a batch axis"))
    wanted = interpret(graph, x)
    found = Diagnosis(its, graph, x, run, wanted, batch)
    faults += found.faults()
    off = off_by(run.output, wanted)
    differing = int(np.count_nonzero(off[:, :batch])) if off is not None else int(wanted[:, :batch].size)
    explained = found.explained() if faults or differing else None
    shape = None if off is not None else (wanted.shape[2:], run.output.shape[2:])
    word = "crashes in the run" if error else "wrong" if differing else "same on this input" if faults else "same"
    return ImporterVerdict(
        its.name,
        "",
        {},
        word,
        not faults and not differing,
        error,
        places=int(wanted[:, :batch].size),
        differing=differing,
        explained=explained,
        returned=int(found.run.output[:, :batch].size),
        faults=tuple(faults),
        shape=shape,
    )


def _lost_nodes(its: Importer, file: bytes, graph: Graph, dt: float | None) -> tuple[Fault, ...]:
    """Nodes without a module, of a network that was built but does not run."""
    there = modules_of(build(its, file, dt, 1), graph)
    return tuple(
        Fault("node-lost", (name,), f"{named(graph, name)} is missing", "no module stands for it")
        for name in inner(graph)
        if name not in there
    )


def _refused(its: Importer, graph: Graph, x: Array) -> tuple[Refusal, ...]:
    """Every node that the importer does not take by itself, and what it says; nodes of equal parameters once."""
    found: list[Refusal] = []
    for name in inner(graph):
        try:
            build(its, nir_file(alone(graph, name)), graph.semantics.dt, x.shape[1])
        except Crash as crash:
            found.append(Refusal(name, graph[name].kind, crash.error))
        except CompileError:
            continue
    return tuple(found)
