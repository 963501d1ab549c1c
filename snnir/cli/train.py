"""`snnir train`: trains a denoising network on the module emitted for a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import (
    debug_option,
    dt_option,
    format_option,
    load_source,
    progress,
    source_argument,
    source_option,
)
from snnir.cli.sample import TORCH_TARGETS
from snnir.cli.weights import graph_with, source_options_with, weights_option
from snnir.errors import MissingPackageError

if TYPE_CHECKING:
    from snnir.diffusion.train import Progress, TrainConfig

    Report = Callable[[Progress], None]


@click.command("train", short_help="Train a denoising network on the module of a target.")
@source_argument
@click.option("-t", "--target", type=click.Choice(TORCH_TARGETS), default="torch", show_default=True)
@click.option(
    "--data",
    required=True,
    metavar="NAME|FOLDER",
    help="fashion-mnist, mnist, digits, or a folder of images (./digits for a folder of that name).",
)
@click.option("--data-root", metavar="DIR", help="Where the files of a named data set lie.")
@click.option("-o", "--output", required=True, metavar="DIR", help="Checkpoint, log and weights go there.")
@click.option("--resume", is_flag=True, help="Go on from DIR's checkpoint.")
@click.option("--images", type=int, default=300_000, show_default=True, help="Images to see in all.")
@click.option("--batch", type=int, default=16, show_default=True, help="Images per step, over all processes.")
@click.option("--rate", type=float, default=3e-3, show_default=True, help="Highest learning rate (Adam).")
@click.option("--warmup", type=int, default=20, show_default=True, help="Steps until the rate is at its highest.")
@click.option(
    "--floor",
    type=float,
    default=0.05,
    show_default=True,
    help="The last rate, as a part of the highest: a cosine leads there; 1: constant.",
)
@click.option(
    "--clip-norm", type=float, default=1.0, show_default=True, help="Norm to which gradients are clipped; inf: none."
)
@click.option(
    "--ema", type=float, default=0.995, show_default=True, help="Decay of the weights' moving average; 0: none."
)
@click.option(
    "--weighting",
    type=click.Choice(["uniform", "snr"]),
    default="uniform",
    show_default=True,
    help="Of the image loss over time; snr is the paper's.",
)
@click.option(
    "--consistency", type=float, default=1.0, show_default=True, help="Factor of the synaptic current learning loss."
)
@click.option(
    "--label-dropout",
    type=float,
    default=0.1,
    show_default=True,
    help="Part of the images whose label is left out, for guidance; of networks that take labels.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of batches, times and noise.")
@click.option("--every", type=click.IntRange(1), default=500, show_default=True, help="Steps between checkpoints.")
@weights_option
@source_option
@dt_option
@format_option
@debug_option
def train_command(
    source: str,
    target: str,
    data: str,
    data_root: str | None,
    output: str,
    resume: bool,
    images: int,
    batch: int,
    rate: float,
    warmup: int,
    floor: float,
    clip_norm: float,
    ema: float,
    weighting: Any,
    consistency: float,
    label_dropout: float,
    seed: int,
    every: int,
    weights: str | None,
    source_options: dict[str, Any],
    dt: float | None,
    output_format: str,
) -> int:
    """Train SRC, a denoising network, on the module that is emitted for a target.

    Where the network takes labels, they are the data set's; in a folder of images, its subfolders are the classes.

    DIR gets checkpoint.safetensors (replaced whole, every few steps), log.csv with its plot log.svg, and at the end
    weights.safetensors, which `--weights` of train and sample takes. Several processes train together when a launcher
    starts them.

    Training begins with the weights that SRC has: a model that comes with trained ones goes on from them, and with
    `--weights none` begins anew. Pictures of a folder are cropped and resized to the network's images.

    \b
    Examples:
      snnir train model.py --data digits --images 20000 -o run
      snnir train model.py --data digits --images 20000 -o run --resume
      torchrun --nproc-per-node 2 -m snnir train model.py --data ./pictures -o run
      accelerate launch --cpu --num_processes 2 -m snnir train model.py ... -o run
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingPackageError("torch", "diffusion", "snnir train") from error

    from snnir.backends.torch_source.neurons import check_surrogates
    from snnir.cli.show import print_json
    from snnir.compiler import compile as compile_graph
    from snnir.diffusion import checkpoint
    from snnir.diffusion.data import check_images, load_images
    from snnir.diffusion.labels import check_labels
    from snnir.diffusion.log import NAME as LOG
    from snnir.diffusion.log import plot
    from snnir.diffusion.processes import Processes
    from snnir.diffusion.spec import check_inputs, spec_of
    from snnir.diffusion.train import TrainConfig, train
    from snnir.errors import fail
    from snnir.learning import check_trainable

    torch.set_num_threads(1)
    config = TrainConfig(
        images=images,
        batch=batch,
        rate=rate,
        warmup=warmup,
        floor=floor,
        clip=clip_norm,
        ema=ema,
        weighting=weighting,
        consistency=consistency,
        seed=seed,
        label_dropout=label_dropout,
    )
    team = Processes.from_environment()
    folder = Path(output)
    _check_folder(folder, resume)
    graph = graph_with(load_source(source, dt, source_options_with(source_options, weights)), weights)
    check_surrogates(graph)
    check_trainable(graph.ops, graph.metadata)
    if "host" in graph.metadata.get("diffusion", {}):
        raise fail(
            "diffusion-by-host",
            "takes and gives events that a host encodes and decodes between its calls",
            where=source,
            expected="a network whose input and output are currents",
            hint="train it with its host (models/fsddim.py --preset nano: python -m snnir.models.train_nano)",
        )
    spec = spec_of(graph)
    with progress(f"reading {data}"):
        channels, *size = spec.image if Path(data).is_dir() else (None,)
        found = load_images(data, (size[0], size[1]) if size else None, channels, data_root)
    check_images(found, spec.image)
    check_labels(found.train_labels, len(found.train), spec.classes)
    check_inputs(graph, spec)
    module = compile_graph(graph, target).module()
    if team.rank == 0:
        checkpoint.clear(folder)
    seen = checkpoint.steps_seen(folder) if resume else 0
    with _reporting(folder, seen, config, team.rank == 0) as report:
        state = train(
            module,
            spec,
            found.train,
            config,
            folder=folder,
            resume=resume,
            every=every,
            report=report,
            processes=team,
            labels=found.train_labels,
            network=checkpoint.fingerprint(graph),
        )
    trained = graph.with_weights(state)
    path = folder / "weights.safetensors"
    if team.rank == 0:
        checkpoint.write_weights(path, graph, trained)
        plot(folder / LOG, folder / "log.svg")
        if output_format == "json":
            print_json(
                "train", {"ok": True, "source": source, "target": target, "weights": str(path), "images": images}
            )
        else:
            click.echo(f"{path}: trained on {images} images through {target}")
    return 0


def _check_folder(folder: Path, resume: bool) -> None:
    """Says at once that a run would overwrite another, or that there is none to resume."""
    from snnir.diffusion.checkpoint import NAME
    from snnir.errors import fail

    there = (folder / NAME).exists()
    if there and not resume:
        raise fail("output-exists", f"holds a {NAME}", where=str(folder), hint="--resume it, or choose another folder")
    if resume and not there:
        raise fail("no-checkpoint", f"holds no {NAME}", where=str(folder), hint="leave --resume away to begin anew")
    if folder.exists() and not folder.is_dir():
        raise fail("output-exists", "is a file", where=str(folder), expected="a folder")


@contextmanager
def _reporting(
    folder: Path, seen: int, config: TrainConfig, leader: bool
) -> Iterator[Callable[[Progress], None] | None]:
    """What is told of progress: the log, and a bar on stderr (lines where it is no terminal)."""
    if not leader:
        yield None
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from snnir.cli.show import console
    from snnir.diffusion.log import Log

    log = Log(folder, seen)
    err = console(stderr=True)
    text = TextColumn("{task.completed}/{task.total} images  loss {task.fields[loss]}")
    with Bar(text, BarColumn(), TimeRemainingColumn(), console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=config.images, completed=seen * config.batch, loss="-")

        def report(progress: Progress) -> None:
            log.add(progress)
            bar.update(task, completed=min(progress.images, config.images), loss=f"{progress.loss:.4f}")
            if not err.is_terminal:
                line = f"{progress.images}/{config.images} images, loss {progress.loss:.4f}, {progress.seconds:.0f} s"
                click.echo(line, err=True)

        yield report
