"""Loihi networks as `.net` files, the HDF5 that lava-dl's netx (0.6) loads: what that format can say, exactly.

It is a chain: one input, then layers, each a dense connection or a convolution and the neurons behind it. Layout, from
lava-dl's loader (`lava/lib/dl/netx/hdf5.py`, `utils.py`; BSD-3):

    /layer/0  type "input", shape
    /layer/i  type "dense": shape (N), inFeatures, outFeatures, weight (out, in) [, bias (N), delay (out, in)], neuron
              type "dense_rec": the same with weight_rec (N, N), from the layer upon itself, and without delays
              type "conv": shape (C, Y, X), inChannels, outChannels, kernelSize, stride, padding, dilation, each (y, x),
                    groups, weight (out, in / groups, y, x) as PyTorch's [, bias (C) or (X, Y, C)], neuron
              type "flatten": between a convolution and a dense layer, whose columns then count channel, y, x
    neuron    type "CUBA", iDecay = du + 1, vDecay = dv, vThMant = vth; biases are times 2^6

Weights have no exponent there. The loader chooses Lava's `weight_exp` and `num_weight_bits` itself (`_as_loaded`); for
some matrices what it chooses is not what the file says, and those are refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.ops import Array
from snnir.simulators.loihi import Connection, Convolution, LoihiSpec, Population, effective_weights

BIAS_EXP = 6
MAX_DELAY = 62
MAX_BIAS = 4095

Synapses = Connection | Convolution


@dataclass(frozen=True, eq=False)
class _Layer:
    """What goes into a population, and it. `synapses` of one or, if dense, several connections, which add up.

    `back`: from the population upon itself.
    """

    population: Population
    synapses: tuple[Synapses, ...]
    back: tuple[Synapses, ...] = ()

    @property
    def convolution(self) -> Convolution | None:
        (first, *_) = self.synapses
        return first if isinstance(first, Convolution) else None


def netx(spec: LoihiSpec) -> bytes:
    """The content of a `.net` file.

    A graded first connection has to be told to the loader: `Network(..., input_message_bits=24)`; the file's attribute
    of that name says so.

    Raises:
        CompileError: everything in `spec` that the format cannot say.
    """
    import h5py

    problems = list(unsayable(spec))
    if problems:
        raise CompileError(problems, title="netx files cannot hold this network")
    layers = _chain(spec)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        first = layers[0]
        file.attrs["input_message_bits"] = 24 if first.synapses[0].graded else 0
        shape = first.convolution.input_shape if first.convolution else tuple(spec.inputs.values())
        entries = [{"type": _text("input"), "shape": np.array(shape[::-1])}]
        for before, layer in zip((None, *layers), layers, strict=False):
            flat = before.convolution if before and not layer.convolution else None
            if flat:
                entries.append({"type": _text("flatten")})
            entries.append(_conv(layer) if layer.convolution else _dense(layer, flat))
        for i, entry in enumerate(entries):
            for name, value in entry.items():
                file[f"layer/{i}/{name}"] = value
    return buffer.getvalue()


def unsayable(spec: LoihiSpec) -> Iterator[Violation]:
    """All that the format cannot say of a network, and why."""
    if len(spec.inputs) != 1:
        yield _no(f"has {len(spec.inputs)} inputs", "", "one input")
    expected: str | None = next(iter(spec.inputs), None)
    if len({c.layout for c in spec.connections if isinstance(c, Convolution)}) > 1:
        yield _no("has convolutions whose neurons are numbered in different orders", "", "one layout")
    shape: tuple[int, ...] | None = None
    broken = [complaint for _, complaint in _walk(spec) if complaint]
    yield from broken
    if broken:
        return
    for layer in _chain(spec):
        name = layer.population.name
        yield from _unsayable_neurons(layer.population)
        convolution = layer.convolution
        if convolution is None:
            yield from _unsayable_weights(layer)
            shape = (layer.population.size,)
        else:
            if shape is not None and shape != convolution.input_shape:
                what = f"its convolution reads {convolution.input_shape}, but {expected} has shape {shape}"
                yield _no(what, name, "a convolution first, or of the same shape as the one before")
            if convolution.phases != (1, 1):
                what = f"its convolution upsamples ({convolution.phases[0]} x {convolution.phases[1]} pixels)"
                yield _no(what, name, "a plain convolution")
            if convolution.weights.min() < -256 or convolution.weights.max() > 255:
                yield _no("weights of its convolution are beyond 8 bits and a sign", name, "-256..255")
            shape = convolution.output_shape
        expected = name


def _walk(spec: LoihiSpec) -> Iterator[tuple[_Layer | None, Violation | None]]:
    """The chain from the input on, layer by layer; or what makes it none."""
    into = {p.name: [c for c in spec.connections if c.target == p.name] for p in spec.populations}
    place, left = next(iter(spec.inputs), ""), {p.name: p for p in spec.populations}
    back = {name: [c for c in group if c.source == name] for name, group in into.items()}
    into = {name: [c for c in group if c.source != name] for name, group in into.items()}
    for name, group in into.items():
        if not group:
            yield None, _no("nothing reaches it", name, "a chain that begins at the input")
        elif len({c.source for c in group}) > 1:
            sources = ", ".join(sorted({c.source for c in group}))
            yield None, _no(f"is reached from {sources}", name, "layers behind one another, at most upon themselves")
        elif back[name] and not all(isinstance(c, Connection) and not c.delays.any() for c in (*group, *back[name])):
            what = "acts upon itself, and there are convolutions or delays"
            yield None, _no(what, name, "dense connections without delays where a layer acts upon itself")
        elif len(group) > 1 and any(isinstance(c, Convolution) for c in group):
            yield None, _no(f"is reached by {len(group)} connections, not all dense", name, "one convolution")
        elif len({(c.graded, *np.shape(c.delays)) for c in group if isinstance(c, Connection)}) > 1:
            yield None, _no("is reached by connections some of which are graded or delayed", name, "all alike")
    while left:
        following = [name for name in left if any(c.source == place for c in into[name])]
        if len(following) != 1:
            what = f"is followed by {', '.join(following) or 'nothing'}, with {', '.join(left)} left"
            yield None, _no(what, place, "one layer behind another")
            return
        place = following[0]
        yield _Layer(left.pop(place), tuple(into[place]), tuple(back[place])), None


def _chain(spec: LoihiSpec) -> list[_Layer]:
    return [layer for layer, _ in _walk(spec) if layer is not None]


def _unsayable_neurons(population: Population) -> Iterator[Violation]:
    name = population.name
    for what in ("vth", "du", "dv"):
        if len(np.unique(getattr(population, what))) > 1:
            yield _no(f"its neurons differ in {what}", name, "one value per layer")
    if population.reset_interval:
        what = f"is reset (interval {population.reset_interval}, offset {population.reset_offset})"
        yield _no(what, name, "no resets: netx is given one interval for all layers when it loads")
    bias = _bias(population)
    if (bias % (1 << BIAS_EXP)).any():
        yield _no("biases are no multiples of 64", name, f"a mantissa times 2^{BIAS_EXP}")
    elif (np.abs(bias) >> BIAS_EXP).max() > MAX_BIAS:
        yield _no(f"a bias is {int(np.abs(bias).max())}", name, f"at most {MAX_BIAS << BIAS_EXP}")


def _unsayable_weights(layer: _Layer) -> Iterator[Violation]:
    name = layer.population.name
    parts = [_acting(c) for c in (*layer.synapses, *layer.back) if isinstance(c, Connection)]
    if any(np.any(part != np.rint(part)) for part in parts):
        yield _no("weights with their exponent are no whole numbers", name, "integers, as there are no exponents")
        return
    delays = layer.synapses[0]
    if isinstance(delays, Connection) and any(np.any(c.delays != delays.delays) for c in _dense_ones(layer)):
        yield _no("connections that would add up have different delays", name, "one delay per synapse")
    if any(c.delays.max() > MAX_DELAY for c in _dense_ones(layer)):
        yield _no(f"a delay is beyond {MAX_DELAY}", name, f"0..{MAX_DELAY}: netx cuts them off")
    own, back = _weights(layer.synapses), _weights(layer.back)
    weights = np.hstack([own, back]) if layer.back else own
    if not weights.any():
        yield _no("all its weights are 0", name, "one other than 0, or netx divides by zero")
    elif weights.min() < -256 or weights.max() > 255 or (weights.max() > 254 and weights.min() < 0):
        what = f"weights with their exponent span {weights.min()}..{weights.max()}"
        yield _no(what, name, "-256..254, or 0..255")
    elif not np.array_equal(loaded := _as_loaded(weights, own.shape[1]), weights):
        row, column = np.argwhere(loaded != weights)[0]
        what = f"netx would load other weights: {weights[row, column]} would act as {loaded[row, column]}"
        yield _no(what, name, "weights that it keeps; it loses powers of two where all are negative")


def _as_loaded(weights: Array, columns: int | None = None) -> Array:
    """What netx makes of a matrix, as it acts: shifted up as far as it fits, then truncated by Lava, and shifted back.

    `optimize_weight_bits` of lava-dl 0.6 takes matrices whose largest weight is 0 for mixed, which Lava then takes for
    inhibitory, and fits inhibitory ones to 256, where Lava cuts them off at 255. Weights from a layer upon itself are
    shifted together with the others, the first `columns`, and truncated alone.
    """
    low, high = int(weights.min()), int(weights.max())
    mixed = low < 0 <= high
    if mixed:
        scale = min(127 / high if high else np.inf, 128 / -low)
    else:
        scale = 256 / -low if high < 0 else 255 / high
    up = int(np.floor(np.log2(scale))) + mixed
    zeros = next((n for n in range(8, 0, -1) if not (weights % (1 << n)).any()), 0)
    bits = 8 - up - (zeros - mixed)
    parts = np.split(weights, [weights.shape[1] if columns is None else columns], axis=1)
    return np.hstack([_truncated(part, up, bits) for part in parts])


def _truncated(part: Array, up: int, bits: int) -> Array:
    """A matrix as Lava's Dense acts with `bits` of weights, shifted `up`."""
    if not part.size:
        return part
    low, high = int(part.min()), int(part.max())
    sign = 1 if high > 0 else -1
    cut = 8 - bits + (low < 0 < high)
    if up < 0 or cut < 0:
        return np.zeros_like(part)  # shifts by less than nothing, of which anything may come
    limited = np.clip(sign * part << up, -256 if low < 0 < high else 0, 255)
    return (sign * ((limited >> cut) << cut)) >> up


def _dense(layer: _Layer, flat: Convolution | None) -> dict[str, Any]:
    weights = _weights(layer.synapses)
    delays = np.broadcast_to(_dense_ones(layer)[0].delays, weights.shape)
    if flat is not None and flat.layout == "xyc":  # columns count x, y, channel here, and channel, y, x there
        order = np.arange(weights.shape[1]).reshape(flat.output_shape).transpose(2, 1, 0).ravel()
        weights, delays = weights[:, order], delays[:, order]
    out, features = weights.shape
    return {
        "type": _text("dense_rec" if layer.back else "dense"),
        "shape": np.array([out]),
        "inFeatures": features,
        "outFeatures": out,
        "weight": weights,
        **({"weight_rec": _weights(layer.back)} if layer.back else {}),
        **({"delay": delays} if delays.any() else {}),
        **_neurons(layer.population, _bias(layer.population) >> BIAS_EXP),
    }


def _conv(layer: _Layer) -> dict[str, Any]:
    c = layer.convolution
    if c is None:
        raise ValueError("no convolution")
    bias = _bias(layer.population) >> BIAS_EXP
    if c.layout == "xyc":
        bias = bias.reshape(c.output_shape)
    else:
        bias = bias.reshape(c.output_shape[::-1]).transpose(2, 1, 0)
    alike = (bias == bias[:1, :1]).all()
    return {
        "type": _text("conv"),
        "shape": np.array(c.output_shape[::-1]),
        "inChannels": c.input_shape[2],
        "outChannels": c.output_shape[2],
        "kernelSize": np.array(c.weights.shape[2:0:-1]),
        "stride": np.array(c.stride[::-1]),
        "padding": np.array(c.padding[::-1]),
        "dilation": np.array(c.dilation[::-1]),
        "groups": c.groups,
        "weight": c.weights.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1],
        **_neurons(layer.population, bias[0, 0] if alike else bias),
    }


def _neurons(population: Population, bias: Array) -> dict[str, Any]:
    return {
        **({"bias": bias} if bias.any() else {}),
        "neuron/type": _text("CUBA"),
        "neuron/iDecay": int(np.max(population.du)) + 1,
        "neuron/vDecay": int(np.max(population.dv)),
        "neuron/vThMant": int(np.max(population.vth)),
        "neuron/refDelay": 1,
        "neuron/gradedSpike": False,
    }


def _bias(population: Population) -> Array:
    """What is added to the membrane in every step, (size,)."""
    return np.broadcast_to(population.bias_mant.astype(np.int64) << population.bias_exp, population.size)


def _dense_ones(layer: _Layer) -> list[Connection]:
    return [c for c in layer.synapses if isinstance(c, Connection)]


def _acting(connection: Connection) -> Array:
    """The weights with their exponent, float."""
    return np.ldexp(effective_weights(connection).astype(np.float64), connection.weight_exp)


def _weights(synapses: tuple[Synapses, ...]) -> Array:
    """The matrix (out, in), int64, of all that adds up."""
    found: Array = np.sum([_acting(c) for c in synapses if isinstance(c, Connection)], axis=0)
    return np.asarray(found).astype(np.int64)


def _text(name: str) -> Array:
    return np.array([name.encode()], "S10")


def _no(what: str, where: str, expected: str) -> Violation:
    return Violation("netx", what, where, expected=expected)
