"""The files of the onnx target: sound ONNX, readable names, run without snnir; and a trained denoiser as a whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import snnir
from snnir.backends.onnx.writer import IR_VERSION, OPSET
from snnir.diffusion.spec import time_embedding
from snnir.errors import MissingPackageError, UsageError
from snnir.frontends.model_file import load as load_model
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.semantics import Semantics
from tests.backends.onnx_family import built, by_steps
from tests.strategies import GRAPH_KINDS, inputs_for, make_graph

pytestmark = pytest.mark.oracle
Array = np.ndarray[Any, np.dtype[Any]]
MODEL = Path(__file__).parents[2] / "models" / "fsddim.py"


@pytest.fixture(scope="module")
def digits() -> Graph:
    return load_model(MODEL, preset="digits")


def given(graph: Graph, steps: int = 4, batch: int = 2) -> dict[str, Array]:
    """The denoiser's inputs: the same noise in every step, and the sinusoid of each sample's time."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1, batch, *graph.shapes["x"])).repeat(steps, axis=0)
    time = time_embedding(np.array([700, 300]), graph.shapes["time"][0])
    return {"x": x, "time": np.broadcast_to(time, (steps, *time.shape))}


def test_a_trained_denoiser_is_the_same_network(digits: Graph) -> None:
    x = given(digits)
    populations = [name for name, op in digits.ops.items() if op.spiking]
    expected, recorded = interpret(digits, x, record=populations)
    artifact = built(digits)
    outputs, got = artifact.run(x, tuple(populations))
    for name in populations:
        np.testing.assert_array_equal(got[name], recorded[name], err_msg=name)
    assert sum(spikes.sum() for spikes in got.values()) > 5000
    (output,) = digits.outputs
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(outputs[output], expected, atol=1e-9)
    np.testing.assert_allclose(by_steps(artifact, x, np.float64)[output], expected, atol=1e-9)
    single = {name: value.astype(np.float32) for name, value in x.items()}
    short, _ = artifact.run(single)
    np.testing.assert_allclose(short[output], interpret(digits, single), atol=1e-5)


def test_a_denoiser_has_one_convolution_per_layer_over_all_steps_and_one_scan_per_population(digits: Graph) -> None:
    model = built(digits).sequence()
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == sum(op.kind == "Conv2d" for op in digits.ops.values()) > 3
    scans = {node.name for node in model.graph.node if node.op_type == "Scan"}
    assert scans == {name for name, op in digits.ops.items() if op.stateful}


@pytest.mark.parametrize("kind", ["conv2d-flatten", "recurrence-cubalif", "delay", "nested-like"])
def test_models_are_sound_and_say_what_they_are(kind: str) -> None:
    graph = make_graph(1, kind)
    files = built(graph).files()
    for name in ("sequence", "step"):
        model = onnx.load_from_string(files[f"{name}.onnx"])
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == IR_VERSION
        assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
        properties = {p.key: p.value for p in model.metadata_props}
        assert properties["snnir.form"] == name
        assert Semantics.from_json(json.loads(properties["snnir.semantics"])) == graph.semantics
        nodes = {node.name for node in model.graph.node}
        inner = {n.name for node in model.graph.node for a in node.attribute for n in a.g.node}
        assert set(graph.ops) - set(graph.inputs) <= nodes | inner  # every op is a node of its name


def shapes(values: Any) -> dict[str, list[Any]]:
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def test_names_and_shapes_of_inputs_outputs_and_states() -> None:
    graph = make_graph(1, "recurrence-cubalif")
    sequence = built(graph).sequence().graph
    assert shapes(sequence.input) == {"input": ["T", "B", 4]}
    assert shapes(sequence.output) == {"output": ["T", "B", 3]}
    convolved = shapes(built(make_graph(1, "conv2d-flatten")).sequence().graph.value_info)
    assert convolved["conv"] == ["T*B", 3, 3, 3]  # one convolution over all steps
    assert convolved["lif"] == ["T", "B", 3, 3, 3]
    step = built(graph).step()
    states = {"n1.v": ["B", 6], "n1.i": ["B", 6], "n2.v": ["B", 3], "n2.i": ["B", 3], "w_rec.late": ["B", 6]}
    assert shapes(step.graph.input) == {"input": ["B", 4], **states}
    follows = json.loads({p.key: p.value for p in step.metadata_props}["snnir.states"])
    after = {follows[name]: dims for name, dims in states.items()}
    assert shapes(step.graph.output) == {"output": ["B", 3], **after}
    delayed = shapes(built(make_graph(1, "delay")).step().graph.input)
    assert delayed["delay.line"] == ["B", 3, 6]  # the longest delay, in steps
    weights = {i.name: list(i.dims) for i in step.graph.initializer}
    assert weights["fc1.weight"] == [6, 4]
    assert weights["fc1.bias"] == [6]
    assert weights["n1.threshold"] != weights["n2.threshold"]


def unclear(graph: Any, path: str = "") -> list[str]:
    """Values, those in bodies of Scans too, whose shape is not known or has sizes without a number or a name."""
    dims = shapes((*graph.value_info, *graph.input, *graph.output))
    found = []
    for node in graph.node:
        for name in node.output:
            sizes = dims.get(name, ["?"])
            if any(size in ("", "?", 0) or str(size).startswith("unk") for size in sizes):
                found.append(f"{path}{name} {sizes}")
        for attribute in node.attribute:
            found += unclear(attribute.g, f"{node.name}/") if attribute.HasField("g") else []
    return found


@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_viewers_see_the_shape_of_every_value(kind: str) -> None:
    artifact = built(make_graph(1, kind))
    assert unclear(artifact.sequence().graph) == unclear(artifact.step().graph) == []


def test_viewers_see_the_shape_of_every_value_of_a_denoiser(digits: Graph) -> None:
    artifact = built(digits)
    model = artifact.sequence().graph
    assert unclear(model) == unclear(artifact.step().graph) == []
    modules = {node.name.partition(".")[0] for node in model.node} & {name.partition(".")[0] for name in digits.ops}
    assert {"time_embedding", "down", "middle", "up", "conv_in", "conv_out"} <= modules


@pytest.mark.parametrize("kind", ["delay", "recurrence-affine"])
def test_the_folder_runs_without_snnir(kind: str, tmp_path: Path) -> None:
    graph = make_graph(2, kind, "disc")
    snnir.compile(graph, "onnx").save(tmp_path / "net")
    x = inputs_for(graph, T=20, B=3)["input"].astype(np.float32)
    np.savez(tmp_path / "in.npz", input=x)
    expected = interpret(graph, x)
    assert expected.sum() > 5
    hide = "import sys; sys.modules['snnir'] = sys.modules['torch'] = None; import runpy; sys.argv = sys.argv[1:]; "
    code = hide + "runpy.run_path(sys.argv[0], run_name='__main__')"
    for mode in ([], ["--steps"]):
        command = [sys.executable, "-c", code, "net/run.py", "in.npz", "out.npz", *mode]
        subprocess.run(command, check=True, cwd=tmp_path)
        with np.load(tmp_path / "out.npz") as found:
            np.testing.assert_allclose(found["output"], expected, atol=1e-5)


def test_sizes_are_free(tmp_path: Path) -> None:
    graph = make_graph(2, "long-recurrence", "disc")
    path = tmp_path / "sequence.onnx"
    path.write_bytes(built(graph).files()["sequence.onnx"])
    running = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for steps, batch in ((1, 1), (2, 7), (33, 1)):
        x = inputs_for(graph, T=steps, B=batch)["input"].astype(np.float32)
        np.testing.assert_allclose(running.run(None, {"input": x})[0], interpret(graph, x), atol=1e-5)


def test_validation_compares_every_population() -> None:
    graph = make_graph(0, "recurrence-lif", "disc")
    (verdict,) = snnir.validate(graph, ["onnx"], steps=40).verdicts
    assert (verdict.verdict, verdict.differing, verdict.float32_flips) == ("identical", 0, 0)
    assert verdict.spikes > 50


def test_options_are_refused() -> None:
    with pytest.raises(UsageError, match="target onnx has no option opset"):
        snnir.compile(make_graph(0, "linear"), "onnx", opset=17)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnir.backends.onnx import package

    graph = make_graph(0, "linear")
    artifact = built(graph)
    for name, function in (("onnx", package.onnx), ("onnxruntime", package.runtime)):
        function.cache_clear()
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingPackageError, match=rf"'{name}': pip install 'snnir\[onnx\]'"):
            artifact.run(inputs_for(graph))
        monkeypatch.undo()
        function.cache_clear()
