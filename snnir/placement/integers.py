"""Chip parts in integers: rules that show only there, and the compiled parts, each made once.

Passes and design rules need nothing but a graph, so that a placement can be looked for with them alone. Making the
integers takes what the network in floats gives between its parts, and much longer; so it is done where a placement
keeps all other rules, and a part that the next placement has, too, is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.graph import Graph
from snnir.ops import Array, Input, Output
from snnir.placement.running import run
from snnir.placement.types import Part, Placement

if TYPE_CHECKING:
    from snnir.compiler import CompileResult
    from snnir.pipeline import Step
    from snnir.placement.chips.types import Spread


@dataclass(frozen=True, eq=False)
class Made:
    """A chip part, and what came of it: a compiled form, or the reasons against it.

    `spread`: what of it is on which chip, where it needs several. `steps`: what its passes did, for a hook.
    """

    part: Part
    spread: Spread | None
    result: CompileResult | None
    faults: tuple[Violation, ...]
    steps: tuple[Step, ...]


@dataclass
class Integers:
    """The chip parts of the placement that was tried last.

    Attributes:
        shown: input to calibrate and to measure with, (T, B, *shape) by name.
        allow, options: of the target. how: what `snnir.compiler.prepare` takes besides, but for its hook.
        values: what the network in floats gives between the parts, (T, B, *shape) by name.
        made: in running order. rounds: how many placements were tried. recorded: whether `shown` was.
    """

    shown: Mapping[str, Array]
    allow: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)
    made: tuple[Made, ...] = ()
    rounds: int = 0
    recorded: bool = False

    @property
    def strict(self) -> bool:
        """Whether what would change recorded input's result is refused."""
        return self.recorded and "approximate" not in self.allow

    def make(self, placement: Placement) -> dict[str, tuple[Violation, ...]]:
        """Makes what the last placement did not have.

        Returns:
            Chip part -> why it cannot be made, for those that cannot.
        """
        self.rounds += 1
        self.values = run(placement, self.shown)
        known = self.made
        self.made = tuple(
            self._known(placement, part, known) or self._make(placement, part) for part in placement.chips
        )
        return {part.name: m.faults for part, m in zip(placement.chips, self.made, strict=True) if m.faults}

    def results(self, placement: Placement) -> dict[str, CompileResult]:
        """Chip part -> its compiled form, for the placement that was made last without a fault."""
        pairs = zip(placement.chips, self.made, strict=True)
        return {part.name: m.result for part, m in pairs if m.result is not None}

    def replay(self, hook: Callable[[Step], None] | None) -> None:
        """Hands a hook what the passes did to the parts of the last placement; those of others are nobody's."""
        if hook is None:
            return
        for made in self.made:
            for step in made.steps:
                hook(step)

    def _known(self, placement: Placement, part: Part, known: Sequence[Made]) -> Made | None:
        # A part that was spread may have to keep to one chip in the next placement.
        spread = placement.spreads.get(part.name)
        return next((m for m in known if m.spread is spread and _same(m.part, part)), None)

    def _make(self, placement: Placement, part: Part) -> Made:
        from snnir.compiler import prepare

        given = {name: self.values[name] for name in part.graph.inputs}
        steps: list[Step] = []
        spread = placement.spreads.get(part.name)
        try:
            if spread is not None:
                from snnir.placement.chips.compiled import on_chips

                how = {**self.how, "hook": steps.append}
                several = on_chips(spread, given, True, self.allow, self.options, **how)
                return Made(part, spread, several, (), tuple(steps))
            prepared = prepare(part.graph, calibrate=given, allow=self.allow, hook=steps.append, **self.how)
            more = _range(placement, given)
            result = prepared.compile(placement.target, **{**more, **self.options})
        except CompileError as error:
            return Made(part, spread, None, error.violations, tuple(steps))
        return Made(part, spread, result, (), tuple(steps))


def _same(a: Part, b: Part) -> bool:
    """Whether two parts of the same network are the same part; ops are the network's own, but for ends."""
    if a.gives != b.gives or list(a.graph.ops) != list(b.graph.ops) or a.graph.edges != b.graph.edges:
        return False
    ends = (Input, Output)
    pairs = zip(a.graph.ops.values(), b.graph.ops.values(), strict=True)
    return all(x is y or (type(x) is type(y) and isinstance(x, ends)) for x, y in pairs)


def _range(placement: Placement, given: Mapping[str, Array]) -> dict[str, float]:
    """Numbers that happen to be 0 or 1 in what is shown are numbers all the same, and go in as such."""
    kinds = {c.source: c.kind for c in placement.crossings if c.to_chip}
    plain = any(kinds[placement.means(name)] == "graded" and np.isin(x, (0, 1)).all() for name, x in given.items())
    return {"input_range": max(1.0, *(float(np.abs(x).max()) for x in given.values()))} if plain else {}


def ops_of(violation: Violation, part: Part, whole: Graph) -> tuple[str, ...]:
    """The ops of the whole network, in their order, that a part's violation is about.

    It may name them as they are, as what they were made from, by the ends that give them, or as pieces of them
    ('name#1', 'name~1', 'name[0:8]').
    """
    graph = part.graph
    named = {n.strip() for n in violation.where.split(",")} - {""}
    own = [n for n in whole.ops if n in graph.ops and not isinstance(graph[n], (Input, Output))]
    found = {n for n in own if n in named}
    for name in named - found:
        traced = {n for n in own if name in graph.sources(n) or name == part.gives.get(n)}
        found |= traced or {n for n in own if name.startswith((f"{n}#", f"{n}~", f"{n}["))}
    return tuple(n for n in own if n in found)
