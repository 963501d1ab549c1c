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
    from snnir.ops import Array

TORCH_TARGETS = ("torch", "norse", "snntorch", "sinabs", "spikingjelly", "rockpool")


@click.command("sample")
@source_argument
@click.option(
    "-t",
    "--target",
    type=click.Choice([*TORCH_TARGETS, "lava", "xylo-audio3", "interpreter"]),
    default="torch",
    show_default=True,
    help="What runs the network: what is emitted for a target (a chip: its simulator), or the reference.",
)
@weights_option
@click.option("-n", "--count", type=click.IntRange(1), default=64, show_default=True, help="Number of images.")
@click.option(
    "--steps", type=click.IntRange(1), help="Denoising (DDIM) steps; default 50, or what the model is made for."
)
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
    steps: int | None,
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

    from snnir.cli.show import print_json
    from snnir.errors import fail

    suffix = Path(output).suffix.lower()
    if suffix not in (".png", ".npz"):
        raise click.BadParameter(f"{output}: expected .png or .npz", param_hint="-o")
    if Path(output).exists() and not force:
        raise fail("output-exists", "exists already", where=output, hint="choose another name, or --force")
    graph = graph_with(load_source(source, dt, source_options_with(source_options, weights)), weights)
    begun = time.perf_counter()
    by_host = "host" in graph.metadata.get("diffusion", {})
    with progress(f"drawing {count} images"):
        if by_host:
            images, calls = _by_host(graph, target, count, seed, steps, clip)
        else:
            images, calls = _in_currents(graph, target, count, seed, steps or 50, clip, batch)
    seconds = time.perf_counter() - begun
    write_file(output, _picture(images) if suffix == ".png" else _arrays(images))
    if output_format == "json":
        facts = {"images": count, "steps": calls, "seed": seed, "target": target, "seconds": seconds}
        print_json("sample", {"ok": True, "source": source, "output": output, **facts})
    else:
        click.echo(f"{count} images, {calls} denoising steps, {target}: {seconds:.1f} s")
        click.echo(f"  written to {output}")
    return 0


def _in_currents(
    graph: Graph, target: str, count: int, seed: int, steps: int, clip: bool, batch: int
) -> tuple[Array, int]:
    """Images of a network whose input and output are currents."""
    import numpy as np

    from snnir.diffusion.sample import noise, sample
    from snnir.diffusion.spec import spec_of

    spec = spec_of(graph)
    if target not in (*TORCH_TARGETS, "lava", "interpreter"):
        raise click.BadParameter(f"{target} takes events, and this network takes currents", param_hint="--target")
    denoise, start = _denoiser(graph, target), noise(spec, count, seed)
    parts = [start[first : first + batch] for first in range(0, count, batch)]
    return np.concatenate([sample(denoise, spec, part, steps, clip=clip).images for part in parts]), steps


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


def _denoiser(graph: Graph, target: str) -> Denoiser:
    from snnir.diffusion.sample import compiled_denoiser, graph_denoiser, module_denoiser

    if target == "interpreter":
        return graph_denoiser(graph)
    from snnir.compiler import compile as compile_graph

    if target == "lava":
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
