"""graph.json + weights.safetensors keep everything, say what they cannot keep, and name what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors.numpy import load as load_tensors

from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.ops import Affine, Input, Output, Scale
from snnir.store import load, load_files, save
from tests.graph_equal import assert_same, decorated, snn_graph
from tests.strategies import GRAPH_KINDS, STYLES, inputs_for, make_graph


@settings(max_examples=150)
@given(decorated())
def test_round_trip_keeps_every_bit(graph: Graph) -> None:
    files = save(graph)
    assert_same(load_files(files), graph)
    assert save(load_files(files)) == files


def test_snn_dialect_round_trips() -> None:
    graph = snn_graph()
    again = load_files(save(graph)).verify()
    assert_same(again, graph)
    x = inputs_for(graph, T=2, B=1)
    assert np.array_equal(interpret(graph, x)["y"], interpret(again, x)["y"])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_named_graphs_round_trip_through_a_folder(kind: str, style: str, tmp_path: Path) -> None:
    graph = make_graph(3, kind, style)
    for name, data in save(graph).items():
        (tmp_path / name).write_bytes(data)
    assert_same(load(tmp_path), graph)


def test_bytes_depend_on_the_graph_alone() -> None:
    assert save(make_graph(1, "cubalif")) == save(make_graph(1, "cubalif"))
    assert save(make_graph(1, "cubalif")) != save(make_graph(2, "cubalif"))


def test_equal_arrays_are_stored_once() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    ops = [(f"fc{i}", Affine(weight=weight.copy(), bias=np.full(64, i, np.float32))) for i in range(4)]
    files = save(chain(Input(shape=(64,)), *ops, Output()))
    assert sorted(load_tensors(files["weights.safetensors"])) == [
        "fc0.bias",
        "fc0.weight",
        "fc1.bias",
        "fc2.bias",
        "fc3.bias",
    ]
    assert len(files["weights.safetensors"]) < 1.2 * weight.nbytes
    again = load_files(files)
    assert again["fc3"].weight is again["fc0"].weight or np.shares_memory(again["fc3"].weight, again["fc0"].weight)


def test_weights_are_found_under_the_names_of_graph_weights() -> None:
    graph = make_graph(0, "affine-lif")
    tensors = load_tensors(save(graph)["weights.safetensors"])
    assert np.array_equal(tensors["fc1.weight"], graph.weights()["fc1.weight"])


def test_all_values_that_cannot_be_kept_are_named_at_once() -> None:
    graph = chain(
        ("x", Input(shape=(2,), metadata={"a": {"b": [1, object()]}})),
        ("s", Scale(scale=np.ones(2), metadata={"when": np.datetime64("2020-01-01"), 3: 4})),
        ("bad", Scale(scale=np.array(["1", "2"]))),
        ("y", Output()),
        metadata={"words": np.array(["x"]), "fine": 1},
    )
    with pytest.raises(CompileError) as caught:
        save(graph)
    said = [(v.rule, v.where, v.what) for v in caught.value.violations]
    assert said == [
        ("metadata-value", "x", "a['b'][1] holds a object, which no file keeps"),
        ("metadata-value", "s", "when holds a datetime64, which no file keeps"),
        ("metadata-value", "s", "the key 3 is a int, expected a string"),
        ("store-array", "bad (Scale)", "scale holds <U1, expected numbers"),
        ("metadata-value", "the graph", "words holds an array of <U1, which no file keeps"),
    ]


def _damaged(change: Any) -> dict[str, bytes]:
    files = save(make_graph(0, "affine-lif"))
    document = json.loads(files["graph.json"])
    change(document)
    return {**files, "graph.json": json.dumps(document).encode()}


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        (lambda d: d.update(version=2), "store-version", "'snnir-graph' version 2"),
        (lambda d: d.update(format="other"), "store-version", "'other'"),
        (lambda d: d.pop("format"), "store-file", "no 'format'"),
        (lambda d: d.pop("edges"), "store-file", "no 'edges'"),
        (lambda d: d["ops"][1].update(kind="Magic"), "store-file", "'fc1' is a 'Magic'"),
        (lambda d: d["ops"].append(d["ops"][0]), "store-file", "two ops are called 'input'"),
        (lambda d: d["ops"][1]["fields"].update(weight={"$array": "gone"}), "store-file", "no 'gone'"),
        (lambda d: d["ops"][1]["fields"].update(colour=1), "store-file", "colour"),
        (lambda d: d["ops"][1]["fields"].pop("weight"), "store-file", "weight"),
        (lambda d: d["semantics"].update(colour=1), "store-file", "colour"),
        (lambda d: d["edges"].append(["a"]), "store-file", "graph.json"),
        (lambda d: d.update(ops=5), "store-file", "graph.json"),
    ],
)
def test_damaged_json_is_named(change: Any, rule: str, words: str) -> None:
    with pytest.raises(CompileError, match=words) as caught:
        load_files(_damaged(change), where="somewhere")
    assert [v.rule for v in caught.value.violations] == [rule]
    assert caught.value.violations[0].where == "somewhere/graph.json"


def test_missing_and_truncated_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"graph\.json: cannot be read: No such file"):
        load(tmp_path)
    files = save(make_graph(0, "affine-lif"))
    (tmp_path / "graph.json").write_bytes(files["graph.json"])
    with pytest.raises(CompileError, match=r"weights\.safetensors: cannot be read: No such file"):
        load(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(files["weights.safetensors"][:-9])
    with pytest.raises(CompileError, match=r"weights\.safetensors: is damaged"):
        load(tmp_path)
    for cut in (0, 1, 100, len(files["graph.json"]) - 3):
        with pytest.raises(CompileError, match=r"graph\.json: is not a stored graph"):
            load_files({**files, "graph.json": files["graph.json"][:cut]})
