"""The backend of the rockpool target: the family's, with an option for networks that go to Xylo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from snnir.backends.rockpool.bitshift import BitshiftDecays
from snnir.backends.rockpool.emit import RockpoolDialect
from snnir.backends.rockpool.target import TARGET
from snnir.backends.torch_source import TorchArtifact, TorchBackend
from snnir.errors import UsageError
from snnir.graph import Graph
from snnir.pipeline import Pass


@dataclass(frozen=True)
class RockpoolBackend(TorchBackend):
    """The rockpool target."""

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Makes sure that there are such options, and that they can have such values.

        Raises:
            UsageError: an option that this target does not have, or a value that it cannot have.
        """
        faults: list[str] = []
        for check in (super().check_options, _bitshift):
            try:
                check(options)
            except UsageError as error:
                faults.append(str(error))
        if faults:
            raise UsageError("\n".join(faults))

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Pass, ...]:
        """No passes; with `bitshift`, decays become those of Xylo, if they are not and 'approximate' is allowed."""
        return (BitshiftDecays("approximate" in options.get("allow", ())),) if _bitshift(options) else ()

    def build(self, graph: Graph, options: Mapping[str, Any]) -> TorchArtifact:
        """The artifact of a graph.

        Options: `bitshift` true for Rockpool's LIFBitshiftTorch, whose decays are 1 - 2^-dash as on Xylo.

        Raises:
            UsageError: an option that this target does not have, or a value that it cannot have.
        """
        dialect = RockpoolDialect(bitshift=_bitshift(options))
        return TorchBackend.build(replace(self, dialect=dialect), graph, options)


def _bitshift(options: Mapping[str, Any]) -> bool:
    said = options.get("bitshift", False)
    if not isinstance(said, bool):
        raise UsageError(f"bitshift is {said!r}, expected true or false")
    return said


ROCKPOOL = RockpoolBackend(TARGET, RockpoolDialect())
