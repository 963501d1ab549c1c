"""Random networks for Loihi, in regimes each of which must show something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.simulators.loihi import CURRENT_LIMIT, Connection, LoihiRun, LoihiSpec, Population, effective_weights
from tests.lava_conv_regimes import CONV_REGIMES
from tests.lava_oracle import Array, Case, case_of

Inputs = dict[str, Array]
STEPS = 24


@dataclass(frozen=True)
class Regime:
    """What random networks are drawn from, and what at least one of them must do for the comparison to mean much."""

    shown: Callable[[LoihiSpec, LoihiRun, Inputs], Any]
    weight: int = 150
    modes: tuple[str, ...] = ("auto",)
    exponents: tuple[int, int] = (-2, 4)
    bits: tuple[int, int] = (8, 9)
    du: tuple[int, int] = (200, 4096)
    dv: tuple[int, int] = (0, 1500)
    vth: tuple[int, int] = (50, 1000)
    bias: tuple[int, int] = (0, 1)
    delay: int = 0
    graded: int = 0
    reset: bool = False
    sparse: bool = False
    layers: int = 1
    rate: float = 0.4

    def draw(self, rng: np.random.Generator) -> Case:
        n_in, sizes = int(rng.integers(1, 7)), rng.integers(1, 7, self.layers).tolist()
        populations = []
        for i, n in enumerate(sizes):
            shape = () if rng.random() < 0.5 else (n,)
            populations.append(
                Population(
                    name=f"p{i}",
                    size=n,
                    vth=rng.integers(*self.vth, shape),
                    du=rng.integers(*self.du, shape),
                    dv=rng.integers(*self.dv, shape),
                    bias_mant=rng.integers(*self.bias, n),
                    bias_exp=rng.integers(0, 8) if self.bias != (0, 1) else 0,
                    reset_interval=int(rng.integers(2, 9)) if self.reset else 0,
                    reset_offset=int(rng.integers(0, 12)) if self.reset else 0,
                )
            )
        pairs = [("in", n_in, "p0", sizes[0])]
        for i in range(1, self.layers):  # a chain, the way back, and the first layer upon itself
            pairs += [(f"p{i - 1}", sizes[i - 1], f"p{i}", sizes[i]), (f"p{i}", sizes[i], "p0", sizes[0])]
            pairs += [("p0", sizes[0], "p0", sizes[0])] if i == 1 else []
        connections = tuple(self._connection(rng, *pair) for pair in pairs)
        spec = LoihiSpec(inputs={"in": n_in}, populations=tuple(populations), connections=connections)
        events = (rng.random((STEPS, n_in)) < self.rate) * np.ones((), int)
        if self.graded:
            events *= rng.integers(-self.graded, self.graded + 1, events.shape)
        return case_of(spec, {"in": events}, tuple(range(len(connections))) if self.sparse else ())

    def _connection(self, rng: np.random.Generator, source: str, n: int, target: str, m: int) -> Connection:
        mode = str(rng.choice(self.modes))
        weights = rng.integers(-self.weight, self.weight + 1, (m, n))
        if mode == "auto" and rng.random() < 0.4:
            weights = np.abs(weights) * rng.choice([-1, 1])
        if self.sparse:
            weights *= rng.random((m, n)) < 0.5
        return Connection(
            source=source,
            target=target,
            weights=weights,
            weight_exp=int(rng.integers(*self.exponents)),
            num_weight_bits=int(rng.integers(*self.bits)),
            sign_mode=mode,
            delays=rng.integers(0, self.delay + 1, (m, n)) if self.delay else 0,
            graded=self.graded > 0 and source == "in",
        )


def _fires(spec: LoihiSpec, run: LoihiRun, inputs: Inputs) -> bool:
    return all(0 < spikes.sum() < spikes.size for spikes in run.spikes.values())


def _wraps(spec: LoihiSpec, run: LoihiRun, inputs: Inputs) -> bool:
    """A current jumps by more than any sum of its weights can move it."""
    assert run.u is not None
    return any(np.abs(np.diff(u, axis=0)).max() > 1.2 * CURRENT_LIMIT for u in run.u.values())


def _clips(spec: LoihiSpec, run: LoihiRun, inputs: Inputs) -> bool:
    assert run.v is not None
    return any((np.abs(v) == CURRENT_LIMIT - 1).any() for v in run.v.values())


def _alters(spec: LoihiSpec, run: LoihiRun, inputs: Inputs) -> bool:
    dense = [c for c in spec.connections if isinstance(c, Connection)]
    return _fires(spec, run, inputs) and any((effective_weights(c) != c.weights).any() for c in dense)


ALL_MODES = ("auto", "null", "mixed", "excitatory", "inhibitory")
HEAVY: dict[str, Any] = {"exponents": (5, 8), "weight": 255, "du": (0, 60)}
REGIMES: dict[str, Any] = {
    "dense": Regime(_fires),
    "bias": Regime(_fires, bias=(-4096, 4096), vth=(0, 4000)),
    "sign modes, clipped": Regime(_alters, weight=400, modes=ALL_MODES),
    "weight bits and exponents": Regime(_alters, bits=(1, 9), exponents=(-8, 8), modes=ALL_MODES, vth=(0, 300)),
    "current wraps": Regime(_wraps, vth=(1000, 131072), rate=0.8, **HEAVY),
    "membrane clips": Regime(_clips, bias=(-4096, -3000), vth=(60000, 131072), dv=(0, 2), rate=0.8, **HEAVY),
    "decays at their ends": Regime(_fires, du=(-1, 1), dv=(4095, 4097), vth=(0, 3000)),
    "delays": Regime(_fires, delay=5, exponents=(-3, 3)),
    "resets": Regime(_fires, reset=True, bias=(-500, 1000)),
    "recurrent": Regime(_fires, layers=2, vth=(20, 400)),
    "recurrent, delays": Regime(_fires, layers=2, delay=3, modes=ALL_MODES, vth=(20, 400)),
    "sparse": Regime(_fires, sparse=True, vth=(20, 400)),
    "sparse, clipped, bits": Regime(_alters, sparse=True, weight=400, bits=(2, 9), exponents=(-4, 5)),
    "sparse, delays": Regime(_fires, sparse=True, delay=4, vth=(20, 400)),
    "graded": Regime(_fires, graded=20),
    "graded, beyond int32": Regime(_wraps, graded=2**20, exponents=(0, 8)),
} | CONV_REGIMES
PER_REGIME = 7


def draw_all(seed: int = 20, per_regime: int = PER_REGIME) -> list[Case]:
    """`per_regime` networks of every regime, in order; by default those that are recorded."""
    rng = np.random.default_rng(seed)
    return [regime.draw(rng) for regime in REGIMES.values() for _ in range(per_regime)]
