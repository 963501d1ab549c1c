"""Records what Spyx gives, for tests/test_framework_records.py; run by hand in an environment of its own.

    python3.11 -m venv E; E/bin/pip install jax flax optax nir; E/bin/pip install --no-deps spyx==1.0.0
    E/bin/python tests/record_spyx.py tests/data/spyx_traces.npz

Spyx asks for grain and jax-tqdm, which its neurons never use and which a CPU-only test need not install.
"""

from __future__ import annotations

import sys
import types
from importlib.metadata import version

import numpy as np

for name in ("grain", "grain.python", "jax_tqdm"):
    module = types.ModuleType(name)
    module.__getattr__ = lambda key: type(key, (), {})
    sys.modules[name] = module
sys.modules["grain"].python = sys.modules["grain.python"]

import jax.numpy as jnp  # noqa: E402
import spyx.nn as snn  # noqa: E402
from flax import nnx  # noqa: E402


def run(layers, weights, x):
    """(T, B, n) through weights and layers in turn, as `spyx.nn.run` does; the outputs of every layer."""
    states = [layer.initial_state(x.shape[1]) for layer in layers]
    outputs = [[] for _ in layers]
    for value in x:
        for k, (layer, weight) in enumerate(zip(layers, weights, strict=True)):
            value, states[k] = layer(jnp.asarray(value) @ weight, states[k])
            outputs[k].append(np.asarray(value))
    return [np.stack(trace) for trace in outputs]


def main(path):
    """Random nets of two spiking layers and an LI, and a recurrent one; weights are multiples of 1/16."""
    rng, rngs, data = np.random.default_rng(0), nnx.Rngs(0), {}
    makers = {
        "lif": lambda p: snn.LIF((5,), beta=p["beta"], threshold=p["threshold"], rngs=rngs),
        "if": lambda p: snn.IF((5,), threshold=p["threshold"]),
        "cuba": lambda p: snn.CuBaLIF((5,), alpha=p["alpha"], beta=p["beta"], threshold=p["threshold"], rngs=rngs),
        "rlif": lambda p: snn.RLIF((5,), beta=p["beta"], threshold=p["threshold"], rngs=rngs),
    }
    for kind, make in makers.items():
        for seed in range(4):
            p = {
                "alpha": float(rng.uniform(0.3, 0.8)),
                "beta": float(rng.uniform(0.5, 0.95)),
                "threshold": float(rng.uniform(0.6, 1.4)),
            }
            w1, w2, w3, back = (rng.integers(-8, 17, shape) / 16 for shape in ((4, 5), (5, 5), (5, 3), (5, 5)))
            x = (rng.random((30, 3, 4)) < 0.5).astype(np.float32)
            first, second = make(p), make(p)
            if kind == "rlif":
                first.recurrent_w = nnx.Param(jnp.asarray(back, jnp.float32))
                second.recurrent_w = nnx.Param(jnp.asarray(back * 0, jnp.float32))
            readout = snn.LI((3,), beta=p["beta"], rngs=rngs)
            traces = run([first, second, readout], [w.astype(np.float32) for w in (w1, w2, w3)], x)
            here = {"w1": w1, "w2": w2, "w3": w3, "back": back, "x": x, **p}
            here |= dict(zip(("first", "second", "readout"), traces, strict=True))
            data |= {f"{kind}/{seed}/{name}": np.asarray(value) for name, value in here.items()}
    np.savez_compressed(path, version=version("spyx"), **data)


if __name__ == "__main__":
    main(sys.argv[1])
