"""Rockpool: PyTorch with Rockpool's own layers."""

from __future__ import annotations

from snnir.backends.rockpool.backend import ROCKPOOL

__all__ = ["ROCKPOOL"]
