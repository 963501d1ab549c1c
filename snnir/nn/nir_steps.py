"""NIR nodes as PyTorch modules of one step, and snnir's layers as NIR nodes: the maps that nirtorch asks for.

    module = nirtorch.nir_to_torch("net.nir", node_map(snnir.load("net.nir").semantics))
    output, state = module(x)            # x (B, *shape), one step
    output, state = module(x, state)     # the next

    graph = snnir.load(nirtorch.torch_to_nir(model, module_map()), dt=1e-3)

nirtorch (2.6) is not imported here, and `nir` only where nodes are named. `node_map` replaces nirtorch's own modules
where those are wrong or missing: Affine (its bias stays random), Flatten (it takes the batch along), SumPool2d with
padding, Scale, Threshold, Delay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnir import ops
from snnir.discretise import delay_steps, step_length
from snnir.errors import MissingPackageError
from snnir.nn.base import Neuron
from snnir.nn.dynamics import State
from snnir.nn.neurons import IF, LI, LIF, CubaLI, CubaLIF, I
from snnir.semantics import Semantics

NEURONS: tuple[type[Neuron], ...] = (I, LI, IF, LIF, CubaLI, CubaLIF)


class NeuronStep(nn.Module):
    """One step of a neuron layer: x (B, *shape) and the state before -> output and the state after."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        c = self.neuron.coefficients(x)
        return self.neuron.step(x, (c.start, 0.0) if state is None else state, c)


class DelayStep(nn.Module):
    """One step of a delay line: x (B, *shape) -> what came `steps` steps before, 0 at first."""

    steps: Tensor

    def __init__(self, steps: ops.Array) -> None:
        super().__init__()
        self.register_buffer("steps", torch.from_numpy(steps.copy()))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        length = int(self.steps.max())
        line = torch.zeros(length, *x.shape, dtype=x.dtype, device=x.device) if state is None else state
        line = torch.cat([x[None], line])
        return line.gather(0, self.steps.long().expand_as(x)[None])[0], line[:length]


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor], **arrays: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(value)))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **dict(self.named_buffers()))


def node_map(semantics: Semantics) -> dict[type[Any], Callable[[Any], nn.Module]]:
    """Type of NIR node -> what makes a module of one step of it, for `nirtorch.nir_to_torch`.

    Args:
        semantics: what a step does, with its dt: `snnir.load(file).semantics`.

    Raises:
        CompileError: the time step is not known.
        ValueError: a reset that depends on the step before (snnTorch's), a floor, or several spikes per step.
        MissingPackageError: nir is not installed.
    """
    nir = _nir()
    dt = step_length(semantics, "a step of a NIR node")
    plain = Semantics(dt=dt, **{n: getattr(semantics, n) for n in ("decay", "gain", "reset", "comparison")})
    odd = [n for n in plain.differences(semantics) if n != "number_format"]
    if odd or semantics.reset not in ("value", "subtract"):
        what = ", ".join(f"{name} {getattr(semantics, name)!r}" for name in odd or ["reset"])
        raise ValueError(f"modules of one step have no {what}")
    choices = {"decay": plain.decay, "gain": plain.gain}
    firing = {**choices, "reset": plain.reset, "comparison": plain.comparison}

    def neuron(kind: type[Any]) -> Callable[[Any], nn.Module]:
        rule = {"gain": plain.gain} if kind is I else firing if kind.op_type.spiking else choices
        if kind is IF:
            rule = {name: value for name, value in firing.items() if name != "decay"}
        return lambda node: NeuronStep(kind(**{f: getattr(node, f) for f in kind.op_type.arrays}, dt=dt, **rule))

    return {
        **{getattr(nir, kind.__name__): neuron(kind) for kind in NEURONS},
        nir.Affine: _affine,
        nir.Flatten: _flatten,
        nir.SumPool2d: _sum_pool,
        nir.Scale: lambda node: _Function(torch.mul, other=node.scale),
        nir.Threshold: lambda node: _Function(_above, threshold=node.threshold),
        nir.Delay: lambda node: DelayStep(delay_steps(ops.Delay(delay=np.asarray(node.delay)), plain)),
    }


def module_map() -> dict[type[nn.Module], Callable[[Any], Any]]:
    """Type of snnir's layer -> what makes its NIR node, for `nirtorch.torch_to_nir`.

    NIR wants every parameter as an array of the population's shape, and a layer that has numbers only does not know
    it: give one parameter as such an array.

    Raises:
        MissingPackageError: nir is not installed.
    """
    nir = _nir()

    def node(kind: type[Neuron]) -> Callable[[Neuron], Any]:
        def made(layer: Neuron) -> Any:
            op = layer.to_op()
            full = np.broadcast_arrays(*(np.asarray(getattr(op, f), np.float64) for f in op.arrays))
            if full[0].ndim == 0:
                raise ValueError(f"{kind.__name__} has numbers only: give one of them as an array of its neurons")
            return getattr(nir, kind.__name__)(**dict(zip(op.arrays, (a.copy() for a in full), strict=True)))

        return made

    return {kind: node(kind) for kind in NEURONS}


def _above(x: Tensor, threshold: Tensor) -> Tensor:
    return (x > threshold).to(x.dtype)


def _nir() -> Any:
    try:
        import nir
    except ImportError as error:
        raise MissingPackageError("nir", "nir", "a map of NIR nodes") from error
    return nir


def _affine(node: Any) -> nn.Module:
    outputs, inputs = node.weight.shape[-2:]
    layer = nn.Linear(inputs, outputs)
    layer.weight.data = torch.from_numpy(np.array(node.weight))
    layer.bias.data = torch.from_numpy(np.array(node.bias))
    return layer


def _flatten(node: Any) -> nn.Module:
    def behind(axis: int) -> int:  # the axes of NIR know of no batch
        return int(axis) + 1 if axis >= 0 else int(axis)

    return nn.Flatten(behind(node.start_dim), behind(node.end_dim))


def _sum_pool(node: Any) -> nn.Module:
    kernel, stride, padding = (tuple(int(v) for v in np.broadcast_to(a, (2,))) for a in _sizes(node))
    taps = kernel[0] * kernel[1]
    return _Function(lambda x: taps * nn.functional.avg_pool2d(x, kernel, stride, padding))


def _sizes(node: Any) -> tuple[Any, Any, Any]:
    return np.asarray(node.kernel_size), np.asarray(node.stride), np.asarray(node.padding)
