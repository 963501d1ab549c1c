"""The torch target as data."""

from __future__ import annotations

from snnir.backends.torch_source.target import family_target

TARGET = family_target("torch", "PyTorch", package="torch", extra="torch", reset=None)
