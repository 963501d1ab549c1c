"""The trained weights of SDiT-digits: each form gets its own, their neurons live, and they know digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import snnir
from snnir.diffusion.data import load_images
from snnir.diffusion.held_out import predictor, v_error
from snnir.diffusion.labels import one_hot, told
from snnir.diffusion.sample import graph_denoiser, module_denoiser, noise, sample
from snnir.diffusion.spec import fold_pixels, spec_of
from snnir.models import sdit
from snnir.models.loading import shipped
from tests.backends import family, onnx_family

FILES = {"published": "sdit-digits", "spiking": "sdit-digits-spiking"}


def noisy(graph: snnir.Graph, n: int = 8) -> dict[str, Any]:
    """One call with held-out digits, from hardly noisy to noise."""
    spec, images = spec_of(graph), load_images("digits")
    times = np.linspace(0, spec.timesteps - 1, n).astype(int)
    phi = spec.noise_schedule.angles()[times].reshape(-1, 1, 1, 1)
    x = np.cos(phi) * images.test[:n] + np.sin(phi) * np.random.default_rng(0).standard_normal((n, 1, 8, 8))
    labels = one_hot([int(label) for label in images.test_labels[:n]], 10)
    parts = zip(spec.inputs, (fold_pixels(x, spec.fold), spec.embed(times), labels), strict=True)
    return {name: np.repeat(part[None], spec.steps, axis=0) for name, part in parts}


@pytest.mark.parametrize("variant", FILES)
def test_the_default_weights_are_those_of_the_variant(variant: str) -> None:
    path = shipped(FILES[variant])
    assert path is not None
    arrays = load_file(path)
    weights = snnir.load(sdit.build("digits", variant=variant)).weights()
    assert all(np.array_equal(weights[key], array) for key, array in arrays.items())
    assert len(arrays) > 70
    one = next(key for key in arrays if key.endswith("head.weight"))
    for options in ({"weights": "none"}, {"weights": None}, {"steps": 2}):  # with other options: random ones
        other = snnir.load(sdit.build("digits", variant=variant, **options)).weights()
        assert not np.array_equal(other[one], arrays[one])
    text = path.with_suffix(".md").read_text()
    assert f"{sum(p.numel() for p in sdit.build('digits', variant=variant).parameters()):,} parameters" in text
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("variant", "name"), [("published", "sdit-small"), ("spiking", "sdit-small-spiking")])
def test_weights_of_fashion_mnist(variant: str, name: str) -> None:
    path = shipped(name)
    assert path is not None
    model = sdit.build("small", variant=variant)
    weights, arrays = snnir.load(model).weights(), load_file(path)
    assert all(np.array_equal(weights[key], array) for key, array in arrays.items())
    text = path.with_suffix(".md").read_text()
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in text


@pytest.mark.parametrize(("variant", "low", "high"), [("published", 0.05, 0.4), ("spiking", 0.01, 0.4)])
def test_all_populations_spike(variant: str, low: float, high: float) -> None:
    graph = snnir.load(sdit.build("digits", variant=variant))
    populations = [name for name, op in graph.ops.items() if op.kind == "LIF"]
    _, spikes = snnir.interpret(graph, noisy(graph), record=populations)
    rates = {name: float(spikes[name].mean()) for name in populations}
    assert all(low < rate < high for rate in rates.values()), rates


@pytest.mark.oracle
def test_a_whole_run_is_the_same_everywhere() -> None:
    """All 50 steps, guided, in float64: in float32 a spike of a run may fall on the threshold's other side."""
    graph = snnir.load(sdit.build("digits", weights="shipped"))
    spec = spec_of(graph)
    start = noise(spec, 2, seed=3, dtype=np.float64)

    def drawn(network: Any) -> Any:
        return sample(told(network, spec, [0, 7], 1.5), spec, start, 50).currents

    def through(target: str) -> Any:
        artifact = onnx_family.built(graph) if target == "onnx" else family.built(graph, target)
        return lambda *given: artifact.run(dict(zip(spec.inputs, map(np.array, given), strict=True)))[0]["output"]

    want = drawn(graph_denoiser(graph))
    assert 0.3 < want.mean(axis=0).std() < 1.5  # an image, not noise that grew
    for target in ("torch", "norse", "snntorch", "onnx"):
        np.testing.assert_allclose(drawn(through(target)), want, rtol=0, atol=1e-4, err_msg=target)


@pytest.mark.parametrize(("variant", "known"), [("published", 0.3196), ("spiking", 0.3072)])
def test_the_held_out_error_is_that_of_the_card(variant: str, known: float) -> None:
    """Larger is worse; 1 is about what predicting nothing comes to."""
    graph, images = snnir.load(sdit.build("digits", variant=variant)), load_images("digits")
    spec, network = spec_of(graph), module_denoiser(snnir.compile(graph, "torch").module())
    error = v_error(predictor(network, spec), images.test, n=len(images.test), labels=images.test_labels)
    assert error.mean == pytest.approx(known, abs=2e-3)
