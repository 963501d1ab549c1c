"""The main job, end to end: a spiking diffusion model compiled to several targets, proven the same on each, and drawn.

    python examples/fsddim/demo.py

1. The denoiser (`digits`: 8x8 images) and the smallest (`nano`: 4x4) for every installed framework, NIR and ONNX, and
   `nano` for Xylo: compiled, run on the same noisy images as the reference, compared spike by spike.
2. Its sampler as one graph: four denoising calls, the decoder fused into the synapses, only spikes between the calls;
   the same images as the sampler's loop.
3. A grid of images from the larger model (`small`: Fashion-MNIST).

Writes everything to `out/fsddim`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import snnir
from snnir.compiler import save_all
from snnir.diffusion.sample import graph_denoiser, module_denoiser, noise, sample
from snnir.diffusion.schedule import CosineSchedule
from snnir.diffusion.spec import fold_pixels, spec_of, time_embedding, unfold_pixels
from snnir.diffusion.unrolled import crossing, crossing_faults
from snnir.pipeline import parse_pipeline, run_pipeline
from snnir.registry import backend, installed

ROOT = Path(__file__).parents[2]
MODEL = os.path.relpath(ROOT / "models" / "fsddim.py")
FRAMEWORKS = ("torch", "norse", "snntorch", "sinabs", "spikingjelly", "rockpool", "onnx", "nir")
JOBS = (("digits", FRAMEWORKS), ("nano", (*FRAMEWORKS, "xylo-audio3")))
CALLS = 4
COLUMNS = ("model", "target", "verdict", "latency", "files")


def main() -> None:
    """Compiles, validates, fuses, draws; exit status 1 where something is not the same network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out" / "fsddim")
    output = parser.parse_args().output
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # frameworks ask for it; nothing here needs it
    console, start = Console(), time.perf_counter()
    table = Table(title="one network per model, on every target")
    for column in COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column in ("target", "files"))
    sound = True
    for preset, names in JOBS:
        targets = [name for name in names if installed(backend(name).target)]
        graph = snnir.load(MODEL, preset=preset)
        report = snnir.validate(graph, targets, inputs=noisy_images(graph) if preset == "digits" else None)
        folder = output / preset
        save_all(report.results, folder, overwrite=True)
        for verdict in report.verdicts:
            words = verdict.words + (f" ({100 * verdict.count_error:.1f} % of counts)" if verdict.count_error else "")
            place = os.path.relpath(folder / verdict.target) if verdict.target in report.results else verdict.cause
            table.add_row(preset, verdict.target, words, f"{verdict.latency} steps", place)
        sound &= report.ok
    console.print(table)
    sound &= fused_sampler(console, output)
    picture(console, output / "grid.png")
    console.print(f"{time.perf_counter() - start:.0f} s")
    sys.exit(0 if sound else 1)


def noisy_images(graph: snnir.Graph) -> dict[str, Any]:
    """What a denoiser sees: real digits, turned towards noise by the angles of several times."""
    from snnir.diffusion.data import load_images

    spec = spec_of(graph)
    times = np.linspace(0, spec.timesteps - 1, 8).astype(int)
    phi = CosineSchedule(spec.timesteps, spec.offset).angles()[times][:, None, None, None]
    mixed = np.cos(phi) * load_images("digits").test[: len(times)] + np.sin(phi) * noise(spec, len(times))
    x, embedded = fold_pixels(mixed, spec.fold), time_embedding(times, spec.time_size)
    return {spec.input: np.stack([x] * spec.steps), spec.time: np.stack([embedded] * spec.steps)}


def fused_sampler(console: Console, output: Path) -> bool:
    """The sampler as one graph that sends spikes only, beside the sampler's loop; whether both draw the same."""
    from snnir.draw import compare, to_html

    graph = snnir.load(MODEL, preset="digits")
    spec = spec_of(graph)
    unrolled = run_pipeline(graph, parse_pipeline(f"fold-batch-norm,unroll-sampler{{steps={CALLS}}}"))
    fused = run_pipeline(unrolled, parse_pipeline("fuse-decoder{mode=spikes-only}"))
    start = noise(spec, 8, dtype=np.float64)
    senders = sorted({edge.source for edge in crossing(fused)})
    currents = np.stack([fold_pixels(start, spec.fold)] * spec.steps)
    drawn, sent = snnir.interpret(fused, currents, record=senders)
    images = np.clip(unfold_pixels(np.asarray(drawn).mean(axis=0), spec.fold), -1, 1)
    loop = sample(graph_denoiser(graph), spec, start, CALLS).images
    difference = float(np.abs(images - loop).max())
    faults = crossing_faults(fused, sent)
    console.print(
        f"sampler of {CALLS} calls as one graph, decoder fused: {len(unrolled)} -> {len(fused)} ops; {len(senders)} "
        f"layers send between calls, {'0 and 1 only' if not faults else 'NOT ONLY SPIKES'}; images differ from the "
        f"sampling loop's by at most {difference:.1e}"
    )
    page = output / "sampler.html"
    page.write_text(to_html(compare(graph, "fused")))
    console.print(f"  {os.path.relpath(page)}")
    return not faults and difference < 1e-4


def picture(console: Console, path: Path) -> None:
    """Images of the larger model through the emitted PyTorch module."""
    import torch

    from snnir.diffusion.grid import image_grid, to_png
    from snnir.diffusion.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    graph = snnir.load(MODEL, preset="small")
    module = snnir.compile(graph, target="torch", passes="fold-batch-norm").module()
    images = sample(module_denoiser(module), spec_of(graph), noise(spec_of(graph), 36), 20).images
    path.write_bytes(to_png(image_grid(images)))
    console.print(f"  {os.path.relpath(path)}: {len(images)} images")


if __name__ == "__main__":
    main()
