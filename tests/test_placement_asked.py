"""Places that are asked for and cannot be: one error that says why, whatever the cut would make of it."""

from __future__ import annotations

import numpy as np
import pytest

from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.ops import LIF, Input, Linear, Output
from snnir.placement import partition
from snnir.semantics import NIR_SEMANTICS


def net() -> Graph:
    return chain(
        ("x", Input(shape=(4,))),
        ("a", LIF(tau=np.full(4, 0.01), v_threshold=np.ones(4))),
        ("out", Linear(weight=np.ones((3, 4)))),
        ("y", Output()),
        semantics=NIR_SEMANTICS.with_(dt=1e-3, start="zero"),
    )


def test_weights_that_only_an_output_reads_cannot_be_asked_onto_the_chip() -> None:
    with pytest.raises(CompileError) as caught:
        partition(net(), "lava", place={"out": "chip"})
    assert [(v.rule, v.where) for v in caught.value.violations] == [("placement-port", "out")]


def test_everything_asked_to_the_host_is_said_to_be_so() -> None:
    with pytest.raises(CompileError) as caught:
        partition(net(), "lava", place={"*": "host"})
    (fault,) = caught.value.violations
    assert (fault.rule, fault.where) == ("placement-nothing", "a")
    assert fault.what == "stays on the host: as you say"
    assert "lava" not in fault.hint
