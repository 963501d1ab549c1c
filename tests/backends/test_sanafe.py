"""SANA-FE: the network that it gets against its own equations and, where it is installed, against SANA-FE itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.backends.sanafe import estimate, find_python
from snnir.backends.sanafe.chip import NEURONS_PER_CORE, place
from snnir.backends.sanafe.network import ChipNetwork, build
from snnir.backends.sanafe.reading import Reader
from snnir.backends.sanafe.run import VARIABLE
from snnir.errors import CompileError, MissingPackageError, UsageError
from snnir.graph import Edge, Graph, chain
from snnir.ops import Array
from snnir.semantics import Semantics

DT = 1e-3
PJ = 1e-12


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(0.0, 0.5, shape)


def feed_forward(**semantics: Any) -> Graph:
    rng = np.random.default_rng(1)
    return chain(
        ops.Input(shape=(12,)),
        ("fc1", ops.Affine(weight=normal(rng, 20, 12), bias=rng.normal(0, 0.1, 20))),
        ("lif1", ops.LIF(tau=rng.uniform(0.003, 0.02, 20), r=4.0, v_threshold=rng.uniform(0.3, 0.9, 20), v_reset=-0.1)),
        ("fc2", ops.Linear(weight=normal(rng, 5, 20))),
        ("lif2", ops.LIF(tau=np.full(5, 0.005), r=5.0, v_threshold=0.5)),
        ops.Output(),
        semantics=Semantics(dt=DT, **semantics),
    )


def skipping() -> Graph:
    """Current-based neurons, a cycle, a skip connection, a resting value, a readout: numbers and spikes go in."""
    rng = np.random.default_rng(2)
    cuba = {"tau_syn": np.full(16, 0.004), "tau_mem": np.full(16, 0.008), "r": 8.0, "v_leak": 0.05, "v_reset": 0.02}
    named = {
        "events": ops.Input(shape=(10,)),
        "current": ops.Input(shape=(4,)),
        "a": ops.Linear(weight=normal(rng, 16, 10)),
        "one": ops.CubaLIF(v_threshold=np.full(16, 0.6), w_in=4.0, **cuba),
        "again": ops.Affine(weight=0.3 * normal(rng, 16, 16), bias=rng.normal(0, 0.05, 16)),
        "b": ops.Linear(weight=normal(rng, 16, 16)),
        "c": ops.Linear(weight=normal(rng, 16, 4)),
        "two": ops.CubaLIF(v_threshold=np.full(16, 0.7), w_in=4.0, **cuba),
        "skip": ops.Linear(weight=normal(rng, 6, 16)),
        "straight": ops.Linear(weight=normal(rng, 6, 16)),
        "three": ops.IF(r=np.full(6, 1 / DT), v_threshold=1.5),
        "read": ops.Linear(weight=normal(rng, 3, 6)),
        "li": ops.LI(tau=np.full(3, 0.01)),
        "out": ops.Output(),
    }
    paths = ["events a one b two straight three read li out", "one again one", "current c two", "one skip three"]
    edges = [Edge(*pair) for path in paths for pair in zip(path.split(), path.split()[1:], strict=False)]
    return Graph(named, tuple(dict.fromkeys(edges)), Semantics(dt=DT, decay="exponential"))


def convolving() -> Graph:
    rng = np.random.default_rng(3)
    conv = ops.Conv2d(weight=normal(rng, 4, 2, 3, 3), bias=rng.normal(0, 0.1, 4), padding=1)
    return chain(
        ops.Input(shape=(2, 6, 6)),
        conv,
        ("spikes", ops.LIF(tau=0.006, r=4.0, v_threshold=0.5)),
        ops.AvgPool2d(kernel_size=2, stride=2),
        ops.Conv2d(weight=normal(rng, 3, 4, 2, 2), bias=np.zeros(3)),
        ("more", ops.LIF(tau=0.006, r=4.0, v_threshold=0.2)),
        ops.Flatten(),
        ("fc", ops.Linear(weight=normal(rng, 4, 12))),
        ops.Output(),
        semantics=Semantics(dt=DT),
    )


NETS = {
    "hard": feed_forward(),
    "soft, >=": feed_forward(reset="subtract", comparison=">="),
    "skip": skipping(),
    "conv": convolving(),
}


def made_up(graph: Graph, steps: int = 40) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    shapes = {name: (steps, 2, *graph.shapes[name]) for name in graph.inputs}
    return {
        n: rng.normal(0, 0.5, s) if n == "current" else (rng.random(s) < 0.4).astype(float) for n, s in shapes.items()
    }


def built(graph: Graph, x: dict[str, Array]) -> ChipNetwork:
    reader = Reader(graph, x)
    reader.check()
    return build(reader)


def simulated(network: ChipNetwork) -> dict[str, Array]:
    """SANA-FE's equations, as docs/models of SANA-FE says them: a spike arrives a step later."""
    groups = network.groups
    sent = {n: np.zeros((network.steps, g.size)) for n, g in groups.items()}
    state = {n: [np.zeros(g.size), np.zeros(g.size)] for n, g in groups.items()}
    arriving = {n: np.zeros(g.size) for n, g in groups.items()}
    for t in range(network.steps):
        for name, group in groups.items():
            if group.spikes is not None:
                sent[name][t] = group.spikes[t]
                continue
            a = group.attributes
            v, i = state[name]
            i = i * a.get("input_decay", 0.0) + arriving[name]
            v = np.trunc(64 * v * a["leak_decay"]) / 64 + i + (0.0 if group.bias is None else group.bias[t])
            fired = v > a["threshold"]
            v = np.where(fired, v - a["threshold"] if group.soft else a.get("reset", 0.0), v)
            state[name], sent[name][t] = [v, i], fired
        arriving = {n: np.zeros(g.size) for n, g in groups.items()}
        for c in network.connections:
            np.add.at(arriving[c.target], c.end, c.weight * sent[c.source][t][c.start])
    return sent


@pytest.mark.parametrize("name", NETS)
def test_the_equations_of_sanafe_give_the_interpreters_spikes(name: str) -> None:
    graph = NETS[name]
    x = made_up(graph)
    network = built(graph, x)
    sent = simulated(network)
    _, want = snnir.interpret(graph, x, record=[n for n, op in graph.ops.items() if op.spiking])
    for population, spikes in want.items():
        lag, first = network.groups[population].lag, spikes[:, 0].reshape(len(spikes), -1)
        np.testing.assert_array_equal(sent[population][lag : lag + 40], first, err_msg=population)
        assert not sent[population][:lag].any()
        assert not sent[population][lag + 40 :].any()
        np.testing.assert_array_equal(sent[population], network.expected[population])
        assert 0.02 < first.mean() < 0.9
    assert all(group.lag <= network.steps - 40 for group in network.groups.values())


def test_what_moves_and_what_a_host_computes() -> None:
    x = made_up(skipping())
    network = built(skipping(), x)
    assert {n: g.lag for n, g in network.groups.items()} == {"events": 0, "one": 1, "two": 2, "three": 3, "li": 4}
    assert network.moved == 6 * 16  # the skip connection alone: two steps late where one is what there is
    assert network.host == 40 * 4 * 16
    assert network.synapses == 16 * 10 + 3 * 16 * 16 - 16 * 16 + 2 * 6 * 16 + 3 * 6
    conv = built(convolving(), made_up(convolving()))
    assert [g.synapse for g in conv.groups.values()][1:] == ["loihi_conv_synapse"] * 2 + ["loihi_dense_synapse"]
    assert conv.groups["output"].size == 4  # an output that reads currents is a population of sums
    assert conv.groups["output"].bias is None


def test_every_population_begins_a_core_while_there_are_enough() -> None:
    placed = place({"x": 600, "a": 1500, "b": 30}, frozenset({"x"}))
    assert [sorted(set(placed[n].core)) for n in placed] == [[0], [1, 2], [3]]
    assert [int((placed["a"].core == c).sum()) for c in (1, 2)] == [1024, 476]
    np.testing.assert_array_equal(placed["x"].unit, np.arange(600))
    tight = place(
        dict.fromkeys([f"p{k}" for k in range(200)], 650), frozenset({"p3"})
    )  # 200 cores, if each had its own
    cores = np.concatenate([p.core for p in tight.values()])
    assert cores.max() == (200 * 650 - 1) // NEURONS_PER_CORE < 128
    assert np.bincount(cores).max() == NEURONS_PER_CORE


def test_all_reasons_come_at_once() -> None:
    rng = np.random.default_rng(0)
    odd = chain(
        ops.Input(shape=(4,)), ("relay", ops.LI(tau=np.full(4, 0.01))), ("fc", ops.Linear(weight=normal(rng, 3, 4))),
        ("tired", ops.LIF(tau=0.01, v_threshold=0.1, v_leak=0.2)), ("hot", ops.Activation(function="relu")),
        ops.Output(), semantics=Semantics(dt=DT),
    )  # fmt: skip
    x = np.ones((5, 1, 4))
    with pytest.raises(CompileError) as caught:
        Reader(odd, {"input": x}).check()
    found = {(v.rule, v.where) for v in caught.value.violations}
    assert {("sanafe-numbers", "relay"), ("sanafe-threshold", "tired")} <= found
    wrong = replace(odd, semantics=Semantics(dt=DT, reset="delayed-value", spikes_per_step=None, membrane_floor=-1.0))
    with pytest.raises(CompileError) as caught:
        Reader(wrong, {"input": x}).check()
    assert [v.rule for v in caught.value.violations] == ["sanafe-semantics"] * 3
    large = chain(
        ops.Input(shape=(1, 400, 400)), ops.LIF(tau=0.01, v_threshold=1.0),
        ops.Conv2d(weight=np.ones((1, 1, 5, 5)), bias=np.zeros(1), padding=2), ops.LIF(tau=0.01, v_threshold=1.0),
        ops.Output(), semantics=Semantics(dt=DT),
    )  # fmt: skip
    with pytest.raises(CompileError, match="131,072") as caught:
        Reader(large, {"input": np.full((1, 1, 1, 400, 400), 0.5)}).check()
    assert [v.rule for v in caught.value.violations] == ["sanafe-neurons"]


def test_no_sanafe_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = NETS["hard"], made_up(NETS["hard"])
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("snnir.backends.sanafe.run.find_spec", lambda _: None)
    assert find_python() is None
    with pytest.raises(MissingPackageError, match=r"pip install 'snnir\[sanafe\]'"):
        estimate(graph, x)
    monkeypatch.setenv(VARIABLE, "no/such/python")
    with pytest.raises(UsageError, match="no such file"):
        estimate(graph, x)
    if not _has_sanafe(sys.executable):
        monkeypatch.setenv(VARIABLE, sys.executable)
        with pytest.raises(UsageError, match="has no package sanafe"):
            estimate(graph, x)


def _has_sanafe(python: str) -> bool:
    import subprocess

    return subprocess.run([python, "-c", "import sanafe"], capture_output=True, check=False).returncode == 0


# -- SANA-FE itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_the_oracle_sanafe_itself_fires_as_the_interpreter_does(name: str) -> None:
    if find_python() is None:
        pytest.skip(f"SANA-FE is not installed (pip install 'snnir[sanafe]', or name a Python in {VARIABLE})")
    graph = NETS[name]
    x = made_up(graph)
    found = estimate(graph, x)
    network = built(graph, x)
    assert found.spikes == found.expected == sum(int(v.sum()) for n, v in network.expected.items() if n not in x) > 20
    assert found.differing == 0
    reach = {n: np.zeros(g.size) for n, g in network.groups.items()}
    price = {"loihi_dense_synapse": 35.5, "loihi_sparse_synapse": 33.6, "loihi_conv_synapse": 24.0}
    joules = 0.0
    for c in network.connections:
        fan_out = np.bincount(c.start, minlength=network.groups[c.source].size)
        reach[c.source] += fan_out
        joules += float((network.expected[c.source] @ fan_out).sum()) * price[network.groups[c.target].synapse] * PJ
    assert found.events == sum(float((network.expected[n] @ reach[n]).sum()) for n in network.expected)
    assert found.joules["synapse"] == pytest.approx(joules)
    assert found.joules["total"] == pytest.approx(sum(v for part, v in found.joules.items() if part != "total"))
    assert 0 < found.packets <= found.events
    assert found.seconds > found.steps * 1e-7
    assert (found.neurons, found.synapses, found.steps) == (network.neurons, network.synapses, network.steps)
