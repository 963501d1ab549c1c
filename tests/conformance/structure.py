"""The cases of the group 'core' about what leads where, and when: sums, loops, delays."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Edge, Graph
from snnir.semantics import NIR_SEMANTICS, Semantics
from tests.conformance.parts import (
    STEP,
    affine,
    case,
    cubalif,
    full,
    later,
    lif,
    line,
    linear,
    means,
    net,
    sets,
    skipping,
    without,
)

Rng = np.random.Generator

# -- structure -------------------------------------------------------------------------------------------------------


@case(
    "chain",
    "spikes pass through three layers within one step",
    {
        "every layer takes a step": means(latency_neuron=1),
        "the last layer is left out": skipping("n3"),
    },
)
def _chain(rng: Rng) -> Graph:
    return line(
        4,
        2,
        fc1=linear(rng, 4, 4),
        n1=lif(4, threshold=0.84375),
        fc2=linear(rng, 4, 3),
        n2=lif(3, threshold=0.65625),
        fc3=linear(rng, 3, 2, low=-0.25),
        n3=lif(2, threshold=0.59375),
    )


@case(
    "fan-in",
    "two edges into one neuron sum",
    {"only the first edge arrives": without("b>lif"), "only the second edge arrives": without("a>lif")},
)
def _fan_in(rng: Rng) -> Graph:
    middle: Any = {"a": affine(rng, 4, 3), "b": linear(rng, 4, 3), "lif": lif(3, threshold=0.84375)}
    return net({"input": 4}, {"output": 3}, "input>a input>b a>lif b>lif lif>output", **middle)


@case(
    "output-sum",
    "two edges into the output sum",
    {"only the first edge arrives": without("n2>output"), "only the second edge arrives": without("n1>output")},
)
def _output_sum(rng: Rng) -> Graph:
    middle: Any = {
        "a": linear(rng, 4, 3),
        "b": linear(rng, 4, 3),
        "n1": lif(3, threshold=0.84375),
        "n2": lif(3, threshold=0.59375),
    }
    return net({"input": 4}, {"output": 3}, "input>a input>b a>n1 b>n2 n1>output n2>output", **middle)


@case(
    "skip",
    "a connection past a layer arrives in the same step",
    {
        "the skip connection is lost": without("n1>n2"),
        "the skip connection comes one step late": later("n1>n2"),
        "only the skip connection arrives": without("fc2>n2"),
    },
)
def _skip(rng: Rng) -> Graph:
    middle: Any = {
        "fc1": linear(rng, 4, 4),
        "n1": lif(4, threshold=0.84375),
        "fc2": linear(rng, 4, 4),
        "n2": lif(4, threshold=1.21875),
    }
    return net({"input": 4}, {"output": 4}, "input>fc1 fc1>n1 n1>fc2 fc2>n2 n1>n2 n2>output", **middle)


@case(
    "two-inputs",
    "two inputs of different sizes",
    {"the second input is lost": without("b>fc_b fc_b>lif"), "the first input is lost": without("a>fc_a fc_a>lif")},
)
def _two_inputs(rng: Rng) -> Graph:
    middle: Any = {"fc_a": linear(rng, 3, 3), "fc_b": linear(rng, 2, 3), "lif": lif(3, threshold=0.84375)}
    return net({"a": 3, "b": 2}, {"output": 3}, "a>fc_a b>fc_b fc_a>lif fc_b>lif lif>output", **middle)


@case(
    "two-outputs",
    "two outputs, one of a hidden layer",
    {"the hidden layer is read one step late": later("n1>early")},
)
def _two_outputs(rng: Rng) -> Graph:
    middle: Any = {
        "fc1": linear(rng, 4, 4),
        "n1": lif(4, threshold=0.84375),
        "fc2": linear(rng, 4, 2),
        "n2": lif(2, threshold=0.71875),
    }
    return net({"input": 4}, {"early": 4, "late": 2}, "input>fc1 fc1>n1 n1>fc2 fc2>n2 n1>early n2>late", **middle)


@case(
    "subgraph",
    "a graph within a graph is what stands in it (nested NIRGraph)",
    {"the neurons of the subgraph are left out": skipping("block.lif")},
    nested=True,
)
def _subgraph(rng: Rng) -> Graph:
    middle: Any = {
        "block.fc": affine(rng, 4, 4),
        "block.lif": lif(4, threshold=0.84375),
        "fc2": linear(rng, 4, 2),
        "lif": lif(2, threshold=0.71875),
    }
    return line(4, 2, **middle)


# -- time ------------------------------------------------------------------------------------------------------------


def recurrent(rng: Rng, neuron: Any, back: ops.Op, semantics: Semantics = NIR_SEMANTICS) -> Graph:
    middle: Any = {
        "fc": linear(rng, 4, 4),
        "n": neuron,
        "back": back,
        "out": linear(rng, 4, 2),
        "m": lif(2, threshold=0.71875),
    }
    return net({"input": 4}, {"output": 2}, "input>fc fc>n n>back back>n n>out out>m m>output", semantics, **middle)


_LOST = {
    "the recurrent connection is lost": without("n>back back>n"),
    "the recurrent connection takes two steps": later("n>back"),
}


def _through(graph: Graph) -> Graph:
    """What an importer computes that sends the input through the recurrent weights."""
    edges = [e for e in graph.edges if e != Edge("fc", "n")]
    return Graph(graph.ops, (*edges, Edge("fc", "back")), graph.semantics)


@case(
    "recurrent-lif",
    "spikes come back to their own layer one step later",
    {**_LOST, "the input goes through the recurrent weights": _through},
)
def _recurrent_lif(rng: Rng) -> Graph:
    return recurrent(rng, lif(4, threshold=0.84375), linear(rng, 4, 4, low=-1.0))


@case(
    "recurrent-cubalif",
    "spikes come back to a current-based layer one step later",
    {**_LOST, "the input goes through the recurrent weights": _through},
)
def _recurrent_cubalif(rng: Rng) -> Graph:
    return recurrent(rng, cubalif(4, threshold=1.34375), linear(rng, 4, 4, low=-1.0))


@case(
    "long-loop",
    "a loop through two layers is one step late in all, not one per layer",
    {"the loop is lost": without("n2>back back>n1"), "each layer of the loop takes a step": means(latency_neuron=1)},
)
def _long_loop(rng: Rng) -> Graph:
    middle: Any = {
        "fc1": linear(rng, 4, 4),
        "n1": lif(4, threshold=0.84375),
        "fc2": linear(rng, 4, 3),
        "n2": lif(3, threshold=0.71875),
        "back": linear(rng, 3, 4, low=-1.0),
    }
    return net({"input": 4}, {"output": 3}, "input>fc1 fc1>n1 n1>fc2 fc2>n2 n2>back back>n1 n2>output", **middle)


@case(
    "delay",
    "every channel has a delay of its own, in seconds",
    {
        "Delay is left out": skipping("delay"),
        "all channels have the first's delay": sets("delay", delay=lambda d: d[0]),
        "one step too many": sets("delay", delay=lambda d: d + STEP),
    },
)
def _delay(rng: Rng) -> Graph:
    delay = ops.Delay(delay=full(4, [STEP, 0.0, 3 * STEP, 2 * STEP]))
    middle: Any = {"fc1": linear(rng, 4, 4), "n1": lif(4, threshold=0.84375), "delay": delay}
    return line(4, 3, **middle, fc2=linear(rng, 4, 3), n2=lif(3, threshold=0.71875))


@case(
    "decimal-time",
    "dt = 0.1 ms with time constants in decimal milliseconds: dt is an argument, not 1 ms and not tau's own",
    {
        "dt is 1 ms": means(dt=1e-3),
        "decay by e^(-dt/tau)": means(decay="exponential"),
    },
)
def _decimal(rng: Rng) -> Graph:
    tau = np.full(3, 0.6e-3)
    neuron = ops.LIF(tau=full(3, tau), r=full(3, 1.0), v_threshold=full(3, 1.03e-4 / tau), v_reset=full(3, 0.0))
    return line(4, 3, NIR_SEMANTICS.with_(dt=1e-4), fc=linear(rng, 4, 3), lif=neuron)
