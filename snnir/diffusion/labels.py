"""Labels of a class-conditional network: as its input, left out in training, and guidance by running without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from snnir.diffusion.spec import DiffusionSpec
from snnir.errors import UsageError, fail
from snnir.ops import Array

Network = Callable[[Array, Array, Array], Array]
"""(x (T, B, *image), time (T, B, features), label (T, B, classes + 1)) -> (T, B, outputs, height, width)."""


def one_hot(labels: Sequence[int | None], classes: int) -> Array:
    """(n, classes + 1): 1 at the label's place; None is the last place, which means no label.

    Raises:
        UsageError: the network has no labels; labels that it does not have, all at once.
    """
    if classes < 1:
        raise UsageError("the network was built without labels (classes=0)")
    wrong = dict.fromkeys(label for label in labels if label is not None and not 0 <= label < classes)
    if wrong:
        raise UsageError(f"no label {', '.join(map(str, wrong))}; the network has 0 to {classes - 1}, or None")
    return np.eye(classes + 1)[[classes if label is None else label for label in labels]]


def check_labels(labels: Array | None, images: int, classes: int) -> None:
    """That a network with so many labels can be trained on these; any are right where it has none.

    Args:
        labels: (N,) integers, or None. images: N. classes: of the network; 0 for none.

    Raises:
        CompileError: no labels; another number of them than images; labels that the network does not have.
    """
    if not classes:
        return
    if labels is None:
        raise fail(
            "no-labels",
            "have no labels",
            where="the images",
            expected=f"labels 0 to {classes - 1}, which the network is told",
            hint="in a folder, one subfolder per class; or a network without labels (-S classes=0)",
        )
    if len(labels) != images:
        raise fail("label-count", f"{len(labels)} labels for {images} images", where="the images", expected="one each")
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high >= classes:
        raise fail(
            "label-range",
            f"have labels {low} to {high}",
            where="the images",
            expected=f"0 to {classes - 1}, which the network has",
            hint=f"number them from 0, and build a network for all of them (-S classes={high - min(low, 0) + 1})",
        )


def guided(network: Network, weight: float, channels: int) -> Network:
    """The network with classifier-free guidance (Ho and Salimans, arXiv 2207.12598): none + weight (label - none).

    Both runs are one batch. Guidance is of the prediction, the first `channels` channels; logits of the variance stay
    those of the labelled run (as in DiT). A weight of 1 is the network itself, and runs once.

    Raises:
        UsageError: a weight that is not finite; when it is called, a sample that has no label to guide by.
    """
    if not np.isfinite(weight):
        raise UsageError(f"guidance is {weight}, expected a finite number")
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


def told(
    network: Callable[..., Any], spec: DiffusionSpec, labels: Sequence[int | None] | None, guidance: float = 1.0
) -> Callable[[Array, Array], Array]:
    """A network that is told these labels, guided, as one of the image and its time.

    Args:
        network: takes x, time and, where it has labels, label.
        labels: one for each image, None for none; None altogether where the network has no labels.
        guidance: see `guided`; 1 for none.

    Raises:
        UsageError: labels or guidance for a network without labels, none for one that has them, labels it does not
            have, or guidance for an image without one.
    """
    if not spec.classes:
        asked = ["a label"] if labels is not None else []
        asked += [f"guidance of {guidance:g}"] if guidance != 1 else []
        if asked:
            raise UsageError(f"{' and '.join(asked)}: this network has no labels, it draws whatever it was trained on")
        return network
    if labels is None:
        raise UsageError(f"this network is told labels, 0 to {spec.classes - 1}, or None for each image")
    label = one_hot(labels, spec.classes)
    if guidance != 1 and None in labels:
        raise UsageError(f"guidance of {guidance:g} is towards a label, and image {list(labels).index(None)} has none")
    run = guided(network, guidance, spec.currents[0])

    def denoise(x: Array, time: Array) -> Array:
        return run(x, time, np.repeat(label[None], len(x), axis=0).astype(x.dtype))

    return denoise
