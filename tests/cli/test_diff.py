"""`snnir diff` at the prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import snnir
from snnir.doctor import repair
from snnir.graph import Edge, Graph
from snnir.nir_io import write
from tests.cli.kit import network, said
from tests.cli.test_documents import documented
from tests.doctor.kit import F, edges, put, written

MODEL = """
import numpy as np
from tests.cli.kit import network
model = network()
"""


def file(folder: Path, name: str, graph: Graph) -> str:
    (folder / name).write_bytes(write(graph))
    return str(folder / name)


def renamed(graph: Graph) -> Graph:
    new = {name: f"x_{name}" for name in graph.ops}
    edges = tuple(Edge(new[e.source], new[e.target], e.port) for e in graph.edges)
    return Graph({new[n]: op for n, op in graph.ops.items()}, edges, graph.semantics)


def test_equal_and_equal_but_for_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = file(tmp_path, "a.nir", network()), file(tmp_path, "b.nir", renamed(network()))
    status, out, err = said(capsys, "diff", a, a)
    assert (status, out, err) == (0, f"equal\na  {a}\nb  {a}\n", "")
    status, out, _ = said(capsys, "diff", a, b)
    assert status == 0
    assert out.startswith("equal but for names\n")
    assert "\nrenamed\n  input is x_input in b\n  fc is x_fc in b\n" in out


def test_other_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = network()
    bias = np.array(graph["fc"].bias)  # type: ignore[attr-defined]
    bias[3] += 0.25
    other = replace(graph, ops={**graph.ops, "fc": graph["fc"].with_(bias=bias)}, semantics=snnir.Semantics(dt=1e-4))
    a, b = file(tmp_path, "a.nir", graph), file(tmp_path, "b.nir", renamed(other))
    status, out, _ = said(capsys, "diff", a, b)
    assert status == 1
    assert out.startswith("same structure, other numbers, and a step means something else\n")
    assert "\na step\n  dt: 0.001 in a, 0.0001 in b\n" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("fc (b: x_fc).bias"))
    assert row[3:6] == ["1", "8", "0.25"]
    status, out, _ = said(capsys, "diff", a, b, "--output-format", "json")
    document = json.loads(out)
    assert status == 1
    assert list(document) == [
        "schema", "a", "b", "verdict", "equal", "matched", "semantics", "renamed", "only_a", "only_b", "changed",
        "edges_only_a", "edges_only_b", "late_only_a", "late_only_b", "numbers", "dtypes",
    ]  # fmt: skip
    example = documented("snnir.diff.v1")
    assert list(example) == list(document)
    assert set(example["numbers"][0]) == set(document["numbers"][0])
    (numbers,) = document["numbers"]
    assert (numbers["a"], numbers["b"], numbers["parameter"], numbers["differing"]) == ("fc", "x_fc", "bias", 1)
    assert numbers["absolute"] == pytest.approx(0.25)
    assert document["semantics"] == {"dt": [1e-3, 1e-4]}


def test_other_structure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = network()
    cut = Graph(graph.ops, (*graph.edges, Edge("lif", "fc")), graph.semantics)
    with pytest.raises(snnir.CompileError):
        cut.verify()
    more = Graph(graph.ops, (*graph.edges, Edge("lif", "lif")), graph.semantics)
    a, b = file(tmp_path, "a.nir", graph), file(tmp_path, "b.nir", more)
    status, out, _ = said(capsys, "diff", a, b)
    assert (status, out) == (1, f"other structure\na  {a}\nb  {b}\n\nedges only in b\n  lif -> lif\n")


def test_models_artifacts_and_files_are_the_same_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    snnir.compile(network(), "nir").save(tmp_path / "out")
    a = file(tmp_path, "a.nir", network())
    for b in (tmp_path / "out", tmp_path / "model.py"):
        status, out, err = said(capsys, "diff", a, str(b))
        assert (status, out.splitlines()[0]) == (0, "equal"), err


def test_a_file_that_cannot_be_read_sends_to_the_doctor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    broken = written(tmp_path, "dense", edges(("fc1", "n1")))
    repair(broken, tmp_path / "new.nir")
    status, _, err = said(capsys, "diff", str(broken), str(tmp_path / "new.nir"))
    assert status == 1
    assert "[edge-duplicate]" in err
    assert f"snnir doctor {broken}" in " ".join(err.split())


def test_a_broken_and_its_repaired_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scalars written out in full are the same numbers; the two files say no time step, and none is needed."""
    broken = written(tmp_path, "dense", put("n1/tau", F(0.02)))
    repair(broken, tmp_path / "new.nir")
    status, out, _ = said(capsys, "diff", str(broken), str(tmp_path / "new.nir"))
    assert (status, out.splitlines()[0]) == (0, "equal")


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = file(tmp_path, "a.nir", network())
    assert said(capsys, "diff", a)[0] == 2
    assert said(capsys, "diff", a, "nowhere")[0] == 2
    status, _, err = said(capsys, "diff", a, "nowhere.nir")
    assert status == 1
    assert "does not exist" in err
