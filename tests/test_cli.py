"""The command line: exit statuses, what stands on which stream, JSON, and that nothing is half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import snnir
from snnir import nir_io, ops
from snnir.cli import run
from snnir.cost import cost, measure
from snnir.errors import MissingPackageError, Violation
from snnir.graph import Graph, chain
from snnir.registry import BACKENDS, FILE_FRONTENDS, backend_names
from snnir.semantics import Semantics
from snnir.target import Target

ROOT = Path(__file__).parents[1]
PYTHON = [sys.executable, "-m", "snnir"]


def network(outputs: int = 3) -> Graph:
    rng = np.random.default_rng(0)
    return chain(
        ops.Input(shape=(4,)),
        ("fc", ops.Affine(weight=rng.normal(0, 1, (8, 4)), bias=rng.normal(0, 1, 8))),
        ("lif", ops.LIF(tau=np.full(8, 0.01), v_threshold=np.full(8, 0.3))),
        ("out", ops.Linear(weight=rng.normal(0, 1, (outputs, 8)))),
        ("li", ops.LI(tau=np.full(outputs, 0.01))),
        ops.Output(shape=(outputs,)),
        semantics=Semantics(dt=1e-3),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that holds `net.nir`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "net.nir").write_bytes(nir_io.write(network()))
    return tmp_path


@dataclass(frozen=True)
class FakeArtifact:
    options: Mapping[str, Any]
    latency: int = 2
    report: Mapping[str, Any] = field(default_factory=lambda: {"weights": {"bits": np.int64(8), "error": 0.125}})

    def files(self) -> dict[str, bytes]:
        return {"chip.json": json.dumps({k: str(v) for k, v in self.options.items()}).encode()}


def at_most_two_outputs(graph: Graph) -> Iterator[Violation]:
    """The chip has two output pins.

    More does not fit.
    """
    for name in graph.outputs:
        if graph.shapes[name][0] > 2:
            what = f"has {graph.shapes[name][0]} outputs"
            yield Violation("fake-outputs", what, name, "model.py:7 (net.out)", "at most 2", "use fewer classes")


@dataclass(frozen=True)
class FakeBackend:
    target: Target
    missing: bool = False

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Any, ...]:
        if self.missing:
            raise MissingPackageError("chiplib", "fake", "target fake-gone")
        return ()

    def build(self, graph: Graph, options: Mapping[str, Any]) -> FakeArtifact:
        return FakeArtifact(options)


@pytest.fixture(autouse=True)
def fake_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of our own: `fake-chip` and `fake-twin` have two outputs, the package of `fake-gone` is missing."""
    limits = {"outputs": "2"}
    taken = frozenset({ops.Input, ops.Output, ops.Affine, ops.Linear, ops.LIF, ops.LI})
    chip = Target("fake-chip", "a chip of cardboard", taken, Semantics(), rules=(at_most_two_outputs,), limits=limits)
    gone = Target("fake-gone", "a chip that is not there", taken, Semantics(), package="chiplib", extra="fake")
    module = types.ModuleType("fake_backends")
    module.CHIP = FakeBackend(chip)  # type: ignore[attr-defined]
    module.TWIN = FakeBackend(replace(chip, name="fake-twin"))  # type: ignore[attr-defined]
    module.GONE = FakeBackend(gone, missing=True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_backends", module)
    monkeypatch.setitem(BACKENDS, "fake-chip", "fake_backends:CHIP")
    monkeypatch.setitem(BACKENDS, "fake-twin", "fake_backends:TWIN")
    monkeypatch.setitem(BACKENDS, "fake-gone", "fake_backends:GONE")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command."""
    status = run(list(arguments))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


# -- starting ------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; import snnir.cli; snnir.cli.run(['--help']); spent = time.process_time();"
        "heavy = {'numpy', 'torch', 'networkx', 'h5py', 'rich', 'nir', 'safetensors'} & set(sys.modules);"
        "print(sorted(heavy), spent, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy, seconds = done.stderr.rsplit(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 0.3
    for command in ("compile", "validate", "inspect", "passes", "targets", "visualize"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", ["compile", "validate", "inspect", "passes", "targets", "visualize"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, command, "-h")
    assert status == 0
    assert out.startswith(f"Usage: snnir {command}")
    assert "--debug" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == (0, f"snnir {snnir.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["compile"],
        ["compile", "net.nir", "-o", "out"],
        ["compile", "net.nir", "-t", "no-such", "-o", "out"],
        ["compile", "net.nir", "-t", ",", "-o", "out"],
        ["compile", "net.nir", "-t", "nir"],
        ["compile", "nowhere.nir", "-t", "nir", "-o", "out"],
        ["compile", "net.nir:name", "-t", "nir", "-o", "out", "--dt", "0"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "--dt", "nan"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "--dt", "1ms"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "-p", "no-such-pass"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "-p", "simplify{dead"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "--print-after", "no-such-pass"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "--calibrate", "nowhere.npz"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "--allow", "everything"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "-O", "novalue"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "-O", "dt=3"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "-O", "torch:x=3"],
        ["compile", "net.nir", "-t", "nir", "-o", "out", "-S", "width=3"],
        ["validate", "net.nir", "-t", "nir", "--steps", "0"],
        ["inspect", "net.nir", "--output-format", "yaml"],
        ["inspect", "plain.txt"],
        ["visualize", "net.nir", "-o", "picture.png"],
        ["passes", "no-such-pass"],
        ["targets", "no-such-target"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "plain.txt").write_text("no network")
    before = sorted(folder.iterdir())
    status, out, err = said(capsys, *arguments)
    assert status == 2
    assert out == "" or not arguments
    assert err or not arguments
    assert sorted(folder.iterdir()) == before


# -- compile -------------------------------------------------------------------------------------------------------


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
    status, _, _ = said(capsys, "compile", "net.nir", "-t", "nir", "-o", "out", "--force")
    assert status == 0
    assert "graph.nir" in {p.name for p in (folder / "out").iterdir()}


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


def test_verify_passes_holds_a_pass_to_its_word(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "x.npz", input=np.ones((5, 2, 4)))
    arguments = ("compile", "net.nir", "-t", "nir", "-p", "simplify", "--verify-passes", "--calibrate", "x.npz")
    status, _, _ = said(capsys, *arguments, "-o", "out")
    assert status == 0


# -- recorded input ------------------------------------------------------------------------------------------------


def test_recorded_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(1).integers(0, 3, (20, 2, 4))
    np.savez(folder / "one.npz", anything=x)
    np.savez(folder / "two.npz", input=x, labels=np.arange(2))
    np.save(folder / "plain.npy", x)
    graph = network()
    expected = cost(graph, measure(graph, x)).to_json()["totals"]
    for name in ("one.npz", "two.npz", "plain.npy"):
        status, out, _ = said(capsys, "inspect", "net.nir", "--input", name, "--output-format", "json")
        assert status == 0
        document = json.loads(out)
        assert document["measured"] is True
        assert document["totals"] == pytest.approx(expected)


def broken_inputs(folder: Path) -> dict[str, str]:
    """File name -> what its message must say."""
    np.savez(folder / "names.npz", x=np.ones((3, 1, 4)), y=np.ones(3))
    np.savez(folder / "shape.npz", input=np.ones((3, 4)))
    np.savez(folder / "nan.npz", input=np.full((3, 1, 4), np.nan))
    np.savez(folder / "text.npz", input=np.array(["a"]))
    np.savez(folder / "objects.npz", input=np.array([{}], dtype=object))
    (folder / "empty.npz").write_bytes(b"")
    (folder / "noise.npz").write_bytes(b"PK\x03\x04 this is no archive")
    whole = (folder / "shape.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(folder / "none.npz")
    return {
        "names.npz": "holds x, y, but not input",
        "shape.npz": "(T, B, 4)",
        "nan.npz": "not finite",
        "text.npz": "holds no arrays",
        "objects.npz": "cannot be read as arrays",
        "empty.npz": "cannot be read as arrays",
        "noise.npz": "cannot be read as arrays",
        "cut.npz": "cannot be read as arrays",
        "none.npz": "holds no arrays",
    }


@pytest.mark.parametrize("command", ["inspect", "validate", "compile"])
def test_broken_input_files(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {
        "inspect": ["--input"],
        "validate": ["-t", "nir", "--input"],
        "compile": ["-t", "nir", "-o", "out", "--calibrate"],
    }
    for name, words in broken_inputs(folder).items():
        status, out, err = said(capsys, command, "net.nir", *more[command], name)
        assert (status, out) == (1, ""), name
        assert words in " ".join(err.split()), (name, err)
    assert not (folder / "out").exists()


# -- validate ------------------------------------------------------------------------------------------------------


def test_validate_prints_a_verdict_per_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("validate", "net.nir", "-t", "nir", "--steps", "30", "--batch", "2", "--seed", "3")
    status, out, err = said(capsys, *arguments, "-o", "report.json")
    assert (status, err) == (0, "")
    assert "30 steps, batch 2, random spikes (seed 3)" in out
    assert "identical" in out
    status, out, _ = said(capsys, *arguments, "--output-format", "json")
    document = json.loads(out)
    assert document == json.loads((folder / "report.json").read_text())
    assert document["schema"] == "snnir.validate.v1"
    assert document["ok"] is True
    assert [v["verdict"] for v in document["verdicts"]] == ["identical"]


def test_validate_says_who_refuses_and_who_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "validate", "net.nir", "-t", "nir,fake-chip", "--steps", "20")
    assert status == 1
    assert "refused" in out
    assert "fake-chip: [fake-outputs] output: has 3 outputs (limit: at most 2)" in out
    assert said(capsys, "validate", "net.nir", "-t", "nir,fake-gone", "--steps", "20")[0] == 3
    assert said(capsys, "validate", "net.nir", "-t", "fake-chip,fake-gone", "--steps", "20")[0] == 1


def test_validate_with_recorded_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "x.npz", input=np.random.default_rng(0).random((12, 3, 4)))
    status, out, _ = said(capsys, "validate", "net.nir", "-t", "nir", "--input", "x.npz", "--output-format", "json")
    assert status == 0
    assert json.loads(out)["input"] == {"steps": 12, "batch": 3, "origin": "recorded"}


# -- inspect, passes, targets, visualize ---------------------------------------------------------------------------


def test_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "inspect", "net.nir", "--output-format", "json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "snnir.inspect.v1"
    assert document["inputs"] == {"input": [4]}
    assert document["semantics"]["dt"] == 1e-3
    assert document["totals"]["synapses"] == 4 * 8 + 8 * 3
    assert document["totals"]["neurons"] == 11
    assert [op["name"] for op in document["ops"]] == list(network().ops)
    assert ["fc", "lif", "input"] in document["edges"]
    status, out, _ = said(capsys, "inspect", "net.nir")
    assert "net.nir: input (4) -> output (3); 6 ops, 5 edges" in out
    assert "synaptic operations per step: 24 AC + 32 MAC, if every neuron spikes at every step" in out
    assert "time step 0.001 s, euler decay" in out


def test_inspect_reads_what_compile_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", "net.nir", "-t", "nir", "-o", "out"]) == 0
    capsys.readouterr()
    totals = [
        json.loads(said(capsys, "inspect", source, "--output-format", "json")[1])["totals"]
        for source in ("net.nir", "out")
    ]
    assert totals[0] == totals[1]


def test_inspect_after_passes_and_with_source_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.py").write_text(
        "import numpy as np\nfrom snnir import ops\nfrom snnir.graph import chain\n"
        "print('a word from the model')\n"
        "def build(width=2, twice=False):\n"
        "    scales = [ops.Scale(scale=np.float64(1.0)) for _ in range(1 + twice)]\n"
        "    return chain(ops.Input(shape=(width,)), *scales, ops.LIF(tau=0.01, v_threshold=1.0), ops.Output())\n"
    )
    arguments = ("inspect", "model.py:build", "-S", "width=5", "-S", "twice=true", "--dt", "0.001")
    status, out, err = said(capsys, *arguments, "--output-format", "json")
    assert (status, err) == (0, "a word from the model\n")
    document = json.loads(out)
    assert document["inputs"] == {"input": [5]}
    assert len(document["ops"]) == 5
    status, out, _ = said(capsys, *arguments, "-p", "simplify", "--output-format", "json")
    assert len(json.loads(out)["ops"]) == 3
    assert said(capsys, "inspect", "model.py", "-S", "depth=3", "--dt", "0.001")[0] == 2


def test_presets_and_model_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.py").write_text(
        "from snnir import ops\nfrom snnir.errors import UsageError\nfrom snnir.graph import chain\n"
        "def build(preset='small', widths=(2,)):\n"
        "    if preset not in ('small', 'large'):\n"
        "        raise UsageError(f'preset is {preset!r}, expected one of small, large')\n"
        "    shape = widths if preset == 'small' else (*widths, 7)\n"
        "    return chain(ops.Input(shape=shape), ops.LIF(tau=0.01, v_threshold=1.0), ops.Output())\n"
    )
    shape = ("inspect", "model.py", "--dt", "0.001", "--output-format", "json")
    for arguments, expected in (
        (("--preset", "large"), [2, 7]),
        (("--preset", "large", "--model-option", "widths=(5, 3)"), [5, 3, 7]),
        (("-S", "preset=large", "--preset", "large", "-S", "widths=[4]"), [4, 7]),
    ):
        status, out, err = said(capsys, *shape, *arguments)
        assert (status, err) == (0, "")
        assert json.loads(out)["inputs"] == {"input": expected}
    (folder / "fixed.py").write_text("def build(width=2): ...\n")
    for arguments, expected in (
        (("model.py", "--preset", "huge"), "preset is 'huge', expected one of small, large"),
        (("model.py", "--preset", "large", "-S", "preset=small"), "but -S says preset=small"),
        (("model.py", "-S", "widths=(4"), "no tuple or list of literals"),
        (("fixed.py", "--preset", "large"), "build() takes width=2"),
        (("net.nir", "--preset", "large"), "Invalid value for --preset: only a model.py takes options"),
    ):
        status, out, err = said(capsys, "inspect", *arguments)
        assert (status, out) == (2, "")
        assert expected in err


def test_passes_come_from_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    from snnir.pipeline import PASSES, parse_pipeline, pass_class

    status, out, _ = said(capsys, "passes", "--output-format", "json")
    assert status == 0
    found = {each["name"]: each for each in json.loads(out)["passes"]}
    assert list(found) == list(PASSES)
    for name, each in found.items():
        cls = pass_class(name)
        assert each["keeps"] == cls.keeps
        assert each["doc"].splitlines()[0] in (cls.__doc__ or "")
        given = ",".join(f"{o['name']}={o['default']}" for o in each["options"] if o["default"] is not None)
        assert parse_pipeline(f"{name}{{{given}}}") == (cls(),)  # the defaults shown are the defaults
    status, out, _ = said(capsys, "passes")
    assert all(f"\n{name} " in out for name in PASSES)
    status, out, _ = said(capsys, "passes", "simplify")
    assert out.startswith("simplify: keeps everything")
    assert "-p 'simplify{" in out


def test_targets_come_from_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "targets", "--output-format", "json")
    assert status == 0
    found = {each["name"]: each for each in json.loads(out)["targets"]}
    assert list(found) == list(backend_names())
    chip = found["fake-chip"]
    assert chip["rules"] == [{"name": "at-most-two-outputs", "doc": "The chip has two output pins."}]
    assert chip["ops"] == ["Affine", "Input", "LI", "LIF", "Linear", "Output"]
    assert (chip["installed"], found["fake-gone"]["installed"]) == (True, False)
    assert all(rule["doc"] for each in found.values() for rule in each["rules"])  # every rule says what it is
    status, out, _ = said(capsys, "targets")
    assert "pip install 'snnir[fake]'" in out
    status, out, _ = said(capsys, "targets", "fake-chip")
    assert "fake-chip: a chip of cardboard" in out
    assert "at-most-two-outputs" in out
    assert "outputs" in out


def test_visualize(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "visualize", "net.nir")
    assert status == 0
    assert out.startswith("digraph snnir {")
    status, out, err = said(capsys, "visualize", "net.nir", "-o", "net.svg", "--title", "my <net>", "--layout", "own")
    assert (status, out) == (0, "")
    assert "net.svg" in err
    assert ElementTree.fromstring((folder / "net.svg").read_text()).get("aria-label") == "my <net>"
    assert run(["visualize", "net.nir", "-o", "net.mmd"]) == 0
    assert "flowchart TD" in (folder / "net.mmd").read_text()
    capsys.readouterr()
    assert said(capsys, "visualize", "net.nir", "-f", "mermaid")[1] == (folder / "net.mmd").read_text()
    status, _, err = said(capsys, "visualize", "net.nir", "-o", "no/such/folder/net.svg")
    assert status == 1
    assert "cannot be written" in err
    assert {p.name for p in folder.iterdir()} == {"net.nir", "net.svg", "net.mmd"}


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["inspect"], ["visualize"], ["validate", "-t", "nir"], ["compile", "-t", "nir", "-o", "o"]]
)
def test_broken_sources_are_status_1(command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (folder / "net.nir").read_bytes()
    (folder / "cut.nir").write_bytes(whole[: len(whole) // 2])
    (folder / "text.nir").write_text("no HDF5")
    (folder / "raises.py").write_text("x = 1\nraise RuntimeError('boom')\n")
    (folder / "empty.py").write_text("")
    for name, words in (
        ("cut.nir", "cut.nir"),
        ("text.nir", "text.nir"),
        ("raises.py", "raises.py:2"),
        ("empty.py", "model"),
    ):
        status, out, err = said(capsys, command[0], name, *command[1:])
        assert (status, out) == (1, ""), (name, err)
        assert words in err
    status, _, err = said(capsys, command[0], "net.nir", *command[1:], "--dt", "0.5")
    assert status == 1
    assert "time-step" in err


def test_errors_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "text.nir").write_text("no HDF5")
    status, out, err = said(capsys, "inspect", "text.nir", "--output-format", "json")
    assert status == 1
    document = json.loads(out)
    assert document["schema"] == "snnir.error.v1"
    assert document["ok"] is False
    assert document["status"] == 1
    assert document["violations"][0]["rule"]
    assert err
    status, out, _ = said(capsys, "passes", "nope", "--output-format", "json")
    assert (status, json.loads(out)["status"]) == (2, 2)


def test_tracebacks_only_on_request(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a fault of ours")

    module = types.ModuleType("exploding_frontend")
    module.load = explode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "exploding_frontend", module)
    monkeypatch.setitem(FILE_FRONTENDS, "nir", "exploding_frontend:load")
    status, _, err = said(capsys, "inspect", "net.nir")
    assert status == 2
    assert "ZeroDivisionError: a fault of ours" in err
    assert "--debug" in err
    for arguments in (["--debug", "inspect", "net.nir"], ["inspect", "net.nir", "--debug"]):
        assert run(arguments) == 2
        assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("SNNIR_DEBUG", "1")
    assert run(["inspect", "net.nir"]) == 2
    assert "Traceback" in capsys.readouterr().err


# -- the process ---------------------------------------------------------------------------------------------------


def process(folder: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("env", {})}
    return subprocess.run(
        [*PYTHON, *arguments], cwd=folder, text=True, env=environment, check=False, **{"capture_output": True, **more}
    )


def test_no_escapes_and_no_bars_off_a_terminal(folder: Path) -> None:
    done = process(folder, "inspect", "net.nir")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    done = process(folder, "inspect", "net.nir", "--dt", "3")
    assert done.returncode == 1
    assert "\x1b" not in done.stderr


def test_plain_ascii_terminals_are_served(folder: Path) -> None:
    done = process(folder, "inspect", "net.nir", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"})
    assert done.returncode == 0
    assert done.stdout.isascii()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_stdout(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = process(folder, "inspect", "net.nir", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "error: the output: No space left on device\n"


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = process(folder, "inspect", "net.nir", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 0


def test_ctrl_c_is_status_130(folder: Path) -> None:
    (folder / "slow.py").write_text("import sys, time; print('reading', file=sys.stderr, flush=True); time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [*PYTHON, "compile", "slow.py", "-t", "nir", "-o", "out"]
    running = subprocess.Popen(arguments, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)
    assert running.stderr is not None
    assert running.stderr.readline() == "reading\n"
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert err.strip() == "interrupted"
    assert not (folder / "out").exists()


# -- the documents -------------------------------------------------------------------------------------------------


def documented(schema: str) -> dict[str, Any]:
    """The example of a schema in docs/cli.md."""
    text = (ROOT / "docs/cli.md").read_text()
    start = text.index(f'{{"schema": "{schema}"')
    return json.JSONDecoder().raw_decode(text[start:])[0]


def test_json_has_the_documented_keys(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def document(*arguments: str) -> Any:
        return json.loads(said(capsys, *arguments, "--output-format", "json")[1])

    made = document("compile", "net.nir", "-t", "nir", "-o", "out")
    example = documented("snnir.compile.v1")
    assert set(made) == set(example)
    assert set(made["targets"]["nir"]) == set(example["targets"]["xylo-audio3"])
    assert {"target", "pipeline", "passes", "ops", "latency"} <= set(made["targets"]["nir"]["report"])

    made, example = document("validate", "net.nir", "-t", "nir"), documented("snnir.validate.v1")
    assert set(made) == set(example)
    assert set(made["verdicts"][0]) == set(example["verdicts"][0])

    made, example = document("inspect", "net.nir"), documented("snnir.inspect.v1")
    assert set(made) == set(example)
    assert set(made["ops"][0]) == set(example["ops"][0])
    assert set(made["totals"]) == set(example["totals"])

    made, example = document("passes", "simplify"), documented("snnir.passes.v1")
    assert set(made["passes"][0]) == set(example["passes"][0])
    assert made["passes"][0]["options"][0] == example["passes"][0]["options"][0]

    made, example = document("targets", "nir"), documented("snnir.targets.v1")
    assert set(made["targets"][0]) == set(example["targets"][0])

    (folder / "text.nir").write_text("no HDF5")
    made, example = document("inspect", "text.nir"), documented("snnir.error.v1")
    assert set(made) == set(example)
    assert set(made["violations"][0]) == set(example["violations"][0])
