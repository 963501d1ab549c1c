"""snnir compile: what is written, and that nothing is half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import nir_io, ops
from snnir.artifact import write_folder
from snnir.cli import run
from snnir.compiler import prepare
from snnir.errors import CompileError, fail
from snnir.graph import Graph, chain
from snnir.passes.simplify import Simplify
from snnir.pipeline import Log
from snnir.semantics import Semantics
from tests.cli.kit import network, said


def test_compile_writes_one_artifact(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(
        capsys, "compile", "net.nir", "-t", "nir", "-o", "deep/out", "-p", "simplify", "--time-passes"
    )
    assert (status, err) == (0, "")
    written = {p.name for p in (folder / "deep/out").iterdir()}
    assert {"graph.nir", "manifest.json", "README.md"} <= written
    assert snnir.load("deep/out").shapes == snnir.load("net.nir").shapes
    lines = out.splitlines()
    assert lines[0] == "net.nir for nir: 6 ops -> 6 ops, no latency"
    assert lines[1].startswith("  simplify (exact, ")
    assert lines[1].endswith(" ms): nothing to do")  # without --time-passes: "nothing to do for simplify"
    assert f"    {Path('deep/out/graph.nir')}" in lines


def test_compile_for_several_targets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "net.nir").write_bytes(nir_io.write(network(outputs=2)))
    arguments = [
        "-t",
        "nir",
        "-t",
        "fake-chip,nir",
        "-o",
        "out",
        "-O",
        "fake-chip:bit-depth=8",
        "-O",
        "fake-chip:x=true",
    ]
    status, out, _ = said(capsys, "compile", "net.nir", *arguments, "--output-format", "json")
    assert status == 0
    document = json.loads(out)
    assert document["schema"] == "snnir.compile.v1"
    assert document["ok"] is True
    assert list(document["targets"]) == ["nir", "fake-chip"]
    chip = document["targets"]["fake-chip"]
    assert chip["latency"] == 2
    assert chip["report"]["weights"] == {"bits": 8, "error": 0.125}
    assert chip["folder"] == str(Path("out/fake-chip"))
    for path in chip["files"]:
        assert (folder / "out/fake-chip" / path).is_file()
    given = json.loads((folder / "out/fake-chip/chip.json").read_text())
    assert (given["bit_depth"], given["x"]) == ("8", "True")


def test_compile_is_all_or_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "compile", "net.nir", "-t", "nir,fake-chip", "-o", "out")
    assert (status, out) == (1, "")
    assert sorted(p.name for p in folder.iterdir()) == ["net.nir"]
    words = " ".join(err.split())
    for said_word in (
        "a chip of cardboard",
        "fake-outputs",
        "output",
        "model.py:7",
        "has 3 outputs",
        "at most 2",
        "fewer classes",
    ):
        assert said_word in words, said_word
    assert "nothing was written" in err
    status, _, err = said(capsys, "compile", "net.nir", "-t", "nir,fake-chip,fake-twin", "-o", "out")
    assert status == 1
    assert "2 of 3 targets cannot take net.nir" in err
    for target in ("fake-chip", "fake-twin"):
        assert any(line.split()[:2] == [target, "fake-outputs"] for line in err.splitlines())


def test_a_chip_that_is_too_small_names_every_limit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)

    def cuba(n: int) -> ops.CubaLIF:
        return ops.CubaLIF(tau_syn=np.full(n, 4e-3), tau_mem=np.full(n, 8e-3), v_threshold=np.ones(n))

    graph = chain(
        ops.Input(shape=(20,)),
        ("fc", ops.Linear(weight=rng.normal(0, 1, (30, 20)))),
        ("hidden", cuba(30)),
        ("out", ops.Linear(weight=rng.normal(0, 1, (10, 30)))),
        ("digits", cuba(10)),
        ops.Output(shape=(10,)),
        semantics=Semantics(dt=1e-3, reset="subtract", comparison=">="),
    )
    (folder / "big.nir").write_bytes(nir_io.write(graph))
    status, out, err = said(capsys, "compile", "big.nir", "--target", "xylo-audio2", "-o", "out")
    assert (status, out) == (1, "")
    assert not (folder / "out").exists()
    words = " ".join(err.split())
    for rule, value, limit in (("input-channels", "20", "16"), ("output-neurons", "10 outputs", "at most 8")):
        assert f"xylo-{rule}" in words
        assert value in words
        assert limit in words


def test_all_violations_of_all_targets_in_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "compile", "net.nir", "-t", "nir,fake-chip", "-o", "out", "--output-format", "json")
    assert status == 1
    document = json.loads(out)
    assert document["ok"] is False
    assert document["targets"]["nir"] == {"ok": True, "violations": []}
    (violation,) = document["targets"]["fake-chip"]["violations"]
    assert violation == {
        "rule": "fake-outputs",
        "what": "has 3 outputs",
        "where": "output",
        "loc": "model.py:7 (net.out)",
        "expected": "at most 2",
        "hint": "use fewer classes",
    }


@pytest.mark.parametrize("columns", ["60", "100", "200"])
def test_violations_fit_every_terminal(
    columns: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    (folder / "bad.py").write_text(
        "import numpy as np\nfrom snnir import ops\nfrom snnir.graph import chain\n"
        "model = chain(ops.Input(shape=(4,)), ops.LIF(tau=-1.0, v_threshold=np.nan), ops.Linear(weight=np.ones(4)),"
        " ops.Output())\n"
    )
    status, _, err = said(capsys, "inspect", "bad.py", "--dt", "0.001")
    assert status == 1
    assert max(map(len, err.splitlines())) <= int(columns)
    words = " ".join(err.split())
    assert "lif" in words
    assert "linear" in words
    assert words.count("tau") >= 1


def test_missing_package_is_status_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "compile", "net.nir", "-t", "fake-gone", "-o", "out")
    assert (status, out) == (3, "")
    assert "pip install 'snnir[fake]'" in err
    assert not (folder / "out").exists()


def test_existing_output_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").mkdir()
    (folder / "out/mine.txt").write_text("dear")
    status, _, err = said(capsys, "compile", "net.nir", "-t", "nir", "-o", "out")
    assert status == 1
    assert "exists already" in err
    assert "--force" in err
    assert [p.name for p in (folder / "out").iterdir()] == ["mine.txt"]
    (folder / "out/mine.txt").unlink()
    assert said(capsys, "compile", "net.nir", "-t", "nir", "-o", "out")[0] == 1
    status, _, _ = said(capsys, "compile", "net.nir", "-t", "nir", "-o", "out", "--force")
    assert status == 0
    assert "graph.nir" in {p.name for p in (folder / "out").iterdir()}


def test_force_replaces_nothing_but_what_snnir_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = folder / "mine"
    (mine / "net").mkdir(parents=True)
    (mine / "thesis.tex").write_text("three years of work")
    (mine / "manifest.json").write_text('{"name": "a web page"}')
    (folder / "file").write_text("a file")
    (folder / "empty").mkdir()
    before = sorted(folder.rglob("*"))
    for output, words in (
        ("mine", "holds manifest.json, net, thesis.tex, which snnir has not written"),
        ("file", "is a file, not a folder"),
        (".", "is the current folder, or one above it"),
        ("..", "is the current folder, or one above it"),
        (str(folder.parent), "is the current folder, or one above it"),
    ):
        status, _, err = said(capsys, "compile", "net.nir", "-t", "nir", "-o", output, "--force")
        assert status == 1
        assert words in err
        assert sorted(folder.rglob("*")) == before
    assert said(capsys, "compile", "net.nir", "-t", "nir", "-o", " ")[0] == 2
    for target in ("nir", "nir,torch", "torch"):  # over an empty folder, one artifact, and several
        status, _, err = said(capsys, "compile", "net.nir", "-t", target, "-o", "empty", "--force")
        assert (status, err) == (0, "")
    assert (folder / "empty" / "model.py").exists()
    assert not (folder / "empty" / "nir").exists()


def test_what_cannot_be_replaced_comes_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = snnir.compile("net.nir", "nir")
    result.save("out")
    before = {p: p.read_bytes() for p in (folder / "out").iterdir()}
    real, moves = os.replace, []

    def break_down(source: Any, place: Any) -> None:
        moves.append(place)
        if len(moves) == 2:
            raise OSError(5, "Input/output error")
        real(source, place)

    monkeypatch.setattr(os, "replace", break_down)
    with pytest.raises(snnir.CompileError, match="Input/output error"):
        result.save("out", overwrite=True)
    assert {p: p.read_bytes() for p in (folder / "out").iterdir()} == before
    assert sorted(p.name for p in folder.iterdir()) == ["net.nir", "out"]
    moves[:] = [0]
    with pytest.raises(snnir.CompileError, match="Input/output error"):
        result.save("new/deep/out")
    assert not (folder / "new").exists()


def test_output_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("")
    status, _, err = said(capsys, "compile", "net.nir", "-t", "nir", "-o", "file/out")
    assert status == 1
    assert "cannot be written" in err
    assert sorted(p.name for p in folder.iterdir()) == ["file", "net.nir"]


def test_ctrl_c_while_writing_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Path, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    assert run(["compile", "net.nir", "-t", "nir", "-o", "out"]) == 130
    assert [p.name for p in folder.iterdir()] == ["net.nir"]


def test_print_after_shows_the_graph_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("compile", "net.nir", "-t", "nir", "-o", "out", "-p", "simplify", "--print-after", "simplify")
    status, out, err = said(capsys, *arguments)
    assert status == 0
    assert err.startswith("// after simplify: unchanged\n")
    assert "LIF" in err
    assert "//" not in out


def test_passes_run_once_for_all_targets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("compile", "net.nir", "-t", "nir,torch,norse", "-o", "out", "-p", "fold-batch-norm")
    status, out, err = said(capsys, *arguments, "--print-after", "fold-batch-norm", "--output-format", "json")
    assert status == 0
    assert err.count("// after fold-batch-norm") == 1
    for target, made in json.loads(out)["targets"].items():
        assert made["report"]["pipeline"].startswith("fold-batch-norm"), target
        assert made["report"]["passes"][0]["pass"] == "fold-batch-norm"
    prepared = prepare("net.nir", passes="fold-batch-norm")
    graphs = [prepared.compile(target).graph for target in ("torch", "norse")]
    assert all(graph is prepared.graph for graph in graphs)  # and so one set of weights in memory


def test_a_pass_that_fails_is_said_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Simplify, graph: Graph, log: Log) -> Graph:
        raise fail("too-simple", "cannot be made simpler", where="lif")

    monkeypatch.setattr(Simplify, "run", fails)
    arguments = ("compile", "net.nir", "-t", "nir,torch", "-o", "out", "-p", "simplify")
    status, out, err = said(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.count("too-simple") == 1
    assert not (folder / "out").exists()
    status, out, _ = said(capsys, *arguments, "--output-format", "json")
    assert status == 1
    assert [made["ok"] for made in json.loads(out)["targets"].values()] == [False, False]


def test_verify_passes_holds_a_pass_to_its_word(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "x.npz", input=np.ones((5, 2, 4)))
    arguments = ("compile", "net.nir", "-t", "nir", "-p", "simplify", "--verify-passes", "--calibrate", "x.npz")
    status, _, _ = said(capsys, *arguments, "-o", "out")
    assert status == 0


def test_two_compiles_into_one_folder_do_not_replace_one_another(tmp_path: Path) -> None:
    """The second one took the place of what the first had written in the meantime, and both said that all was well."""

    class Meanwhile(dict[str, bytes]):
        def __getitem__(self, name: str) -> bytes:
            if not (tmp_path / "out").exists():
                write_folder(tmp_path / "out", {"first": b"1"})
            return super().__getitem__(name)

    with pytest.raises(CompileError, match=r"\[output-exists\] .*out: exists already"):
        write_folder(tmp_path / "out", Meanwhile(second=b"2"))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "first"]
