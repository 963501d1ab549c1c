"""Runs this compiled network in Lava itself: lava-nc 0.10 in a Python 3.10, its `fixed_pt` models.

    python3.10 -m venv lava && lava/bin/pip install lava-nc==0.10.0
    lava/bin/python run.py                       # on input.npz beside this file
    lava/bin/python run.py other.npz -o out.npz  # on other input; outputs (T, B, *shape) into a file

Prints the same lines as `simulate.py`, which needs no Lava, bit for bit. Lava runs one sample at a time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def run(spec: dict[str, Any], structure: dict[str, Any], inputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The traces of all samples: trace -> population -> (T, B, n)."""
    batch = next(iter(inputs.values())).shape[1]
    samples = [run_sample(spec, structure, {name: x[:, b] for name, x in inputs.items()}) for b in range(batch)]
    return {
        trace: {name: np.stack([sample[trace][name] for sample in samples], axis=1) for name in names}
        for trace, names in samples[0].items()
    }


def run_sample(spec: dict[str, Any], structure: dict[str, Any], inputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One sample, inputs (T, size): trace -> population -> (T, n)."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer
    from lava.proc.monitor.process import Monitor

    steps = len(next(iter(inputs.values())))
    items = grouped(spec)
    ports, neurons, alive = {}, {}, []
    for name, x in inputs.items():
        source = RingBuffer(data=np.ascontiguousarray(x.T).astype(np.int32))
        ports[name] = source.s_out
        alive.append(source)
    for _, population in sorted(items["populations"].items()):
        made = neurons_of(population)
        neurons[population["name"]], ports[population["name"]] = made, made.s_out
    for i, connection in sorted(items["connections"].items()):
        made = synapses_of(connection, i in structure["sparse"])
        ports[connection["source"]].connect(made.s_in)
        made.a_out.connect(neurons[connection["target"]].a_in)
        alive.append(made)
    for _, convolution in sorted(items["convolutions"].items()):
        alive.append(convolved(convolution, ports[convolution["source"]], neurons[convolution["target"]].a_in))
    reads = {(out["trace"], name) for out in structure["outputs"] for name in out["cells"]}
    wanted = sorted({*(("spikes", name) for name in structure["spiking"]), *reads})
    monitors = {}
    for trace, name in wanted:
        monitor = Monitor()
        monitor.probe(neurons[name].s_out if trace == "spikes" else getattr(neurons[name], trace), steps)
        monitors[trace, name] = monitor
    traces: dict[str, dict[str, Any]] = {"spikes": {}, "u": {}, "v": {}}
    for name in structure["spiking"]:
        traces["spikes"][name] = None  # their order is the structure's
    while wanted:  # a run is of all that is connected, so parts of the network that are not run one after the other
        one = neurons[wanted[-1][1]]
        one.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        for trace, name in [key for key in wanted if neurons[key[1]].runtime is not None]:
            ((values,),) = (variables.values() for variables in monitors[trace, name].get_data().values())
            traces[trace][name] = np.asarray(values).reshape(steps, -1).astype(np.int64)
            wanted.remove((trace, name))
        one.stop()
    return traces


def grouped(spec: dict[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """`populations.3.vth` and the like, by group and number."""
    items: dict[str, dict[int, dict[str, Any]]] = {"populations": {}, "connections": {}, "convolutions": {}}
    for key, value in spec.items():
        group, _, rest = key.partition(".")
        index, _, name = rest.partition(".")
        if group in items:
            items[group].setdefault(int(index), {})[name] = value if value.ndim else value.item()
    return items


def neurons_of(population: dict[str, Any]) -> Any:
    """A LIF process, or LIFReset."""
    from lava.proc.lif.process import LIF, LIFReset

    names = ("du", "dv", "vth", "bias_mant", "bias_exp")
    settings = {name: population[name] for name in names}
    if not population["reset_interval"]:
        return LIF(shape=(population["size"],), **settings)
    resets = {name: population[name] for name in ("reset_interval", "reset_offset")}
    return LIFReset(shape=(population["size"],), **settings, **resets)


def synapses_of(connection: dict[str, Any], sparse: bool) -> Any:
    """Dense, Sparse, DelayDense or DelaySparse."""
    from lava.proc.dense.process import DelayDense, Dense
    from lava.proc.sparse.process import DelaySparse, Sparse
    from scipy.sparse import csr_matrix

    weights = connection["weights"].astype(int)
    settings = {
        "weight_exp": connection["weight_exp"],
        "num_weight_bits": connection["num_weight_bits"],
        "num_message_bits": 24 if connection["graded"] else 0,
    }
    if not np.any(connection["delays"]):
        return Sparse(weights=csr_matrix(weights), **settings) if sparse else Dense(weights=weights, **settings)
    delays = np.broadcast_to(connection["delays"], weights.shape).astype(int)
    if not sparse:
        return DelayDense(weights=weights, delays=delays, **settings)
    held = csr_matrix(np.where(weights != 0, delays, 0))
    return DelaySparse(weights=csr_matrix(weights), delays=held, **settings)


def convolved(convolution: dict[str, Any], source: Any, target: Any) -> Any:
    """Conv between two ports whose neurons are numbered by channel, Y and X; Lava's counts X, Y, channel.

    Phases are planes that hold some pixels of a channel each: their axes go between those of the image.
    """
    from lava.proc.conv.process import Conv

    numbers = {name: tuple(convolution[name].tolist()) for name in ("input_shape", "stride", "padding", "dilation")}
    made = Conv(
        weight=convolution["weights"].astype(int),
        groups=convolution["groups"],
        num_message_bits=24 if convolution["graded"] else 0,
        **numbers,
    )
    x, y, channels = made.output_shape
    phase_x, phase_y = convolution["phases"].tolist()
    parts = (int(x), int(y), channels // (phase_x * phase_y), phase_y, phase_x)
    source.reshape(numbers["input_shape"][::-1]).transpose((2, 1, 0)).connect(made.s_in)
    made.a_out.reshape(parts).transpose((2, 1, 3, 0, 4)).flatten().connect(target)
    return made


def main() -> None:
    """Reads input, prints what the network does, writes outputs."""
    try:
        import_module("lava.magma.core.process.process")
    except (ImportError, ValueError) as error:
        sys.exit(f"Lava does not run here ({error}): it needs Python 3.10 and lava-nc 0.10.0; simulate.py does without")
    sys.path.insert(0, str(HERE))
    try:
        host = import_module("host")
    except ModuleNotFoundError as error:
        sys.exit(f"{HERE}: needs {error.name}, which is missing")
    host.main(HERE, __doc__, run)


if __name__ == "__main__":
    main()
