"""Runs this compiled network on recorded events: NumPy only, bit for bit what the chip computes.

    python run.py events.npz                     # spike counts of every sample
    python run.py events.npz -o spikes.npz       # and the spikes, (T, B, *shape) by output name
    python run.py events.npz --xylosim           # with SynSense's own simulator (pip install xylosim)

`events.npz` holds one array per input of the network (any name will do where there is only one): whole numbers of 0 to
15 events, (T, B, *shape) or, for one sample, (T, *shape). Outputs are in the chip's own time: `latency` in `xylo.json`
says how many steps they come late.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def load() -> tuple[dict[str, Any], Any, Any]:
    """The description, the specification, and the simulator's module, from beside this file; stops if they are not."""
    sys.path.insert(0, str(HERE))
    reading = "xylo.json"
    try:
        simulator = import_module("xylo_simulator")
        description = json.loads((HERE / reading).read_text())
        reading = "xylo.npz"
        spec = simulator.XyloSpec.from_npz_dict(import_module("npz_files").read(HERE / reading))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{HERE / reading}: cannot be used: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"{HERE}: needs {error.name}, which is missing")
    return description, spec, simulator


def events_of(description: dict[str, Any], arrays: dict[str, Any]) -> Any:
    """Events (T, B, channels) from one array per input; ValueError says what does not fit."""
    inputs = description["inputs"]
    if len(inputs) == 1 and len(arrays) == 1:
        arrays = {inputs[0]["name"]: next(iter(arrays.values()))}
    parts = []
    for entry in inputs:
        name, shape = entry["name"], tuple(entry["shape"])
        if name not in arrays:
            raise ValueError(f"no array for input {name!r}; there are {', '.join(arrays) or 'none'}")
        x = np.asarray(arrays[name])
        if x.ndim == len(shape) + 1:
            x = x[:, None]
        if x.shape[2:] != shape:
            raise ValueError(f"input {name!r} has shape {x.shape}, expected (T, B, {', '.join(map(str, shape))})")
        if x.dtype.kind not in "biuf" or ((x < 0) | (x > 15) | (x != np.rint(x))).any():
            raise ValueError(f"input {name!r} must hold whole numbers of 0 to 15 events")
        parts.append(x.reshape(*x.shape[:2], -1).astype(np.int64))
    events = np.concatenate(parts, axis=2)
    delay = description["input_delay"]
    if delay:
        events = np.concatenate([np.zeros_like(events[:delay]), events])[: len(events)]
    return events


def run(events: Any, xylosim: bool = False) -> dict[str, Any]:
    """Spikes (T, B, *shape) by output name."""
    description, spec, simulator = load()
    spikes = run_xylosim(spec, events) if xylosim else simulator.simulate(spec, events).spikes
    return {
        out["name"]: spikes[:, :, out["neurons"]].reshape(*spikes.shape[:2], *out["shape"])
        for out in description["outputs"]
    }


def run_xylosim(spec: Any, events: Any) -> Any:
    """Output spikes (T, B, outputs) as xylosim computes them, sample by sample."""
    v2 = import_module("xylosim.v2")
    silent: list[list[Any]] = [[] for _ in range(spec.n_hidden - len(spec.weights_out))]
    # XyloLayer keeps bare pointers into these lists: they must live as long as it does.
    into, rec = synapses(v2, spec.weights_in), synapses(v2, spec.weights_rec)
    out = silent + synapses(v2, spec.weights_out)
    dashes = np.stack([spec.dash_syn, spec.dash_syn_2][: spec.n_synapses], axis=1)
    layer = v2.XyloLayer(
        into,
        rec,
        out,
        [list(targets) for targets in spec.aliases],
        spec.threshold.tolist(),
        spec.threshold_out.tolist(),
        True,
        spec.bias.tolist(),
        spec.bias_out.tolist(),
        int(spec.weight_shift_in),
        int(spec.weight_shift_rec),
        int(spec.weight_shift_out),
        spec.dash_mem.tolist(),
        spec.dash_mem_out.tolist(),
        dashes.tolist(),
        spec.dash_syn_out[:, None].tolist(),
        "run",
    )
    samples = []
    for b in range(events.shape[1]):
        layer.reset_all()
        samples.append(np.array(layer.evolve(events[:, b].tolist()), np.int16))
    return np.stack(samples, axis=1)


def synapses(v2: Any, weights: Any) -> list[list[Any]]:
    """One list of connections per source."""
    full = np.atleast_3d(weights)
    return [
        [v2.XyloSynapse(int(n), s, int(row[n, s])) for s in range(row.shape[1]) for n in np.flatnonzero(row[:, s])]
        for row in full
    ]


def main() -> None:
    """Reads events, prints spike counts, writes spikes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", help=".npz with one array per input")
    parser.add_argument("-o", "--output", help=".npz to write the spikes to")
    parser.add_argument("--xylosim", action="store_true", help="run in xylosim instead of NumPy")
    options = parser.parse_args()
    description, _, _ = load()
    files = import_module("npz_files")
    try:
        shapes = {entry["name"]: entry["shape"] for entry in description["inputs"]}
        events = events_of(description, files.inputs(files.read(options.events), shapes, any_name=True))
    except ValueError as error:
        sys.exit(f"{options.events}: {error}")
    try:
        outputs = run(events, options.xylosim)
    except ModuleNotFoundError as error:
        sys.exit(f"--xylosim needs {error.name}: pip install xylosim")
    for name, spikes in outputs.items():
        for b, counts in enumerate(spikes.sum(axis=0)):
            print(f"{name}[{b}]: {' '.join(str(int(n)) for n in np.ravel(counts))}")
    if options.output:
        try:
            files.write(options.output, outputs)
        except ValueError as error:
            sys.exit(f"{options.output}: {error}")


if __name__ == "__main__":
    main()
