"""When everything happens: the steps by which each population runs late against the source network.

On the chip every connection from a neuron takes one step, whatever it takes in the source. So
lag(target) >= lag(source) + 1 - delay: the lags are the longest paths. Inputs are at -1 where they reach neurons in the
same step (Xylo), at 0 where their connections take a step, too (Loihi). A connection that then arrives too early has
*slack*, and is held back by as many steps. Only a loop whose connections take longer here than in the source cannot be
mended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from snnir.errors import Violation
from snnir.projections import Projection


@dataclass(frozen=True, eq=False)
class Timing:
    """Lags in steps, and the connections they hold for.

    Attributes:
        projections: between inputs and populations; those of slow loops with the steps they lack.
        lags: of inputs and populations. Some may be negative: the chip would be ahead of the source.
        slow_loops: the loops that cannot keep their time.
    """

    projections: tuple[Projection, ...]
    lags: Mapping[str, int]
    slow_loops: tuple[Violation, ...]

    def slack(self, p: Projection) -> int:
        """Steps for which a projection must be held back: its number of relays."""
        return self.lags[p.target] - (self.lags[p.source] + 1 - p.delay)


def timing(
    inputs: Sequence[str],
    populations: Sequence[str],
    projections: Sequence[Projection],
    *,
    prefix: str,
    input_lag: int = -1,
    least: int | None = None,
) -> Timing:
    """The lags that `projections` between inputs and populations demand.

    Args:
        inputs, populations: names; projections: between them.
        prefix: of the rule that slow loops break.
        input_lag: of inputs. least: of populations; None where the chip may be ahead.
    """
    between = list(projections)
    fed = {p.target for p in between}
    start: dict[str, int | None] = {name: least if name in fed else least or 0 for name in populations}
    start.update(dict.fromkeys(inputs, input_lag))
    slow: list[Violation] = []
    while True:
        lag = dict(start)
        loop = _relax(lag, between, len(populations))
        if loop:
            slow.append(_mend(loop, between, f"{prefix}-loop"))
            continue
        idle = next((name for name in populations if lag[name] is None), None)
        if idle is None:
            return Timing(tuple(between), {n: v for n, v in lag.items() if v is not None}, tuple(slow))
        start[idle] = 0  # a loop that no input reaches starts anywhere


def _relax(lag: dict[str, int | None], between: Sequence[Projection], count: int) -> list[Projection]:
    """Raises lags until every projection is content; or gives a loop that never would be."""
    cause: dict[str, Projection] = {}
    moved = ""
    for _ in range(count + 1):
        moved = ""
        for p in between:
            begin, now = lag[p.source], lag[p.target]
            if begin is not None and (now is None or begin + 1 - p.delay > now):
                lag[p.target], cause[p.target], moved = begin + 1 - p.delay, p, p.target
        if not moved:
            return []
    seen: list[str] = []
    while moved not in seen:
        seen.append(moved)
        moved = cause[moved].source
    return [cause[name] for name in seen[seen.index(moved) :]][::-1]


def _mend(loop: Sequence[Projection], between: list[Projection], rule: str) -> Violation:
    """Gives the latest projection of a slow loop the steps that are missing, in place; and says what was wrong."""
    steps, path = sum(p.delay for p in loop), [p.source for p in loop]
    missing = len(loop) - steps
    late = max(loop, key=lambda p: p.delay)
    between[between.index(late)] = replace(late, delay=late.delay + missing)
    return Violation(
        rule,
        f"a spike takes {steps} step{'s' if steps != 1 else ''} around the loop {' -> '.join([*path, path[0]])} in the "
        f"network, but {len(loop)} on the chip, one per connection",
        where=path[0],
        expected="a step for every connection of a loop",
        hint=f"put a Delay of {missing} step(s) into the loop, or give the network latency_neuron=1",
    )
