"""Structure: shapes, faults, order, edits, weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import snnir
from snnir import ops
from snnir.edit import Editor
from snnir.errors import CompileError
from snnir.graph import Edge, Graph, chain
from snnir.schedule import schedule


def linear(n_out: int, n_in: int) -> ops.Linear:
    return ops.Linear(weight=np.zeros((n_out, n_in), np.float32))


def lif(n: int) -> ops.LIF:
    return ops.LIF(tau=np.full(n, 0.02), v_threshold=np.ones(n))


def rules(graph: Graph) -> list[str]:
    return [v.rule for v in graph.violations()]


@pytest.mark.parametrize(
    ("op", "shape", "expected"),
    [
        (ops.Conv2d(weight=np.zeros((4, 2, 3, 5)), bias=np.zeros(4)), (2, 10, 10), (4, 8, 6)),  # nir says (4, 8, 8)
        (ops.Conv2d(weight=np.zeros((4, 1, 3, 3)), bias=np.zeros(4), groups=2), (2, 6, 6), (4, 4, 4)),
        (ops.Conv2d(weight=np.zeros((1, 1, 3, 2)), bias=np.zeros(1), dilation=(2, 3)), (1, 9, 9), (1, 5, 6)),
        (ops.Conv2d(weight=np.zeros((1, 1, 4, 3)), bias=np.zeros(1), padding="same"), (1, 7, 5), (1, 7, 5)),
        (ops.Conv2d(weight=np.zeros((1, 1, 3, 3)), bias=np.zeros(1), padding="valid", stride=2), (1, 8, 7), (1, 3, 3)),
        (ops.Conv1d(weight=np.zeros((3, 2, 4)), bias=np.zeros(3), stride=3, padding=1), (2, 11), (3, 4)),
        (ops.AvgPool2d(kernel_size=(2, 3), stride=(2, 1), padding=(0, 1)), (5, 7, 7), (5, 3, 7)),
        (ops.Flatten(), (2, 3, 4), (24,)),
        (ops.Flatten(start_dim=1), (2, 3, 4), (2, 12)),
        (ops.Flatten(start_dim=-2, end_dim=-1), (2, 3, 4), (2, 12)),
        (ops.Linear(weight=np.zeros((5, 7, 3))), (5, 3), (5, 7)),
        (ops.Linear(weight=np.zeros((7, 3))), (6, 3), (6, 7)),
        (
            ops.ConvTranspose2d(weight=np.zeros((2, 3, 4, 4)), bias=np.zeros(3), stride=2, padding=1),
            (2, 5, 6),
            (3, 10, 12),
        ),
        (ops.Transpose(axes=(2, 0, 1)), (2, 3, 4), (4, 2, 3)),
        (ops.Slice(axis=-1, start=1, stop=6, step=2), (2, 7), (2, 3)),
    ],
)
def test_inferred_shapes(op: ops.Op, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    graph = chain(ops.Input(shape=shape), ("op", op), ops.Output())
    assert graph.verify().shapes["op"] == expected
    assert snnir.interpret(graph, np.zeros((1, 1, *shape))).shape == (1, 1, *expected)


@pytest.mark.parametrize("reset", ["delayed-value", "delayed-subtract", "held-subtract"])
@pytest.mark.parametrize("most", [None, 3])
def test_several_spikes_per_step_need_a_reset_in_that_step(reset: Any, most: int | None) -> None:
    several = snnir.Semantics(dt=1e-3, reset=reset, spikes_per_step=most)
    graph = chain(ops.Input(shape=(2,)), lif(2), ops.Output(), semantics=several)
    assert rules(graph) == ["semantics-spikes"]
    for target in ("nir", "torch", "xylo-audio3"):
        with pytest.raises(CompileError, match="several spikes per step"):
            snnir.compile(graph, target, allow=("approximate",))
    silent = chain(ops.Input(shape=(2,)), ops.LI(tau=np.full(2, 0.02)), ops.Output(), semantics=several)
    assert rules(silent) == []
    with pytest.raises(CompileError, match="several spikes per step"):  # another rule, for the interpreter alone
        snnir.interpret(chain(ops.Input(shape=(2,)), lif(2), ops.Output()), np.ones((3, 1, 2)), semantics=several)


def test_every_fault_is_named_at_once() -> None:
    graph = Graph(
        {
            "input": ops.Input(shape=(3,)),
            "bad": ops.LIF(tau=np.array([0.01, -0.02]), v_threshold=np.array([1.0, np.nan])),
            "alone": linear(2, 2),
            "output": ops.Output(),
        },
        (
            Edge("input", "bad"),
            Edge("bad", "output"),
            Edge("bad", "output"),
            Edge("ghost", "output"),
            Edge("input", "bad", "side"),
        ),
    )
    faults = list(graph.violations())
    assert [v.rule for v in faults] == ["op", "op", "edge-duplicate", "edge-dangling", "edge-port", "op-unconnected"]
    assert "v_threshold holds nan at index [1]" in faults[0].what
    assert "tau is -0.02 s" in faults[1].what
    with pytest.raises(snnir.CompileError) as caught:
        graph.verify()
    assert len(caught.value.violations) == 6


def test_a_name_of_half_a_character_is_refused() -> None:
    graph = chain(ops.Input(shape=(3,)), ("lif \ud83d", lif(3)), ("\N{ROBOT FACE}", ops.Output()))
    assert [(v.rule, v.where) for v in graph.violations()] == [("op-name", r"'lif \ud83d'")]


def test_shape_faults_name_both_sides() -> None:
    graph = chain(ops.Input(shape=(3,)), linear(4, 5), ops.Output())
    assert "takes [5], but [3] arrives" in str(next(iter(graph.violations())))
    fan_in = Graph(
        {"a": ops.Input(shape=(3,)), "b": ops.Input(shape=(4,)), "output": ops.Output()},
        (Edge("a", "output"), Edge("b", "output")),
    )
    assert "[3] from a and [4] from b cannot be summed" in str(next(iter(fan_in.violations())))


def test_cycle_without_state_is_refused() -> None:
    graph = Graph(
        {"input": ops.Input(shape=(2,)), "a": linear(2, 2), "b": linear(2, 2), "output": ops.Output()},
        (Edge("input", "a"), Edge("a", "b"), Edge("b", "a"), Edge("b", "output")),
    )
    assert rules(graph) == ["graph-cycle"]


@pytest.mark.parametrize(
    ("edges", "faulty"),
    [
        ([("x", "thrice"), ("thrice", "gate", "a"), ("x", "gate", "b")], ["thrice -> gate.a"]),  # at two ports
        ([("x", "thrice"), ("thrice", "gate", "a"), ("x", "gate", "a"), ("still", "gate", "b")], ["thrice -> gate.a"]),
        ([("x", "thrice"), ("thrice", "gate", "a"), ("still", "gate", "b")], []),
        ([("x", "thrice"), ("thrice", "mean"), ("mean", "gate", "a"), ("x", "gate", "b")], []),
        # a constant has one rate: three steps for what reads it here, one there
        (
            [("x", "gate", "a"), ("still", "gate", "b"), ("x", "thrice"), ("thrice", "sum"), ("still", "sum")],
            ["still -> sum"],
        ),
    ],
)
def test_values_of_several_rates_do_not_meet(edges: list[tuple[str, ...]], faulty: list[str]) -> None:
    all_ops: dict[str, ops.Op] = {
        "x": ops.Input(shape=(2,)),
        "still": ops.Constant(value=np.ones(2)),
        "thrice": ops.Repeat(steps=3),
        "mean": ops.TemporalMean(steps=3),
        "sum": ops.Scale(scale=np.ones(2)),
        "gate": ops.Multiply(),
        "out": ops.Output(),
    }
    used = {name for edge in edges for name in edge[:2]} | {"out"}
    graph = Graph({n: op for n, op in all_ops.items() if n in used}, tuple(Edge(*e) for e in (*edges, ("gate", "out"))))
    assert [(v.rule, v.where) for v in graph.violations()] == [("graph-steps", where) for where in faulty]


def test_order_does_not_depend_on_edge_order_and_enters_cycles_from_outside() -> None:
    parts = {
        "output": ops.Output(),
        "back": linear(2, 2),
        "inner": linear(2, 2),
        "one": lif(2),
        "two": lif(2),
        "input": ops.Input(shape=(2,)),
    }
    edges = [
        Edge("input", "one"),
        Edge("one", "inner"),
        Edge("inner", "two"),
        Edge("two", "back"),
        Edge("back", "one"),
        Edge("two", "two"),
        Edge("two", "output"),
    ]
    rng = np.random.default_rng(0)
    for _ in range(20):
        shuffled = [edges[i] for i in rng.permutation(len(edges))]
        plan = schedule(Graph(parts, tuple(shuffled)))
        assert plan.back_edges == {Edge("back", "one"), Edge("two", "two")}
        assert plan.order == ("input", "one", "inner", "two", "back", "output")
        assert [g.cyclic for g in plan.groups] == [False, True, False]


def test_editor_keeps_origin_and_refuses_hidden_factors_of_two() -> None:
    graph = chain(ops.Input(shape=(2,)), linear(3, 2), linear(4, 3), lif(4), ops.Output())
    edit = Editor(graph)
    assert edit.build() is graph
    edit.replace("linear_1", linear(4, 2), made_from=["linear"])
    edit.bypass("linear")
    new = edit.build().verify()
    assert new.sources("linear_1") == ("linear_1", "linear")
    assert new.incoming["linear_1"] == (Edge("input", "linear_1"),)
    edit = Editor(new)
    with pytest.raises(ValueError, match="exists already"):
        edit.connect("input", "linear_1")
    added = edit.add("lif", lif(4), made_from=["linear_1"])
    assert added == "lif.1"
    assert edit.build().sources("lif.1") == ("linear_1", "linear")


def test_weights_go_out_and_come_back_by_graph_name_or_identifier() -> None:
    graph = chain(ops.Input(shape=(2,)), ("down.0", linear(3, 2)), ops.Output())
    assert set(graph.weights()) == {"down.0.weight"}
    trained = np.arange(6.0).reshape(3, 2)
    for key in ("down.0.weight", "down_0.weight"):
        new = graph.with_weights({key: trained})
        np.testing.assert_array_equal(new.weights()["down.0.weight"], trained)
        assert new["down.0"].weight.dtype == np.float32  # type: ignore[attr-defined]
    assert not graph.weights()["down.0.weight"].any()
    with pytest.raises(snnir.CompileError) as caught:
        graph.with_weights({"up.weight": trained, "down.0.weight": trained.T, "down_0.weight": trained * np.nan})
    assert [v.rule for v in caught.value.violations] == ["weights-key", "weights-shape", "weights-finite"]


def test_weights_are_never_cut_off_to_fit_a_type() -> None:
    whole = ops.Affine(weight=np.array([[1, 2], [3, 4]], np.int8), bias=np.zeros(2, np.float16))
    graph = chain(ops.Input(shape=(2,)), ("fc", whole), ops.Output())
    for values, kept in (
        (np.array([[0.5, -1.5], [2.25, 3.0]]), "float64"),
        (torch.tensor([[0.5, -1.5], [2.25, 3.0]]), "float32"),
        (torch.tensor([[0.5, -1.5], [2.25, 3.0]], dtype=torch.bfloat16), "float32"),
        (np.array([[7, -8], [9, 10]]), "int8"),
        (np.array([[300, -8], [9, 10]]), "int64"),
    ):
        weight = graph.with_weights({"fc.weight": values}).weights()["fc.weight"]
        assert weight.dtype == kept
        np.testing.assert_array_equal(weight, np.asarray(values.float() if hasattr(values, "float") else values))
    with pytest.raises(snnir.CompileError) as caught:
        graph.with_weights({"fc.bias": np.array([1e6, 0.0]), "fc.weight": np.ones((2, 2), complex)})
    assert [(v.rule, v.what) for v in caught.value.violations] == [
        ("weights-finite", "holds values that float16 cannot hold"),
        ("weights-kind", "holds complex128"),
    ]


KERNEL = {"weight": np.ones((2, 2, 3, 3)), "bias": np.zeros(2)}
SIZES: list[tuple[type[ops.Op], dict[str, Any], str]] = [
    (ops.Conv2d, {**KERNEL, "stride": (1, 1, 1)}, "stride [1, 1, 1] has 3 numbers, expected 2"),
    (ops.Conv2d, {**KERNEL, "stride": 1.5}, "stride [1.5, 1.5] holds what is no whole number"),
    (ops.Conv2d, {**KERNEL, "dilation": (1, 0)}, "dilation [1, 0] holds 0, expected 1 or more"),
    (ops.Conv2d, {**KERNEL, "padding": (-1, 0)}, "padding [-1, 0] holds -1, expected 0 or more"),
    (ops.Conv2d, {**KERNEL, "padding": (1, 1, 1, 1)}, "padding [1, 1, 1, 1] has 4 numbers, expected 2"),
    (ops.Conv2d, {**KERNEL, "groups": 1.5}, "groups [1.5] holds what is no whole number"),
    (ops.Conv2d, {**KERNEL, "input_shape": (2, 6, 6)}, "input_shape [2, 6, 6] has 3 numbers, expected 2"),
    (ops.ConvTranspose2d, {**KERNEL, "stride": (2, 2, 2)}, "stride [2, 2, 2] has 3 numbers, expected 2"),
    (ops.ConvTranspose2d, {**KERNEL, "output_padding": 1}, "output_padding [1, 1] must be below the stride"),
    (ops.ConvTranspose2d, {**KERNEL, "groups": 0}, "groups [0] holds 0, expected 1 or more"),
    (ops.SumPool2d, {"kernel_size": 2, "stride": (2, 2, 2)}, "stride [2, 2, 2] has 3 numbers, expected 2"),
    (ops.AvgPool2d, {"kernel_size": (2, "two"), "stride": 2}, "kernel_size [2, two] holds what is no whole number"),
    (ops.AvgPool2d, {"kernel_size": np.nan, "stride": 2}, "kernel_size [nan, nan] holds what is no whole number"),
    (ops.Upsample2d, {"factor": (2, 2, 2)}, "factor [2, 2, 2] has 3 numbers, expected 2"),
    (ops.Flatten, {"start_dim": 0.5}, "start_dim is 0.5, expected a whole number"),
    (ops.Reshape, {"shape": (-9, -8)}, "shape [-9, -8] holds -9, expected 1 or more"),
]


@pytest.mark.parametrize(("kind", "fields", "words"), SIZES, ids=lambda v: v.__name__ if isinstance(v, type) else None)
def test_sizes_that_are_none_are_named_once(kind: type[ops.Op], fields: dict[str, Any], words: str) -> None:
    graph = chain(ops.Input(shape=(2, 6, 6)), ("it", kind(**fields)), ops.Output())
    (fault,) = graph.violations()
    assert fault.rule == "op"
    assert fault.where == f"it ({kind.__name__})"
    assert words in fault.what


def test_an_input_of_two_and_a_half() -> None:
    (fault,) = chain(ops.Input(shape=(2.5,)), ops.Output()).violations()  # type: ignore[arg-type]
    assert fault.what == "shape [2.5] holds what is no whole number"


def test_a_layer_of_nothing() -> None:
    (fault,) = chain(ops.Input(shape=(3,)), ("fc", linear(0, 3)), lif(1), ops.Output()).violations()
    assert (fault.rule, fault.where, fault.what) == ("shape", "fc (Linear)", "gives shape [0]: nothing at all")


def test_arrays_cannot_be_written_through_an_op() -> None:
    op = linear(2, 2)
    with pytest.raises(ValueError, match="read-only"):
        op.weight[0, 0] = 1
