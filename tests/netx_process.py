"""`.net` files run by lava-dl's own loader in Lava: for a Python 3.10 with lava-nc, lava-dl 0.6 (--no-deps) and h5py.

    python tests/netx_process.py FOLDER

For every FOLDER/*.net there is an input, *.npy (T, X, Y, C) or (T, N); the last layer's spikes go to *.spikes.npy. What
acts of the matrices in FOLDER/weights.npz goes to *.loaded.npy. PyTorch, which lava-dl imports and its loader does not
use, is stood in for.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from lava_process import unpack


def stand_in():
    sys.modules["torch"] = MagicMock()
    for name in ("lava.lib.dl.slayer", "lava.lib.dl.slayer.neuron", "lava.lib.dl.slayer.neuron.rf"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["lava.lib.dl.slayer.neuron.rf"].neuron_params = None


def run(path, values):
    from lava.lib.dl.netx import hdf5
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer

    with h5py.File(path, "r") as file:
        bits = int(file.attrs["input_message_bits"])
    net = hdf5.Network(net_config=str(path), input_message_bits=bits)
    source = RingBuffer(data=np.ascontiguousarray(np.moveaxis(values, 0, -1)))
    sink = Sink(shape=net.out.shape, buffer=len(values))
    source.s_out.connect(net.inp)
    net.out.connect(sink.a_in)
    net.run(condition=RunSteps(num_steps=len(values)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    spikes = np.moveaxis(sink.data.get(), -1, 0)
    net.stop()
    return spikes.reshape(len(values), -1)


def loaded(weights):
    """As `create_dense` hands them to Lava, and `PyDenseModelBitAcc` makes of that."""
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    shifted, bits, exponent, _ = optimize_weight_bits(weights)
    mode = determine_sign_mode(shifted)
    return truncate_weights(clip_weights(shifted, mode, num_bits=8), mode, bits) >> -exponent


def main(folder):
    stand_in()
    for i, case in enumerate(unpack(folder / "weights.npz")[0]):
        np.save(folder / f"{i:03}.loaded.npy", loaded(case["given"]))
    for path in sorted(folder.glob("*.net")):
        np.save(path.with_suffix(".spikes.npy"), run(path, np.load(path.with_suffix(".npy"))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
