"""The layer-wise neuron loops of the torch target: values against NumPy, gradients against plain autograd, and both
against the frameworks. Every test runs with the tensor operations and with the compiled loops."""

import ast
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snnir.backends.torch import kernels
from snnir.backends.torch.kernels import Neuron, State, Surrogate, run, step

T, B, C, H, W = 7, 3, 4, 5, 6
SAMPLE = (C, H, W)


@pytest.fixture(params=["tensor", "numba"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(kernels, "NUMBA_AFTER", 0 if request.param == "numba" else 1 << 62)
    called: list[int] = []
    launch = kernels._launch
    monkeypatch.setattr(kernels, "_launch", lambda *a: (called.append(1), launch(*a)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield request.param
    torch.set_num_threads(threads)
    assert bool(called) == (request.param == "numba"), "the test did not run on the engine it names"


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low


def currents(*shape: int, seed: int = 1) -> Tensor:
    return uniform(-0.7, 1.5, *(shape or (T, B, *SAMPLE)), seed=seed)


NEURONS: dict[str, Neuron] = {
    "lif": Neuron(decay=0.9, gain=0.35, threshold=1.0),
    "lif, per channel": Neuron(
        decay=uniform(0.5, 0.9, C, 1, 1),
        gain=uniform(0.5, 1.0, C, 1, 1, seed=2),
        drive=uniform(0.0, 0.2, C, 1, 1, seed=3),
        threshold=uniform(0.4, 1.0, C, 1, 1, seed=4),
        v_reset=uniform(-0.5, 0.2, C, 1, 1, seed=5),
    ),
    "lif, per neuron, inclusive": Neuron(
        decay=uniform(0.5, 0.9, *SAMPLE),
        threshold=torch.tensor(0.8),
        v_reset=uniform(-0.3, 0.3, *SAMPLE),
        inclusive=True,
    ),
    "lif, subtract": Neuron(decay=0.8, gain=0.7, threshold=0.9, v_drop=0.9),
    "if, subtract per channel": Neuron(
        decay=1.0, threshold=uniform(0.4, 1.0, C, 1, 1), v_drop=uniform(0.4, 1.0, C, 1, 1), drive=-0.05
    ),
    "cuba lif": Neuron(decay=0.8, gain=0.3, threshold=0.6, decay_syn=0.7, gain_syn=0.9, drive=0.02, v_reset=-0.1),
    "cuba lif, per neuron": Neuron(
        decay=uniform(0.5, 0.9, *SAMPLE), threshold=0.6, decay_syn=uniform(0.3, 0.9, *SAMPLE), v_drop=0.6
    ),
    "li": Neuron(decay=0.9, gain=0.1, drive=0.3),
    "cuba li": Neuron(decay=uniform(0.5, 0.9, C, 1, 1), gain=0.5, decay_syn=0.8, gain_syn=uniform(0.2, 0.9, C, 1, 1)),
}
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
    "width first": lambda x: x.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2),
    "every other value": lambda x: torch.stack([x, x], -1)[..., 0],
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "expanded over time": lambda x: x[:1].expand(x.shape),
}
every_neuron = pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())


def cast(neuron: Neuron, dtype: torch.dtype) -> Neuron:
    return Neuron(*(p.to(dtype) if isinstance(p, Tensor) else p for p in neuron))


def numpy_loop(x: Tensor, n: Neuron, v: Any = 0.0, i: Any = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The recurrence as written in the module's docstring, one step and one rounding at a time."""
    decay, gain, drive, threshold, v_reset, v_drop, decay_syn, gain_syn = (
        np.asarray(p, dtype=x.numpy().dtype) if p is not None else None for p in n[:8]
    )
    outputs, v, i = [], np.full(x.shape[1:], v, x.numpy().dtype), np.full(x.shape[1:], i, x.numpy().dtype)
    for current in x.numpy():
        if decay_syn is not None:
            i = decay_syn * i + gain_syn * current
            current = i
        v = decay * v + gain * current + drive
        if threshold is None:
            outputs.append(v)
            continue
        s = v >= threshold if n.inclusive else v > threshold
        outputs.append(s.astype(v.dtype))
        v = np.where(s, v_reset, v) if v_drop is None else np.where(s, v - v_drop, v)
    return np.stack(outputs), v, i


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(kind, torch.float64) for kind in NEURONS]
    + [(kind, torch.float32) for kind in ("lif, per channel", "if, subtract per channel", "cuba lif")],
)
def test_values_are_those_of_a_numpy_loop_bit_for_bit(engine: str, kind: str, dtype: torch.dtype) -> None:
    neuron = cast(NEURONS[kind], dtype)
    for name, layout in LAYOUTS.items():
        x = layout(currents().to(dtype))
        expected, v, i = numpy_loop(x, neuron)
        output, state = run(x, neuron)
        assert torch.equal(x, layout(currents().to(dtype))), f"{name}: x was overwritten"
        np.testing.assert_array_equal(output, expected, err_msg=name)
        np.testing.assert_array_equal(state.v, v, err_msg=name)
        if neuron.decay_syn is not None:
            np.testing.assert_array_equal(state.i, i, err_msg=name)
        if neuron.threshold is not None:
            assert 0.02 < expected.mean() < 0.9, "the case shows too few spikes or pauses to mean anything"


@pytest.mark.parametrize("shape", [(), (3,), (1100,), (2050,), (1, 1, 1)])
@pytest.mark.parametrize("batch", [1, 5])
def test_shapes_around_the_block_of_the_compiled_loop(engine: str, shape: tuple[int, ...], batch: int) -> None:
    x = currents(4, batch, *shape)
    for neuron in (NEURONS["lif"], NEURONS["lif"]._replace(decay=uniform(0.5, 0.9, *shape))):
        expected, v, _ = numpy_loop(x, neuron)
        output, state = run(x, neuron)
        assert output.shape == x.shape
        np.testing.assert_array_equal(output, expected)
        np.testing.assert_array_equal(state.v, v)


def test_comparison_at_the_threshold_itself(engine: str) -> None:
    x = torch.full((4, 1, 8), 0.5)  # dyadic numbers: v reaches exactly 1 in the second step
    strict = run(x, Neuron(decay=1.0, threshold=1.0))[0][:, 0, 0]
    inclusive = run(x, Neuron(decay=1.0, threshold=1.0, inclusive=True))[0][:, 0, 0]
    assert strict.tolist() == [0, 0, 1, 0]
    assert inclusive.tolist() == [0, 1, 0, 1]


def test_state_carries_on_where_a_run_stopped(engine: str) -> None:
    x = currents()
    for neuron in NEURONS.values():
        whole, end = run(x, neuron)
        first, state = run(x[:3], neuron)
        second, last = run(x[3:], neuron, state)
        assert torch.equal(torch.cat([first, second]), whole)
        assert torch.equal(torch.as_tensor(last.v), torch.as_tensor(end.v))
        single, state = [], None
        for current in x:
            output, state = step(current, neuron, state)
            single.append(output)
        assert torch.equal(torch.stack(single), whole)
    v = uniform(-1, 1, *SAMPLE)
    expected, _, _ = numpy_loop(x, NEURONS["cuba lif"], v=v.numpy(), i=0.25)
    np.testing.assert_array_equal(run(x, NEURONS["cuba lif"], State(v, 0.25))[0], expected)


# Gradients


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
    outputs = []
    for current in x:
        if n.decay_syn is not None:
            i = n.decay_syn * i + n.gain_syn * current
            current = i
        v = n.decay * v + n.gain * current + n.drive
        if n.threshold is None:
            outputs.append(v)
            continue
        fired = v >= n.threshold if n.inclusive else v > n.threshold
        s = Step.apply(v - n.threshold, fired, n.surrogate)
        outputs.append(s)
        r = s.detach() if n.detach_reset else s
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


# Memory


def test_in_place_reuses_the_memory_of_x(engine: str) -> None:
    x = LAYOUTS["channels last"](currents())
    expected = run(x, NEURONS["lif"])[0]
    output, _ = run(x, NEURONS["lif"], in_place=True)
    assert output.data_ptr() == x.data_ptr()
    assert output.stride() == x.stride()
    assert torch.equal(output, expected)


def test_in_place_raises_where_the_gradient_of_the_producer_needs_x(engine: str) -> None:
    x = currents().requires_grad_()
    output, _ = run(x.exp(), NEURONS["lif"], in_place=True)  # exp keeps its result for its gradient
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_in_place_never_overwrites_a_leaf_that_is_differentiated(engine: str) -> None:
    x = currents().requires_grad_()
    run(x, NEURONS["lif"], in_place=True)[0].sum().backward()
    assert torch.equal(x.detach(), currents())


def test_between_convolutions_channels_last_stays(engine: str) -> None:
    conv = torch.nn.Conv2d(C, 8, 3, padding=1, dtype=torch.float64).to(memory_format=torch.channels_last)
    x = LAYOUTS["channels last"](currents()).flatten(0, 1)
    spikes, _ = run(conv(x).unflatten(0, (T, B)), NEURONS["lif"], in_place=True)
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    spikes.sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.abs().max() > 0


def test_threads_give_the_same_bits(engine: str) -> None:
    x = currents(4, 3, 50_000)
    for neuron in (NEURONS["lif"], NEURONS["lif"]._replace(decay=uniform(0.5, 0.9, 50_000))):
        one = run(x, neuron)[0]
        torch.set_num_threads(2)
        two = run(x, neuron)[0]
        torch.set_num_threads(1)
        assert torch.equal(one, two)


def test_compiles_only_what_is_used_a_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[int] = []
    launch = kernels._launch
    monkeypatch.setattr(kernels, "_launch", lambda *a: (launched.append(1), launch(*a)))
    monkeypatch.setattr(kernels, "NUMBA_AFTER", 3 * currents().numel())
    monkeypatch.setattr(kernels, "_seen", type(kernels._seen)())
    outputs = [run(currents(), NEURONS["lif"])[0] for _ in range(5)]
    assert len(launched) == 2
    assert all(torch.equal(o, outputs[0]) for o in outputs)


# Bad input and the file itself


def test_refuses_what_it_cannot_compute() -> None:
    with pytest.raises(ValueError, match=r"torch.int64 of shape \(3, 2, 4\): expected floating point"):
        run(torch.ones(3, 2, 4, dtype=torch.long), NEURONS["lif"])
    with pytest.raises(ValueError, match=r"shape \(3,\): expected floating point, \(T, B, \*shape\)"):
        run(torch.ones(3), NEURONS["lif"])
    with pytest.raises(ValueError, match="expected 'atan', 'fast_sigmoid' or 'triangle'"):
        Surrogate("sigmoid")
    with pytest.raises(ValueError, match="alpha > 0"):
        Surrogate("atan", 0.0)


def test_half_precision_runs_without_the_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NUMBA_AFTER", 0)
    x = currents().bfloat16()
    output, state = run(x, NEURONS["lif"])
    assert output.dtype == torch.as_tensor(state.v).dtype == torch.bfloat16
    assert 0.02 < output.float().mean() < 0.9


def test_the_file_stands_alone(tmp_path: Path) -> None:
    source = Path(kernels.__file__).read_text()
    roots = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            roots |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            roots.add(str(node.module).partition(".")[0])
    assert roots - sys.stdlib_module_names == {"torch"}
    check = """
import sys, torch
sys.modules["numba"] = None
import copied
copied.NUMBA_AFTER = 0
s, _ = copied.run(torch.ones(4, 1, 3), copied.Neuron(decay=1.0, threshold=1.5))
assert s[:, 0, 0].tolist() == [0, 1, 0, 1], s
assert not any(name.startswith("snnir") for name in sys.modules)
"""
    (tmp_path / "copied.py").write_text(source)
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, check=True)


# The frameworks


def framework_spikes(module: Any, x: Tensor) -> Tensor:
    outputs, state = [], None
    for current in x:
        spikes, state = module(current, state)
        outputs.append(spikes)
    return torch.stack(outputs)


@pytest.mark.oracle
@pytest.mark.parametrize("framework", ["snntorch", "norse", "spikingjelly"])
def test_spikes_and_gradients_are_those_of_the_framework(engine: str, framework: str) -> None:
    x = LAYOUTS["channels last"](currents().float())
    theirs, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    # decay and gain of 1/2 and dyadic inputs: no rounding, so that the order of operations cannot matter
    for leaf in (theirs, ours):
        leaf.data = (leaf.data * 256).round() / 256
    neuron = Neuron(decay=0.5, gain=0.5, threshold=0.41)
    if framework == "snntorch":
        import snntorch
        import snntorch.surrogate

        leaky = snntorch.Leaky(
            beta=0.5, threshold=0.41, reset_mechanism="zero", spike_grad=snntorch.surrogate.atan(alpha=2.0)
        )
        expected = framework_spikes(leaky, theirs * 0.5)
    elif framework == "norse":
        import norse.torch as norse

        p = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(0.41))
        expected = framework_spikes(norse.LIFBoxCell(p, dt=1e-3), theirs)
        neuron = neuron._replace(surrogate=Surrogate("fast_sigmoid", 1.0), detach_reset=False)
    else:
        from spikingjelly.activation_based import neuron as jelly_neuron
        from spikingjelly.activation_based import surrogate as jelly_surrogate

        node = jelly_neuron.LIFNode(
            tau=2.0,
            v_threshold=0.41,
            surrogate_function=jelly_surrogate.ATan(2.0),
            detach_reset=True,
            step_mode="m",
        )
        expected = node(theirs)
    output, _ = run(ours, neuron)
    assert torch.equal(output, expected)
    assert 0.02 < output.mean() < 0.9
    weights = uniform(-1, 1, *output.shape).float()
    (expected * weights).sum().backward()
    (output * weights).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
