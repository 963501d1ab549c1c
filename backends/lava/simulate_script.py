"""Runs this compiled network in the bit-exact model of Loihi's arithmetic: NumPy only, no Lava, no snnir.

    python simulate.py                       # on input.npz beside this file
    python simulate.py other.npz -o out.npz  # on other input; outputs (T, B, *shape) into a file

Input: one array per input, (T, B, *shape), or (T, *shape) for one sample. Outputs are in the chip's own time, `latency`
steps late (README.md). Prints the same lines as `run.py`, which runs the network in Lava itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def run(spec: dict[str, Any], structure: dict[str, Any], inputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The traces of all samples: trace -> population -> (T, B, n)."""
    simulator = import_module("loihi_simulator")
    reads = {(out["trace"], name) for out in structure["outputs"] for name in out["cells"]}
    numbers = {(trace, name) for trace, name in reads if trace != "spikes"}
    found = simulator.simulate(simulator.LoihiSpec.from_npz_dict(spec), inputs, record=bool(numbers))
    traces = {"spikes": {name: found.spikes[name] for name in structure["spiking"]}, "u": {}, "v": {}}
    for trace, name in sorted(numbers):
        traces[trace][name] = getattr(found, trace)[name]
    return traces


def main() -> None:
    """Reads input, prints what the network does, writes outputs."""
    sys.path.insert(0, str(HERE))
    try:
        host, _ = import_module("host"), import_module("loihi_simulator")
    except ModuleNotFoundError as error:
        sys.exit(f"{HERE}: needs {error.name}, which is missing")
    host.main(HERE, __doc__, run)


if __name__ == "__main__":
    main()
