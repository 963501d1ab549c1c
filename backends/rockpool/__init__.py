"""Rockpool: PyTorch with Rockpool's own layers."""

from __future__ import annotations

from snnir.backends.rockpool.emit import RockpoolDialect
from snnir.backends.rockpool.target import TARGET
from snnir.backends.torch_source import TorchBackend

ROCKPOOL = TorchBackend(TARGET, RockpoolDialect())

__all__ = ["ROCKPOOL"]
