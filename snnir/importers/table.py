"""Which importers there are, and how their users call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from snnir.errors import MissingPackageError, UsageError, there_are


@dataclass(frozen=True)
class Importer:
    """A framework's function that reads NIR.

    Attributes:
        name: of the framework, as in `snnir.frameworks.FRAMEWORKS`; title: as its authors write it.
        module, function: where the function is.
        takes: arguments of the function that its user must know: 'dt' in seconds, 'batch_size'.
        whole: whether what it builds takes (B, T, *shape) at once instead of one step (B, *shape).
        note: what its user has to know.
    """

    name: str
    title: str
    module: str
    function: str
    takes: tuple[str, ...] = ()
    whole: bool = False
    note: str = ""
    packages: tuple[str, ...] = field(default=("nir", "nirtorch"))

    def call(self, given: Mapping[str, Any]) -> str:
        """The call as text."""
        arguments = "".join(f", {name}={given[name]:g}" for name in self.takes)
        return f"{self.module}.{self.function}(graph{arguments})"

    def __call__(self, source: Any, given: Mapping[str, Any]) -> Any:
        """The module that it builds of a `nir.NIRGraph`."""
        return getattr(import_module(self.module), self.function)(source, **{name: given[name] for name in self.takes})

    def versions(self) -> dict[str, str]:
        """Versions of the packages that take part."""
        from importlib.metadata import version

        return {package: version(package) for package in (self.name, *self.packages)}

    def require(self) -> None:
        """Returns where it can be called.

        Raises:
            MissingPackageError: a package that takes part is not installed.
        """
        for package in (self.name, *self.packages, "torch"):
            if find_spec(package) is None:
                raise MissingPackageError(package, self.name, f"{self.title}'s own importer")


IMPORTERS: dict[str, Importer] = {
    "norse": Importer("norse", "Norse", "norse.torch", "from_nir", ("dt",), note="its dt is 1 ms if nobody says it"),
    "snntorch": Importer(
        "snntorch",
        "snnTorch",
        "snntorch.import_nir",
        "import_from_nir",
        note="takes no dt: 1e-4 s stands in its source; its layers keep their state from sample to sample",
    ),
    "sinabs": Importer(
        "sinabs",
        "sinabs",
        "sinabs.nir",
        "from_nir",
        ("batch_size",),
        note="takes no dt; its layers keep their state from sample to sample",
    ),
    "spikingjelly": Importer(
        "spikingjelly",
        "SpikingJelly",
        "spikingjelly.activation_based.nir_exchange",
        "import_from_nir",
        ("dt",),
        note="its dt is 0.1 ms if nobody says it",
    ),
    "rockpool": Importer(
        "rockpool",
        "Rockpool",
        "rockpool.nn.modules",
        "from_nir",
        whole=True,
        note="takes no dt: it derives one per node from tau and r",
    ),
}


def importer_names() -> tuple[str, ...]:
    """The frameworks whose importers can be put to the test."""
    return tuple(IMPORTERS)


def importer(name: str) -> Importer:
    """The importer of a framework.

    Raises:
        UsageError: no importer of that name is known.
    """
    if name not in IMPORTERS:
        raise UsageError(f"no importer {name!r}{there_are([name], IMPORTERS)}")
    return IMPORTERS[name]
