"""Random networks with convolutions, for Loihi."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.simulators.loihi import CURRENT_LIMIT, Connection, Convolution, LoihiRun, LoihiSpec, Population
from tests.lava_oracle import Array, Case, case_of

Inputs = dict[str, Array]
STEPS = 16


@dataclass(frozen=True)
class ConvRegime:
    """input -> convolution -> population [-> convolution, or itself] -> dense -> population, and a dense way around."""

    shown: Callable[[LoihiSpec, LoihiRun, Inputs], Any]
    weight: int = 100
    channels: int = 4
    grouped: bool = False
    deep: bool = False
    recurrent: bool = False
    graded: int = 0
    vth: tuple[int, int] = (50, 800)
    rate: float = 0.4

    def draw(self, rng: np.random.Generator) -> Case:
        shape = (int(rng.integers(2, 7)), int(rng.integers(2, 7)), int(rng.integers(1, self.channels + 1)))
        chain, sources = [self._convolution(rng, "in", "p0", shape)], ["p0"]
        if self.deep:
            chain.append(self._convolution(rng, "p0", "p1", chain[0].output_shape))
            sources.append("p1")
        connections: list[Connection | Convolution] = [*chain]
        sizes = {"in": int(np.prod(shape))} | {c.target: int(np.prod(c.output_shape)) for c in chain}
        if self.recurrent:
            connections.append(self._upon_itself(rng, chain[0].output_shape))
        sizes["last"] = int(rng.integers(1, 5))
        connections += [
            self._dense(rng, sources[-1], "last", sizes),
            self._dense(rng, "in", "p0", sizes),  # adds to what the convolution gives
        ]
        populations = tuple(
            Population(
                name=name,
                size=size,
                vth=rng.integers(*self.vth) if name == "p0" else rng.integers(5, 100),
                du=rng.integers(500, 4096),
                dv=rng.integers(0, 1500),
                bias_mant=rng.integers(-200, 400, size),
            )
            for name, size in sizes.items()
            if name != "in"
        )
        spec = LoihiSpec(inputs={"in": sizes["in"]}, populations=populations, connections=tuple(connections))
        events = (rng.random((STEPS, sizes["in"])) < self.rate) * np.ones((), int)
        if self.graded:
            events *= rng.integers(-self.graded, self.graded + 1, events.shape)
        return case_of(spec, {"in": events})

    def _convolution(
        self, rng: np.random.Generator, source: str, target: str, shape: tuple[int, int, int]
    ) -> Convolution:
        kernel, stride, padding, dilation = (rng.integers(*ends, 2) for ends in ((1, 4), (1, 4), (0, 3), (1, 3)))
        least = dilation * (kernel - 1) + 1 - np.array(shape[:2])  # or nothing would come out
        groups = int(rng.choice([g for g in range(1, shape[2] + 1) if shape[2] % g == 0])) if self.grouped else 1
        out = groups * int(rng.integers(1, 3)) if self.grouped else int(rng.integers(1, self.channels + 1))
        return Convolution(
            source=source,
            target=target,
            weights=rng.integers(-self.weight, self.weight + 1, (out, *kernel, shape[2] // groups)),
            input_shape=shape,
            stride=stride,
            padding=np.maximum(padding, (least + 1) // 2),
            dilation=dilation,
            groups=groups,
            graded=self.graded > 0 and source == "in",
        )

    def _upon_itself(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> Convolution:
        half, dilation = rng.integers(0, 2, 2), rng.integers(1, 3, 2)
        weights = rng.integers(-self.weight, self.weight + 1, (shape[2], *(2 * half + 1), shape[2]))
        padding = half * dilation
        return Convolution(
            source="p0", target="p0", weights=weights, input_shape=shape, padding=padding, dilation=dilation
        )

    def _dense(self, rng: np.random.Generator, source: str, target: str, sizes: dict[str, int]) -> Connection:
        weights = rng.integers(-80, 81, (sizes[target], sizes[source]))
        return Connection(source=source, target=target, weights=weights, weight_exp=int(rng.integers(-2, 2)))


def _fires(spec: LoihiSpec, run: LoihiRun, inputs: Inputs) -> bool:
    return all(0 < spikes.sum() < spikes.size for spikes in run.spikes.values())


def _groups(spec: LoihiSpec, run: LoihiRun, inputs: Inputs) -> bool:
    return _fires(spec, run, inputs) and any(c.groups > 1 for c in spec.connections if isinstance(c, Convolution))


def _leaves(limit: int) -> Callable[[LoihiSpec, LoihiRun, Inputs], bool]:
    """A single product of the first convolution is beyond `limit`."""

    def shown(spec: LoihiSpec, run: LoihiRun, inputs: Inputs) -> bool:
        return int(np.abs(inputs["in"]).max()) * int(np.abs(spec.connections[0].weights).max()) > limit

    return shown


CONV_REGIMES: dict[str, Any] = {
    "convolution": ConvRegime(_fires),
    "convolution, groups": ConvRegime(_groups, grouped=True),
    "convolutions in a row": ConvRegime(_fires, deep=True, vth=(20, 300)),
    "convolution, recurrent": ConvRegime(_fires, recurrent=True),
    "convolution, graded": ConvRegime(_fires, graded=20, vth=(50, 3000)),
    "convolution, unclipped weights": ConvRegime(_fires, weight=3000, vth=(500, 10000)),
    "convolution, graded, beyond 24 bits": ConvRegime(_leaves(CURRENT_LIMIT), graded=2**17, weight=255),
    "convolution, graded, beyond int32": ConvRegime(_leaves(2**31), graded=2**24, weight=255, grouped=True),
}
