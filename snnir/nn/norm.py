"""Threshold-dependent batch norm (tdBN): Zheng et al., Going Deeper With Directly-Trained Larger SNNs, AAAI 2021."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from snnir.nn.layers import _check, over_time


class _TdBatchNorm(nn.modules.batchnorm._BatchNorm):
    """y = weight * alpha * v_th * (x - mean) / sqrt(var + eps) + bias; statistics per channel over T, B and space.

    The bias is not scaled. alpha is 1, or 1/sqrt(n) where n branches are summed before a neuron; v_th is that neuron's
    threshold. Note that `SyncBatchNorm.convert_sync_batchnorm` drops the factor (PyTorch replaces every subclass).
    """

    def __init__(self, num_features: int, alpha: float = 1.0, v_th: float = 1.0, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.alpha = alpha
        self.v_th = v_th

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        return over_time(self._normalised, input)

    def _normalised(self, x: Tensor) -> Tensor:
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # PyTorch's cumulative average
                factor = 1.0 / float(self.num_batches_tracked)
        by_batch = self.training or self.running_mean is None
        scale = self.alpha * self.v_th
        weight = x.new_full((self.num_features,), scale) if self.weight is None else self.weight * scale
        keep = not self.training or self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if keep else (None, None)
        return F.batch_norm(x, mean, var, weight, self.bias, by_batch, factor, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, alpha={self.alpha:g}, v_th={self.v_th:g}"


class tdBatchNorm1d(_TdBatchNorm):
    __doc__ = _TdBatchNorm.__doc__

    def _check_input_dim(self, input: Tensor) -> None:
        _check(self, input, 3, 4)


class tdBatchNorm2d(_TdBatchNorm):
    __doc__ = _TdBatchNorm.__doc__

    def _check_input_dim(self, input: Tensor) -> None:
        _check(self, input, 5)
