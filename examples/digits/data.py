"""Handwritten digits as event counts: scikit-learn's 8x8 images, averaged to 4x4, so 16 channels of 0..15 events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHOWN = 16  # steps for which an image is shown
SILENT = 4  # steps without input after it, in which the last spikes reach the output
STEPS = SHOWN + SILENT


def load() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(train counts, train labels, test counts, test labels): counts (images, 16) of 0..15, a fixed 3:1 split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    means = digits.images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    counts = np.minimum(np.rint(means), 15).astype(np.int64)  # Xylo takes at most 15 events per channel and step
    split = train_test_split(counts, digits.target, test_size=0.25, random_state=0, stratify=digits.target)
    train, test, train_labels, test_labels = split
    return train, train_labels, test, test_labels


def events(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Counts (B, 16) as input over time (STEPS, B, 16): the same counts in every shown step, then silence."""
    x = np.zeros((STEPS, *counts.shape), dtype=np.float32)
    x[:SHOWN] = counts
    return x


def accuracy(spikes: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Share of images (0..1) whose label's output neuron spikes most; spikes: (T, B, 10)."""
    return float((spikes.sum(axis=0).argmax(axis=1) == labels).mean())
