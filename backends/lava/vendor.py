"""A compiled network run in Lava itself, and its traces brought back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from snnir.backends.lava.environment import needed, run_script
from snnir.contents import npz
from snnir.ops import Array
from snnir.simulators.loihi import LoihiRun


def run_in_lava(files: Mapping[str, bytes], inputs: Mapping[str, Array], seconds: float = 3600) -> LoihiRun:
    """The traces that an artifact's `run.py` gives on inputs (T, B, *shape), in Lava.

    Raises:
        CompileError: there is no Lava.
        LavaError: the script failed, or did not end within `seconds`.
    """
    python = needed()
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path, data in files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        (folder / "given.npz").write_bytes(npz(inputs))
        arguments = [str(folder / "given.npz"), "--traces", str(folder / "traces.npz")]
        run_script(folder / "run.py", arguments, seconds=seconds, python=python, folder=folder)
        traces: dict[str, dict[str, Array]] = {"spikes": {}, "u": {}, "v": {}}
        with np.load(folder / "traces.npz") as found:
            for key in found.files:
                trace, _, cell = key.partition(".")
                traces[trace][cell] = found[key]
    return LoihiRun(**traces)
