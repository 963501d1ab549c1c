"""Gradients of the layer-wise neuron loops of the torch target against plain autograd, on both engines."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from snnir.backends.torch.kernels import Neuron, State, Surrogate, run
from tests.backends.kernel_cases import BY_STEP, LAYOUTS, NEURONS, SAMPLE, B, currents, every_neuron, uniform


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, fired: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return fired.to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (u,), alpha = ctx.saved_tensors, ctx.surrogate.alpha
        slope = {
            "atan": lambda: alpha / 2 / (1 + (math.pi / 2 * alpha * u) ** 2),
            "fast_sigmoid": lambda: 1 / (1 + alpha * u.abs()) ** 2,
            "triangle": lambda: torch.relu(1 - u.abs() / alpha) / (2 * alpha),
        }[ctx.surrogate.kind]()
        return grads[0] * slope, None, None


def autograd_loop(x: Tensor, n: Neuron, v: Any, i: Any) -> tuple[Tensor, Tensor, Tensor]:
    outputs, last = [], torch.zeros_like(x[0])
    for current in x:
        if n.decay_syn is not None:
            i = n.decay_syn * i + n.gain_syn * current
            current = i
        v = n.decay * v + n.gain * current + n.drive
        if n.late:
            v = v * (1 - last) + n.v_reset * last if n.v_drop is None else v - last * n.v_drop
        if n.threshold is None:
            outputs.append(v)
            continue
        fired = v >= n.threshold if n.inclusive else v > n.threshold
        s = Step.apply(v - n.threshold, fired, n.surrogate)
        outputs.append(s)
        r = s.detach() if n.detach_reset else s
        if n.held:
            v = v - (r - last) * n.v_drop
            s = Step.apply(v - n.threshold, v >= n.threshold if n.inclusive else v > n.threshold, n.surrogate)
            r = s.detach() if n.detach_reset else s
        last = r
        if not n.late:
            v = v * (1 - r) + n.v_reset * r if n.v_drop is None else v - r * n.v_drop
    return torch.stack(outputs), v, i


def gradients(loop: Any, x: Tensor, neuron: Neuron, layout: Callable[[Tensor], Tensor], trained: bool) -> list[Tensor]:
    """Gradients, for the input, the first state and (trained) the parameters, of a loss over outputs and last state."""
    leaves = [x.clone(), uniform(-1, 1, B, *SAMPLE, seed=8), uniform(-1, 1, B, *SAMPLE, seed=9)]
    if trained:
        neuron = Neuron(*(p.detach().clone() if isinstance(p, Tensor) else p for p in neuron))
        leaves += [p for p in neuron if isinstance(p, Tensor)]
    for leaf in leaves:
        leaf.requires_grad_()
    output, v, i = loop(layout(leaves[0]), neuron, leaves[1], leaves[2])
    loss = (output * uniform(-1, 1, *output.shape, seed=6)).sum() + (v * uniform(-1, 1, *v.shape, seed=7)).sum()
    if neuron.decay_syn is not None:
        loss = loss + (i * uniform(-1, 1, *i.shape, seed=10)).sum()
    loss.backward()
    return [leaf.grad if leaf.grad is not None else torch.zeros(0) for leaf in leaves]


def our_loop(x: Tensor, neuron: Neuron, v: Tensor, i: Tensor) -> tuple[Tensor, Any, Any]:
    output, state = run(x, neuron, State(v, i))
    return output, state.v, state.i


def our_loop_in_place(x: Tensor, neuron: Neuron, v: Tensor, i: Tensor) -> tuple[Tensor, Any, Any]:
    output, state = run(x * 1.0, neuron, State(v, i), in_place=True)
    return output, state.v, state.i


SURROGATES = [Surrogate("atan", 2.0), Surrogate("fast_sigmoid", 5.0), Surrogate("triangle", 0.5)]


def assert_same_gradients(neuron: Neuron, loop: Any, layouts: list[str], trained: bool = False) -> None:
    for name in layouts:
        expected = gradients(autograd_loop, currents(), neuron, LAYOUTS[name], trained)
        assert all(g.abs().max() > 1e-3 for g in expected if g.numel())
        found = gradients(loop, currents(), neuron, LAYOUTS[name], trained)
        for a, b in zip(found, expected, strict=True):
            if b.numel():
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@every_neuron
def test_gradients_are_those_of_autograd(engine: str, neuron: Neuron) -> None:
    assert_same_gradients(neuron, our_loop, list(LAYOUTS))


@pytest.mark.parametrize("kind", ["lif", "cuba lif", "li"])
def test_gradients_in_place(engine: str, kind: str) -> None:
    assert_same_gradients(NEURONS[kind], our_loop_in_place, ["contiguous", "channels last"])


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.kind)
@pytest.mark.parametrize("kind", ["lif, per channel", "lif, subtract"])
def test_gradients_of_every_surrogate_through_the_reset(engine: str, kind: str, surrogate: Surrogate) -> None:
    neuron = NEURONS[kind]._replace(surrogate=surrogate, detach_reset=False)
    assert_same_gradients(neuron, our_loop, ["contiguous", "channels last"])


@pytest.mark.parametrize("detach", [True, False], ids=["detached", "through the reset"])
@pytest.mark.parametrize("kind", [*BY_STEP, "lif, late", "cuba lif, late, per neuron"])
def test_gradients_of_late_resets(kind: str, detach: bool) -> None:
    neuron = {**BY_STEP, **NEURONS}[kind]._replace(detach_reset=detach)
    assert_same_gradients(neuron, our_loop, ["contiguous", "channels last"])
    assert_same_gradients(neuron, our_loop_in_place, ["contiguous"])


@pytest.mark.parametrize("surrogate", SURROGATES[1:], ids=lambda s: s.kind)
def test_gradients_of_every_surrogate(engine: str, surrogate: Surrogate) -> None:
    assert_same_gradients(NEURONS["lif"]._replace(surrogate=surrogate), our_loop, ["contiguous"])


@pytest.mark.parametrize("detach", [True, False], ids=["detached", "through the reset"])
@every_neuron
def test_gradients_of_trained_parameters(neuron: Neuron, detach: bool) -> None:
    parameters = [torch.as_tensor(p, dtype=torch.float64) if isinstance(p, float) else p for p in neuron[:8]]
    assert_same_gradients(Neuron(*parameters, *neuron[8:-1], detach), our_loop, ["contiguous"], trained=True)


def test_gradient_flows_through_the_state_between_chunks(engine: str) -> None:
    x, neuron = currents(), NEURONS["cuba lif"]

    def chunked(x: Tensor, neuron: Neuron, v: Tensor, i: Tensor) -> tuple[Tensor, Any, Any]:
        first, state = run(x[:2], neuron, State(v, i))
        second, state = run(x[2:], neuron, state)
        return torch.cat([first, second]), state.v, state.i

    assert x.shape[0] > 2
    assert_same_gradients(neuron, chunked, ["contiguous", "channels last"])


def test_gradients_of_a_mean_over_time(engine: str) -> None:
    for name in ("contiguous", "channels last"):
        found = []
        for loop in (autograd_loop, our_loop):
            x = currents().requires_grad_()
            output, _, _ = loop(LAYOUTS[name](x), NEURONS["cuba lif"], torch.zeros(()), torch.zeros(()))
            (output.mean(0) * uniform(-1, 1, B, *SAMPLE, seed=6)).sum().backward()
            found.append(x.grad)
        torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-12)


def test_a_second_backward_pass_gives_the_same(engine: str) -> None:
    x = currents().requires_grad_()
    loss = run(x * 1.0, NEURONS["lif"], in_place=True)[0].sum()
    first = torch.autograd.grad(loss, x, retain_graph=True)[0].clone()
    second = torch.autograd.grad(loss, x, retain_graph=True)[0].clone()
    assert torch.equal(first, second)
    assert torch.equal(first, torch.autograd.grad(loss, x)[0])
