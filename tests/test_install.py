"""What the commands that install packages say, and that what they name exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from snnir.cli import run
from snnir.errors import WITHOUT_REQUIREMENTS, MissingPackageError, install_command
from snnir.frontends.model_file import EXTRAS, load
from snnir.importers.table import IMPORTERS
from snnir.registry import backend, backend_names

ROOT = Path(__file__).parents[1]


def extras() -> dict[str, str]:
    """Extra -> its line in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    return dict(re.findall(r"^(\w+) = (\[.*?\])", text, re.MULTILINE | re.DOTALL))


def test_every_extra_that_a_message_names_exists() -> None:
    there = extras()
    targets = {backend(name).target.extra for name in backend_names()} - {None}
    assert targets | set(EXTRAS.values()) | set(IMPORTERS) <= set(there)
    assert "rockpool>=" in there["rockpool"]
    for name in WITHOUT_REQUIREMENTS:  # what they import, not they themselves
        assert f'"{name}' not in there[name]
        assert '"nirtorch' in there[name]


def test_versions_are_those_that_are_tested() -> None:
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "--no-deps" in line)
    assert dict(re.findall(r"(\w+)==([\d.]+)", line)) == WITHOUT_REQUIREMENTS


def test_commands_leave_pytorch_alone() -> None:
    assert install_command("torch") == "pip install 'snnir[torch]'"
    assert install_command("norse") == "pip install 'snnir[norse]' && pip install --no-deps norse==1.1.0"
    said = str(MissingPackageError("spikingjelly", "spikingjelly", "running a network for SpikingJelly"))
    assert said == (
        "running a network for SpikingJelly needs the package 'spikingjelly': "
        "pip install 'snnir[spikingjelly]' && pip install --no-deps spikingjelly==2.0.0"
    )


def test_targets_print_the_same_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("snnir.registry.installed", lambda target: target.name not in ("norse", "spikingjelly"))
    monkeypatch.setenv("COLUMNS", "60")
    assert run(["targets"]) == 0
    out = capsys.readouterr().out
    for name in ("norse", "spikingjelly"):
        assert f"\n  {install_command(name)}\n" in out  # in one line, however narrow the terminal
        assert run(["targets", name]) == 0
        assert f"missing: {install_command(name)})\n" in capsys.readouterr().out
    assert "snnir[torch]" not in out


def test_a_model_file_that_imports_a_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sinabs", None)
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text("import sinabs.layers\nmodel = None\n")
    with pytest.raises(MissingPackageError) as caught:
        load("model.py")
    assert str(caught.value) == f"model.py needs the package 'sinabs': {install_command('sinabs')}"
