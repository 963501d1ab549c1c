"""The reference interpreter against formulas written out by hand and against PyTorch's layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snnir
from snnir import ops
from snnir.graph import Edge, Graph, chain
from snnir.schedule import schedule
from snnir.semantics import Semantics

DT = 1e-3


def lif_graph(**fields: object) -> Graph:
    lif = ops.LIF(**{"tau": 0.02, "r": 20.0, "v_threshold": np.ones(4), **fields})  # type: ignore[arg-type]
    return chain(ops.Input(shape=(4,)), lif, ops.Output(), semantics=Semantics(dt=DT))


def test_lif_is_the_euler_step_of_its_equation() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0.4, 1.0, (50, 3, 4))
    tau, r, leak = rng.uniform(0.005, 0.05, 4), rng.uniform(5, 30, 4), rng.uniform(-0.2, 0.2, 4)
    threshold, reset = rng.uniform(0.5, 1.0, 4), rng.uniform(-0.3, 0.0, 4)
    graph = lif_graph(tau=tau, r=r, v_leak=leak, v_threshold=threshold, v_reset=reset)
    got, recorded = snnir.interpret(graph, x, record=["lif:v"])
    v = np.broadcast_to(leak, (3, 4))
    for t in range(50):
        v = v + DT / tau * (leak - v + r * x[t])
        spikes = v > threshold
        v = np.where(spikes, reset, v)
        np.testing.assert_array_equal(got[t], spikes)
        np.testing.assert_allclose(recorded["lif:v"][t], v, atol=1e-12)
    assert 20 < got.sum() < 500


def test_cuba_lif_updates_the_synapse_first() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0.6, 1.0, (40, 2, 3))
    op = ops.CubaLIF(tau_syn=0.005, tau_mem=0.01, r=3.0, w_in=4.0, v_threshold=np.full(3, 0.7), v_leak=0.1)
    graph = chain(ops.Input(shape=(3,)), op, ops.Output(), semantics=Semantics(dt=DT))
    got = snnir.interpret(graph, x)
    i, v = np.zeros((2, 3)), np.full((2, 3), 0.1)
    for t in range(40):
        i = i + DT / 0.005 * (-i + 4.0 * x[t])
        v = v + DT / 0.01 * (0.1 - v + 3.0 * i)
        np.testing.assert_array_equal(got[t], v > 0.7)
        v = np.where(v > 0.7, 0.0, v)
    assert got.sum() > 10


@pytest.mark.parametrize("kind", ["I", "LI", "CubaLI", "IF"])
def test_other_neurons(kind: str) -> None:
    x = np.random.default_rng(2).normal(1.0, 1.0, (30, 2, 3))
    made = {
        "I": ops.I(r=np.full(3, 5.0)),
        "LI": ops.LI(tau=0.01, r=2.0, v_leak=np.full(3, 0.5)),
        "CubaLI": ops.CubaLI(tau_syn=0.004, tau_mem=0.01, r=2.0, v_leak=np.full(3, 0.5), w_in=3.0),
        "IF": ops.IF(r=np.full(3, 300.0), v_threshold=1.0, v_reset=0.1),
    }[kind]
    got = snnir.interpret(chain(ops.Input(shape=(3,)), made, ops.Output(), semantics=Semantics(dt=DT)), x)
    i = np.zeros((2, 3))
    v = np.full((2, 3), 0.5 if kind in ("LI", "CubaLI") else 0.0)
    for t in range(30):
        if kind == "I":
            v = v + DT * 5.0 * x[t]
        elif kind == "LI":
            v = v + DT / 0.01 * (0.5 - v + 2.0 * x[t])
        elif kind == "CubaLI":
            i = i + DT / 0.004 * (3.0 * x[t] - i)
            v = v + DT / 0.01 * (0.5 - v + 2.0 * i)
        else:
            v = v + DT * 300.0 * x[t]
            np.testing.assert_array_equal(got[t], v > 1.0)
            v = np.where(v > 1.0, 0.1, v)
            continue
        np.testing.assert_allclose(got[t], v, atol=1e-12)


def test_back_edge_is_one_step_late_and_its_bias_arrives_at_step_0() -> None:
    w, bias = np.array([[0.0, -3.0], [2.0, 0.0]]), np.array([0.3, 0.6])
    graph = Graph(
        {
            "input": ops.Input(shape=(2,)),
            "lif": ops.LIF(tau=DT, v_threshold=np.full(2, 0.5)),
            "rec": ops.Affine(weight=w, bias=bias),
            "output": ops.Output(),
        },
        [("input", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output")],  # type: ignore[arg-type]
        Semantics(dt=DT),
    )
    x = np.random.default_rng(3).normal(0.0, 1.0, (20, 1, 2))
    for at_start in (True, False):
        got = snnir.interpret(graph, x, Semantics(dt=DT, recurrent_bias_at_start=at_start))
        late = bias if at_start else np.zeros(2)
        for t in range(20):
            spikes = (x[t] + late > 0.5).astype(float)  # tau = dt: the membrane is its input
            np.testing.assert_array_equal(got[t], spikes)
            late = spikes @ w.T + bias


def test_before_step_0_a_late_edge_delivers_what_its_source_gives_at_rest() -> None:
    """Two late edges in a row, on -> back -> lif: at rest `back` is fed by the bias of `on`, which runs later."""
    w, bias = np.full((1, 1), 2.0), np.full(1, 0.25)
    nodes = {
        "input": ops.Input(shape=(1,)),
        "lif": ops.LI(tau=DT),  # tau = dt: the membrane is its input
        "back": ops.Affine(weight=w, bias=bias),
        "second": ops.LI(tau=DT, v_leak=np.full(1, 3.0)),
        "on": ops.Affine(weight=w, bias=np.full(1, 0.5)),
        "output": ops.Output(),
    }
    edges = ["input>lif", "lif>back", "back>lif", "back>second", "second>on", "on>back", "lif>output"]
    graph = Graph(nodes, tuple(Edge(*e.split(">")) for e in edges), Semantics(dt=DT))
    late = {(e.source, e.target) for e in schedule(graph).back_edges}
    assert late == {("on", "back"), ("back", "lif")}
    _, found = snnir.interpret(graph, np.zeros((2, 1, 1)), record=["lif", "back"])
    on = 2.0 * 3.0 + 0.5
    back = 2.0 * (0.0 + on) + 0.25
    assert found["lif"].ravel().tolist() == [back, 2.0 * (back + on) + 0.25]
    assert found["back"][0].item() == 2.0 * (back + on) + 0.25
    _, without = snnir.interpret(
        graph, np.zeros((1, 1, 1)), graph.semantics.with_(recurrent_bias_at_start=False), ["lif"]
    )
    assert without["lif"].item() == 0.0


def test_the_last_way_to_an_output_has_no_latency_whatever_lies_on_it() -> None:
    fire = ops.IF(r=1 / DT, v_threshold=np.full(1, 0.5))
    x = np.zeros((6, 1, 1))
    x[1] = 1.0
    late = Semantics(dt=DT, latency_neuron=2, latency_input=1)
    ways: dict[str, list[ops.Op]] = {
        "bare": [],
        "reshaped": [ops.Reshape(shape=(1, 1))],
        "weighted": [ops.Linear(weight=np.ones((1, 1))), ops.Flatten()],
        "delayed": [ops.Delay(delay=np.float64(DT))],
    }
    arrives = {}
    for way, between in ways.items():
        layers = [(f"{way}{k}", op) for k, op in enumerate(between)]
        graph = chain(ops.Input(shape=(1,)), ("fire", fire), *layers, ops.Output(), semantics=late)
        arrives[way] = np.flatnonzero(snnir.interpret(graph, x)).tolist()
        straight = chain(ops.Input(shape=(1,)), *layers, ops.Output(), semantics=late)
        assert np.flatnonzero(snnir.interpret(straight, x)).tolist() == [1 + (way == "delayed")]
    assert arrives == {"bare": [2], "reshaped": [2], "weighted": [2], "delayed": [3]}


def test_what_feeds_a_neuron_and_an_output_has_its_values_once() -> None:
    fire = ops.IF(r=1 / DT, v_threshold=np.full(1, 0.5))
    nodes = {"input": ops.Input(shape=(1,)), "a": fire, "w": ops.Linear(weight=np.ones((1, 1))), "b": fire}
    nodes |= {"fired": ops.Output(), "both": ops.Output()}
    edges = [("input", "a"), ("a", "w"), ("w", "b"), ("w", "both"), ("b", "fired")]
    graph = Graph(nodes, tuple(Edge(*e) for e in edges), Semantics(dt=DT, latency_neuron=1))
    x = np.zeros((4, 1, 1))
    x[0] = 1.0
    found = snnir.interpret(graph, x)
    assert {name: np.flatnonzero(value).tolist() for name, value in found.items()} == {"fired": [1], "both": [1]}


def test_latency_between_neurons_delays_layers_and_serves_as_the_loop_s_step() -> None:
    graph = Graph(
        {
            "input": ops.Input(shape=(1,)),
            "a": ops.IF(r=1 / DT, v_threshold=np.full(1, 0.5)),
            "w": ops.Linear(weight=np.ones((1, 1))),
            "b": ops.IF(r=1 / DT, v_threshold=np.full(1, 0.5)),
            "output": ops.Output(),
        },
        [("input", "a"), ("a", "w"), ("w", "b"), ("b", "output")],  # type: ignore[arg-type]
        Semantics(dt=DT),
    )
    x = np.zeros((5, 1, 1))
    x[1] = 1.0
    assert np.flatnonzero(snnir.interpret(graph, x)) == [1]
    assert np.flatnonzero(snnir.interpret(graph, x, Semantics(dt=DT, latency_neuron=1))) == [2]
    late = Semantics(dt=DT, latency_neuron=1, latency_input=2)
    assert np.flatnonzero(snnir.interpret(graph, x, late)) == [4]


def test_subtract_multi_spike_and_floor() -> None:
    x = np.array([2.5, 0.0, -9.0, 1.5, 0.0])[:, None, None]
    graph = chain(
        ops.Input(shape=(1,)), ops.IF(r=1 / DT, v_threshold=np.ones(1)), ops.Output(), semantics=Semantics(dt=DT)
    )
    one = Semantics(dt=DT, reset="subtract")
    np.testing.assert_array_equal(snnir.interpret(graph, x, one).ravel(), [1, 1, 0, 0, 0])
    many = one.with_(spikes_per_step=None, membrane_floor=-1.0)
    got, recorded = snnir.interpret(graph, x, many, record=["if:v"])
    np.testing.assert_array_equal(got.ravel(), [2, 0, 0, 0, 0])
    np.testing.assert_allclose(recorded["if:v"].ravel(), [0.5, 0.5, -1.0, 0.5, 0.5])
    np.testing.assert_array_equal(snnir.interpret(graph, x, many.with_(spikes_per_step=1)).ravel()[:2], [1, 1])


def test_comparison_matters_at_the_threshold() -> None:
    x = np.ones((3, 1, 1))
    graph = chain(
        ops.Input(shape=(1,)), ops.IF(r=1 / DT, v_threshold=np.ones(1)), ops.Output(), semantics=Semantics(dt=DT)
    )
    assert snnir.interpret(graph, x).ravel().tolist() == [0, 1, 0]
    assert snnir.interpret(graph, x, Semantics(dt=DT, comparison=">=")).ravel().tolist() == [1, 1, 1]


def test_delay_reads_each_element_its_own_number_of_steps_back() -> None:
    op = ops.Delay(delay=np.array([0.0, 2e-3, 3e-3]))
    x = np.random.default_rng(4).normal(size=(8, 2, 3))
    got = snnir.interpret(chain(ops.Input(shape=(3,)), op, ops.Output(), semantics=Semantics(dt=DT)), x)
    np.testing.assert_array_equal(got[..., 0], x[..., 0])
    np.testing.assert_array_equal(got[2:, :, 1], x[:-2, :, 1])
    np.testing.assert_array_equal(got[3:, :, 2], x[:-3, :, 2])
    assert not got[:2, :, 1].any()
    with pytest.raises(snnir.CompileError, match=r"0\.0025 s is 2\.5 steps"):
        snnir.interpret(
            chain(ops.Input(shape=(1,)), ops.Delay(delay=np.array([2.5e-3])), ops.Output(), semantics=Semantics(dt=DT)),
            np.zeros((2, 1, 1)),
        )


TORCH_CASES = {
    "conv1d": (
        ops.Conv1d(
            weight=np.random.default_rng(5).normal(size=(6, 2, 3)), bias=np.arange(6.0), stride=2, padding=2, groups=2
        ),
        (4, 11),
        lambda x, w, b: torch.nn.functional.conv1d(x, w, b, stride=2, padding=2, groups=2),
    ),
    "conv2d": (
        ops.Conv2d(
            weight=np.random.default_rng(6).normal(size=(4, 3, 3, 5)),
            bias=np.arange(4.0),
            stride=(1, 2),
            padding=(1, 2),
            dilation=(2, 1),
        ),
        (3, 9, 10),
        lambda x, w, b: torch.nn.functional.conv2d(x, w, b, stride=(1, 2), padding=(1, 2), dilation=(2, 1)),
    ),
    "conv2d-same": (
        ops.Conv2d(weight=np.random.default_rng(7).normal(size=(4, 3, 4, 3)), bias=np.arange(4.0), padding="same"),
        (3, 6, 7),
        lambda x, w, b: torch.nn.functional.conv2d(x, w, b, padding="same"),
    ),
    "conv-transpose": (
        ops.ConvTranspose2d(
            weight=np.random.default_rng(8).normal(size=(4, 3, 3, 2)),
            bias=np.arange(6.0),
            stride=(2, 3),
            padding=(1, 0),
            output_padding=(1, 2),
            dilation=(1, 2),
            groups=2,
        ),
        (4, 5, 4),
        lambda x, w, b: torch.nn.functional.conv_transpose2d(
            x, w, b, stride=(2, 3), padding=(1, 0), output_padding=(1, 2), dilation=(1, 2), groups=2
        ),
    ),
}


@pytest.mark.parametrize("name", TORCH_CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolutions_are_pytorch_s(name: str, dtype: type) -> None:
    op, shape, reference = TORCH_CASES[name]
    x = np.random.default_rng(9).normal(size=(2, 3, *shape)).astype(dtype)
    got = snnir.interpret(chain(ops.Input(shape=shape), op, ops.Output()), x)
    folded = torch.from_numpy(x.reshape(6, *shape))
    want = reference(folded, torch.from_numpy(op.weight.astype(dtype)), torch.from_numpy(op.bias.astype(dtype)))
    assert got.dtype == dtype
    assert got.shape[2:] == tuple(want.shape[1:])
    np.testing.assert_allclose(
        got.reshape(want.shape),
        want.numpy(),
        rtol=1e-11 if dtype is np.float64 else 1e-4,
        atol=0 if dtype is np.float64 else 1e-5,
    )


def test_pools_are_pytorch_s() -> None:
    x = np.random.default_rng(10).normal(size=(1, 4, 3, 7, 8))
    for kind, scale in ((ops.AvgPool2d, 1.0), (ops.SumPool2d, 6.0)):
        op = kind(kernel_size=(3, 2), stride=(2, 1), padding=(1, 1))
        got = snnir.interpret(chain(ops.Input(shape=(3, 7, 8)), op, ops.Output()), x)
        want = torch.nn.functional.avg_pool2d(torch.from_numpy(x[0]), (3, 2), (2, 1), (1, 1)).numpy() * scale
        np.testing.assert_allclose(got[0], want, rtol=1e-12)


def test_normalisations_and_activations_are_pytorch_s() -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(2, 3, 5, 6))
    tensor = torch.from_numpy(x.reshape(6, 5, 6))
    w, b, mean, var = rng.normal(size=5), rng.normal(size=5), rng.normal(size=5), rng.uniform(0.5, 2, 5)
    norm = ops.BatchNorm(weight=w, bias=b, mean=mean, var=var, alpha=0.7, v_th=0.5)
    got = snnir.interpret(chain(ops.Input(shape=(5, 6)), norm, ops.Output()), x)
    want = torch.nn.functional.batch_norm(tensor, *map(torch.from_numpy, (mean, var, w * 0.35, b)))
    np.testing.assert_allclose(got.reshape(6, 5, 6), want.numpy(), rtol=1e-10)
    layer = ops.LayerNorm(weight=rng.normal(size=6), bias=rng.normal(size=6))
    got = snnir.interpret(chain(ops.Input(shape=(5, 6)), layer, ops.Output()), x)
    want = torch.nn.functional.layer_norm(tensor, (6,), *map(torch.tensor, (layer.weight, layer.bias)))
    np.testing.assert_allclose(got.reshape(6, 5, 6), want.numpy(), rtol=1e-8, atol=1e-12)
    functions = {
        "sigmoid": torch.sigmoid,
        "relu": torch.relu,
        "relu2": lambda v: torch.relu(v) ** 2,
        "silu": torch.nn.functional.silu,
        "exp": torch.exp,
        "tanh": torch.tanh,
    }
    for name, function in functions.items():
        got = snnir.interpret(chain(ops.Input(shape=(5, 6)), ops.Activation(function=name), ops.Output()), x)
        np.testing.assert_allclose(got.reshape(6, 5, 6), function(tensor).numpy(), rtol=1e-12)


def test_wkv_is_its_formula_and_survives_extreme_exponents() -> None:
    rng = np.random.default_rng(12)
    tokens, channels = 9, 4
    k, v = rng.normal(size=(2, 1, 1, tokens, channels))
    decay, first = rng.uniform(0.1, 2, channels), rng.normal(size=channels)
    graph = Graph(
        {
            "k": ops.Input(shape=(tokens, channels)),
            "v": ops.Input(shape=(tokens, channels)),
            "wkv": ops.Wkv(log_decay=np.log(decay), first=first),
            "output": ops.Output(),
        },
        [("k", "wkv", "k"), ("v", "wkv", "v"), ("wkv", "output")],  # type: ignore[arg-type]
    )
    got = snnir.interpret(graph, {"k": k, "v": v})
    for line in range(tokens):
        past = [np.exp(-(line - 1 - i) * decay + k[0, 0, i]) for i in range(line)]
        now = np.exp(first + k[0, 0, line])
        top = sum((p * v[0, 0, i] for i, p in enumerate(past)), now * v[0, 0, line])
        np.testing.assert_allclose(got[0, 0, line], top / (sum(past) + now), rtol=1e-10)
    assert np.isfinite(snnir.interpret(graph, {"k": k * 1000, "v": v})).all()


def test_encoder_and_decoder_change_the_number_of_steps() -> None:
    x = np.random.default_rng(13).normal(size=(3, 2, 4))
    through = chain(ops.Input(shape=(4,)), ops.Repeat(steps=5), ops.TemporalMean(steps=5), ops.Output())
    np.testing.assert_allclose(snnir.interpret(through, x), x)
    repeated = snnir.interpret(chain(ops.Input(shape=(4,)), ops.Repeat(steps=5), ops.Output()), x)
    np.testing.assert_array_equal(repeated[::5], x)
    assert repeated.shape == (15, 2, 4)


def test_shape_ops_multiply_and_constants() -> None:
    x = np.arange(24.0).reshape(1, 1, 2, 3, 4)
    g = chain(ops.Input(shape=(2, 3, 4)), ops.Transpose(axes=(2, 0, 1)), ops.Reshape(shape=(4, 6)), ops.Output())
    np.testing.assert_array_equal(snnir.interpret(g, x)[0, 0], x[0, 0].transpose(2, 0, 1).reshape(4, 6))
    g = chain(
        ops.Input(shape=(2, 3, 4)), ops.Slice(axis=1, start=1, stop=3), ops.Upsample2d(factor=(1, 2)), ops.Output()
    )
    np.testing.assert_array_equal(snnir.interpret(g, x)[0, 0], x[0, 0, :, 1:3].repeat(2, -1))
    series = np.array([[1.0], [2.0]])
    g = Graph(
        {
            "input": ops.Input(shape=(1,)),
            "c": ops.Constant(value=series, series=True),
            "both": ops.Concat(inputs=2),
            "product": ops.Multiply(),
            "output": ops.Output(),
        },
        [
            ("input", "both", "in0"),
            ("c", "both", "in1"),
            ("both", "product", "a"),
            ("c", "product", "b"),
            ("product", "output"),
        ],  # type: ignore[arg-type]
    )
    got = snnir.interpret(g, np.full((3, 1, 1), 5.0))
    np.testing.assert_array_equal(got[:, 0], [[5, 1], [10, 4], [10, 4]])


def test_bad_inputs_are_named_all_at_once() -> None:
    graph = Graph(
        {"a": ops.Input(shape=(2,)), "b": ops.Input(shape=(2,)), "output": ops.Output()},
        [("a", "output"), ("b", "output")],  # type: ignore[arg-type]
    )
    with pytest.raises(snnir.CompileError) as caught:
        snnir.interpret(graph, {"a": np.zeros((3, 1, 5)), "c": np.zeros((3, 1, 2))})
    assert [v.where for v in caught.value.violations] == ["b", "c", "a"]
    with pytest.raises(snnir.CompileError, match="not finite"):
        snnir.interpret(graph, {"a": np.full((1, 1, 2), np.nan), "b": np.zeros((1, 1, 2))})
    with pytest.raises(snnir.CompileError, match="T=3 B=1, b T=4"):
        snnir.interpret(graph, {"a": np.zeros((3, 1, 2)), "b": np.zeros((4, 1, 2))})
    with pytest.raises(snnir.UsageError, match="nobody"):
        snnir.interpret(graph, {"a": np.zeros((1, 1, 2)), "b": np.zeros((1, 1, 2))}, record=["nobody"])


def test_time_step_is_never_guessed() -> None:
    graph = chain(ops.Input(shape=(1,)), ops.LIF(tau=0.02, v_threshold=np.ones(1)), ops.Output())
    with pytest.raises(snnir.CompileError, match="time step is not known"):
        snnir.interpret(graph, np.zeros((1, 1, 1)))
