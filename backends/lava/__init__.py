"""Loihi's integers as Lava 0.10 defines them: run in a bit-exact simulator of our own, or in Lava itself."""

from snnir.backends.lava.backend import LAVA, LavaBackend

__all__ = ["LAVA", "LavaBackend"]
