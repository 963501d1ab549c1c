"""Surrogate gradients: a hard step forward, a bump backward.

Every surrogate is a function of u = v - threshold, the distance of the membrane from the threshold.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Surrogate:
    """What backpropagation takes for the derivative of the step function. Subclasses give `derivative`.

    Attributes:
        kernel: name of the same function in the fused kernels (`snnir.backends.torch.kernels`), which know it by its
            one field; empty for a surrogate of your own, which then runs as ordinary tensor operations.
    """

    kernel: ClassVar[str] = ""

    def derivative(self, u: Tensor) -> Tensor:
        """The derivative at u, element by element; same shape as u."""
        raise NotImplementedError(type(self).__name__)

    def spike(self, v: Tensor, threshold: float | Tensor, inclusive: bool = False) -> Tensor:
        """1 where v > threshold (or >=, when `inclusive`), else 0, in v's dtype; differentiable by the surrogate."""
        # The comparison is made on v itself: v - threshold can round to 0 where v > threshold is true.
        fired = v >= threshold if inclusive else v > threshold
        return _Step.apply(v - threshold, fired, self)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{value:g}' for value in astuple(self))})"


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, fired: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return fired.to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(u), None, None


@dataclass(frozen=True)
class Triangle(Surrogate):
    """max(0, 1 - |u| / width) / (2 width): height 1 / (2 width), zero beyond `width` (FSDDIM: width 0.5)."""

    kernel: ClassVar[str] = "triangle"
    width: float = 0.5

    def derivative(self, u: Tensor) -> Tensor:
        return (1 - u.abs() / self.width).clamp(min=0) / (2 * self.width)


@dataclass(frozen=True)
class ATan(Surrogate):
    """alpha / 2 / (1 + (pi / 2 alpha u)^2), the derivative of an arc tangent (Fang et al., ICCV 2021)."""

    kernel: ClassVar[str] = "atan"
    alpha: float = 2.0

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * u).square())


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """1 / (1 + slope |u|)^2 (SuperSpike: Zenke and Ganguli, Neural Computation 2018)."""

    kernel: ClassVar[str] = "fast_sigmoid"
    slope: float = 25.0

    def derivative(self, u: Tensor) -> Tensor:
        return 1 / (1 + self.slope * u.abs()).square()
