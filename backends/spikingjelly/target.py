"""The SpikingJelly target as data."""

from __future__ import annotations

from dataclasses import replace

from snnir.backends.torch_source.target import family_target
from snnir.frameworks import FRAMEWORKS

TARGET = replace(
    family_target("spikingjelly", "SpikingJelly", package="spikingjelly", extra="spikingjelly", reset=None),
    semantics=FRAMEWORKS["spikingjelly"].semantics,
)
