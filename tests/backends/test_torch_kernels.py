"""The layer-wise neuron loops of the torch target: values against NumPy, memory, values and gradients against the
frameworks. Every test runs with the tensor operations and with the compiled loops."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snnir.backends.torch import kernels
from snnir.backends.torch.kernels import Neuron, State, Surrogate, run, step
from tests.backends.kernel_cases import BY_STEP, LAYOUTS, NEURONS, SAMPLE, B, C, T, currents, uniform


def cast(neuron: Neuron, dtype: torch.dtype) -> Neuron:
    return Neuron(*(p.to(dtype) if isinstance(p, Tensor) else p for p in neuron))


def numpy_loop(x: Tensor, n: Neuron, v: Any = 0.0, i: Any = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The recurrence as written in the module's docstring, one step and one rounding at a time."""
    decay, gain, drive, threshold, v_reset, v_drop, decay_syn, gain_syn = (
        np.asarray(p, dtype=x.numpy().dtype) if p is not None else None for p in n[:8]
    )
    outputs, v, i = [], np.full(x.shape[1:], v, x.numpy().dtype), np.full(x.shape[1:], i, x.numpy().dtype)
    last = np.zeros(x.shape[1:], bool)
    for current in x.numpy():
        if decay_syn is not None:
            i = decay_syn * i + gain_syn * current
            current = i
        v = decay * v + gain * current + drive
        if n.late:
            v = np.where(last, v_reset if v_drop is None else v - v_drop, v)
        if threshold is None:
            outputs.append(v)
            continue
        s = v >= threshold if n.inclusive else v > threshold
        outputs.append(s.astype(v.dtype))
        if n.held:
            v = v - (s.astype(v.dtype) - last) * v_drop
            s = v >= threshold if n.inclusive else v > threshold
        last = s
        if not n.late:
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


@pytest.mark.parametrize("kind", BY_STEP)
def test_late_resets_that_run_by_step(kind: str) -> None:
    for dtype in (torch.float64, torch.float32):
        neuron, x = cast(BY_STEP[kind], dtype), currents().to(dtype)
        expected, v, i = numpy_loop(x, neuron)
        output, state = run(x, neuron)
        np.testing.assert_array_equal(output, expected)
        np.testing.assert_array_equal(state.v, v)
        assert neuron.decay_syn is None or np.array_equal(np.asarray(state.i), i)
        first, state = run(x[:3], neuron)
        assert torch.equal(torch.cat([first, run(x[3:], neuron, state)[0]]), output)
        prompt = numpy_loop(x, neuron._replace(late=False, held=False))[0]
        assert not np.array_equal(prompt, expected)
        assert 0.02 < expected.mean() < 0.9


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
