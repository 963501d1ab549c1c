"""Two tables: what can be read, and what can be compiled for. Modules are imported when an entry is used.

Other packages add targets through the entry point group `snnir.backends` (name -> a `snnir.target.Backend`) and
readers through `snnir.frontends` (file suffix without the dot -> `load(path, dt, semantics, **options) -> Graph`). A
name that exists already is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from snnir.errors import UsageError, there_are

if TYPE_CHECKING:
    from snnir.graph import Graph
    from snnir.target import Backend, Environment, Target

BACKENDS: dict[str, str] = {
    "torch": "snnir.backends.torch:TORCH",
    "norse": "snnir.backends.norse:NORSE",
    "snntorch": "snnir.backends.snntorch:SNNTORCH",
    "rockpool": "snnir.backends.rockpool:ROCKPOOL",
    "sinabs": "snnir.backends.sinabs:SINABS",
    "spikingjelly": "snnir.backends.spikingjelly:SPIKINGJELLY",
    "nir": "snnir.backends.nir:NIR",
    "onnx": "snnir.backends.onnx:ONNX",
    "lava": "snnir.backends.lava:LAVA",
    "xylo-audio2": "snnir.backends.xylo:XYLO_AUDIO2",
    "xylo-audio3": "snnir.backends.xylo:XYLO_AUDIO3",
    "xylo-imu": "snnir.backends.xylo:XYLO_IMU",
}

# Targets whose framework needs a Python of its own: it is run there as a process, and made on request.
ENVIRONMENTS: dict[str, str] = {"lava": "snnir.backends.lava.environment:ENVIRONMENT"}

FILE_FRONTENDS: dict[str, str] = {
    "nir": "snnir.frontends.nir_file:load",
    "onnx": "snnir.frontends.onnx:load",
    "py": "snnir.frontends.model_file:load",
}


def backend_names() -> tuple[str, ...]:
    """All target names, ours first."""
    return (*BACKENDS, *_foreign("snnir.backends"))


def backend(name: str) -> Backend:
    """The backend of a target.

    Raises:
        UsageError: no target has that name.
    """
    if name in BACKENDS:
        return _attribute(BACKENDS[name])
    foreign = _foreign("snnir.backends")
    if name in foreign:
        return foreign[name].load()
    raise UsageError(f"no target {name!r}{there_are([name], backend_names())}")


def environment(name: str) -> Environment | None:
    """The environment that a target's framework needs of its own; None if it needs none."""
    return _attribute(ENVIRONMENTS[name]) if name in ENVIRONMENTS else None


def file_frontend(suffix: str) -> Callable[..., Graph]:
    """The reader of files with `suffix` (without the dot).

    Raises:
        UsageError: no frontend reads such files.
    """
    if suffix in FILE_FRONTENDS:
        return _attribute(FILE_FRONTENDS[suffix])
    foreign = _foreign("snnir.frontends")
    if suffix in foreign:
        return foreign[suffix].load()
    there = ", ".join(f".{s}" for s in (*FILE_FRONTENDS, *foreign))
    raise UsageError(f"no frontend reads {'.' + suffix if suffix else 'a file without suffix'}; there are {there}")


def installed(target: Target) -> bool:
    """Whether the package that runs a target is there (found, not imported)."""
    return target.package is None or find_spec(target.package) is not None


def _attribute(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@cache
def _foreign(group: str) -> dict[str, EntryPoint]:
    ours = BACKENDS if group == "snnir.backends" else FILE_FRONTENDS
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in ours or point.name in found:
            raise UsageError(f"{point.value} registers {point.name!r} in {group}, but that name is taken")
        found[point.name] = point
    return found
