"""SDiT's spiking variant: strictly NIR, the same on every target, trained and sampled as any denoising network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

import snnir
from snnir import nn
from snnir.diffusion.checkpoint import write_weights
from snnir.diffusion.labels import one_hot, told
from snnir.diffusion.sample import compiled_denoiser, graph_denoiser, module_denoiser, noise, sample
from snnir.diffusion.spec import spec_of, time_features
from snnir.diffusion.train import Progress, TrainConfig, train
from snnir.errors import UsageError
from snnir.models import sdit

TINY: dict[str, Any] = dict(image=(1, 4, 4), width=8, time=8, classes=3)


def tiny(**options: Any) -> Any:
    """Four tokens of 8 channels, with batch norms that have seen something, in evaluation mode."""
    model = sdit.build("digits", variant="spiking", weights="none", seed=2, **{**TINY, **options})
    torch.manual_seed(0)
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, nn.tdBatchNorm2d)):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.05, 0.3)
            norm.bias.uniform_(0, 0.4)
    return model.eval()


def example(model: Any, batch: int = 3, dtype: Any = np.float64) -> dict[str, Any]:
    """One denoising call."""
    rng, config = np.random.default_rng(1), model.config
    parts = [rng.normal(size=(batch, *model.currents)), time_features(rng.integers(0, 1000, batch), config.time)]
    if config.classes:
        parts.append(one_hot([*(i % config.classes for i in range(batch - 1)), None], config.classes))
    return {
        name: np.broadcast_to(value, (config.steps, *value.shape)).astype(dtype)
        for name, value in zip(("x", "time", "label"), parts, strict=False)
    }


def parameters(**options: Any) -> int:
    model = sdit.build(weights="none", variant="spiking", **options)
    return sum(p.numel() for p in model.parameters())


def test_sizes() -> None:
    assert parameters(preset="digits") == 125_404
    assert parameters(preset="small") == 269_608
    per_block, blocks = 4 * 48 * (2 * 16 + 2) + 4 + 48 + 4 + 48 + 2 * 48 + 48 * 48 + 48, 3
    assert parameters(preset="digits") - parameters(preset="digits", reconstruction=False) == blocks * per_block
    assert parameters(preset="digits") - parameters(preset="digits", classes=0) == 11 * 48


def test_the_filter_is_exponential_towards_four_corners() -> None:
    layer = nn.ExponentialFilter2d(8, 2)
    impulse = torch.zeros(1, 1, 8, 5, 5)
    impulse[..., 2, 2] = 1.0
    y = layer(impulse)[0, 0]
    for channel, decay in enumerate(np.exp(-np.exp(1 - 4 * np.repeat([0.0, 1.0], 4)))):
        where = np.arange(5) - 2
        down, right = (1 if channel % 4 // 2 else -1), (1 if channel % 2 else -1)
        rows = np.where(where * down >= 0, decay ** np.abs(where), 0)
        columns = np.where(where * right >= 0, decay ** np.abs(where), 0)
        both = rows[:, None] * columns
        got = y[channel].numpy()
        assert any(np.allclose(got, side / both.sum(), atol=1e-6) for side in (both, both[::-1, ::-1]))
    corners = {tuple(np.argwhere(y[c].numpy() > 1e-9).min(axis=0)) for c in range(4)}
    assert corners == {(0, 0), (0, 2), (2, 0), (2, 2)}
    assert not list(layer.parameters())
    assert sum(p.requires_grad for p in snnir.compile(snnir.load(tiny()), "torch").module().parameters()) == sum(
        1 for _ in tiny().parameters()
    )


@pytest.mark.parametrize("preset", ["digits", "small"])
def test_it_is_strictly_nir(preset: str, tmp_path: Path) -> None:
    graph = snnir.load(sdit.build(preset, variant="spiking", weights="none"))
    (tmp_path / "g.nir").write_bytes(snnir.compile(graph, "nir").files()["graph.nir"])
    read = nir.read(tmp_path / "g.nir", type_check=True)
    assert read.check_types()
    kinds = {type(node).__name__ for node in read.nodes.values()}
    assert kinds == {"Input", "Output", "Conv2d", "LIF"}
    assert all(n.v_reset is not None for n in read.nodes.values() if isinstance(n, nir.LIF))


def test_the_nir_file_is_the_module() -> None:
    model = tiny()
    given = example(model)
    with torch.no_grad():
        want = model.double()(*(torch.from_numpy(v) for v in given.values())).numpy()
    assert want.std() > 0.05
    graph = snnir.load(model)
    np.testing.assert_allclose(snnir.interpret(graph, given), want, atol=1e-9)
    result = snnir.compile(graph, "nir")
    np.testing.assert_allclose(result.run(given), want, atol=1e-6)


@pytest.mark.parametrize("image", [(1, 8, 12), (1, 6, 10), (2, 10, 6), (1, 2, 6), (1, 2, 2)], ids=str)
def test_grids_that_are_not_square_and_odd_ones(image: Any, tmp_path: Path) -> None:
    """2 to 6 tokens along an axis: strictly NIR, since kernels are square also where grids are not."""
    model = tiny(image=image)
    given, graph = example(model), snnir.load(model)
    with torch.no_grad():
        want = model.double()(*(torch.from_numpy(v) for v in given.values())).numpy()
    assert want.shape[2:] == model.currents
    np.testing.assert_allclose(snnir.interpret(graph, given), want, atol=1e-9)
    result = snnir.compile(graph, "nir")
    np.testing.assert_allclose(result.run(given), want, atol=1e-6)
    (tmp_path / "g.nir").write_bytes(result.files()["graph.nir"])
    read = nir.read(tmp_path / "g.nir", type_check=True)
    assert all(n.weight.shape[2] == n.weight.shape[3] for n in read.nodes.values() if isinstance(n, nir.Conv2d))


def test_a_grid_with_one_even_and_one_odd_side_is_right_but_not_for_nir_s_type_check(tmp_path: Path) -> None:
    """No padding on both sides makes such a grid square; nir 1.0.8 takes a kernel's height for its width."""
    model = tiny(image=(1, 4, 6))
    given = example(model)
    result = snnir.compile(snnir.load(model), "nir")
    with torch.no_grad():
        want = model.double()(*(torch.from_numpy(v) for v in given.values())).numpy()
    np.testing.assert_allclose(result.run(given), want, atol=1e-6)
    (tmp_path / "g.nir").write_bytes(result.files()["graph.nir"])
    assert "blocks_in.0.reconstruction.whole" in nir.read(tmp_path / "g.nir", type_check=False).nodes
    with pytest.raises(ValueError, match=r"reconstruction\.whole"):
        nir.read(tmp_path / "g.nir", type_check=True)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (3, 5), (7, 2)])
def test_the_filter_is_a_mean_of_all_that_lies_towards_a_corner(rows: int, columns: int) -> None:
    """On grids of odd sizes, and narrower than it reaches: written out, token by token."""
    reach, x = max(rows, columns) - 1, np.random.default_rng(0).normal(size=(1, 1, 4, rows, columns))
    layer = nn.ExponentialFilter2d(4, reach).double()
    got = layer(torch.from_numpy(x))[0, 0].numpy()
    decay = np.exp(-np.exp(1.0))  # of four channels, all the first
    total = sum(decay ** (i + j) for i in range(reach + 1) for j in range(reach + 1))
    ways = set()
    for channel in range(4):
        found = []
        for down in (1, -1):
            for right in (1, -1):
                y = np.zeros((rows, columns))
                for r, c, i, j in np.ndindex(rows, columns, reach + 1, reach + 1):
                    if 0 <= r + down * i < rows and 0 <= c + right * j < columns:
                        y[r, c] += decay ** (i + j) * x[0, 0, channel, r + down * i, c + right * j] / total
                if np.allclose(y, got[channel], atol=1e-6):
                    found.append((down, right))
        assert found
        ways |= {found[0]} if min(rows, columns) > 1 else {(0, k) for k in range(4)}
    assert len(ways) == 4


def test_every_population_spikes_and_none_always() -> None:
    graph = snnir.load(tiny())
    populations = [name for name, op in graph.ops.items() if op.kind == "LIF"]
    _, spikes = snnir.interpret(graph, example(tiny(), batch=8), record=populations)
    assert len(populations) == 16
    assert all(0 < spikes[name].mean() < 1 for name in populations)


def test_torch_s_family_is_identical_and_lava_is_what_quantising_makes_of_it() -> None:
    model = tiny()
    given = {name: np.repeat(value, 8, axis=0) for name, value in example(model, batch=8).items()}  # Lava's is late
    report = snnir.validate(snnir.load(model), ["torch", "norse", "snntorch", "lava"], given)
    *family, lava = report.verdicts
    assert [v.verdict for v in family] == ["identical"] * 3
    assert lava.spikes > 1000
    assert lava.differing > 0  # eight bits do move some spikes
    assert lava.count_error < 0.1
    assert lava.integers is not None
    assert lava.integers.remainder < 1e-9  # all roundings in floats give every spike of the chip
    assert max(c.alone for c in lava.integers.causes if c.name == "weights") > 0
    assert not any(c.name == "layout" for c in lava.integers.causes)


def test_input_shorter_than_lava_s_latency_is_no_comparison() -> None:
    model = tiny()
    (lava,) = snnir.validate(snnir.load(model), "lava", example(model, batch=2)).verdicts
    assert not lava.ok
    assert "4 steps of input end before anything that they cause arrives" in lava.cause


def test_lava_draws_what_the_network_draws_without_recorded_input() -> None:
    """What it measures with is noise, times and labels of the network's own."""
    model = tiny()
    graph, spec = snnir.load(model), spec_of(snnir.load(model))
    given = example(model, batch=4, dtype=np.float32)
    chip = compiled_denoiser(snnir.compile(graph, "lava"), spec)(*given.values())
    want = snnir.interpret(graph, given)
    assert np.abs(chip - want).mean() < 0.25 * np.abs(want).mean()


def test_it_trains_and_its_weights_go_back(tmp_path: Path) -> None:
    model = tiny()
    graph, spec = snnir.load(model), spec_of(snnir.load(model))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 64)
    images = np.clip(labels[:, None, None, None] - 1 + 0.1 * rng.normal(size=(64, 1, 4, 4)), -1, 1).astype(np.float32)
    module, seen = snnir.compile(graph, "torch").module(), list[Progress]()
    before = module.state_dict()["blocks_in_0_time_mix_filter.weight"].clone()
    config = TrainConfig(images=6400, batch=64, ema=0.9, consistency=0.0)
    state = train(module, spec, images, config, every=20, report=seen.append, labels=labels)
    assert seen[-1].loss < 0.8 * seen[0].loss
    torch.testing.assert_close(module.state_dict()["blocks_in_0_time_mix_filter.weight"], before, rtol=0, atol=0)

    trained = graph.with_weights(state)
    write_weights(tmp_path / "w.safetensors", graph, trained)
    again = sdit.build("digits", variant="spiking", weights=str(tmp_path / "w.safetensors"), **TINY).eval()
    given = example(again, dtype=np.float32)
    want = snnir.interpret(trained, given)
    np.testing.assert_allclose(snnir.interpret(snnir.load(again), given), want, atol=1e-5)

    start, told_ones = noise(spec, 3), [0, 2, None]
    by_graph = sample(told(graph_denoiser(trained), spec, told_ones), spec, start, steps=4).images
    module = snnir.compile(trained, "torch").module()
    by_module = sample(told(module_denoiser(module), spec, told_ones), spec, start, steps=4).images
    np.testing.assert_allclose(by_module, by_graph, atol=1e-4)
    assert by_graph.shape == (3, 1, 4, 4)


def test_it_learns_the_variance_where_it_is_asked_to() -> None:
    spec = spec_of(snnir.load(tiny(prediction="noise", variance=True)))
    assert (spec.prediction, spec.variance, spec.schedule, spec.fold, spec.steps) == ("noise", True, "linear", 2, 4)
    model = tiny(prediction="noise", variance=True)
    assert snnir.interpret(snnir.load(model), example(model)).shape == (4, 3, 8, 2, 2)


def test_a_variant_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="variant is 'spikin', expected one of published, spiking"):
        sdit.build("digits", variant="spikin")
    with pytest.raises(UsageError, match="no weights for SDiT 'mnist', spiking"):
        sdit.build("mnist", variant="spiking", weights="shipped")
