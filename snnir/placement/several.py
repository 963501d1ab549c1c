"""Chip parts of a placement that need several chips: each is spread (`snnir.placement.chips`), as often as it is tried.

Parts run one after the other, so the number of chips that there are counts for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from snnir.errors import CompileError, Violation
from snnir.graph import Edge, Graph
from snnir.ops import Array
from snnir.placement.chips.running import arrivals
from snnir.placement.chips.spread import require_chips, several_of, spread_counted
from snnir.placement.chips.types import Spread
from snnir.placement.fitting import lags_of, violations_of
from snnir.placement.types import Part
from snnir.target import Backend

_Key = tuple[tuple[str, ...], tuple[str, ...], tuple[Edge, ...]]


@dataclass
class Several:
    """What goes on how many chips.

    Attributes:
        graph: the whole network. chip: its target. most: chips per part; None for any number.
        shown: input, (T, B, *shape) by name. strict: no cut between chips where the network spikes more than once in
            a step.
        allow, options: of the target.
    """

    graph: Graph
    chip: Backend
    most: int | None
    shown: Mapping[str, Array]
    strict: bool
    allow: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    _known: dict[_Key, Spread | tuple[Violation, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_chips(self.chip)

    def violations(self, part: Part) -> list[Violation]:
        """Every reason why these chips cannot run a part, one or several of them; none when they can."""
        if self.most == 1:
            return violations_of(part.graph, self.chip, self.allow, self.options)
        found = self._found(part)
        return [] if isinstance(found, Spread) else list(found)

    def spread(self, part: Part) -> Spread | None:
        """A part on its chips; None where one is enough, or no number is."""
        if self.most == 1:
            return None
        found = self._found(part)
        return found if isinstance(found, Spread) and len(found.chips) > 1 else None

    def lags(self, part: Part) -> Mapping[str, int]:
        """By how many steps a part's outputs come late off its chips, where they run step by step: name -> steps."""
        spread = self.spread(part)
        if spread is None:
            return lags_of(part.graph, self.chip, self.allow, self.options)
        lags = {one.name: lags_of(one.graph, self.chip, self.allow, self.options) for one in spread.chips}
        at = arrivals(spread, lags, hop=0)
        return {name: at[name] for name in part.graph.outputs}

    @cached_property
    def _several(self) -> dict[str, int]:
        return several_of(self.graph, self.shown)

    def _found(self, part: Part) -> Spread | tuple[Violation, ...]:
        # A part's ops are the whole network's own but for its ends, so their names say which they are.
        key = (tuple(part.graph.ops), part.graph.inputs, part.graph.edges)
        if key not in self._known:
            try:
                self._known[key] = spread_counted(
                    part.graph, self.chip, self.most, self._several, self.strict, self.allow, self.options
                )
            except CompileError as error:
                self._known[key] = error.violations
        return self._known[key]
