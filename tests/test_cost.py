"""Costs against brute force: every connection found by sending one element at a time through the interpreter."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.activity import measure
from snnir.cost import cost
from snnir.errors import CompileError
from snnir.graph import Edge, Graph, chain
from snnir.interpreter.stateless import STATELESS
from snnir.semantics import Semantics
from snnir.synapses import fan_out

DT = 1e-3
RNG = np.random.default_rng(0)


def sparse(*shape: int) -> Any:
    """Positive weights, about a third of them 0, so that no two connections can cancel."""
    values = RNG.uniform(0.5, 1.5, shape)
    values[RNG.random(shape) < 0.3] = 0.0
    return values


def conv(cls: type[ops.Conv], *weight: int, **fields: Any) -> ops.Conv:
    return cls(weight=sparse(*weight), bias=np.ones(weight[0]), **fields)


CONNECTED: list[tuple[str, Any, tuple[int, ...]]] = [
    ("linear", ops.Linear(weight=sparse(5, 7)), (7,)),
    ("affine on tokens", ops.Affine(weight=sparse(5, 4), bias=np.ones(5)), (3, 4)),
    ("linear with leading axes", ops.Linear(weight=sparse(3, 5, 4)), (3, 4)),
    ("conv1d same", conv(ops.Conv1d, 4, 2, 4, padding="same"), (2, 9)),
    ("conv1d strided", conv(ops.Conv1d, 4, 2, 3, stride=2, padding=1, dilation=2), (2, 10)),
    ("conv2d padded", conv(ops.Conv2d, 4, 3, 3, 3, padding=1), (3, 6, 5)),
    ("conv2d odd", conv(ops.Conv2d, 4, 2, 3, 2, stride=(2, 3), padding=(1, 0), dilation=(1, 2), groups=2), (4, 7, 8)),
    ("conv2d depthwise", conv(ops.Conv2d, 4, 1, 3, 3, padding=2, groups=4), (4, 5, 5)),
    ("conv2d that skips the last row", conv(ops.Conv2d, 2, 1, 2, 2, stride=2), (1, 5, 5)),
    (
        "conv transpose",
        ops.ConvTranspose2d(
            weight=sparse(4, 3, 3, 2),
            bias=np.ones(6),
            stride=(2, 1),
            padding=(1, 0),
            output_padding=(1, 0),
            dilation=(1, 2),
            groups=2,
        ),
        (4, 3, 4),
    ),
    ("sum pool", ops.SumPool2d(kernel_size=(3, 2), stride=(2, 2), padding=(1, 0)), (2, 6, 5)),
    ("avg pool", ops.AvgPool2d(kernel_size=2, stride=1), (2, 4, 4)),
    ("scale", ops.Scale(scale=sparse(3, 1, 4)), (3, 2, 4)),
    (
        "batch norm",
        ops.BatchNorm(weight=np.array([1.0, 0.0, 2.0]), bias=np.ones(3), mean=np.ones(3), var=np.ones(3)),
        (3, 2, 2),
    ),
    ("token shift", ops.TokenShift(mix=np.array([0.0, 0.4, 1.0])), (4, 3)),
]


@pytest.mark.parametrize(("op", "shape"), [case[1:] for case in CONNECTED], ids=[case[0] for case in CONNECTED])
def test_fan_out_is_what_one_element_reaches(op: Any, shape: tuple[int, ...]) -> None:
    probes = np.eye(prod(shape)).reshape(-1, *shape)
    function = STATELESS[type(op)]
    change = function(op, probes) - function(op, np.zeros((1, *shape)))
    reached = (np.abs(change) > 1e-12).reshape(len(probes), -1).sum(axis=1).reshape(shape)
    np.testing.assert_array_equal(fan_out(op, shape), reached)
    assert reached.sum() > 0


@pytest.mark.parametrize("op", [ops.Flatten(), ops.LIF(tau=0.01, v_threshold=1.0), ops.Activation(function="relu")])
def test_ops_without_synapses(op: Any) -> None:
    assert fan_out(op, (2, 3)) is None


def recurrent(neurons: int = 5) -> Graph:
    """input -> affine -> lif -> linear -> lif, and lif -> readout."""
    named = {
        "input": ops.Input(shape=(3,)),
        "affine": ops.Affine(weight=sparse(neurons, 3), bias=np.zeros(neurons)),
        "lif": ops.LIF(tau=0.004, r=4.0, v_threshold=np.full(neurons, 0.9)),
        "rec": ops.Linear(weight=0.3 * sparse(neurons, neurons)),
        "readout": ops.Linear(weight=sparse(2, neurons)),
        "li": ops.LI(tau=np.full(2, 0.01)),
        "output": ops.Output(),
    }
    order = [("input", "affine"), ("affine", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "readout")]
    order += [("readout", "li"), ("li", "output")]
    return Graph(named, tuple(Edge(*pair) for pair in order), Semantics(dt=DT))


def test_measured_operations_are_the_events_that_cross_synapses() -> None:
    graph = recurrent()
    x = RNG.poisson(0.7, (40, 3, 3)).astype(float)  # counts of 0, 1, 2, ...: each event costs
    counted = {row.name: row for row in cost(graph, measure(graph, x)).rows}
    _, sent = snnir.interpret(graph, x, record=["lif"])
    spikes = sent["lif"]
    expected = {"affine": 0, "rec": 0, "readout": 0}
    for t in range(40):
        for b in range(3):
            for name, source in (("affine", x), ("rec", spikes), ("readout", spikes)):
                weight = graph[name].weight
                for j in range(weight.shape[1]):
                    expected[name] += int(source[t, b, j]) * np.count_nonzero(weight[:, j])
    for name, total in expected.items():
        assert counted[name].acs == pytest.approx(total / 120)
        assert counted[name].macs == 0
    assert 0.02 < spikes.mean() < 0.98
    assert counted["lif"].rate == pytest.approx(spikes.mean())


def test_numbers_are_multiplied_and_zeros_are_free() -> None:
    graph = recurrent()
    x = RNG.normal(1.0, 1.0, (10, 2, 3))
    x[:, :, 1] = 0.0
    weight = graph["affine"].weight
    row = next(r for r in cost(graph, measure(graph, x)).rows if r.name == "affine")
    assert row.acs == 0
    assert row.macs == pytest.approx(np.count_nonzero(weight[:, [0, 2]]))


def test_the_bound_is_one_event_per_neuron() -> None:
    graph = recurrent()
    found = cost(graph)
    rows = {row.name: row for row in found.rows}
    for name in ("rec", "readout"):
        assert (rows[name].acs, rows[name].macs) == (np.count_nonzero(graph[name].weight), 0)
    assert rows["affine"].macs == rows["affine"].synapses == np.count_nonzero(graph["affine"].weight)
    assert found.synapses == sum(np.count_nonzero(graph[n].weight) for n in ("affine", "rec", "readout"))
    assert found.neurons == 7
    assert not found.measured


def test_a_sum_pool_passes_every_spike_on() -> None:
    spiking = ops.LIF(tau=0.01, v_threshold=0.5)
    weights = ops.Linear(weight=np.ones((2, 4)))
    pool = ops.SumPool2d(kernel_size=2, stride=2)
    semantics = Semantics(dt=DT)
    graph = chain(
        ops.Input(shape=(1, 4, 4)), spiking, pool, ops.Flatten(), weights, ops.LI(tau=0.01), ops.Output(),
        semantics=semantics,
    )  # fmt: skip
    rows = {row.name: row for row in cost(graph).rows}
    assert rows["sumpool2d"].acs == 16
    assert rows["linear"].acs == 16 * 2  # 4 pooled values of up to 4 spikes, 2 readers each
    averaged = chain(
        ops.Input(shape=(1, 4, 4)), spiking, ops.AvgPool2d(kernel_size=2, stride=2), ops.Flatten(), weights,
        ops.LI(tau=0.01), ops.Output(), semantics=semantics,
    )  # fmt: skip
    rows = {row.name: row for row in cost(averaged).rows}
    assert (rows["linear"].acs, rows["linear"].macs) == (0, 4 * 2)  # means are numbers, not events


def test_events_survive_a_cycle_of_moves_and_fan_in() -> None:
    graph = recurrent()
    edges = [e for e in graph.edges if e != Edge("lif", "rec")]
    edges += [Edge("lif", "late"), Edge("late", "rec"), Edge("input", "rec_in"), Edge("rec_in", "lif")]
    named = {
        **graph.ops,
        "late": ops.Delay(delay=np.full(5, 3 * DT)),
        "rec_in": ops.Linear(weight=np.ones((5, 3))),
    }
    # `late` stands behind its reader in graph order, so its events must be known before it is reached.
    found = cost(Graph(named, tuple(edges), graph.semantics))
    rows = {row.name: row for row in found.rows}
    assert (rows["rec"].acs, rows["rec"].macs) == (rows["rec"].synapses, 0)
    assert rows["late"].state_bytes == 5 * 3 * 4


def test_steps_of_encoder_and_decoder_count() -> None:
    graph = chain(
        ops.Input(shape=(2,)), ops.Repeat(steps=4), ops.IF(r=np.full(2, 1 / DT), v_threshold=0.5),
        ops.Linear(weight=np.ones((3, 2))), ops.TemporalMean(steps=4), ("head", ops.Linear(weight=np.ones((1, 3)))),
        ops.Output(), semantics=Semantics(dt=DT),
    )  # fmt: skip
    rows = {row.name: row for row in cost(graph).rows}
    assert rows["linear"].acs == 4 * 6
    assert rows["head"].macs == 3
    rows = {row.name: row for row in cost(graph, measure(graph, np.full((2, 1, 2), 0.6))).rows}
    assert rows["linear"].acs == 4 * 6  # 0.6 passes the threshold at every one of the 4 steps
    assert rows["head"].macs == 3


def test_memory() -> None:
    weight = np.ones((4, 3), np.float32)
    cuba = ops.CubaLIF(
        tau_syn=np.full(4, 0.01, np.float32), tau_mem=np.full(4, 0.01, np.float32), v_threshold=np.ones(4, np.float32),
        r=np.float32(1), v_leak=np.float32(0), v_reset=np.float32(0), w_in=np.float32(1),
    )  # fmt: skip
    graph = chain(ops.Input(shape=(3,)), ops.Linear(weight=weight), cuba, ops.Output(), semantics=Semantics(dt=DT))
    found = cost(graph)
    assert (found.parameters, found.weight_bytes) == (12 + 16, (12 + 16) * 4)
    assert found.state_bytes == 4 * 2 * 4
    tied = chain(
        ops.Input(shape=(4,)), ops.Linear(weight=(shared := np.ones((4, 4)))), ops.LI(tau=np.full(4, 0.01)),
        ops.Linear(weight=shared), ops.Output(), semantics=Semantics(dt=DT),
    )  # fmt: skip
    assert cost(tied).weight_bytes == (16 + 4 + 2) * 8  # the shared weight once; tau, r and v_leak of the LI
    assert [row.parameters for row in cost(tied).rows] == [0, 16, 6, 16, 0]


def test_json_has_every_figure() -> None:
    data = cost(recurrent()).to_json()
    assert data["measured"] is False
    assert set(data["totals"]) == {
        "parameters", "neurons", "synapses", "acs", "macs", "weight_bytes", "state_bytes", "other",
    }  # fmt: skip
    assert [row["name"] for row in data["rows"]] == list(recurrent().ops)
    assert sum(row["synapses"] for row in data["rows"]) == data["totals"]["synapses"]


def test_input_that_does_not_fit() -> None:
    with pytest.raises(CompileError, match="shape"):
        measure(recurrent(), np.zeros((4, 1, 5)))
