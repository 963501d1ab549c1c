"""Whether a chip can run a part: its own passes and rules say; and by what factor it does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from snnir.errors import CompileError, UsageError, Violation
from snnir.graph import Edge, Graph
from snnir.ops import Input, Output
from snnir.placement.types import Encode, Loop, Part
from snnir.target import Backend, Ports, Target, with_allowed

Key = tuple[tuple[str, ...], tuple[str, ...], tuple[Edge, ...]]


def ports_of(target: Target) -> Ports:
    """What can go into a chip and out of it.

    Raises:
        UsageError: the target is no chip that a host can share a network with.
    """
    if target.ports is None:
        what = "is no chip that a host can share a network with; there are lava and xylo-..."
        raise UsageError(f"{target.name} {what}")
    return target.ports


def check_alone(target: Target, options: Mapping[str, Any]) -> None:
    """Makes sure that a target is a chip, and that no option changes what a step is, which a host keeps.

    Raises:
        UsageError: it is none, or one does.
    """
    alone = [name for name in ports_of(target).alone if str(options.get(name, False)).lower() not in ("none", "false")]
    if alone:
        named = ", ".join(alone)
        raise UsageError(f"{target.name}'s option {named} does not go with a host, which keeps the network's steps")


@dataclass
class Tried:
    """Sub-networks that were looked at: a part that is the same gets the very graph, which the backend keeps its layout
    with."""

    graphs: dict[Key, Graph] = field(default_factory=dict)

    def keep(self, part: Part) -> None:
        """Remembers a part's graph."""
        self.graphs[key_of(part)] = part.graph

    def known(self, steps: Iterable[Part | Encode | Loop]) -> tuple[Part | Encode | Loop, ...]:
        """The steps, with the graphs that are remembered."""
        return tuple(self._known(step) if isinstance(step, Part) else step for step in steps)

    def _known(self, part: Part) -> Part:
        graph = self.graphs.get(key_of(part), part.graph)
        pairs = zip(graph.ops.values(), part.graph.ops.values(), strict=True)
        same = all(a is b or (type(a) is type(b) and isinstance(a, (Input, Output))) for a, b in pairs)
        return replace(part, graph=graph) if same else part


def key_of(part: Part) -> Key:
    """What makes a part of a network: its ops are the network's own but for its ends, so their names say which."""
    return tuple(part.graph.ops), part.graph.inputs, part.graph.edges


def violations_of(part: Graph, chip: Backend, allow: Sequence[str], options: Mapping[str, Any]) -> list[Violation]:
    """Every reason why `chip` cannot run `part`; none when it can (but for what shows only in its integers)."""
    from snnir.pipeline import run_pipeline

    settings = {**options, "allow": tuple(allow), "calibrate": None}
    graph = with_allowed(part, allow)
    try:
        lowered = run_pipeline(graph, chip.pipeline(graph, settings), lambda step: None)
        return chip.target.check(lowered)
    except CompileError as error:
        return list(error.violations)


def lags_of(part: Graph, chip: Backend, allow: Sequence[str], options: Mapping[str, Any]) -> Mapping[str, int]:
    """By how many steps a part's outputs come late off `chip`, which can run it: name -> steps."""
    from snnir.pipeline import run_pipeline

    settings = {**options, "allow": tuple(allow), "calibrate": None}
    lowered = run_pipeline(with_allowed(part, allow), chip.pipeline(part, settings), lambda step: None)
    found = chip.lags(lowered)  # type: ignore[attr-defined]  # every target with ports says so
    return {name: found[name] for name in part.outputs}


def of_room(violation: Violation) -> bool:
    """Whether a rule is about how much there is, so that less of it would do."""
    return violation.expected.startswith("at most")


def factor(violation: Violation) -> float | None:
    """How many times too much there is."""
    found = re.search(r"\d[\d,]*", violation.what.partition("reaches")[2] or violation.what)
    limit = re.search(r"at most (\d[\d,]*)", violation.expected)
    if found is None or limit is None or not int(limit[1].replace(",", "")):
        return None
    return int(found[0].replace(",", "")) / int(limit[1].replace(",", ""))
