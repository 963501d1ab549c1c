"""Errors on the command line: statuses, JSON, tracebacks only on request."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from snnir.cli import run
from snnir.registry import FILE_FRONTENDS
from tests.cli.kit import said


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
