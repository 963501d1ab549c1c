"""SDiT's small preset on Fashion-MNIST beside FSDDIM's and both twins: image quality after the same number of images.

    python benchmarks/sdit_quality.py                 # print the tables again from the stored results
    python benchmarks/sdit_quality.py --shipped       # score the shipped weights, without and with guidance
    python benchmarks/sdit_quality.py --train 16000   # train every variant on so many images, and score it
    python benchmarks/sdit_quality.py --write         # put the tables into docs/sdit.md

The twin is the same network with SiLU where the neurons are (models/sdit_twin.py); variants differ from the first row
in nothing but what their name says, and see the same images in the same order. FSDDIM's rows are those of
benchmarks/fsddim_quality.json for the same number of images, scored by the same extractors at the same n; FSDDIM has
no labels, SDiT is told all classes in turn. v error: 2,000 test images, fixed noise, stratified times, with labels.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
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
from snnir.diffusion.labels import told
from snnir.diffusion.memory import keep_freed_memory
from snnir.diffusion.sample import Network, fresh_noise, module_denoiser, noise, sample
from snnir.diffusion.scores import Scorer
from snnir.diffusion.spec import DiffusionSpec, spec_of
from snnir.diffusion.train import Progress, TrainConfig, train
from snnir.graph import Graph
from snnir.models import sdit, sdit_twin

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("sdit_quality.json")
FSDDIM = Path(__file__).with_name("fsddim_quality.json")
DOCUMENT = ROOT / "docs" / "sdit.md"
MARKS = "<!-- quality -->", "<!-- /quality -->"
RATE = 6e-3
STEPS = 20
GUIDANCE = 1.5
SHIPPED = {"published": ("sdit-small", 320_000), "spiking": ("sdit-small-spiking", 320_000)}  # images they have seen


@dataclass(frozen=True)
class Variant:
    """One trained network."""

    name: str
    twin: bool = False
    build: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        return re.sub(r"\W+", "-", self.name.lower()).strip("-")


VARIANTS = (
    Variant("SDiT"),
    Variant("SDiT, no Reconstruction Module", build={"reconstruction": False}),
    Variant("SDiT's twin (SiLU, no neurons)", twin=True),
    Variant("SDiT on noise, learned variance", build={"prediction": "noise", "variance": True}),
    Variant("SDiT's spiking variant", build={"variant": "spiking"}),
)


def trained(variant: Variant, images: Images, given: argparse.Namespace) -> tuple[Graph, float]:
    """The variant after its images, trained now or before, and the processor seconds that took."""
    builder = sdit_twin.build if variant.twin else sdit.build
    options = {} if variant.twin else {"weights": "none"}
    graph = snnir.load(builder("small", seed=given.seed, **variant.build, **options))
    folder = given.work / f"{variant.slug}-{given.train}-{given.seed}{_at(given.rate)}"
    weights, clock = folder / "weights.npz", folder / "cpu_seconds.json"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads(clock.read_text()) if clock.exists() else 0.0
        config, start = TrainConfig(images=given.train, rate=given.rate, seed=given.seed), time.process_time()

        def report(progress: Progress) -> None:
            spent = before + time.process_time() - start
            clock.write_text(json.dumps(spent))
            seen = f"{progress.images} images, loss {progress.loss:.4f}, {spent:.0f} CPU-s"
            sys.stderr.write(f"  {variant.name}: {seen}\n")

        state = train(
            snnir.compile(graph, target="torch").module(),
            spec_of(graph),
            images.train,
            config,
            folder=folder,
            resume=(folder / "checkpoint.safetensors").exists(),
            every=max(1, 8000 // config.batch),
            report=report,
            labels=images.train_labels,
        )
        np.savez(weights, **state)
    return graph.with_weights(dict(np.load(weights))), json.loads(clock.read_text())


def _at(rate: float) -> str:
    """What a row's name says of another learning rate than the tables'."""
    return "" if rate == RATE else f", rate {rate:g}"


def drawn_images(network: Network, spec: DiffusionSpec, n: int, steps: int, guidance: float, batch: int = 100) -> Any:
    """(n, 1, 28, 28) in [-1, 1], all classes in turn; the start noise of an image is the same for all networks."""
    made, start = [], noise(spec, n)
    for first in range(0, n, batch):
        chosen = range(first, min(first + batch, n))
        denoise = told(network, spec, [i % spec.classes for i in chosen], guidance)
        fresh = fresh_noise(spec, chosen)
        made.append(sample(denoise, spec, start[first : chosen.stop], steps, fresh=fresh).images)
    return np.concatenate(made)


def measured(graph: Graph, images: Images, scorer: Scorer, given: argparse.Namespace, guidance: float = 1.0) -> dict:
    """Scores of drawn images, and the error on held-out ones."""
    network, spec = module_denoiser(snnir.compile(graph, target="torch").module()), spec_of(graph)
    error = v_error(predictor(network, spec), images.test, spec.noise_schedule, labels=images.test_labels)
    drawn = drawn_images(network, spec, given.n, STEPS, guidance)
    scores = {score.metric: round(score.value, 3) for score in scorer(drawn)}
    same = spec.schedule == "cosine"  # errors over another schedule do not compare
    return {"n": given.n, "calls": STEPS, "scores": scores, "v_error": error.to_dict() if same else None}


def rows(given: argparse.Namespace) -> Iterable[dict]:
    """What was asked for, line by line."""
    images = load_images("fashion-mnist", data_root=given.data_root)
    scorer = Scorer(images.test)
    for variant, (weights, seen) in SHIPPED.items() if given.shipped else ():
        graph = snnir.load(sdit.build("small", weights="shipped", variant=variant))
        for guidance in (1.0, GUIDANCE):
            found = measured(graph, images, scorer, given, guidance)
            yield {"group": "shipped", "name": f"{weights}, guidance {guidance:g}", "images": seen, **found}
    if given.train:
        for variant in VARIANTS:
            if given.only and variant.slug not in given.only:
                continue
            graph, seconds = trained(variant, images, given)
            found = measured(graph, images, scorer, given)
            yield {
                "group": "trained",
                "name": variant.name + _at(given.rate),
                "images": given.train,
                "cpu": round(seconds),
                **found,
            }


def fsddim_rows(lines: list[dict]) -> list[dict]:
    """FSDDIM's rows that stand beside these: of the same budget, n and number of calls."""
    kinds = {(line["images"], line["n"], line["calls"]) for line in lines if line["group"] == "trained"}
    temporal, twin = "FSDDIM, one neuron per channel, S = 4", "FSDDIM's twin (SiLU, no spikes)"
    names = {
        "8 levels, S = 1 (the preset small)": "FSDDIM",
        "spiking, S = 4": temporal,
        "twin (SiLU, no spikes)": twin,
    }
    found = []
    for line in json.loads(FSDDIM.read_text()):
        same = (line.get("images"), line["n"], line.get("ddim")) in kinds
        if line["name"] in names and same:
            cpu = line.get("train_cpu_seconds") or ""
            found.append({**line, "group": "trained", "name": names[line["name"]], "calls": line["ddim"], "cpu": cpu})
    return found


def tables(lines: list[dict]) -> str:
    """Markdown."""
    parts = []
    for group, title in (("shipped", "The shipped network"), ("trained", "After the same training")):
        mine = [line for line in [*lines, *fsddim_rows(lines)] if line["group"] == group]
        if not mine:
            continue
        metrics = list(mine[0]["scores"])
        head = ["network", "images seen", "calls", "n", *metrics, "v error", "training CPU-s"]
        table = [f"| {' | '.join(head)} |", "|---|" + "---|" * (len(head) - 1)]
        for line in mine:
            error = line["v_error"]
            cells = [line["name"], f"{line['images']:,}", str(line["calls"]), f"{line['n']:,}"]
            cells += [f"{line['scores'][m]:.1f}" for m in metrics]
            cells += [f"{error['mean']:.4f}" if error else "", str(line.get("cpu", ""))]
            table.append(f"| {' | '.join(cells)} |")
        parts.append(f"**{title}** (against 10,000 test images)\n\n" + "\n".join(table))
    return "\n\n".join(parts)


def store(lines: Iterable[dict], results: Path) -> None:
    """Adds lines as they come; a later one of the same name and budget counts."""
    kept = {(v["group"], v["name"], v["images"], v["n"]): v for v in _stored(results)}
    for line in lines:
        kept[line["group"], line["name"], line["images"], line["n"]] = line
        results.write_text(json.dumps(list(kept.values()), indent=1) + "\n")
        sys.stderr.write(f"{line['name']}: {line['scores']}, v error {(line['v_error'] or {}).get('mean')}\n")


def _stored(results: Path) -> list[dict]:
    return json.loads(results.read_text()) if results.exists() else []


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shipped", action="store_true")
    parser.add_argument("--train", type=int, metavar="IMAGES")
    parser.add_argument("--only", nargs="*", metavar="VARIANT", help=", ".join(v.slug for v in VARIANTS))
    parser.add_argument("--n", type=int, default=1000, help="images drawn per row")
    parser.add_argument("--seed", type=int, default=0, help="of training")
    parser.add_argument("--rate", type=float, default=RATE, help="highest learning rate of training")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "sdit-quality")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--data-root")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    if unknown := set(given.only or ()) - {v.slug for v in VARIANTS}:
        parser.error(f"no variant {', '.join(sorted(unknown))}: expected {', '.join(v.slug for v in VARIANTS)}")
    torch.set_num_threads(1)
    keep_freed_memory()
    if given.shipped or given.train:
        store(rows(given), given.results)
    if not given.results.exists():
        parser.error(f"{given.results} does not exist: measure first (--shipped, --train)")
    text = tables(_stored(given.results))
    sys.stdout.write(text + "\n")
    if given.write:
        document = DOCUMENT.read_text()
        before, _, rest = document.partition(MARKS[0])
        _, end, after = rest.partition(MARKS[1])
        if not end:
            raise SystemExit(f"{DOCUMENT} has no {MARKS[0]} and {MARKS[1]}")
        DOCUMENT.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
