"""`.net` files: lava-dl's own loader made of them, in Lava, what our simulator gives; and what they cannot say."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.backends.lava.netx import _as_loaded, netx, unsayable
from snnir.errors import CompileError
from snnir.graph import chain as graph_chain
from snnir.semantics import Semantics
from snnir.simulators.loihi import Connection, Convolution, LoihiSpec, Population, simulate
from tests.lava_oracle import Case
from tests.lava_process import unpack
from tests.netx_nets import digest

RECORDED = Path(__file__).parents[1] / "data" / "netx_traces.npz"


@pytest.fixture(scope="module")
def recorded() -> tuple[list[Case], list[Case]]:
    cases, facts = unpack(RECORDED)
    return cases[: facts["networks"]], cases[facts["networks"] :]


def last_spikes(spec: LoihiSpec, values: Any) -> Any:
    sources = {c.source for c in spec.connections}
    (last,) = [p.name for p in spec.populations if p.name not in sources]
    return simulate(spec, {"in": values.reshape(len(values), 1, -1)}).spikes[last][:, 0]


def test_the_loader_of_lava_dl_oracle_gave_the_same_spikes(recorded: tuple[list[Case], list[Case]]) -> None:
    """The files are, content by content, those that lava-dl 0.6 loaded and Lava ran (tests/record_netx.py)."""
    networks, _ = recorded
    assert len(networks) == 30
    spiking = convolutions = delayed = graded = recurrent = 0
    for case in networks:
        extra = {"input.in", "digest", "last"}
        spec = LoihiSpec.from_npz_dict({key: value for key, value in case.items() if key not in extra})
        assert digest(netx(spec)) == str(case["digest"])
        assert np.array_equal(last_spikes(spec, case["input.in"]), case["last"])
        spiking += bool(case["last"].any())
        convolutions += any(isinstance(c, Convolution) for c in spec.connections)
        delayed += any(isinstance(c, Connection) and c.delays.any() for c in spec.connections)
        graded += any(c.graded for c in spec.connections)
        recurrent += any(c.source == c.target for c in spec.connections)
    assert min(spiking, convolutions) >= 10
    assert min(delayed, graded, recurrent) >= 3


def test_which_matrices_the_loader_keeps_oracle(recorded: tuple[list[Case], list[Case]]) -> None:
    kept = 0
    for case in recorded[1]:
        given, loaded = case["given"], case["loaded"]
        ours = _as_loaded(given.astype(np.int64))
        assert np.array_equal(ours, given) == np.array_equal(loaded, given), given
        kept += np.array_equal(loaded, given)
    assert 15 <= kept <= len(recorded[1]) - 5  # it does not keep all


def chain(*connections: Any, **population: Any) -> LoihiSpec:
    sizes = {"in": 2} | {c.target: len(c.weights) for c in connections if isinstance(c, Connection)}
    values = {"vth": 10, **population}
    cells = tuple(Population(name=name, size=size, **values) for name, size in sizes.items() if name != "in")
    return LoihiSpec(inputs={"in": 2}, populations=cells, connections=connections)


def wire(weights: Any, source: str = "in", target: str = "a", **more: Any) -> Connection:
    return Connection(source=source, target=target, weights=weights, **more)


ONE = [[1, 2], [3, 4]]


def test_a_dense_layer_as_documented() -> None:
    spec = chain(wire([[2, -6], [4, 0]], weight_exp=-1, delays=[[0, 1], [2, 3]]), du=99, dv=7, bias_mant=5, bias_exp=6)
    with h5py.File(io.BytesIO(netx(spec)), "r") as file:
        assert sorted(file["layer"]) == ["0", "1"]
        assert file["layer/0/type"][0] == b"input"
        assert file["layer/0/shape"][()].tolist() == [2]
        layer = file["layer/1"]
        assert layer["type"][0] == b"dense"
        assert layer["weight"][()].tolist() == [[1, -3], [2, 0]]
        assert layer["delay"][()].tolist() == [[0, 1], [2, 3]]
        assert layer["bias"][()].tolist() == [5, 5]
        said = {name: value[()] for name, value in layer["neuron"].items() if name != "type"}
        assert said == {"iDecay": 100, "vDecay": 7, "vThMant": 10, "refDelay": 1, "gradedSpike": False}
        assert layer["neuron/type"][0] == b"CUBA"


def test_a_convolution_is_pytorchs_and_what_follows_is_flattened() -> None:
    kernel = np.arange(12).reshape(2, 3, 1, 2)  # (out, x, y, in)
    conv = Convolution(source="in", target="a", weights=kernel, input_shape=(5, 4, 2), stride=(2, 1), padding=(0, 1))
    assert conv.output_shape == (2, 6, 2)
    columns = np.arange(24).reshape(1, 24)
    cells = (
        Population(name="a", size=24, vth=9, bias_mant=np.tile([64, 128], 12)),
        Population(name="b", size=1, vth=9),
    )
    spec = LoihiSpec(inputs={"in": 40}, populations=cells, connections=(conv, wire(columns, "a", "b")))
    with h5py.File(io.BytesIO(netx(spec)), "r") as file:
        assert [file[f"layer/{i}/type"][0] for i in range(4)] == [b"input", b"conv", b"flatten", b"dense"]
        assert file["layer/0/shape"][()].tolist() == [2, 4, 5]
        layer = file["layer/1"]
        assert {name: layer[name][()].tolist() for name in ("shape", "stride", "padding", "bias")} == {
            "shape": [2, 6, 2],
            "stride": [1, 2],
            "padding": [1, 0],
            "bias": [1, 2],
        }
        torch_layout = layer["weight"][()]
        assert torch_layout.shape == (2, 2, 1, 3)
        assert torch_layout[1, 0, 0].tolist() == kernel[1, ::-1, 0, 0].tolist()
        flat = file["layer/3/weight"][()].reshape(2, 6, 2)  # channel, y, x
        assert np.array_equal(flat, columns.reshape(2, 6, 2).transpose(2, 1, 0))


def test_neurons_may_be_numbered_as_in_pytorch() -> None:
    """Channel, Y, X instead of X, Y, channel: other numbers here, the same file, the same spikes."""
    rng = np.random.default_rng(0)
    kernel, matrix = rng.integers(-100, 100, (3, 2, 3, 2)), rng.integers(-90, 90, (4, 4 * 5 * 3))
    bias = 64 * rng.integers(-3, 9, (4, 5, 3))

    def spec(layout: str, bias: Any, matrix: Any) -> LoihiSpec:
        conv = Convolution(
            source="in", target="a", weights=kernel, input_shape=(5, 5, 2), padding=(0, 1), layout=layout
        )
        cells = (
            Population(name="a", size=60, vth=99, bias_mant=bias.ravel()),
            Population(name="b", size=4, vth=150),
        )
        return LoihiSpec(inputs={"in": 50}, populations=cells, connections=(conv, wire(matrix, "a", "b")))

    ours = spec("cyx", bias.transpose(2, 1, 0), matrix)
    lavas = spec("xyc", bias, matrix.reshape(4, 3, 5, 4).transpose(0, 3, 2, 1).reshape(4, 60))
    assert digest(netx(ours)) == digest(netx(lavas))
    events = rng.integers(0, 2, (30, 2, 5, 5))
    spikes = last_spikes(ours, events)
    assert 20 < spikes.sum() < 100
    np.testing.assert_array_equal(spikes, last_spikes(lavas, events.transpose(0, 3, 2, 1)))


def test_connections_that_add_up_are_one_matrix() -> None:
    spec = chain(wire([[5, 0], [0, 7]]), wire([[0, -3], [0, 0]]))
    with h5py.File(io.BytesIO(netx(spec)), "r") as file:
        assert file["layer/1/weight"][()].tolist() == [[5, -3], [0, 7]]


def test_a_layer_upon_itself() -> None:
    spec = chain(wire([[4, -6], [2, 0]]), wire([[0, 2], [-8, 0]], "a", "a"))
    with h5py.File(io.BytesIO(netx(spec)), "r") as file:
        assert file["layer/1/type"][0] == b"dense_rec"
        assert file["layer/1/weight"][()].tolist() == [[4, -6], [2, 0]]
        assert file["layer/1/weight_rec"][()].tolist() == [[0, 2], [-8, 0]]


TWO_INPUTS = LoihiSpec(
    inputs={"in": 2, "other": 2}, populations=(Population(name="a", size=2, vth=1),), connections=(wire(ONE),)
)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (TWO_INPUTS, "has 2 inputs"),
        (chain(wire(ONE), wire(ONE, "a", "b"), wire(ONE, "b", "a")), "is reached from b, in"),
        (chain(wire(ONE), wire(ONE, "a", "a", delays=1)), "acts upon itself, and there are convolutions or delays"),
        (chain(wire([[-2, -4]] * 2), wire([[-8, -6], [-64, -2]], "a", "a")), "-64 would act as -62"),
        (chain(wire(ONE), wire(ONE, "in", "b")), "is followed by a, b"),
        (replace(chain(wire(ONE), wire(ONE, "a", "b")), connections=(wire(ONE),)), "nothing reaches it"),
        (chain(wire(ONE), reset_interval=5), "is reset (interval 5, offset 0)"),
        (chain(wire(ONE), vth=[1, 2]), "its neurons differ in vth"),
        (chain(wire(ONE), bias_mant=3, bias_exp=5), "biases are no multiples of 64"),
        (chain(wire(ONE), bias_mant=4095, bias_exp=7), "a bias is 524160"),
        (chain(wire(ONE, weight_exp=-1)), "weights with their exponent are no whole numbers"),
        (chain(wire([[100, 200]], weight_exp=1)), "weights with their exponent span 200..400"),
        (chain(wire(ONE, delays=63)), "a delay is beyond 62"),
        (chain(wire(ONE), wire(ONE, delays=1)), "different delays"),
        (chain(wire(ONE), wire(ONE, graded=True)), "some of which are graded or delayed"),
        (chain(wire([[0, 0]])), "all its weights are 0"),
        (chain(wire([[-64, -64]])), "netx would load other weights: -64 would act as 0"),
    ],
)
def test_what_the_format_cannot_say(spec: LoihiSpec, what: str) -> None:
    with pytest.raises(CompileError, match="netx files cannot hold this network") as caught:
        netx(spec)
    assert any(what in violation.what for violation in caught.value.violations), str(caught.value)


def test_convolutions_that_do_not_fit_their_place_are_refused() -> None:
    conv = Convolution(source="a", target="b", weights=np.full((1, 1, 1, 1), 300), input_shape=(2, 1, 1))
    cells = (Population(name="a", size=2, vth=1), Population(name="b", size=2, vth=1))
    spec = LoihiSpec(inputs={"in": 2}, populations=cells, connections=(wire(ONE), conv))
    assert [violation.what for violation in unsayable(spec)] == [
        "its convolution reads (2, 1, 1), but a has shape (2,)",
        "weights of its convolution are beyond 8 bits and a sign",
    ]


def test_convolutions_that_upsample_or_are_numbered_otherwise_are_refused() -> None:
    one = np.full((4, 1, 1, 1), 30)
    conv = Convolution(source="in", target="a", weights=one, input_shape=(2, 1, 1), layout="cyx", phases=(2, 2))
    last = Convolution(source="a", target="b", weights=one[:1], input_shape=(4, 2, 1))
    cells = (Population(name="a", size=8, vth=1), Population(name="b", size=8, vth=1))
    spec = LoihiSpec(inputs={"in": 2}, populations=cells, connections=(conv, last))
    assert [violation.what for violation in unsayable(spec)] == [
        "has convolutions whose neurons are numbered in different orders",
        "its convolution upsamples (2 x 2 pixels)",
        "its convolution reads (4, 2, 1), but a has shape (2, 1, 4)",
    ]


def test_a_convolutional_network_as_a_file() -> None:
    """`-O conv=conv -O netx=true`: the artifact's own kernels, its spikes near those of the float network."""
    rng = np.random.default_rng(1)
    one = np.ones((4, 1, 1))
    graph = graph_chain(
        ops.Input(shape=(2, 6, 9)),
        ("c", ops.Conv2d(weight=rng.normal(0.1, 0.4, (4, 2, 3, 3)), bias=np.zeros(4), stride=(2, 1), padding=1)),
        ("lif", ops.LIF(tau=0.01 * one, r=10 * one, v_threshold=one)),
        ("flat", ops.Flatten()),
        ("fc", ops.Linear(weight=rng.normal(0.02, 0.2, (3, 108)))),
        ("lif2", ops.LIF(tau=np.full(3, 0.01), r=np.full(3, 10.0), v_threshold=np.ones(3))),
        ops.Output(shape=(3,)),
        semantics=Semantics(dt=1e-3),
    )
    result = snnir.compile(graph, "lava", netx=True, conv="conv")
    (conv,) = [c for c in result.artifact.spec.connections if isinstance(c, Convolution)]
    with h5py.File(io.BytesIO(result.artifact.files()["network.net"])) as file:
        assert [file[f"layer/{i}/type"][0] for i in range(4)] == [b"input", b"conv", b"flatten", b"dense"]
        np.testing.assert_array_equal(file["layer/1/weight"], conv.weights.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1])
        assert file["layer/1/shape"][()].tolist() == [4, 3, 9]
    assert result.report["measured"]["count_error_by_population"]["lif"] < 0.05


def test_an_artifact_holds_the_file_on_request() -> None:
    rng = np.random.default_rng(0)
    graph = graph_chain(
        ops.Input(shape=(4,)),
        ("fc", ops.Linear(weight=rng.normal(0, 1, (8, 4)))),
        ("lif", ops.LIF(tau=np.full(8, 0.01), v_threshold=np.full(8, 0.3))),
        ("out", ops.Linear(weight=rng.normal(0, 1, (3, 8)))),
        ("lif2", ops.LIF(tau=np.full(3, 0.01), v_threshold=np.full(3, 0.3))),
        ops.Output(shape=(3,)),
        semantics=Semantics(dt=1e-3),
    )
    assert "network.net" not in snnir.compile(graph, "lava").artifact.files()
    artifact = snnir.compile(graph, "lava", netx=True).artifact
    assert artifact.files()["network.net"] == netx(artifact.spec)
    assert b"network.net" in artifact.files()["README.md"]
