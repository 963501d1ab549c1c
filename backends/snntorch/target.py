"""The snnTorch target as data: the family's, and its own reset that comes one step late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from snnir.backends.torch_source.target import family_target
from snnir.discretise import recurrence
from snnir.errors import Violation
from snnir.ops import Neuron, SpikingNeuron
from snnir.semantics import Semantics

if TYPE_CHECKING:
    from snnir.graph import Graph


def late_reset(graph: Graph) -> Iterator[Violation]:
    """A reset one step after the spike is what snn.Leaky and snn.Synaptic do, and as they do it."""
    semantics = graph.semantics
    if not semantics.reset.startswith(("delayed", "held")) or semantics.dt is None or semantics.decay == "shift":
        return  # prompt, or refused by other rules
    for name, op in graph.ops.items():
        if isinstance(op, Neuron) and isinstance(op, SpikingNeuron):
            for what, expected in _unlike(op, semantics):
                yield Violation(
                    "snntorch-reset",
                    f"{what}, and the reset {semantics.reset!r} is snnTorch's own",
                    where=name,
                    loc=str(op.loc or ""),
                    expected=expected,
                    hint="train with reset_delay=False, that is reset 'value' or 'subtract'",
                )


def _unlike(op: Neuron, semantics: Semantics) -> Iterator[tuple[str, str]]:
    """In what a neuron differs from snnTorch's with a late reset, and what would do."""
    rule = recurrence(op, semantics)
    if (rule.decay < 0).any() or (rule.decay_syn is not None and (rule.decay_syn < 0).any()):
        yield "a time constant is below dt", "decays from 0 to 1, as snnTorch clamps them"
    if rule.threshold is not None and (rule.start >= rule.threshold).any():
        yield "the membrane starts at its threshold or above", "a start below, or the layer resets before it spiked"
    if semantics.reset.endswith("subtract"):
        return
    if rule.v_reset is not None and np.any(rule.v_reset):
        yield "v_reset is not 0", "v_reset 0, as in reset_mechanism='zero'"
    if rule.decay_syn is not None and np.any(rule.drive):
        yield "v_leak is not 0", "v_leak 0: snn.Synaptic has none"


TARGET = family_target("snntorch", "snnTorch", package="snntorch", extra="snntorch", reset=late_reset)
