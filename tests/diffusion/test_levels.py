"""Neurons with graded thresholds in the place of one: what they say of a current, and that targets agree on it."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
import torch

import snnir
from snnir import nn
from snnir.errors import UsageError
from snnir.models import fsddim, fsddim_twin
from tests.diffusion.denoisers import denoiser, noise, rate, spiking


def test_levels_say_how_large_a_current_is() -> None:
    """(k + 1/2) / 8: the part that spikes is the current to the nearest eighth, from 0 to 1."""
    group = fsddim.lif(fsddim.PRESETS["small"])
    assert isinstance(group, fsddim.Levels)
    current = torch.linspace(-1, 2, 2999, dtype=torch.float64).view(1, 1, -1)
    said = group(current).detach().flatten().numpy()
    np.testing.assert_allclose(said, np.clip(np.round(current.flatten().numpy() * 8), 0, 8) / 8, atol=1e-12)


def test_several_steps_are_the_paper_s_neuron_at_every_threshold() -> None:
    config = fsddim.Config(image=(1, 4, 4), widths=(1, 1), levels=2)
    current = torch.rand(6, 1, 5, generator=torch.Generator().manual_seed(0))
    low, high = (nn.LIF.from_decay(0.8, dt=1e-3, v_threshold=v, reset="value")(current) for v in (0.25, 0.75))
    torch.testing.assert_close(fsddim.Levels(config)(current), (low + high) / 2)


def test_parameters_and_the_twin_are_those_of_one_neuron_per_channel() -> None:
    count = {
        preset: sum(p.numel() for p in fsddim.build(preset, weights="none").parameters())
        for preset in ("small", "small-temporal")
    }
    assert count == {"small": 264_804 + 13, "small-temporal": 264_804}  # and what a spike counts, per population
    twin, temporal = (
        {name: value for name, value in model.state_dict().items() if ".worth" not in name}
        for model in (fsddim_twin.build("small", seed=2), fsddim_twin.build("small-temporal", seed=2))
    )
    assert twin.keys() == temporal.keys()
    assert all(torch.equal(twin[name], temporal[name]) for name in twin)
    with pytest.raises(UsageError, match="leave `levels` away"):
        fsddim_twin.build("small", levels=4)


def test_fewer_than_one() -> None:
    with pytest.raises(UsageError, match="levels is 0, expected at least 1; steps is -1, expected at least 1"):
        fsddim.build("small", levels=0, steps=-1)


def test_a_current_that_no_one_level_can_say_is_learned() -> None:
    """The surrogate of a level does not end before the next one begins: a current anywhere in reach has a gradient."""
    group = fsddim.lif(fsddim.PRESETS["small"])
    current = torch.linspace(0, 1, 101).view(1, 1, -1).requires_grad_()
    group(current).sum().backward()
    assert current.grad is not None
    assert float(current.grad.min()) > 0.3


@pytest.mark.oracle
def test_strict_nir_of_a_whole_denoiser(tmp_path: Path) -> None:
    graph = denoiser(7, levels=3, steps=1)
    snnir.compile(graph, target="nir").save(tmp_path / "out")
    read = nir.read(tmp_path / "out" / "graph.nir", type_check=True)
    kinds = {type(node).__name__ for node in read.nodes.values()}
    assert {"LIF", "Conv2d"} <= kinds
    again = snnir.load(tmp_path / "out" / "graph.nir")
    x = np.asarray(noise(graph))
    time = np.random.default_rng(0).normal(size=(*x.shape[:2], 8))
    names = spiking(graph)
    want, spikes = snnir.interpret(graph, {"x": x, "time": time}, record=names)
    shaped = time.reshape(*time.shape, 1, 1) if len(again.shapes["time"]) == 3 else time
    np.testing.assert_allclose(snnir.interpret(again, {"x": x, "time": shaped}), want, rtol=0, atol=1e-5)
    assert 0.02 < rate(spikes) < 0.6
