"""What goes into SDiT beside the image: features of the time, labels, and guidance by running with and without one."""

from snnir.diffusion.labels import Network, guided, one_hot
from snnir.diffusion.spec import time_features

__all__ = ["Network", "guided", "one_hot", "time_features"]
