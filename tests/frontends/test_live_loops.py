"""forward() with a loop over time, as tutorials write it: read as the step that it repeats, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import numpy as np
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import snnir
from snnir import CompileError
from tests.frontends.live import DT, heaviside, noise

pytestmark = pytest.mark.oracle
STEPS = 9


class Net(nn.Module):
    """Layers of snnTorch's tutorials; `body` is forward()."""

    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(5, 8), nn.Linear(8, 4)
        self.lif1 = snn.Leaky(0.9, spike_grad=heaviside)
        self.lif2 = snn.Synaptic(0.8, 0.7, spike_grad=heaviside)
        self.rlif = snn.RLeaky(0.8, linear_features=4, spike_grad=heaviside)
        self.cell = norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.3)))
        self.register_buffer("gain", torch.tensor(1.0))
        self.body = body

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self, x)


def by_index(m: Net, x: torch.Tensor) -> Any:
    mem1, (syn2, mem2) = m.lif1.init_leaky(), m.lif2.init_synaptic()
    spikes, membranes = [], []
    for step in range(x.size(0)):
        spk1, mem1 = m.lif1(m.fc1(x[step]), mem1)
        spk2, syn2, mem2 = m.lif2(torch.relu(m.fc2(spk1)) * 1.5 + 0.125, syn2, mem2)
        spikes.append(spk2)
        membranes.append(mem2)
    return torch.stack(spikes, dim=0), torch.stack(membranes, dim=0)


def by_iteration(m: Net, x: torch.Tensor) -> Any:
    mem1, out = m.lif1.reset_mem(), []
    spk2, mem2 = m.rlif.init_rleaky()
    for current in x:
        spk1, mem1 = m.lif1(m.fc1(current), mem1)
        spk2, mem2 = m.rlif(m.fc2(spk1), spk2, mem2)
        out.append(spk2)
    return torch.stack(out)


def reusing(m: Net, x: torch.Tensor) -> Any:
    """A buffer is replaced, and so freed; a tensor of forward() that gets its id is still not the model's."""
    freed = id(m.gain)
    m.gain = torch.tensor(2.0)
    mem, out = m.lif1.init_leaky(), []
    made = [torch.full((8,), 1.5) for _ in range(3000)]
    found = next((factor for factor in made if id(factor) == freed), made[0])
    for step in range(x.size(0)):
        spk, mem = m.lif1(m.fc1(x[step]) * (made[-1] if step else found), mem)
        out.append(spk)
    return torch.stack(out)


def by_count(m: Net, x: torch.Tensor) -> Any:
    out, state = [], None
    for step in range(STEPS):
        z, state = m.cell(m.fc1(x[step]), state)
        out.append(m.fc2(z))
    return torch.stack(out)


def held(m: Net, x: torch.Tensor) -> Any:
    mem1, (syn2, mem2) = m.lif1.init_leaky(), m.lif2.init_synaptic()
    out = []
    current = m.fc1(x)
    for _ in range(STEPS):
        spk1, mem1 = m.lif1(current, mem1)
        spk2, syn2, mem2 = m.lif2(m.fc2(spk1), syn2, mem2)
        out.append(spk2)
    return torch.stack(out)


def rate(m: Net, x: torch.Tensor) -> Any:
    return held(m, x).mean(0)


def net(body: Callable[..., Any]) -> Net:
    torch.manual_seed(0)
    made = Net(body).double()
    for layer in (made.fc1, made.fc2):
        layer.weight.data.mul_(5)
    return made


@pytest.mark.parametrize("body", [by_index, by_iteration, by_count, reusing])
def test_a_loop_over_the_steps_of_snntorch_and_norse(body: Callable[..., Any]) -> None:
    model = net(body)
    x = noise(5, steps=STEPS)
    with torch.no_grad():
        want = model(x)
    want = want[0] if isinstance(want, tuple) else want
    for options in ({"input_shape": (5,)}, {"example_input": x}):
        graph = snnir.load(model, dt=DT, **options)
        np.testing.assert_allclose(snnir.interpret(graph, x.numpy()), want.numpy(), rtol=1e-9, atol=1e-9)
    assert float(want.abs().sum()) > 3
    assert len([name for name in graph.ops if "fc1" in name]) == 1


def test_a_loop_on_one_input_of_snntorch_repeats_it() -> None:
    model, x = net(held), noise(5, steps=1)
    graph = snnir.load(model, dt=DT, input_shape=(5,))
    with torch.no_grad():
        want = model(x[0])
    np.testing.assert_array_equal(snnir.interpret(graph, x.numpy()), want.numpy())
    assert want.shape[0] == STEPS
    assert float(want.sum()) > 3

    mean = snnir.load(net(rate), dt=DT, input_shape=(5,))
    np.testing.assert_allclose(snnir.interpret(mean, x.numpy())[0], want.mean(0).numpy(), atol=1e-12)


def test_a_loop_with_nodes_of_spikingjelly() -> None:
    class Rates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(5, 4), neuron.LIFNode(v_threshold=0.4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.lif(self.fc(x)) for _ in range(6)]).mean(0)

    torch.manual_seed(0)
    model = Rates().double()
    model.fc.weight.data.mul_(4)
    x = noise(5, steps=1)
    graph = snnir.load(model, dt=DT, input_shape=(5,))
    with torch.no_grad():
        want = model(x[0])
    np.testing.assert_allclose(snnir.interpret(graph, x.numpy())[0], want.numpy(), atol=1e-12)
    assert 0 < float(want.sum()) < want.numel()


def adds_up(m: Net, x: torch.Tensor) -> Any:
    mem, total = m.lif1.init_leaky(), 0
    for step in range(x.size(0)):
        spk, mem = m.lif1(m.fc1(x[step]), mem)
        total = total + spk
    return total


def last(m: Net, x: torch.Tensor) -> Any:
    mem = m.lif1.init_leaky()
    for step in range(x.size(0)):
        spk, mem = m.lif1(m.fc1(x[step]), mem)
    return spk


def feeds_back(m: Net, x: torch.Tensor) -> Any:
    mem, spk, out = m.lif1.init_leaky(), 0, []
    for step in range(x.size(0)):
        spk, mem = m.lif1(m.fc1(x[step]) + spk, mem)
        out.append(spk)
    return torch.stack(out)


def starts_anew(m: Net, x: torch.Tensor) -> Any:
    return torch.stack([m.lif1(m.fc1(x[step]), m.lif1.init_leaky())[0] for step in range(x.size(0))])


def forgets(m: Net, x: torch.Tensor) -> Any:
    return torch.stack([m.cell(m.fc1(current))[0] for current in x])


def backwards(m: Net, x: torch.Tensor) -> Any:
    out = [m.lif1(m.fc1(x[step]))[0] for step in range(x.size(0))]
    return torch.stack(out[::-1])


def looks_ahead(m: Net, x: torch.Tensor) -> Any:
    return torch.stack([m.lif1(m.fc1(x[step + 1]))[0] for step in range(STEPS - 1)])


def starts_full(m: Net, x: torch.Tensor) -> Any:
    mem, out = torch.ones(8), []
    for step in range(x.size(0)):
        spk, mem = m.lif1(m.fc1(x[step]), mem)
        out.append(spk)
    return torch.stack(out)


def swaps_states(m: Net, x: torch.Tensor) -> Any:
    mem1, (spk2, mem2), out = None, m.rlif.init_rleaky(), []
    for current in x:
        spk1, mem1 = m.lif1(m.fc1(current), mem1)
        spk2, mem2 = m.rlif(m.fc2(spk1), spk2, mem2)
        mem1 = mem2
        out.append(spk2)
    return torch.stack(out)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (adds_up, "adds up values of different steps"),
        (last, "gives one step of the loop"),
        (feeds_back, "adds up values of different steps"),
        (starts_anew, "starts anew in every step"),
        (forgets, "starts anew in every step"),
        (backwards, "stacks something else than one value of every step"),
        (looks_ahead, "gets the input of another step"),
        (starts_full, "before the first step is not zero"),
        (swaps_states, "gets the state of rlif"),
    ],
)
def test_loops_that_are_no_step_are_refused(body: Callable[..., Any], message: str) -> None:
    with pytest.raises(CompileError) as caught:
        snnir.load(net(body), dt=DT, input_shape=(5,))
    assert message in str(caught.value)
    assert "test_live_loops.py" in str(caught.value)
