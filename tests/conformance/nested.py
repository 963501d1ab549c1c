"""A NIR file in which the ops 'block.*' stand in a graph of their own, written by the nir package."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

from snnir.graph import Graph
from snnir.nir_io import to_nir


def write_nested(graph: Graph) -> bytes:
    """The file; the ops of `block` are a chain."""
    import nir

    flat = to_nir(graph)
    inner = {name.partition(".")[2]: node for name, node in flat.nodes.items() if name.startswith("block.")}
    last = list(inner)[-1]
    shape_in, shape_out = graph.shapes["input"], graph.shapes[f"block.{last}"]
    nodes = {"input": nir.Input({"input": list(shape_in)}), **inner, "output": nir.Output({"output": list(shape_out)})}
    names = list(nodes)
    block = nir.NIRGraph(nodes=nodes, edges=list(pairwise(names)), type_check=False)
    outer = {name: node for name, node in flat.nodes.items() if not name.startswith("block.")}
    order = ["input", "block", *(n for n in outer if n != "input")]
    whole = nir.NIRGraph(
        nodes={name: block if name == "block" else outer[name] for name in order},
        edges=list(pairwise(order)),
        type_check=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.nir"
        nir.write(path, whole)
        return path.read_bytes()
