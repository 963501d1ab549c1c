"""`snnir sample`: images from a denoising network."""

from __future__ import annotations

from dataclasses import dataclass
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
    from snnir.diffusion.sample import Network, Sampler
    from snnir.graph import Graph
    from snnir.ops import Array

TORCH_TARGETS = ("torch", "norse", "snntorch", "sinabs", "spikingjelly", "rockpool")


@click.command("sample", short_help="Draw images with a denoising network.")
@source_argument
@click.option(
    "-t",
    "--target",
    type=click.Choice([*TORCH_TARGETS, "onnx", "lava", "xylo-audio3", "interpreter"]),
    default="torch",
    show_default=True,
    help="What runs the network: what is emitted for a target (a chip: its simulator), or the reference.",
)
@weights_option
@click.option("-n", "--count", type=click.IntRange(1), default=64, show_default=True, help="Number of images.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Denoising steps; default 50 (ancestral 250), or what the model is made for.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the noise.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="Images at a time.")
@click.option(
    "--label",
    "labels",
    metavar="NUMBER|none",
    multiple=True,
    help="What to draw, of a network that takes labels; several are dealt in turn. Default: all classes in turn.",
)
@click.option(
    "--guidance",
    type=float,
    default=1.0,
    show_default=True,
    help="Towards the label and away from none (classifier-free guidance); 1: without.",
)
@click.option(
    "--sampler",
    type=click.Choice(["ddim", "ancestral"]),
    help="Default: ancestral where the network learns the variance, else ddim.",
)
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
    steps: int | None,
    seed: int,
    batch: int,
    labels: tuple[str, ...],
    guidance: float,
    sampler: Sampler | None,
    clip: bool,
    output: str,
    force: bool,
    source_options: dict[str, Any],
    dt: float | None,
    output_format: str,
) -> int:
    """Draw images with SRC, a denoising network: noise through DDIM steps in the space of currents.

    A network that learns the variance of its steps is sampled ancestrally: every step adds noise to the decoded image.

    \b
    Examples:
      snnir sample model.py --weights run/weights.safetensors -n 64 -o grid.png
      snnir sample model.py --label 7 --target lava -n 16 -o images.npz
    """
    import os
    import time

    from snnir.cli.show import print_json
    from snnir.errors import fail

    suffix = Path(output).suffix.lower()
    if suffix not in (".png", ".npz"):
        raise click.BadParameter(f"{output}: expected .png or .npz", param_hint="-o")
    if Path(output).exists() and not force:
        raise fail("output-exists", "exists already", where=output, hint="choose another name, or --force")
    if Path(output).is_dir():
        raise fail("output-unwritable", "is a folder", where=output, expected="a file")
    if not Path(output).parent.is_dir():  # said before an hour of drawing, not after it
        raise fail("output-unwritable", f"there is no folder {Path(output).parent}", where=output, hint="make it first")
    if not os.access(Path(output).parent, os.W_OK):
        raise fail("output-unwritable", f"may not write in {Path(output).parent}", where=output)
    graph = graph_with(load_source(source, dt, source_options_with(source_options, weights)), weights)
    channels = next(iter(graph.metadata.get("diffusion", {}).get("image", [1])))
    if suffix == ".png" and channels not in (1, 3):
        raise click.BadParameter(f"images of {channels} channels are no picture: expected .npz", param_hint="-o")
    begun = time.perf_counter()
    by_host = "host" in graph.metadata.get("diffusion", {})
    with progress(f"drawing {count} images"):
        if by_host:
            if labels or guidance != 1 or sampler is not None:
                options = "--label, --guidance, --sampler"
                raise click.BadParameter("this network's host knows none of these", param_hint=options)
            images, calls = _by_host(graph, target, count, seed, steps, clip)
        else:
            wanted = _Wanted(count, seed, steps, clip, batch, [_label(word) for word in labels], guidance, sampler)
            images, calls = _in_currents(graph, target, wanted)
    seconds = time.perf_counter() - begun
    write_file(output, _picture(images) if suffix == ".png" else _arrays(images))
    if output_format == "json":
        facts = {"images": count, "steps": calls, "seed": seed, "target": target, "seconds": seconds}
        print_json("sample", {"ok": True, "source": source, "output": output, **facts})
    else:
        click.echo(f"{count} images, {calls} denoising steps, {target}: {seconds:.1f} s")
        click.echo(f"  written to {output}")
    return 0


@dataclass(frozen=True)
class _Wanted:
    """What was asked for on the command line."""

    count: int
    seed: int
    steps: int | None
    clip: bool
    batch: int
    labels: list[int | None]
    guidance: float
    sampler: Sampler | None


def _label(word: str) -> int | None:
    if word == "none":
        return None
    try:
        return int(word)
    except ValueError:
        raise click.BadParameter(f"{word!r}, expected a number, or none", param_hint="--label") from None


def _in_currents(graph: Graph, target: str, wanted: _Wanted) -> tuple[Array, int]:
    """Images of a network whose input and output are currents."""
    import numpy as np

    from snnir.diffusion.labels import told
    from snnir.diffusion.sample import fresh_noise, noise, sample, usual_sampler
    from snnir.diffusion.spec import check_inputs, spec_of

    spec = spec_of(graph)
    if target not in (*TORCH_TARGETS, "onnx", "lava", "interpreter"):
        raise click.BadParameter(f"{target} takes events, and this network takes currents", param_hint="--target")
    sampler = wanted.sampler or usual_sampler(spec)
    steps = wanted.steps or min(50 if sampler == "ddim" else 250, spec.timesteps)
    spec.noise_schedule.times(steps)  # says at once that there are too many
    dealt = wanted.labels or (list(range(spec.classes)) if spec.classes else None)
    labels = [dealt[i % len(dealt)] for i in range(wanted.count)] if dealt else None
    told(lambda *_: None, spec, labels, wanted.guidance)  # so are labels that it has not
    check_inputs(graph, spec)
    network, start = _denoiser(graph, target), noise(spec, wanted.count, wanted.seed)
    parts = []
    for first in range(0, wanted.count, wanted.batch):
        chosen = range(first, min(first + wanted.batch, wanted.count))
        denoise = told(network, spec, labels and labels[first : chosen.stop], wanted.guidance)
        fresh = fresh_noise(spec, chosen, wanted.seed)
        part = start[first : chosen.stop]
        parts.append(sample(denoise, spec, part, steps, clip=wanted.clip, sampler=sampler, fresh=fresh).images)
    return np.concatenate(parts), steps


def _by_host(graph: Graph, target: str, count: int, seed: int, steps: int | None, clip: bool) -> tuple[Array, int]:
    """Images of a network whose events a host encodes and decodes, call by call."""
    import numpy as np

    from snnir.compiler import compile as compile_graph
    from snnir.diffusion.events import EventHost, sample
    from snnir.interpreter import interpret

    host = EventHost.from_dict(graph.metadata["diffusion"]["host"])
    if steps not in (None, host.calls):
        raise click.BadParameter(f"this network is made for {host.calls} steps", param_hint="--steps")
    if clip:
        raise click.BadParameter("this network's host decodes in every step anyway", param_hint="--clip")
    made = None if target == "interpreter" else compile_graph(graph, target)

    def network(events: Array) -> Array:
        late = 0 if made is None else made.latency  # spikes that come after the last input are counted, too
        x = np.concatenate([events, np.zeros((late, *events.shape[1:]), events.dtype)]).astype(np.float32)
        spikes = interpret(graph, x) if made is None else made.run(x)
        return np.asarray(spikes).sum(axis=0)

    start = np.stack([np.random.default_rng([seed, i]).standard_normal(len(host.mean)) for i in range(count)])
    return sample(host, network, start).astype(np.float32), host.calls


def _denoiser(graph: Graph, target: str) -> Network:
    from snnir.diffusion.sample import compiled_denoiser, graph_denoiser, module_denoiser

    if target == "interpreter":
        return graph_denoiser(graph)
    from snnir.compiler import compile as compile_graph

    if target in ("onnx", "lava"):
        from snnir.diffusion.spec import spec_of

        return compiled_denoiser(compile_graph(graph, target), spec_of(graph))
    import torch

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
