"""snnTorch: PyTorch with snnTorch's own neuron layers."""

from __future__ import annotations

from snnir.backends.snntorch.emit import SnnTorchDialect
from snnir.backends.snntorch.target import TARGET
from snnir.backends.torch_source import TorchBackend

SNNTORCH = TorchBackend(TARGET, SnnTorchDialect())

__all__ = ["SNNTORCH"]
