"""Bad NIR files: each fault is one clear error that names the file or the node; all faults of a file come at once."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from snnir.errors import CompileError, Violation
from snnir.frontends.nir_file import load
from snnir.nir_io import from_nir, read, write
from tests.graph_kinds import make_graph

Change = Callable[[Any], None]


def faults_of(source: Any) -> list[Violation]:
    """All violations of reading `source`; their text is what a user sees."""
    with pytest.raises(CompileError) as caught:
        read(source)
    assert "Traceback" not in str(caught.value)
    return list(caught.value.violations)


def changed(folder: Path, *changes: Change, kind: str = "affine-lif") -> Path:
    """A good file, as nir writes one, after some changes to its HDF5 content."""
    path = folder / "bad.nir"
    path.write_bytes(write(make_graph(0, kind, "r1")))
    with h5py.File(path, "r+") as file:
        del file["node/metadata"]
        for change in changes:
            change(file)
    return path


def put(where: str, value: Any) -> Change:
    def change(file: Any) -> None:
        if where in file["node/nodes"]:
            del file["node/nodes"][where]
        file["node/nodes"][where] = value

    return change


def drop(where: str) -> Change:
    def change(file: Any) -> None:
        del file["node/nodes"][where]

    return change


def edges(*pairs: tuple[str, str], only: bool = False) -> Change:
    def change(file: Any) -> None:
        there = [] if only else [(a.decode(), b.decode()) for a, b in file["node/edges"][()]]
        del file["node/edges"]
        file["node"].create_dataset("edges", data=[*there, *pairs], dtype=h5py.string_dtype())

    return change


# -- files that are not NIR at all -----------------------------------------------------------------------------------


def test_a_missing_file_a_folder_and_an_empty_file(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "no.nir", "does not exist"), (tmp_path, "is a folder")):
        (fault,) = faults_of(path)
        assert (fault.rule, fault.where, fault.what) == ("nir-file", str(path), what)
    (tmp_path / "empty.nir").touch()
    (fault,) = faults_of(tmp_path / "empty.nir")
    assert (fault.rule, fault.what) == ("nir-file", "is empty")
    (fault,) = faults_of(b"")
    assert (fault.rule, fault.where, fault.what) == ("nir-file", "<bytes>", "is empty")


def test_other_formats_are_recognised(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("data", "x" * 100)
    (tmp_path / "p").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "j").write_text('{"nodes": {}}')
    (tmp_path / "t").write_text("hello, this is no network")
    looks = {"model.pt": "a zip archive (a PyTorch checkpoint is one)", "p": "a Python pickle", "j": "JSON"}
    for name in ("model.pt", "p", "j", "t"):
        (fault,) = faults_of(tmp_path / name)
        like = f"; it looks like {looks[name]}" if name in looks else ""
        assert (fault.rule, fault.what) == ("nir-file", f"is not an HDF5 file{like}")
        assert fault.expected == "a NIR file (HDF5)"


def test_a_truncated_file_at_every_length() -> None:
    data = write(make_graph(0, "affine-lif"))
    for length in range(8, len(data) - 1, 211):
        (fault,) = faults_of(data[:length])
        assert fault.rule == "nir-file"
        assert fault.what.startswith("cannot be read to its end: ")
        assert "truncated" in fault.hint


def test_damaged_bytes_never_give_another_exception() -> None:
    """In processes of their own: a damaged file can make the HDF5 library itself crash, which nothing can catch."""
    code = """
import os, random, signal
from snnir.errors import CompileError
from snnir.nir_io import read, write
from tests.graph_kinds import make_graph
data, rng = write(make_graph(0, "conv2d-flatten")), random.Random(3)
read(data)  # imports everything once, before the processes part
refused = 0
for _ in range(100):
    bad = bytearray(data)
    for _ in range(rng.choice([1, 4, 20])):
        bad[rng.randrange(len(bad))] = rng.randrange(256)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            read(bytes(bad))
        except CompileError:
            os._exit(1)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(2)
        os._exit(0)
    refused += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
print("refused", refused > 30)
"""
    env = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "refused True\n"


def test_hdf5_that_is_no_nir(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["weights"], file["epoch"] = [1.0], 3
    (fault,) = faults_of(tmp_path / "a.h5")
    assert (fault.rule, fault.where) == ("nir-file", str(tmp_path / "a.h5"))
    assert "holds no NIR graph (no group /node; it holds epoch, weights)" in fault.what

    nir.write(tmp_path / "single.nir", nir.Linear(np.ones((2, 2))))
    (fault,) = faults_of(tmp_path / "single.nir")
    assert fault.what == "its root is a Linear"
    assert fault.expected == "a NIRGraph with nodes and edges"


def test_a_graph_without_nodes_or_edges(tmp_path: Path) -> None:
    def bare(file: Any) -> None:
        del file["node/nodes"], file["node/edges"]

    faults = faults_of(changed(tmp_path, bare))
    assert [(f.rule, f.what) for f in faults] == [
        ("nir-file", "has no group of nodes"),
        ("nir-file", "has no list of edges"),
        ("graph-inputs", "has no input"),
        ("graph-outputs", "has no output"),
    ]

    def strange(file: Any) -> None:
        del file["node/edges"]
        file["node/edges"] = np.ones((3, 3))

    faults = faults_of(changed(tmp_path, strange))
    assert faults[0].what == "its edges are float64 of shape [3, 3]"
    assert faults[0].expected == "pairs of node names"


# -- nodes -----------------------------------------------------------------------------------------------------------

NODE_FAULTS: list[tuple[str, Change, str, str, str]] = [
    # what, change, rule, where, words
    ("unknown type", put("n1/type", "Izhikevich"), "nir-type", "n1 (Izhikevich)", "unknown node type 'Izhikevich'"),
    ("no type", drop("n1/type"), "nir-node", "n1", "has no type; it holds r, tau, v_leak, v_reset, v_threshold"),
    ("bare dataset", put("stray", 3.0), "nir-node", "stray", "is a bare dataset, not a node"),
    ("missing field", drop("n1/tau"), "nir-field", "n1 (LIF)", "has no tau"),
    ("unknown field", put("n1/refractory", 3.0), "nir-field", "n1 (LIF)", "'refractory' that LIF does not have"),
    ("NaN", put("fc1/bias", np.full(6, np.nan)), "op", "fc1 (Affine)", "bias holds nan at index [0], expected finite"),
    ("infinite", put("n1/r", np.full(6, np.inf)), "op", "n1 (LIF)", "r holds inf at index [0]"),
    ("negative tau", put("n1/tau", np.full(6, -0.02)), "op", "n1 (LIF)", "tau is -0.02 s, expected a positive time"),
    ("zero tau", put("n1/tau", np.zeros(6)), "op", "n1 (LIF)", "tau is 0 s, expected a positive time"),
    ("text for numbers", put("fc1/bias", "none"), "op", "fc1 (Affine)", "bias holds <U4, expected numbers"),
    ("flat weight", put("fc1/weight", np.ones(24)), "op", "fc1 (Affine)", "weight has 1 axes"),
    (
        "shapes in a node",
        put("n1/tau", np.ones(5)),
        "op",
        "n1 (LIF)",
        "parameter shapes do not fit one another: tau [5]",
    ),
    ("wrong width", put("fc2/weight", np.ones((3, 5))), "shape", "fc2 (Affine)", "takes [5], but [6] arrives"),
    ("wrong bias", put("fc1/bias", np.ones(7)), "shape", "fc1 (Affine)", "bias [7] does not fit"),
    ("wrong output", put("output/shape", [4]), "shape", "output (Output)", "declares shape [4], but [3] arrives"),
    ("wrong input", put("input/shape", [5]), "shape", "fc1 (Affine)", "takes [4], but [5] arrives"),
    ("half a neuron", put("input/shape", [4.5]), "nir-field", "input (Input)", "expected whole numbers"),
    ("no shape", drop("input/shape"), "nir-field", "input (Input)", "has no shape"),
]


@pytest.mark.parametrize(
    ("change", "rule", "where", "words"), [f[1:] for f in NODE_FAULTS], ids=[f[0] for f in NODE_FAULTS]
)
def test_one_fault_is_one_violation(change: Change, rule: str, where: str, words: str, tmp_path: Path) -> None:
    path = changed(tmp_path, change)
    (fault,) = faults_of(path)
    assert (fault.rule, fault.where) == (rule, where)
    assert words in fault.what
    if rule != "nir-node":
        assert fault.loc == f"{path} ({where.split()[0]})"


CONV_FAULTS: list[tuple[str, Change, str, str]] = [
    ("kernel of one axis", put("conv/weight", np.ones((3, 2, 3))), "op", "weight has 3 axes"),
    ("kernel too large", put("conv/weight", np.ones((3, 2, 9, 9))), "shape", "kernel [9, 9] is larger than its input"),
    ("channels", put("conv/weight", np.ones((3, 4, 3, 3))), "shape", "takes (4 channels, 2 spatial axes)"),
    ("groups", put("conv/groups", 2), "op", "3 output channels do not divide into 2 groups"),
    ("no group", put("conv/groups", 0), "op", "groups [0] holds 0, expected 1 or more"),
    ("stride 0", put("conv/stride", [0, 1]), "op", "stride [0, 1] holds 0, expected 1 or more"),
    ("three strides", put("conv/stride", [1, 1, 1]), "nir-field", "stride is [1, 1, 1], expected 2 whole numbers"),
    ("padding", put("conv/padding", "reflect"), "op", "padding is 'reflect', expected sizes, 'same' or 'valid'"),
    ("bias map", put("conv/bias", np.ones((3, 3, 3))), "nir-field", "bias has shape [3, 3, 3]"),
    ("bias", put("conv/bias", np.ones(4)), "shape", "bias [4], expected [3]"),
    ("declared size", put("conv/input_shape", [7, 7]), "shape", "declares input_shape [7, 7], but [2, 6, 6] arrives"),
    ("flatten", put("flatten/start_dim", 7), "shape", "start_dim 7, end_dim -1 do not name a range"),
    ("flatten size", put("flatten/input_type", [3, 3]), "shape", "declares an input of [3, 3], but [3, 3, 3] arrives"),
]


@pytest.mark.parametrize(("change", "rule", "words"), [f[1:] for f in CONV_FAULTS], ids=[f[0] for f in CONV_FAULTS])
def test_convolutions_and_shapes(change: Change, rule: str, words: str, tmp_path: Path) -> None:
    first, *others = faults_of(changed(tmp_path, change, kind="conv2d-flatten"))
    assert first.rule == rule
    assert words in first.what
    assert first.where.split()[0] in ("conv", "flatten")
    assert all(other.where == first.where for other in others)


# -- edges -----------------------------------------------------------------------------------------------------------


def test_edges_to_nowhere_twice_and_out_of_an_output(tmp_path: Path) -> None:
    path = changed(tmp_path, edges(("n1", "gone"), ("ghost", "n2"), ("fc1", "n1"), ("output", "fc1")))
    faults = faults_of(path)
    assert [(f.rule, f.where, f.what) for f in faults] == [
        ("edge-dangling", "n1 -> gone", "its target 'gone' does not exist"),
        ("edge-dangling", "ghost -> n2", "its source 'ghost' does not exist"),
        ("edge-duplicate", "fc1 -> n1", "stands twice; edges are not weights"),
        ("edge-output", "output -> fc1", "leaves an output"),
    ]
    assert faults[0].hint.startswith("ops: input, fc1, n1, ")


def test_a_node_that_nothing_reaches(tmp_path: Path) -> None:
    only = (("input", "fc1"), ("fc1", "n1"), ("fc2", "n2"), ("n2", "output"))
    (fault,) = faults_of(changed(tmp_path, edges(*only, only=True)))
    assert (fault.rule, fault.where, fault.what) == ("op-unconnected", "fc2 (Affine)", "nothing arrives")


def test_a_cycle_without_state(tmp_path: Path) -> None:
    def back(file: Any) -> None:
        file.copy("node/nodes/fc2", "node/nodes/back")
        for name, value in (("weight", np.ones((4, 6))), ("bias", np.zeros(4))):
            put(f"back/{name}", value)(file)

    (fault,) = faults_of(changed(tmp_path, back, edges(("fc1", "back"), ("back", "fc1"))))
    assert fault.rule == "graph-cycle"
    assert "fc1" in fault.what
    assert "back" in fault.what
    assert "holds no state" in fault.what
    assert fault.expected == "a neuron or a delay on every cycle"


def test_all_faults_of_a_file_come_at_once(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        put("n1/type", "Izhikevich"),
        drop("fc2/bias"),
        put("fc1/weight", np.full((6, 4), np.nan)),
        put("n2/tau", np.full(3, -1.0)),
        put("output/shape", [9]),
        edges(("n2", "gone")),
    )
    faults = faults_of(path)
    assert [(f.rule, f.where) for f in faults] == [
        ("nir-type", "n1 (Izhikevich)"),
        ("nir-field", "fc2 (Affine)"),
        ("op", "fc1 (Affine)"),
        ("op", "n2 (LIF)"),
        ("edge-dangling", "n2 -> gone"),
    ]
    with pytest.raises(CompileError) as caught:
        load(path, dt=1e-3)
    assert list(caught.value.violations) == faults
    assert str(caught.value).count("\n[") == 5


def test_shapes_are_still_checked_beside_unreadable_nodes(tmp_path: Path) -> None:
    path = changed(tmp_path, put("n2/type", "Magic"), put("fc1/weight", np.ones((6, 9))))
    assert [(f.rule, f.where) for f in faults_of(path)] == [("nir-type", "n2 (Magic)"), ("shape", "fc1 (Affine)")]


# -- our own notes ---------------------------------------------------------------------------------------------------


def _with_note(folder: Path, note: Any) -> Path:
    def change(file: Any) -> None:
        file["node/metadata/snnir"] = note

    return changed(folder, change)


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("not json", "is damaged: Expecting value"),
        ("[]", "is damaged"),
        ("{}", "is damaged: no 'version'"),
        ('{"version": 1}', "is damaged: no 'semantics'"),
        ('{"version": 1, "semantics": {"colour": 1}}', "colour"),
        ('{"version": 1, "semantics": {}, "metadata": {"n1": {"a": {"$odd": 1}}}}', "unknown tag '$odd'"),
        ('{"version": 99, "semantics": {}}', "version 99"),
        (3.0, "is damaged"),
    ],
)
def test_damaged_notes_are_refused(note: Any, words: str, tmp_path: Path) -> None:
    path = _with_note(tmp_path, note)
    (fault,) = faults_of(path)
    assert (fault.rule, fault.where) == ("nir-own", str(path))
    assert words in fault.what


def test_notes_that_no_longer_fit_are_passed_over(tmp_path: Path) -> None:
    note = (
        '{"version": 1, "semantics": {"dt": 0.5}, "order": ["n1", "zzz"], "names": {"zzz": "a/b", "n1": "n2"},'
        ' "expanded": {"n1": {"tau": [2, 2], "gone": []}, "zzz": {"tau": []}}, "inferred": {"zzz": ["shape"]}}'
    )
    graph = read(_with_note(tmp_path, note))
    assert list(graph.ops) == ["input", "fc1", "n1", "fc2", "n2", "output"]
    assert graph.semantics.dt == 0.5
    assert graph.weights()["n1.tau"].shape == (6,)


# -- live objects ----------------------------------------------------------------------------------------------------


def test_objects_that_are_no_graph() -> None:
    for thing in (nir.Linear(np.ones((2, 2))), object(), 3):
        with pytest.raises(CompileError, match=rf"a {type(thing).__name__} is no NIR graph"):
            from_nir(thing)


def test_live_graphs_are_checked_as_files_are() -> None:
    nodes = {
        "in": nir.Input(np.array([2])),
        "lif": nir.LIF(*(np.full(2, v) for v in (-1.0, 1.0, 0.0, np.nan))),
        "id": nir.ir.graph.Identity({"input": np.array([2])}),
        "out": nir.Output(np.array([3])),
    }
    live = nir.NIRGraph(nodes, [("in", "lif"), ("lif", "id"), ("id", "out")], type_check=False)
    with pytest.raises(CompileError) as caught:
        from_nir(live)
    assert [(v.rule, v.where) for v in caught.value.violations] == [
        ("nir-type", "id (Identity)"),
        ("op", "lif (LIF)"),
        ("op", "lif (LIF)"),
    ]


def test_a_missing_bias_in_a_live_graph_is_zero() -> None:
    conv = nir.Conv2d((4, 4), np.ones((2, 1, 3, 3), np.float32), 1, 0, 1, 1, None)
    graph = from_nir(nir.NIRGraph.from_list(conv))
    bias = graph.weights()["conv2d.bias"]
    assert (bias.dtype, bias.tolist()) == (np.float32, [0.0, 0.0])
