"""RWKV-4's causal weighted mean along the token axis, token by token and all tokens at once.

y_l = (sum_{i<l} e^{-(l-1-i) w + k_i} v_i + e^{u + k_l} v_l) / (the same sum without v), w = e^log_decay, u = first
(Peng et al., RWKV: Reinventing RNNs for the Transformer Era, arXiv 2305.13048, equations 16 to 18).

No exponential overflows and nothing is divided by a small sum, in the gradients neither. Both forms join what was
before with a token's own by a sigmoid of the difference of their weights' logarithms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def wkv_running(k: Tensor, v: Tensor, log_decay: Tensor, first: Tensor) -> Tensor:
    """Token by token: the form with the least work, O(tokens).

    Args:
        k, v: (..., tokens, channels). log_decay, first: (channels,).

    Returns:
        (..., tokens, channels).
    """
    w = log_decay.exp()
    top = _largest(k.detach(), w.detach())
    fresh = torch.exp(k - top)
    # The difference of the tops first: it is exact, so that roundings of the tops do not add up over the tokens.
    kept = torch.exp((top[..., :-1, :] - top[..., 1:, :]) - w)
    state, *coming = torch.stack([fresh * v, fresh]).unbind(-2)
    states = [state]
    for new, keep in zip(coming, kept.unbind(-2), strict=True):
        state = torch.addcmul(new, keep, state)
        states.append(state)
    total, weight = torch.stack(states, -2)[..., :-1, :]
    past = top[..., :-1, :] + weight.log() - (first + k[..., 1:, :])
    seen = torch.lerp(v[..., 1:, :], total / weight, torch.sigmoid(past))
    return torch.cat([v[..., :1, :], seen], -2)


def _largest(k: Tensor, w: Tensor) -> Tensor:
    """The largest exponent up to each token, decayed: sums are kept relative to it. Any base gives the same y."""
    top, *coming = k.unbind(-2)
    tops = [top]
    for kl in coming:
        top = torch.maximum(top - w, kl)
        tops.append(top)
    return torch.stack(tops, -2)


def wkv_parallel(k: Tensor, v: Tensor, log_decay: Tensor, first: Tensor) -> Tensor:
    """All tokens at once, in log2(tokens) rounds that double the window each token has seen: for accelerators.

    Args, Returns: as `wkv_running`.
    """
    w = log_decay.exp()
    mean, weight, seen = v, k, 1
    while seen < k.shape[-2]:
        earlier = _before(weight, seen, -torch.inf) - seen * w
        mean = torch.lerp(mean, _before(mean, seen, 0.0), torch.sigmoid(earlier - weight))
        weight = torch.logaddexp(earlier, weight)
        seen *= 2
    past = _before(weight, 1, -torch.inf)
    return torch.lerp(v, _before(mean, 1, 0.0), torch.sigmoid(past - (first + k)))


def _before(x: Tensor, n: int, value: float) -> Tensor:
    """x n tokens earlier; `value` where there was none."""
    return F.pad(x[..., :-n, :], (0, 0, n, 0), value=value)
