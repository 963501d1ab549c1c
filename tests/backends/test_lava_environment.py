"""Finding, making and using the Python that Lava runs in; with Pythons of cardboard, so that nothing is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snnir.backends.lava.environment import (
    LavaError,
    default_place,
    find,
    find_python,
    inspect,
    needed,
    python_of,
    run_script,
    set_up,
)
from snnir.errors import CompileError
from tests.cli.kit import said

# A "Python 3.10" that makes environments of itself: what it answers depends on what it is asked for.
CARDBOARD = """#!{python}
import os, shutil, sys
from pathlib import Path
asked = sys.argv[1:]
if "-m" in asked and "venv" in asked:
    there = Path(asked[-1])
    (there / "bin").mkdir(parents=True)
    shutil.copy(__file__, there / "bin" / "python")
elif "pip" in asked:
    {pip}
    (Path(__file__).parent.parent / "lava").touch()
elif any("ensurepip" in a for a in asked):
    {answer}
elif any("importlib.metadata" in a for a in asked):
    has = (Path(__file__).parent.parent / "lava").exists()
    print('{{"python": "3.10.99", "lava": ' + ('"0.10.0"' if has else "null") + "}}")
elif any("import lava" in a for a in asked):
    {imports}
"""
Maker = Callable[..., Path]


@pytest.fixture
def cardboard(tmp_path: Path) -> Maker:
    def make(name: str, pip: str = "pass", answer: str = "print(3, 10)", imports: str = "pass") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CARDBOARD.format(python=sys.executable, pip=pip, answer=answer, imports=imports))
        path.chmod(0o755)
        return path

    return make


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing is found yet."""
    for name, value in {
        "PATH": "/usr/bin:/bin" if not Path("/usr/bin/python3.10").exists() else str(tmp_path / "empty"),
        "PYENV_ROOT": str(tmp_path / "pyenv"),
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "uv"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SNNIR_LAVA_PYTHON", raising=False)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(CompileError) as caught:
        call()
    return str(caught.value)


def test_set_up_once_and_for_all(tmp_path: Path, cardboard: Maker) -> None:
    base = cardboard("python3.10")
    heard: list[str] = []
    assert find() is None
    made = set_up(python=str(base), say=heard.append)
    assert (made.python, made.version, made.python_version) == (python_of(default_place()), "0.10.0", "3.10.99")
    assert default_place() == tmp_path / "cache/snnir/lava"
    assert heard == [f"making an environment of {base}", "installing lava-nc==0.10.0"]
    assert find() == needed() == made.python
    base.unlink()
    heard.clear()
    assert set_up(say=heard.append) == made  # nothing is needed for what is there
    assert heard == []


def test_a_folder_of_ones_own_and_its_name_in_the_variable(
    tmp_path: Path, cardboard: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set_up(tmp_path / "here", str(cardboard("python3.10")))
    assert made.python == tmp_path / "here/bin/python"
    assert find() is None
    monkeypatch.setenv("SNNIR_LAVA_PYTHON", str(made.python))
    assert find() == made.python
    monkeypatch.setenv("SNNIR_LAVA_PYTHON", str(tmp_path / "gone"))
    assert f"SNNIR_LAVA_PYTHON names {tmp_path / 'gone'}, which is no file" in refusal(find)


@pytest.mark.parametrize(
    ("fault", "said_of_it"),
    [
        ({"pip": "sys.exit('no route to the index')"}, "no route to the index"),
        ({"imports": "sys.exit('ImportError: lava')"}, "ImportError: lava"),
        ({"pip": "return_ = 1 / 0"}, "ZeroDivisionError"),
    ],
)
def test_what_is_half_made_is_removed(tmp_path: Path, cardboard: Maker, fault: dict[str, str], said_of_it: str) -> None:
    place = tmp_path / "env"
    text = refusal(lambda: set_up(place, str(cardboard("python3.10", **fault))))
    assert text.startswith(f"Lava cannot be used here:\n[lava-setup] {place}: `")
    assert said_of_it in text
    assert not place.exists()
    assert set_up(place, str(cardboard("python3.10"))).version == "0.10.0"


def test_an_interrupted_setup_leaves_nothing(tmp_path: Path, cardboard: Maker) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("installing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        set_up(tmp_path / "env", str(cardboard("python3.10")), interrupt)
    assert not (tmp_path / "env").exists()


def test_a_killed_setup_is_taken_up_a_running_one_is_not_and_other_folders_are_left_alone(
    tmp_path: Path, cardboard: Maker
) -> None:
    base, place = str(cardboard("python3.10")), tmp_path / "env"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (place / "lib").mkdir(parents=True)
    (place / "snnir-lava.unfinished").write_text(str(os.getppid()))
    assert f"another process ({os.getppid()}) is setting it up" in refusal(lambda: set_up(place, base))
    (place / "snnir-lava.unfinished").write_text(str(dead.pid))
    assert set_up(place, base).version == "0.10.0"
    assert not (place / "lib").exists()
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.tex").touch()
    assert "is there already, and no environment that this command made" in refusal(lambda: set_up(mine, base))
    assert [p.name for p in mine.iterdir()] == ["chapter1.tex"]


def test_a_python_is_found_in_the_versions_of_pyenv_and_uv(tmp_path: Path, cardboard: Maker) -> None:
    uv = cardboard("uv/cpython-3.10.4-linux/bin/python")
    assert find_python() == uv
    cardboard("pyenv/versions/3.10.9/bin/python")
    newest = cardboard("pyenv/versions/3.10.13/bin/python")
    cardboard("pyenv/versions/3.11.1/bin/python")
    assert find_python() == newest


def test_no_python_3_10_says_where_it_was_looked_for(
    tmp_path: Path, cardboard: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    cardboard("bin/python3.10", answer="sys.exit(127)")  # as pyenv's shim where that version is not chosen
    cardboard("pyenv/versions/3.10.13/bin/python", answer="import no_such_venv")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    text = refusal(find_python)
    assert "Lava needs Python 3.10, and none is found: python3.10 does not run; " in text
    assert "3.10.13/bin/python has no venv or ensurepip (Debian: package python3.10-venv)" in text
    assert f"python3.10 on PATH, {tmp_path / 'pyenv/versions'}, {tmp_path / 'uv'}; or a path with --python" in text
    assert "pyenv install 3.10" in text
    other = cardboard("python3.12", answer="print(3, 12)")
    assert f"--python: {other} is Python 3.12" in refusal(lambda: find_python(str(other)))
    assert "--python: no/such/python is not there" in refusal(lambda: find_python("no/such/python"))


def test_what_is_no_python_for_lava(tmp_path: Path, cardboard: Maker) -> None:
    assert inspect(tmp_path / "gone") is None
    plain = inspect(cardboard("plain/bin/python"))
    assert plain is not None
    assert plain.version is None
    text = refusal(needed)
    assert f"Lava's Python is neither in SNNIR_LAVA_PYTHON nor in {default_place()}" in text
    assert "snnir targets lava --setup" in text


def test_a_script_runs_fails_or_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    here = Path(sys.executable)
    script.write_text("import os, sys; print(sys.argv[1:], os.getcwd())")
    out = run_script(script, ["a", "b"], seconds=60, python=here, folder=tmp_path)
    assert out.strip() == f"['a', 'b'] {tmp_path}"
    script.write_text("raise ValueError('vth is a poem')")
    with pytest.raises(LavaError, match=r"(?s)script\.py failed in Lava's Python \(status 1\).*vth is a poem"):
        run_script(script, seconds=60, python=here)
    with pytest.raises(LavaError, match="does not run: No such file"):
        run_script(script, seconds=60, python=tmp_path / "gone")
    alive = tmp_path / "alive"
    child = f"import time, pathlib\nwhile True: pathlib.Path({str(alive)!r}).touch(); time.sleep(0.02)"
    script.write_text(
        f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "print('waiting', file=sys.stderr, flush=True)\ntime.sleep(60)"
    )
    with pytest.raises(LavaError, match=r"(?s)did not end within 5 s.*waiting"):
        run_script(script, seconds=5, python=here)
    time.sleep(0.2)
    alive.unlink()
    time.sleep(0.3)
    assert not alive.exists()


def test_the_command(
    tmp_path: Path, cardboard: Maker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = said(capsys, "targets", "lava")
    assert status == 0
    assert "Lava itself is not set up here. `snnir targets lava --setup` makes it" in " ".join(out.split())
    status, _, err = said(capsys, "targets", "lava", "--setup")
    assert status == 1
    assert "Lava needs Python 3.10, and none is found" in " ".join(err.split())
    base = str(cardboard("python3.10"))
    status, out, err = said(capsys, "targets", "lava", "--setup", str(tmp_path / "env"), "--python", base)
    assert (status, out) == (0, "")
    assert err.splitlines()[-1] == f"to use it: export SNNIR_LAVA_PYTHON={tmp_path / 'env/bin/python'}"
    status, out, _ = said(capsys, "targets", "lava", "--setup", "--python", base, "--output-format", "json")
    (lava,) = json.loads(out)["targets"]
    python = str(default_place() / "bin/python")
    says = f"Lava 0.10.0 is in {python} (Python 3.10.99)"
    assert lava["environment"] == {"python": python, "version": "0.10.0", "says": says}
    monkeypatch.setenv("SNNIR_LAVA_PYTHON", str(tmp_path / "gone"))
    status, out, _ = said(capsys, "targets", "lava", "--output-format", "json")
    assert json.loads(out)["targets"][0]["environment"]["says"].startswith("SNNIR_LAVA_PYTHON names")
    assert said(capsys, "targets", "torch", "--setup")[0] == 2
    assert said(capsys, "targets", "--setup")[0] == 2
    assert said(capsys, "targets", "lava", "--python", base)[0] == 2
