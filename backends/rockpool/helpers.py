"""Source that emitted files carry to work with Rockpool's layers, as text: nothing here imports Rockpool."""

from __future__ import annotations

BARE = '''def NAME(layer):
    """A layer of Rockpool's without parameters and states of its own: they are made from the buffers at each call."""
    for name in [*layer.state_dict(), "w_rec"]:
        if hasattr(layer, name):
            delattr(layer, name)
    layer._dummy_params = ()  # or LIFTorch would turn alpha and beta into time constants
    return layer'''

GIVEN = '''def NAME(layer, x: Tensor, **values: Tensor):
    """The layer with these parameters and states, one each for the neurons of a sample of x (T, B, ...)."""
    n = x[0, 0].numel()
    layer._shape = (n, n)
    for name, value in values.items():
        value = value.expand(x.shape[2:]).reshape(n)
        # LIFTorch may have several synapses for a neuron, along an axis of their own.
        column = name in ("beta", "tau_syn", "isyn") and hasattr(layer, "n_synapses")
        setattr(layer, name, value.unsqueeze(1) if column else value)
    return layer'''

THROUGH = '''def NAME(layer, x: Tensor) -> Tensor:
    """Rockpool's layer, which takes (B, T, neurons) and gives (output, state, record), on x: (T, B, ...)."""
    before = torch.get_default_dtype()
    if before != x.dtype:  # Rockpool's layers put their output into tensors of PyTorch's default precision
        torch.set_default_dtype(x.dtype)
    try:
        y, _, _ = layer(x.reshape(*x.shape[:2], -1).transpose(0, 1))
    finally:
        if before != x.dtype:
            torch.set_default_dtype(before)
    return y.transpose(0, 1).reshape(x.shape).to(x.dtype)'''

STRICT = '''class NAME(torch.autograd.Function):
    """Rockpool's StepPWL, its count of spikes and its gradient, but with spikes only where x > threshold."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: Tensor, window: Tensor, most: Tensor) -> Tensor:
        ctx.save_for_backward(x, threshold)
        ctx.window = window
        count = torch.minimum((torch.ceil(x / threshold) - 1).clamp(min=1), most.to(x.dtype))
        return torch.where(x > threshold, count, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, threshold = ctx.saved_tensors
        slope = grads[0] / threshold * (x >= threshold - ctx.window)
        return slope, -x / threshold * slope, None, None'''

AT_LEAST = '''class NAME(StepPWL):
    """Rockpool's StepPWL, which counts in float32 and loses spikes beyond 2^24 thresholds, with an exact count."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: Tensor, window: Tensor, most: Tensor) -> Tensor:
        ctx.save_for_backward(x, threshold)
        ctx.window = window
        return torch.where(x >= threshold, torch.minimum(torch.floor(x / threshold), most.to(x.dtype)), 0)'''

STEP = '''class NAME(torch.autograd.Function):
    """1 where u > 0, else 0; backward 1 from `window` below 0 on, as Rockpool's StepPWL at a threshold of 1."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, window: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.window = window
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (u,) = ctx.saved_tensors
        return grads[0] * (u >= -ctx.window), None'''

LINEAR = '''class NAME(LinearTorch):
    """Rockpool's LinearTorch on (..., in). Its weight is (in, out); in the state dict (out, in), as in the graph."""

    __call__ = nn.Module.__call__  # a tensor, not Rockpool's (output, state, record)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2).unsqueeze(0)).squeeze(0).unflatten(0, x.shape[:-1])

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = destination[f"{prefix}weight"].T

    def _load_from_state_dict(self, state_dict, prefix, *others):
        if f"{prefix}weight" in state_dict:
            state_dict[f"{prefix}weight"] = state_dict[f"{prefix}weight"].T
        super()._load_from_state_dict(state_dict, prefix, *others)'''

IS_SHIFT = '''def NAME(decay: Tensor) -> Tensor:
    """Whether a decay per step is 1 - 2^-dash."""
    dash = -torch.log2(1 - decay)
    return (dash - dash.round()).abs() < 1e-2'''
