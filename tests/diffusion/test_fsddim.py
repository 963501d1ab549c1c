"""FSDDIM as it is specified: sizes, neuron, schedule, losses, sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import snnir
from snnir import nn
from snnir.diffusion.losses import current_losses, v_target
from snnir.diffusion.sample import graph_denoiser, module_denoiser, noise, sample
from snnir.diffusion.schedule import CosineSchedule
from snnir.diffusion.spec import DiffusionSpec, fold_pixels, spec_of, time_embedding, unfold_pixels
from snnir.errors import CompileError, UsageError
from snnir.models import fsddim

TINY = dict(image=(1, 6, 4), widths=(4, 6), time=(8, 8), steps=3)


def lively(**options) -> fsddim.SpikingUNet:
    """A tiny network whose neurons fire: batch norms with statistics of their own."""
    model = fsddim.build("digits", seed=3, **{**TINY, **options})
    generator = torch.Generator().manual_seed(5)
    for layer in model.modules():
        if isinstance(layer, nn.tdBatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.02, 0.1, generator=generator)
            layer.bias.data.uniform_(0, 0.4, generator=generator)
    return model.eval()


def test_parameters_of_the_paper():
    count = {channels: _parameters(fsddim.build("paper", image=(channels, 32, 32))) for channels in (1, 3)}
    assert count == {1: 52_536_705, 3: 52_540_547}


def test_parameters_of_the_small_presets():
    assert _parameters(fsddim.build("small-temporal", weights="none")) == 264_804
    assert _parameters(fsddim.build("small-temporal", weights="none", stem_skip=False)) == 252_388


def _parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_paper_has_the_paper_s_layers():
    graph = snnir.load(fsddim.build("paper"))
    kinds = [type(op).__name__ for op in graph.ops.values()]
    # 19 ResBlocks of two neurons and a time neuron, two levels that end in neurons, the time embedding's
    assert kinds.count("LIF") == 19 * 3 + 2 + 1
    assert kinds.count("BatchNorm") == 19 * 3 + 2
    assert graph["conv_out"].weight.shape == (1, 768, 1, 1)
    assert graph.shapes["middle.0.neurons2"] == (512, 4, 4)


def test_neuron():
    neuron = fsddim.lif(fsddim.PRESETS["paper"])
    x = torch.tensor([0.5556] * 4 + [1.0, 1.01, 0.3])
    u, expected = 0.0, []
    for current in x.tolist():
        u = 0.8 * u + current
        expected.append(float(u > 1))
        u = 0.0 if u > 1 else u
    assert expected == [0, 1, 0, 1, 0, 1, 0]  # u = 1 at the fifth: not above the threshold
    assert neuron(x.double().view(-1, 1, 1)).flatten().tolist() == expected


def test_neuron_counts_for_constant_currents():
    neuron = fsddim.lif(fsddim.PRESETS["paper"])
    counts = {current: int(neuron(torch.full((4, 1, 1), current)).sum()) for current in (0.33, 0.34, 0.55, 0.56, 1.01)}
    assert counts == {0.33: 0, 0.34: 1, 0.55: 1, 0.56: 2, 1.01: 4}


def test_surrogate_is_a_triangle_and_the_reset_is_detached():
    neuron = fsddim.lif(fsddim.PRESETS["paper"])
    x = torch.tensor([[[0.9]], [[0.5]]], requires_grad=True)
    neuron(x).sum().backward()
    # u0 = 0.9 (no spike), u1 = 1.22: max(0, 1 - 2 |u - 1|), and u1 depends on u0 by 0.8
    assert x.grad.flatten().tolist() == pytest.approx([0.8 + 0.8 * 0.56, 0.56], abs=1e-6)


def test_tdbn_scales_with_alpha_where_branches_meet():
    block = fsddim.build("digits", weights="none").down
    assert [block.norm1.alpha, block.norm2.alpha, block.shortcut_norm.alpha] == pytest.approx([1, 0.5**0.5, 0.5**0.5])


def test_schedule_is_the_published_one():
    schedule = CosineSchedule()
    abar = schedule.abar()
    f = [np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2 for t in range(1001)]
    betas = [min(1 - f[t + 1] / f[t], 0.999) for t in range(1000)]
    assert abar == pytest.approx(np.cumprod([1 - b for b in betas]), rel=1e-12)
    w = schedule.output_weights()
    assert w[[0, 1, 500, 999]] == pytest.approx([1.0, 0.455, 0.2426, 0.235], abs=6e-4)


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_rotations_are_ddim(steps):
    schedule = CosineSchedule()
    abar = np.append(schedule.abar(), 1.0)  # at -1: the image
    turns = schedule.rotations(steps)
    assert len(turns) == steps
    assert turns[0].t == 999
    for now, after in zip(turns, [*[turn.t for turn in turns[1:]], -1], strict=True):
        c2 = np.sqrt(1 - abar[after]) / np.sqrt(1 - abar[now.t])
        c1 = np.sqrt(abar[after]) - np.sqrt(abar[now.t]) * c2
        assert now.a == pytest.approx(c1 * np.sqrt(abar[now.t]) + c2, abs=1e-9)
        assert now.b == pytest.approx(-c1 * np.sqrt(1 - abar[now.t]), abs=1e-9)


@pytest.mark.parametrize("steps", [0, 1001])
def test_more_steps_than_the_schedule_has(steps):
    with pytest.raises(UsageError, match="the schedule has 1 to 1000"):
        CosineSchedule().rotations(steps)


def test_losses_are_the_specified_ones():
    generator = torch.Generator().manual_seed(0)
    y, v = torch.randn(4, 2, 1, 3, 3, generator=generator), torch.randn(2, 1, 3, 3, generator=generator)
    weight, spread = torch.tensor([0.5, 2.0]), torch.tensor([1.0, 0.25])
    image = consistency = 0.0
    for b in range(2):
        decoded = sum(y[s, b] for s in range(4)) / 4
        image += weight[b] * ((decoded - v[b]) ** 2).mean() / 2
        consistency += spread[b] * sum(((decoded - y[s, b]) ** 2).mean() for s in range(4)) / 4 / 2
    losses = current_losses(y, v, weight, spread)
    assert [float(losses.image), float(losses.consistency)] == pytest.approx(
        [float(image), float(consistency)], rel=1e-5
    )


def test_snr_weighting_is_the_noise_loss():
    abar = torch.from_numpy(CosineSchedule().abar()[[100, 700]])
    angle = torch.arccos(abar.sqrt())
    x0, eps, guess = (torch.randn(2, 1, 3, 3, dtype=torch.float64) for _ in range(3))
    x, v = v_target(x0, eps, angle)
    losses = current_losses(guess.unsqueeze(0), v, abar, torch.zeros(2))
    eps_hat = angle.cos().view(2, 1, 1, 1) * guess + angle.sin().view(2, 1, 1, 1) * x
    assert float(losses.image) == pytest.approx(float((eps_hat - eps).square().mean()), rel=1e-9)


def test_time_embedding():
    table = time_embedding(np.array([0, 17]), 8)
    rates = [10000 ** (-k / 3) for k in range(4)]
    assert table[0].tolist() == [0, 1] * 4
    assert table[1] == pytest.approx([f(17 * r) for r in rates for f in (np.sin, np.cos)])


def test_folding_is_pixel_unshuffle():
    x = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)
    folded = fold_pixels(x, 2)
    assert np.array_equal(folded, torch.nn.functional.pixel_unshuffle(torch.from_numpy(x), 2).numpy())
    assert np.array_equal(unfold_pixels(folded, 2), x)


def test_graph_carries_how_it_is_sampled():
    model = lively()
    assert spec_of(snnir.load(model)) == model.diffusion
    assert DiffusionSpec.from_dict(model.diffusion.to_dict()) == model.diffusion


@pytest.mark.parametrize(
    ("preset", "options", "said"),
    [
        ("small", dict(fold=3), ["image is 28x28, expected sides that 6 divides"]),
        ("digits", dict(image=(1, 7, 7)), ["image is 7x7, expected sides that 2 divides"]),
        ("paper", dict(image=(1, 10, 12), widths=(4, 6, 8)), ["image is 10x12, expected sides that 4 divides"]),
        ("digits", dict(blocks=2), ["blocks is 2, expected 1"]),
        ("digits", dict(widths=(4, 6, 8)), ["widths are [4, 6, 8], expected two"]),
        ("digits", dict(time=(9, 8)), ["time_size is 9, expected an even number, at least 4"]),
        ("digits", dict(time=(2, 8)), ["time_size is 2, expected an even number, at least 4"]),
        (
            "digits",
            dict(image=(8, 8), steps=1.5, reset="none", stem_skip="no", middle=-1, widths=4, time=(0, 8)),
            [
                *("image is (8, 8)", "steps is 1.5", "reset is 'none'", "stem_skip is 'no'"),
                *("middle is -1", "widths is 4", "time is (0, 8)"),
            ],
        ),
        ("nano", dict(steps=0, hidden=2.5), ["steps is 0", "hidden is 2.5", "at least 1"]),
    ],
)
def test_sizes_that_there_are_not(preset, options, said):
    with pytest.raises(UsageError) as caught:
        fsddim.build(preset, weights="none", **options)
    assert not [words for words in said if words not in str(caught.value)]


def test_specifications_that_nothing_can_be_sampled_with():
    with pytest.raises(UsageError) as caught:
        DiffusionSpec(image=(1, 6, 4), steps=0, time_size=7, fold=4, timesteps=0)
    said = str(caught.value)
    assert "fold is 4, expected a number that divides both sides of 6x4 pixels" in said
    assert all(words in said for words in ("time_size is 7", "steps is 0", "timesteps is 0"))
    with pytest.raises(UsageError, match=r"image is \[4, 4\]"):
        DiffusionSpec(image=(4, 4), steps=1, time_size=8)


def test_graph_of_something_else_is_no_denoiser():
    with pytest.raises(CompileError, match="does not say how it is sampled"):
        spec_of(snnir.load(nn.Sequential(nn.Linear(3, 2), nn.LIF(5e-3, dt=1e-3))))


def test_sampler_is_the_textbook_s_for_a_constant_current():
    """A denoiser whose output does not depend on s: current space and decoding in every step are the same."""
    spec = DiffusionSpec(image=(1, 2, 2), steps=3, time_size=8)

    def denoise(x, time):
        return np.tanh(x) * 0.5 + 0.1

    start = noise(spec, 4, dtype=np.float64)
    drawn = sample(denoise, spec, start, 20)
    schedule = CosineSchedule()
    abar = np.append(schedule.abar(), 1.0)
    x = start
    times = [turn.t for turn in schedule.rotations(20)]
    for t, after in zip(times, [*times[1:], -1], strict=True):
        v = np.tanh(x) * 0.5 + 0.1
        x0 = np.sqrt(abar[t]) * x - np.sqrt(1 - abar[t]) * v
        eps = np.sqrt(1 - abar[t]) * x + np.sqrt(abar[t]) * v
        x = np.sqrt(abar[after]) * x0 + np.sqrt(1 - abar[after]) * eps
    assert drawn.images == pytest.approx(np.clip(x, -1, 1), abs=1e-9)
    assert drawn.currents[2] == pytest.approx(drawn.currents[0])


def test_clipped_sampler_keeps_images_within_bounds_and_is_the_other_one_where_nothing_is_clipped():
    spec = DiffusionSpec(image=(1, 2, 2), steps=2, time_size=8)
    start = noise(spec, 3, dtype=np.float64)

    def small(x, time):
        return x * 0.9

    plain = sample(small, spec, start * 0.01, 10)
    assert sample(small, spec, start * 0.01, 10, clip=True).images == pytest.approx(plain.images, abs=1e-9)

    def wild(x, time):
        return x * 3

    assert np.abs(sample(wild, spec, start, 10, clip=True).currents).max() <= 1 + 1e-9


def test_noise_of_an_image_does_not_depend_on_how_many_there_are():
    spec = DiffusionSpec(image=(1, 2, 2), steps=2, time_size=8)
    assert np.array_equal(noise(spec, 5)[:2], noise(spec, 2))


def test_noise_of_another_size():
    spec = DiffusionSpec(image=(1, 2, 2), steps=2, time_size=8)
    with pytest.raises(UsageError, match=r"\[1, 1, 3, 3\]"):
        sample(lambda x, t: x, spec, np.zeros((1, 1, 3, 3)), 2)


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["torch", "norse", "snntorch", "rockpool", "sinabs", "spikingjelly"])
def test_targets_draw_the_interpreter_s_images(target):
    graph = snnir.load(lively())
    spec = spec_of(graph)
    start = noise(spec, 3, seed=1, dtype=np.float64)
    reference = sample(graph_denoiser(graph), spec, start, 6)
    module = snnir.compile(graph, target=target).module().double()
    drawn = sample(module_denoiser(module), spec, start, 6)
    assert drawn.currents == pytest.approx(reference.currents, abs=1e-9)
    spikes = snnir.interpret(
        graph, {"x": np.repeat(start[None], 3, 0), "time": np.zeros((3, 3, 8))}, record=["down.neurons2"]
    )[1]["down.neurons2"]
    assert 0.02 < spikes.mean() < 0.6
