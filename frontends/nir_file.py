"""Reads NIR: a `.nir` file, its content, or a live `nir.NIRGraph`, as a sound graph whose time step is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnir.errors import CompileError, UsageError, Violation, fail
from snnir.graph import Graph
from snnir.nir_io import from_nir, read
from snnir.nir_io.time_step import time_step_hint
from snnir.semantics import Semantics

if TYPE_CHECKING:
    import os


def load(
    source: str | os.PathLike[str] | bytes | Any,
    dt: float | None = None,
    semantics: Semantics | None = None,
    **options: Any,
) -> Graph:
    """The network in a NIR file.

    Args:
        source: path of the file, its content, or a live `nir.NIRGraph`.
        dt: the time step in seconds. NIR has no field for it: needed for files that snnir did not write, when the
            network has neurons or delays.
        semantics: what one step means; default what the file says, else NIR's forward Euler.
        options: none exist.

    Returns:
        A verified graph.

    Raises:
        CompileError: the file cannot be read or is not sound (every reason), or the time step is not known (rule
            `time-step`; the hint proposes the value that r and tau imply, if they imply one).
        UsageError: an option is given.
    """
    if options:
        raise UsageError(f"reading NIR takes no option {', '.join(options)}")
    graph = (
        read(source) if isinstance(source, (str, Path, bytes)) or hasattr(source, "__fspath__") else from_nir(source)
    )
    said = graph.semantics.dt
    if semantics is not None:
        graph = replace(graph, semantics=semantics.with_(dt=said if semantics.dt is None else semantics.dt))
    elif dt is not None and said is not None and dt != said:
        what = f"dt={dt:g} s is asked for, but the file says {said:g} s"
        hint = "leave dt out, or give semantics=... to change what the network means"
        raise fail("time-step", what, where=_name(source), hint=hint)
    if dt is not None:
        if not dt > 0:
            raise fail("time-step", f"dt is {dt} s", where=_name(source), expected="a positive time in seconds")
        graph = replace(graph, semantics=graph.semantics.with_(dt=dt))
    _need_time_step(graph, _name(source))
    return graph


def _need_time_step(graph: Graph, where: str) -> None:
    hint = time_step_hint(graph)
    if graph.semantics.dt is not None or not hint.needed_by:
        return
    names = ", ".join(hint.needed_by[:4]) + (", ..." if len(hint.needed_by) > 4 else "")
    fault = Violation(
        "time-step",
        f"nothing says its time step, but {len(hint.needed_by)} of its ops need it ({names})",
        where=where,
        expected="a time step in seconds: --dt, dt=...",
        hint=hint.text,
    )
    raise CompileError([fault], title="the time step is not known")


def _name(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) else type(source).__name__
