"""What the PyTorch family can do, as data and rules: the same for every framework of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from snnir.errors import Violation
from snnir.ops import KINDS
from snnir.rules import known_time_step, steady_cycles, whole_delays
from snnir.semantics import Semantics
from snnir.target import Rule, Target

if TYPE_CHECKING:
    from snnir.graph import Graph

ADAPTS = frozenset({"decay", "gain", "comparison", "reset", "recurrent_bias_at_start", "start"})


def float_decay(graph: Graph) -> Iterator[Violation]:
    """'shift' decays are those of integer chips."""
    if graph.semantics.decay == "shift":
        hint = "compile for the chip that it belongs to, or give semantics with decay='exponential'"
        yield Violation(
            "torch-decay", "decay 'shift' is an integer rule", expected="'euler' or 'exponential'", hint=hint
        )


def prompt_reset(graph: Graph) -> Iterator[Violation]:
    """A reset takes effect in the step of its spike."""
    if graph.semantics.reset not in ("value", "subtract"):
        late = ", one step after the spike" if graph.semantics.reset.startswith("delayed") else ""
        what = f"the network means reset {graph.semantics.reset!r}{late}"
        hint = "train with reset_delay=False" if late else "train with reset_mechanism='zero', or choose snntorch"
        yield Violation("torch-reset", what, expected="'value' or 'subtract'", hint=hint)


def float_numbers(graph: Graph) -> Iterator[Violation]:
    """States are floating point."""
    if not graph.semantics.number_format.startswith("float"):
        what = f"the network means numbers of format {graph.semantics.number_format!r}"
        yield Violation("torch-numbers", what, expected="'float32' or 'float64'")


def float32_range(graph: Graph) -> Iterator[Violation]:
    """Weights and parameters are numbers that float32 holds."""
    largest = float(np.finfo(np.float32).max)
    for key, value in graph.weights().items():
        if value.dtype.kind == "f" and value.dtype.itemsize <= 4:
            continue
        size = max(float(value.max(initial=0)), -float(value.min(initial=0)))
        if size > largest:
            name, _, slot = key.rpartition(".")
            yield Violation(
                "torch-range",
                f"{slot} holds a number of size {size:.6g}",
                where=name,
                loc=str(graph[name].loc or ""),
                expected=f"at most {largest:.6g}, which is all that float32 holds",
            )


def has_input(graph: Graph) -> Iterator[Violation]:
    """The input says how many steps and samples there are."""
    if not graph.inputs:
        yield Violation("torch-input", "has no input, so nothing says how many steps to run", expected="an Input")


def family_target(name: str, title: str, package: str, extra: str, reset: Rule = prompt_reset) -> Target:
    """A target of the family: all ops; decay, gain, comparison, reset and start as the network means them.

    `reset` is the rule of which resets it can do.
    """
    return Target(
        name=name,
        title=title,
        ops=frozenset(KINDS.values()),
        semantics=Semantics(),
        adapts=ADAPTS,
        rules=(
            float_decay,
            reset,
            float_numbers,
            float32_range,
            known_time_step,
            whole_delays,
            steady_cycles,
            has_input,
        ),
        package=package,
        extra=extra,
        limits={"spikes per step": "1", "states": "float32 or float64"},
    )
