"""A spiking classifier of handwritten digits, made for Xylo: 16 channels, 224 hidden neurons, 10 outputs.

`snnir compile examples/digits/model.py --target xylo-audio3 -o out` compiles it with the weights that were trained
through the emitted Norse module; `build(weights='snntorch')` takes those trained through the emitted snnTorch module.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from snnir import nn

HERE = Path(__file__).parent
DT = 1e-3  # seconds


# The mean image of every digit, in events per step: 16 steps of it, 4 of silence (data.py). Where a command is given no
# recorded input, it makes up such images.
MEANS = (
    (0, 11, 9, 0, 2, 9, 6, 3, 2, 7, 6, 3, 0, 10, 11, 1),
    (0, 7, 9, 1, 1, 11, 10, 0, 0, 8, 10, 0, 0, 7, 11, 2),
    (2, 13, 7, 0, 1, 5, 8, 0, 0, 7, 6, 0, 1, 12, 12, 4),
    (1, 11, 11, 1, 1, 4, 10, 0, 0, 2, 10, 2, 0, 9, 11, 2),
    (0, 6, 6, 0, 1, 11, 7, 3, 4, 12, 13, 2, 0, 5, 8, 0),
    (1, 12, 10, 2, 3, 12, 4, 0, 1, 5, 8, 1, 0, 10, 8, 0),
    (0, 9, 5, 0, 1, 11, 2, 0, 1, 13, 10, 3, 0, 9, 11, 4),
    (0, 10, 12, 3, 0, 5, 11, 2, 1, 10, 10, 1, 0, 8, 2, 0),
    (1, 10, 10, 1, 1, 10, 10, 1, 0, 10, 9, 0, 0, 9, 9, 1),
    (1, 10, 10, 1, 1, 10, 12, 2, 0, 2, 7, 3, 0, 7, 10, 2),
)
INPUT = {"steps": 20, "shown": 16, "most": 15, "mean": [list(row) for row in MEANS], "std": 1.5}


def neurons() -> nn.CubaLIF:
    """Both decays are 1 - 2^-d (d = 2 and 3), which Xylo's bit shifts compute; reset and comparison are Xylo's."""
    return nn.CubaLIF(
        tau_syn=4 * DT,
        tau_mem=8 * DT,
        r=4.0,
        dt=DT,
        reset="subtract",
        comparison=">=",
        surrogate=nn.FastSigmoid(slope=2.0),
    )


class Digits(nn.Module):
    """Counts (T, B, 16) in, spikes (T, B, 10) out; the digit is the output that spikes most."""

    input_shape = (16,)

    def __init__(self) -> None:
        super().__init__()
        self.graph_metadata = {"inputs": {"input": INPUT}}
        self.in_hidden1 = nn.Linear(16, 128)
        self.hidden1 = neurons()
        self.in_hidden2 = nn.Linear(128, 96)
        self.hidden2 = neurons()
        self.in_digits = nn.Linear(96, 10)
        self.digits = neurons()
        with torch.no_grad():  # counts up to 15 in, about one spike in ten steps further on
            self.in_hidden1.weight *= 0.15
            self.in_hidden2.weight *= 4.0
            self.in_digits.weight *= 4.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.hidden1(self.in_hidden1(x))
        x = self.hidden2(self.in_hidden2(x))
        return self.digits(self.in_digits(x))


def build(weights: str | None = "norse", seed: int = 0) -> Digits:
    """The network with shipped weights ('norse' or 'snntorch': by which framework they were trained), or untrained."""
    torch.manual_seed(seed)
    model = Digits()
    if weights is not None:
        model.load_state_dict(load_file(HERE / "weights" / f"{weights}.safetensors"))
    return model
