"""Random nets in Lava's floating point models: a program for the Python 3.10 that has lava-nc, needing nothing else.

    python tests/lava_float_program.py NETS.npz TRACES.npz

The first file holds `N/NAME` arrays of net N: w1, w2, du, dv, bias, vth, x (T, size); the second gets `N/s1`, `N/s2`
(spikes) and `N/v2` of both populations, (T, size).
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import numpy as np


def run(net):
    """One net: RingBuffer, Dense, LIF, Dense, LIF."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.process import Dense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF
    from lava.proc.monitor.process import Monitor

    steps = len(net["x"])
    source = RingBuffer(data=np.ascontiguousarray(net["x"].T))
    settings = {name: float(net[name]) for name in ("du", "dv", "vth")}
    first, second = (
        LIF(shape=(len(net[w]),), bias_mant=np.full(len(net[w]), float(net["bias"])), **settings) for w in ("w1", "w2")
    )
    dense = [Dense(weights=net["w1"]), Dense(weights=net["w2"])]
    source.s_out.connect(dense[0].s_in)
    dense[0].a_out.connect(first.a_in)
    first.s_out.connect(dense[1].s_in)
    dense[1].a_out.connect(second.a_in)
    monitors = {"s1": Monitor(), "s2": Monitor(), "v2": Monitor()}
    monitors["s1"].probe(first.s_out, steps)
    monitors["s2"].probe(second.s_out, steps)
    monitors["v2"].probe(second.v, steps)
    second.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="floating_pt"))
    traces = {}
    for key, monitor in monitors.items():
        (by_name,) = monitor.get_data().values()
        (values,) = by_name.values()
        traces[key] = np.asarray(values).reshape(steps, -1)
    second.stop()
    return traces


def main(nets_path, traces_path):
    """Run all nets."""
    nets = {}
    with np.load(nets_path) as file:
        for key in file.files:
            number, _, name = key.partition("/")
            nets.setdefault(number, {})[name] = file[key]
    data = {f"{n}/{name}": value for n, net in nets.items() for name, value in run(net).items()}
    np.savez_compressed(traces_path, version=version("lava-nc"), **data)


if __name__ == "__main__":
    main(*sys.argv[1:])
