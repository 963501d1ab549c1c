"""FSDDIM's small presets on Fashion-MNIST: image quality beside their twin, and what each setting is worth.

    python benchmarks/fsddim_quality.py                          # print the tables again from the stored results
    python benchmarks/fsddim_quality.py --shipped                # score the shipped weights: n = 5000, DDIM 10, 20, 50
    python benchmarks/fsddim_quality.py --shipped --preset small-temporal   # those of the paper's coding
    python benchmarks/fsddim_quality.py --train-twin 320000      # train the twin on as many images, and score it
    python benchmarks/fsddim_quality.py --train-ablations 40000  # train every variant on so many images, and score it
    python benchmarks/fsddim_quality.py --write                  # put the tables into docs/fsddim.md

The twin is the same network with SiLU where the neurons are and one step (models/fsddim_twin.py); it and the variants
are trained by snnir's own loop with the same images in the same order, and differ from the first row in nothing but
what their name says. Distances: torchmetrics on shipped feature networks, against the 10,000 test images, the start
noise of an image the same for all rows. v error: 2,000 test images, fixed noise and stratified times, one seed of
training each. Trained weights are kept under --work, so a run that is stopped goes on; times are those of one thread.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import snnir
from snnir.diffusion.data import Images, load_images
from snnir.diffusion.held_out import predictor, v_error
from snnir.diffusion.memory import keep_freed_memory
from snnir.diffusion.sample import Denoiser, module_denoiser, noise, sample
from snnir.diffusion.scores import N, Scorer
from snnir.diffusion.spec import DiffusionSpec, spec_of
from snnir.diffusion.train import Progress, TrainConfig, train
from snnir.models import fsddim, fsddim_twin

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("fsddim_quality.json")
DOCUMENT = ROOT / "docs" / "fsddim.md"
STEPS = (10, 20, 50)  # DDIM steps of the large rows; the ablations use the middle one
SHIPPED = ("fsddim-small", "fsddim-small-temporal")
LIMITS = {"FAD": 1.5, "LeNet-FD": 1.5, "v error": 1.25}  # spiking / twin, at 50 DDIM steps
PUBLISHED = {
    "batch": 256,
    "rate": 1e-3,
    "warmup": 0,
    "floor": 1.0,
    "clip": 1e9,
    "ema": 0.0,
    "weighting": "snr",
}


@dataclass(frozen=True)
class Variant:
    """One trained network: the spiking one or the twin, what is built and trained otherwise."""

    name: str
    twin: bool = False
    build: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        return re.sub(r"\W+", "-", self.name.lower()).strip("-")


ABLATIONS = (
    Variant("spiking, S = 4"),
    Variant("without synaptic current learning", train={"consistency": 0.0}),
    Variant("S = 8", build={"steps": 8}),
    Variant("published training settings", train=PUBLISHED),
    Variant("without stem skip", build={"stem_skip": False}),
    Variant("one ResBlock in the middle", build={"middle": 1}),
    Variant("soft reset", build={"reset": "subtract"}),
    Variant("4 levels, S = 1", build={"levels": 4, "steps": 1}),
    Variant("8 levels, S = 1 (the preset small)", build={"levels": 8, "steps": 1}),
    Variant("twin (SiLU, no spikes)", twin=True),
)
TWIN = ABLATIONS[-1]


@dataclass(frozen=True)
class Trained:
    """A network that can be asked, and what it took."""

    denoise: Denoiser
    spec: DiffusionSpec
    cpu_seconds: float | None = None


# -- training ----------------------------------------------------------------------------------------------------------


def trained(variant: Variant, images: Images, budget: int, seed: int, work: Path) -> Trained:
    """The variant after `budget` images; trained now, or as far as it is not yet."""
    config = TrainConfig(**{"images": budget, "seed": seed, **variant.train})
    folder = work / f"{variant.slug}-{budget}-{seed}"
    network = (
        fsddim_twin.build("small", seed=seed, **variant.build)
        if variant.twin
        else fsddim.build("small-temporal", weights="none", seed=seed, **variant.build)
    )
    spec = network.diffusion
    graph = None if variant.twin else snnir.load(network)
    module = network if graph is None else snnir.compile(graph, target="torch").module()
    clock = folder / "cpu_seconds.json"
    weights = folder / "weights.npz"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads(clock.read_text()) if clock.exists() else 0.0
        start = time.process_time()

        def report(progress: Progress) -> None:
            spent = before + time.process_time() - start
            clock.write_text(json.dumps(spent))
            say(f"  {variant.name}: {progress.images} images, loss {progress.loss:.4f}, {spent:.0f} CPU-s")

        going_on = (folder / "checkpoint.safetensors").exists()
        every = max(1, 8000 // config.batch)
        state = train(module, spec, images.train, config, folder=folder, resume=going_on, every=every, report=report)
        np.savez(weights, **state)
    state = dict(np.load(weights))
    return Trained(denoiser(network if graph is None else graph, state), spec, json.loads(clock.read_text()))


def denoiser(network: Any, state: dict[str, Any]) -> Denoiser:
    """A twin, or a spiking network's graph with batch norm folded, as what a sampler calls."""
    if isinstance(network, torch.nn.Module):
        network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
        return module_denoiser(network)
    graph = network.with_weights(state) if state else network
    return module_denoiser(snnir.compile(graph, target="torch", passes="fold-batch-norm").module())


# -- measuring ---------------------------------------------------------------------------------------------------------


def measured(network: Trained, images: Images, scorer: Scorer, steps: int, n: int, decoded: bool = False) -> dict:
    """Distances of n images drawn in `steps` DDIM steps; `decoded`: encoded anew in every step, not as currents."""
    denoise = decoding(network.denoise) if decoded else network.denoise
    start = time.process_time()
    drawn = drawn_images(denoise, network.spec, n, steps)
    seconds = time.process_time() - start
    scores = {score.metric: round(score.value, 3) for score in scorer(drawn)}
    return {"ddim": steps, "n": n, "scores": scores, "sampling_cpu_seconds": round(seconds, 1)}


def drawn_images(denoise: Denoiser, spec: DiffusionSpec, n: int, steps: int, batch: int = 100) -> Any:
    """(n, 1, 28, 28) in [-1, 1]."""
    noises = noise(spec, n)
    return np.concatenate([sample(denoise, spec, noises[i : i + batch], steps).images for i in range(0, n, batch)])


def decoding(denoise: Denoiser) -> Denoiser:
    """The network as a sampler sees it that decodes and encodes in every step: its output's mean over the steps."""
    return lambda x, embedded: np.broadcast_to(denoise(x, embedded).mean(axis=0), x.shape)


def held_out(network: Trained, images: Images, n: int) -> dict[str, Any]:
    """The v error, and the variance of the output current over the SNN steps that it leaves."""
    spreads: list[float] = []

    def watched(x: Any, embedded: Any) -> Any:
        y = network.denoise(x, embedded)
        spreads.append(float(y.var(axis=0).mean()))
        return y

    found = v_error(predictor(watched, network.spec), images.test, n=n)
    return {"v_error": found.to_dict(), "spread": float(np.mean(spreads))}


# -- the two tables ----------------------------------------------------------------------------------------------------


def row(group: str, name: str, budget: int, config: TrainConfig | None, network: Trained, **found: Any) -> dict:
    """What is stored of one line."""
    facts = {"group": group, "name": name, "images": budget, "snn_steps": network.spec.steps}
    if config is not None:
        facts |= {"batch": config.batch, "rate": config.rate, "seed": config.seed}
    return {**facts, "train_cpu_seconds": network.cpu_seconds and round(network.cpu_seconds), **found}


def shipped(given: argparse.Namespace, images: Images, scorer: Scorer) -> Iterable[dict]:
    """The shipped weights at every number of DDIM steps, and real images as the floor of the distances."""
    real = {score.metric: round(score.value, 3) for score in scorer(images.train[: given.n])}
    yield {"group": "shipped", "name": "real training images", "n": given.n, "scores": real}
    graph = snnir.load(fsddim.build(given.preset, weights=given.weights))
    network = Trained(denoiser(graph, {}), spec_of(graph))
    yield from scored(f"fsddim-{given.preset}", network, given, images, scorer, given.images, None)


def scored(
    name: str,
    network: Trained,
    given: argparse.Namespace,
    images: Images,
    scorer: Scorer,
    budget: int,
    config: TrainConfig | None,
) -> Iterable[dict]:
    error = held_out(network, images, given.held_out)
    for steps in STEPS:
        yield row(
            "shipped", name, budget, config, network, **error, **measured(network, images, scorer, steps, given.n)
        )


def ablations(given: argparse.Namespace, images: Images, scorer: Scorer) -> Iterable[dict]:
    """Every variant after the same number of images."""
    budget = given.train_ablations
    for variant in ABLATIONS:
        if given.only and variant.slug not in given.only:
            continue
        config = TrainConfig(**{"images": budget, "seed": given.seed, **variant.train})
        network = trained(variant, images, budget, given.seed, given.work)
        found = {**held_out(network, images, given.held_out)}
        found |= measured(network, images, scorer, STEPS[1], given.n_ablations)
        if not variant.twin:
            again = measured(network, images, scorer, STEPS[1], given.n_ablations, decoded=True)
            found["decoded_scores"] = again["scores"]
        yield row("ablation", variant.name, budget, config, network, **found)


def key(line: dict) -> tuple:
    """Two lines of one key are the same measurement, the later one counts."""
    names = ["real training images", *SHIPPED, *(variant.name for variant in ABLATIONS)]
    order = {name: i for i, name in enumerate(names)}
    return (line["group"] != "shipped", order[line["name"]], line.get("images", 0), line.get("ddim", 0), line["n"])


def store(lines: Iterable[dict], results: Path) -> None:
    """Adds lines as they come."""
    kept = {key(line): line for line in (json.loads(results.read_text()) if results.exists() else [])}
    for line in lines:
        kept[key(line)] = line
        results.write_text(json.dumps([kept[k] for k in sorted(kept)], indent=1) + "\n")
        say(f"{line['name']}, DDIM {line.get('ddim', '-')}: {line['scores']}")


def tables(lines: list[dict]) -> str:
    """Markdown, and the ratios that the shipped network is held to."""
    parts = []
    for group, title in (("shipped", "The shipped network"), ("ablation", "What each setting is worth")):
        mine = [line for line in lines if line["group"] == group]
        if not mine:
            continue
        metrics = list(mine[0]["scores"])
        budgets = sorted({line["images"] for line in mine if "images" in line})
        n = " and ".join(f"{v:,}" for v in sorted({line["n"] for line in mine}))
        extra = ["spread", "decoded: " + metrics[0]] if group == "ablation" else []
        head = [
            "network",
            "images seen",
            "batch",
            "S",
            "DDIM",
            *metrics,
            "v error [t quarters]",
            *extra,
            "training CPU-s",
        ]
        rows = [f"| {' | '.join(head)} |", "|---|" + "---|" * (len(head) - 1)]
        rows += [f"| {' | '.join(cells(line, metrics, group))} |" for line in mine]
        parts.append(f"**{title}** (n = {n} against 10,000 test images)\n\n" + "\n".join(rows))
        if group == "shipped" and (ratio := ratios(mine)):
            parts.append(ratio)
        elif len(budgets) > 1:
            parts.append("Rows of different budgets do not compare.")
    return "\n\n".join(parts)


def cells(line: dict, metrics: list[str], group: str) -> list[str]:
    """One row."""
    error = line.get("v_error")
    quarters = " ".join(f"{q:.2f}" for q in error["quarters"]) if error else ""
    made = [line["name"], *(f"{line[k]:,}" if line.get(k) else "" for k in ("images", "batch", "snn_steps", "ddim"))]
    made += [f"{line['scores'][m]:.1f}" for m in metrics]
    made.append(f"{error['mean']:.4f} [{quarters}]" if error else "")
    if group == "ablation":
        decoded = line.get("decoded_scores")
        made += [f"{line['spread']:.3f}", f"{decoded[metrics[0]]:.1f}" if decoded else ""]
    seconds = line.get("train_cpu_seconds")
    return [*made, f"{seconds:,}" if seconds else ""]


def ratios(lines: list[dict]) -> str:
    """Spiking over twin at the most DDIM steps, beside their limits; '' before both are there."""
    found = {line["name"]: line for line in lines if line.get("ddim") == STEPS[-1]}
    twin, said = found.get(TWIN.name), []
    for name in SHIPPED if twin else ():
        if name not in found:
            continue
        spiking = found[name]
        values = {m.partition("[")[0]: spiking["scores"][m] / twin["scores"][m] for m in spiking["scores"]}
        values["v error"] = spiking["v_error"]["mean"] / twin["v_error"]["mean"]
        parts = [f"{metric} {values[metric]:.2f} (limit {limit})" for metric, limit in LIMITS.items()]
        note = "" if spiking["images"] == twin["images"] else " The two have seen different numbers of images."
        line = f"{name} over the twin at {STEPS[-1]} DDIM steps: {', '.join(parts)}.{note}"
        said.append(textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False))
    return "\n\n".join(said)


def write(text: str, document: Path) -> None:
    """Between the marks <!-- quality --> and <!-- /quality --> of the document."""
    old = document.read_text() if document.exists() else "# FSDDIM\n\n<!-- quality -->\n<!-- /quality -->\n"
    marks = re.compile(r"(<!-- quality -->\n).*?(<!-- /quality -->)", re.DOTALL)
    if not marks.search(old):
        raise SystemExit(f"{document} has no <!-- quality --> and <!-- /quality -->")
    document.write_text(marks.sub(lambda m: f"{m[1]}{text}\n{m[2]}", old))


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shipped", action="store_true")
    parser.add_argument("--preset", default="small", choices=("small", "small-temporal"), help="of --shipped")
    parser.add_argument("--weights", default="shipped", help="of --shipped: a .safetensors file instead")
    parser.add_argument("--images", type=int, default=320_000, help="that the weights of --shipped have seen")
    parser.add_argument("--train-twin", type=int, metavar="IMAGES")
    parser.add_argument("--train-ablations", type=int, metavar="IMAGES")
    parser.add_argument("--only", nargs="*", metavar="VARIANT", help=", ".join(v.slug for v in ABLATIONS))
    parser.add_argument("--n", type=int, default=N, help="images drawn per row of the large networks")
    parser.add_argument("--n-ablations", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=2000, help="images of the v error")
    parser.add_argument("--seed", type=int, default=0, help="of training")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fsddim-quality")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--data-root")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    if unknown := set(given.only or ()) - {v.slug for v in ABLATIONS}:
        parser.error(f"no variant {', '.join(sorted(unknown))}: expected {', '.join(v.slug for v in ABLATIONS)}")
    torch.set_num_threads(1)
    keep_freed_memory()
    if given.shipped or given.train_twin or given.train_ablations:
        images = load_images("fashion-mnist", data_root=given.data_root)
        scorer = Scorer(images.test)
        if given.shipped:
            store(shipped(given, images, scorer), given.results)
        if given.train_twin:
            config = TrainConfig(images=given.train_twin, seed=given.seed)
            twin = trained(TWIN, images, given.train_twin, given.seed, given.work)
            store(scored(TWIN.name, twin, given, images, scorer, given.train_twin, config), given.results)
        if given.train_ablations:
            store(ablations(given, images, scorer), given.results)
    if not given.results.exists():
        parser.error(f"{given.results} does not exist: measure first (--shipped, --train-twin, --train-ablations)")
    text = tables(json.loads(given.results.read_text()))
    sys.stdout.write(text + "\n")
    if given.write:
        write(text, DOCUMENT)


if __name__ == "__main__":
    main()
