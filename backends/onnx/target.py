"""The onnx target as data and rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from snnir.errors import Violation
from snnir.ops import KINDS, SpikingNeuron
from snnir.rules import known_time_step, steady_cycles, whole_delays
from snnir.semantics import Semantics
from snnir.target import Target

if TYPE_CHECKING:
    from snnir.graph import Graph

MOST_BYTES = 2_000_000_000  # protobuf's 2^31, less what the nodes take


def float_numbers(graph: Graph) -> Iterator[Violation]:
    """States are floating point, decays no integer rule."""
    if graph.semantics.decay == "shift":
        hint = "compile for the chip that it belongs to, or give semantics with decay='exponential'"
        expected = "'euler' or 'exponential'"
        yield Violation("onnx-decay", "decay 'shift' is an integer rule", expected=expected, hint=hint)
    if not graph.semantics.number_format.startswith("float"):
        what = f"the network means numbers of format {graph.semantics.number_format!r}"
        yield Violation("onnx-numbers", what, expected="'float32' or 'float64'")


def spikes_that_subtract(graph: Graph) -> Iterator[Violation]:
    """Several spikes per step need a reset that leaves what the next one needs."""
    several = graph.semantics.spikes_per_step != 1 and graph.semantics.reset != "subtract"
    if several and any(isinstance(op, SpikingNeuron) for op in graph.ops.values()):
        what = f"several spikes per step with reset {graph.semantics.reset!r}"
        yield Violation("onnx-spikes", what, expected="reset 'subtract'")


def resets(graph: Graph) -> Iterator[Violation]:
    """Every reset but snnTorch's subtraction with reset_delay=False."""
    if graph.semantics.reset == "held-subtract" and any(isinstance(op, SpikingNeuron) for op in graph.ops.values()):
        hint = "choose the target snntorch, or train with reset_mechanism='zero'"
        yield Violation("onnx-reset", "the network means reset 'held-subtract'", expected="another reset", hint=hint)


def float32_range(graph: Graph) -> Iterator[Violation]:
    """Weights and parameters are numbers that the file's type holds."""
    largest = float(np.finfo(np.float32).max)
    if graph.semantics.number_format == "float64":
        return
    for key, value in graph.weights().items():
        size = max(float(value.max(initial=0)), -float(value.min(initial=0)))
        if size > largest:
            name, _, slot = key.rpartition(".")
            yield Violation(
                "onnx-range",
                f"{slot} holds a number of size {size:.6g}",
                where=name,
                loc=str(graph[name].loc or ""),
                expected=f"at most {largest:.6g}, which is all that float32 holds",
            )


def one_file(graph: Graph) -> Iterator[Violation]:
    """An ONNX file, weights included, is below 2 GB."""
    each = 8 if graph.semantics.number_format == "float64" else 4
    size = each * sum(value.size for value in graph.weights().values())
    if size > MOST_BYTES:
        what = f"the weights take {size / 1e9:.1f} GB"
        yield Violation("onnx-size", what, expected=f"at most {MOST_BYTES / 1e9:.1f} GB, which one file holds")


def has_input(graph: Graph) -> Iterator[Violation]:
    """The input says how many steps and samples there are."""
    if not graph.inputs:
        yield Violation("onnx-input", "has no input, so nothing says how many steps to run", expected="an Input")


def named_ops(graph: Graph) -> Iterator[Violation]:
    """Values have their op's name, and '' stands for a value that is not there."""
    if "" in graph:
        what = f"the name of a {graph[''].kind} is empty"
        yield Violation("onnx-name", what, loc=str(graph[""].loc or ""), expected="at least one character")


TARGET = Target(
    name="onnx",
    title="ONNX",
    ops=frozenset(KINDS.values()),
    semantics=Semantics(),
    # Steps are spelt out in plain arithmetic, so whatever a step is can be said, but for integer rules.
    adapts=frozenset(f.name for f in fields(Semantics)),
    rules=(
        float_numbers,
        spikes_that_subtract,
        resets,
        float32_range,
        one_file,
        known_time_step,
        whole_delays,
        steady_cycles,
        has_input,
        named_ops,
    ),
    package="onnxruntime",
    extra="onnx",
    limits={"opset": "18", "IR version": "8", "states": "float32 or float64"},
)
