"""sinabs: PyTorch with sinabs's own layers."""

from __future__ import annotations

from snnir.backends.sinabs.emit import SinabsDialect
from snnir.backends.sinabs.target import TARGET
from snnir.backends.torch_source import TorchBackend

SINABS = TorchBackend(TARGET, SinabsDialect())

__all__ = ["SINABS"]
