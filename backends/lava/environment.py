"""Lava's own Python: where it is, how it is made on request, and how a script runs in it.

Lava 0.10.0, the last one (its repositories are archived since May 2026), runs with Python 3.10 only: the dataclasses of
3.11 refuse its code. So it lives in an environment of its own, and snnir runs it as a process. Nothing is installed
unless `set_up` is called.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from snnir.errors import CompileError, SnnirError, Violation

REQUIREMENT = "lava-nc==0.10.0"
PACKAGE, VERSION = REQUIREMENT.split("==")
NEEDED = (3, 10)
VARIABLE = "SNNIR_LAVA_PYTHON"

_DONE, _UNDONE = "snnir-lava.json", "snnir-lava.unfinished"
_CHECK_SECONDS, _SETUP_SECONDS = 60, 1800
_IMPORTS = "import lava.magma.core.run_configs, lava.proc.lif.process, lava.proc.conv.process"
_SAYS_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
try:
    found = version("lava-nc")
except PackageNotFoundError:
    found = None
print(json.dumps({"python": sys.version.split()[0], "lava": found}))
"""
HINT = (
    "`snnir targets lava --setup` makes it, where there is a Python 3.10; "
    f"or name a Python 3.10 that has {REQUIREMENT} in {VARIABLE}"
)


class LavaError(SnnirError):
    """Lava, or a script that runs in its Python, failed or did not end in time."""


@dataclass(frozen=True)
class Found:
    """A Python for Lava. `python`: its path; `python_version`; `version` of lava-nc, None if it is not installed."""

    python: Path
    python_version: str
    version: str | None


def default_place() -> Path:
    """The folder of the environment unless another is named: `snnir/lava` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "snnir" / "lava"


def find() -> Path | None:
    """The Python that has Lava: the one in SNNIR_LAVA_PYTHON, or of the default place; None if there is neither.

    Raises:
        CompileError: SNNIR_LAVA_PYTHON names something that is no file.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            what = f"{VARIABLE} names {named}, which is no file"
            raise _refused("lava-python", what, expected=f"a Python 3.10 that has {REQUIREMENT}", hint=HINT)
        return Path(named)
    place = default_place()
    return python_of(place) if (place / _DONE).is_file() and python_of(place).is_file() else None


def needed() -> Path:
    """As `find`, but there must be one.

    Raises:
        CompileError: there is none, or SNNIR_LAVA_PYTHON names something that is no file.
    """
    python = find()
    if python is None:
        what = f"Lava's Python is neither in {VARIABLE} nor in {default_place()}"
        raise _refused("lava-missing", what, expected=f"a Python 3.10 that has {REQUIREMENT}", hint=HINT)
    return python


def inspect(python: Path) -> Found | None:
    """What is installed there, as that Python says itself; None if it does not run."""
    try:
        done = subprocess.run(
            [python, "-E", "-s", "-c", _SAYS_VERSIONS], capture_output=True, text=True, timeout=_CHECK_SECONDS
        )
        said = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return None if said is None else Found(python, said["python"], said["lava"])


def set_up(
    folder: Path | None = None, python: str | None = None, say: Callable[[str], None] = lambda text: None
) -> Found:
    """Makes the environment in `folder` (the default place) with `python` (any 3.10 that is found), or finds it made.

    `say` is told what is being done. What was begun and not finished is removed, also by the next call.

    Raises:
        CompileError: no Python 3.10 is found, `folder` holds something else, another process is at it, or an
            installation step fails.
    """
    place = Path(os.path.abspath(folder)) if folder is not None else default_place()
    there = inspect(python_of(place)) if (place / _DONE).is_file() else None
    if there is not None and there.version == VERSION:
        return there
    base = find_python(python)
    _clear(place)
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / _UNDONE).write_text(str(os.getpid()))
    except OSError as error:
        raise _refused("lava-setup", f"cannot be written: {error.strerror}", where=str(place)) from error
    try:
        say(f"making an environment of {base}")
        _step([str(base), "-m", "venv", str(place)], place)
        say(f"installing {REQUIREMENT}")
        pip = [str(python_of(place)), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", REQUIREMENT]
        _step(pip, place)
        _step([str(python_of(place)), "-c", _IMPORTS], place)
        made = inspect(python_of(place))
        if made is None or made.version != VERSION:
            raise _refused("lava-setup", f"{REQUIREMENT} was installed, but is not found there", where=str(place))
        (place / _DONE).write_text(json.dumps({"made of": str(base), PACKAGE: VERSION}) + "\n")
        (place / _UNDONE).unlink()
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return made


def find_python(named: str | None = None) -> Path:
    """A Python 3.10 that can make environments: `named` (a path or a command), or the first that is found.

    Looks at `python3.10` on PATH, and at the versions of pyenv and uv.

    Raises:
        CompileError: there is none; says where it was looked for and what was there.
    """
    tried: list[str] = []
    for candidate in [named] if named is not None else _candidates():
        path = shutil.which(candidate)
        fault = "is not there" if path is None else _unfit(path)
        if path is not None and fault is None:
            return Path(path)
        tried.append(f"{candidate} {fault}")
    if named is not None:
        raise _refused("lava-python", tried[0], where="--python", expected="Python 3.10, with venv and pip")
    looked = f"python3.10 on PATH, {_pyenv() / 'versions'}, {_uv()}"
    raise _refused(
        "lava-python",
        "Lava needs Python 3.10, and none is found" + (f": {'; '.join(tried)}" if tried else ""),
        expected=f"one of {looked}; or a path with --python",
        hint="get one with `pyenv install 3.10`, `uv python install 3.10` or your system's packages (python3.10-venv)",
    )


def run_script(
    script: Path,
    arguments: Sequence[str] = (),
    *,
    seconds: float,
    python: Path | None = None,
    folder: Path | None = None,
) -> str:
    """What `script` prints, run with `arguments` in Lava's Python (`needed()` unless `python` says it) in `folder`.

    Lava runs one process per process model and, when one of them fails, may wait for ever; so there is a limit, and all
    of them end with it.

    Raises:
        CompileError: there is no Lava.
        LavaError: the script failed, or did not end within `seconds`.
    """
    command = [str(python or needed()), "-E", "-s", str(script), *arguments]
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    except OSError as error:
        raise LavaError(f"Lava's Python, {command[0]}, does not run: {error.strerror}") from error
    try:
        out, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        _, said = process.communicate()
        raise LavaError(f"{script} in Lava's Python did not end within {seconds:g} s{_last_words(said)}") from None
    finally:
        _end(process)
    if process.returncode:
        raise LavaError(f"{script} failed in Lava's Python (status {process.returncode}){_last_words(said)}")
    return out


@dataclass(frozen=True)
class LavaEnvironment:
    """The above as the command line takes it (`snnir.target.Environment`)."""

    def state(self) -> dict[str, str | None]:
        """The Python, Lava's version there, and both in a sentence."""
        try:
            python = find()
        except CompileError as error:
            return {"python": os.environ.get(VARIABLE), "version": None, "says": f"{error.violations[0].what}. {HINT}"}
        if python is None:
            return {"python": None, "version": None, "says": f"Lava itself is not set up here. {HINT}"}
        found = inspect(python)
        if found is None or found.version is None:
            what = "does not run" if found is None else f"has no {PACKAGE}"
            return {"python": str(python), "version": None, "says": f"Lava's Python, {python}, {what}. {HINT}"}
        where = f"in {python} (Python {found.python_version})"
        other = "" if found.version == VERSION else f"; snnir is tested with {VERSION}"
        return {"python": str(python), "version": found.version, "says": f"Lava {found.version} is {where}{other}"}

    def set_up(self, folder: str | None, python: str | None, say: Callable[[str], None]) -> None:
        """As the function of that name; then says how it is found."""
        made = set_up(Path(folder) if folder else None, python, say)
        say(f"Lava {made.version} is set up: {made.python} (Python {made.python_version})")
        named = os.environ.get(VARIABLE)
        if named and Path(named) != made.python:
            say(f"{VARIABLE} names another one: {named}")
        elif not named and made.python != python_of(default_place()):
            say(f"to use it: export {VARIABLE}={made.python}")


ENVIRONMENT = LavaEnvironment()


def python_of(place: Path) -> Path:
    """The Python of an environment."""
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _candidates() -> Iterator[str]:
    if shutil.which("python3.10"):
        yield "python3.10"
    for versions, pattern in ((_pyenv() / "versions", "3.10*"), (_uv(), "cpython-3.10*")):
        for version in sorted(versions.glob(pattern), key=lambda path: (len(path.name), path.name), reverse=True):
            yield str(python_of(version))


def _pyenv() -> Path:
    root = os.environ.get("PYENV_ROOT")
    return Path(root) if root else Path.home() / ".pyenv"


def _uv() -> Path:
    folder = os.environ.get("UV_PYTHON_INSTALL_DIR")
    data = os.environ.get("XDG_DATA_HOME")
    return Path(folder) if folder else (Path(data) if data else Path.home() / ".local/share") / "uv" / "python"


def _unfit(python: str) -> str | None:
    """Why this Python cannot make the environment (a shim of pyenv may stand for no version at all)."""
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-E", "-s", "-c", code], capture_output=True, text=True, timeout=_CHECK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return "does not run"
    if done.returncode:
        missing = "No module named" in done.stderr
        return "has no venv or ensurepip (Debian: package python3.10-venv)" if missing else "does not run"
    version = tuple(map(int, done.stdout.split()))
    return None if version == NEEDED else f"is Python {'.'.join(map(str, version))}"


def _clear(place: Path) -> None:
    """Removes what an earlier setup left there, if it is one's own."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    ours = (place / _DONE).is_file() or (place / _UNDONE).is_file()
    if not ours:
        what = "is there already, and no environment that this command made"
        raise _refused("lava-setup", what, where=str(place), expected="an empty or a new folder")
    with suppress(OSError, ValueError):
        pid = int((place / _UNDONE).read_text())
        if pid != os.getpid() and _alive(pid):
            raise _refused("lava-setup", f"another process ({pid}) is setting it up", where=str(place))
    shutil.rmtree(place)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _step(command: list[str], place: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    shown = " ".join(command)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SETUP_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        what = f"`{shown}` did not end within {_SETUP_SECONDS} s"
    except OSError as error:
        what = f"`{shown}` does not run: {error.strerror}"
    else:
        if not done.returncode:
            return
        what = f"`{shown}` failed{_last_words(done.stderr or done.stdout)}"
    raise _refused("lava-setup", what, where=str(place), hint="what was begun is removed; try again, or use --python")


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a process and all that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()


def _last_words(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()][-12:]
    return "".join(f"\n  {line}" for line in lines)


def _refused(rule: str, what: str, **fields: str) -> CompileError:
    return CompileError([Violation(rule, what, **fields)], title="Lava cannot be used here")
