"""The nano network on Xylo Audio 3: is it the same model, how good is it, what does it cost?

    python benchmarks/fsddim_nano.py [--weights FILE] [--samples 1000] [--loops 20] [--grid grid.png]

Float is the network as the torch target computes it (float64), exact the compiled chip in the bit-exact simulator, both
on the same noise. Distances on 1000 samples against the 899 digits that were never trained on: nn, the mean distance of
a sample to the nearest of them; FDc, the Frechet distance in the 32 units of a classifier; FD, on the 16 raw pixels
(it sees mean and covariance only, so that a Gaussian passes for digits: no ranking by it). Needs scikit-learn, and
xylosim for the loops.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import snnir
from snnir.diffusion.events import EventHost, images_of, linear_v, sample
from snnir.models import fsddim
from snnir.models.train_nano import CALLS, TRAINED_ON, TURN, digits, noisy

Array = np.ndarray[Any, np.dtype[Any]]
REPEATS = 4  # noises per held-out image and denoising step


def networks(weights: str) -> tuple[EventHost, Any, dict[str, Callable[[Array], Array]]]:
    """The host, the chip's compile result, and the float and the exact network: events -> counts."""
    model = fsddim.build("nano", weights=weights)
    graph = snnir.load(model)
    chip, torch = snnir.compile(graph, "xylo-audio3"), snnir.compile(graph, "torch")

    def exact(events: Array) -> Array:
        longer = np.concatenate([events, np.zeros((chip.latency, *events.shape[1:]))])
        return np.asarray(chip.run(longer).sum(axis=0))

    def float64(events: Array) -> Array:
        return np.asarray(torch.run(events.astype(np.float64)).sum(axis=0))

    assert model.host is not None  # trained
    return model.host, chip, {"float": float64, "exact": exact}


def v_error(host: EventHost, estimate: Callable[[Array, int], Array]) -> float:
    """Mean square error of v on the components that the network sees, on held-out digits."""
    points = host.project(digits()[1])[:, : host.components]
    errors = [np.mean((estimate(z, k) - v) ** 2) for k, z, v in noisy(points, REPEATS, 2)]
    return float(np.mean(errors))


def linear_optimum(host: EventHost) -> float:
    """The least error of an estimate that is linear in z, where the data vary as the training images do."""
    variances, phi = host.variances[: host.components], TURN * np.arange(1, CALLS + 1)[:, None]
    return float(np.mean(variances / (np.cos(phi) ** 2 * variances + np.sin(phi) ** 2)))


def distances(samples: Array, held_out: Array, features: Callable[[Array], Array]) -> dict[str, float]:
    """nn, FDc and FD of samples (n, M) against images (m, M)."""
    gaps = np.linalg.norm(samples[:, None] - held_out[None], axis=2)
    return {
        "nn": float(gaps.min(axis=1).mean()),
        "FDc": frechet(features(samples), features(held_out)),
        "FD": frechet(samples, held_out),
    }


def frechet(a: Array, b: Array) -> float:
    """|mean difference|^2 + tr(A + B - 2 sqrt(A B)) of two sets of vectors."""
    from scipy.linalg import sqrtm

    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    cross = np.asarray(sqrtm(cov_a @ cov_b)).real
    return float(np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(cov_a + cov_b - 2 * cross))


def classifier() -> tuple[Callable[[Array], Array], float]:
    """The 32 hidden units of a classifier of the training digits, and its accuracy on the others."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    train, test = (images.reshape(len(images), -1) for images in digits())
    labels = load_digits().target[np.random.default_rng(0).permutation(len(train) + len(test))]
    net = MLPClassifier((32,), max_iter=400, alpha=1e-2, random_state=0).fit(train, labels[:TRAINED_ON])
    accuracy = float(net.score(test, labels[TRAINED_ON:]))
    return lambda x: np.maximum(x @ net.coefs_[0] + net.intercepts_[0], 0.0), accuracy


def linear_samples(host: EventHost, noise: Array) -> Array:
    """What the host alone would draw, with the best linear estimate for all components."""
    z = noise.copy()
    for k in range(host.calls, 0, -1):
        z = np.cos(TURN) * z - np.sin(TURN) * linear_v(z, host.variances, k * TURN)
    return images_of(host, z)


def mismatches(host: EventHost, chip: Any, loops: int) -> tuple[int, int, int]:
    """Whole DDIM loops, call by call, in our simulator and in xylosim: spikes that differ, spikes, calls."""
    from snnir.simulators.xylo import simulate
    from tests.xylo_oracle import XyloOracle

    oracle = XyloOracle(chip.artifact.spec)
    counted = {"differ": 0, "spikes": 0, "calls": 0}

    def network(events: Array) -> Array:
        longer = np.concatenate([events, np.zeros((chip.latency, *events.shape[1:]), int)])
        ours, theirs = simulate(chip.artifact.spec, longer, record=True), oracle.run(longer)
        for name in ("spikes", "spikes_hidden"):
            mine, other = (np.asarray(getattr(run, name)) for run in (ours, theirs))
            counted["differ"] += int((mine != other).sum())
            counted["spikes"] += int(mine.sum())
        counted["calls"] += events.shape[1]
        return np.asarray(ours.spikes[:, :, chip.artifact.output_ids("output")].sum(axis=0))

    sample(host, network, np.random.default_rng(3).standard_normal((loops, len(host.mean))))
    return counted["differ"], counted["spikes"], counted["calls"]


def activity(host: EventHost, chip: Any, samples: int = 50) -> dict[str, float]:
    """Spikes per neuron and step, and synaptic events per sample: one per event and weight other than 0."""
    from snnir.simulators.xylo import simulate

    spec, total = chip.artifact.spec, np.zeros(4)
    fan = [np.count_nonzero(w.reshape(len(w), -1), axis=1) for w in (spec.weights_in, spec.weights_rec)]
    fan_out = np.concatenate(
        [np.zeros(spec.n_hidden - len(spec.weights_out)), np.count_nonzero(spec.weights_out, axis=1)]
    )

    def network(events: Array) -> Array:
        longer = np.concatenate([events, np.zeros((chip.latency, *events.shape[1:]), int)])
        run = simulate(spec, longer, record=True)
        assert run.spikes_hidden is not None
        hidden = run.spikes_hidden
        total[0] += (events.sum(axis=(0, 1)) * fan[0]).sum() + (hidden.sum(axis=(0, 1)) * (fan[1] + fan_out)).sum()
        half = hidden.shape[2] // 2
        total[1:] += hidden[..., :half].mean(), hidden[..., half:].mean(), run.spikes.mean()
        return np.asarray(run.spikes[:, :, chip.artifact.output_ids("output")].sum(axis=0))

    sample(host, network, np.random.default_rng(4).standard_normal((samples, len(host.mean))))
    rates = (total[1:] / host.calls).round(4).tolist()
    names = ("first hidden", "second hidden", "outputs")
    return {"synaptic events per sample": float(total[0] / samples), **dict(zip(names, rates, strict=True))}


def measure(weights: str = "shipped", samples: int = 1000, loops: int = 20) -> dict[str, Any]:
    """All figures."""
    start = time.process_time()
    host, chip, both = networks(weights)
    found: dict[str, Any] = {"used": dict(chip.report["used"]), "measured": dict(chip.report["measured"])}
    found["linear optimum"] = linear_optimum(host)
    seen = host.variances[: host.components]
    found["v error"] = {"linear": v_error(host, lambda z, k: linear_v(z, seen, k * TURN))}
    found["v error"]["the same spikes for all images"] = v_error(
        host, lambda z, k: host.decode(both["exact"](host.encode(z, k)).mean(axis=0, keepdims=True), z, k)
    )
    noise = np.random.default_rng(0).standard_normal((samples, len(host.mean)))
    drawn = {"linear host alone": linear_samples(host, noise)}
    for name, network in both.items():
        found["v error"][name] = v_error(host, lambda z, k, run=network: host.decode(run(host.encode(z, k)), z, k))
        drawn[name] = sample(host, network, noise)
    found["same noise, rms float - exact"] = float(np.sqrt(np.mean((drawn["float"] - drawn["exact"]) ** 2)))
    features, found["classifier accuracy"] = classifier()
    train, test = (images.reshape(len(images), -1) for images in digits())
    sets = {"training images": train, **{name: x.reshape(len(x), -1) for name, x in drawn.items()}}
    found["distances"] = {name: distances(x, test, features) for name, x in sets.items()}
    exact, ideal = found["distances"]["exact"], found["distances"]["float"]
    found["exact / float"] = {name: exact[name] / ideal[name] for name in exact}
    found["activity"] = activity(host, chip)
    if loops:
        names = ("spikes that differ from xylosim", "spikes", "denoising calls")
        found["loops"] = dict(zip(names, mismatches(host, chip, loops), strict=True))
    found["seconds"] = round(time.process_time() - start, 1)
    found["images"] = drawn["exact"]
    return found


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="shipped")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--loops", type=int, default=20, help="whole loops compared with xylosim (0: none)")
    parser.add_argument("--grid", help="a PNG of the first 64 images")
    options = parser.parse_args()
    found = measure(options.weights, options.samples, options.loops)
    images = found.pop("images")
    if options.grid:
        from snnir.backends.xylo.sample_script import png

        Path(options.grid).write_bytes(png(images[:64], 8, 12))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
