"""Neurons, memory layouts and currents that the neuron loops of the torch target are tested on."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snnir.backends.torch.kernels import Neuron

T, B, C, H, W = 7, 3, 4, 5, 6
SAMPLE = (C, H, W)


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low


def currents(*shape: int, seed: int = 1) -> Tensor:
    return uniform(-0.7, 1.5, *(shape or (T, B, *SAMPLE)), seed=seed)


NEURONS: dict[str, Neuron] = {
    "lif": Neuron(decay=0.9, gain=0.35, threshold=1.0),
    "lif, per channel": Neuron(
        decay=uniform(0.5, 0.9, C, 1, 1),
        gain=uniform(0.5, 1.0, C, 1, 1, seed=2),
        drive=uniform(0.0, 0.2, C, 1, 1, seed=3),
        threshold=uniform(0.4, 1.0, C, 1, 1, seed=4),
        v_reset=uniform(-0.5, 0.2, C, 1, 1, seed=5),
    ),
    "lif, per neuron, inclusive": Neuron(
        decay=uniform(0.5, 0.9, *SAMPLE),
        threshold=torch.tensor(0.8),
        v_reset=uniform(-0.3, 0.3, *SAMPLE),
        inclusive=True,
    ),
    "lif, subtract": Neuron(decay=0.8, gain=0.7, threshold=0.9, v_drop=0.9),
    "if, subtract per channel": Neuron(
        decay=1.0, threshold=uniform(0.4, 1.0, C, 1, 1), v_drop=uniform(0.4, 1.0, C, 1, 1), drive=-0.05
    ),
    "cuba lif": Neuron(decay=0.8, gain=0.3, threshold=0.6, decay_syn=0.7, gain_syn=0.9, drive=0.02, v_reset=-0.1),
    "cuba lif, per neuron": Neuron(
        decay=uniform(0.5, 0.9, *SAMPLE), threshold=0.6, decay_syn=uniform(0.3, 0.9, *SAMPLE), v_drop=0.6
    ),
    "lif, late": Neuron(decay=0.8, gain=0.7, threshold=0.9, v_drop=0.9, drive=0.05, late=True),
    "cuba lif, late, per neuron": Neuron(
        decay=uniform(0.5, 0.9, *SAMPLE),
        gain=0.6,
        threshold=uniform(0.4, 0.8, *SAMPLE),
        v_drop=uniform(0.4, 0.8, *SAMPLE),
        decay_syn=0.7,
        inclusive=True,
        late=True,
    ),
    "li": Neuron(decay=0.9, gain=0.1, drive=0.3),
    "cuba li": Neuron(decay=uniform(0.5, 0.9, C, 1, 1), gain=0.5, decay_syn=0.8, gain_syn=uniform(0.2, 0.9, C, 1, 1)),
}
BY_STEP: dict[str, Neuron] = {  # resets that the loops over blocks do not have
    "lif, held": Neuron(decay=0.9, gain=1.4, threshold=0.5, v_drop=0.5, drive=-0.1, late=True, held=True),
    "lif, late to a value": Neuron(decay=0.8, gain=0.7, threshold=0.6, v_reset=0.2, late=True, inclusive=True),
    "cuba lif, late to a value": Neuron(
        decay=0.9, threshold=uniform(0.4, 1.0, C, 1, 1), v_reset=uniform(-0.5, 0.2, C, 1, 1), decay_syn=0.7, late=True
    ),
}
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
    "width first": lambda x: x.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2),
    "every other value": lambda x: torch.stack([x, x], -1)[..., 0],
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "expanded over time": lambda x: x[:1].expand(x.shape),
}
every_neuron = pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
