"""Resets that single frameworks have: by hand, number by number."""

from __future__ import annotations

import numpy as np
import pytest

from snnir import interpret, ops
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.semantics import Semantics


def integrator(**fields: object) -> Graph:
    semantics = Semantics(dt=1e-3, gain="unit", **fields)  # type: ignore[arg-type]
    return chain(ops.Input(shape=(1,)), ops.IF(v_threshold=np.array(1.0)), ops.Output(), semantics=semantics)


def spikes(graph: Graph, *x: float) -> tuple[list[float], list[float]]:
    name = next(n for n, op in graph.ops.items() if isinstance(op, ops.IF))
    out, recorded = interpret(graph, np.array(x).reshape(-1, 1, 1), record=[f"{name}:v"])
    return out.ravel().tolist(), recorded[f"{name}:v"].ravel().tolist()


def test_a_subtraction_that_holds_asks_twice_of_a_membrane_left_above_the_threshold() -> None:
    """v = 2.5: a spike, 1.5 left. 1.5 - 1 is not above 1: no spike, nothing taken off. v = 2.25: 1.25 is, a spike."""
    held = integrator(reset="held-subtract")
    assert spikes(held, 2.5, 0.0, 0.75, 0.0) == ([1, 0, 1, 0], [1.5, 1.5, 1.25, 1.25])
    assert spikes(integrator(reset="subtract"), 2.5, 0.0, 0.75, 0.0)[0] == [1, 1, 1, 0]
    below = [0.75, 0.75, 0.75, 0.0, 0.75]  # where nothing is left above, it is an ordinary subtraction
    assert spikes(held, *below) == spikes(integrator(reset="subtract"), *below)


def test_several_spikes_and_a_reset_to_a_value() -> None:
    several = integrator(reset="value", spikes_per_step=None, comparison=">=")
    assert spikes(several, 3.5, 0.5, 0.5, 2.0) == ([3, 0, 1, 2], [0.0, 0.5, 0.0, 0.0])
    most = integrator(reset="value", spikes_per_step=2, comparison=">=")
    assert spikes(most, 3.5, 0.5, 0.5, 2.0)[0] == [2, 0, 1, 2]
    with pytest.raises(CompileError, match="several spikes per step with reset 'held-subtract'"):
        spikes(integrator(reset="held-subtract", spikes_per_step=None), 1.0)
