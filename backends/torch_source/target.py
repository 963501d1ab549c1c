"""What the PyTorch family can do, as data and rules: the same for every framework of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from snnir.discretise import delay_steps
from snnir.errors import CompileError, Violation
from snnir.ops import KINDS, Delay, Neuron, Repeat, TemporalMean
from snnir.schedule import schedule
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
        what = f"the network means reset {graph.semantics.reset!r}, one step after the spike"
        yield Violation("torch-reset", what, expected="'value' or 'subtract'", hint="train with reset_delay=False")


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


def known_time_step(graph: Graph) -> Iterator[Violation]:
    """Whatever has a time constant or a delay needs to know how long a step is."""
    timed = [name for name, op in graph.ops.items() if isinstance(op, (Neuron, Delay))]
    if timed and graph.semantics.dt is None:
        what = "the time step is not known, but neurons and delays need it"
        where = ", ".join(timed[:4]) + (", ..." if len(timed) > 4 else "")
        yield Violation("time-step", what, where=where, hint="say it: dt=... (seconds), --dt")


def whole_delays(graph: Graph) -> Iterator[Violation]:
    """Delays are whole steps."""
    if graph.semantics.dt is None:
        return
    for name, op in graph.ops.items():
        if isinstance(op, Delay):
            try:
                delay_steps(op, graph.semantics)
            except CompileError as error:
                yield from (replace(v, where=name, loc=str(op.loc or "")) for v in error.violations)


def steady_cycles(graph: Graph) -> Iterator[Violation]:
    """Within a cycle the number of steps cannot change."""
    for group in schedule(graph).groups:
        for name in group.ops if group.cyclic else ():
            if isinstance(graph[name], (Repeat, TemporalMean)):
                what = f"{graph[name].kind} changes the number of steps within a cycle"
                yield Violation("steps", what, where=name, loc=str(graph[name].loc or ""))


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
