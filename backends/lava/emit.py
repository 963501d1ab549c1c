"""The files of a compiled network. They run without snnir: `simulate.py` with NumPy, `run.py` in Lava.

`network.npz` holds the integers under the names of Lava's own parameters (`LoihiSpec.to_npz_dict`), how outputs are
read (`reads.*`), and as JSON text `structure`: inputs, outputs, which cells spike, which connections are sparse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snnir import __version__
from snnir.backends.lava.netx import netx
from snnir.contents import npz, source
from snnir.ops import Array
from snnir.simulators import source_files
from snnir.simulators.loihi import Connection
from snnir.target import Files

if TYPE_CHECKING:
    from snnir.backends.lava.artifact import LavaArtifact

FORMAT = "snnir-lava/1"
_NETX = " `network.net` is the same network for lava-dl's netx (`hdf5.Network`)."
_SPARSE = 0.3  # share of weights that are not 0, below which Lava's Sparse is used


def files(artifact: LavaArtifact) -> Files:
    """Relative path -> content."""
    found = {
        "network.npz": lambda: npz(network_arrays(artifact)),
        "input.npz": lambda: npz(dict(artifact.shown)),
        "simulate.py": lambda: source("snnir.backends.lava.simulate_script"),
        "run.py": lambda: source("snnir.backends.lava.run_script"),
        "host.py": lambda: source("snnir.backends.lava.host"),
        "npz_files.py": lambda: source("snnir.npz_files"),
        "README.md": lambda: readme(artifact).encode(),
    }
    if artifact.netx:
        found["network.net"] = lambda: netx(artifact.spec)
    return Files(found) | Files.of(source_files("loihi", "loihi_simulator"))


def network_arrays(artifact: LavaArtifact) -> dict[str, Array]:
    """All that `network.npz` holds."""
    spec, (outputs, reads) = artifact.spec, artifact.outputs
    arrays = {key: _small(value) for key, value in spec.to_npz_dict().items()} | reads
    for cell in artifact.plan.cells:
        if len(artifact.plan.cells_of(cell.source)) > 1:
            arrays[f"ids.{cell.name}"] = cell.ids
    structure = {
        "format": FORMAT,
        "snnir": __version__,
        "dt": artifact.graph.semantics.dt,
        "latency": artifact.latency,
        "lags": dict(artifact.lags),
        "inputs": [code.to_json() for code in artifact.codes.values()],
        "outputs": outputs,
        "spiking": artifact.spiking,
        "populations": {
            name: {
                "cells": [c.name for c in artifact.plan.cells_of(name)],
                "shape": list(population.shape),
                "source": list(artifact.graph.sources(name)),
            }
            for name, population in artifact.plan.network.populations.items()
        },
        "sparse": [
            i
            for i, c in enumerate(spec.connections)
            if isinstance(c, Connection) and np.count_nonzero(c.weights) < _SPARSE * c.weights.size
        ],
    }
    return {"structure": np.array(json.dumps(structure)), **arrays}


def _small(value: Array) -> Array:
    """Matrices, whose weights are 9 bits and a sign, in 16 bits; kernels, whose are up to 17, in 32."""
    if value.dtype.kind != "i" or value.ndim not in (2, 4):
        return value
    return value.astype(np.int16 if value.ndim == 2 else np.int32)


def readme(artifact: LavaArtifact) -> str:
    """What the folder is, for people."""
    graph = artifact.graph
    codes = "\n".join(
        f"* `{code.name}` {_shape(code.shape)}: {_takes(code.to_json())}" for code in artifact.codes.values()
    )
    units = {"spikes": "spikes", "u": "currents (u of neurons that never spike)", "v": "membranes (v)"}
    outputs = "\n".join(
        f"* `{name}` {_shape(graph.shapes[name])}: {units[read.trace]}, {read.lag} steps late"
        for name, read in artifact.plan.reads.items()
    )
    projections = "\n".join(f"* {line}" for line in artifact.report.get("written_as", []))
    measured = artifact.report.get("measured", {})
    cost = f"{100 * measured['count_error']:.2f} % error in spike counts" if measured.get("spikes") else ""
    errors = ", ".join(f"{100 * e:.2f} % of {n}" for n, e in measured.get("output_error", {}).items())
    return f"""# A spiking network in Loihi's integers

Made by snnir {__version__} from a network of {len(graph)} ops. The arithmetic is that of Lava 0.10 (lava-nc), its
`fixed_pt` models. Lava's repositories were archived in May 2026 and its last release needs Python 3.10, so
`simulate.py`, which computes the same bit for bit in NumPy, is what to use; `run.py` runs the network in Lava itself,
and prints the same.

    python simulate.py                # needs NumPy
    lava/bin/python run.py            # needs lava-nc 0.10.0 in a Python 3.10

Both read `input.npz` beside them, or the file that they are given: arrays (T, B, *shape) by input name.

Inputs:

{codes}

Outputs, in the chip's own time:

{outputs}

Connections, each of one step and its delay:

{projections}

Against the source network, on the input it was compiled with: {", ".join(filter(None, [cost, errors])) or "no spikes"}.
`network.npz` holds all integers under Lava's own names, and as text (`structure`) which neuron is which;
`manifest.json` what was decided and what it cost.{_NETX if artifact.netx else ""}
"""


def _shape(shape: Any) -> str:
    return f"(T, B, {', '.join(map(str, shape))})"


def _takes(code: Mapping[str, Any]) -> str:
    if not code["graded"]:
        return "spikes, 0 or 1"
    if code["scale"] == 1.0:
        return f"whole numbers, -{code['peak']}..{code['peak']}"
    limit = code["peak"] / code["scale"]
    return f"numbers, -{limit:g}..{limit:g}, sent as graded spikes of {int(code['peak']).bit_length() + 1} bits"
