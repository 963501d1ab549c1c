"""Loading leaves a module exactly as it was, whatever state and mode it is in, and what forward() keeps is refused."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import norse.torch as norse
import numpy as np
import pytest
import sinabs.layers as sl
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based import layer as sj
from torch import Tensor, nn

import snnir
from snnir import nn as own
from snnir.errors import CompileError

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]


class Loop(nn.Module):
    """As in snnTorch's tutorials: init_leaky() replaces buffers, learnt factors and thresholds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 5)
        self.leaky = snntorch.Leaky(beta=0.9, learn_beta=True, learn_threshold=True)
        self.out = nn.Linear(5, 3)
        self.recurrent = snntorch.RLeaky(beta=0.8, linear_features=3)

    def forward(self, x: Tensor) -> Tensor:
        mem = self.leaky.init_leaky()
        spikes, rest = self.recurrent.init_rleaky()
        out = []
        for t in range(x.size(0)):
            z, mem = self.leaky(self.fc(x[t]), mem)
            spikes, rest = self.recurrent(self.out(z), spikes, rest)
            out.append(spikes)
        return torch.stack(out)


def hidden() -> nn.Module:
    synaptic = snntorch.Synaptic(alpha=0.8, beta=0.9, init_hidden=True)
    leaky = snntorch.Leaky(beta=0.9, init_hidden=True)
    return nn.Sequential(nn.Linear(4, 5), leaky, nn.Dropout(), nn.Linear(5, 3), synaptic)


def spikingjelly() -> nn.Module:
    nodes = neuron.LIFNode(tau=2.0), neuron.ParametricLIFNode()
    model = nn.Sequential(sj.Linear(4, 5), nodes[0], sj.Dropout(0.5), sj.Linear(5, 3), nodes[1])
    functional.set_step_mode(model, "m")
    return model


def by_step(model: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([model(step) for step in x])


def with_state(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)[0]


def batch_first(model: nn.Module, x: Tensor) -> Tensor:
    return model(x.transpose(0, 1)).transpose(0, 1)


def forget(model: nn.Module) -> None:
    for layer in model.modules():
        for name in ("reset_hidden", "reset_mem", "reset_states"):
            if hasattr(layer, name):
                getattr(layer, name)()


Case = tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor], Callable[[nn.Module], Any], dict[str, Any]]
STEP = {"dt": 1e-3}
CASES: dict[str, Case] = {
    "snntorch-hidden": (hidden, by_step, forget, STEP),
    "snntorch-loop": (Loop, lambda m, x: m(x), lambda m: None, {**STEP, "input_shape": (4,)}),
    "norse": (
        lambda: norse.SequentialState(nn.Linear(4, 5), norse.LIF(), norse.LIFRecurrent(5, 3)),
        with_state,
        forget,
        {},
    ),
    "spikingjelly": (spikingjelly, lambda m, x: m(x), functional.reset_net, STEP),
    "sinabs": (
        lambda: nn.Sequential(nn.Linear(4, 5), sl.LIF(tau_mem=10.0), nn.Dropout(), nn.Linear(5, 3), sl.IAF()),
        batch_first,
        forget,
        STEP,
    ),
    "sinabs-recurrent": (
        lambda: nn.Sequential(nn.Linear(4, 5), sl.LIFRecurrent(tau_mem=10.0, rec_connect=nn.Linear(5, 5))),
        batch_first,
        forget,
        STEP,
    ),
    "snnir": (
        lambda: own.Sequential(own.Linear(4, 5), own.LIF(tau=5e-3, r=9.0, learn="tau", dt=1e-3), own.Linear(5, 3)),
        lambda m, x: m(x),
        lambda m: None,
        {},
    ),
}


def held(root: Any) -> dict[str, Any]:
    """Everything that hangs on a module: objects by identity, tensors by their numbers, gradients and history too."""
    found: dict[str, Any] = {}
    seen: dict[int, Any] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Tensor):
            grad = value.grad if value.is_leaf else None
            grad = None if grad is None else (id(grad), grad.numpy().tobytes())
            found[path] = (id(value), value.detach().numpy().tobytes(), value.requires_grad, value.grad_fn, grad)
        elif isinstance(value, dict):
            found[path] = (id(value), list(value))
            for key, item in value.items():
                walk(f"{path}[{key}]", item)
        elif isinstance(value, (list, tuple)):
            found[path] = (id(value), len(value))
            for key, item in enumerate(value):
                walk(f"{path}[{key}]", item)
        elif hasattr(value, "__dict__") and not isinstance(value, type) and id(value) not in seen:
            seen[id(value)] = value
            found[path] = id(value)
            for key, item in vars(value).items():
                walk(f"{path}.{key}", item)
        else:
            found[path] = value if isinstance(value, (int, float, str, bool)) else id(value)

    walk("", root)
    return found


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", CASES)
def test_loading_changes_nothing_and_sees_no_state_left_from_before(name: str, train: bool) -> None:
    make, run, reset, options = CASES[name]
    torch.manual_seed(0)
    model = make().train(train)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_().mul_(2 if parameter.dim() == 2 else 1)  # so that all layers fire
    fresh = snnir.load(model, **options)
    x = torch.rand(40, 2, 4) * 20
    run(model, x).sum().backward()
    before, random = held(model), torch.get_rng_state()
    again = snnir.load(model, **options)
    assert held(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert again.weights().keys() == fresh.weights().keys()
    assert str(again) == str(fresh)
    reset(model)
    with torch.no_grad():
        wanted = run(model.eval(), x).numpy()
    assert wanted.any()
    np.testing.assert_allclose(snnir.interpret(again, x.numpy().astype(np.float64)), wanted, atol=1e-5)


class Keeps(nn.Module):
    """A neuron by hand; `how` it keeps its membrane."""

    input_shape = (4,)

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.fc = nn.Linear(4, 4)
        self.mem: Any = None
        self.register_buffer("held", torch.ones(4))
        self.past: list[Any] = []
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.fc(x)
        if self.how == "attribute":
            if self.mem is None:
                self.mem = torch.zeros(4)
            y = self.mem = 0.9 * self.mem + y
        elif self.how == "buffer":
            y = self.held = 0.9 * self.held + y
        elif self.how == "list":
            self.past.append(y)
            y = sum(self.past[-2:])  # type: ignore[assignment]
        elif self.how == "in-place":
            self.held.mul_(0.9)
            y = y * self.held
        elif self.how == "decays":
            self.held = self.held * 0.9
            y = y * self.held
        elif self.how == "note":
            self.seen = y
        elif self.how == "fresh-list":
            self.past = []
            self.past.append(y)
            y = self.past[0]
        else:
            if self.mem is None:
                self.mem = torch.full((4,), 0.5)
            y = y * self.mem
        return y


@pytest.mark.parametrize("how", ["attribute", "buffer", "list", "in-place", "decays"])
def test_what_forward_keeps_is_refused_and_taken_back(how: str) -> None:
    """A membrane in an attribute was lost without a word, and a symbol of the trace stayed in its place."""
    model = Keeps(how)
    before = held(model)
    with pytest.raises(CompileError, match=r"\[trace-state\] (mem|held|past): forward\(\) (keeps|writes)") as caught:
        snnir.load(model, dt=1e-3)
    assert len(caught.value.violations) == 1
    assert held(model) == before
    assert "__getattribute__" not in vars(Keeps)
    assert "__setattr__" not in vars(Keeps)


NESTED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "dict": (lambda: {"a": {"v": 0.0}}, lambda s: s["a"]["v"], lambda s, v: s["a"].update(v=v)),
    "list": (lambda: [[0.0], [0.0]], lambda s: s[1][0], lambda s, v: s[1].__setitem__(0, v)),
    "object": (lambda: SimpleNamespace(v=0.0), lambda s: s.v, lambda s, v: setattr(s, "v", v)),
    "within": (lambda: [SimpleNamespace(v=0.0)], lambda s: s[0].v, lambda s, v: setattr(s[0], "v", v)),
    "defaultdict": (lambda: defaultdict(float), lambda s: s["v"], lambda s, v: s.update(v=v)),
    "deque": (lambda: deque([0.0], maxlen=1), lambda s: s[0], lambda s, v: s.append(v)),
}


@pytest.mark.parametrize("attribute", ["state", "_state"])
@pytest.mark.parametrize("how", NESTED)
def test_states_within_others_and_of_private_names_are_refused_and_taken_back(how: str, attribute: str) -> None:
    """Those in attributes that begin with _, and below the first level, were lost without a word."""
    make, get, put = NESTED[how]

    class Nested(nn.Module):
        input_shape = (4,)

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            setattr(self, attribute, make())

        def forward(self, x: Tensor) -> Tensor:
            kept = getattr(self, attribute)
            y: Tensor = 0.9 * get(kept) + self.fc(x)
            put(kept, y)
            return y

    model = Nested()
    holder = getattr(model, attribute)
    with pytest.raises(CompileError, match=rf"\[trace-state\] {attribute}: forward\(\) keeps") as caught:
        snnir.load(model, dt=1e-3)
    assert len(caught.value.violations) == 1
    assert getattr(model, attribute) is holder
    assert holder == make()


class Slots:
    __slots__ = ("v",)

    def __init__(self) -> None:
        self.v: Any = 0.0


class Leaks:
    """A neuron that is no module, and a function to Python."""

    def __init__(self) -> None:
        self.v: Any = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        self.v = 0.9 * self.v + x
        return self.v  # type: ignore[no-any-return]


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = 0.9 * self.v + x
        return self.v  # type: ignore[no-any-return]


MEMBRANE: Any = 0.0


def globally(model: Any, x: Tensor) -> Tensor:
    global MEMBRANE
    MEMBRANE = 0.9 * MEMBRANE + x
    return MEMBRANE  # type: ignore[no-any-return]


def enclosed() -> Callable[[Any, Tensor], Tensor]:
    v: Any = 0.0

    def step(model: Any, x: Tensor) -> Tensor:
        nonlocal v
        v = 0.9 * v + x
        return v  # type: ignore[no-any-return]

    return step


def of_class(model: Any, x: Tensor) -> Tensor:
    type(model).v = 0.9 * type(model).v + x
    return type(model).v  # type: ignore[no-any-return]


def in_class_list(model: Any, x: Tensor) -> Tensor:
    model.past.append(x)
    return sum(model.past[-2:])  # type: ignore[no-any-return]


def by_default(model: Any, x: Tensor, past: list[Tensor] = []) -> Tensor:  # noqa: B006
    past.append(x)
    return sum(past[-2:])  # type: ignore[return-value]


def of_function(model: Any, x: Tensor) -> Tensor:
    of_function.v = 0.9 * getattr(of_function, "v", 0.0) + x  # type: ignore[attr-defined]
    return of_function.v  # type: ignore[attr-defined, no-any-return]


def in_slots(model: Any, x: Tensor) -> Tensor:
    model.slots.v = 0.9 * model.slots.v + x
    return model.slots.v  # type: ignore[no-any-return]


def counted(model: Any, x: Tensor) -> Tensor:
    model.calls += 1
    return x * model.calls


def noisy(model: Any, x: Tensor) -> Tensor:
    return x + torch.randn(4)


ELSEWHERE: dict[str, Callable[[], Callable[[Any, Tensor], Tensor]]] = {
    "class": lambda: of_class,
    "list of the class": lambda: in_class_list,
    "module in a list": lambda: lambda model, x: model.cells[0].forward(x),  # type: ignore[no-any-return]
    "module in a dict": lambda: lambda model, x: model.named["a"].forward(x),  # type: ignore[no-any-return]
    "callable": lambda: lambda model, x: model.leaks(x),  # type: ignore[no-any-return]
    "bound method": lambda: lambda model, x: model.method(x),  # type: ignore[no-any-return]
    "slots": lambda: in_slots,
    "global": lambda: globally,
    "closure": enclosed,
    "default": lambda: by_default,
    "function": lambda: of_function,
    "count": lambda: counted,
    "noise": lambda: noisy,
}


@pytest.mark.parametrize("how", ELSEWHERE)
def test_states_that_no_module_holds_are_refused(how: str) -> None:
    """The first call of forward() was taken for all of them, and what it had kept was lost without a word."""
    step = ELSEWHERE[how]()

    class Model(nn.Module):
        input_shape = (4,)
        v: Any = 0.0
        past: ClassVar[list[Any]] = []

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.cells, self.named = [Cell()], {"a": Cell()}
            self.leaks, self.method, self.slots, self.calls = Leaks(), Leaks().__call__, Slots(), 0

        def forward(self, x: Tensor) -> Tensor:
            return step(self, self.fc(x))

    model = Model()
    before = held(model)
    with pytest.raises(CompileError, match=r"\[trace-state\] .*: forward\(\) (keeps|computes it anew)") as caught:
        snnir.load(model, dt=1e-3)
    assert len(caught.value.violations) == 1
    assert "test_untouched.py:" in caught.value.violations[0].loc
    assert how in ("slots", "bound method") or held(model) == before
    assert (Model.v, Model.past) == (0.0, [])


def test_what_is_kept_and_never_read_is_no_state() -> None:
    class Model(nn.Module):
        input_shape = (4,)
        last: Any = None
        log: ClassVar[list[Any]] = []

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.mask: Tensor | None = None
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            if self.mask is None:
                self.mask = torch.tensor([1.0, 0.0, 2.0, 1.0])
            y: Tensor = self.fc(x) * self.mask
            type(self).last = y
            self.log.append(y)
            self.calls += 1
            return y

    model = Model()
    graph = snnir.load(model, dt=1e-3)
    assert (Model.last, Model.log, model.calls, model.mask) == (None, [], 0, None)
    x = torch.rand(3, 4)
    got = snnir.interpret(graph, x[None].numpy())[0]
    np.testing.assert_allclose(got, model(x).detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("private", [False, True])
def test_a_membrane_of_a_private_name_is_refused(private: bool) -> None:
    class Mem(nn.Module):
        input_shape = (4,)

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("_mem" if private else "mem", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            name = "_mem" if private else "mem"
            mem: Tensor = 0.9 * getattr(self, name) + self.fc(x)
            setattr(self, name, mem)
            return mem

    with pytest.raises(CompileError, match=r"\[trace-state\] _?mem: forward\(\) keeps"):
        snnir.load(Mem(), dt=1e-3)


@pytest.mark.parametrize("how", ["note", "fresh-list", "constant"])
def test_what_forward_only_notes_is_taken_back(how: str) -> None:
    model = Keeps(how)
    before = held(model)
    first = snnir.load(model, dt=1e-3)
    assert held(model) == before
    x = torch.rand(3, 4)
    wanted = model(x).detach().numpy()
    np.testing.assert_allclose(snnir.interpret(first, x[None].numpy())[0], wanted, rtol=1e-6, atol=1e-6)
    assert str(snnir.load(model, dt=1e-3)) == str(first)


def test_a_trace_that_fails_leaves_nothing_behind() -> None:
    class Fails(Keeps):
        def forward(self, x: Tensor) -> Tensor:
            self.mem = self.fc(x)
            self.held.zero_()
            raise RuntimeError("no")

    model = Fails("")
    before = held(model)
    with pytest.raises(CompileError, match="no"):
        snnir.load(model, dt=1e-3)
    assert held(model) == before


def test_parameters_that_forward_clamps_are_clamped_in_the_graph_alone() -> None:
    class Clamps(nn.Module):
        input_shape = (3,)

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.fc.weight.data.clamp_(min=0)
            return self.fc(x)  # type: ignore[no-any-return]

    model = Clamps()
    before = held(model)
    graph = snnir.load(model, dt=1e-3)
    assert held(model) == before
    np.testing.assert_array_equal(graph["fc"].weight, model.fc.weight.detach().clamp(min=0).numpy())
