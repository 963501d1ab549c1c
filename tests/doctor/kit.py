"""Sound files as nir writes them, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from snnir.doctor import Finding, diagnose

Change = Callable[[Any], None]
DT = 1e-3
F = np.float32


def weight(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(0, 1, shape).astype(F)


def full(n: Any, value: float) -> Any:
    return np.full(n, value, F)


def lif(n: Any, tau: float = 0.02, dt: float = DT) -> Any:
    return nir.LIF(full(n, tau), full(n, tau / dt), full(n, 0), full(n, 1), full(n, 0))


def cuba(n: Any) -> Any:
    gains = {"r": full(n, 20), "w_in": full(n, 10)}
    return nir.CubaLIF(full(n, 0.01), full(n, 0.02), v_leak=full(n, 0), v_threshold=full(n, 1), **gains)


def line(*nodes: tuple[str, Any]) -> Any:
    """A chain of named nodes."""
    names = [name for name, _ in nodes]
    return nir.NIRGraph(dict(nodes), list(pairwise(names)), type_check=False)


def ends(before: Any, after: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("input", nir.Input(np.array(before))), ("output", nir.Output(np.array(after)))


def dense() -> Any:
    first, last = ends([4], [3])
    fc1, fc2 = nir.Affine(weight(6, 4), weight(6)), nir.Affine(weight(3, 6), weight(3))
    return line(first, ("fc1", fc1), ("n1", lif(6)), ("fc2", fc2), ("n2", lif(3)), last)


def current() -> Any:
    first, last = ends([4], [3])
    li = nir.LI(full(3, 0.02), full(3, 20), full(3, 0))
    return line(
        first, ("fc1", nir.Linear(weight(6, 4))), ("n1", cuba(6)), ("fc2", nir.Linear(weight(3, 6))), ("li", li), last
    )


def image() -> Any:
    first, last = ends([2, 6, 6], [3])
    conv = nir.Conv2d((6, 6), weight(3, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1, weight(3))
    return line(
        first,
        ("conv", conv),
        ("n1", lif((3, 6, 6))),
        ("pool", nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))),
        ("flatten", nir.Flatten(np.array([3, 3, 3]), 0, -1)),
        ("fc", nir.Affine(weight(3, 27), weight(3))),
        ("n2", lif(3)),
        last,
    )


def delayed() -> Any:
    first, last = ends([4], [4])
    scale = nir.Scale(weight(4))
    return line(first, ("scale", scale), ("n1", lif(4)), ("delay", nir.Delay(full(4, 0.003))), ("n2", lif(4)), last)


def integrating() -> Any:
    first, last = ends([4], [4])
    return line(first, ("n1", nir.IF(full(4, 1 / DT), full(4, 1))), ("n2", nir.I(full(4, 1 / DT))), last)


def nested() -> Any:
    inside = nir.NIRGraph(
        {"input": nir.Input(np.array([4])), "fc": nir.Linear(weight(4, 4)), "output": nir.Output(np.array([4]))},
        [("input", "fc"), ("fc", "output")],
        type_check=False,
    )
    first, last = ends([4], [4])
    return line(first, ("block", inside), ("n1", lif(4)), last)


BASES: dict[str, Callable[[], Any]] = {
    "dense": dense,
    "current": current,
    "image": image,
    "delayed": delayed,
    "integrating": integrating,
    "nested": nested,
}


SOUND: dict[str, set[tuple[str, str]]] = {}


def written(folder: Path, base: str, *changes: Change, name: str = "net.nir") -> Path:
    """A file as nir.write makes it, after some changes to its HDF5 content."""
    path = folder / name
    nir.write(path, BASES[base]())
    with h5py.File(path, "r+") as file:
        for change in changes:
            change(file)
    return path


def put(where: str, value: Any, **how: Any) -> Change:
    def change(file: Any) -> None:
        nodes = file["node/nodes"]
        if where in nodes:
            del nodes[where]
        nodes.create_dataset(where, data=value, **how)

    return change


def drop(where: str) -> Change:
    def change(file: Any) -> None:
        del file[where if where in file else f"node/nodes/{where}"]

    return change


def scaled(where: str, factor: float) -> Change:
    def change(file: Any) -> None:
        put(where, (file["node/nodes"][where][()] * factor).astype(F))(file)

    return change


def edges(*pairs: tuple[str, str], without: tuple[tuple[str, str], ...] = (), at: str = "node") -> Change:
    def change(file: Any) -> None:
        there = [(a.decode(), b.decode()) for a, b in file[f"{at}/edges"][()]]
        del file[f"{at}/edges"]
        kept = [pair for pair in there if pair not in without]
        file[at].create_dataset("edges", data=[*kept, *pairs], dtype=h5py.string_dtype())

    return change


def node(name: str, made: Any) -> Change:
    """Adds a node as nir writes it."""

    def change(file: Any) -> None:
        group = file["node/nodes"].create_group(name)
        for key, value in made.to_dict().items():
            if key != "metadata":
                group[key] = value

    return change


def both(*changes: Change) -> Change:
    def change(file: Any) -> None:
        for one in changes:
            one(file)

    return change


def named(found: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.rule, finding.node) for finding in found}


def new_findings(path: Path, base: str, folder: Path) -> list[Finding]:
    """What the doctor says of a spoilt file and not of the sound one."""
    if base not in SOUND:
        SOUND[base] = named(diagnose(written(folder, base, name="sound.nir")))
    sound = SOUND[base]
    return [finding for finding in diagnose(path) if (finding.rule, finding.node) not in sound]
