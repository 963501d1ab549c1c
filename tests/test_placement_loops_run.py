"""Loops over chip and host compiled: folders that run step by step without snnir, as the artifact does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import snnir
from snnir.backends.lava.environment import find
from snnir.placement.compiled import PartitionArtifact
from tests.test_placement_loops import SIZE, feedback
from tests.test_placement_run import run_script

NO_LAVA = "no Lava here (make lava): loops are not confirmed in it"


def spikes() -> dict[str, np.ndarray]:
    return {"x": (np.random.default_rng(1).random((30, 2, SIZE)) < 0.3).astype(np.float64)}


@pytest.mark.parametrize(("target", "host"), [("lava", "onnx"), ("lava", "torch"), ("xylo-audio3", "onnx")])
def test_the_folder_steps_as_the_artifact_does(target: str, host: str, tmp_path: Path) -> None:
    graph = feedback(delay=5, reset="subtract" if target.startswith("xylo") else "value")
    result = snnir.compile(graph, target, host=host)
    artifact = result.artifact
    assert isinstance(artifact, PartitionArtifact)
    x = spikes()
    expected, inside = snnir.interpret(graph, x, record=["b"])
    floats, recorded = artifact.run(x, ("b",), chip="float")
    assert np.array_equal(floats["y"], expected)
    assert np.array_equal(recorded["b"], inside["b"])
    chip, held = artifact.run(x, ("b", "late"))
    assert 0.05 < chip["y"].mean() < 0.6
    assert (chip["y"] != expected).mean() < 0.15
    assert np.array_equal(held["late"][5:], artifact.run(x, ("gate",))[1]["gate"][:-5])
    assert not held["late"][:5].any()
    cuts = {m["value"]: m["differ"] for m in result.report["measured"] if m["part"]}
    assert "b" in cuts
    assert max(cuts.values()) < 0.05

    result.save(tmp_path / "out")
    np.savez(tmp_path / "in.npz", **x)
    for how, wanted in (((), chip), (("--float",), floats)):
        done = run_script(tmp_path / "out", str(tmp_path / "in.npz"), *how, "-o", str(tmp_path / "out.npz"))
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / "out.npz") as file:
            assert np.array_equal(file["y"], wanted["y"])
    plan = json.loads((tmp_path / "out" / "placement.json").read_text())
    (loop,) = [step for step in plan["steps"] if step["kind"] == "loop"]
    assert {"name": "late", "reads": ["gate"], "least": 5, "most": 5, "arrays": "loop-0.0"} in loop["holds"]


@pytest.mark.oracle
@pytest.mark.skipif(find() is None, reason=NO_LAVA)
def test_a_loop_is_confirmed_in_lava_itself(tmp_path: Path) -> None:
    result = snnir.compile(feedback(delay=3), "lava", host="onnx")
    artifact = result.artifact
    assert isinstance(artifact, PartitionArtifact)
    assert np.array_equal(artifact.run(spikes(), chip="vendor")[0]["y"], artifact.run(spikes())[0]["y"])
    result.save(tmp_path / "out")
    done = run_script(tmp_path / "out", "--vendor", str(find()))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(lava, in Lava itself)") == 2
