"""Several chips of one kind as one network: where it is cut, what each chip holds, and the script that runs them."""

from snnir.placement.chips.spread import spread
from snnir.placement.chips.types import Cut, Pick, Spread

__all__ = ["Cut", "Pick", "Spread", "spread"]
