"""Placements compiled: folders that run without snnir, the chip's integers measured cut by cut, commands, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from snnir.cli import run
from snnir.errors import CompileError, UsageError
from snnir.graph import Graph, chain
from snnir.models import sdit
from snnir.ops import LIF, Input, LayerNorm, Linear, Output
from snnir.placement.compiled import PartitionArtifact
from snnir.placement.picture import COLOURS, picture
from snnir.semantics import NIR_SEMANTICS


def lif(size: int) -> LIF:
    return LIF(tau=np.full(size, 0.01), r=np.ones(size), v_leak=np.zeros(size), v_threshold=np.ones(size))


def mixed(reset: Any) -> Graph:
    """Two populations, then a norm that no chip has."""
    rng = np.random.default_rng(0)
    return chain(
        ("x", Input(shape=(12,))),
        ("w0", Linear(weight=rng.normal(0, 4, (20, 12)))),
        ("a", lif(20)),
        ("w1", Linear(weight=rng.normal(0, 4, (16, 20)))),
        ("b", lif(16)),
        ("norm", LayerNorm(weight=np.ones(16), bias=np.zeros(16))),
        ("out", Linear(weight=rng.normal(size=(3, 16)))),
        ("y", Output()),
        semantics=NIR_SEMANTICS.with_(dt=1e-3, start="zero", reset=reset),
    )


def spiking_sdit() -> sdit.SDiT:
    """SDiT-digits with weights under which its branches spike and its head says something."""
    model = sdit.build("digits", classes=0)
    for name, weight in model.named_parameters():
        if name.endswith(("time_mix.output.weight", "channel_mix.value.weight")):
            weight.data *= 12
        if name == "head.weight":
            weight.data.normal_(0, 0.2)
    return model


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`run.py` in a Python that cannot import snnir."""
    guard = (
        "import sys, runpy; sys.modules['snnir'] = None; sys.argv = sys.argv[1:]; "
        "sys.path.insert(0, '.'); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", guard, str(folder / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("target", "host"), [("lava", "torch"), ("lava", "onnx"), ("xylo-audio3", "torch")])
def test_the_folder_runs_and_says_what_the_artifact_says(target: str, host: str, tmp_path: Path) -> None:
    graph = mixed("subtract" if target.startswith("xylo") else "value")
    result = snnir.compile(graph, target, host=host)
    assert isinstance(result.artifact, PartitionArtifact)
    x = {"x": (np.random.default_rng(1).random((20, 3, 12)) < 0.3).astype(np.float64)}
    floats, recorded = result.artifact.run(x, ("b",), chip="float")
    expected, inside = snnir.interpret(graph, x, record=["b"])
    assert np.array_equal(floats["y"], expected)
    assert np.array_equal(recorded["b"], inside["b"])
    chip, spikes = result.artifact.run(x, ("b",))
    assert (spikes["b"] != inside["b"]).mean() < 0.05

    folder = tmp_path / "out"
    result.save(folder)
    np.savez(tmp_path / "in.npz", **x)
    done = run_script(folder, str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz"))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as file:
        np.testing.assert_allclose(file["y"], chip["y"], atol=1e-4)
    done = run_script(folder, str(tmp_path / "in.npz"), "--float", "-o", str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as file:
        np.testing.assert_allclose(file["y"], expected, atol=1e-4)
    assert snnir.load(folder).inputs == graph.inputs
    plan = json.loads((folder / "placement.json").read_text())
    assert {name for name, op in plan["ops"].items() if op["side"] == "chip"} == {"w0", "a", "w1", "b"}


def test_run_refuses_what_does_not_fit(tmp_path: Path) -> None:
    snnir.compile(mixed("subtract"), "xylo-audio3", host="onnx").save(tmp_path / "out")
    np.savez(tmp_path / "real.npz", x=np.full((5, 1, 12), 0.3))
    done = run_script(tmp_path / "out", str(tmp_path / "real.npz"))
    assert done.returncode == 1
    assert "whole numbers of 0 to 15" in done.stderr
    np.savez(tmp_path / "small.npz", x=np.zeros((5, 1, 3)))
    assert "expected (T, B, 12)" in run_script(tmp_path / "out", str(tmp_path / "small.npz")).stderr
    np.savez(tmp_path / "other.npz", z=np.zeros((5, 1, 12)))
    assert "no array for input 'x'" in run_script(tmp_path / "out", str(tmp_path / "other.npz")).stderr


def test_sdit_on_loihi_and_a_host(tmp_path: Path) -> None:
    graph = snnir.load(spiking_sdit())
    result = snnir.compile(graph, "lava", host="onnx")
    rates = [float(v.mean()) for n, v in result.artifact.values.items() if n.endswith("neurons")]  # type: ignore[attr-defined]
    assert min(rates) > 0.005
    cuts = [m for m in result.report["measured"] if m["part"]]
    assert len(cuts) == 6
    assert all(0 <= m["differ"] < 2e-3 for m in cuts)
    rng = np.random.default_rng(3)
    x = {name: rng.normal(size=(1, 2, *graph.shapes[name])) for name in graph.inputs}
    floats, _ = result.artifact.run(x, chip="float")  # type: ignore[call-arg]
    assert np.array_equal(floats["output"], snnir.interpret(graph, x))
    result.save(tmp_path / "out")
    done = run_script(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(lava)") == 6
    assert "beside the whole network in floats: output" in done.stdout


def test_what_is_asked_for_wrongly() -> None:
    graph = mixed("value")
    with pytest.raises(UsageError, match="needs a host"):
        snnir.compile(graph, "lava", place={"a": "host"})
    with pytest.raises(UsageError, match="no chip"):
        snnir.compile(graph, "torch", host="onnx")
    with pytest.raises(CompileError, match="LayerNorm does not exist"):
        snnir.compile(graph, "lava", host="onnx", place={"norm": "chip"})
    with pytest.raises(UsageError, match="inside a part"):
        snnir.compile(graph, "lava", host="onnx").run(np.zeros((4, 1, 12)), record=["a"])


def test_places_are_kept() -> None:
    result = snnir.compile(mixed("value"), "lava", host="onnx", place={"a": "host", "w0": "host"})
    places = result.artifact.placement.places  # type: ignore[attr-defined]
    assert [n for n, p in places.items() if p.side == "chip"] == ["w1", "b"]
    assert places["a"].reason == "as you say"


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text("from tests.test_placement_run import mixed\nmodel = mixed('value')\n")
    source, out, svg = (str(tmp_path / name) for name in ("net.py", "out", "placement.svg"))
    shared = ["--target", "lava", "--host", "onnx"]
    assert run(["compile", source, *shared, "-o", out, "--dump-placement"]) == 0
    said = capsys.readouterr().out
    assert "LayerNorm does not exist" in said
    assert "neurons that the chip has" in said
    assert "all parts together: y" in said
    assert run(["visualize", source, *shared, "-o", svg]) == 0
    assert COLOURS["chip"][0] in Path(svg).read_text()
    assert run(["compile", source, *shared, "-o", str(tmp_path / "b"), "--place", "norm=chip"]) == 1
    assert "LayerNorm does not exist" in capsys.readouterr().err
    for wrong in (["--dump-placement"], ["--place", "a=chip"], ["--host", "onnx", "--place", "a=there"]):
        assert run(["compile", source, "--target", "lava", "-o", str(tmp_path / "b"), *wrong]) == 2
    assert run(["visualize", source, "--target", "lava", "-o", svg]) == 2
    assert not (tmp_path / "b").exists()


def test_the_picture_holds_every_part_in_its_colour() -> None:
    placement = snnir.partition(mixed("value"), "lava", "torch")
    for form in ("svg", "dot", "mermaid"):
        text = picture(placement, form, layout="own")  # type: ignore[arg-type]
        assert "00-chip" in text
        assert "01-host" in text
    assert COLOURS["host"][0] in picture(placement, "dot")
