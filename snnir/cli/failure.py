"""From exceptions to messages and exit statuses: 1 findings, 2 usage, 3 a missing package, 130 Ctrl-C."""

from __future__ import annotations

import os
import sys
import traceback

import click

from snnir.cli.common import State
from snnir.errors import CompileError, MissingPackageError, SnnirError, UsageError

FINDINGS, USAGE, MISSING, INTERRUPTED = 1, 2, 3, 130


def explain(error: Exception, state: State) -> int:
    """Prints what an error means and returns the exit status."""
    if isinstance(error, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _discard_output()  # whoever read us has read enough
        return 0
    error = _without_package(error)
    status = status_of(error)
    try:
        if state.debug:
            traceback.print_exception(error)
        if state.json:
            from snnir.cli.show import print_json

            print_json("error", as_json(error, status))
        _print(error, state)
        finish_output()
    except OSError:
        _discard_output()
    return status


def _without_package(error: Exception) -> Exception:
    """An import that failed for want of a package that an extra of snnir installs says so; others stay as they are."""
    if not isinstance(error, ModuleNotFoundError):
        return error
    from snnir.frontends.model_file import EXTRAS

    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return error
    missing = MissingPackageError(package, EXTRAS[package], "what was asked for")
    missing.__cause__ = error
    return missing


def status_of(error: Exception) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, MissingPackageError):
        return MISSING
    if isinstance(error, (CompileError, OSError)):
        return FINDINGS
    return USAGE  # wrong usage; and what should never happen: nothing was found out about the network


def as_json(error: Exception, status: int) -> dict[str, object]:
    """An error as JSON data."""
    violations = [v.to_json() for v in error.violations] if isinstance(error, CompileError) else []
    return {"ok": False, "status": status, "message": _message(error), "violations": violations}


def finish_output() -> None:
    """Flushes stdout while an error can still be reported."""
    sys.stdout.flush()


def _print(error: Exception, state: State) -> None:
    if isinstance(error, click.UsageError):
        error.show()
    elif isinstance(error, CompileError):
        from snnir.cli.show import print_violations

        print_violations(error.title, [("", v) for v in error.violations])
    else:
        click.echo(f"error: {_message(error)}", err=True)
        if not state.debug and not isinstance(error, (SnnirError, click.ClickException, OSError)):
            click.echo("this is a fault of snnir, not of your network; --debug shows where it happened", err=True)


def _message(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, CompileError):
        return error.title
    if isinstance(error, OSError) and error.strerror:
        where = error.filename if error.filename is not None else "the output"
        return f"{where}: {error.strerror}"
    if isinstance(error, (UsageError, SnnirError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _discard_output() -> None:
    """Lets Python's own last flush of stdout go nowhere, so that it cannot fail a second time."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
