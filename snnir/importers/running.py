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
        merged: op that leads out of a subgraph -> what went in and came out of the one module built for the subgraph;
            members: the same op -> all ops of the subgraph.
    """

    output: Array
    parts: int = 1
    order: tuple[str, ...] = ()
    x: dict[str, list[Array]] = field(default_factory=dict)
    y: dict[str, list[Array]] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    merged: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, steps: int, samples: Array) -> Recording:
        """The same run, its first steps and some samples only."""
        x, y = (
            {name: [v[:steps, samples] for v in values] for name, values in side.items()} for side in (self.x, self.y)
        )
        merged = {name: (a[:steps, samples], b[:steps, samples]) for name, (a, b) in self.merged.items()}
        return replace(self, output=self.output[:steps, samples], x=x, y=y, merged=merged)


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
    merged = merged_of(model, graph, set(inner) - set(modules))
    hooked = {**modules, **{name: module for name, (module, _) in merged.items()}}
    handles = [m.register_forward_hook(_hook(calls, name)) for name, m in hooked.items()]
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
    within = {n for _, ops in merged.values() for n in ops}
    lost = tuple(n for n in inner if n not in modules and n not in within)
    called = {name for step in steps for name, _, _ in step}
    found = Recording(output, parts, lost=lost, idle=tuple(n for n in modules if n not in called))
    _sort(found, steps, importer.whole)
    for name in [n for n in merged if n in found.y]:
        found.merged[name] = (found.x.pop(name)[-1], found.y.pop(name)[-1])
        found.members[name] = merged[name][1]
    found.order = tuple(n for n in found.order if n not in found.merged)
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
    """The module of each op, where there is one: at the top, or within a subgraph of the file or of the importer's."""
    found: dict[str, Any] = {}
    for name, op in graph.ops.items():
        if isinstance(op, (Input, Output)):
            continue
        module = _module(model, name)
        if module is not None:
            found[name] = module
    return found


def _module(owner: Any, name: str) -> Any:
    """The module called `name` (dots become underscores), or a.b the module b of the subgraph a; None without one."""
    top = owner._modules
    spelt = name.replace(".", "_")
    module = top.get(f"nir_node_{spelt}" if keyword.iskeyword(spelt) else spelt)
    if module is not None and not _holds_others(module):
        return module
    parts = name.split(".")
    for k in range(1, len(parts)):  # a subgraph of the file
        inner = top.get("_".join(parts[:k]))
        if inner is not None and _holds_others(inner):
            return _module(inner, ".".join(parts[k:]))
    groups = [module] if module is not None else [m for m in top.values() if _holds_others(m)]
    for group in groups:  # a subgraph that the importer made, of ops under their own names
        if spelt in group._modules:
            return group._modules[spelt]
    return None


def merged_of(model: Any, graph: Graph, names: set[str]) -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Subgraphs of the file that stand as one module: the op that leads out -> the module, and all ops within."""
    found: dict[str, tuple[Any, tuple[str, ...]]] = {}
    for prefix in dict.fromkeys(n.rpartition(".")[0] for n in graph.ops if n in names and "." in n):
        module = model._modules.get(prefix.replace(".", "_"))
        ops = tuple(n for n in graph.ops if n.startswith(f"{prefix}."))
        out = [n for n in ops if any(e.target not in ops for e in graph.outgoing[n])]
        if module is not None and not _holds_others(module) and len(out) == 1 and set(ops) <= names:
            found[out[0]] = (module, ops)
    return found


def _holds_others(module: Any) -> bool:
    """Whether a module is a subgraph."""
    return type(module).__name__ in ("GraphModule", "GraphExecutor") or type(module).__name__.startswith("GraphModule")


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
    merged = {
        name: (np.stack([r.merged[name][0] for r in runs], axis=1), np.stack([r.merged[name][1] for r in runs], axis=1))
        for name in first.merged
    }
    sides = joined("x"), joined("y")
    return Recording(output, first.parts, first.order, *sides, first.lost, first.idle, merged, first.members)
