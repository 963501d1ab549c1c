"""The neuron layers: their coefficients are those of `snnir.discretise`, their loop is the interpreter's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from snnir import interpret, nn
from snnir.discretise import recurrence
from snnir.graph import chain
from snnir.nn import dynamics
from snnir.ops import Input, Output
from snnir.semantics import Semantics

DT = 1e-3
SHAPE = (4, 3)
rng = np.random.default_rng(0)


def spread(low: float, high: float) -> np.ndarray[Any, np.dtype[Any]]:
    return rng.uniform(low, high, SHAPE)


def layers(**options: Any) -> dict[str, nn.Neuron]:
    """Every kind of neuron twice: with numbers, and with one value per neuron."""
    leaky = {k: v for k, v in options.items() if k in ("decay", "gain")}
    integrating = {k: v for k, v in options.items() if k == "gain"}
    unleaky = {k: v for k, v in options.items() if k != "decay"}
    fire = {"v_threshold": spread(0.3, 0.6), "v_reset": spread(-0.2, 0.1)}
    slow = 1.0 if options.get("gain") == "unit" else 1 / DT
    return {
        "I": nn.I(0.3 * slow, dt=DT, **integrating),
        "I per neuron": nn.I(spread(0.1, 0.5) * slow, dt=DT, **integrating),
        "IF": nn.IF(0.3 * slow, v_threshold=0.5, v_reset=-0.1, dt=DT, **unleaky),
        "IF per neuron": nn.IF(spread(0.1, 0.5) * slow, **fire, dt=DT, **unleaky),
        "LI": nn.LI(0.005, r=2.0, v_leak=0.2, dt=DT, **leaky),
        "LI per neuron": nn.LI(spread(2e-3, 2e-2), r=spread(1, 3), v_leak=spread(-0.3, 0.3), dt=DT, **leaky),
        "LIF": nn.LIF(0.005, r=2.0, v_leak=0.2, v_threshold=0.5, v_reset=-0.1, dt=DT, **options),
        "LIF per neuron": nn.LIF(
            spread(2e-3, 2e-2), r=spread(1, 5), v_leak=spread(-0.3, 0.3), **fire, dt=DT, **options
        ),
        "CubaLI": nn.CubaLI(0.003, 0.008, r=2.0, v_leak=0.1, w_in=1.5, dt=DT, **leaky),
        "CubaLI per neuron": nn.CubaLI(
            spread(2e-3, 9e-3),
            spread(2e-3, 2e-2),
            r=spread(1, 3),
            v_leak=spread(-1, 1),
            w_in=spread(1, 2),
            dt=DT,
            **leaky,
        ),
        "CubaLIF": nn.CubaLIF(0.003, 0.008, r=2.0, v_leak=0.1, v_threshold=0.5, v_reset=-0.1, dt=DT, **options),
        "CubaLIF per neuron": nn.CubaLIF(
            spread(2e-3, 9e-3),
            spread(2e-3, 2e-2),
            r=spread(1, 3),
            v_leak=spread(-0.2, 0.2),
            w_in=spread(2, 4),
            **fire,
            dt=DT,
            **options,
        ),
    }


RULES: list[dict[str, Any]] = [
    {},
    {"reset": "subtract", "comparison": ">="},
    {"decay": "exponential"},
    {"decay": "exponential", "gain": "unit", "reset": "subtract"},
    {"gain": "unit"},
]
CASES = [pytest.param(rule, kind, id=f"{kind}-{i}") for i, rule in enumerate(RULES) for kind in layers()]


@pytest.mark.parametrize(("rule", "kind"), CASES)
def test_coefficients_are_those_of_discretise(rule: dict[str, Any], kind: str) -> None:
    layer = layers(**rule)[kind]
    ours = layer.coefficients(torch.zeros((), dtype=torch.float64))
    theirs = recurrence(layer.to_op(), layer.semantics.with_(dt=DT))
    for name, want in vars(theirs).items():
        got = getattr(ours, name)
        if want is None:
            assert got is None, name
        else:
            np.testing.assert_allclose(np.asarray(got), want, rtol=1e-14, atol=1e-16, err_msg=name)


@pytest.mark.parametrize(("rule", "kind"), CASES)
def test_layer_is_the_interpreter(rule: dict[str, Any], kind: str) -> None:
    layer = layers(**rule)[kind]
    x = torch.randn(30, 2, *SHAPE, dtype=torch.float64) * 2
    semantics = Semantics(**{"dt": DT, **rule}, number_format="float64")
    graph = chain(Input(shape=SHAPE), layer.to_op(), Output(), semantics=semantics)
    want = interpret(graph, x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(layer(x).numpy(), want, atol=1e-12)
    if layer.firing is not None:
        assert 0.02 < want.mean() < 0.9  # neither silent nor saturated: the test sees resets


@pytest.mark.parametrize("kind", list(layers()))
@pytest.mark.parametrize("rule", [{}, {"reset": "subtract"}, {"detach_reset": False}], ids=str)
def test_fused_kernel_and_plain_loop_agree(rule: dict[str, Any], kind: str) -> None:
    layer = layers(**rule)[kind]
    x = torch.randn(20, 3, *SHAPE, dtype=torch.float64) * 2
    weight = torch.randn_like(x)
    c = layer.coefficients(x)
    results = []
    for path in (dynamics.run, dynamics.loop):
        leaf = x.clone().requires_grad_()
        y = path(leaf, c, layer.firing)
        (y * weight).sum().backward()
        results.append((y.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)
    assert results[0][1].abs().sum() > 0


def test_without_the_kernels_the_loop_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.LIF.from_decay(0.8, dt=DT)
    x = torch.randn(10, 2, 5)
    fused = layer(x)
    monkeypatch.setattr(dynamics, "_kernels", lambda: None)
    assert torch.equal(layer(x), fused)
    assert fused.sum() > 0


@pytest.mark.parametrize("decay", ["euler", "exponential"])
@pytest.mark.parametrize("gain", ["ode", "unit"])
def test_from_decay_is_exact_in_float32(decay: Any, gain: Any) -> None:
    for factor in (0.8, 0.9, 0.95, 0.3):
        c = nn.LIF.from_decay(factor, dt=3e-4, decay=decay, gain=gain).coefficients(torch.zeros(()))
        assert torch.tensor([c.decay, c.gain]).tolist() == torch.tensor([factor, 1.0]).tolist()
    c = nn.CubaLIF.from_decay(0.7, 0.9, dt=1e-3, decay=decay, gain=gain).coefficients(torch.zeros(()))
    got = torch.tensor([c.decay_syn, c.gain_syn, c.decay, c.gain])
    assert got.tolist() == torch.tensor([0.7, 1.0, 0.9, 1.0]).tolist()


def test_from_decay_is_the_iterative_lif() -> None:
    """FSDDIM's neuron: u = 0.8 u (1 - o) + x, o = u > 1."""
    x = torch.rand(50, 4, 6)
    layer = nn.LIF.from_decay(0.8, dt=1e-3)
    u, o = torch.zeros(4, 6), torch.zeros(4, 6)
    want = []
    for t in range(50):
        u = 0.8 * u * (1 - o) + x[t]
        o = (u > 1).float()
        want.append(o)
    assert torch.equal(layer(x), torch.stack(want))


def test_from_gain() -> None:
    x = torch.rand(9, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(nn.I.from_gain(0.5, dt=2e-4)(x), 0.5 * x.cumsum(0))
    assert nn.IF.from_gain(dt=1e-3, v_threshold=1e9)(x).sum() == 0


def test_state_starts_at_rest_in_every_call() -> None:
    layer = nn.CubaLIF(0.01, 0.02, r=20.0, dt=DT)
    x = torch.rand(20, 2, 3)
    first = layer(x)
    assert torch.equal(layer(x), first)
    assert first.sum() > 0
    leaky = nn.LI(0.01, v_leak=0.7, dt=DT)
    torch.testing.assert_close(leaky(torch.zeros(5, 1, 2)), torch.full((5, 1, 2), 0.7))


@pytest.mark.parametrize("name", ["tau", "r", "v_leak", "v_threshold"])
def test_learned_parameters_get_the_right_gradient(name: str) -> None:
    """On a membrane that never fires, the gradient is the recurrence's own: compare with finite differences."""
    kind = nn.LI if name != "v_threshold" else nn.LIF
    settings: dict[str, Any] = {"tau": 0.004, "r": 2.0, "v_leak": 0.1, "v_threshold": 0.4}
    if kind is nn.LI:
        settings.pop("v_threshold")
    x = torch.randn(12, 2, 3, dtype=torch.float64)
    layer = kind(**settings, dt=DT, learn=(name,)).double()
    assert [n for n, _ in layer.named_parameters()] == [name]
    layer(x).square().sum().backward()
    gradient = getattr(layer, name).grad
    assert gradient is not None
    assert gradient != 0
    if kind is nn.LI:
        up, down = (
            kind(**{**settings, name: settings[name] + e}, dt=DT)(x).square().sum().item() for e in (1e-7, -1e-7)
        )
        assert gradient.item() == pytest.approx((up - down) / 2e-7, rel=1e-3)


def test_learning_a_time_constant_moves_it_to_the_target() -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 8, 5)
    want = nn.LI(0.008, dt=DT)(x)
    layer = nn.LI(0.003, dt=DT, learn="tau")
    optimiser = torch.optim.Adam(layer.parameters(), lr=3e-4)
    for _ in range(80):
        optimiser.zero_grad()
        (layer(x) - want).square().mean().backward()
        optimiser.step()
    assert layer.tau.item() == pytest.approx(0.008, rel=0.03)  # type: ignore[union-attr]


def test_parameters_where_they_belong() -> None:
    layer = nn.LIF(np.array([1e-2, 2e-2]), r=2.0, v_threshold=torch.ones(2), dt=DT, learn=("v_reset",))
    assert set(dict(layer.named_buffers())) == {"tau", "v_threshold"}
    assert set(dict(layer.named_parameters())) == {"v_reset"}
    assert isinstance(layer.r, float)
    assert layer.tau.dtype == torch.float64  # type: ignore[union-attr]
    op = layer.to_op()
    assert op.r.ndim == 0
    with torch.no_grad():
        layer.v_reset.fill_(0.5)  # type: ignore[union-attr]
    assert op.v_reset == 0  # the graph keeps its own copy


def test_set_dt() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LIF(0.01), nn.Delay(2e-3), nn.Recurrent(nn.LIF(0.01), nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="does not know its time step"):
        model(torch.zeros(4, 1, 3))
    assert nn.set_dt(model, 1e-3)(torch.zeros(4, 1, 3)).shape == (4, 1, 3)
    with pytest.raises(ValueError, match="positive time"):
        nn.set_dt(model, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LIF(-0.01), "tau is -0.01 s, expected a positive time"),
        (lambda: nn.LIF(0.01, dt=0.0), "dt is 0.0 s"),
        (lambda: nn.LIF(0.01, reset="soft"), "reset is 'soft', expected 'value' or 'subtract'"),  # type: ignore
        (lambda: nn.LIF(0.01, comparison="="), "comparison is '='"),  # type: ignore[arg-type]
        (lambda: nn.LI(0.01, decay="shift"), "decay is 'shift'"),
        (lambda: nn.LIF(0.01, learn="beta"), "cannot learn 'beta'; LIF has tau, r"),
        (lambda: nn.LIF(np.ones(3), v_threshold=np.ones(4)), "parameter shapes do not fit one another"),
        (lambda: nn.LIF.from_decay(1.0, dt=DT), "a decay factor of 1, expected one between 0 and 1"),
        (lambda: nn.LIF(float("nan")), "holds nan"),
    ],
)
def test_bad_parameters_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_wrong_rank_is_named() -> None:
    with pytest.raises(ValueError, match=r"takes \(T, B, \*shape\), but \[4, 3\] arrives"):
        nn.LIF(0.01, dt=DT)(torch.zeros(4, 3))
