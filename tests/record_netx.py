"""Record what lava-dl's loader makes of `.net` files, and Lava of that, into tests/data/netx_traces.npz.

    python tests/record_netx.py

Needs Lava's Python (`snnir targets lava --setup`) with, beside it, `pip install --no-deps lava-dl==0.6.0 h5py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from snnir.backends.lava.environment import needed, run_script
from snnir.backends.lava.netx import netx, unsayable
from tests.lava_oracle import of_case
from tests.lava_process import pack
from tests.netx_nets import digest, draw, matrices

RECORDED = Path(__file__).parent / "data" / "netx_traces.npz"


def main() -> int:
    rng = np.random.default_rng(7)
    cases, weights = [], matrices(rng)
    while len(cases) < 30:
        case = draw(rng)
        if not any(unsayable(of_case(case)[0])):
            cases.append(case)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, case in enumerate(cases):
            content = netx(of_case(case)[0])
            case["digest"] = np.array(digest(content))
            (folder / f"{i:03}.net").write_bytes(content)
            np.save(folder / f"{i:03}.npy", case["input.in"])
        pack(folder / "weights.npz", [{"given": w} for w in weights])
        run_script(Path(__file__).parent / "netx_process.py", [name], seconds=1800, python=needed())
        cases = [c | {"last": np.load(folder / f"{i:03}.spikes.npy").astype(int)} for i, c in enumerate(cases)]
        loaded = [{"given": w, "loaded": np.load(folder / f"{i:03}.loaded.npy")} for i, w in enumerate(weights)]
    pack(RECORDED, cases + loaded, networks=len(cases))
    print(f"{RECORDED}: {len(cases)} networks, {len(loaded)} matrices, {RECORDED.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
