"""Norse: PyTorch with Norse's own neuron cells."""

from __future__ import annotations

from snnir.backends.norse.emit import NorseDialect
from snnir.backends.norse.target import TARGET
from snnir.backends.torch_source import TorchBackend

NORSE = TorchBackend(TARGET, NorseDialect())

__all__ = ["NORSE"]
