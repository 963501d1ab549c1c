"""What the host does around a network on Loihi: numbers into integers before, integers into numbers after.

NumPy only, for Python 3.10 and later, and nothing of snnir: this file travels with every compiled network, where
`simulate.py` and `run.py` share it, and `npz_files.py` reads and writes files for it.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

SPEC = ("inputs", "populations", "connections", "convolutions")  # what the keys of the network proper begin with


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """`network.npz`: its structure, the network's integers (`LoihiSpec.to_npz_dict`), and the arrays of the host.

    Raises ValueError if it is not there, or damaged.
    """
    arrays = files().read(path)
    if "structure" not in arrays:
        raise ValueError("is no network of snnir's: it has no structure")
    structure = json.loads(str(arrays.pop("structure")))
    spec = {key: value for key, value in arrays.items() if key.partition(".")[0] in SPEC}
    return structure, spec, {key: value for key, value in arrays.items() if key not in spec}


def read_input(path: Path, structure: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays (T, B, *shape) by input name; one sample may be (T, *shape), a single array may have any name."""
    shapes = {code["name"]: code["shape"] for code in structure["inputs"]}
    found: dict[str, Any] = files().inputs(files().read(path), shapes, any_name=True)
    return found


def files() -> Any:
    """`npz_files.py`, from beside this file."""
    place = str(Path(__file__).resolve().parent)
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        return import_module("npz_files")
    except ModuleNotFoundError:
        sys.exit(f"{Path(place) / 'npz_files.py'}: is missing")


def encode(inputs: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Integers (T, B, size) by input name: spikes as they are, numbers times a scale, rounded, cut to -peak..peak.

    With a base they are two, base * high + low, the second under the name `low`.

    Raises ValueError if an array is missing, has another shape, or holds something else than 0 and 1 for spikes.
    """
    found: dict[str, Any] = {}
    for code in inputs:
        name, shape = code["name"], tuple(code["shape"])
        if name not in arrays:
            raise ValueError(f"no values for input {name!r}")
        x = np.asarray(arrays[name])
        if x.shape[2:] != shape:
            raise ValueError(f"input {name!r} has shape {x.shape}, expected (T, B, {', '.join(map(str, shape))})")
        x = x.reshape(*x.shape[:2], -1)
        if not np.isfinite(x).all():
            raise ValueError(f"input {name!r} holds values that are not finite")
        if code["graded"]:
            values = np.clip(np.rint(x * code["scale"]), -code["peak"], code["peak"]).astype(np.int64)
            base = code.get("base", 0)
            high = (values + base // 2) // base if base else values
            found |= {name: high, code["low"]: values - base * high} if base else {name: high}
            continue
        wrong = (x != 0) & (x != 1)
        if wrong.any():
            first = float(x[wrong][0])
            raise ValueError(f"input {name!r} holds {first:g}; it was compiled for spikes, 0 or 1")
        found[name] = x.astype(np.int64)
    return found


def integers(outputs: Any, arrays: Mapping[str, Any], traces: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What every output reads, (T, B, size) integers in the chip's own time; `traces`: trace -> cell -> values."""
    found = {}
    for k, out in enumerate(outputs):
        here = traces[out["trace"]]
        parts = [np.asarray(here[name]) for name in out["cells"]]
        first = np.cumsum([0, *(part.shape[2] for part in parts)])
        which, index, shift = (arrays[f"reads.{k}.{what}"] for what in ("which", "index", "shift"))
        values = np.concatenate(parts, axis=2)[:, :, first[which] + index].astype(np.int64)
        for late in np.unique(shift[shift > 0]):
            held = np.zeros_like(values)
            held[late:] = values[: len(values) - late] if late < len(values) else held[late:]
            values = np.where(shift == late, held, values)
        found[out["name"]] = values
    return found


def decode(outputs: Any, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs (T, B, *shape) in the network's own units."""
    found = {}
    for k, out in enumerate(outputs):
        x = values[out["name"]] * arrays[f"reads.{k}.scale"] + arrays[f"reads.{k}.constant"]
        found[out["name"]] = x.reshape(*x.shape[:2], *out["shape"])
    return found


def lines(
    structure: Mapping[str, Any],
    arrays: Mapping[str, Any],
    traces: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Every sample's outputs step by step, and of every population the number and a checksum of its spikes."""
    values = integers(structure["outputs"], arrays, traces)
    for b in range(next(iter(values.values())).shape[1]):
        for out in structure["outputs"]:
            x = values[out["name"]][:, b]
            for t, row in enumerate(x):
                shown = np.flatnonzero(row) if out["trace"] == "spikes" else row
                if row.any():
                    yield f"{out['name']}[{b}] t={t}: {' '.join(map(str, shown.tolist()))}"
        for name, spikes in traces["spikes"].items():
            fired = np.asarray(spikes)[:, b] != 0
            yield f"{name}[{b}]: {int(fired.sum())} spikes, crc32 {zlib.crc32(np.packbits(fired).tobytes()):08x}"


def main(here: Path, description: str | None, run: Callable[[Any, Any, Any], Any]) -> None:
    """What both scripts are: reads input, prints what the network does, writes outputs.

    Args:
        here: the folder of the compiled network.
        description: what `--help` says.
        run: (integers of the network, structure, encoded inputs) -> recorded traces; in Lava or without.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", default=str(here / "input.npz"), help=".npz with one array per input")
    parser.add_argument("-o", "--output", help=".npz to write the outputs to")
    parser.add_argument("--traces", help=".npz to write spikes, and currents or membranes that outputs read, to")
    options = parser.parse_args()
    reading = here / "network.npz"
    try:
        structure, spec, arrays = load(reading)
        reading = options.input
        inputs = encode(structure["inputs"], read_input(reading, structure))
    except ValueError as error:
        sys.exit(f"{reading}: {error}")
    traces = run(spec, structure, inputs)
    for line in lines(structure, arrays, traces):
        print(line)
    outputs = decode(structure["outputs"], arrays, integers(structure["outputs"], arrays, traces))
    named = {f"{trace}.{name}": values for trace, all_of in traces.items() for name, values in all_of.items()}
    for path, values in ((options.output, outputs), (options.traces, named)):
        if path:
            try:
                files().write(path, values)
            except ValueError as error:
                sys.exit(f"{path}: {error}")
