"""Source that emitted files carry to work with sinabs's layers, as text: nothing here imports sinabs."""

from __future__ import annotations

BARE = '''def NAME(layer):
    """A layer of sinabs's without parameters of its own: they are made from the buffers at each call."""
    for name in list(layer._parameters):
        delattr(layer, name)
        setattr(layer, name, None)
    layer.__deepcopy__ = None  # sinabs's makes a layer with parameters of its own; copy.deepcopy() copies as it is
    derived(layer)  # its states
    return layer'''

THROUGH = '''def NAME(layer, x: Tensor, **values: Any) -> tuple[Tensor, ...]:
    """sinabs's layer, which takes (B, T, ...), on x: (T, B, ...), with these parameters and states.

    Gives the output and the last states. The layer keeps states and a firing rate, here without their graph.
    """
    for name, value in values.items():
        # A parameter of the model is no parameter of the layer, too.
        setattr(layer, name, value.view_as(value) if isinstance(value, nn.Parameter) else value)
    y = layer(x.transpose(0, 1)).transpose(0, 1).to(x.dtype)
    states = tuple(getattr(layer, name) for name in ("i_syn", "v_mem") if name in layer._buffers)
    layer.firing_rate = layer.firing_rate.detach()
    for name, value in {**values, **dict(layer.named_buffers())}.items():
        if isinstance(value, Tensor):
            setattr(layer, name, value.detach())
    return y, *states'''

SPIKE = '''class NAME(torch.autograd.Function):
    """One spike where v_mem SIGN spike_threshold, as a spike_fn of sinabs's, with a gradient for the threshold, too."""

    required_states = ["v_mem"]

    @staticmethod
    def forward(ctx: Any, v_mem: Tensor, spike_threshold: Tensor, surrogate_grad_fn: Any) -> Tensor:
        ctx.save_for_backward(v_mem, spike_threshold)
        ctx.surrogate_grad_fn = surrogate_grad_fn
        return (v_mem SIGN spike_threshold).to(v_mem.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        v_mem, spike_threshold = ctx.saved_tensors
        slope = grads[0] * ctx.surrogate_grad_fn(v_mem, spike_threshold)
        return slope, -slope if ctx.needs_input_grad[1] else None, None'''

STRICT = '''class NAME:
    """MultiSpike, at most `most` spikes in a step (None: all), but each only where v_mem > its threshold."""

    required_states = ["v_mem"]

    def __init__(self, most: int | None) -> None:
        self.most = most

    def apply(self, v_mem: Tensor, spike_threshold: Tensor, surrogate_grad_fn: Any) -> Tensor:
        spikes = ONE.apply(v_mem, spike_threshold, surrogate_grad_fn)
        more = (torch.ceil(v_mem.detach() / spike_threshold.detach()) - 2).clamp(min=0)
        more = more if self.most is None else more.clamp(max=self.most - 1)
        return spikes + more * spikes.detach()'''

SUBTRACT = '''class NAME(MembraneSubtract):
    """sinabs's MembraneSubtract without a gradient through the spikes."""

    def __call__(self, spikes, state, threshold):
        return super().__call__(spikes.detach(), state, threshold)'''

RESET = '''@dataclass
class NAME:
    """The membrane becomes `value` where it spiked (sinabs's MembraneReset adds it in every step)."""

    value: Any

    def __call__(self, spikes, state, threshold):
        v_mem = BODY
        return {**state, "v_mem": v_mem}'''

DETACHED = 'torch.where(spikes > 0, self.value, state["v_mem"])'
ATTACHED = '(1 - spikes) * state["v_mem"] + spikes * self.value'

SURROGATES = {
    "atan": (
        "ATan",
        '''@dataclass
class NAME:
    """The surrogate gradient alpha / 2 / (1 + (pi / 2 alpha u)^2), u being v_mem - spike_threshold."""

    alpha: float

    def __call__(self, v_mem: Tensor, spike_threshold: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (torch.pi / 2 * self.alpha * (v_mem - spike_threshold)) ** 2)''',
    ),
    "fast_sigmoid": (
        "FastSigmoid",
        '''@dataclass
class NAME:
    """The surrogate gradient 1 / (1 + slope |u|)^2, u being v_mem - spike_threshold."""

    slope: float

    def __call__(self, v_mem: Tensor, spike_threshold: Tensor) -> Tensor:
        return 1 / (1 + self.slope * (v_mem - spike_threshold).abs()) ** 2''',
    ),
    "triangle": (
        "Triangle",
        '''@dataclass
class NAME:
    """The surrogate gradient max(0, 1 - |u| / width) / (2 width), u being v_mem - spike_threshold."""

    width: float

    def __call__(self, v_mem: Tensor, spike_threshold: Tensor) -> Tensor:
        return (1 - (v_mem - spike_threshold).abs() / self.width).clamp(min=0) / (2 * self.width)''',
    ),
}

AT_ONE = '''class NAME(SingleExponential):
    """sinabs's SingleExponential as at a threshold of 1: its width is a share of it, which may be below 0."""

    def __call__(self, v_mem: Tensor, spike_threshold: Tensor) -> Tensor:
        return super().__call__(v_mem - spike_threshold + 1, torch.ones_like(v_mem))'''
