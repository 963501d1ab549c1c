"""NIR in and out, loss-free for the nir dialect: files (HDF5) without the nir package, live objects with it.

    read(path or bytes) -> Graph        write(graph) -> bytes
    from_nir(nir.NIRGraph) -> Graph     to_nir(graph) -> nir.NIRGraph
    time_step_hint(graph): the dt that r and tau imply

What NIR has no field for (semantics, origin, true names) travels as one JSON string under the metadata key `snnir`;
everything else in the file is standard NIR 1.0.8 and every reader of NIR may ignore that key. Nodes carry their shapes
in full, so that readers need not infer them. Known faults of nir 1.0.8 that this package does not share: its type
check refuses grouped convolutions and infers wrong sizes for non-square kernels; its reader loses the order of nodes,
fails on names with '/', and takes no scalar parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnir.graph import Graph
from snnir.nir_io.time_step import TimeStep, TimeStepHint, time_step_hint

if TYPE_CHECKING:
    import os

__all__ = ["TimeStep", "TimeStepHint", "check", "from_nir", "read", "time_step_hint", "to_nir", "write"]


def read(source: str | os.PathLike[str] | bytes) -> Graph:
    """The graph in a NIR file, or in the content of one: verified, subgraphs flattened to dotted names.

    Its semantics is what the file says under `snnir`, else forward Euler with dt unknown (`NIR_SEMANTICS`).

    Raises:
        CompileError: there is no such file, it is not NIR, or the graph in it is not sound: with every reason.
    """
    from snnir.nir_io.hdf5 import read_raw
    from snnir.nir_io.importing import graph_of

    if isinstance(source, (bytes, bytearray, memoryview)):
        raw, faults = read_raw(bytes(source))
        return graph_of(raw, "", faults)
    raw, faults = read_raw(Path(source))
    return graph_of(raw, str(source), faults)


def check(graph: Graph) -> None:
    """Returns where `write` would write a file.

    Raises:
        CompileError: as `write`.
    """
    from snnir.nir_io.exporting import raw_of
    from snnir.nir_io.fileform import file_form

    raw, own = raw_of(graph)
    file_form(raw, own)


def write(graph: Graph) -> bytes:
    """The NIR file of a graph; touches no disk, and the same graph always gives the same bytes.

    Raises:
        CompileError: some op has no NIR primitive, some metadata cannot be kept, or the graph is not sound.
    """
    from snnir.nir_io.exporting import raw_of
    from snnir.nir_io.fileform import file_form
    from snnir.nir_io.hdf5 import write_raw

    raw, own = raw_of(graph)
    return write_raw(file_form(raw, own))


def from_nir(source: Any) -> Graph:
    """The graph of a live `nir.NIRGraph` (or any object with its attributes), as `read` gives it for a file.

    Raises:
        CompileError: the object is no graph, or the graph is not sound: with every reason.
    """
    from snnir.nir_io.importing import graph_of
    from snnir.nir_io.live import raw_of_live

    return graph_of(raw_of_live(source))


def to_nir(graph: Graph) -> Any:
    """A live `nir.NIRGraph`, every node's input and output type stated.

    Raises:
        CompileError: as `write`.
        MissingPackageError: the nir package is not installed.
    """
    from snnir.nir_io.exporting import raw_of
    from snnir.nir_io.live import live_of

    raw, own = raw_of(graph)
    return live_of(raw, own, graph)
