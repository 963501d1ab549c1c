"""Record what Lava gives for the networks of `tests.lava_regimes`, into tests/data/lava_traces.npz.

    python tests/record_lava.py

Lava needs Python 3.10 of its own: `snnir targets lava --setup`. Takes some minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from snnir.backends.lava.environment import find
from tests.lava_oracle import RECORDED, run_lava
from tests.lava_process import pack
from tests.lava_regimes import draw_all


def main() -> int:
    python = find()
    if python is None:
        print("no Lava found: snnir targets lava --setup", file=sys.stderr)
        return 1
    cases = draw_all()
    traces, facts = run_lava(python, cases, seconds=3600)
    RECORDED.parent.mkdir(exist_ok=True)
    pack(RECORDED, [case | trace for case, trace in zip(cases, traces, strict=True)], versions=facts["versions"])
    print(f"{RECORDED}: {len(cases)} networks, {RECORDED.stat().st_size} bytes, {facts['versions']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
