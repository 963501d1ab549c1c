"""Recurrence in emitted models: self loops, long and nested cycles, delays and biases on the way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snnir import ops
from snnir.graph import Graph
from snnir.semantics import Semantics
from tests.backends.family import FAMILY, built, same_everywhere

pytestmark = pytest.mark.oracle
DT = Semantics(dt=1e-3)


def population(kind: str = "LIF", size: int = 4, **fields: Any) -> ops.Op:
    rng = np.random.default_rng(size)
    tau = rng.uniform(3e-3, 9e-3, size)
    level = np.full(size, 0.7)
    made: dict[str, Any] = {
        "LIF": {"tau": tau, "r": 4.0, "v_threshold": level},
        "IF": {"r": 600.0, "v_threshold": level},
        "CubaLIF": {"tau_syn": tau / 2, "tau_mem": tau, "r": 4.0, "w_in": 2.0, "v_threshold": level},
        "LI": {"tau": tau, "v_leak": level / 3},
        "CubaLI": {"tau_syn": tau / 2, "tau_mem": tau, "v_leak": level / 3},
        "I": {"r": np.full(size, 50.0)},
    }[kind]
    return ops.KINDS[kind](**{**made, **fields})


def weights(rng: np.random.Generator, n_in: int, n_out: int, scale: float = 0.8) -> Any:
    return rng.normal(0.1, scale, (n_out, n_in))


def graph(nodes: dict[str, ops.Op], *edges: tuple[str, ...], semantics: Semantics = DT) -> Graph:
    return Graph(nodes, edges, semantics).verify()  # type: ignore[arg-type]


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("kind", ["LIF", "IF", "CubaLIF", "LI", "CubaLI"])
@pytest.mark.parametrize("bias_at_start", [True, False])
def test_a_loop_with_a_bias(kind: str, bias_at_start: bool, target: str) -> None:
    rng = np.random.default_rng(1)
    nodes = {
        "input": ops.Input(shape=(4,)),
        "n": population(kind),
        "back": ops.Affine(weight=weights(rng, 4, 4, 0.3), bias=rng.normal(0.2, 0.5, 4)),
        "out": population("LIF", v_threshold=np.full(4, 0.4)),
        "output": ops.Output(),
    }
    made = graph(
        nodes,
        ("input", "n"),
        ("n", "back"),
        ("back", "n"),
        ("n", "out"),
        ("out", "output"),
        semantics=DT.with_(recurrent_bias_at_start=bias_at_start),
    )
    assert same_everywhere(made, target, steps=30) > 10


@pytest.mark.parametrize("target", FAMILY)
def test_a_neuron_that_feeds_itself(target: str) -> None:
    nodes = {"input": ops.Input(shape=(4,)), "n": population(), "output": ops.Output()}
    made = graph(nodes, ("input", "n"), ("n", "n"), ("n", "output"))
    assert same_everywhere(made, target, steps=30) > 10
    assert "self.n(x_now + n, n_state)" in built(made, target).source.text


@pytest.mark.parametrize("target", FAMILY)
def test_an_integrator_on_a_cycle(target: str) -> None:
    nodes = {
        "input": ops.Input(shape=(4,)),
        "n": population(),
        "i": population("I"),
        "inhibit": ops.Scale(scale=np.full(4, -0.5)),
        "output": ops.Output(),
    }
    made = graph(nodes, ("input", "n"), ("n", "i"), ("i", "inhibit"), ("inhibit", "n"), ("n", "output"))
    assert same_everywhere(made, target, steps=30) > 10


@pytest.mark.parametrize("target", FAMILY)
def test_nested_cycles_with_a_delay_and_two_outside_inputs(target: str) -> None:
    rng = np.random.default_rng(2)
    nodes = {
        "drive": ops.Input(shape=(4,)),
        "other": ops.Input(shape=(3,)),
        "fc": ops.Affine(weight=weights(rng, 4, 4), bias=rng.normal(0, 0.1, 4)),
        "n1": population("LIF", 4),
        "self": ops.Linear(weight=weights(rng, 4, 4)),
        "to2": ops.Affine(weight=weights(rng, 4, 3), bias=rng.normal(0.2, 0.1, 3)),
        "n2": population("CubaLIF", 3),
        "delay": ops.Delay(delay=np.array([0, 2, 5]) * 1e-3),
        "back": ops.Affine(weight=weights(rng, 3, 4), bias=rng.normal(0.2, 0.1, 4)),
        "output": ops.Output(),
        "second": ops.Output(),
    }
    made = graph(
        nodes,
        ("drive", "fc"),
        ("fc", "n1"),
        ("n1", "self"),
        ("self", "n1"),
        ("n1", "to2"),
        ("to2", "n2"),
        ("other", "n2"),
        ("n2", "n2"),
        ("n2", "delay"),
        ("delay", "back"),
        ("back", "n1"),
        ("n2", "output"),
        ("to2", "second"),
    )
    assert same_everywhere(made, target, steps=40, batch=3) > 30


@pytest.mark.parametrize("target", FAMILY)
def test_two_chains_of_biases_and_a_threshold_before_the_first_step(target: str) -> None:
    """What a way back carries before step 0 is computed through all its ops: biases, a step function, activations."""
    rng = np.random.default_rng(3)
    nodes = {
        "input": ops.Input(shape=(4,)),
        "n": population(),
        "a": ops.Affine(weight=weights(rng, 4, 3), bias=rng.normal(0.3, 0.5, 3)),
        "step": ops.Threshold(threshold=np.full(3, -0.1)),
        "squash": ops.Activation(function="sigmoid"),
        "b": ops.Affine(weight=weights(rng, 3, 4), bias=rng.normal(0.2, 0.5, 4)),
        "output": ops.Output(),
    }
    made = graph(
        nodes,
        ("input", "n"),
        ("n", "a"),
        ("a", "step"),
        ("a", "squash"),
        ("step", "b"),
        ("squash", "b"),
        ("b", "n"),
        ("n", "output"),
    )
    assert same_everywhere(made, target, steps=30) > 10


@pytest.mark.parametrize("target", FAMILY)
def test_a_convolutional_cycle(target: str) -> None:
    rng = np.random.default_rng(4)
    lif = ops.LIF(tau=np.float64(5e-3), r=np.full((2, 1, 1), 4.0), v_threshold=np.float64(0.7))
    nodes = {
        "input": ops.Input(shape=(2, 4, 4)),
        "n": lif,
        "conv": ops.Conv2d(weight=rng.normal(0, 0.4, (2, 2, 3, 3)), bias=rng.normal(0.1, 0.1, 2), padding=1),
        "norm": ops.BatchNorm(weight=np.ones(2), bias=np.full(2, 0.1), mean=np.zeros(2), var=np.ones(2)),
        "output": ops.Output(),
    }
    made = graph(nodes, ("input", "n"), ("n", "conv"), ("conv", "norm"), ("norm", "n"), ("n", "output"))
    assert same_everywhere(made, target, steps=20) > 30


def test_only_the_cycle_runs_step_by_step() -> None:
    rng = np.random.default_rng(5)
    nodes = {
        "input": ops.Input(shape=(4,)),
        "before": ops.Linear(weight=weights(rng, 4, 4)),
        "n": population(),
        "w": ops.Linear(weight=weights(rng, 4, 4)),
        "after": ops.Linear(weight=weights(rng, 4, 2)),
        "output": ops.Output(),
    }
    made = graph(
        nodes, *(("input", "before"), ("before", "n"), ("n", "w"), ("w", "n"), ("n", "after")), ("after", "output")
    )
    text = built(made, "torch").source.text
    loop = text[text.index("for before_now in x:") :].split("\n\n")[0]
    assert "self.before(" not in loop
    assert loop.index("torch.stack") < loop.index("self.after(")
