"""What comes in: spikes as they are, or numbers that the host turns into graded spikes (integers of some bits)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snnir.errors import UsageError
from snnir.graph import Graph
from snnir.ops import Array, Shape
from snnir.stimuli import described, stimuli

BITS = 12
CONV_BITS = 10  # through Lava's Conv: with more, the low part's weights round to nothing
NOISE_RANGE = 5.0  # of what a denoising network is shown: normal noise, and images within -1..1
_EXAMPLE_STEPS = 60
_EXAMPLE_BATCH = 4
_LARGEST = 2**23  # of integers that Lava's graded spikes hold (24 bits and a sign)


@dataclass(frozen=True)
class Code:
    """How one input becomes integers: x * scale, rounded and cut to -peak..peak; for spikes 0 or 1, nothing else.

    Attributes:
        name, shape: of the input. graded: whether numbers go in.
        base: with one above 0, integers go in as two, base * high + low, for Lava's Conv, whose weights have no
            exponents: those of large integers would be rounded to nothing.
        low: what the low part is called on the chip.
    """

    name: str
    shape: Shape
    graded: bool = False
    scale: float = 1.0
    peak: int = 1
    base: int = 0
    low: str = ""

    def in_two(self, mark: str) -> Code:
        """The same, in two parts of as many bits each, if it has more bits than weights do.

        `mark` stands in the low part's name behind the input's.
        """
        bits = int(self.peak).bit_length() + 1
        return replace(self, base=1 << (bits // 2), low=f"{self.name}{mark}low") if self.graded and bits > 8 else self

    @property
    def parts(self) -> dict[str, tuple[float, int]]:
        """What goes in: name on the chip -> what 1 of it means, in the input's own units, and its largest magnitude."""
        if not self.base:
            return {self.name: (1.0 / self.scale if self.graded else 1.0, self.peak)}
        high = (self.peak + self.base // 2) // self.base
        return {self.name: (self.base / self.scale, high), self.low: (1.0 / self.scale, self.base // 2)}

    def to_json(self) -> dict[str, Any]:
        """As `network.npz` has it, where `host.py` reads it."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "graded": self.graded,
            "scale": self.scale,
            "peak": self.peak,
            **({"base": self.base, "low": self.low} if self.base else {}),
        }


def codes(
    graph: Graph, recorded: Mapping[str, Array] | None, bits: int = BITS, input_range: float | None = None
) -> dict[str, Code]:
    """The code of every input.

    Numbers go in where recorded input holds any, where the graph says that counts come, where it is a denoising
    network, or where the user gives their range. Whole numbers go in as they are.

    Args:
        graph: the network. recorded: by input name, (T, B, *shape).
        bits: of the integers, sign included. input_range: the largest magnitude of numbers.

    Raises:
        UsageError: bits outside 2..24, or a range that is not positive.
    """
    if not isinstance(bits, int) or not 2 <= bits <= 24:
        raise UsageError(f"input_bits is {bits}, expected a whole number from 2 to 24")
    if input_range is not None and not (isinstance(input_range, (int, float)) and input_range > 0):
        raise UsageError(f"input_range is {input_range}, expected a positive number")
    return {name: _code(graph, name, recorded, bits, input_range) for name in graph.inputs}


def _code(graph: Graph, name: str, recorded: Mapping[str, Array] | None, bits: int, input_range: float | None) -> Code:
    shape = graph.shapes[name]
    known = _ranges(graph).get(name)
    peak = 2 ** (bits - 1) - 1
    if input_range is None and known is None:
        shown = recorded[name] if recorded is not None else stimuli(graph, 8, 4)[name] if described(graph) else None
        if shown is None or np.isin(shown, (0, 1)).all():
            return Code(name, shape)
        largest = float(np.abs(shown).max())
        most = graph.metadata.get("inputs", {}).get(name, {}).get("most", largest)
        if (shown == np.rint(shown)).all() and max(largest, most) < _LARGEST:
            return Code(name, shape, True, 1.0, int(max(largest, most)))
        input_range = largest
    limit = float(input_range if input_range is not None else known or 1.0)
    return Code(name, shape, True, peak / limit, peak)


def _ranges(graph: Graph) -> dict[str, float]:
    """The numbers that a denoising network is shown."""
    fields = graph.metadata.get("diffusion", {})
    if "host" in fields or not {"input", "time"} <= set(fields):
        return {}
    return {fields["input"]: NOISE_RANGE, fields["time"]: 1.0}


def example(graph: Graph, recorded: Mapping[str, Array] | None, found: Mapping[str, Code]) -> dict[str, Array]:
    """Input to measure with, (T, B, *shape) by name: recorded, or noise for a denoising network, or spikes."""
    if recorded is not None:
        return {name: np.asarray(x[:, :_EXAMPLE_BATCH], np.float64) for name, x in recorded.items()}
    if _ranges(graph):
        return _denoising(graph)
    made = stimuli(graph, None if described(graph) else _EXAMPLE_STEPS, _EXAMPLE_BATCH)
    rng = np.random.default_rng(0)
    for name, code in found.items():
        if code.graded and code.scale != 1.0:
            made[name] = np.clip(rng.normal(0, 1 / 3, made[name].shape), -1, 1) * code.peak / code.scale
    return made


def _denoising(graph: Graph) -> dict[str, Array]:
    """Noise at several times, and of all labels in turn, one denoising call."""
    from snnir.diffusion.labels import one_hot
    from snnir.diffusion.spec import spec_of

    spec = spec_of(graph)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, _EXAMPLE_BATCH, *spec.currents))
    t = np.linspace(0, spec.timesteps - 1, _EXAMPLE_BATCH + 2)[1:-1]
    values = {spec.input: x, spec.time: spec.embed(t)}
    if spec.classes:
        dealt = [*range(spec.classes), None]
        values[spec.label] = one_hot([dealt[i % len(dealt)] for i in range(_EXAMPLE_BATCH)], spec.classes)
    return {n: np.repeat(values[n].reshape(1, _EXAMPLE_BATCH, *graph.shapes[n]), spec.steps, 0) for n in graph.inputs}
