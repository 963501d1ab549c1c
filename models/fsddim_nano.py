"""The smallest FSDDIM: a denoising network for 4x4 images that fits one Xylo Audio 3, with 256 of its 992 neurons.

Spikes only: 16 channels of event counts, 0 to 15 per step (14 principal components of the noisy image and two channels
for the time), 128 neurons, 128 neurons, and 32 neurons whose spikes a host counts and decodes. The neuron is Xylo's: a
current that halves in every step, a membrane that hardly leaks, a spike at the threshold and not only above it, reset
by subtraction. There are no biases: all channels send about 7.5 events per step and serve as well. The host's part is
`snnir.diffusion.events`; `snnir.models.train_nano` trains both.

    snnir compile models/fsddim.py --preset nano --target xylo-audio3 -o out && python out/sample.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnir import nn
from snnir.diffusion.events import EventHost
from snnir.errors import UsageError, fail

DT = 1e-3  # seconds
IMAGE = (1, 4, 4)
MOST = 15  # events per channel and step that Xylo takes
CENTRE, SPREAD = 7.5, 3.0  # of the levels: noise is cut at 2.5 standard deviations
LAYERS = ("into", "middle", "out")


@dataclass(frozen=True)
class NanoConfig:
    """One size of the network; the defaults fill what inputs and outputs of a Xylo Audio 3 can reach.

    Args:
        components: of the noisy image, that become event counts; two more channels carry the time.
        hidden: neurons of each of the two hidden layers.
        outputs: neurons whose spikes are decoded.
        steps: SNN steps of one denoising call.
    """

    components: int = 14
    hidden: int = 128
    outputs: int = 32
    steps: int = 16


def neurons() -> nn.CubaLIF:
    """i <- (i + x) / 2, v <- (1 - 2^-15) v + i, a spike at v >= 1, which takes 1 off.

    The surrogate is wide and the reset is seen by the gradient: over a call, a neuron's count then grows by about one
    per threshold of input, whenever it arrives. (Slope 2; at .5 or 8 the v error is .01 higher after 2000 iterations.)
    """
    return nn.CubaLIF.from_decay(
        0.5,
        1 - 2.0**-15,
        dt=DT,
        w_in=1.0,  # the new input is halved, too
        comparison=">=",
        reset="subtract",
        detach_reset=False,
        surrogate=nn.FastSigmoid(slope=2.0),
    )


class NanoNet(nn.Module):
    """Event counts (S, B, components + 2) -> spikes (S, B, outputs).

    Attributes:
        host: what encodes, decodes and turns; None until it is trained.
    """

    def __init__(self, config: NanoConfig, host: EventHost | None = None) -> None:
        super().__init__()
        channels = config.components + 2
        self.config = config
        self.host = host
        self.input_shape = (channels,)
        self.graph_metadata = _metadata(config, host)
        self.into = nn.Linear(channels, config.hidden, bias=False)
        self.first = neurons()
        self.middle = nn.Linear(config.hidden, config.hidden, bias=False)
        self.second = neurons()
        self.out = nn.Linear(config.hidden, config.outputs, bias=False)
        self.third = neurons()
        self._start()

    def _start(self) -> None:
        """Weights with which neurons spike a few times in a call, some more and some less, whatever the image."""
        with torch.no_grad():
            hidden, channels = self.into.weight.shape
            spread = 0.04 * torch.randn(hidden, channels)
            level = (0.8 * torch.rand(hidden, 1) - 0.1) / (CENTRE * channels)
            self.into.weight.copy_(spread - spread.mean(dim=1, keepdim=True) + level)
            self.middle.weight.normal_(0.004, 0.5 / (0.3 * hidden) ** 0.5)
            self.out.weight.normal_(0.004, 0.5 / (0.15 * hidden) ** 0.5)

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        x = self.first(self.into(events))
        x = self.second(self.middle(x))
        return self.third(self.out(x))


def _metadata(config: NanoConfig, host: EventHost | None) -> dict[str, Any]:
    """What inputs look like (`snnir.stimuli`), and what a sampler must know."""
    if host is None:
        code, deviation = np.array([[CENTRE, CENTRE]]), np.ones((1, config.components))
    else:  # of noisy components, at each denoising step
        phi = np.pi / 2 / host.calls * np.arange(1, host.calls + 1)[:, None]
        variances = host.variances[: host.components]
        code, deviation = host.time_code, np.sqrt(np.cos(phi) ** 2 * variances + np.sin(phi) ** 2)
    mean = [[CENTRE] * config.components + row for row in np.round(code, 6).tolist()]
    std = [[*row, 0.0, 0.0] for row in np.round(SPREAD * deviation, 6).tolist()]
    inputs = {"input": {"steps": config.steps, "most": MOST, "mean": mean, "std": std}}
    return {"inputs": inputs, **({} if host is None else {"diffusion": {"host": host.to_dict()}})}


def build(weights: Path | None = None, seed: int = 0, **options: Any) -> NanoNet:
    """The network and its host: trained where `weights` is a file of `save`, else random and without a host.

    Args:
        weights: a .safetensors file.
        seed: of random weights.
        options: fields of `NanoConfig` to change.

    Raises:
        UsageError: an option that does not exist, or less than one of something.
        CompileError: a file that is not there, or is of another network.
    """
    there = NanoConfig.__dataclass_fields__
    if unknown := set(options) - set(there):
        raise UsageError(f"no option {', '.join(sorted(unknown))}; preset nano has {', '.join(there)}")
    few = [f"{name} is {value!r}" for name, value in options.items() if not isinstance(value, int) or value < 1]
    if few:
        raise UsageError(f"{'; '.join(few)}: expected a whole number, at least 1")
    config = replace(NanoConfig(), **options)
    torch.manual_seed(seed)
    if weights is None:
        return NanoNet(config)
    arrays = _read(weights)
    expected = {k: tuple(v.shape) for k, v in NanoNet(config).state_dict().items() if k.endswith("weight")}
    found = {f"{name}.weight": arrays.get(f"{name}.weight", np.zeros(0)).shape for name in LAYERS}
    host = _host(arrays, config, weights)
    if found != expected:
        raise fail("weights-file", f"has weights {found}", where=str(weights), expected=f"weights {expected}")
    model = NanoNet(config, host)
    with torch.no_grad():
        for name in LAYERS:
            getattr(model, name).weight.copy_(torch.from_numpy(arrays[f"{name}.weight"]))
    return model


def state(model: NanoNet) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Weights and host of a trained network, as the arrays of a weights file."""
    if model.host is None:
        raise ValueError("the network has no host yet; train it")
    arrays = {f"{name}.weight": getattr(model, name).weight.detach().numpy() for name in LAYERS}
    return arrays | {f"host.{name}": getattr(model.host, name) for name in HOST}


HOST = ("mean", "basis", "variances", "time_code", "decoder", "skip", "offset")


def _host(arrays: Mapping[str, Any], config: NanoConfig, where: Path) -> EventHost:
    try:
        parts = {name: arrays[f"host.{name}"] for name in HOST}
        return EventHost(image=IMAGE, steps=config.steps, most=MOST, centre=CENTRE, spread=SPREAD, **parts)
    except (KeyError, ValueError) as error:
        raise fail("weights-file", f"holds no host of this network: {error}", where=str(where)) from None


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise fail("weights-file", f"cannot be read: {error}", where=str(path)) from None
