"""A chip's network in floats, and the roundings that can be put into it one at a time.

An artifact whose target computes in integers may offer `floats()`: the network as it was laid out, in real numbers,
with a list of what its integers do to it. `snnir.validation` measures what each does alone.
"""

from __future__ import annotations

from snnir.roundings.machine import Cells, Link, Machine
from snnir.roundings.model import FloatModel, Rounding, near, percent, span

__all__ = ["Cells", "FloatModel", "Link", "Machine", "Rounding", "near", "percent", "span"]
