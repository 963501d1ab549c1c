"""The scripts beside a compiled network take any names, and say in a sentence which input or output does not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snnir import npz_files
from snnir.backends.lava.environment import find
from tests.cli.kit import said
from tests.run_script_kit import Folders, arguments, compiled, given, run, script

TARGETS = ("torch", "snntorch", "onnx", "lava", "xylo-audio3", "placed")  # run.py is the same for the torch family


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("made"))


@pytest.mark.oracle
@pytest.mark.parametrize("target", TARGETS)
def test_any_names_go_in_and_out(target: str, folders: Folders, tmp_path: Path) -> None:
    x = given()
    npz_files.write(tmp_path / "in.npz", x)
    done = run(folders[target], *arguments(target, tmp_path / "in.npz", tmp_path / "out"), script=script(target))
    assert done.returncode == 0, done.stderr
    got = npz_files.read(tmp_path / "out.npz")
    want = compiled(target).run(x)
    assert sorted(got) == ["allow_pickle", "help"]
    for name, values in got.items():
        assert np.any(values), name
        np.testing.assert_allclose(values, want[name], atol=1e-5, err_msg=name)
    if target == "onnx":
        done = run(folders[target], tmp_path / "in.npz", tmp_path / "steps.npz", "--steps")
        assert done.returncode == 0, done.stderr
        stepped = npz_files.read(tmp_path / "steps.npz")
        assert all(np.array_equal(stepped[name], got[name]) for name in got)


@pytest.mark.oracle
@pytest.mark.skipif(find() is None, reason="no Lava here (make lava): names do not go through it")
def test_any_names_go_through_lava_itself(folders: Folders, tmp_path: Path) -> None:
    npz_files.write(tmp_path / "in.npz", given())
    options = [tmp_path / "in.npz", "-o", tmp_path / "out.npz", "--traces", tmp_path / "traces.npz"]
    done = run(folders["lava"], *options, python=str(find()))
    assert done.returncode == 0, done.stderr
    assert run(folders["lava"], tmp_path / "in.npz", "-o", tmp_path / "want.npz", script="simulate.py").returncode == 0
    got, want = (npz_files.read(tmp_path / name) for name in ("out.npz", "want.npz"))
    assert all(np.array_equal(got[name], want[name]) and want[name].any() for name in ("allow_pickle", "help"))
    assert sorted(npz_files.read(tmp_path / "traces.npz")) == ["spikes.args", "spikes.structure"]


BAD = {
    "missing name": ({"other": np.zeros((5, 1, 4)), "steps": np.zeros((5, 1, 4))}, "no array for input 'file'"),
    "other shape": (given(file=np.zeros((30, 2, 5))), "input 'file' has shape (30, 2, 5), expected (T, B, 4)"),
    "no axes": (given(file=np.zeros(())), "input 'file' has shape (), expected (T, B, 4)"),
    "no steps": (given(file=np.zeros((0, 2, 4)), steps=np.zeros((0, 2, 4))), "at least 1 step of 1 sample"),
    "other steps": (
        given(file=np.zeros((29, 2, 4))),
        "inputs differ in steps or samples: file 29 and 2, steps 30 and 2",
    ),
    "text": (given(file=np.full((30, 2, 4), "x")), "input 'file' holds <U1, expected real numbers"),
    "complex": (given(file=np.zeros((30, 2, 4), complex)), "input 'file' holds complex128, expected real numbers"),
    "no number": (given(file=np.full((30, 2, 4), np.nan)), "holds values that are not finite, the first in step 0 of"),
}


@pytest.mark.parametrize("target", ["torch", "onnx", "lava", "xylo-audio3", "placed"])
def test_input_that_does_not_fit_is_named(target: str, folders: Folders, tmp_path: Path) -> None:
    cases = {f"{what}.npz": wanted for what, (_, wanted) in BAD.items()}
    for what, (arrays, _) in BAD.items():
        npz_files.write(tmp_path / f"{what}.npz", arrays)
    whole = (tmp_path / "text.npz").read_bytes()
    for name, content, wanted in (
        ("cut.npz", whole[: len(whole) // 2], "is no .npz file, or not all of one"),
        ("empty.npz", b"", "is no .npz file"),
        ("other.npz", b"x,y\n1,2\n", "is no .npz file"),
        ("flipped.npz", flipped(tmp_path / "other shape.npz"), "is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        cases[name] = wanted
    np.savez(tmp_path / "objects.npz", steps=np.array([None]))
    cases |= {"objects.npz": "holds Python objects", "nowhere.npz": "does not exist"}
    (tmp_path / "folder.npz").mkdir()
    cases["folder.npz"] = "cannot be read"
    if target not in ("lava", "xylo-audio3"):  # which start sooner; all share the file that says it
        cases = {name: cases[name] for name in ("no number.npz", "cut.npz")}
    for name, wanted in cases.items():
        out = tmp_path / "out.npz"
        done = run(folders[target], *arguments(target, tmp_path / name, out), script=script(target))
        assert done.returncode == 1, name
        assert done.stderr.startswith(f"{tmp_path / name}: "), done.stderr
        assert wanted in done.stderr, (name, done.stderr)
        assert len(done.stderr.splitlines()) == 1
        assert not out.exists()


def flipped(path: Path) -> bytes:
    """A .npz with a bit of its data changed."""
    data = bytearray(path.read_bytes())
    data[80] ^= 16  # behind the first member's header of some 50 bytes
    return bytes(data)


@pytest.mark.parametrize("target", ["torch", "onnx", "lava", "xylo-audio3", "placed"])
def test_output_that_cannot_be_written_is_said(target: str, folders: Folders, tmp_path: Path) -> None:
    npz_files.write(tmp_path / "in.npz", given())
    (tmp_path / "taken.npz").mkdir()
    for out in (tmp_path / "no" / "folder" / "out.npz", tmp_path / "taken.npz"):
        done = run(folders[target], *arguments(target, tmp_path / "in.npz", out), script=script(target))
        assert done.returncode == 1
        assert done.stderr.startswith(f"{out}: cannot be written: "), done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_what_the_command_line_proposes_works_for_these_names(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npz_files.write(tmp_path / "in.npz", {"other": np.zeros((5, 1, 4)), "more": np.zeros((5, 1, 4))})
    status, _, error = said(capsys, "inspect", str(folders["xylo-audio3"]), "--input", str(tmp_path / "in.npz"))
    assert status == 1
    assert "snnir.npz_files.write('in.npz', {'file': ..., 'steps': ...})" in " ".join(error.split())


# -- the file itself ---------------------------------------------------------------------------------------------------


def test_names_that_end_like_files_come_back(tmp_path: Path) -> None:
    arrays = {"x": np.arange(3), "x.npy": np.arange(4), "a/b": np.ones((2, 2)), "": np.zeros(1)}
    npz_files.write(tmp_path / "a.npz", arrays)
    back = npz_files.read(tmp_path / "a.npz")
    assert {name: a.tolist() for name, a in back.items()} == {name: a.tolist() for name, a in arrays.items()}


def test_one_sample_and_one_array_of_any_name() -> None:
    x = np.ones((5, 4))
    assert npz_files.inputs({"a": x}, {"a": (4,)})["a"].shape == (5, 1, 4)
    assert npz_files.inputs({"b": x}, {"a": (4,)}, any_name=True)["a"].shape == (5, 1, 4)
    with pytest.raises(ValueError, match="no array for input 'a'; there are b"):
        npz_files.inputs({"b": x}, {"a": (4,)})
    with pytest.raises(ValueError, match=r"input 'a' has shape \(5, 4\).*; no array for input 'b'"):
        npz_files.inputs({"a": x}, {"a": (3,), "b": ()})
