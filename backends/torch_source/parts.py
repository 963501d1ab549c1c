"""The layers without state that emitted models use, as real code: `snnir.backends.torch_source.library` copies them.

Every layer takes values (..., *sample): any number of leading axes, so (T, B) over a whole sequence and (B,) within a
loop over time. Where PyTorch's own layer does that, it is used as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DT = 0.0  # seconds per step; an emitted file has its own


def keep(module: nn.Module, **fields: Any) -> None:
    """Registers parameters that are not trained as buffers: they are saved and loaded with the weights."""
    for name, value in fields.items():
        module.register_buffer(name, torch.as_tensor(value))


def expect(x: Tensor, name: str, *sample: int, like: Any = None) -> None:
    """Refuses an input of another shape than (T, B, *sample), T and B those of `like`: layers could broadcast it."""
    if tuple(x.shape[2:]) != sample or x.dim() < 2 or x.shape[0] == 0 or x.shape[1] == 0:
        wanted = ", ".join(["T", "B", *map(str, sample)])
        raise ValueError(f"{name} has the shape {list(x.shape)}, expected ({wanted}): at least 1 step of 1 sample")
    if like is not None and x.shape[:2] != like.shape[:2]:
        steps, batch = like.shape[:2]
        raise ValueError(f"{name} has {list(x.shape[:2])} steps and samples, the first input [{steps}, {batch}]")


def frozen(layer: Any, *fields: str) -> Any:
    """The layer with some parameters that are not trained."""
    for name in fields:
        getattr(layer, name).requires_grad_(False)
    return layer


def trained(layer: Any, *fields: str) -> Any:
    """The layer with some of its buffers as parameters, which are trained."""
    for name in fields:
        value = getattr(layer, name)
        delattr(layer, name)
        layer.register_parameter(name, nn.Parameter(value))
    return layer


def forget(model: nn.Module, _inputs: Any, _output: Any) -> None:
    """Lets go of what a call has computed from trained parameters of neurons: such tensors cannot be copied."""

    def computed(value: Any) -> bool:
        if isinstance(value, tuple):
            return any(map(computed, value))
        return isinstance(value, Tensor) and not value.is_leaf

    for layer in model.modules():
        for name, value in list(vars(layer).items()):
            if computed(value):
                vars(layer)[name] = None
        for name, value in layer._buffers.items():
            if computed(value):
                layer._buffers[name] = None if value is None else value.detach()


def untrained(model: Any, _inputs: Any = None) -> None:
    """Refuses to train weights that another model computed from its parameters; before each call of `model`."""
    if model.training and torch.is_grad_enabled():
        made = "; ".join(f"{name} from {parameters}" for name, parameters in model.DERIVED.items())
        raise RuntimeError(
            f"weights were computed when the model was compiled, and training would change the results alone: {made}. "
            "Train the model that this one was compiled from, or remove what computes them there before it is "
            "compiled. model.eval() or torch.no_grad() runs this one as it is."
        )


def folded(layer: Any, x: Tensor, axes: int) -> Tensor:
    """`layer` on x, whose samples have `axes` axes; all axes in front of them are one batch to it."""
    return layer(x.flatten(0, -axes - 1)).unflatten(0, x.shape[:-axes])


def by_step(x: Tensor) -> tuple[Tensor, ...]:
    """x[0], x[1], ...; in the memory format of x, and so is its gradient (that of x.unbind() is not)."""
    return x.flatten(0, 1).split(x.shape[1])


def whole(steps: list[Tensor]) -> Tensor:
    """torch.stack(steps) in the memory format of the steps."""
    return torch.cat(steps).unflatten(0, (len(steps), -1))


class Conv1d(nn.Conv1d):
    """nn.Conv1d over (..., C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return folded(super().forward, input, 2)


class Conv2d(nn.Conv2d):
    """nn.Conv2d over (..., C, H, W); on a CPU the values lie channels last in memory, which is faster."""

    def forward(self, input: Tensor) -> Tensor:
        x = input.flatten(0, -4)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x).unflatten(0, input.shape[:-3])


class ConvMap(nn.Module):
    """Convolution over (..., C, *size) with a bias for every place of the output, (C_out, *size)."""

    def __init__(self, weight: Tensor, bias: Tensor, **options: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.options = nn.Parameter(weight), nn.Parameter(bias), options

    def forward(self, x: Tensor) -> Tensor:
        conv = F.conv2d if self.weight.dim() == 4 else F.conv1d
        return folded(lambda v: conv(v, self.weight, **self.options), x, self.weight.dim() - 1) + self.bias


class ConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d over (..., C, H, W)."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return folded(super().forward, input, 3)


class AvgPool2d(nn.AvgPool2d):
    """nn.AvgPool2d over (..., C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return folded(super().forward, input, 3)


class SumPool2d(nn.Module):
    """The sum over each window of (..., C, H, W)."""

    def __init__(
        self, kernel_size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        def layer(v: Tensor) -> Tensor:
            return F.avg_pool2d(v, self.kernel_size, self.stride, self.padding, divisor_override=1)

        return folded(layer, x, 3)


class MultiLinear(nn.Module):
    """y = weight @ x + bias over the last axis; weight (..., out, in): a matrix for every place of the axes before it.

    bias broadcasts to the output; None for none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            y = F.linear(x, self.weight)
        else:
            lead = self.weight.shape[:-2]
            y = torch.einsum("poi,...pi->...po", self.weight.flatten(0, -3), x.flatten(-1 - len(lead), -2))
            y = y.reshape(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


class Scale(nn.Module):
    """y = x * scale."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class BatchNorm(nn.Module):
    """y = weight * gain * (x - mean) / sqrt(var + eps) + bias per channel, the first of a sample's `axes` axes.

    In training, mean and variance are those of all steps and samples, and the kept ones follow them by `momentum`.
    gain = alpha * V_th makes it tdBN (Zheng et al., AAAI 2021).
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, axes: int, eps: float = 1e-5, momentum: Any = 0.1, gain: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        keep(self, mean=torch.zeros(channels), var=torch.ones(channels))
        self.axes, self.eps, self.momentum, self.gain = axes, eps, momentum, gain

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.momentum is None:
            raise ValueError("this batch norm averages over all batches that its model was trained with: call eval()")
        weight = self.weight if self.gain == 1.0 else self.weight * self.gain
        momentum = self.momentum or 0.0

        def layer(v: Tensor) -> Tensor:
            return F.batch_norm(v, self.mean, self.var, weight, self.bias, self.training, momentum, self.eps)

        return folded(layer, x, self.axes)


class Concat(nn.Module):
    """The inputs one after the other along `axis`, counted from the end; images keep their memory format."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *xs: Tensor) -> Tensor:
        if self.axis == -3:
            return torch.cat([x.flatten(0, -4) for x in xs], 1).unflatten(0, xs[0].shape[:-3])
        return torch.cat(xs, self.axis)


class Upsample2d(nn.Module):
    """Nearest neighbour upsampling of (..., H, W) by whole factors; images keep their memory format."""

    def __init__(self, factor: tuple[int, int]) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[-2] * self.factor[0], x.shape[-1] * self.factor[1])
        if x.shape[-2:] == (1, 1):  # one value per channel over a whole map
            return x.expand(*x.shape[:-2], *size)
        return folded(lambda y: F.interpolate(y, size=size, mode="nearest-exact"), x, 3)


class Reshape(nn.Module):
    """The last `axes` axes in another shape, their elements in the same order."""

    def __init__(self, axes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.axes, self.shape = axes, shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[: x.dim() - self.axes], *self.shape)


class Transpose(nn.Module):
    """A sample's axes in the order `axes`."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        lead = x.dim() - len(self.axes)
        return x.permute(*range(lead), *(lead + axis for axis in self.axes))


class Slice(nn.Module):
    """x[start:stop:step] along `axis`, counted from the end."""

    def __init__(self, axis: int, start: int, stop: int, step: int = 1) -> None:
        super().__init__()
        self.axis, self.range = axis, slice(start, stop, step)

    def forward(self, x: Tensor) -> Tensor:
        index: Any = (..., self.range, *(slice(None),) * (-self.axis - 1))
        return x[index]


class Multiply(nn.Module):
    """y = a * b."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class Constant(nn.Module):
    """The same value at every step; with `series`, value[t] at step t, its last entry held; trained if `learned`."""

    value: Tensor

    def __init__(self, value: Tensor, series: bool = False, learned: bool = False) -> None:
        super().__init__()
        if learned:
            self.value = nn.Parameter(torch.as_tensor(value))
        else:
            keep(self, value=value)
        self.series = series

    def forward(self, steps: int, batch: int) -> Tensor:
        if not self.series:
            return self.value.expand(steps, batch, *self.value.shape)
        held = self.value[torch.arange(steps).clamp(max=len(self.value) - 1)]
        return held.unsqueeze(1).expand(-1, batch, *self.value.shape[1:])


class Repeat(nn.Module):
    """Every step becomes `steps` equal steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.steps, 0)


class TemporalMean(nn.Module):
    """`steps` steps become one, their mean."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.steps, *x.shape[1:]).mean(1)


def whole_steps(delay: Tensor) -> Tensor:
    """Delays in seconds as steps."""
    return (delay / DT).round().long()


class Delay(nn.Module):
    """y(t) = x(t - delay), 0 before anything arrived; delay in seconds, for each element its own. x: (T, B, ...)."""

    delay: Tensor

    def __init__(self, delay: Tensor | float) -> None:
        super().__init__()
        keep(self, delay=delay)

    def forward(self, x: Tensor) -> Tensor:
        steps = whole_steps(self.delay)
        first = int(steps.flatten()[0])
        if bool((steps == first).all()):
            return torch.cat([torch.zeros_like(x[:first]), x])[: len(x)]
        then = torch.arange(len(x), device=x.device).view(-1, *[1] * (x.dim() - 1)) - steps
        then = then.expand(x.shape)
        return torch.where(then >= 0, x.gather(0, then.clamp(min=0)), 0)


class DelayCell(nn.Module):
    """Delay one step at a time, for a loop over time. x: (B, ...); gives the output and the past steps, last first."""

    delay: Tensor

    def __init__(self, delay: Tensor | float) -> None:
        super().__init__()
        keep(self, delay=delay)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = whole_steps(self.delay)
        if past is None:
            past = x.new_zeros(int(steps.max()) + 1, *x.shape)
        past = torch.cat([x.unsqueeze(0), past[:-1]])
        return past.gather(0, steps.expand(1, *x.shape)).squeeze(0), past


class ATan(torch.autograd.Function):
    """1 where u > 0, else 0; backward alpha / 2 / (1 + (pi / 2 alpha u)^2) (Fang et al. 2021)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.alpha = alpha
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (u,) = ctx.saved_tensors
        slope = (torch.pi / 2 * ctx.alpha * u).square_().add_(1).reciprocal_().mul_(ctx.alpha / 2)
        return slope.mul_(grads[0]), None


class FastSigmoid(torch.autograd.Function):
    """1 where u > 0, else 0; backward 1 / (1 + alpha |u|)^2 (Zenke and Ganguli 2018)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.alpha = alpha
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (u,) = ctx.saved_tensors
        return u.abs().mul_(ctx.alpha).add_(1).square_().reciprocal_().mul_(grads[0]), None


class Triangle(torch.autograd.Function):
    """1 where u > 0, else 0; backward max(0, 1 - |u| / alpha) / (2 alpha), alpha being the half width."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.alpha = alpha
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (u,) = ctx.saved_tensors
        return u.abs().div_(-ctx.alpha).add_(1).clamp_(min=0).div_(2 * ctx.alpha).mul_(grads[0]), None


def just_below(threshold: Tensor) -> Tensor:
    """The next float below: v > just_below(threshold) where, and only where, v >= threshold."""
    return torch.nextafter(threshold, torch.full_like(threshold, -torch.inf))


def derived(module: nn.Module) -> None:
    """Leaves a layer's buffers out of the state dict: they are computed, not learnt."""
    for name, value in list(module.named_buffers()):
        module.register_buffer(name, value, persistent=False)


def recorded(model: Any, names: Any, inputs: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """What `model` gives, and by name the values (T, B, ...) of the ops `names`."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    spelt, stepwise = getattr(model, "SPELT", {}), getattr(model, "STEPWISE", ())

    def watch(name: str) -> Any:
        def hook(_layer: Any, _inputs: Any, value: Any) -> None:
            seen[name].append((value[0] if isinstance(value, tuple) else value).clone())

        return model.get_submodule(spelt.get(name, name)).register_forward_hook(hook)

    hooks = [watch(name) for name in seen if name not in model.INPUTS and name not in model.OUTPUTS]
    try:
        given = model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    values = {name: torch.stack(v) if name in stepwise else v[0] for name, v in seen.items() if v}
    values.update(zip(model.INPUTS, inputs.values(), strict=True))
    values.update(given if isinstance(given, dict) else {model.OUTPUTS[0]: given})
    return given, {name: values[name] for name in names}


def fits(*conditions: Tensor) -> None:
    """Refuses parameters that have been changed into such as the layer, as it is written here, does not compute."""
    if not all(bool(condition.all()) for condition in conditions):
        raise ValueError("the layer was written for other neuron parameters: compile the network with these again")
