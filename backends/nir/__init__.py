"""The `nir` target: one strictly standard `.nir` file, which every NIR reader takes."""

from snnir.backends.nir.backend import NIR

__all__ = ["NIR"]
