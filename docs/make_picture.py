"""Draws docs/pictures/targets.svg: every spike of the digits network for one image, on the reference and each target.

    python docs/make_picture.py

Blue: the target's spike is the reference's, to the neuron and the step (a stated latency aside). Orange: it is not.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples" / "digits"))
import data  # noqa: E402 - found through the line above

import snnir  # noqa: E402

TARGETS = ("torch", "norse", "snntorch", "xylo-audio3")
POPULATIONS = ("hidden1", "hidden2", "digits")
IMAGE = 7
SAME, OTHER, INK, FAINT = "#0072B2", "#E69F00", "#222222", "#D8DDE2"
CELL, ROW, GAP, TOP, LEFT = 7.0, 1.5, 10.0, 74.0, 84.0


def raster(x: float, spikes: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> tuple[list[str], float]:
    """SVG of one panel at horizontal place x, and its lower edge."""
    parts, y = [], TOP
    for name in POPULATIONS:
        steps, neurons = spikes[name].shape
        height = 2 * ROW if name == "digits" else ROW
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{steps * CELL:.1f}" height="{neurons * height:.1f}" '
            f'fill="none" stroke="{FAINT}"/>'
        )
        shown = (spikes[name] != 0) | (spikes[name] != reference[name])
        right = spikes[name] == reference[name]
        for colour, places in ((SAME, shown & right), (OTHER, shown & ~right)):
            dashes = "".join(
                f"M{x + step * CELL + 0.5:g} {y + (neuron + 0.5) * height:g}h{CELL - 1:g}"
                for step, neuron in np.argwhere(places)
            )
            if dashes:
                parts.append(f'<path d="{dashes}" stroke="{colour}" stroke-width="{height:g}"/>')
        y += neurons * height + GAP
    return parts, y


def main() -> None:
    """Runs the network on one test image everywhere and draws it."""
    graph = snnir.load(ROOT / "examples" / "digits" / "model.py")
    train, _, test, labels = data.load()
    x = data.events(test[IMAGE : IMAGE + 1])
    report = snnir.validate(graph, TARGETS, inputs=data.events(train[:64]))
    _, recorded = snnir.interpret(graph, x, record=POPULATIONS)
    reference = {name: values[:, 0] for name, values in recorded.items()}
    panels = [("reference", "NumPy interpreter", reference, reference)]
    for verdict in report.verdicts:
        result = report.results[verdict.target]
        _, got = result.run(x, record=POPULATIONS)
        lags = getattr(result.artifact, "lags", {})
        spikes = {n: _earlier(values[:, 0].reshape(len(x), -1), lags.get(n, 0)) for n, values in got.items()}
        kept = {n: _earlier(_later(reference[n], lags.get(n, 0)), lags.get(n, 0)) for n in spikes}
        share = f", {100 * verdict.count_error:.1f} % of counts" if verdict.count_error else ""
        panels.append((verdict.target, verdict.words + share, spikes, kept))
    step = len(x) * CELL + 34
    body: list[str] = []
    bottom = TOP
    for i, (title, words, spikes, kept) in enumerate(panels):
        left = LEFT + i * step
        drawn, bottom = raster(left, spikes, kept)
        body += [
            f'<text x="{left:.1f}" y="42" font-weight="bold" font-size="15">{escape(title)}</text>',
            f'<text x="{left:.1f}" y="61" font-size="11">{escape(words)}</text>',
            *drawn,
        ]
    y = TOP
    for name in POPULATIONS:
        height = reference[name].shape[1] * (2 * ROW if name == "digits" else ROW)
        body.append(f'<text x="{LEFT - 8}" y="{y + height / 2 + 4:.1f}" text-anchor="end" font-size="12">{name}</text>')
        y += height + GAP
    width = LEFT + len(panels) * step
    head = f"One image of a {labels[IMAGE]}, one network: every spike over {len(x)} steps of 1 ms"
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {bottom + 26:.0f}" '
        f'font-family="Helvetica, Arial, sans-serif" fill="{INK}" role="img">',
        f"<title>{escape(head)}</title>",
        f'<rect width="{width:.0f}" height="{bottom + 26:.0f}" fill="#FFFFFF"/>',
        f'<text x="{LEFT:.1f}" y="20" font-size="13">{escape(head)}</text>',
        *body,
        f'<rect x="{LEFT:.1f}" y="{bottom + 4:.1f}" width="9" height="9" fill="{SAME}"/>',
        f'<text x="{LEFT + 14:.1f}" y="{bottom + 13:.1f}" font-size="11">the reference\'s spike, to the step</text>',
        f'<rect x="{LEFT + 230:.1f}" y="{bottom + 4:.1f}" width="9" height="9" fill="{OTHER}"/>',
        f'<text x="{LEFT + 244:.1f}" y="{bottom + 13:.1f}" font-size="11">another spike, or one that is missing '
        "(the chip computes in integers; its latency of a step per layer is taken off)</text>",
        "</svg>",
    ]
    place = ROOT / "docs" / "pictures" / "targets.svg"
    place.parent.mkdir(exist_ok=True)
    place.write_text("\n".join(svg) + "\n")
    print(place)


def _later(spikes: np.ndarray, lag: int) -> np.ndarray:
    return np.concatenate([np.zeros_like(spikes[:lag]), spikes])[: len(spikes)]


def _earlier(spikes: np.ndarray, lag: int) -> np.ndarray:
    return np.concatenate([spikes[lag:], np.zeros_like(spikes[:lag])])


if __name__ == "__main__":
    main()
