"""Source that emitted files carry to work with SpikingJelly's nodes, as text: nothing here imports SpikingJelly."""

from __future__ import annotations

THROUGH = '''def NAME(node, x: Tensor, state: dict[str, Tensor], **values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What a node of SpikingJelly's gives for x from `state` on, with these parameters; and its state after that.

    A parameter that is one for all neurons and is not trained is a number to it: so its kernels take it. Others are
    tensors, which only the code takes that it runs for surrogate functions it does not know, such as a Sequential.
    """
    function, numbers = node.surrogate_function, True
    for name, value in values.items():
        first = value.flatten()[0]
        if value.requires_grad or not bool((value == first).all() & first.isfinite()):
            numbers, given = False, value.view_as(value)  # not a Parameter, which would be the node's own, too
        else:
            given = float(first)
        setattr(node, name, given)
    node.surrogate_function = function if numbers else nn.Sequential(function)
    for name, value in state.items():
        setattr(node, name, value)
    try:
        y, after = node(x), {name: getattr(node, name) for name in state}
    finally:
        node.surrogate_function = function
        node.reset()  # or it would keep the last graph alive
        for name, value in values.items():
            if not isinstance(getattr(node, name), float):
                setattr(node, name, value.detach())
    return y, after'''

MEMBRANE = '''def NAME(node, x: Tensor, tau: Tensor) -> Tensor:
    """The membrane of a node of SpikingJelly's that does not spike, at every step; tau in steps."""
    node.tau = tau.view_as(tau)
    steps = node(x)
    node.tau, node.v = tau.detach(), None  # or it would keep the last graph alive
    return whole(steps)'''

STRICT = '''class NAME(nn.Module):
    """A surrogate function of SpikingJelly's, but 1 only where u > 0, not where u = 0; its gradient is even."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, u: Tensor) -> Tensor:
        return 1 - self.function(-u)'''

SCALED = '''class NAME(nn.Module):
    """A surrogate function of SpikingJelly's with its gradient times `factor`."""

    def __init__(self, function, factor: float) -> None:
        super().__init__()
        self.function, self.factor = function, factor

    def forward(self, u: Tensor) -> Tensor:
        y = self.function(u)
        return y.detach() + self.factor * (y - y.detach())'''

JUST_ABOVE = '''def NAME(threshold: Tensor) -> Tensor:
    """The next float above: v >= just_above(threshold) where, and only where, v > threshold."""
    return threshold + (torch.nextafter(threshold, torch.full_like(threshold, torch.inf)) - threshold).detach()'''
