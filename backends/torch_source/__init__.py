"""Shared by the targets of the PyTorch family (torch, norse, snntorch): from a graph to readable, trainable source.

`program` turns the schedule into the statements of `forward`, `layers` writes each op without a membrane, each target's
dialect writes neurons, `writer` puts the file together, `backend` makes the artifact.
"""

from __future__ import annotations

from snnir.backends.torch_source.backend import TorchArtifact, TorchBackend
from snnir.backends.torch_source.neurons import Dialect

__all__ = ["Dialect", "TorchArtifact", "TorchBackend"]
