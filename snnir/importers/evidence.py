"""A second experiment for a field that seems to be ignored: the file is changed there, and nothing changes."""

from __future__ import annotations

import numpy as np

from snnir.graph import Edge, Graph
from snnir.importers.running import Crash, attempt, nir_file
from snnir.importers.table import Importer
from snnir.interpreter import interpret
from snnir.ops import Input, Output
from snnir.semantics import NIR_SEMANTICS

FACTOR = 1.75
STEPS = 40


def alone(graph: Graph, name: str) -> Graph:
    """A network of one op of another: input, the op, output."""
    arriving = graph.shapes[graph.incoming[name][0].source]
    ops = {"input": Input(shape=arriving), name: graph[name], "output": Output(shape=graph.shapes[name])}
    edges = (Edge("input", name), Edge(name, "output"))
    return Graph(ops, edges, NIR_SEMANTICS.with_(dt=graph.semantics.dt))


def ignores(its: Importer, graph: Graph, name: str, field: str) -> str:
    """What importing the op alone shows, with the field as it is and changed; '' where that shows nothing.

    It shows something where the file's own meaning changes and the importer's answer does not.
    """
    small = alone(graph, name)
    op = graph[name]
    if not np.any(getattr(op, field)):
        return ""
    other = small.with_weights({f"{name}.{field}": getattr(op, field) * FACTOR})
    rng = np.random.default_rng(1)
    spread = np.asarray([3.0, 30.0, 300.0]).reshape(-1, *(1,) * len(small.shapes["input"]))
    drive = spread * rng.standard_normal((STEPS, 3, *small.shapes["input"]))
    if np.array_equal(interpret(small, drive), interpret(other, drive)):
        return ""
    try:
        first, second = (attempt(its, nir_file(g), g, graph.semantics.dt, drive).output for g in (small, other))
    except Crash:
        return ""
    same = np.array_equal(first, second) and bool(np.any(first))
    return f"with {field} x {FACTOR} in the file its answer is the same, bit for bit" if same else ""
