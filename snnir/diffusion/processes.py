"""Several processes that train one network: each takes its share of every batch, gradients are averaged.

They are started by any launcher that sets PyTorch's usual variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT):
`accelerate launch --cpu --num_processes 2 -m snnir train ...`, or `torchrun --nproc-per-node 2 -m snnir train ...`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from snnir.errors import UsageError
from snnir.ops import Array


@dataclass(frozen=True)
class Processes:
    """This process among `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> Processes:
        """What the launcher says; joins the others (gloo)."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
        return cls(distributed.get_rank(), size)

    def share(self, batch: int) -> slice:
        """This process's part of a batch."""
        if batch % self.size:
            raise UsageError(f"a batch of {batch} does not divide among {self.size} processes")
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def shared(self, module: nn.Module) -> Any:
        """The module, such that backward() averages gradients over the processes."""
        return module if self.size == 1 else nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def mean(self, values: Array) -> Array:
        """The mean of each process's values."""
        if self.size == 1:
            return values
        tensor = torch.from_numpy(np.array(values, dtype=np.float64))
        distributed.all_reduce(tensor)
        return np.asarray(tensor.numpy() / self.size)
