"""A `model.py`: the user's file is run, and what it defines becomes a graph.

The file gives `model` (an nn.Module, a `Graph` or an `nir.NIRGraph`) or `build(**options)` that returns one; with
`model.py:name` it is the variable, class or function `name`. Nothing here needs torch unless the file does.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from snnir.errors import CompileError, MissingPackageError, SnnirError, UsageError, Violation, fail
from snnir.graph import Graph
from snnir.ops import Loc
from snnir.semantics import Semantics

EXTRAS = {
    **{name: name for name in ("torch", "norse", "snntorch", "sinabs", "spikingjelly", "rockpool", "nir")},
    "xylosim": "xylo",
}
_TRACER_OPTIONS = ("input_shape", "example_input")
_numbers = count()


LARGE = 1 << 26  # bytes


def load(
    path: str | os.PathLike[str], dt: float | None = None, semantics: Semantics | None = None, **options: Any
) -> Graph:
    """Reads a Python file that defines a model.

    Args:
        path: `model.py`, or `model.py:name`.
        dt: time step in seconds, for models that do not say it.
        semantics: what a step means; default what the model says.
        options: `input_shape` and `example_input` go to the tracer (the file may also define `input_shape` beside the
            model), all others to `build` (or to the class or function `name`).

    Raises:
        CompileError: the file cannot be read or raises (with its line), holds no model (with what it does hold), or the
            model cannot become a graph.
        UsageError: options are given, but nothing takes them.
        MissingPackageError: the file imports a package that is not installed.
    """
    file, name = split(os.fspath(path))
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise fail(
            "model-file", what, where=str(file), expected="a Python file", hint="write model.py, or model.py:name"
        )
    tracing = {key: options.pop(key) for key in _TRACER_OPTIONS if key in options}
    with _importing(file) as namespace:
        _execute(file, namespace)
        value, bound = _find(file, namespace, name, options)
        if "input_shape" in vars(namespace) and not tracing and not hasattr(value, "input_shape"):
            tracing["input_shape"] = vars(namespace)["input_shape"]
        graph = _to_graph(value, dt, semantics, tracing, Loc(_short(file), _line_of(file, bound)))
    del value, namespace
    if sum(array.nbytes for array in graph.weights().values()) > LARGE:
        gc.collect()  # a traced module is part of cycles, and would stay as a second copy of the weights
    return graph


def split(path: str) -> tuple[Path, str]:
    """`model.py:name` -> the file and the name; the name is empty when there is none."""
    stem, colon, name = path.rpartition(":")
    return (Path(stem), name) if colon and stem.endswith(".py") else (Path(path), "")


@contextmanager
def _importing(file: Path) -> Iterator[ModuleType]:
    """A fresh module for the file, its folder in the import path; afterwards both are as before.

    Modules that the file imported from its own folder are forgotten again, so that two models with a `layers.py`
    each get their own.
    """
    name = f"_snnir_model_{next(_numbers)}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:
        raise fail("model-file", "is no Python file", where=str(file))
    namespace = importlib.util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    before = set(sys.modules)
    sys.modules[name] = namespace  # dataclasses and inspect look modules up by name
    sys.path.insert(0, folder)
    try:
        yield namespace
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
        for other in set(sys.modules) - before - {name}:
            place = getattr(sys.modules[other], "__file__", None) or ""
            if place.startswith(folder + os.sep) and "site-packages" not in place:
                del sys.modules[other]


def _execute(file: Path, namespace: ModuleType) -> None:
    try:
        source = file.read_bytes()
        code = compile(source, os.path.abspath(file), "exec")
    except SyntaxError as error:
        what = f"{type(error).__name__}: {error.msg}"
        raise fail("model-syntax", what, where=_short(file), loc=f"{_short(file)}:{error.lineno or 0}") from None
    except (OSError, ValueError) as error:
        raise fail("model-file", f"cannot be read: {error}", where=str(file)) from None
    with _blaming(file, "running the file"):
        exec(code, vars(namespace))


@contextmanager
def _blaming(file: Path, doing: str) -> Iterator[None]:
    """Exceptions of the user's code become CompileErrors with the line in their file."""
    try:
        yield
    except SnnirError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError):
            missing = (error.name or "").partition(".")[0]
            if missing in EXTRAS:
                raise MissingPackageError(missing, EXTRAS[missing], _short(file)) from None
        text = (str(error).strip().splitlines() or [""])[0]
        what = f"{doing} raises {type(error).__name__}" + (f": {text}" if text else "")
        place, deeper = _guilty_line(file, error)
        violation = Violation("model-raises", what, _short(file), place, hint=deeper)
        raise CompileError([violation], title="the model file cannot be loaded") from error


def _guilty_line(file: Path, error: BaseException) -> tuple[str, str]:
    """The innermost `file:line` in the model's folder, and the innermost of all where that is another one."""
    frames = traceback.extract_tb(error.__traceback__)
    folder = os.path.realpath(file.parent) + os.sep
    own = [f for f in frames if os.path.realpath(f.filename).startswith(folder) and "site-packages" not in f.filename]
    guilty, last = (own or frames)[-1], frames[-1]
    deeper = "" if guilty is last else f"raised by {last.name}() at {last.filename}:{last.lineno}"
    return f"{_short(Path(guilty.filename))}:{guilty.lineno}", deeper


def _find(file: Path, namespace: ModuleType, name: str, options: dict[str, Any]) -> tuple[Any, str]:
    """The model and the name it was found under."""
    there = vars(namespace)
    if name:
        if name not in there:
            raise _missing(file, there, f"defines no {name!r}")
        bound = name
    else:
        order = ("build", "model") if options else ("model", "build")
        bound = next((n for n in order if n in there), "")
        if not bound:
            raise _missing(file, there, "defines neither `model` nor `build`")
    value = there[bound]
    if is_network(value):
        if options:
            given = ", ".join(options)
            raise UsageError(f"{_short(file)}: options {given} are given, but {bound!r} is a model, not a function")
        return value, bound
    if not callable(value):
        raise _missing(file, there, f"{bound!r} is a {type(value).__name__}, not a model")
    _check_options(file, bound, value, options)
    with _blaming(file, f"{bound}({', '.join(f'{k}={v!r}' for k, v in options.items())})"):
        made = value(**options)
    if made is None:
        raise fail(
            "model-missing",
            f"{bound}() returns None",
            where=f"{_short(file)}:{_line_of(file, bound)}",
            expected="an nn.Module, Graph or nir.NIRGraph",
            hint=f"end {bound}() with `return model`",
        )
    if not is_network(made):
        raise _missing(file, there, f"{bound}() gives a {type(made).__name__}, not a model")
    return made, bound


def _check_options(file: Path, name: str, function: Any, options: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built in C: it will say so itself
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        takes = ", ".join(map(str, signature.parameters.values())) or "nothing"
        raise UsageError(f"{_short(file)}: {name}() takes {takes}: {error}") from None


def is_network(value: Any) -> bool:
    """Whether a value is a Graph, an nn.Module or an nir.NIRGraph (none of which is imported for asking)."""
    if isinstance(value, Graph):
        return True
    kinds = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(value).__mro__}
    return "torch.nn.modules.module.Module" in kinds or any(
        kind.startswith("nir.") and kind.endswith(".NIRGraph") for kind in kinds
    )


def _missing(file: Path, there: dict[str, Any], what: str) -> CompileError:
    """The error that lists what the file does define."""
    name = there.get("__name__", "")
    own = {k: v for k, v in there.items() if not k.startswith("_")}
    models = [k for k, v in own.items() if is_network(v)]
    makers = [
        k
        for k, v in own.items()
        if callable(v) and getattr(v, "__module__", "") == name and (inspect.isfunction(v) or inspect.isclass(v))
    ]
    shown = [f"{file.name}:{k}" for k in (*models, *makers)]
    hint = f"name one: {', '.join(shown)}" if shown else "define `model = ...` or `def build(**options): return ...`"
    return fail("model-missing", what, where=_short(file), expected="an nn.Module, Graph or nir.NIRGraph", hint=hint)


def _to_graph(value: Any, dt: float | None, semantics: Semantics | None, tracing: dict[str, Any], loc: Loc) -> Graph:
    if isinstance(value, Graph):
        return _with_time(value, dt, semantics)
    if type(value).__module__.partition(".")[0] == "nir":
        from snnir.frontends.nir_file import load as load_nir

        return load_nir(value, dt=dt, semantics=semantics)
    from snnir.frontends.rockpool import is_rockpool, load_rockpool

    if is_rockpool(value):
        return load_rockpool(value, dt=dt, semantics=semantics, **tracing)
    from snnir.frontends.torch_fx import load_module

    return load_module(value, dt=dt, semantics=semantics, loc=loc, **tracing)


def _with_time(graph: Graph, dt: float | None, semantics: Semantics | None) -> Graph:
    if semantics is not None:
        own = graph.semantics.dt if semantics.dt is None else semantics.dt
        graph = replace(graph, semantics=semantics.with_(dt=own))
    said = graph.semantics.dt
    if dt is None or dt == said:
        return graph
    if said is not None:
        what = f"dt={dt:g} s is asked for, but the graph says {said:g} s"
        raise fail("time-step", what, hint="leave dt out, or give semantics=... to change what the network means")
    return replace(graph, semantics=graph.semantics.with_(dt=dt))


def _line_of(file: Path, name: str) -> int:
    """The line that binds `name` at the top level of a file; 0 when there is none."""
    for node in ast.parse(file.read_bytes()).body:
        targets = [*getattr(node, "targets", []), getattr(node, "target", None)]
        names = {n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)}
        if name in names or getattr(node, "name", None) == name:
            return node.lineno
    return 0


def _short(file: Path) -> str:
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative
