"""The Norse target as data."""

from __future__ import annotations

from snnir.backends.torch_source.target import family_target

TARGET = family_target("norse", "Norse", package="norse", extra="norse", reset=None)
