"""Recorded values of every op against the reference's, both in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.graph import Graph


def same_values(graph: Graph, recorded: Mapping[str, Any], expected: Mapping[str, Any], label: str) -> int:
    """Spikes are equal at every step, values to 1e-9 of their size. Gives the spike count."""
    assert set(recorded) == set(graph.ops)
    spikes = 0
    for name, value in expected.items():
        got = recorded[name]
        assert (got.shape, got.dtype) == (value.shape, np.float64), name
        if graph[name].spiking:
            np.testing.assert_array_equal(got, value, err_msg=f"{label}: spikes of {name}")
            spikes += int(value.sum())
        else:
            np.testing.assert_allclose(got, value, rtol=1e-9, atol=1e-9, err_msg=f"{label}: {name}")
    return spikes
