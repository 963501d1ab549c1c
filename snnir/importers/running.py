"""Runs what an importer built, as its users would, and records what goes into and comes out of every node."""

from __future__ import annotations

import contextlib
import io
import keyword
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from snnir.graph import Graph
from snnir.importers.table import Importer
from snnir.ops import Array, Input, Output


@dataclass
class Recording:
    """A run of T steps.

    Attributes:
        output: what the network returned, (T, B, *shape); parts: how many values it returned in its place.
        order: the nodes called in a step, in order; one that is called twice stands twice.
        x, y: node -> per call of a step what went in and came out, (T, B, *shape).
        lost: nodes of the file that the importer built no module for; idle: built, but never called.
    """

    output: Array
    parts: int = 1
    order: tuple[str, ...] = ()
    x: dict[str, list[Array]] = field(default_factory=dict)
    y: dict[str, list[Array]] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def of(self, steps: int, samples: Array) -> Recording:
        """The same run, its first steps and some samples only."""
        x, y = (
            {name: [v[:steps, samples] for v in values] for name, values in side.items()} for side in (self.x, self.y)
        )
        return replace(self, output=self.output[:steps, samples], x=x, y=y)


class Crash(Exception):
    """The framework raised: `stage` 'import' or 'run', `error` type and message on one line."""

    def __init__(self, stage: str, error: BaseException) -> None:
        self.stage = stage
        text = " ".join(str(error).split())
        self.error = f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
        super().__init__(self.error)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what the frameworks print, log and warn of from the user's screen."""
    before = logging.root.manager.disable
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            try:
                yield
            finally:
                logging.disable(before)


def nir_file(graph: Graph) -> bytes:
    """The NIR file of a graph, as any reader of NIR gets it."""
    from snnir.nir_io import write

    return write(graph)


def build(importer: Importer, file: bytes, dt: float | None, batch: int) -> Any:
    """What the importer makes of a file's content: `nir.read`, then its own function.

    Raises:
        Crash: either of them raises.
    """
    import nir

    given = {"dt": dt, "batch_size": batch}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.nir"
        path.write_bytes(file)
        try:
            with quiet():
                return importer(nir.read(str(path)), given)
        except Exception as error:  # whatever a framework raises is its answer
            raise Crash("import", error) from error


def record(importer: Importer, model: Any, graph: Graph, x: Array) -> Recording:
    """Runs a built module on x (T, B, *shape), float32, from its first step on.

    Raises:
        Crash: the framework raises.
    """
    import torch

    modules = modules_of(model, graph)
    inner = [n for n, op in graph.ops.items() if not isinstance(op, (Input, Output))]
    calls: list[list[tuple[str, Array, Array]]] = [[]]
    handles = [m.register_forward_hook(_hook(calls, name)) for name, m in modules.items()]
    data = torch.from_numpy(np.ascontiguousarray(x, np.float32))
    try:
        with quiet(), torch.no_grad():
            output, parts = _whole(model, data) if importer.whole else _stepwise(model, data, calls)
    except Exception as error:
        raise Crash("run", error) from error
    finally:
        for handle in handles:
            handle.remove()
    steps = [step for step in calls if step]
    lost = tuple(n for n in inner if n not in modules)
    called = {name for step in steps for name, _, _ in step}
    found = Recording(output, parts, lost=lost, idle=tuple(n for n in modules if n not in called))
    _sort(found, steps, importer.whole)
    return found


def _stepwise(model: Any, data: Any, calls: list[Any]) -> tuple[Array, int]:
    state, outputs, parts = None, [], 1
    for value in data:
        calls.append([])
        given = model(value, state)
        if isinstance(given, tuple):
            *values, state = given
            parts = max(parts, len(values))
            given = values[0]
        outputs.append(given.detach().numpy())
    return np.stack(outputs).astype(np.float64), parts


def _whole(model: Any, data: Any) -> tuple[Array, int]:
    given = model(data.transpose(0, 1))
    values = given[0] if isinstance(given, tuple) else given
    return values.detach().transpose(0, 1).numpy().astype(np.float64), 1


def _hook(calls: list[list[tuple[str, Array, Array]]], name: str) -> Any:
    def hook(_: Any, arguments: tuple[Any, ...], given: Any) -> None:
        out = given[0] if isinstance(given, tuple) else given
        calls[-1].append((name, _plain(arguments[0]), _plain(out)))

    return hook


def _plain(tensor: Any) -> Array:
    return tensor.detach().numpy().astype(np.float64)


def _sort(found: Recording, steps: list[list[tuple[str, Array, Array]]], whole: bool) -> None:
    """Arrays over time of the calls; a network whose steps differ in their calls is left without them."""
    orders = {tuple(name for name, _, _ in step) for step in steps}
    if len(orders) != 1:
        return
    found.order = orders.pop()
    for k, name in enumerate(found.order):
        if whole:
            x, y = steps[0][k][1].swapaxes(0, 1), steps[0][k][2].swapaxes(0, 1)
        else:
            x, y = np.stack([step[k][1] for step in steps]), np.stack([step[k][2] for step in steps])
        found.x.setdefault(name, []).append(x)
        found.y.setdefault(name, []).append(y)


def modules_of(model: Any, graph: Graph) -> dict[str, Any]:
    """The module of each op, where there is one: at the top, or within a subgraph that the importer made."""
    from torch.fx import GraphModule

    top = dict(model._modules)
    groups = [m for m in top.values() if isinstance(m, GraphModule)]
    found: dict[str, Any] = {}
    for name, op in graph.ops.items():
        if isinstance(op, (Input, Output)):
            continue
        spelt = name.replace(".", "_")
        spelt = f"nir_node_{spelt}" if keyword.iskeyword(spelt) else spelt
        module = top.get(spelt)
        if module is None or isinstance(module, GraphModule):
            inner = [g._modules[spelt] for g in ([module] if module is not None else groups) if spelt in g._modules]
            module = inner[0] if inner else None
        if module is not None:
            found[name] = module
    return found


def attempt(importer: Importer, file: bytes, graph: Graph, dt: float | None, x: Array) -> Recording:
    """Imports and runs, from nothing.

    Raises:
        Crash: either fails.
    """
    return record(importer, build(importer, file, dt, x.shape[1]), graph, x)


def one_by_one(importer: Importer, file: bytes, graph: Graph, dt: float | None, x: Array) -> Recording:
    """As `attempt`, but every sample alone and without a batch axis: for networks that take none.

    Raises:
        Crash: some import or run fails.
    """
    runs = [record(importer, build(importer, file, dt, 1), graph, x[:, b]) for b in range(x.shape[1])]
    first = runs[0]

    def joined(side: str) -> dict[str, list[Array]]:
        return {
            name: [np.stack([getattr(r, side)[name][k] for r in runs], axis=1) for k in range(len(values))]
            for name, values in getattr(first, side).items()
        }

    output = np.stack([r.output for r in runs], axis=1)
    return Recording(output, first.parts, first.order, joined("x"), joined("y"), first.lost, first.idle)
