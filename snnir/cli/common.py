"""What the commands share: arguments, options, and reading what they name."""

from __future__ import annotations

import math
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from snnir.graph import Graph
    from snnir.ops import Array

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
HELP_NAMES = {"help_option_names": ["-h", "--help"]}


@dataclass
class State:
    """What an error's message depends on."""

    debug: bool = False
    json: bool = False


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> Any:
        state = context.find_root().ensure_object(State)
        if value not in (False, "text"):
            setattr(state, name, True)
        return value

    return callback


def debug_option(command: Decorated) -> Decorated:
    """Adds --debug."""
    return click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_remember("debug"),
        help="Show Python tracebacks of errors (also: SNNIR_DEBUG=1).",
    )(command)


def format_option(command: Decorated) -> Decorated:
    """Adds --output-format."""
    return click.option(
        "--output-format",
        type=click.Choice(["text", "json"]),
        default="text",
        is_eager=True,
        callback=_remember("json"),
        help="How the result is written on stdout; the JSON is described in docs/cli.md.",
    )(command)


def source_argument(command: Decorated) -> Decorated:
    """Adds SRC."""
    return click.argument("source", metavar="SRC", callback=_existing, shell_complete=complete_file)(command)


def complete_file(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Lets the shell complete a file's name."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(typed, type="file")]


def complete_names(names: Callable[[], Iterable[str]]) -> Callable[..., list[CompletionItem]]:
    """Completes one of the names that `names` gives when it is asked."""

    def complete(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in names() if name.startswith(typed)]

    return complete


def _existing(context: click.Context, parameter: click.Parameter, value: str) -> str:
    file, colon, _ = value.rpartition(":")
    if not Path(value).exists() and not (colon and file and Path(file).exists()):
        raise click.BadParameter(f"no such file or folder: {value}", context, parameter)
    return value


def dt_option(command: Decorated) -> Decorated:
    """Adds --dt."""
    return click.option(
        "--dt",
        type=float,
        metavar="SECONDS",
        callback=_positive,
        help="Time step, where the source does not say it.",
    )(command)


def _positive(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise click.BadParameter(f"{value} is not a time in seconds above 0", context, parameter)
    return value


def passes_option(text: str) -> Callable[[Decorated], Decorated]:
    """Adds -p/--passes with this help."""
    return click.option("-p", "--passes", metavar="PIPELINE", help=text)


def npz_option(name: str, text: str) -> Callable[[Decorated], Decorated]:
    """Adds an option that names a file of arrays."""
    return click.option(name, type=click.Path(exists=True, dir_okay=False, readable=True), metavar="X.npz", help=text)


def targets_option(*names: str, text: str, required: bool = True) -> Callable[[Decorated], Decorated]:
    """Adds an option that takes targets, separated by commas or given several times; completed by the shell."""
    from click.shell_completion import CompletionItem

    def complete(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
        from snnir.registry import backend_names

        *done, last = typed.split(",")
        head = "".join(f"{name}," for name in done)
        return [CompletionItem(head + name) for name in backend_names() if name.startswith(last) and name not in done]

    return click.option(
        *names,
        "targets",
        required=required,
        multiple=True,
        metavar="T[,T]",
        callback=_targets,
        shell_complete=complete,
        help=text,
    )


def _targets(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from snnir.errors import there_are
    from snnir.registry import backend_names

    names = tuple(dict.fromkeys(name.strip() for item in value for name in item.split(",") if name.strip()))
    there = backend_names()
    if not value and not parameter.required:
        return ()
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        said = f"no target {', '.join(unknown)}" if unknown else "no target is named"
        raise click.BadParameter(said + there_are(unknown, there), context, parameter)
    return names


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Says on stderr what is going on, where somebody watches; what a model file prints goes there too."""
    import sys
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            yield
            return
        from snnir.cli.show import console

        with console(stderr=True).status(text):
            yield


_NAMED = {
    "preset": "Size of the model: build(preset=NAME).",
    "variant": "Form of the model, where it has several: build(variant=NAME).",
}


def source_option(command: Decorated) -> Decorated:
    """Adds --preset, --variant and -S/--model-option; the command gets all of them as the dict `source_options`."""

    def parse(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
        return dict(key_value(item, "-S") for item in values)

    @wraps(command)
    def merged(*args: Any, source_options: dict[str, Any], **others: Any) -> Any:
        named = {name: others.pop(name) for name in _NAMED}
        chosen = {name: value for name, value in named.items() if value is not None}
        for name, value in chosen.items():
            if (said := source_options.get(name, value)) != value:
                raise click.BadParameter(f"{value!r}, but -S says {name}={said}", param_hint=f"--{name}")
        return command(*args, source_options={**chosen, **source_options}, **others)

    with_options = click.option(
        "-S",
        "--model-option",
        "--source-option",
        "source_options",
        multiple=True,
        metavar="KEY=VALUE",
        callback=parse,
        help="Argument of the model file's build(): a number, true, false, none, a tuple or list of these, or text.",
    )(merged)
    for name, text in reversed(_NAMED.items()):
        with_options = click.option(f"--{name}", metavar="NAME", help=text)(with_options)
    return cast(Decorated, with_options)


def key_value(item: str, hint: str) -> tuple[str, Any]:
    """KEY=VALUE as a name and a number, true, false, none, a tuple or list, or text."""
    key, equals, text = item.partition("=")
    name = key.strip().replace("-", "_")
    if not equals or not name.isidentifier():
        raise click.BadParameter(f"{item!r} is not of the form KEY=VALUE", param_hint=hint)
    words = {"true": True, "false": False, "none": None}
    if text.strip().lower() in words:
        return name, words[text.strip().lower()]
    for kind in (int, float):
        try:
            return name, kind(text)
        except ValueError:
            continue
    if text.strip()[:1] in ("(", "["):
        try:
            return name, literal_eval(text.strip())
        except (ValueError, SyntaxError):
            raise click.BadParameter(f"{item!r}: the value is no tuple or list of literals", param_hint=hint) from None
    return name, text


def check_source_options(source: str, options: dict[str, Any]) -> None:
    """Makes sure that a source that is given options takes some."""
    if options and not source.rpartition(":")[0].endswith(".py") and not source.endswith((".py", ".onnx")):
        hint = f"--{next(iter(options))}" if len(options) == 1 and set(options) <= set(_NAMED) else "-S"
        raise click.BadParameter("only a model.py takes options", param_hint=hint)


def load_source(source: str, dt: float | None, options: dict[str, Any], passes: str | None = None) -> Graph:
    """The graph of a source, built with `options`, after `passes`."""
    from snnir.compiler import load

    check_source_options(source, options)
    with progress(f"reading {source}"):
        graph = load(source, dt=dt, **options)
    if passes:
        from snnir.pipeline import parse_pipeline, run_pipeline

        graph = run_pipeline(graph, parse_pipeline(passes))
    return graph


def read_arrays(path: str | None, graph: Graph) -> dict[str, Array] | None:
    """The arrays of a .npz (or .npy) file for the inputs of a graph, by name; None for no path.

    A file that holds one array serves a graph with one input, whatever its name. Arrays of other names are left alone,
    so that labels may lie beside them.

    Raises:
        CompileError: the file is no such file, or has no array for some input.
    """
    if path is None:
        return None
    from snnir.errors import fail
    from snnir.interpreter import as_inputs

    found = _arrays(path)
    if len(found) == len(graph.inputs) == 1:
        found = {graph.inputs[0]: next(iter(found.values()))}
    missing = [name for name in graph.inputs if name not in found]
    if missing:
        file, arrays = repr(Path(path).name), f"{{{', '.join(f'{n!r}: ...' for n in graph.inputs)}}}"
        own = {"file", "allow_pickle"} & set(graph.inputs)  # parameters of NumPy's function
        raise fail(
            "input-names",
            f"holds {', '.join(found) or 'no arrays'}, but not {', '.join(missing)}",
            where=path,
            expected=f"one array per input: {', '.join(graph.inputs)}",
            hint=f"snnir.npz_files.write({file}, {arrays})" if own else f"np.savez({file}, **{arrays})",
        )
    return as_inputs(graph, {name: found[name] for name in graph.inputs})


def _arrays(path: str) -> dict[str, Array]:
    import zipfile
    import zlib

    import numpy as np

    from snnir.errors import fail

    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded} if loaded.dtype.kind in "fiub" else _refuse(path, f"holds {loaded.dtype}")
        with loaded:
            return {name: array for name in loaded.files if (array := loaded[name]).dtype.kind in "fiub"}
    except (ValueError, EOFError, KeyError, OSError, zipfile.BadZipFile, zlib.error) as error:
        said = str(error).splitlines()[0] if str(error) else "it is empty"
        raise fail(
            "input-file",
            f"cannot be read as arrays: {said}",
            where=path,
            expected="a .npz file of numbers, (T, B, *shape) each",
        ) from error


def _refuse(path: str, what: str) -> Any:
    from snnir.errors import fail

    raise fail("input-file", what, where=path, expected="numbers, (T, B, *shape)")


def write_file(path: str, data: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        CompileError: it cannot be written.
    """
    import errno
    import os
    import tempfile

    from snnir.errors import fail

    place = Path(path)
    staging: str | None = None
    try:
        if place.exists() and not place.is_file():  # a pipe or a device is written as it is
            place.write_bytes(data)
            return
        handle, staging = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(staging, 0o666 & ~umask)
        os.replace(staging, place)
        staging = None
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else f"cannot be written: {error.strerror}"
        raise fail("output-unwritable", what, where=path) from error
    finally:
        if staging is not None and os.path.exists(staging):
            os.unlink(staging)


def places_of(place: tuple[str, ...], host: str | None) -> dict[str, Any]:
    """OP=chip|host, each as an entry."""
    if place and host is None:
        raise click.UsageError("--place needs --host")
    found: dict[str, Any] = {}
    for item in place:
        name, equals, side = item.rpartition("=")
        if not (name and equals and side in ("chip", "host")):
            raise click.BadParameter(f"{item!r}, expected OP=chip or OP=host", param_hint="--place")
        if found.setdefault(name, side) != side:
            raise click.BadParameter(f"{name} is sent to the chip and to the host", param_hint="--place")
    return found


def check_chips(chips: str | None) -> None:
    """Makes sure that --chips is a number or 'auto'."""
    if chips is None:
        return
    if chips != "auto" and not (chips.isascii() and chips.isdigit() and int(chips) > 0):
        raise click.BadParameter(f"{chips!r}, expected 'auto' or a number from 1 on", param_hint="--chips")
