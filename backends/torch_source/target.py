"""What the PyTorch family can do, as data and rules: the same for every framework of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from snnir.backends.torch_source.neurons import in_time
from snnir.errors import Violation
from snnir.ops import KINDS, Neuron, SpikingNeuron
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
    """A reset takes effect in the step of its spike; one to a value may in the next, where no current is lost by it."""
    reset = graph.semantics.reset
    neurons = [op for op in graph.ops.values() if isinstance(op, Neuron) and isinstance(op, SpikingNeuron)]
    if any(in_time(op, graph.semantics).reset not in ("value", "subtract") for op in neurons):
        late = ", one step after the spike" if reset.startswith("delayed") else ""
        train = "reset_delay=False" if reset == "delayed-value" else "reset_mechanism='zero', reset_delay=False"
        yield Violation(
            "torch-reset",
            f"the network means reset {reset!r}{late}",
            expected="'value' or 'subtract'",
            hint=f"choose torch, norse or spikingjelly, or train with {train}",
        )


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


def family_target(name: str, title: str, package: str, extra: str, reset: Rule | None = prompt_reset) -> Target:
    """A target of the family: all ops; decay, gain, comparison, reset and start as the network means them.

    `reset` is the rule of which resets it can do; None for all.
    """
    return Target(
        name=name,
        title=title,
        ops=frozenset(KINDS.values()),
        semantics=Semantics(),
        adapts=ADAPTS,
        rules=(
            float_decay,
            *([] if reset is None else [reset]),
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
