"""snnir's Loihi simulator against Lava on one network: 256 inputs, dense, 256 LIF neurons, 1000 steps.

    OMP_NUM_THREADS=1 python benchmarks/loihi_simulator.py [--size 256] [--steps 1000] [--runs 3]

Lava runs in its own Python and is timed from `run` to its end: with a monitor on the spikes, as ours gives them, and
without any, when it gives nothing back. A run of 2 steps beside them says what starting Lava costs. Ours is timed from
the specification to the spikes. Wall time for both, as Lava's processes mostly wait for each other; the best of
`--runs`, taken in turn, ours several times per turn. A last run of both, everything recorded, compares every spike,
current and membrane.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from snnir.backends.lava.environment import find
from snnir.simulators.loihi import Connection, LoihiSpec, Population, simulate
from tests.lava_oracle import case_of, of_case, run_lava


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    python = find()
    if python is None:
        print("no Lava found: snnir targets lava --setup", file=sys.stderr)
        return 1
    n, rng = options.size, np.random.default_rng(0)
    spec = LoihiSpec(
        inputs={"in": n},
        populations=(Population(name="p", size=n, vth=2000, du=400, dv=200),),
        connections=(Connection(source="in", target="p", weights=rng.integers(-100, 111, (n, n))),),
    )
    events = (rng.random((options.steps, n)) < 0.1).astype(int)
    case, short = case_of(spec, {"in": events}), case_of(spec, {"in": events[:2]})
    batches = {size: np.repeat(events[:, None], size, axis=1) for size in (1, 64)}
    lava: dict[str, list[float]] = {"with": [], "without": []}
    start_up: list[float] = []
    ours: dict[int, list[float]] = {size: [] for size in batches}
    for _ in range(options.runs):
        for monitors, record in {"with": ("spikes",), "without": ()}.items():
            _, facts = run_lava(python, [short, case], record=record)
            lava[monitors].append(facts["seconds"][1])
            if record:
                start_up.append(facts["seconds"][0])
        for size, batch in batches.items():
            for _ in range(5):
                start = time.perf_counter()
                simulate(spec, {"in": batch})
                ours[size].append(time.perf_counter() - start)
    (traces,), facts = run_lava(python, [case])
    run = simulate(*of_case(case), record=True)
    same = all(np.array_equal(v, getattr(run, k.partition(".")[0])["p"][:, 0]) for k, v in traces.items())
    rate = run.spikes["p"].mean()
    print(f"{n} x {n}, {options.steps} steps, {rate:.3f} spikes per neuron and step; {facts['versions']}")
    print(f"Lava, spikes monitored {min(lava['with']):8.3f} s, of which starting {min(start_up):.3f} s")
    print(f"Lava, no monitor       {min(lava['without']):8.3f} s")
    for size, seconds in ours.items():
        best = min(seconds)
        monitored, bare, running = (
            size * t / best for t in (min(lava["with"]), min(lava["without"]), min(lava["with"]) - min(start_up))
        )
        print(
            f"snnir, batch of {size:2}     {best:8.3f} s: per sample {monitored:.0f} times Lava with the monitor "
            f"({running:.0f} less its start), {bare:.0f} times without"
        )
    print(f"spikes, currents and membranes the same: {'yes' if same else 'NO'}")
    return 0 if same and len(traces) == 3 else 1


if __name__ == "__main__":
    raise SystemExit(main())
