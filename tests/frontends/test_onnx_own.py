"""snnir's own ONNX files back: the same graph to the bit, weights as the file holds them now, and nothing believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from onnx import numpy_helper

import snnir
from snnir import ops
from snnir.backends.onnx.record import KEY
from snnir.errors import CompileError, UsageError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.semantics import Semantics
from tests.backends.onnx_family import built
from tests.backends.test_torch_family_ops import STATELESS, joined
from tests.graph_equal import assert_same
from tests.knots import knots
from tests.strategies import GRAPH_KINDS, STYLES, inputs_for, make_graph, nir_graphs

pytestmark = pytest.mark.oracle
Array = np.ndarray[Any, np.dtype[Any]]
DT = Semantics(dt=1e-3)
QUICK = settings(max_examples=20)
LIF = ops.LIF(tau=np.float64(4e-3), r=4.0, v_threshold=np.float64(0.6))
MODEL = Path(__file__).parents[2] / "models" / "fsddim.py"


def written(graph: Graph, folder: Path) -> list[Path]:
    """The ONNX files of a graph."""
    found = []
    for name, content in built(graph).files().items():
        if name.endswith(".onnx"):
            (folder / name).write_bytes(content)
            found.append(folder / name)
    return found


def comes_back(graph: Graph, folder: Path) -> None:
    paths = written(graph, folder)
    assert paths
    for path in paths:
        assert_same(snnir.load(path), graph)


def comes_back_in_both_types(graph: Graph, folder: Path) -> None:
    """As float64 every digit; as float32 every digit that float32 has."""
    comes_back(replace(graph, semantics=graph.semantics.with_(number_format="float64")), folder)
    short = {key: value.astype(np.float32).astype(value.dtype) for key, value in graph.weights().items()}
    comes_back(graph.with_weights(short), folder)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_graph_kinds(kind: str, style: str, tmp_path: Path) -> None:
    comes_back(make_graph(0, kind, style), tmp_path)


@QUICK
@given(graph=nir_graphs(several_io=True))
def test_random_graphs(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> None:
    comes_back_in_both_types(graph, tmp_path_factory.mktemp("net"))


@QUICK
@given(graph=knots())
def test_random_cycles(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> None:
    comes_back_in_both_types(graph, tmp_path_factory.mktemp("net"))


@pytest.mark.parametrize("name", STATELESS)
def test_ops(name: str, tmp_path: Path) -> None:
    shape, op = STATELESS[name]
    comes_back_in_both_types(chain(ops.Input(shape=shape), op, LIF, ops.Output(), semantics=DT), tmp_path)


def test_ops_of_several_inputs_and_constants(tmp_path: Path) -> None:
    comes_back(joined(ops.Concat(inputs=3), ("in0", "in1", "in2"), ((2, 3), (1, 3), (4, 3))), tmp_path)
    comes_back(joined(ops.Multiply(), ("a", "b"), ((4, 5), (4, 1))), tmp_path)
    series = np.random.default_rng(0).normal(size=(5, 3))
    graph = chain(ops.Input(shape=(3,)), LIF, ops.Output(), semantics=DT)
    more = {**graph.ops, "drive": ops.Constant(value=series, series=True)}
    comes_back(Graph(more, (*graph.edges, ("drive", "lif")), DT, metadata={"made": ("by", 2)}), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"decay": "exponential", "gain": "unit", "order": "membrane-first"},
        {"reset": "delayed-subtract", "start": "zero", "comparison": ">="},
        {"reset": "subtract", "spikes_per_step": 3, "membrane_floor": -0.1, "latency_neuron": 1},
        {"number_format": "float64", "recurrent_bias_at_start": False},
    ],
    ids=lambda f: "-".join(f),
)
@pytest.mark.parametrize("kind", ["recurrence-cubalif", "heterogeneous", "recurrence-affine"])
def test_semantics(kind: str, fields: dict[str, Any], tmp_path: Path) -> None:
    graph = make_graph(1, kind)
    comes_back(replace(graph, semantics=graph.semantics.with_(**fields)), tmp_path)


def test_arrays_of_the_file_are_read_from_the_file(tmp_path: Path) -> None:
    """Large arrays stand in the file once; float32 files round them, float64 files keep every digit."""
    rng = np.random.default_rng(3)
    dense = ops.Affine(weight=rng.normal(size=(30, 20)), bias=rng.normal(size=30))
    lif = ops.LIF(tau=rng.uniform(4e-3, 9e-3, 300), v_threshold=rng.uniform(0.1, 0.2, 300))
    wide = ops.Linear(weight=rng.normal(size=(300, 30)).astype(np.float32))
    graph = chain(ops.Input(shape=(20,)), ("fc", dense), ("wide", wide), ("lif", lif), ops.Output(), semantics=DT)
    for path in written(graph, tmp_path):
        record = {p.key: p.value for p in onnx.load(path).metadata_props}[KEY]
        assert len(record) < 12_000  # tau alone, which no node holds, is 4,800 digits; weights would be 80,000 more
        again = snnir.load(path)
        assert again["fc"].weight.dtype == np.float64
        np.testing.assert_array_equal(again["fc"].weight, dense.weight.astype(np.float32))
        np.testing.assert_array_equal(again["lif"].tau, lif.tau)
        np.testing.assert_array_equal(again["wide"].weight, wide.weight)
    comes_back(replace(graph, semantics=DT.with_(number_format="float64")), tmp_path)


def test_a_trained_denoiser_comes_back_whole(tmp_path: Path) -> None:
    graph = snnir.load(MODEL, preset="digits")
    comes_back(graph, tmp_path)
    assert snnir.load(tmp_path / "step.onnx").metadata["diffusion"]["steps"] > 1


def test_a_file_compiles_like_any_other_source(tmp_path: Path) -> None:
    graph = make_graph(2, "recurrence-lif", "disc")
    for path in written(graph, tmp_path):
        x = inputs_for(graph, T=30)
        expected = interpret(graph, x)
        assert expected.sum() > 10
        np.testing.assert_allclose(snnir.compile(str(path), "torch").run(x), expected, atol=1e-9)
        with pytest.raises(CompileError, match=r"asked for, but the source says 0\.001"):
            snnir.load(path, dt=2e-3)
        with pytest.raises(UsageError, match="says its axes"):
            snnir.load(path, axes="TB")


# -- weights that were changed in the file ---------------------------------------------------------------------------


def change(path: Path, edit: Callable[[dict[str, Array]], None]) -> None:
    """Arrays of a file changed in place, as a tool for ONNX would do it."""
    model = onnx.load(path)
    arrays = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    edit(arrays)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    onnx.save(model, path)


def in_the_runtime(path: Path, x: Array) -> Array:
    running = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(running.run(None, {"input": x})[0])


@pytest.mark.parametrize("kind", ["affine-lif", "conv2d-flatten", "recurrence-lif", "li-readout", "heterogeneous"])
def test_weights_changed_in_the_file_are_those_of_the_graph(kind: str, tmp_path: Path) -> None:
    graph = make_graph(4, kind, "disc")
    rng = np.random.default_rng(0)
    path = next(p for p in written(graph, tmp_path) if p.name == "sequence.onnx")
    touched = [f"{n}.{f}" for n, op in graph.ops.items() for f in op.arrays if f in ("weight", "bias", "v_threshold")]

    def edit(arrays: dict[str, Array]) -> None:
        for name in touched:
            array = arrays[name.replace("v_threshold", "threshold")]
            array += rng.normal(0.0, 0.05, array.shape).astype(array.dtype)

    change(path, edit)
    again = snnir.load(path)
    for name in touched:
        assert np.abs(again.weights()[name] - graph.weights()[name]).max() > 1e-3, name
    x = inputs_for(graph, T=25, B=3)["input"].astype(np.float32)
    expected = in_the_runtime(path, x)
    assert expected.sum() > 5
    np.testing.assert_allclose(interpret(again, x), expected, atol=1e-5)


def test_a_bias_of_a_recurrent_path_cannot_change_without_what_it_starts_with(tmp_path: Path) -> None:
    graph = make_graph(4, "recurrence-affine", "disc")
    (path, step) = sorted(written(graph, tmp_path))
    change(path, lambda arrays: arrays["w_rec.bias"].__iadd__(np.float32(0.5)))
    with pytest.raises(CompileError, match=r"w_rec\.late\.rest: holds other numbers"):
        snnir.load(path)
    change(step, lambda arrays: arrays["w_rec.bias"].__iadd__(np.float32(0.5)))  # start values are not in this file
    np.testing.assert_allclose(snnir.load(step)["w_rec"].bias, graph["w_rec"].bias + 0.5, rtol=1e-6)


def test_a_symmetric_matrix_that_is_stored_transposed_is_read_transposed(tmp_path: Path) -> None:
    """Over (T, B, tokens, channels) a matrix stands as its transpose; one that is symmetric does not show it."""
    mix = ops.Linear(weight=np.eye(3, dtype=np.float32))
    graph = chain(("input", ops.Input(shape=(5, 3))), ("mix", mix), LIF, ops.Output(), semantics=DT)
    path = next(p for p in written(graph, tmp_path) if p.name == "sequence.onnx")
    new = np.arange(9, dtype=np.float32).reshape(3, 3)
    change(path, lambda arrays: arrays["mix.weight"].__setitem__(slice(None), new.T))
    np.testing.assert_array_equal(snnir.load(path)["mix"].weight, new)


def test_arrays_beside_the_file_are_found(tmp_path: Path) -> None:
    graph = make_graph(4, "conv2d-flatten", "disc")
    (path, *_) = written(graph, tmp_path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert_same(snnir.load(path), graph)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CompileError, match=r"weights\.bin"):
        snnir.load(path)


# -- files that are not what their record says -----------------------------------------------------------------------


def refused(path: Path, model: Any) -> list[str]:
    """Names of all that is refused."""
    onnx.save(model, path)
    with pytest.raises(CompileError) as caught:
        snnir.load(path)
    assert {v.rule for v in caught.value.violations} == {"onnx-record"}, caught.value
    assert all(v.hint for v in caught.value.violations)
    return [v.where for v in caught.value.violations]


def test_what_a_tool_changed_is_found_and_all_of_it_named(tmp_path: Path) -> None:
    (sequence, step) = sorted(written(make_graph(0, "recurrence-cubalif", "disc"), tmp_path))
    model = onnx.load(step)
    nodes = {node.name: node for node in model.graph.node}
    nodes["n1.i.next"].op_type = "Sub"
    model.graph.node.append(onnx.helper.make_node("Identity", ["n1.v.out"], ["more"], name="spy"))
    decay = next(t for t in model.graph.initializer if t.name == "n2.decay")
    decay.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(decay) * np.float32(0.99), "n2.decay"))
    assert refused(step, model) == ["n1.i.next", "spy", "n2.decay"]
    model = onnx.load(sequence)
    scan = next(node for node in model.graph.node if node.op_type == "Scan")
    body = next(a.g for a in scan.attribute if a.name == "body")
    next(node for node in body.node if node.op_type == "Greater").op_type = "GreaterOrEqual"
    assert len(refused(sequence, model)) == 1


@pytest.mark.parametrize("spoil", ["time constant", "version", "text", "form", "weight"])
def test_a_damaged_record_is_refused(spoil: str, tmp_path: Path) -> None:
    (path, *_) = written(make_graph(0, "affine-lif", "disc"), tmp_path)
    model = onnx.load(path)
    found = {p.key: p for p in model.metadata_props}
    document = json.loads(found[KEY].value)
    if spoil == "time constant":
        document["graph"]["semantics"]["dt"] = 2e-3
    elif spoil == "version":
        document["version"] = 99
    elif spoil == "form":
        found["snnir.form"].value = "series"
    elif spoil == "weight":
        document["weights"]["fc1.weight"] = ["fc2.weight", False]
    found[KEY].value = "{" if spoil == "text" else json.dumps(document)
    where = sorted(refused(path, model)) if spoil != "weight" else [""]
    if spoil == "weight":
        onnx.save(model, path)
        with pytest.raises(CompileError, match="record of the network is damaged"):
            snnir.load(path)
    assert where == (["n1.decay", "n1.gain", "n2.decay", "n2.gain"] if spoil == "time constant" else where)
