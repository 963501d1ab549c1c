"""From a file to a graph: snnir's own models by their record, all others node by node."""

from __future__ import annotations

import os
from typing import Any

from snnir.backends.onnx.record import KEY
from snnir.errors import UsageError
from snnir.frontends.onnx.file import read
from snnir.frontends.onnx.own import own_graph
from snnir.frontends.onnx.plain import plain_graph
from snnir.graph import Graph
from snnir.semantics import Semantics


def load(
    path: str | os.PathLike[str],
    dt: float | None = None,
    semantics: Semantics | None = None,
    axes: str | None = None,
    input_shape: Any = None,
    **options: Any,
) -> Graph:
    """The network in an ONNX file.

    A file that snnir wrote (`sequence.onnx`, `step.onnx`) gives the graph that it was written from: neurons,
    parameters, semantics, metadata; weights are those that the file holds now. Any other model has no state: the same
    function of the input at every step. Its leading axes (the batch, and time where it has one) fall away.

    Args:
        path: the file; arrays that lie beside it (external data) are found.
        dt: time step in seconds; needed by what the network is compiled for later only, since nothing here has a
            time constant.
        semantics: what a step means; default NIR's.
        axes: of the inputs, where the file leaves them open: 'B' (B, *shape), 'TB' (T, B, *shape), 'BT' (B, T,
            *shape), 'sample' (*shape).
        input_shape: the shape of a sample, where the file leaves it open; a dict by input name for several inputs.
        options: none exist.

    Returns:
        A verified graph.

    Raises:
        CompileError: the file cannot be read or is not sound; operators that the graph has no ops for, all of them with
            their nodes' names; axes that are not clear; in snnir's own files, nodes that their record does not name.
        UsageError: an unknown option, or options that do not fit.
        MissingPackageError: the package onnx is not installed.
    """
    if options:
        raise UsageError(f"reading ONNX takes no option {', '.join(options)}; there are axes and input_shape")
    file = read(path)
    if KEY in file.properties:
        if axes is not None or input_shape is not None:
            raise UsageError(
                f"{file.path} was written by snnir and says its axes itself: leave axes and input_shape out"
            )
        return own_graph(file)
    graph = plain_graph(file, axes, input_shape, semantics)
    return graph if dt is None else Graph(graph.ops, graph.edges, graph.semantics.with_(dt=dt), graph.origin)
