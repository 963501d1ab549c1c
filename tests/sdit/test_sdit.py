"""SDiT as it is specified: sizes, neuron, what sees what, labels and guidance, bad options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import snnir
from snnir.cost import cost
from snnir.diffusion.spec import check_inputs, spec_of
from snnir.errors import UsageError
from snnir.models import sdit
from snnir.models.sdit_blocks import Rate
from snnir.models.sdit_inputs import guided, one_hot, time_features
from tests.sdit.nets import TINY, called, example, lively


def parameters(**options: Any) -> int:
    return sum(p.numel() for p in sdit.build(**options).parameters())


def test_parameters_of_the_paper() -> None:
    assert parameters(preset="mnist") == 11_667_259
    assert parameters(preset="mnist", reconstruction=False) == 10_529_634
    assert parameters(preset="cifar") == 36_052_047
    assert parameters(preset="cifar", reconstruction=False) == 33_322_338


def test_parameters_of_the_small_presets() -> None:
    assert parameters(preset="small", weights="none") == 212_848
    assert parameters(preset="digits", weights="none") == 108_785


def test_the_published_network_has_the_published_parts() -> None:
    graph = snnir.load(sdit.build("mnist"))
    kinds = [op.kind for op in graph.ops.values()]
    counts = {"Wkv": 5, "LIF": 10, "TokenShift": 25, "LayerNorm": 11, "Conv2d": 2, "Repeat": 10, "TemporalMean": 10}
    assert {kind: kinds.count(kind) for kind in counts} == counts
    assert graph.shapes["blocks_in.0.time_mix.wkv"] == (394, 384)  # 197 tokens, and as many of reconstruction
    assert graph.shapes["output"] == (6, 28, 28)  # noise and logits of its variance
    assert graph.semantics.comparison == ">="
    assert cost(graph).macs == 4_050_511_402  # 4.05 G per denoising call, whatever the neurons' steps
    assert graph["blocks_in.0.rate1.repeat"].steps == 4  # type: ignore[attr-defined]
    assert len(snnir.load(sdit.build("mnist", reconstruction=False)).ops) < len(graph)


def test_neurons_make_a_staircase_of_a_constant_current() -> None:
    x = torch.tensor([-3.0, 0.5, 1.06, 1.07, 1.33, 1.34, 1.99, 2.0, 9.0])
    rate = Rate(4)(x.expand(1, 1, -1)).flatten()
    assert rate.tolist() == [0, 0, 0, 0.25, 0.25, 0.5, 0.5, 1, 1]


def test_the_start_is_rwkv_s() -> None:
    model = sdit.build("mnist")
    first, last = model.blocks_in[0].time_mix, model.blocks_in[1].time_mix
    assert float(first.wkv.log_decay[0].detach()) == -5
    assert float(first.wkv.log_decay[-1].detach()) == pytest.approx(3)
    assert float(first.wkv.log_decay[192].detach()) == pytest.approx(-5 + 8 * (192 / 383) ** 0.7, rel=1e-5)
    assert float(last.wkv.log_decay[192].detach()) == pytest.approx(-5 + 8 * (192 / 383) ** (0.7 + 1.3 / 3), rel=1e-5)
    np.testing.assert_allclose(first.wkv.first[:4].detach(), np.log(0.3) + 0.5 * np.array([0, 1, -1, 0]), rtol=1e-6)
    np.testing.assert_allclose(last.shift_k.mix.detach(), (np.arange(384) / 384) ** 0.75, rtol=1e-5)
    np.testing.assert_allclose(last.shift_v.mix.detach() - last.shift_k.mix.detach(), 0.1, atol=1e-6)
    assert float(model.head.weight.detach().abs().max()) == 0


def test_only_the_reconstruction_module_carries_later_patches_to_earlier_ones() -> None:
    for reconstruction in (False, True):
        model = lively(**TINY, reconstruction=reconstruction)
        with torch.no_grad():
            model.smooth.weight.zero_()
            model.smooth.weight[:, :, 1, 1] = 1.0  # so that neighbouring patches stay apart
        given = example(model, batch=1)
        before = called(model, given)
        given["x"][..., 2:, 4:] += 1.0  # the last patch
        change = np.abs(called(model, given) - before)[0, 0, 0]
        assert change[2:, 4:].max() > 1e-3
        assert bool(change[:2].max() > 1e-6) is reconstruction
        if not reconstruction:
            assert change[:2].max() == 0 == change[2:, :4].max()


def test_patches_are_put_back_where_they_were() -> None:
    model = sdit.build("digits", image=(2, 4, 6), variance=True)
    tokens = torch.arange(6 * 2 * 2 * 4).reshape(1, 1, 6, 16).float()
    image = model._image(tokens)[0, 0]
    assert image.shape == (4, 4, 6)
    for row in range(4):
        for column in range(6):
            token, inner = (row // 2) * 3 + column // 2, (row % 2) * 2 + column % 2
            np.testing.assert_array_equal(image[:, row, column], tokens[0, 0, token].reshape(4, 4)[inner])


def test_labels_matter_and_the_null_label_is_one_of_its_own() -> None:
    model = lively(**TINY)
    given = example(model, batch=4)
    given["x"][:], given["time"][:] = given["x"][:, :1], given["time"][:, :1]
    given["label"] = one_hot([0, 1, 2, None], 3)[None]
    y = called(model, given)[0]
    for i in range(4):
        for j in range(i):
            assert np.abs(y[i] - y[j]).max() > 1e-4


def test_guidance_is_away_from_no_label() -> None:
    model = lively(**TINY, variance=True)
    given = list(example(model, batch=2, seed=4).values())
    given[2] = one_hot([2, 0], 3)[None]

    def network(*arrays: Any) -> Any:
        return called(model, dict(enumerate(arrays)))

    told, untold = network(*given), network(*given[:2], np.broadcast_to(one_hot([None], 3), given[2].shape))
    got = guided(network, 2.5, channels=1)(*given)
    np.testing.assert_allclose(got[:, :, :1], (untold + 2.5 * (told - untold))[:, :, :1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got[:, :, 1:], told[:, :, 1:], rtol=1e-9, atol=1e-12)
    assert guided(network, 1, channels=1) is network
    with pytest.raises(UsageError, match=r"guidance of 2.5 needs a label, but sample 1 has none"):
        guided(network, 2.5, channels=1)(*given[:2], one_hot([1, None], 3)[None])


def test_time_features() -> None:
    features = time_features(np.array([0, 3]), 6)
    np.testing.assert_array_equal(features[0], [1, 1, 1, 0, 0, 0])
    rates = 10000.0 ** (-np.arange(3) / 3)
    np.testing.assert_allclose(features[1], [*np.cos(3 * rates), *np.sin(3 * rates)])


def test_options_that_do_not_fit_are_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        sdit.build("digits", patch=3, depth=3, prediction="x0")
    assert "an image of 8 x 8 does not divide into patches of 3 x 3" in str(caught.value)
    assert "depth is 3, expected an even number" in str(caught.value)
    assert "prediction is 'x0', expected 'noise' or 'v'" in str(caught.value)
    with pytest.raises(UsageError, match="preset is 'huge', expected one of mnist, cifar, small, digits"):
        sdit.build("huge")
    with pytest.raises(UsageError, match="no option size; there are image, width"):
        sdit.build("digits", size=3)
    with pytest.raises(UsageError, match="comes with no weights for SDiT 'mnist'"):
        sdit.build("mnist", weights="shipped")
    with pytest.raises(UsageError, match="no label 10, -1; the network has 0 to 9, or None"):
        one_hot([3, 10, -1], 10)
    with pytest.raises(UsageError, match="built without labels"):
        one_hot([3], 0)


def test_every_network_says_how_it_is_sampled() -> None:
    spec = spec_of(snnir.load(sdit.build("digits", classes=0)))
    assert (spec.image, spec.steps, spec.time_size, spec.inputs) == ((1, 8, 8), 1, 32, ("x", "time"))
    np.testing.assert_array_equal(spec.embed(np.array([7])), time_features(np.array([7]), 32))
    for options in ({}, {"classes": 0, "prediction": "noise"}, {"classes": 3, "variance": True}):
        graph = snnir.load(sdit.build("digits", **options))
        found = spec_of(graph)
        check_inputs(graph, found)
        assert graph.metadata["sdit"]["classes"] == found.classes == options.get("classes", 10)
        assert (found.prediction, found.variance) == (options.get("prediction", "v"), "variance" in options)
    paper = spec_of(snnir.load(sdit.build("mnist")))
    assert (paper.prediction, paper.variance, paper.schedule, paper.classes) == ("noise", True, "linear", 10)


def test_the_published_size_compiles() -> None:
    """How long that takes: `benchmarks/compile_time.py`."""
    graph = snnir.load(sdit.build("mnist"))
    for target in ("torch", "onnx"):
        assert sum(len(data) for data in snnir.compile(graph, target).files().values()) > 4 * 11_667_259


def test_the_document_says_what_there_is() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sdit.md").read_text()
    for preset in sdit.PRESETS:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{preset}` |"))
        assert row.endswith(f"| {parameters(preset=preset, weights='none'):,} |")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    assert names["images"].shape == (4, 1, 28, 28)
