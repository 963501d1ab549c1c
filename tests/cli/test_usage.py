"""The command line: how it starts, explains itself, and refuses wrong usage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import snnir
from tests.cli.kit import ROOT, said


def test_help_imports_nothing_heavy() -> None:
    """So it starts at once: `benchmarks/compile_time.py` has the time."""
    code = (
        "import sys; import snnir.cli; snnir.cli.run(['--help']);"
        "heavy = {'numpy', 'torch', 'networkx', 'h5py', 'rich', 'nir', 'safetensors'} & set(sys.modules);"
        "print(sorted(heavy), len(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy, modules = done.stderr.rsplit(" ", 1)
    assert heavy == "[]"
    assert int(modules) < 200
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


def test_wrong_usage_is_said_at_once_and_before_the_source_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "slow.py").write_text("raise AssertionError('the source is read')\n")
    status, out, err = said(capsys, "compile", "slow.py", "-t", "lava", "-o", "out", "-O", "cnv=matrix")
    assert (status, out) == (2, "")
    assert "lava has no option cnv (did you mean conv?)" in err
    several = ["-O", "cnv=matrix", "-O", "lava:period=0", "-O", "rockpool:bitshift=2", "-O", "novalue"]
    several += ["--dump-placement", "--place", "a=chip", "-p", "no-such-pass", "--print-after", "no-such"]
    status, _, err = said(capsys, "compile", "slow.py", "-t", "lava,rockpool,nir,fake-chip", "-o", " ", *several)
    assert status == 2
    lines = err.splitlines()
    start = lines.index("Error: 11 things are wrong with this call:")
    words = (
        "Invalid value for -O: 'novalue' is not of the form KEY=VALUE",
        "lava has no option cnv (did you mean conv?); its options: ",
        "period is 0, expected a whole number above 0",
        "rockpool has no option cnv; its options: bitshift",
        "bitshift is 2, expected true or false",
        "target nir has no option cnv; it takes none",
        "--place needs --host",
        "--dump-placement needs --host or --chips",
        "no pass 'no-such-pass'",
        "no pass 'no-such'",
        "Invalid value for -o: is empty",
    )
    assert len(lines[start + 1 :]) == len(words)
    for line, word in zip(lines[start + 1 :], words, strict=True):
        assert line.startswith(f"  {word}")
    for wrong in (
        ["-t", "lava", "--chips", "2"],
        ["-t", "lava", "--host", "onnx", "--chips", "2"],
        ["-t", "torch", "--host", "onnx"],
        ["-t", "xylo-imu", "--host", "onnx", "-O", "choose_dt=true"],
    ):
        status, _, err = said(capsys, "compile", "slow.py", "-o", "out", *wrong)
        assert (status, "the source is read" in err) == (2, False), wrong
    assert not (folder / "out").exists()


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
        ["compile", "net.nir", "-t", "nir", "-o", "out", "-p", "fuse-linear{max_growth=nan}"],
        ["compile", "net.nir", "-t", "nir", "-o", ""],
        ["inspect", ":name"],
        ["validate", "net.nir", "-t", "nir", "--seed", "-1"],
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
    assert "fault of snnir" not in err
    assert sorted(folder.iterdir()) == before
