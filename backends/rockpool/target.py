"""The Rockpool target as data: the family's, and several spikes per step, which Rockpool's neurons give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from snnir.backends.torch_source.target import ADAPTS, family_target
from snnir.errors import Violation
from snnir.ops import IF, LIF, CubaLIF
from snnir.semantics import ROCKPOOL_SEMANTICS
from snnir.target import Target

if TYPE_CHECKING:
    from snnir.graph import Graph


def several_spikes(graph: Graph) -> Iterator[Violation]:
    """Several spikes per step need a reset that leaves what the next one needs, and a threshold above 0."""
    if graph.semantics.spikes_per_step == 1:
        return
    for name, op in graph.ops.items():
        if not isinstance(op, (IF, LIF, CubaLIF)):
            continue
        threshold = op.v_threshold
        if graph.semantics.reset != "subtract":
            what, expected = f"several spikes per step with reset {graph.semantics.reset!r}", "reset 'subtract'"
        elif not (threshold > 0).all():
            what, expected = f"several spikes per step at a threshold of {threshold.min():.6g}", "a threshold above 0"
        else:
            continue
        yield Violation("rockpool-spikes", what, where=name, loc=str(op.loc or ""), expected=expected)


def _target() -> Target:
    family = family_target("rockpool", "Rockpool", package="rockpool", extra="rockpool", reset=None)
    return replace(
        family,
        semantics=ROCKPOOL_SEMANTICS,
        adapts=ADAPTS | {"spikes_per_step"},
        rules=(*family.rules, several_spikes),
        options={"bitshift": "true: LIFBitshiftTorch, whose decays are 1 - 2^-dash as on Xylo; default false"},
        limits={"spikes per step": "the network's", "states": "float32 or float64"},
    )


TARGET = _target()
