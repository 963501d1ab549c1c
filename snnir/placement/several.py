"""Chip parts of a placement that need several chips: each is spread (`snnir.placement.chips`).

Parts run one after the other, so the number of chips that there are counts for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.ops import Array, Neuron, Threshold
from snnir.placement.chips.running import arrivals
from snnir.placement.chips.spread import chips_of, require_chips, several_of, spread_counted
from snnir.placement.chips.types import Spread
from snnir.placement.fitting import Key, key_of, lags_of, violations_of
from snnir.placement.integers import Integers
from snnir.placement.kinds import free_ops
from snnir.placement.types import Part
from snnir.target import Backend


@dataclass
class Several:
    """What goes on how many chips.

    Attributes:
        graph: the whole network. chip: its target. most: chips per part, several; None for any number.
        shown: input, (T, B, *shape) by name. strict: no cut between chips where the network spikes more than once in
            a step.
        allow, options: of the target.
        alone: neurons whose parts have one chip: on several, a loop over chip and host would take too long.
    """

    graph: Graph
    chip: Backend
    most: int | None
    shown: Mapping[str, Array]
    strict: bool
    allow: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    _known: dict[Key, Spread | tuple[Violation, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_chips(self.chip)

    def violations(self, part: Part) -> list[Violation]:
        """Every reason why these chips cannot run a part, one or several of them; none when they can."""
        if self._kept_to_one(part):
            return violations_of(part.graph, self.chip, self.allow, self.options)
        found = self._found(part)
        return [] if isinstance(found, Spread) else list(found)

    def spread(self, part: Part) -> Spread | None:
        """A part on its chips; None where one runs it as it is, or no number does."""
        if self._kept_to_one(part):
            return None
        found = self._found(part)
        return found if isinstance(found, Spread) and not found.alone else None

    def spreads(self, parts: Sequence[Part]) -> dict[str, Spread]:
        """Those of some parts that no chip runs as they are, by name."""
        return {part.name: spread for part in parts if (spread := self.spread(part)) is not None}

    def keep_to_one(self, parts: Sequence[Part]) -> bool:
        """Gives each of these parts one chip; whether any had more."""
        more = [part for part in parts if self.spread(part) is not None]
        for part in more:
            self.alone |= self._own(part)
        return bool(more)

    def _kept_to_one(self, part: Part) -> bool:
        return not self.alone.isdisjoint(self._own(part))

    def _own(self, part: Part) -> set[str]:
        """The neurons of a part: what it reads, and its copies of weights and constants, other parts may have, too."""
        neurons = (n for n, op in part.graph.ops.items() if isinstance(op, (Neuron, Threshold)))
        return {n for n in neurons if n not in self._free}

    def lags(self, part: Part) -> Mapping[str, int]:
        """By how many steps a part's outputs come late off its chips, where they run step by step: name -> steps."""
        spread = self.spread(part)
        if spread is None:
            return lags_of(part.graph, self.chip, self.allow, self.options)
        lags = {one.name: lags_of(one.graph, self.chip, self.allow, self.options) for one in spread.chips}
        at = arrivals(spread, lags, hop=0)
        return {name: at[name] for name in part.graph.outputs}

    @cached_property
    def _free(self) -> frozenset[str]:
        return free_ops(self.graph)

    @cached_property
    def _several(self) -> dict[str, int]:
        return several_of(self.graph, self.shown)

    def _found(self, part: Part) -> Spread | tuple[Violation, ...]:
        key = key_of(part)
        if key not in self._known:
            try:
                self._known[key] = spread_counted(
                    part.graph, self.chip, self.most, self._several, self.strict, self.allow, self.options
                )
            except CompileError as error:
                self._known[key] = error.violations
        return self._known[key]


def several_for(graph: Graph, chip: Backend, chips: int | str, integers: Integers) -> Several | None:
    """For a number of chips per part, or 'auto'; None where it is one.

    Raises:
        UsageError: it is no such number, or the target no chip of which several make up a network.
    """
    most = chips_of(chips)
    if most == 1:
        return None
    return Several(graph, chip, most, integers.shown, integers.strict, tuple(integers.allow), integers.options)
