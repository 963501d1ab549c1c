"""`snnir sample`: images from a denoising network."""

from __future__ import annotations

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
    write_file,
)
from snnir.cli.weights import graph_with, source_options_with, weights_option

if TYPE_CHECKING:
    from snnir.diffusion.sample import Denoiser
    from snnir.graph import Graph

TORCH_TARGETS = ("torch", "norse", "snntorch")


@click.command("sample")
@source_argument
@click.option(
    "-t",
    "--target",
    type=click.Choice([*TORCH_TARGETS, "interpreter"]),
    default="torch",
    show_default=True,
    help="What runs the network: the module emitted for a target, or the reference interpreter.",
)
@weights_option
@click.option("-n", "--count", type=click.IntRange(1), default=64, show_default=True, help="Number of images.")
@click.option("--steps", type=click.IntRange(1), default=50, show_default=True, help="Denoising (DDIM) steps.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the noise.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="Images at a time.")
@click.option("--clip", is_flag=True, help="Decode and clip in every step: a host's sampler, not the network's.")
@click.option("-o", "--output", required=True, metavar="FILE", help="A picture (.png), or the arrays (.npz).")
@click.option("--force", is_flag=True, help="Replace FILE where it exists.")
@source_option
@dt_option
@format_option
@debug_option
def sample_command(
    source: str,
    target: str,
    weights: str | None,
    count: int,
    steps: int,
    seed: int,
    batch: int,
    clip: bool,
    output: str,
    force: bool,
    source_options: dict[str, Any],
    dt: float | None,
    output_format: str,
) -> int:
    """Draw images with SRC, a denoising network: noise through DDIM steps in the space of currents."""
    import time

    import numpy as np

    from snnir.cli.show import print_json
    from snnir.diffusion.sample import noise, sample
    from snnir.diffusion.spec import spec_of
    from snnir.errors import fail

    suffix = Path(output).suffix.lower()
    if suffix not in (".png", ".npz"):
        raise click.BadParameter(f"{output}: expected .png or .npz", param_hint="-o")
    if Path(output).exists() and not force:
        raise fail("output-exists", "exists already", where=output, hint="choose another name, or --force")
    graph = graph_with(load_source(source, dt, source_options_with(source_options, weights)), weights)
    spec = spec_of(graph)
    denoise = _denoiser(graph, target)
    start = noise(spec, count, seed)
    made = []
    begun = time.perf_counter()
    with progress(f"drawing {count} images in {steps} steps"):
        for first in range(0, count, batch):
            made.append(sample(denoise, spec, start[first : first + batch], steps, clip=clip).images)
    images = np.concatenate(made)
    seconds = time.perf_counter() - begun
    write_file(output, _picture(images) if suffix == ".png" else _arrays(images))
    if output_format == "json":
        facts = {"images": count, "steps": steps, "seed": seed, "target": target, "seconds": seconds}
        print_json("sample", {"ok": True, "source": source, "output": output, **facts})
    else:
        click.echo(f"{count} images, {steps} denoising steps of {spec.steps} SNN steps, {target}: {seconds:.1f} s")
        click.echo(f"  written to {output}")
    return 0


def _denoiser(graph: Graph, target: str) -> Denoiser:
    from snnir.diffusion.sample import graph_denoiser, module_denoiser

    if target == "interpreter":
        return graph_denoiser(graph)
    import torch

    from snnir.compiler import compile as compile_graph
    from snnir.diffusion.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    return module_denoiser(compile_graph(graph, target, passes="fold-batch-norm").module())


def _picture(images: Any) -> bytes:
    from snnir.diffusion.grid import image_grid, to_png

    return to_png(image_grid(images))


def _arrays(images: Any) -> bytes:
    from io import BytesIO

    import numpy as np

    file = BytesIO()
    np.savez_compressed(file, images=images)
    return file.getvalue()
