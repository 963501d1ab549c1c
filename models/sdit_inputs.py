"""What goes into SDiT beside the image: features of the time, labels, and guidance by running with and without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from snnir.errors import UsageError
from snnir.ops import Array

Network = Callable[[Array, Array, Array], Array]
"""(x (T, B, *image), time (T, B, features), label (T, B, classes + 1)) -> (T, B, outputs, height, width)."""


def time_features(t: Array, size: int) -> Array:
    """Cosines, then sines of t (n,) -> (n, size): periods from 2 pi to 2 pi 10000, as in DiT and SDiT."""
    half = size // 2
    angles = np.asarray(t, np.float64)[:, None] * np.exp(-np.log(10000.0) * np.arange(half) / half)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)


def one_hot(labels: Sequence[int | None], classes: int) -> Array:
    """(n, classes + 1): 1 at the label's place; None is the last place, which means no label.

    Raises:
        UsageError: the network has no labels; labels that it does not have, all at once.
    """
    if classes < 1:
        raise UsageError("the network was built without labels (classes=0)")
    wrong = [label for label in labels if label is not None and not 0 <= label < classes]
    if wrong:
        raise UsageError(f"no label {', '.join(map(str, wrong))}; the network has 0 to {classes - 1}, or None")
    return np.eye(classes + 1)[[classes if label is None else label for label in labels]]


def guided(network: Network, weight: float, channels: int) -> Network:
    """The network with classifier-free guidance (Ho and Salimans, arXiv 2207.12598): none + weight (label - none).

    Both runs are one batch. Guidance is of the prediction, the first `channels` channels; logits of the variance stay
    those of the labelled run (as in DiT). A weight of 1 is the network itself, and runs once.

    Raises:
        UsageError: (when it is called) a sample that has no label, so that there is nothing to guide by.
    """
    if weight == 1:
        return network

    def run(x: Array, time: Array, label: Array) -> Array:
        without = np.zeros_like(label)
        without[..., -1] = 1
        free = np.argwhere(np.equal(label, without).all(axis=-1))
        if free.size:
            raise UsageError(f"guidance of {weight:g} needs a label, but sample {free[0][-1]} has none")
        both = (np.concatenate(pair, axis=1) for pair in ((x, x), (time, time), (label, without)))
        labelled, plain = np.split(network(*both), 2, axis=1)
        told, untold = labelled[:, :, :channels], plain[:, :, :channels]
        return np.concatenate([untold + weight * (told - untold), labelled[:, :, channels:]], axis=2)

    return run
