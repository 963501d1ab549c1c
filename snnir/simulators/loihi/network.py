"""A network for Loihi: populations of LIF neurons, and what connects them, in the integers that Lava takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from snnir.simulators.loihi.convolution import Convolution
from snnir.simulators.loihi.ranges import INT32, MAX_DELAY, MAX_THRESHOLD, SIGN_MODES, UNITY, Array, integers, out_of

_POPULATION = {  # allowed values
    "vth": (0, MAX_THRESHOLD),
    "du": (-1, UNITY - 1),
    "dv": (0, UNITY),
    "bias_mant": (-UNITY, UNITY - 1),
    "bias_exp": (0, 7),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """`size` LIF neurons (CUBA) under Lava's own parameter names; each a scalar or one value per neuron, integers.

    `vth` 0..131071, `du` -1..4095, `dv` 0..4096, `bias_mant` -4096..4095, `bias_exp` 0..7. The current keeps
    (4095 - du)/4096 per step and the membrane (4096 - dv)/4096; du = -1 and dv = 4096 are one beyond the chip's 12
    bits, and Lava takes them. With a `reset_interval` above 0 (`LIFReset`), u and v are zeroed before the update in
    every step t, counted from 1, with t % reset_interval == reset_offset % reset_interval.
    """

    name: str
    size: int
    vth: Any
    du: Any = 0
    dv: Any = 0
    bias_mant: Any = 0
    bias_exp: Any = 0
    reset_interval: int = 0
    reset_offset: int = 0

    def __post_init__(self) -> None:
        for name in _POPULATION:
            object.__setattr__(self, name, integers(getattr(self, name)))

    def problems(self) -> Iterator[str]:
        """What does not fit, one message each."""
        if self.size < 1:
            yield f"population {self.name!r} has size {self.size}, expected at least 1"
        if self.reset_interval < 0:
            yield f"population {self.name!r}: reset_interval is {self.reset_interval}, expected 0 (never) or more"
        for name, bounds in _POPULATION.items():
            values = getattr(self, name)
            if values.shape not in ((), (self.size,)):
                yield f"population {self.name!r}: {name} has shape {values.shape}, expected () or ({self.size},)"
            yield from out_of(values, *bounds, f"population {self.name!r}: {name}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Connection:
    """Synapses from an input or a population to a population: Lava's Dense, Sparse, or with delays DelayDense.

    `weights` (n_target, n_source): integers; `effective_weights` gives what acts. `delays`, in steps beyond the one
    that every connection takes: a scalar or one per synapse, 0..63. `sign_mode` "auto" is Lava's own choice: from the
    weights' signs. `graded` multiplies by the value that arrives; otherwise anything but 0 is one spike.
    """

    source: str
    target: str
    weights: Array
    weight_exp: int = 0
    num_weight_bits: int = 8
    sign_mode: str = "auto"
    delays: Any = 0
    graded: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", integers(self.weights))
        object.__setattr__(self, "delays", integers(self.delays))

    def problems(self, sizes: Mapping[str, int], targets: set[str]) -> Iterator[str]:
        """What does not fit, one message each; `sizes` of all inputs and populations, `targets` the populations."""
        where = f"connection {self.source!r} -> {self.target!r}"
        if self.source not in sizes:
            yield f"{where}: there is no input or population {self.source!r}"
        if self.target not in targets:
            yield f"{where}: there is no population {self.target!r}"
        if self.source in sizes and self.target in targets:
            expected = (sizes[self.target], sizes[self.source])
            if self.weights.shape != expected:
                yield f"{where}: weights have shape {self.weights.shape}, expected {expected}"
        if self.delays.shape not in ((), self.weights.shape):
            yield f"{where}: delays have shape {self.delays.shape}, expected () or {self.weights.shape}"
        yield from out_of(self.weights, *INT32, f"{where}: weights")
        yield from out_of(self.delays, 0, MAX_DELAY, f"{where}: delays")
        if self.weight_exp not in range(-8, 8):
            yield f"{where}: weight_exp is {self.weight_exp}, allowed -8..7"
        if self.num_weight_bits not in range(1, 9):
            yield f"{where}: num_weight_bits is {self.num_weight_bits}, allowed 1..8"
        if self.sign_mode not in SIGN_MODES:
            yield f"{where}: sign_mode is {self.sign_mode!r}, expected one of {', '.join(SIGN_MODES)}"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoihiSpec:
    """A network for Loihi: `inputs` (name to size), populations, and the connections between them.

    Several connections into one population sum. Raises ValueError, with every problem listed, if a name, a shape or a
    range does not fit.
    """

    inputs: Mapping[str, int]
    populations: tuple[Population, ...]
    connections: tuple[Connection | Convolution, ...]

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError("not a Loihi network: " + "; ".join(problems))

    def _problems(self) -> Iterator[str]:
        names = [*self.inputs, *(p.name for p in self.populations)]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"the name {name!r} is used more than once"
        for name, size in self.inputs.items():
            if size < 1:
                yield f"input {name!r} has size {size}, expected at least 1"
        for population in self.populations:
            yield from population.problems()
        for connection in self.connections:
            yield from connection.problems(self.sizes, {p.name for p in self.populations})

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every input and population."""
        return dict(self.inputs) | {p.name: p.size for p in self.populations}

    def to_npz_dict(self) -> dict[str, Array]:
        """Plain arrays for `numpy.savez`, readable with `allow_pickle=False`; keys like `populations.0.vth`."""
        arrays = {f"inputs.{name}": np.array(size) for name, size in self.inputs.items()}
        items: list[tuple[str, Population | Connection | Convolution]] = [
            *((f"populations.{i}", population) for i, population in enumerate(self.populations)),
            *((f"{_group(c)}.{i}", c) for i, c in enumerate(self.connections)),
        ]
        for key, item in items:
            arrays |= {f"{key}.{f.name}": np.asarray(getattr(item, f.name)) for f in fields(item)}
        return arrays

    @classmethod
    def from_npz_dict(cls, arrays: Mapping[str, Array]) -> LoihiSpec:
        """The inverse of `to_npz_dict`; takes a loaded `.npz` as it is.

        Raises ValueError if a key is unknown or missing.
        """
        inputs: dict[str, int] = {}
        items: dict[tuple[int, str], dict[str, Any]] = {}
        for key in arrays:
            group, _, rest = key.partition(".")
            index, _, name = rest.partition(".")
            value: Any = np.asarray(arrays[key])
            if group == "inputs":
                inputs[rest] = int(value)
            elif group in _KINDS and index.isdecimal() and name:
                items.setdefault((int(index), group), {})[name] = value if value.ndim else value.item()
            else:
                raise ValueError(f"not a Loihi network: unknown key {key!r}")
        try:
            made = {key: _KINDS[key[1]](**items[key]) for key in sorted(items)}
        except TypeError as error:
            raise ValueError(f"not a Loihi network: {error}") from error
        return cls(
            inputs=inputs,
            populations=tuple(each for key, each in made.items() if key[1] == "populations"),
            connections=tuple(each for key, each in made.items() if key[1] != "populations"),
        )


# The keys' first parts in a .npz; convolutions are numbered together with the other connections.
_KINDS: dict[str, Callable[..., Any]] = {
    "populations": Population,
    "connections": Connection,
    "convolutions": Convolution,
}


def _group(connection: Connection | Convolution) -> str:
    return "convolutions" if isinstance(connection, Convolution) else "connections"
