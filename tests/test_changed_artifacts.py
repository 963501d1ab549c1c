"""A folder that is not as it was compiled: its scripts and the compiler say so; nothing is silently passed over."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import snnir
from snnir import npz_files
from snnir.errors import CompileError
from tests.cli.kit import said
from tests.run_script_kit import Folders, arguments, given, run, script


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("torch", "weights.safetensors"),
        ("onnx", "sequence.onnx"),
        ("lava", "network.npz"),
        ("xylo-audio3", "xylo.npz"),
        ("xylo-audio3", "xylo.json"),
    ],
)
def test_a_damaged_network_is_said(target: str, file: str, folders: Folders, tmp_path: Path) -> None:
    npz_files.write(tmp_path / "in.npz", given())
    folder = tmp_path / "copy"
    shutil.copytree(folders[target], folder)
    whole = (folder / file).read_bytes()
    for content in (whole[: len(whole) // 2], None) if target == "torch" else (whole[: len(whole) // 2], b"", None):
        (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
        done = run(folder, *arguments(target, tmp_path / "in.npz", tmp_path / "out.npz"), script=script(target))
        assert done.returncode == 1
        assert done.stderr.startswith(f"{folder / file}: "), done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out.npz").exists()


def test_weights_of_another_network_are_none_of_this_one(folders: Folders, tmp_path: Path) -> None:
    npz_files.write(tmp_path / "in.npz", given())
    folder = tmp_path / "copy"
    shutil.copytree(folders["torch"], folder)
    place = folder / "weights.safetensors"
    weights = load_file(place)
    name = next(n for n, w in weights.items() if w.shape == (6, 4))
    for changed, wanted in (
        ({name: weights[name][:, :3].copy()}, "size mismatch"),
        ({name: np.full_like(weights[name], np.nan)}, f"{name} holds values that are not finite"),
    ):
        save_file(weights | changed, place)
        done = run(folder, tmp_path / "in.npz", tmp_path / "out.npz")
        assert done.returncode == 1
        assert done.stderr.startswith(f"{place}: ")
        assert wanted in done.stderr
        assert "Traceback" not in done.stderr
    save_file(weights | {name: 2 * weights[name]}, place)  # trained, for instance
    assert run(folder, tmp_path / "in.npz", tmp_path / "out.npz").returncode == 0


def test_a_changed_part_of_a_placement_is_said(folders: Folders, tmp_path: Path) -> None:
    npz_files.write(tmp_path / "in.npz", given())
    for k, file in enumerate(("01-chip/xylo.npz", "02-host/sequence.onnx", "placement.json")):
        folder = tmp_path / f"copy{k}"
        shutil.copytree(folders["placed"], folder)
        file = (
            file
            if (folder / file).exists()
            else sorted(p.relative_to(folder).as_posix() for p in folder.rglob(Path(file).name))[0]
        )
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-20] + bytes(20))
        done = run(folder, tmp_path / "in.npz", "-o", tmp_path / "out.npz")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"not as it was compiled: {file}" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("onnx", "npz_files.py"),
        ("lava", "npz_files.py"),
        ("lava", "host.py"),
        ("lava", "loihi_simulator/__init__.py"),
        ("xylo-audio3", "npz_files.py"),
        ("xylo-audio3", "xylo_simulator/run.py"),
        ("placed", "npz_files.py"),
        ("placed", "lockstep.py"),
    ],
)
def test_a_missing_file_is_named(target: str, file: str, folders: Folders, tmp_path: Path) -> None:
    npz_files.write(tmp_path / "in.npz", given())
    folder = tmp_path / "copy"
    shutil.copytree(folders[target], folder, ignore=shutil.ignore_patterns("__pycache__"))
    place = folder / file
    if place.name == "__init__.py":  # the package
        shutil.rmtree(place.parent)
    else:
        place.unlink()
    done = run(folder, *arguments(target, tmp_path / "in.npz", tmp_path / "out.npz"), script=script(target))
    assert done.returncode == 1
    assert str(folder) in done.stderr
    assert file.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".") in done.stderr.replace("/", ".")
    assert len(done.stderr.splitlines()) == 1


# -- artifacts as sources ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["torch", "onnx", "xylo-audio3", "lava", "nir"])
def test_a_changed_artifact_is_no_source(target: str, folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(folders[target], folder)
    assert len(snnir.load(folder)) >= 8
    for file in ("README.md", "run.py", "input.npz"):  # nobody takes them for the network
        if (folder / file).exists():
            (folder / file).write_bytes(b"# mine")
    assert len(snnir.load(folder)) >= 8
    data = [p for p in sorted(folder.rglob("*")) if p.suffix in (".safetensors", ".onnx", ".npz", ".nir")]
    data = [p for p in data if p.name != "input.npz"]
    assert data
    for path in data:
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(CompileError, match=f"source-changed.*{path.relative_to(folder).as_posix()}: not as"):
            snnir.load(folder)
        path.write_bytes(before)
    assert len(snnir.load(folder)) >= 8


def test_trained_weights_in_an_artifact_are_not_passed_over(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the error says works: the graph alone, with those weights."""
    folder = tmp_path / "copy"
    shutil.copytree(folders["torch"], folder)
    place = folder / "weights.safetensors"
    weights = load_file(place)
    name = next(n for n, w in weights.items() if w.shape == (6, 4))
    save_file(weights | {name: 2 * weights[name]}, place)
    for command in (["inspect"], ["compile", "-t", "torch", "-o", str(tmp_path / "new")], ["validate", "-t", "torch"]):
        status, _, error = said(capsys, command[0], str(folder), *command[1:])
        assert status == 1
        assert "source-changed" in error
        assert "weights.safetensors: not as the network was compiled" in " ".join(error.split())
    assert not (tmp_path / "new").exists()
    alone = next(p for p in (folder / "graph", folder / "graph.nir") if p.exists())
    graph = snnir.load(alone).with_weights(load_file(place))
    assert any(np.array_equal(w, 2 * weights[name]) for w in graph.weights().values())
