"""Repairs: a new file, all of it as it was but for what has one answer, and the doctor finds that rule no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from snnir.doctor import RULES, diagnose, repair
from snnir.errors import CompileError
from snnir.nir_io import read
from tests.doctor.kit import BASES, Change, F, both, drop, edges, full, named, put, weight, written
from tests.doctor.test_doctor_faults import slash


def content(path: Path) -> dict[str, Any]:
    """Every dataset of a file."""
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


N1 = "node/nodes/n1"
W = weight(6, 4)
# rule, base, change, what the new file holds
REPAIRS: list[tuple[str, str, Change, dict[str, Any]]] = [
    ("version", "dense", drop("version"), {"version": b"1.0.8"}),
    ("dtype", "dense", put("fc1/weight", W.astype(">f4")), {"node/nodes/fc1/weight": W}),
    (
        "dtype",
        "dense",
        put("fc1/weight", W.astype(np.float16)),
        {"node/nodes/fc1/weight": W.astype(np.float16).astype(F)},
    ),
    ("dtype", "dense", put("n1/v_threshold", np.ones(6, np.int64)), {f"{N1}/v_threshold": full(6, 1)}),
    ("dtype", "dense", put("fc1/weight", W.astype(np.longdouble) / 3), {"node/nodes/fc1/weight": W.astype(float) / 3}),
    ("scalar-parameter", "dense", put("n1/tau", F(0.02)), {f"{N1}/tau": full(6, 0.02)}),
    ("scalar-parameter", "dense", put("fc1/bias", F(0.5)), {"node/nodes/fc1/bias": full(6, 0.5)}),
    ("scalar-parameter", "delayed", put("scale/scale", F(0.5)), {"node/nodes/scale/scale": full(4, 0.5)}),
    (
        "broadcast-parameter",
        "image",
        put("n1/v_threshold", full((3, 1, 1), 2)),
        {f"{N1}/v_threshold": full((3, 6, 6), 2)},
    ),
    ("v-reset-missing", "dense", drop("n1/v_reset"), {f"{N1}/v_reset": full(6, 0)}),
    ("w-in-missing", "current", drop("n1/w_in"), {f"{N1}/w_in": full(6, 1)}),
    ("input-shape-missing", "image", drop("conv/input_shape"), {"node/nodes/conv/input_shape": np.array([6, 6])}),
    (
        "input-type-missing",
        "image",
        drop("flatten/input_type"),
        {"node/nodes/flatten/input_type": np.array([3, 3, 3])},
    ),
    ("edge-duplicate", "dense", edges(("fc1", "n1"), ("fc1", "n1"), ("n2", "output")), {}),
    ("batch-axis", "dense", put("input/shape", [1, 4]), {"node/nodes/input/shape": np.array([4])}),
    ("batch-axis", "dense", put("output/shape", [1, 100, 3]), {"node/nodes/output/shape": np.array([3])}),
    ("flatten-batch", "image", put("flatten/start_dim", 1), {"node/nodes/flatten/start_dim": 0}),
    ("name-slash", "dense", slash, {"node/nodes/a.fc1/weight": W}),
]


@pytest.mark.parametrize(
    ("rule", "base", "change", "wanted"), REPAIRS, ids=[f"{r[0]}-{k}" for k, r in enumerate(REPAIRS)]
)
def test_one_fault_is_repaired_and_nothing_else_touched(
    rule: str, base: str, change: Change, wanted: dict[str, Any], tmp_path: Path
) -> None:
    sound = content(written(tmp_path, base, name="sound.nir"))
    old = written(tmp_path, base, change)
    bytes_before = old.read_bytes()
    done = repair(old, tmp_path / "new.nir")
    assert old.read_bytes() == bytes_before
    assert {deed.rule for deed in done.deeds} == {rule}
    assert rule not in {f.rule for f in diagnose(tmp_path / "new.nir")}
    assert done.after.ok
    new = content(tmp_path / "new.nir")
    for place, value in wanted.items():
        assert np.array_equal(new[place], value)
        assert getattr(new[place], "dtype", None) == getattr(value, "dtype", None) or np.ndim(value) == 0
    if rule != "name-slash":
        assert set(new) == set(sound)
        others = set(sound) - set(wanted)
        assert all(np.array_equal(new[place], sound[place]) for place in others)
    read(tmp_path / "new.nir")
    nir.read(tmp_path / "new.nir")


def test_every_rule_that_says_it_is_repaired_is_tested() -> None:
    assert {rule for rule, known in RULES.items() if known.repair} == {rule for rule, *_ in REPAIRS}


def test_many_faults_at_once_and_one_behind_the_other(tmp_path: Path) -> None:
    """A scalar, foreign byte order, behind a name with a slash, in a file with a batch axis."""
    swapped = put("fc2/weight", weight(3, 6).astype(">f4"))
    changes = [put("n1/tau", F(0.02)), swapped, slash, put("input/shape", [1, 4]), drop("version")]
    old = written(tmp_path, "dense", *changes, drop("n2/v_reset"), edges(("n1", "fc2")))
    done = repair(old, tmp_path / "new.nir")
    assert {d.rule for d in done.deeds} == {
        "scalar-parameter",
        "dtype",
        "name-slash",
        "batch-axis",
        "version",
        "v-reset-missing",
        "edge-duplicate",
    }
    assert done.after.ok
    assert not [f for f in done.after.findings if f.fixable]
    graph = read(tmp_path / "new.nir")
    assert "a.fc1" in graph
    assert graph["n1"].tau.shape == (6,)


def test_what_has_no_single_answer_stays(tmp_path: Path) -> None:
    changes = [put("n1/tau", full(6, -0.02)), edges(("n1", "gone")), put("fc2/weight", weight(3, 5)), drop("version")]
    old = written(tmp_path, "dense", *changes)
    done = repair(old, tmp_path / "new.nir")
    assert [d.rule for d in done.deeds] == ["version"]
    assert not done.after.ok
    wanted = {("tau", "n1"), ("edge-dangling", "n1 -> gone"), ("shape-mismatch", "n1 -> fc2")}
    assert named([f for f in done.after.findings if f.severity == "fault"]) == wanted


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    old = written(tmp_path, "dense", drop("version"))
    os.link(old, tmp_path / "linked.nir")
    (tmp_path / "there.nir").write_text("mine")
    (tmp_path / "dangling.nir").symlink_to(tmp_path / "nowhere")
    for name, what in (
        ("net.nir", "is the file that is to be repaired"),
        ("linked.nir", "is the file that is to be repaired"),
        ("there.nir", "exists already"),
        ("dangling.nir", "exists already"),
    ):
        with pytest.raises(CompileError) as caught:
            repair(old, tmp_path / name)
        assert caught.value.violations[0].what == what
    assert (tmp_path / "there.nir").read_text() == "mine"
    with pytest.raises(CompileError, match="cannot be written"):
        repair(old, tmp_path / "no" / "new.nir")
    with pytest.raises(CompileError, match="is no HDF5 file"):
        repair(tmp_path / "there.nir", tmp_path / "new.nir")
    assert not (tmp_path / "new.nir").exists()


def test_a_sound_file_is_copied(tmp_path: Path) -> None:
    for base in BASES:
        old = written(tmp_path, base, name=f"{base}.nir")
        done = repair(old, tmp_path / f"{base}-new.nir")
        assert done.deeds == ()
        assert content(tmp_path / f"{base}-new.nir").keys() == content(old).keys()


def test_metadata_of_others_is_kept(tmp_path: Path) -> None:
    def note(file: Any) -> None:
        file["node"].create_group("metadata")["author"] = "somebody"
        file.attrs["made"] = 3

    old = written(tmp_path, "dense", both(note, drop("version")))
    repair(old, tmp_path / "new.nir")
    with h5py.File(tmp_path / "new.nir") as file:
        assert file["node/metadata/author"][()] == b"somebody"
        assert file.attrs["made"] == 3
