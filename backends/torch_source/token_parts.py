"""The layers of transformers that emitted models use, as real code that is copied like `parts.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnir.backends.torch_source.parts import keep


class PlainLayerNorm(nn.Module):
    """nn.LayerNorm whose weight and bias are not trained."""

    weight: Tensor
    bias: Tensor

    def __init__(self, shape: tuple[int, ...], eps: float) -> None:
        super().__init__()
        keep(self, weight=torch.ones(shape), bias=torch.zeros(shape))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Exp(nn.Module):
    """y = e^x."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class SquaredReLU(nn.Module):
    """y = max(x, 0)^2."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


class TokenShift(nn.Module):
    """y[l] = mix * x[l] + (1 - mix) * x[l - 1] along the token axis of (..., tokens, channels), x[-1] = 0 (RWKV-4)."""

    def __init__(self, mix: Tensor) -> None:
        super().__init__()
        self.mix = nn.Parameter(mix)

    def forward(self, x: Tensor) -> Tensor:
        before = F.pad(x[..., :-1, :], (0, 0, 1, 0))
        return self.mix * x + (1 - self.mix) * before


class Wkv(nn.Module):
    """RWKV-4's causal mean of v weighted by e^k, over (..., tokens, channels) (Peng et al., RWKV, 2023).

    y_l = (sum_{i<l} e^{-(l-1-i) w + k_i} v_i + e^{first + k_l} v_l) / (the same sum without v), w = e^log_decay. Sums
    are kept relative to the largest exponent so far, so none overflows; which one it is does not change y.
    """

    def __init__(self, log_decay: Tensor, first: Tensor) -> None:
        super().__init__()
        self.log_decay, self.first = nn.Parameter(log_decay), nn.Parameter(first)

    def forward(self, k: Tensor, v: Tensor) -> Tensor:
        w = self.log_decay.exp()
        top = self.largest(k.detach(), w.detach())
        fresh = torch.exp(k - top)
        kept = torch.exp((top[..., :-1, :] - top[..., 1:, :]) - w)  # in this order, roundings do not add up
        state, *coming = torch.stack([fresh * v, fresh]).unbind(-2)
        states = [state]
        for new, keep_now in zip(coming, kept.unbind(-2), strict=True):
            state = torch.addcmul(new, keep_now, state)
            states.append(state)
        total, weight = torch.stack(states, -2)[..., :-1, :]
        past = top[..., :-1, :] + weight.log() - (self.first + k[..., 1:, :])
        seen = torch.lerp(v[..., 1:, :], total / weight, torch.sigmoid(past))
        return torch.cat([v[..., :1, :], seen], -2)

    @staticmethod
    def largest(k: Tensor, w: Tensor) -> Tensor:
        """The largest exponent up to each token, decayed."""
        top, *coming = k.unbind(-2)
        tops = [top]
        for kl in coming:
            top = torch.maximum(top - w, kl)
            tops.append(top)
        return torch.stack(tops, -2)
