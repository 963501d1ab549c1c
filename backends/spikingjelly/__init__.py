"""SpikingJelly: PyTorch with SpikingJelly's own neuron nodes."""

from __future__ import annotations

from snnir.backends.spikingjelly.emit import SpikingJellyDialect
from snnir.backends.spikingjelly.target import TARGET
from snnir.backends.torch_source import TorchBackend

SPIKINGJELLY = TorchBackend(TARGET, SpikingJellyDialect())

__all__ = ["SPIKINGJELLY"]
