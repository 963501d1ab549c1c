"""Networks run in Lava itself: a program for the Python 3.10 that has lava-nc, needing nothing else.

    python tests/lava_process.py CASES.npz TRACES.npz

The first file holds cases as `pack` writes them: `LoihiSpec.to_npz_dict()`, with `input.NAME` (T, size) for every input
and, where a connection shall be Lava's Sparse, `sparse.INDEX`. The second gets `spikes.NAME`, `u.NAME` and `v.NAME`
(T, size) of every population, after each step.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np


def pack(path, cases, **facts):
    """Write a list of dicts of integer arrays and strings as two arrays of one small `.npz`; `facts` go along."""
    index, values = [], []
    for case in cases:
        arrays = {key: np.asarray(value) for key, value in case.items()}
        index.append({k: str(a) if a.dtype.kind == "U" else list(a.shape) for k, a in arrays.items()})
        values += [a.astype(np.int32).ravel() for a in arrays.values() if a.dtype.kind != "U"]
    text = json.dumps({"index": index, "facts": facts})
    whole = np.concatenate([np.zeros(0, np.int32), *values])
    np.savez_compressed(path, index=np.frombuffer(text.encode(), np.uint8), values=whole)


def unpack(path):
    """The cases and the facts that `pack` wrote."""
    with np.load(path) as file:
        head, values = json.loads(file["index"].tobytes()), file["values"]
    cases, start = [], 0
    for entry in head["index"]:
        case = {}
        for key, shape in entry.items():
            if isinstance(shape, str):
                case[key] = np.array(shape)
                continue
            size = int(np.prod(shape))
            case[key] = values[start : start + size].reshape(shape)
            start += size
        cases.append(case)
    return cases, head["facts"]


def run(case, record=("spikes", "u", "v")):
    """One case in Lava's fixed_pt models: its traces, and the seconds between start and end of the run."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import DelayDense, Dense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF, LIFReset
    from lava.proc.monitor.process import Monitor
    from lava.proc.sparse.process import DelaySparse, Sparse
    from lava.utils.weightutils import SignMode
    from scipy.sparse import csr_matrix

    modes = {"auto": None} | {mode.name.lower(): mode for mode in SignMode}
    groups = {}
    for key, value in case.items():
        group, _, rest = key.partition(".")
        i, _, name = rest.partition(".")
        if group in ("populations", "connections", "convolutions"):
            groups.setdefault((group, int(i)), {})[name] = value if value.ndim else value.item()
    outputs, targets, processes = {}, {}, []
    for key, value in case.items():
        if key.startswith("input."):
            source = RingBuffer(data=np.ascontiguousarray(value.T))
            outputs[key[6:]] = source.s_out
            steps = len(value)
            processes.append(source)
    for (group, _), p in groups.items():
        if group != "populations":
            continue
        kind, more = LIF, {}
        if p["reset_interval"]:
            kind, more = LIFReset, {"reset_interval": p["reset_interval"], "reset_offset": p["reset_offset"]}
        names = ("vth", "du", "dv", "bias_mant", "bias_exp")
        targets[p["name"]] = kind(shape=(p["size"],), **{n: p[n] for n in names}, **more)
        outputs[p["name"]] = targets[p["name"]].s_out
        processes.append(targets[p["name"]])
    for (group, i), c in groups.items():
        if group == "convolutions":
            names = ("weights", "input_shape", "stride", "padding", "dilation")
            weight, *numbers = (c[n].astype(int) for n in names)
            shape, stride, padding, dilation = (tuple(n.tolist()) for n in numbers)
            conv = Conv(
                weight=weight,
                input_shape=shape,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=c["groups"],
                num_message_bits=24 if c["graded"] else 0,
            )
            if str(c.get("layout", "xyc")) == "xyc":
                outputs[c["source"]].reshape(shape).connect(conv.s_in)
                conv.a_out.flatten().connect(targets[c["target"]].a_in)
                continue
            x, y, channels = (int(n) for n in conv.output_shape)
            phase_x, phase_y = c["phases"].tolist()
            parts = (x, y, channels // (phase_x * phase_y), phase_y, phase_x)
            outputs[c["source"]].reshape(shape[::-1]).transpose((2, 1, 0)).connect(conv.s_in)
            conv.a_out.reshape(parts).transpose((2, 1, 3, 0, 4)).flatten().connect(targets[c["target"]].a_in)
        if group != "connections":
            continue
        sparse, delayed = f"sparse.{i}" in case, bool(np.any(c["delays"]))
        kind = {(0, 0): Dense, (0, 1): DelayDense, (1, 0): Sparse, (1, 1): DelaySparse}[sparse, delayed]
        form = csr_matrix if sparse else np.asarray
        more = {"sign_mode": modes[c["sign_mode"]]} if modes[c["sign_mode"]] else {}
        if delayed:
            delays = np.broadcast_to(c["delays"], c["weights"].shape).astype(int)
            more["delays"] = form(np.where(c["weights"] != 0, delays, 0)) if sparse else delays
        connection = kind(
            weights=form(c["weights"].astype(int)),
            weight_exp=c["weight_exp"],
            num_weight_bits=c["num_weight_bits"],
            num_message_bits=24 if c["graded"] else 0,
            **more,
        )
        outputs[c["source"]].connect(connection.s_in)
        connection.a_out.connect(targets[c["target"]].a_in)
    monitors = {}
    for name, process in targets.items():
        for trace in record:
            monitor = Monitor()
            monitor.probe(process.s_out if trace == "spikes" else getattr(process, trace), steps)
            monitors[f"{trace}.{name}"] = monitor
    traces, seconds = dict.fromkeys(monitors), 0.0
    for process in reversed(list(targets.values())):  # a run is of all that is connected, and parts may not be
        if process.runtime is not None:
            continue
        start = time.perf_counter()
        process.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        seconds += time.perf_counter() - start
        for key, monitor in monitors.items():
            if traces[key] is None and targets[key.partition(".")[2]].runtime is not None:
                (by_name,) = monitor.get_data().values()
                (values,) = by_name.values()
                traces[key] = np.asarray(values).reshape(steps, -1)
        process.stop()
    return traces, seconds


def main(cases_path, traces_path):
    """Run all cases; facts: versions, and the seconds that each run took."""
    cases, facts = unpack(cases_path)
    results = [run(case, facts["record"]) for case in cases]
    versions = {name: version(name) for name in ("lava-nc", "numpy")} | {"python": sys.version.split()[0]}
    pack(traces_path, [traces for traces, _ in results], versions=versions, seconds=[seconds for _, seconds in results])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
