"""The frameworks' own importers, run: what is said of them, and what is asked of the check wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import snnir.importers
from snnir import ops
from snnir.errors import CompileError, MissingPackageError, UsageError
from snnir.graph import Edge, Graph, chain
from snnir.importers import check_importer, importer_names
from snnir.importers.table import Importer
from snnir.nir_io import write
from snnir.semantics import Semantics
from tests.cli.kit import said
from tests.graph_kinds import make_graph

DT = 1e-4


def fan_in_to_li() -> Graph:
    """Fan-in, an LI readout and r other than 1."""
    rng = np.random.default_rng(0)

    def affine(n: int, m: int) -> ops.Affine:
        return ops.Affine(weight=rng.normal(0.4, 1.0, (n, m)).astype(np.float32), bias=np.full(n, 0.1, np.float32))

    tau, r = np.float32(2e-3), np.float32(20.0)
    made = {
        "input": ops.Input(shape=(4,)),
        "a": affine(6, 4),
        "b": affine(6, 4),
        "hidden": ops.LIF(tau=np.full(6, tau), r=np.full(6, r), v_threshold=np.full(6, 2.0, np.float32)),
        "fc": affine(3, 6),
        "readout": ops.LI(tau=np.full(3, tau), r=np.full(3, r)),
        "output": ops.Output(shape=(3,)),
    }
    pairs = ("input a", "input b", "a hidden", "b hidden", "hidden fc", "fc readout", "readout output")
    return Graph(made, tuple(Edge(*pair.split()) for pair in pairs), Semantics(dt=DT))


@pytest.mark.oracle
def test_norse_all_three_faults_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setenv("COLUMNS", "160")
    file = tmp_path / "net.nir"
    file.write_bytes(write(replace(fan_in_to_li(), semantics=Semantics())))
    status, out, _ = said(capsys, "validate", str(file), "--dt", "1e-4", "--against-importer", "norse")
    assert status == 1
    for text in (
        "readout (LI) is missing",
        "the fan-in of hidden is wrong: b -> hidden arrives one step late",
        "it returns b, not readout",
        "r is ignored, it computes with r = 1: hidden (20)",
        "these faults give the importer's own output in all 4,800 places",
        "norse.torch.from_nir(graph, dt=0.0001)",
    ):
        assert text in " ".join(out.split()), text
    status, out, _ = said(
        capsys, "validate", str(file), "--dt", "1e-4", "--against-importer", "norse", "--output-format", "json"
    )
    (verdict,) = json.loads(out)["importers"]
    assert status == 1
    assert verdict["versions"]["norse"] == "1.1.0"
    assert [f["kind"] for f in verdict["faults"]] == ["node-lost", "edge-late", "wrong-output", "r-ignored"]
    assert verdict["shape"] == [[3], [6]]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "kind", "style", "verdict", "faults"),
    [
        ("norse", "affine-lif", "r1", "same", set()),
        ("norse", "v-reset", "r1", "wrong", {"reset-ignored"}),
        ("norse", "li-readout", "r1", "wrong", {"node-lost", "wrong-output"}),
        ("snntorch", "affine-lif", "disc", "same", set()),
        ("snntorch", "v-reset", "disc", "wrong", {"reset-ignored"}),
        ("snntorch", "recurrence-lif", "disc", "wrong", {"edge-wrong", "edge-lost"}),
        ("snntorch", "conv2d-flatten", "disc", "crashes in the run", {"batch-axis"}),
        ("spikingjelly", "affine-lif", "r1", "same", set()),
        ("spikingjelly", "fan-in", "disc", "same", set()),
        ("sinabs", "affine-lif", "disc", "wrong", {"r-ignored", "dt-implied", "decay-rule", "several-spikes"}),
        ("sinabs", "if", "disc", "wrong", {"membrane-floor", "reset-rule", "several-spikes", "r-ignored"}),
        ("rockpool", "cubalif", "disc", "wrong", {"dt-implied", "w-in-ignored", "reset-rule", "several-spikes"}),
    ],
)
def test_what_importers_get_wrong(name: str, kind: str, style: str, verdict: str, faults: set[str]) -> None:
    pytest.importorskip(name)
    found = check_importer(make_graph(0, kind, style, dt=DT), name, batch=4)
    assert found.verdict == verdict
    named = {fault.kind for fault in found.faults}
    assert faults <= named
    assert bool(faults) is bool(named)
    if faults:  # what was found gives the importer's own output, place for place
        assert found.explained == found.returned > 0


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "error", "refused"),
    [
        ("snntorch", "Unknown node type", ["n2"]),
        ("sinabs", "`r` must be 1", ["n2"]),
        ("spikingjelly", "Unknown node type", ["n2"]),
        ("rockpool", "'LIF' object has no attribute 'tau_mem'", ["n1"]),
    ],
)
def test_a_crash_is_told_in_the_frameworks_words(name: str, error: str, refused: list[str]) -> None:
    pytest.importorskip(name)
    found = check_importer(make_graph(0, "li-readout", "disc", dt=DT), name, batch=2, steps=10)
    assert (found.verdict, found.ok) == ("crashes on import", False)
    assert error in found.error
    assert [r.where for r in found.refused] == refused


@pytest.mark.oracle
def test_a_time_step_that_the_importer_does_not_take() -> None:
    """snnTorch computes with 0.1 ms whatever the network's step is."""
    found = check_importer(make_graph(0, "affine-lif", "disc", dt=1e-3), "snntorch", batch=4)
    (fault,) = (f for f in found.faults if f.kind == "dt-implied")
    assert fault.what == "a step is 0.0001 s, not the network's 0.001 s: n1, n2"
    assert found.verdict == "wrong"


@pytest.mark.oracle
def test_what_hangs_on_chance_is_said() -> None:
    """Where a node is lost from the middle, one import crashes and the next gives another node's value."""
    notes = [
        note
        for kind in ("scale", "delay")
        for name in ("norse", "sinabs")
        for note in check_importer(make_graph(0, kind, "r1", dt=DT), name, batch=2, steps=5).notes
    ]
    assert any("hangs on chance" in note and "crash" in note and "run only fc1" in note for note in notes)


def test_what_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    graph = make_graph(0, "linear", "r1")
    with pytest.raises(UsageError, match="no importer 'brian'; there are norse, snntorch"):
        check_importer(graph, "brian")
    monkeypatch.setitem(snnir.importers.IMPORTERS, "brian", Importer("brian", "Brian", "brian", "from_nir"))
    with pytest.raises(MissingPackageError, match="Brian's own importer needs the package 'brian'"):
        check_importer(graph, "brian")
    two = chain(
        ops.Input(shape=(2,)),
        ("w", ops.Linear(weight=np.ones((2, 2)))),
        ops.Output(shape=(2,)),
        semantics=Semantics(dt=DT),
    )
    two = Graph({**two.ops, "more": ops.Output(shape=(2,))}, (*two.edges, Edge("w", "more")), two.semantics)
    with pytest.raises(CompileError, match=r"has 2 outputs[\s\S]*one output"):
        check_importer(two, "norse")
    assert set(importer_names()) >= {"norse", "snntorch", "sinabs", "spikingjelly", "rockpool"}


def test_the_command_needs_something_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.nir"
    file.write_bytes(write(make_graph(0, "linear", "r1")))
    status, _, err = said(capsys, "validate", str(file))
    assert status == 2
    assert "name what to compare: -t TARGET, --against-importer FRAMEWORK, or both" in err
    status, _, err = said(capsys, "validate", str(file), "--against-importer", "brian")
    assert status == 2
    assert "no importer brian; there are norse" in err
