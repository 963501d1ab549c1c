"""Inputs that are made up for a graph: as its metadata describes them, else random spikes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.errors import CompileError
from snnir.graph import Graph, chain
from snnir.stimuli import described, stimuli


def net(hint: Any = None) -> Graph:
    lif = ops.IF(r=np.ones(3), v_threshold=np.full(3, 20.0), v_reset=np.zeros(3))
    graph = chain(ops.Input(shape=(3,)), lif, ops.Output())
    graph = replace(graph, semantics=graph.semantics.with_(dt=1.0))
    return graph if hint is None else replace(graph, metadata={"inputs": {"input": hint}})


def test_random_spikes_where_nothing_is_said() -> None:
    (x,) = stimuli(net(), batch=50, rate=0.2).values()
    assert x.shape == (100, 50, 3)
    assert set(np.unique(x)) == {0.0, 1.0}
    assert abs(x.mean() - 0.2) < 0.01
    assert not described(net())


def test_counts_follow_their_levels() -> None:
    hint = {"steps": 16, "most": 15, "mean": [2.5, 7.25, 40.0], "std": [0.0, 3.0, 0.0]}
    graph = net(hint)
    assert described(graph)
    (x,) = stimuli(graph, batch=400, seed=1).values()
    assert x.shape == (16, 400, 3)
    assert (x == np.rint(x)).all()
    assert (x.sum(axis=0)[:, 0] == 40).all()  # a level of 2.5 in 16 steps
    assert set(np.unique(x[..., 0])) == {2.0, 3.0}
    assert (x[..., 2] == 15).all()
    means = x.mean(axis=0)[:, 1]
    assert abs(means.mean() - 7.25) < 0.5
    assert abs(means.std() - 2.95) < 0.3  # a little less than 3, where levels are cut
    assert len(stimuli(graph, steps=5)["input"]) == 5
    np.testing.assert_array_equal(stimuli(graph, batch=4, seed=2)["input"], stimuli(graph, batch=4, seed=2)["input"])


def test_silence_follows_what_is_shown() -> None:
    hint = {"steps": 5, "shown": 3, "most": 15, "mean": 4, "std": 0}
    (x,) = stimuli(net(hint), batch=2).values()
    assert x[:, 0, 0].tolist() == [4, 4, 4, 0, 0]
    (longer,) = stimuli(net(hint), steps=8, batch=2).values()
    assert longer[:, 1, 2].tolist() == [4, 4, 4, 0, 0, 4, 4, 4]


def test_rows_are_taken_whole() -> None:
    hint = {"most": 15, "mean": [[1, 15, 8], [15, 1, 8]], "std": [[0, 0, 0], [0, 0, 3]]}
    (x,) = stimuli(net(hint), steps=4, batch=100).values()
    still = x[0, :, 0] == 1
    assert 30 < still.sum() < 70
    assert (x[:, still] == [1, 15, 8]).all()
    assert (x[:, ~still, :2] == [15, 1]).all()
    assert len(np.unique(x[:, ~still, 2])) > 5


@pytest.mark.parametrize(
    "hint",
    [
        {"most": 15, "mean": 7.5},
        {"most": 15, "mean": [1.0, 2.0], "std": 1.0},
        {"most": 15, "mean": 7.5, "std": 1.0, "colour": "red"},
        {"most": 15, "mean": 7.5, "std": 1.0, "shown": 3},
        {"most": 15, "mean": 7.5, "std": 1.0, "steps": 4, "shown": 5},
        {"most": 15, "mean": [[1.0, 2.0]], "std": 1.0},
        {"most": 15, "mean": [[1.0, 2.0, 3.0]] * 2, "std": [[1.0, 2.0, 3.0]] * 3},
        7,
    ],
)
def test_unsound_descriptions_are_refused(hint: Any) -> None:
    with pytest.raises(CompileError, match="does not describe an input"):
        stimuli(net(hint))


def test_validation_takes_what_the_model_says() -> None:
    report = snnir.validate(net({"steps": 16, "most": 15, "mean": 7.5, "std": 3.0}), ["torch"], batch=3)
    assert (report.steps, report.batch) == (16, 3)
    assert report.ok
    assert report.verdicts[0].spikes > 3 * 3 * 4
    assert report.to_json()["input"]["origin"] == "event counts as the model describes them, seed 0"
    assert "random spikes" in snnir.validate(net(), ["torch"], steps=4).to_json()["input"]["origin"]
