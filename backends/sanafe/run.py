"""Runs SANA-FE in a Python that has it, and brings its figures back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from snnir.backends.sanafe.chip import Place, place
from snnir.backends.sanafe.network import ChipNetwork, Group, build, changes
from snnir.backends.sanafe.reading import Reader
from snnir.errors import MissingPackageError, UsageError, fail
from snnir.graph import Graph
from snnir.ops import Array

VARIABLE = "SNNIR_SANAFE_PYTHON"


@dataclass(frozen=True)
class Estimate:
    """What SANA-FE says of one sample.

    Attributes:
        joules: part of the chip (synapse, dendrite, soma, network, total) -> energy in J.
        seconds: the chip's time, for `steps` steps: those of the input and what the pipeline needs to run empty.
        packets: messages between neurons' cores. events: synaptic operations.
        cores, neurons, synapses: that the network takes on the chip; inputs are among the neurons.
        spikes, expected: of all neurons, without inputs, by SANA-FE and by the interpreter.
        differing: places (step, neuron) where one of them has a spike and the other has none.
        moved: synapses whose delay is imitated by biases (`snnir.backends.sanafe.network`).
        host_macs: multiply-accumulates of what is no spike; they are in none of the figures.
        version: of SANA-FE.
    """

    joules: Mapping[str, float]
    seconds: float
    steps: int
    packets: int
    events: int
    cores: int
    neurons: int
    synapses: int
    spikes: int
    expected: int
    differing: int
    moved: int
    host_macs: int
    version: str

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON data."""
        return {**asdict(self), "joules": dict(self.joules)}


def find_python() -> str | None:
    """A Python that has SANA-FE: the one that SNNIR_SANAFE_PYTHON names, or this one; None where there is none.

    Raises:
        UsageError: SNNIR_SANAFE_PYTHON names no file.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UsageError(f"{VARIABLE}={named}: no such file; it names a Python that has the package sanafe")
        return named
    return sys.executable if find_spec("sanafe") is not None else None


def estimate(graph: Graph, x: Mapping[str, Array]) -> Estimate:
    """Energy, time and packets of one inference on SANA-FE's model of Loihi.

    Args:
        graph: a sound graph.
        x: input name -> (T, B, *shape); the first sample is run.

    Raises:
        CompileError: the model cannot take the network (with all reasons), or SANA-FE failed.
        MissingPackageError: SANA-FE is not installed.
        UsageError: SNNIR_SANAFE_PYTHON names no file.
    """
    python = find_python()
    if python is None:
        raise MissingPackageError("sanafe", "sanafe", "an estimate for Loihi")
    reader = Reader(graph, x)
    reader.check()
    network = build(reader)
    places = place({n: g.size for n, g in network.groups.items()}, frozenset(reader.spiking_inputs))
    with tempfile.TemporaryDirectory(prefix="snnir-sanafe-") as folder:
        write(network, places, Path(folder))
        result, spikes = _run(python, Path(folder))
    return _estimate(network, places, result, spikes)


def write(network: ChipNetwork, places: Mapping[str, Place], folder: Path) -> None:
    """The files that worker.py reads: network.json, and arrays as little-endian float64 (.f8) and int32 (.i4)."""
    count = 0

    def save(values: Array) -> str:
        nonlocal count
        count += 1
        kind = "f8" if np.asarray(values).dtype.kind == "f" else "i4"
        (folder / f"{count}.{kind}").write_bytes(np.ascontiguousarray(values, f"<{kind}").tobytes())
        return f"{count}.{kind}"

    def population(group: Group) -> dict[str, Any]:
        at = places[group.name]
        said = {
            "name": group.name,
            "size": group.size,
            "synapse": group.synapse,
            "core": save(at.core),
            "unit": save(at.unit),
        }
        if group.spikes is not None:
            return {**said, "spikes": save(group.spikes.T.astype(np.int32))}
        attributes = {name: save(np.asarray(v, np.float64)) for name, v in group.attributes.items()}
        return {**said, "reset_mode": "soft" if group.soft else "hard", "attributes": attributes}

    index = {name: k for k, name in enumerate(network.groups)}
    document = {
        "steps": network.steps,
        "populations": [population(group) for group in network.groups.values()],
        "connections": [
            {
                "source": index[c.source],
                "target": index[c.target],
                "from": save(c.start),
                "to": save(c.end),
                "weight": save(c.weight),
            }
            for c in network.connections
        ],
        "changes": {name: save(values) for name, values in changes(network).items()},
    }
    (folder / "network.json").write_text(json.dumps(document))


def _run(python: str, folder: Path) -> tuple[dict[str, Any], Array]:
    worker = Path(__file__).with_name("worker.py")
    done = subprocess.run(
        [python, str(worker), str(folder)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        if "No module named 'sanafe'" in said:
            raise UsageError(f"{python} has no package sanafe (pip install sanafe); {VARIABLE} names another Python")
        raise fail("sanafe-run", f"SANA-FE stopped with status {done.returncode}: {said}", where=python)
    result = json.loads((folder / "result.json").read_text())
    return result, np.fromfile(folder / "spikes.bin", "=i4").reshape(-1, 3)


def _estimate(network: ChipNetwork, places: Mapping[str, Place], result: Mapping[str, Any], spikes: Array) -> Estimate:
    found = {n: np.zeros((network.steps, g.size)) for n, g in network.groups.items()}
    for k, values in enumerate(found.values()):
        here = spikes[spikes[:, 1] == k]
        values[here[:, 0], here[:, 2]] = 1
    neurons = [n for n, g in network.groups.items() if g.spikes is None and n in network.expected]
    return Estimate(
        joules=result["energy"],
        seconds=result["sim_time"],
        steps=network.steps,
        packets=result["packets_sent"],
        events=result["spikes"],
        cores=len(np.unique(np.concatenate([p.core for p in places.values()]))),
        neurons=network.neurons,
        synapses=network.synapses,
        spikes=int(sum(found[n].sum() for n in neurons)),
        expected=int(sum(network.expected[n].sum() for n in neurons)),
        differing=int(sum((found[n] != network.expected[n]).sum() for n in neurons)),
        moved=network.moved,
        host_macs=network.host,
        version=result["version"],
    )
