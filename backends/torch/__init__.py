"""Plain PyTorch: the default target, the fastest, trainable."""

from __future__ import annotations

from snnir.backends.torch.emit import TorchDialect
from snnir.backends.torch.target import TARGET
from snnir.backends.torch_source import TorchBackend

TORCH = TorchBackend(TARGET, TorchDialect())

__all__ = ["TORCH"]
