"""Operations of ops without synapses: against counted executions, by hand for SDiT, and where sums count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.activity import bound, measure
from snnir.arithmetic import Arithmetic, arithmetic, in_words, others_by_op
from snnir.cost import cost
from snnir.energy import energy, recorded
from snnir.graph import Edge, Graph, chain
from snnir.interpreter.stateless import STATELESS
from snnir.models import sdit
from snnir.semantics import Semantics

DT = 1e-3


class Counted:
    """A number that counts what is done with it."""

    done: dict[str, int]

    def __init__(self, value: float) -> None:
        self.value = float(value)

    def _made(self, kind: str, value: float) -> Counted:
        Counted.done[kind] = Counted.done.get(kind, 0) + 1
        return Counted(value)

    def __add__(self, other: Any) -> Counted:
        return self._made("add", self.value + float(other))

    def __radd__(self, other: Any) -> Counted:
        return self._made("add", float(other) + self.value)

    def __sub__(self, other: Any) -> Counted:
        return self._made("add", self.value - float(other))

    def __rsub__(self, other: Any) -> Counted:
        return self._made("add", float(other) - self.value)

    def __mul__(self, other: Any) -> Counted:
        return self._made("multiply", self.value * float(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Counted:
        return self._made("divide", self.value / float(other))

    def exp(self) -> Counted:
        return self._made("exp", math.exp(self.value))

    def __float__(self) -> float:
        return self.value

    def __ge__(self, other: Any) -> bool:
        return self.value >= float(other)

    def __le__(self, other: Any) -> bool:
        return self.value <= float(other)


def test_wkv_takes_what_the_interpreter_does(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, channels = 5, 3
    rng = np.random.default_rng(0)
    op = ops.Wkv(log_decay=rng.normal(size=channels), first=rng.normal(size=channels))
    plain = [rng.normal(size=(1, tokens, channels)) for _ in range(2)]
    expected = STATELESS[ops.Wkv](op, *plain)
    counted = [np.frompyfunc(Counted, 1, 1)(x) for x in plain]
    Counted.done = {}
    exp = np.frompyfunc(lambda x: x.exp() if isinstance(x, Counted) else math.exp(x), 1, 1)
    monkeypatch.setattr(np, "exp", exp)
    found = STATELESS[ops.Wkv](op, *counted)
    monkeypatch.undo()
    np.testing.assert_allclose(found.astype(float), expected)
    rule, each = arithmetic(op, (tokens, channels), 0.0), tokens * channels
    assert Counted.done["exp"] == rule.exponentials == 4 * each
    assert Counted.done["divide"] == rule.divisions == each
    assert Counted.done["multiply"] == rule.macs == 6 * each
    # Four additions belong to MACs (two products, or a product and a term), and first + k is written twice; at the
    # first token o - decay is -inf - decay, of plain numbers.
    assert Counted.done["add"] == rule.acs + 4 * each + each - channels


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("sigmoid", Arithmetic(acs=12, exponentials=12, divisions=12)),
        ("silu", Arithmetic(acs=12, exponentials=12, divisions=12)),
        ("tanh", Arithmetic(acs=36, exponentials=12, divisions=12)),
        ("exp", Arithmetic(exponentials=12)),
        ("relu2", Arithmetic(macs=12)),
        ("relu", Arithmetic()),
    ],
)
def test_activations(function: str, expected: Arithmetic) -> None:
    assert arithmetic(ops.Activation(function=function), (3, 4), 0.0) == expected
    assert set(ops.Activation.KINDS) == {"sigmoid", "silu", "tanh", "exp", "relu2", "relu"}


def test_layer_norm_counts_weights_that_do_something() -> None:
    plain = ops.LayerNorm(weight=np.ones(6), bias=np.zeros(6))
    assert arithmetic(plain, (5, 6), 0.0) == Arithmetic(acs=5 * 13, macs=5 * 14, divisions=5, roots=5)
    learned = ops.LayerNorm(weight=np.array([1, 1, 1, 2, 0.5, 3.0]), bias=np.array([0, 4, 0, 1, 1, 0.0]))
    assert arithmetic(learned, (5, 6), 0.0) == Arithmetic(acs=5 * (13 + 1), macs=5 * (14 + 3), divisions=5, roots=5)
    whole = ops.LayerNorm(weight=np.ones((5, 6)), bias=np.zeros((5, 6)))  # one row of 30
    assert arithmetic(whole, (5, 6), 0.0) == Arithmetic(acs=61, macs=62, divisions=1, roots=1)


def test_linear_ops_and_neurons_have_none() -> None:
    for op in (
        ops.Linear(weight=np.ones((2, 3))),
        ops.TokenShift(mix=np.full(3, 0.3)),
        ops.LIF(tau=0.01, v_threshold=1.0),
        ops.Flatten(),
    ):
        assert not arithmetic(op, (4, 3), 9.0)


def of_sdit(width: int, tokens: int, blocks: int) -> Arithmetic:
    """SDiT by hand: `tokens` of the image and the one of time and label; every neuron spikes in each of 4 steps."""
    n, image = 2 * tokens * width, tokens * width  # with and without reconstruction tokens

    def norm(rows: int) -> Arithmetic:
        return Arithmetic(acs=2 * width + 1, macs=2 * width + 2, divisions=1, roots=1).times(rows)

    sigmoid = Arithmetic(acs=n, exponentials=n, divisions=n)
    wkv = Arithmetic(acs=7 * n, macs=6 * n, exponentials=4 * n, divisions=n)
    time_mix = wkv + sigmoid + Arithmetic(macs=n)
    channel_mix = Arithmetic(macs=4 * n) + sigmoid + Arithmetic(macs=n)  # relu(k)^2, 4 times as wide; the product
    rate = Arithmetic(acs=4 * n, macs=n)
    # x + rate1 before the second norm, x + rate1 + rate2 before the reconstruction, x + x * g behind it
    sums = Arithmetic(acs=n + 2 * n + image)
    block = norm(2 * tokens).times(2) + time_mix + channel_mix + rate.times(2) + Arithmetic(macs=image) + sums
    silu = Arithmetic(acs=width, exponentials=width, divisions=width)
    ends = silu + Arithmetic(acs=width) + Arithmetic(acs=image) + norm(tokens)  # time + label; positions; the last norm
    return block.times(blocks) + ends


@pytest.mark.parametrize(
    ("preset", "sizes", "expected"),
    [
        ("digits", (48, 17, 3), Arithmetic(122_717, 92_650, 29_424, 14_957, 221)),
        ("mnist", (384, 197, 5), Arithmetic(18_765_609, 14_154_450, 4_539_264, 2_273_961, 4_137)),
    ],
)
def test_sdit_by_hand(preset: str, sizes: tuple[int, int, int], expected: Arithmetic) -> None:
    found = cost(snnir.load(sdit.build(preset, weights="none"))).other
    assert found == of_sdit(*sizes)
    assert found == expected


def test_a_mean_adds_the_spikes_that_arrive() -> None:
    graph = chain(
        ops.Input(shape=(3,)), ops.Repeat(steps=4), ops.IF(r=np.full(3, 1 / DT), v_threshold=1.0),
        ops.TemporalMean(steps=4), ops.Output(), semantics=Semantics(dt=DT),
    )  # fmt: skip
    x = np.random.default_rng(0).uniform(0, 1.5, (10, 2, 3))
    _, sent = snnir.interpret(graph, x, record=["if"])
    assert 0 < sent["if"].sum() < sent["if"].size
    found = others_by_op(graph, measure(graph, x))["temporalmean"]
    assert found.acs == pytest.approx(sent["if"].sum() / 20)
    assert found == Arithmetic(acs=found.acs, macs=3)
    assert cost(graph).other == Arithmetic(acs=12, macs=3)  # all spike
    numbers = chain(
        ops.Input(shape=(3,)), ops.Repeat(steps=4), ops.TemporalMean(steps=4), ops.Output(), semantics=Semantics(dt=DT)
    )
    assert cost(numbers).other == Arithmetic(acs=12, macs=3)


def test_sums_count_once_and_not_where_synapses_or_neurons_add() -> None:
    named = {
        "a": ops.Input(shape=(5,)),
        "b": ops.Input(shape=(5,)),
        "squash": ops.Activation(function="relu"),
        "wide": ops.Activation(function="relu"),
        "lif": ops.LIF(tau=np.full(5, 0.01), v_threshold=1.0),
        "y": ops.Output(),
    }
    edges = [Edge(s, t) for t in ("squash", "wide", "lif") for s in "ab"]
    edges += [Edge(s, "y") for s in ("squash", "wide", "lif")]
    graph = Graph(named, tuple(edges), Semantics(dt=DT))
    # a + b once for both activations and never for the neurons; at the output two numbers, and spikes.
    assert {n: o.acs for n, o in others_by_op(graph, bound(graph)).items() if o} == {"squash": 5, "y": 5}
    fed = Graph(
        {**named, "fc": ops.Linear(weight=np.ones((5, 5)))},
        (*edges, Edge("a", "fc"), Edge("b", "fc"), Edge("fc", "lif")),
        graph.semantics,
    )
    found = cost(fed)
    assert {row.name: row.other.acs for row in found.rows if row.other} == {"y": 5}
    assert next(row for row in found.rows if row.name == "fc").acs == 5  # here a + b is


def test_energy_prices_what_has_a_price() -> None:
    graph = chain(
        ops.Input(shape=(2, 6)), ops.LayerNorm(weight=np.ones(6), bias=np.zeros(6)), ops.Activation(function="silu"),
        ops.Output(), semantics=Semantics(dt=DT),
    )  # fmt: skip
    found = energy(graph, recorded(graph, {"input": np.random.default_rng(0).normal(size=(7, 2, 2, 6))}))
    assert found.inference.ours.joules == 0
    assert found.other == Arithmetic(acs=26 + 12, macs=28, exponentials=12, divisions=2 + 12, roots=2).times(7)
    other = found.to_json()["per_inference"]["other"]
    assert other.pop("joules") == pytest.approx(7 * (38 * 0.9e-12 + 28 * 4.6e-12))
    assert other == {"acs": 266, "macs": 196, "exponentials": 84, "divisions": 98, "roots": 14}
    assert [row["other"]["divisions"] for row in found.to_json()["ops"]] == [0, 14, 84, 0]


def test_in_words() -> None:
    assert in_words(Arithmetic(acs=3, exponentials=1, roots=2), str) == "3 AC + 1 exponential + 2 square roots"
