"""Runs the cases: on a target of snnir, or through the adapter of another library."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from snnir.conformance.judging import CaseVerdict, Score, crashed, judge, refused, scored
from snnir.conformance.suite import Case, cases
from snnir.errors import CompileError, UsageError
from snnir.ops import Array

Adapter = Callable[..., Any]
TIMEOUT = 60.0  # seconds that an adapter may take for a case


class Refused(Exception):
    """Raised by an adapter whose library cannot do a case and knows it; NotImplementedError serves too."""


class _TooLongError(BaseException):
    """An adapter's time is up. No Exception, so that nothing within the adapter takes it for its own."""


# -- targets of snnir ------------------------------------------------------------------------------------------------


def check_target(target: str, chosen: Sequence[Case] | None = None, allow: Sequence[str] = ()) -> Score:
    """What a target of snnir makes of the cases (default: all), each run by the target's own means, in float32.

    Raises:
        UsageError: an unknown target.
        MissingPackageError: the target's package is not installed.
    """
    from snnir.registry import backend

    backend(target)
    return scored(target, [_on_target(case, target, tuple(allow)) for case in (cases() if chosen is None else chosen)])


def _on_target(case: Case, target: str, allow: tuple[str, ...]) -> CaseVerdict:
    from snnir.compiler import compile, load
    from snnir.errors import MissingPackageError

    inputs = case.input_values()
    try:
        graph = load(case.path, semantics=case.semantics)
        result = compile(graph, target, calibrate=inputs, allow=allow)
        watched = tuple(name for name in case.populations if name in result.graph)
        outputs, recorded = result.run(inputs, record=watched)
    except CompileError as error:
        return refused(case, _reason(error))
    except MissingPackageError:
        raise
    except Exception as error:
        return crashed(case, error)
    by_name = outputs if isinstance(outputs, Mapping) else {graph.outputs[0]: outputs}
    stated: Mapping[str, int] = getattr(result.artifact, "lags", {})
    lags = {name: stated.get(name, result.latency if name in by_name else 0) for name in (*by_name, *recorded)}
    shapes = {**case.outputs, **{name: graph.shapes[name] for name in recorded}}
    traces = {
        name: np.asarray(value, np.float64).reshape(*value.shape[:2], *shapes[name])
        for name, value in {**recorded, **by_name}.items()
    }
    return judge(case, traces, lags, quantised=not result.in_floats)


def _reason(error: CompileError) -> str:
    first, more = error.violations[0], len(error.violations) - 1
    where = f"{first.where}: " if first.where else ""
    return f"[{first.rule}] {where}{first.what}" + (f" (and {more} more)" if more else "")


# -- other libraries -------------------------------------------------------------------------------------------------


def load_adapter(spec: str) -> Adapter:
    """The adapter that 'package.module:name' or 'file.py:name' names.

    Raises:
        UsageError: it is not of that form, cannot be imported, has no such name, or that is not callable.
    """
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"{spec!r} names no adapter; expected package.module:name or file.py:name")
    try:
        module = _module_of(place)
    except Exception as error:
        raise UsageError(f"cannot import {place}: {type(error).__name__}: {error}") from error
    adapter = module
    for part in name.split("."):
        if not hasattr(adapter, part):
            raise UsageError(f"{place} has no {name}; it has {_callables(module)}")
        adapter = getattr(adapter, part)
    if not callable(adapter):
        raise UsageError(f"{spec} is a {type(adapter).__name__}, expected a function(path, inputs, dt, semantics)")
    return adapter


def _module_of(place: str) -> Any:
    if not place.endswith(".py"):
        if "" not in sys.path:
            sys.path.insert(0, "")  # as `python -m` does: a module in the current folder is found
        return importlib.import_module(place)
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    sys.path.insert(0, str(path.parent.resolve()))  # so that it finds what lies beside it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _callables(module: Any) -> str:
    found = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    return ", ".join(found) if found else "nothing to call"


def check_adapter(
    adapter: Adapter, chosen: Sequence[Case] | None = None, subject: str = "", timeout: float = TIMEOUT
) -> Score:
    """What another library makes of the cases (default: all).

    Args:
        adapter: called as `adapter(path, inputs, dt, semantics)`: path (str) of a NIR file; inputs, node name -> (T, B,
            *shape) float32, state at rest before the first step; dt in seconds; semantics, a dict of what is not NIR's
            forward Euler (empty in the group 'core'). It returns output node name -> (T, B, *shape), or the array alone
            where there is one output; spikes of hidden nodes by name are compared too. It raises `Refused` or
            NotImplementedError where the library cannot do a case.
        subject: its name in the score.
        timeout: seconds for a case, after which it counts as crashed; 0 for none. It works in the main thread of
            systems that have alarms (not on Windows).

    Raises:
        UsageError: it gives something else; nothing can be said of a library through a broken adapter.
    """
    name = subject or getattr(adapter, "__qualname__", type(adapter).__name__)
    return scored(name, [_through(case, adapter, timeout) for case in (cases() if chosen is None else chosen)])


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises `_TooLongError` in what takes longer."""
    if not seconds or not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _through(case: Case, adapter: Adapter, timeout: float) -> CaseVerdict:
    try:
        with _at_most(timeout):
            given = adapter(str(case.path), case.input_values(), case.dt, case.deviations)
    except (Refused, NotImplementedError) as error:
        return refused(case, str(error).strip().partition("\n")[0] or "no reason given")
    except _TooLongError:
        return crashed(case, TimeoutError(f"no answer after {timeout:g} s"))
    except Exception as error:
        # Raised by the call itself, not within the adapter: it takes other arguments.
        if isinstance(error, TypeError) and error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise UsageError(f"the adapter cannot be called as adapter(path, inputs, dt, semantics): {error}") from None
        return crashed(case, error)
    traces = _traces(case, given)
    for output, shape in case.outputs.items():
        wanted, there = (case.steps, case.batch, *shape), traces[output].shape
        if there != wanted:
            swapped = (case.batch, case.steps, *shape) == there
            hint = ": steps and batch are swapped; the adapter must give (T, B, ...)" if swapped else ""
            if swapped:
                raise UsageError(f"case {case.name}: the adapter gives {output} as {list(there)}{hint}")
            reason = f"{output} has shape {list(there)}, expected {list(wanted)}"
            return CaseVerdict(case.name, case.group, "wrong", reason, differing=int(np.prod(wanted)))
    return judge(case, traces)


def _traces(case: Case, given: Any) -> dict[str, Array]:
    """What an adapter gave, as arrays by name.

    Raises:
        UsageError: it is no dict of numbers with all outputs.
    """
    where = f"case {case.name}: the adapter"
    if not isinstance(given, Mapping):
        if len(case.outputs) > 1 or not hasattr(given, "shape"):
            expected = f"a dict with {', '.join(case.outputs)}"
            raise UsageError(f"{where} gives a {type(given).__name__}, expected {expected}")
        given = {next(iter(case.outputs)): given}
    missing = [name for name in case.outputs if name not in given]
    if missing:
        there = ", ".join(map(str, given)) or "nothing"
        raise UsageError(f"{where} gives {there}, but not {', '.join(missing)}")
    known = {**case.population_spikes(), **case.expected()}
    arrays: dict[str, Array] = {}
    for name in (n for n in given if n in known):
        value = given[name]
        value = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
        if value.dtype.kind not in "fiub":
            raise UsageError(f"{where} gives {name} as {value.dtype}, expected numbers")
        if name in case.outputs or value.shape == known[name].shape:
            arrays[name] = value.astype(np.float64)
        else:
            expected = f"{list(known[name].shape)} (leave it out if it is not known)"
            raise UsageError(f"{where} gives {name} as {list(value.shape)}, expected {expected}")
    return arrays
