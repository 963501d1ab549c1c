"""benchmarks/fsddim_quality.py: equal budgets, runs that go on, tables and ratios from stored numbers."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from snnir.diffusion.data import Images
from snnir.diffusion.sample import sample
from snnir.diffusion.spec import DiffusionSpec
from snnir.diffusion.train import TrainConfig
from snnir.models import fsddim

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fsddim_quality", ROOT / "benchmarks" / "fsddim_quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_variants_differ_in_what_their_name_says(bench: ModuleType) -> None:
    """Every one starts from the same settings, with one change; the published settings are the paper's."""
    changed = {v.slug: (v.twin, v.build, sorted(v.train)) for v in bench.ABLATIONS}
    assert changed.pop("published-training-settings")[1] == {}
    assert changed == {
        "spiking-s-4": (False, {}, []),
        "without-synaptic-current-learning": (False, {}, ["consistency"]),
        "s-8": (False, {"steps": 8}, []),
        "without-stem-skip": (False, {"stem_skip": False}, []),
        "one-resblock-in-the-middle": (False, {"middle": 1}, []),
        "soft-reset": (False, {"reset": "subtract"}, []),
        "4-levels-s-1": (False, {"levels": 4, "steps": 1}, []),
        "8-levels-s-1-the-preset-small": (False, {"levels": 8, "steps": 1}, []),
        "twin-silu-no-spikes": (True, {}, []),
    }
    small, temporal = fsddim.PRESETS["small"], fsddim.PRESETS["small-temporal"]
    assert replace(temporal, **changed["8-levels-s-1-the-preset-small"][1]) == small
    published = TrainConfig(images=256_000, **bench.PUBLISHED)
    assert [published.rate_at(step) for step in (0, 500, 999)] == [1e-3] * 3  # constant, from the first step
    assert (published.batch, published.weighting, published.ema, published.steps) == (256, "snr", 0.0, 1000)


@pytest.mark.parametrize("slug", ["spiking-s-4", "twin-silu-no-spikes"])
def test_a_variant_is_trained_once_and_measured(bench: ModuleType, tmp_path: Path, slug: str) -> None:
    pixels = RNG.uniform(-1, 1, (40, 1, 28, 28)).astype(np.float32)
    images = Images("noise", pixels, pixels[:16])
    variant = next(v for v in bench.ABLATIONS if v.slug == slug)
    first = bench.trained(variant, images, 32, 0, tmp_path)
    kept = tmp_path / f"{slug}-32-0" / "weights.npz"
    stamp = kept.stat().st_mtime_ns
    again = bench.trained(variant, images, 32, 0, tmp_path)
    assert kept.stat().st_mtime_ns == stamp
    assert first.cpu_seconds == again.cpu_seconds > 0
    drawn = [bench.drawn_images(t.denoise, t.spec, 3, 2, batch=b) for t, b in ((first, 3), (again, 2))]
    assert drawn[0].shape == (3, 1, 28, 28)
    np.testing.assert_allclose(drawn[0], drawn[1], atol=1e-3)
    found = bench.held_out(first, images, 8)
    assert 0.3 < found["v_error"]["mean"] < 3
    assert (found["spread"] > 0) == (not variant.twin)


def test_decoding_in_every_step_leaves_no_spread(bench: ModuleType) -> None:
    spec = DiffusionSpec(image=(1, 2, 2), steps=4, time_size=4)

    def denoise(x: np.ndarray, embedded: np.ndarray) -> np.ndarray:
        return x * np.arange(4).reshape(4, 1, 1, 1, 1)

    start = RNG.standard_normal((3, 1, 2, 2))
    assert sample(denoise, spec, start, 5).currents.std(axis=0).min() > 1e-3
    assert sample(bench.decoding(denoise), spec, start, 5).currents.std(axis=0).max() < 1e-12


def line(name: str, fad: float, lenet: float, error: float, ddim: int = 50) -> dict[str, Any]:
    quarters = [error] * 4
    found = {"v_error": {"mean": error, "quarters": quarters}, "scores": {"FAD[ae-1]": fad, "LeNet-FD[lenet-2]": lenet}}
    return {"group": "shipped", "name": name, "images": 480000, "snn_steps": 4, "ddim": ddim, "n": 5000, **found}


def test_tables_and_ratios(bench: ModuleType, tmp_path: Path) -> None:
    results, document = tmp_path / "results.json", tmp_path / "doc.md"
    twin = bench.TWIN.name
    bench.store([line("fsddim-small", 90, 50, 0.2)], results)
    assert "limit" not in bench.tables(json.loads(results.read_text()))
    bench.store([line(twin, 60, 40, 0.16), line("fsddim-small", 84, 50, 0.2), line(twin, 1, 1, 1, 10)], results)
    lines = json.loads(results.read_text())
    assert [(x["name"], x["ddim"]) for x in lines] == [("fsddim-small", 50), (twin, 10), (twin, 50)]  # 84 replaced 90
    bench.store([line("fsddim-small-temporal", 120, 60, 0.24)], results)
    text = bench.tables(json.loads(results.read_text()))
    assert "fsddim-small-temporal over the twin at 50 DDIM steps: FAD 2.00 (limit 1.5), LeNet-FD 1.50" in text
    ratios = "FAD 1.40 (limit 1.5), LeNet-FD 1.25 (limit 1.5), v error 1.25 (limit 1.25)"
    assert f"fsddim-small over the twin at 50 DDIM steps: {ratios}" in text
    assert "| fsddim-small | 480,000 |  | 4 | 50 | 84.0 | 50.0 | 0.2000 [0.20 0.20 0.20 0.20] |  |" in text
    document.write_text("before\n<!-- quality -->\nold\n<!-- /quality -->\nafter\n")
    bench.write(text, document)
    bench.write(text, document)
    assert document.read_text() == f"before\n<!-- quality -->\n{text}\n<!-- /quality -->\nafter\n"
    document.write_text("no marks")
    with pytest.raises(SystemExit, match="has no <!-- quality -->"):
        bench.write(text, document)
