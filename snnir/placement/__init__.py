"""A network shared by a chip and a host: what runs where, the parts, and the script that runs them together."""

from snnir.placement.automatic import partition
from snnir.placement.types import Crossing, Encode, Hold, Loop, Part, Place, Placement

__all__ = ["Crossing", "Encode", "Hold", "Loop", "Part", "Place", "Placement", "partition"]
