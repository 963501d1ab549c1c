"""Draws images with this compiled network: the whole DDIM loop, NumPy only, bit for bit what host and chip compute.

    python sample.py                        # 64 images -> samples.png (a grid) and samples.npz
    python sample.py -n 16 --seed 3 -o mine
    python sample.py -n 16 --xylosim        # with SynSense's own simulator (pip install xylosim)

What the host computes (`diffusion_host.py`, with the numbers of `host.json`) runs beside what the chip computes
(`run.py`). The chip's states start at rest in every call, and it runs `latency` steps longer than the input, so that
all spikes come out.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def load() -> tuple[Any, Any, Any]:
    """The host's part, its module, and `run.py`, from beside this file."""
    sys.path.insert(0, str(HERE))
    module, runner = import_module("diffusion_host"), import_module("run")
    return module.EventHost.from_dict(json.loads((HERE / "host.json").read_text())), module, runner


def network(runner: Any, xylosim: bool = False) -> Any:
    """The chip as a function: event counts (steps, B, channels) -> spike counts (B, outputs) of one call."""
    description, spec, simulator = runner.load()
    neurons, before, late = description["outputs"][0]["neurons"], description["input_delay"], description["latency"]

    def call(events: Any) -> Any:
        longer = np.zeros((len(events) + late, *events.shape[1:]), events.dtype)
        longer[before : before + len(events)] = events
        spikes = runner.run_xylosim(spec, longer) if xylosim else simulator.simulate(spec, longer).spikes
        return spikes[:, :, neurons].sum(axis=0, dtype=np.int64)

    return call


def png(images: Any, columns: int, zoom: int) -> bytes:
    """A grid of images (n, C, H, W) in [-1, 1], C 1 or 3, as PNG."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    grid = np.full((rows, columns, height + 1, width + 1, channels), 255, np.uint8)
    pixels = np.rint((images.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
    grid.reshape(-1, *grid.shape[2:])[:n, :height, :width] = pixels
    whole = grid.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), columns * (width + 1), channels)
    whole = whole.repeat(zoom, axis=0).repeat(zoom, axis=1)
    lines = b"".join(b"\0" + line.tobytes() for line in whole)
    head = struct.pack(">IIBBBBB", whole.shape[1], whole.shape[0], 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def main() -> None:
    """Draws, and writes the images as .npz and .png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=64, help="how many images (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("-o", "--output", default="samples", help="files OUTPUT.png and OUTPUT.npz (default samples)")
    parser.add_argument("--xylosim", action="store_true", help="run in xylosim instead of NumPy")
    options = parser.parse_args()
    if options.n < 1:
        parser.error(f"-n is {options.n}, expected at least 1")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}, expected at least 0")
    if not Path(options.output).parent.is_dir():  # said before drawing, not after it
        parser.error(f"-o: there is no folder {Path(options.output).parent}")
    host, module, runner = load()
    noise = np.random.default_rng(options.seed).standard_normal((options.n, len(host.mean)))
    images = module.sample(host, network(runner, options.xylosim), noise)
    np.savez_compressed(f"{options.output}.npz", allow_pickle=False, images=images)
    columns = int(np.ceil(np.sqrt(options.n)))
    Path(f"{options.output}.png").write_bytes(png(images, columns, max(1, 512 // (columns * (images.shape[2] + 1)))))
    print(f"{options.n} images in {host.calls} calls of {host.steps} steps: {options.output}.png, {options.output}.npz")


if __name__ == "__main__":
    main()
