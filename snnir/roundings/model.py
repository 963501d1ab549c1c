"""What an artifact offers for its integers to be explained: itself in floats, and a list of its roundings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from snnir.ops import Array

_SAME = 1e-12  # relative: two spellings of one real number; of 24 bits still far less than a unit


@dataclass(frozen=True)
class Rounding:
    """One thing that a chip's integers do to a network.

    Attributes:
        name: 'weights', 'thresholds', 'decay-membrane', ...; the list is in docs/validate.md and only ever grows.
        says: what it is on this chip and how large it is in this network, in words.
        exact: nothing changes at all: every number of this kind can be written as it is.
    """

    name: str
    says: str
    exact: bool = False


class FloatModel(Protocol):
    """A compiled network in floats, as it was laid out on the chip, with any of its roundings put in."""

    @property
    def roundings(self) -> tuple[Rounding, ...]:
        """All that can be put in, by name."""

    @property
    def calibration(self) -> str:
        """The name of the rounding that only makes up for others, or ''."""

    @property
    def layout(self) -> str:
        """What the chip's form changes before anything is rounded, in words; '' for nothing that is known."""

    @property
    def work(self) -> int:
        """What one step of one sample costs, in multiplications: synapses, and 20 per neuron."""

    def run(self, inputs: Mapping[str, Array], on: frozenset[str]) -> dict[str, Array]:
        """Populations and outputs (T, B, *shape) by name, in the chip's own time, with the named roundings put in.

        Args:
            inputs: input name -> (T, B, *shape), as for the artifact's own `run`.
            on: names of roundings.
        """


def near(rounded: Array, exact: Array) -> Array:
    """What was rounded, and the very number where it was not: so that what is exact stays exact to the last bit."""
    rounded, exact = np.asarray(rounded, np.float64), np.asarray(exact, np.float64)
    return np.where(np.abs(rounded - exact) <= _SAME * np.abs(exact), exact, rounded)


def percent(share: float) -> str:
    """A share for people: two digits, and never 0 for what is not."""
    return f"{100 * share:.2g} %" if share > 1e-5 else "0 %" if share == 0 else "less than 0.001 %"


def span(values: Iterable[Array | float]) -> str:
    """The least and the largest of all values, for people."""
    every = [np.ravel(v) for v in values]
    if not any(v.size for v in every):
        return "0"
    low, high = (_short(float(f([f(v) for v in every if v.size]))) for f in (np.min, np.max))
    return low if low == high else f"{low} to {high}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
