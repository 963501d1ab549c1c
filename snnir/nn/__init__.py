"""The layers that models are written in: trainable PyTorch modules over all time steps at once, (T, B, *shape).

Time constants are in seconds. Layers of PyTorch that work on any leading axes are re-exported, so that a model needs
one import; `snnir.load` compiles what is built from these and from plain PyTorch layers.
"""

from torch.nn import (
    Dropout,
    Identity,
    LayerNorm,
    Linear,
    Module,
    PixelShuffle,
    PixelUnshuffle,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
)

from snnir.nn.base import Neuron, set_dt
from snnir.nn.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Reshape,
    Scale,
    SumPool2d,
    TimeDistributed,
    Upsample2d,
    over_time,
)
from snnir.nn.neurons import IF, LI, LIF, CubaLI, CubaLIF, I
from snnir.nn.norm import tdBatchNorm1d, tdBatchNorm2d
from snnir.nn.surrogate import ATan, FastSigmoid, Surrogate, Triangle
from snnir.nn.temporal import Delay, Recurrent, Repeat, TemporalMean
from snnir.nn.tokens import Constant, ExponentialFilter2d, PlainLayerNorm, SquaredReLU, TokenShift, Wkv

__all__ = [
    "IF",
    "LI",
    "LIF",
    "ATan",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Constant",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CubaLI",
    "CubaLIF",
    "Delay",
    "Dropout",
    "ExponentialFilter2d",
    "FastSigmoid",
    "Flatten",
    "I",
    "Identity",
    "LayerNorm",
    "Linear",
    "Module",
    "Neuron",
    "PixelShuffle",
    "PixelUnshuffle",
    "PlainLayerNorm",
    "ReLU",
    "Recurrent",
    "Repeat",
    "Reshape",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SquaredReLU",
    "SumPool2d",
    "Surrogate",
    "TemporalMean",
    "TimeDistributed",
    "TokenShift",
    "Triangle",
    "Upsample2d",
    "Wkv",
    "over_time",
    "set_dt",
    "tdBatchNorm1d",
    "tdBatchNorm2d",
]
