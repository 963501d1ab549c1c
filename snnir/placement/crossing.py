"""What goes from side to side, and what may not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod

from snnir.errors import Violation
from snnir.graph import Graph
from snnir.ops import Input, Output, SpikingNeuron, Threshold
from snnir.placement.mincut import may_enter, may_leave
from snnir.placement.types import Crossing, Encode, Loop, Part, parts_of
from snnir.target import Ports, Target

SPIKE_ONCE = "raise its thresholds, take a shorter time step, or allow 'approximate', which counts them"


def crossings_of(
    graph: Graph, steps: Sequence[Part | Encode | Loop], most: Mapping[str, int | None]
) -> tuple[Crossing, ...]:
    """All of them, in running order; each once."""
    found: dict[tuple[str, bool], Crossing] = {}
    for part in (part for part in parts_of(steps) if part.side == "chip"):
        for name in _read(part, steps):
            limit = most[name]
            kind = "graded" if limit is None else "spikes" if limit == 1 else "counts"
            found[name, True] = Crossing(name, kind, prod(graph.shapes[name]), limit, True)
        for name in part.gives:
            limit = most[name]
            spiking = isinstance(graph[name], (SpikingNeuron, Threshold))
            kind = ("spikes" if limit == 1 else "counts") if spiking else "membranes"
            found[name, False] = Crossing(name, kind, prod(graph.shapes[name]), limit, False)
    return tuple(found.values())


def computing(graph: Graph, name: str, on_chip: Collection[str]) -> str:
    """What a host computes with an op on the chip first, and does not hand on as it is; '' for nothing."""
    targets = (e.target for e in graph.outgoing[name])
    return next((t for t in targets if t not in on_chip and not isinstance(graph[t], Output)), "")


def losing(
    graph: Graph, steps: Sequence[Part | Encode | Loop], crowded: Mapping[str, int], barred: Mapping[str, str]
) -> dict[str, Violation]:
    """The crowded neurons that something outside of their part computes with, on the host or on the chip later."""
    if not crowded:
        return {}
    chips = [part for part in parts_of(steps) if part.side == "chip"]
    on_chip = {name for part in chips for name, op in part.graph.ops.items() if not isinstance(op, (Input, Output))}
    found: dict[str, Violation] = {}
    for name in dict.fromkeys(name for part in chips for name in part.gives if name in crowded):
        reader = computing(graph, name, on_chip)
        later = next((part.name for part in chips if name in _read(part, steps)), "")  # itself, where it waits outside
        if not reader and not later:
            continue
        because = f": {reader} is there, since {barred[reader]}" if reader in barred else ""
        needs = f"the host computes with them{because}" if reader else f"{later} needs all of them"
        found[name] = Violation(
            "placement-cut-spikes",
            f"{twice(crowded[name])}, and {needs}",
            where=", ".join(graph.sources(name)),
            loc=str(graph[name].loc or ""),
            expected="one spike per step: more do not leave a chip",
            hint=SPIKE_ONCE,
        )
    return found


def twice(count: int) -> str:
    """What a crowded population does, in words."""
    return f"spikes more than once in a step {count} times on the recorded input"


def _read(part: Part, steps: Sequence[Part | Encode | Loop], name: str | None = None) -> Iterator[str]:
    """The ops whose values a part takes, or that of one of its inputs; what comes a step late is that op's, too.

    A part behind a loop may read what comes late there: it has copies of weights that do.
    """
    loops = [step for step in steps if isinstance(step, Loop)]
    for own in part.graph.inputs if name is None else (name,):
        yield next((loop.means(own) for loop in loops if loop.means(own) != own), own)


def faults_of(
    graph: Graph,
    steps: Sequence[Part | Encode | Loop],
    ports: Ports,
    most: Mapping[str, int | None],
    target: Target,
    barred: Mapping[str, str] | None = None,
    crowded: Mapping[str, int] | None = None,
) -> Iterator[Violation]:
    """The values that would have to go where they cannot.

    `barred`: op -> why it is not on the chip. `crowded`: neurons -> how often they spike more than once in a step,
    where what a host then computes would be wrong.
    """
    why = barred or {}
    yield from losing(graph, steps, crowded or {}, why).values()
    chips = [part for part in parts_of(steps) if part.side == "chip"]
    on_chip = {name for part in chips for name, op in part.graph.ops.items() if not isinstance(op, (Input, Output))}
    seen: set[str] = set()
    for part in chips:
        for own in part.graph.inputs:
            (name,) = _read(part, steps, own)
            if name in seen or may_enter(most[name], ports):
                continue
            seen.add(name)
            op, reader = graph[name], part.graph.outgoing[own][0].target
            what = "real numbers" if most[name] is None else f"counts of up to {most[name]}"
            because = "" if isinstance(op, Input) or name not in why else f"; it is on the host, since {why[name]}"
            yield Violation(
                "placement-port",
                f"gives {what}, which {reader} would have to take on the chip{because}",
                where=", ".join(graph.sources(name)),
                loc=str(op.loc or ""),
                expected=f"{ports.says}: nothing else goes into {target.name}",
                hint=f"keep {reader} on the host, put neurons before it, or choose lava, which takes graded spikes",
            )
        for name in part.gives:
            op = graph[name]
            if may_leave(op, ports) or isinstance(op, Output):
                continue
            reads = "spikes or membranes" if ports.membranes else "spikes"
            reader = next((e.target for e in graph.outgoing[name] if e.target not in on_chip), "")
            because = f": {reader} is there, since {why[reader]}" if reader in why else ""
            yield Violation(
                "placement-port",
                f"{op.kind} gives values on the chip that the host would have to read{because}",
                where=", ".join(graph.sources(name)),
                loc=str(op.loc or ""),
                expected=f"{reads} of neurons: nothing else comes out of {target.name}",
                hint="put it on the host, or put what reads it on the chip",
            )
