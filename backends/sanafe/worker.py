"""Runs a network on SANA-FE: a program of its own, for a Python that has the package `sanafe`.

    python worker.py FOLDER

FOLDER holds network.json and arrays as raw little-endian files (see `snnir.backends.sanafe.network`); result.json and
spikes.bin (int32 triples: step, population, neuron) are written beside them. Needs the standard library and sanafe.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

CODES = {"f8": "d", "i4": "i"}
SUMS = ("sim_time", "packets_sent", "spikes", "neurons_updated", "neurons_fired")


def main(folder: Path) -> None:
    """Builds, runs, writes."""
    import sanafe

    said = json.loads((folder / "network.json").read_text())
    read = partial(_read, folder)
    architecture, network = sanafe.load_loihi(), sanafe.Network()
    cores = architecture.cores()
    groups = [_group(network, p, read, cores) for p in said["populations"]]
    for c in said["connections"]:
        pairs = list(zip(read(c["from"]), read(c["to"]), strict=True))
        groups[c["source"]].connect_neurons_sparse(groups[c["target"]], {"weight": read(c["weight"])}, pairs)
    chip = sanafe.SpikingChip(architecture)
    chip.load(network)
    result, spikes = _run(chip, said, read)
    (folder / "spikes.bin").write_bytes(spikes.tobytes())
    (folder / "result.json").write_text(json.dumps(result))


def _read(folder: Path, name: str) -> list[Any]:
    path = folder / name
    values: array[Any] = array(CODES[path.suffix[1:]])
    values.frombytes(path.read_bytes())
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def _group(network: Any, population: dict[str, Any], read: Callable[[str], list[Any]], cores: Any) -> Any:
    """The neurons of a population, each with its attributes and on its core."""
    spiking_input = "spikes" in population
    group = network.create_neuron_group(
        population["name"],
        population["size"],
        model_attributes={} if spiking_input else {"reset_mode": population["reset_mode"]},
        default_synapse_hw_name=population["synapse"],
        default_dendrite_hw_name="loihi_dendrites",
        soma_hw_name="loihi_inputs[0]" if spiking_input else "loihi_lif",
        log_spikes=True,
    )
    core, unit = read(population["core"]), read(population["unit"])
    if spiking_input:
        trains = read(population["spikes"])
        steps = len(trains) // population["size"]
        for k in range(population["size"]):
            train = [bool(s) for s in trains[k * steps : (k + 1) * steps]]
            group[k].set_attributes(soma_hw_name=f"loihi_inputs[{unit[k]}]", model_attributes={"spikes": train})
    else:
        columns = {name: read(file) for name, file in population["attributes"].items()}
        for k in range(population["size"]):
            group[k].set_attributes(model_attributes={name: values[k] for name, values in columns.items()})
    for k in range(population["size"]):
        group[k].map_to_core(cores[core[k]])
    return group


def _run(chip: Any, said: dict[str, Any], read: Callable[[str], list[Any]]) -> tuple[dict[str, Any], array[int]]:
    """Step by step, as biases change."""
    populations, mapped = said["populations"], chip.mapped_neuron_groups
    index = {p["name"]: i for i, p in enumerate(populations)}
    neurons = [list(mapped[p["name"]]) for p in populations]
    changes = read(said["changes"]["neuron"]), read(said["changes"]["population"]), read(said["changes"]["value"])
    starts = read(said["changes"]["starts"])
    energy: dict[str, float] = {}
    sums: dict[str, float] = dict.fromkeys(SUMS, 0)
    spikes: array[int] = array("i")
    for t in range(said["steps"]):
        for k in range(starts[t], starts[t + 1]):
            neurons[changes[1][k]][changes[0][k]].set_attributes(model_attributes={"bias": changes[2][k]})
        made = chip.sim(1, spike_trace=True, processing_threads=1, write_trace_headers=t == 0)
        energy = {name: energy.get(name, 0.0) + value for name, value in made["energy"].items()}
        for name in SUMS:
            sums[name] += made[name]
        for address in made["spike_trace"][-1] if made["spike_trace"] else ():
            name, _, number = str(address).rpartition(".")
            spikes.extend((t, index[name], int(number)))
    return {"energy": energy, **sums, "version": _version()}, spikes


def _version() -> str:
    from importlib.metadata import version

    return version("sanafe")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
