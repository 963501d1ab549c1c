"""Several processes that train one network: each takes its share of every batch, gradients are averaged.

They are started by a launcher that sets PyTorch's usual variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), such as
PyTorch's own, `torchrun --nproc-per-node 2 -m snnir train ...`, or Hugging Face's,
`accelerate launch --cpu --num_processes 2 -m snnir train ...`.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

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
        """The module, such that batch norms see the whole batch and backward() averages gradients over the processes.

        Raises:
            UsageError: some batch norm is not of the kind that emitted modules have.
        """
        if self.size == 1:
            return module
        for name, layer in module.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise UsageError(f"{name}: only emitted modules are trained by several processes")
            if type(layer).__name__ == "BatchNorm" and hasattr(layer, "gain"):
                layer.forward = partial(whole_batch_norm, layer)
        with warnings.catch_warnings():  # PyTorch 2.13 has a new name for it, which older ones do not know
            warnings.simplefilter("ignore", FutureWarning)
            return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def mean(self, values: Array) -> Array:
        """The mean of each process's values."""
        if self.size == 1:
            return values
        tensor = torch.from_numpy(np.array(values, dtype=np.float64))
        distributed.all_reduce(tensor)
        return np.asarray(tensor.numpy() / self.size)


def whole_batch_norm(layer: Any, x: Tensor) -> Tensor:
    """What an emitted BatchNorm computes in training, with the statistics of all processes' samples together.

    (PyTorch's SyncBatchNorm does the same, on GPUs only, and without tdBN's factor.)
    """
    if not layer.training:
        return type(layer).forward(layer, x)  # type: ignore[no-any-return]
    flat = x.flatten(0, -layer.axes - 1)
    others = [axis for axis in range(flat.dim()) if axis != 1]
    shape = [1, -1, *[1] * (flat.dim() - 2)]
    here = flat.new_tensor([flat.numel() / flat.shape[1]])
    count = all_reduce(here)
    mean = all_reduce(flat.sum(others)) / count
    centred = flat - mean.view(shape)
    var = all_reduce(centred.square().sum(others)) / count
    with torch.no_grad():
        layer.mean.lerp_(mean, layer.momentum)
        layer.var.lerp_(var * count / (count - 1), layer.momentum)
    scale = layer.weight * layer.gain / torch.sqrt(var + layer.eps)
    return (centred * scale.view(shape) + layer.bias.view(shape)).unflatten(0, x.shape[: -layer.axes])
