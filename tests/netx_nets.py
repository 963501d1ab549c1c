"""Random networks that `.net` files can hold, and matrices at the edges of what lava-dl's loader gets right."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import h5py
import numpy as np

from snnir.simulators.loihi import Connection, Convolution, LoihiSpec, Population
from tests.lava_oracle import Array, Case, case_of

STEPS = 20


def draw(rng: np.random.Generator) -> Case:
    """Two dense layers, the first perhaps upon itself, or convolutions and a dense one; input (T, X, Y, C), (T, N)."""
    kind = rng.random()
    return _recurrent_net(rng) if kind < 0.25 else _dense_net(rng) if kind < 0.5 else _conv_net(rng)


def digest(content: bytes) -> str:
    """Of all that a file says, whatever HDF5 makes of it in bytes."""
    said = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            value = np.asarray(item[()])
            text = value.astype(int).tolist() if value.dtype.kind in "iub" else value.tolist()
            said.update(f"{name} {value.shape} {text}\n".encode())

    with h5py.File(io.BytesIO(content), "r") as file:
        said.update(str(int(file.attrs["input_message_bits"])).encode())
        file.visititems(add)
    return said.hexdigest()


def matrices(rng: np.random.Generator) -> list[Array]:
    """Of every sign, odd and even, up to the ends of the range."""
    found = [np.array([[w]]) for w in (1, 3, 127, 128, 254, 255, -1, -2, -3, -64, -127, -128, -200, -255, -256)]
    found += [np.array([[0, w]]) for w in (-1, -2, -64, -127, -128, -130, -254, -256, 255)]
    for low, high in ((-128, 127), (-127, 127), (-127, -1), (-255, -1), (0, 255), (-100, 0), (-3, 3), (-4, 63)):
        for step in (1, 2, 4):
            drawn = rng.integers(low, high + 1, (2, 3)) * step
            drawn[0, :2] = low, high
            if drawn.min() >= -256 and drawn.max() <= 254:
                found.append(drawn)
    return found


def _dense_net(rng: np.random.Generator) -> Case:
    n, m, last = (int(size) for size in rng.integers(2, 8, 3))
    delays = rng.integers(0, 4, (m, n)) if rng.random() < 0.5 else 0
    first = _dense(rng, "in", "a", n, m, delays=delays, graded=bool(rng.random() < 0.3))
    spec = LoihiSpec(
        inputs={"in": n},
        populations=(_neurons(rng, "a", (m,), 10), _neurons(rng, "b", (last,), 1)),
        connections=(first, _dense(rng, "a", "b", m, last)),
    )
    return _case(rng, spec, (n,), first.graded)


def _recurrent_net(rng: np.random.Generator) -> Case:
    n, m, last = (int(size) for size in rng.integers(3, 8, 3))
    first = _dense(rng, "in", "a", n, m, graded=bool(rng.random() < 0.3))
    spec = LoihiSpec(
        inputs={"in": n},
        populations=(_neurons(rng, "a", (m,), 10), _neurons(rng, "b", (last,), 1)),
        connections=(first, _dense(rng, "a", "a", m, m), _dense(rng, "a", "b", m, last)),
    )
    return _case(rng, spec, (n,), first.graded)


def _conv_net(rng: np.random.Generator) -> Case:
    shape = (int(rng.integers(4, 8)), int(rng.integers(4, 8)), 2)
    first = Convolution(
        source="in",
        target="a",
        weights=rng.integers(-100, 101, (4, *rng.integers(1, 4, 2), 2)),
        input_shape=shape,
        stride=rng.integers(1, 3, 2),
        padding=rng.integers(0, 2, 2),
        dilation=(1, int(rng.integers(1, 2))),
        graded=bool(rng.random() < 0.3),
    )
    groups = int(rng.integers(1, 3))
    kernel = (1, min(2, first.output_shape[1]))
    second = Convolution(
        source="a",
        target="b",
        weights=rng.integers(-100, 101, (2, *kernel, 4 // groups)),
        input_shape=first.output_shape,
        groups=groups,
    )
    size = int(np.prod(second.output_shape))
    spec = LoihiSpec(
        inputs={"in": int(np.prod(shape))},
        populations=(
            _neurons(rng, "c", (3,), 1),
            _neurons(rng, "b", second.output_shape, 1),
            _neurons(rng, "a", first.output_shape, 10),
        ),
        connections=(_dense(rng, "b", "c", size, 3), second, first),
    )
    return _case(rng, spec, shape, first.graded)


def _case(rng: np.random.Generator, spec: LoihiSpec, shape: tuple[int, ...], graded: bool) -> Case:
    events = (rng.random((STEPS, spec.inputs["in"])) < 0.5) * np.ones((), int)
    if graded:
        events *= rng.integers(-5, 6, events.shape)
    return case_of(spec, {"in": events.reshape(STEPS, *shape)})


def _neurons(rng: np.random.Generator, name: str, shape: tuple[int, ...], least: int) -> Population:
    size = int(np.prod(shape))
    per_channel = len(shape) == 3 and rng.random() < 0.5
    bias = rng.integers(-3, 9, shape[2] if per_channel else size)
    bias = np.broadcast_to(bias, shape).ravel() if per_channel else bias
    mantissa, exponent = (bias, 6) if rng.random() < 0.5 else (64 * bias, 0)
    return Population(
        name=name,
        size=size,
        vth=rng.integers(least, 120),
        du=rng.integers(300, 4096),
        dv=rng.integers(0, 1500),
        bias_mant=mantissa,
        bias_exp=exponent,
    )


def _dense(rng: np.random.Generator, source: str, target: str, n: int, m: int, **more: Any) -> Connection:
    low, high, step = [(-128, 127, 1), (-128, 127, 2), (0, 255, 1), (-7, 7, 1), (-20, 60, 4)][rng.integers(5)]
    weights = step * rng.integers(low, high + 1, (m, n))
    exact = weights.min() >= 0 or weights.max() <= 0 or not (weights % 2).any()
    if exact:
        return Connection(source=source, target=target, weights=weights, **more)
    return Connection(source=source, target=target, weights=2 * weights, weight_exp=-1, **more)
