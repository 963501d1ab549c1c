"""Networks for Loihi run in a Lava that is installed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from snnir.backends.lava.environment import run_script
from snnir.simulators.loihi import LoihiSpec
from tests.lava_process import pack, unpack

Array = np.ndarray[Any, np.dtype[Any]]
Case = dict[str, Array]

RECORDED = Path(__file__).parent / "data" / "lava_traces.npz"


def run_lava(
    python: Path, cases: list[Case], record: tuple[str, ...] = ("spikes", "u", "v"), seconds: float = 600
) -> tuple[list[Case], dict[str, Any]]:
    """Every case's traces as Lava gives them, and the facts of the run: `versions`, `seconds`."""
    program = Path(__file__).parent / "lava_process.py"
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder, "cases.npz"), Path(folder, "traces.npz")
        pack(there, cases, record=record)
        run_script(program, [str(there), str(back)], seconds=seconds, python=python)
        return unpack(back)


def case_of(spec: LoihiSpec, inputs: dict[str, Array], sparse: tuple[int, ...] = ()) -> Case:
    """A network with one sample's inputs (T, size), as `lava_process` takes it; `sparse` connections run as Sparse."""
    arrays = spec.to_npz_dict() | {f"input.{name}": values for name, values in inputs.items()}
    return arrays | {f"sparse.{i}": np.array(1) for i in sparse}


def of_case(case: Case) -> tuple[LoihiSpec, dict[str, Array]]:
    """The network of a case, and its inputs (T, 1, size)."""
    spec = LoihiSpec.from_npz_dict({k: v for k, v in case.items() if k.partition(".")[0] not in ("input", "sparse")})
    return spec, {key[6:]: values[:, None] for key, values in case.items() if key.startswith("input.")}
