"""Frechet distances between generated and held-out images, by torchmetrics with feature networks of our own.

torchmetrics' FrechetInceptionDistance does the statistics, in float64, so the figure is the one that everybody else's
code gives for these features. What the features are is in the metric's name (`extractors`), and how many images were
compared is in the score: the distance of a small sample is biased upwards (real training images, against the 10,000 of
the test set: FAD 4.6 at n = 300, 1.7 at 1,000, 0.5 at 5,000), so only equal n compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from snnir.diffusion.extractors import IMAGE, NETWORKS, Extractor, extractor
from snnir.errors import MissingPackageError, UsageError, fail
from snnir.ops import Array

N = 5000  # images in a reported score


@dataclass(frozen=True)
class Score:
    """A distance, the name of its metric, how many images were scored and against how many."""

    metric: str
    value: float
    n: int
    reference: int

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.metric} {self.value:.2f} (n={self.n} against {self.reference})"


class Scorer:
    """Scores sets of images against one reference set, whose features are computed once.

    Args:
        reference: held-out images, (N, C, H, W) in [-1, 1].
        networks: names of shipped feature networks (28x28 grey images), or networks of your own.
        inception: a file of torch-fidelity's Inception weights (pt_inception-2015-12-05-6726825d.pth), for FID.

    Raises:
        CompileError: images that are not finite, or of a size that a feature network does not take.
        MissingPackageError: torchmetrics is not installed, or torch-fidelity with `inception`.
    """

    def __init__(
        self,
        reference: Array,
        networks: Iterable[str | Extractor] = tuple(NETWORKS),
        inception: str | Path | None = None,
    ) -> None:
        try:
            from torchmetrics.image.fid import FrechetInceptionDistance
        except ImportError as error:
            raise MissingPackageError("torchmetrics", "diffusion", "the Frechet distance") from error
        self.shape = reference.shape[1:]
        self._check(reference, "reference")
        self._metrics: dict[str, Any] = {}
        for network in networks:
            made = extractor(network) if isinstance(network, str) else network
            if isinstance(network, str) and self.shape != IMAGE:
                shapes = ["x".join(map(str, s)) for s in (self.shape, IMAGE)]
                raise fail(
                    "image-size",
                    f"images of {shapes[0]}",
                    where=made.metric,
                    expected=shapes[1],
                    hint="score with a feature network of your own, or with Inception",
                )
            self._metrics[made.metric] = FrechetInceptionDistance(
                made.network, reset_real_features=False, normalize=True, input_img_size=self.shape
            )
        if inception is not None:
            name = _inception_name(Path(inception))
            self._metrics[name] = _inception(FrechetInceptionDistance, Path(inception))
        self.reference = len(reference)
        self._update(reference, real=True)

    def __call__(self, images: Array) -> tuple[Score, ...]:
        """The scores of images (N, C, H, W) in [-1, 1], in the order of the networks.

        Raises:
            CompileError: not finite, or of another size than the reference.
            UsageError: fewer than two.
        """
        self._check(images, "images to score")
        for metric in self._metrics.values():
            metric.reset()  # keeps the reference
        self._update(images, real=False)
        return tuple(
            Score(name, float(metric.compute()), len(images), self.reference) for name, metric in self._metrics.items()
        )

    def _check(self, images: Array, where: str) -> None:
        if len(images) < 2:
            raise UsageError(f"{len(images)} {where}: a Frechet distance needs at least 2")
        if images.shape[1:] != self.shape:
            found, wanted = ("x".join(map(str, s)) for s in (images.shape[1:], self.shape))
            raise fail("image-size", f"are of {found}", where=where, expected=f"{wanted}, as the reference images")
        if broken := int((~np.isfinite(images)).any(axis=(1, 2, 3)).sum()):
            what = f"{broken} of {len(images)} have values that are not finite"
            raise fail("non-finite", what, where=where, hint="the sampler or its weights diverged")

    @torch.no_grad()
    def _update(self, images: Array, real: bool, batch: int = 250) -> None:
        for start in range(0, len(images), batch):
            part = torch.from_numpy(np.ascontiguousarray(images[start : start + batch], dtype=np.float32))
            for metric in self._metrics.values():
                metric.update(part if metric.used_custom_model else _for_inception(part), real=real)


def _for_inception(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] to the RGB of [0, 1] that torchmetrics makes bytes of; grey is repeated, as FSDDIM's authors do."""
    rgb = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    return (rgb.clamp(-1, 1) + 1) / 2


def _inception_name(weights: Path) -> str:
    try:
        return f"FID[inception-{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}]"
    except OSError as error:
        hint = "the file is part of a release of toshas/torch-fidelity on GitHub"
        raise fail("weights-unreadable", f"cannot be read: {error.strerror}", where=str(weights), hint=hint) from error


def _inception(metric: Any, weights: Path) -> Any:
    from importlib.util import find_spec

    if find_spec("torch_fidelity") is None:
        raise MissingPackageError("torch-fidelity", "inception", "FID with the Inception network")
    try:
        return metric(2048, reset_real_features=False, normalize=True, feature_extractor_weights_path=str(weights))
    except (
        UnpicklingError,
        RuntimeError,
        ValueError,
        KeyError,
        EOFError,
    ) as error:
        # what torch.load and load_state_dict say of a wrong file
        said = (str(error).splitlines() or [type(error).__name__])[0]
        what, wanted = f"is not Inception's: {said}", "torch-fidelity's pt_inception-2015-12-05-6726825d.pth"
        raise fail("weights-unreadable", what, where=str(weights), expected=wanted) from error
