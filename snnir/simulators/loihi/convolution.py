"""Lava's convolution, which follows other rules than its dense connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnir.simulators.loihi.ranges import INT8_MAX, INT32, Array, integers, out_of

LAYOUTS = ("xyc", "cyx")
_COLUMNS = 2**20  # values gathered at a time for one matrix product


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution:
    """A convolution from an input or a population to a population: Lava's Conv, `PyConvModelFixed`.

    `weights` (channels out, kernel x, kernel y, channels in / groups): integers, taken as they are. There is no
    exponent, no clipping and no truncation to weight bits: Lava's model takes these parameters and ignores them. The
    kernel is flipped in x and y: of PyTorch's weights, `w[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)`.

    `input_shape` (X, Y, channels in) of the source. With `layout` "xyc" its neurons are numbered in C order of it, and
    the target's likewise in C order of `output_shape`; with "cyx" in that of (channel, Y, X), as in PyTorch (in Lava,
    ports transposed). `stride`, `padding`, `dilation`: an integer or a pair (x, y). `graded` multiplies by the value
    that arrives; otherwise anything but 0 is one spike. Like every connection it takes a step.

    `phases` (x, y), of "cyx" alone, are of one image each: channel c * phases + a * x + b of the output at (i, j) is
    the target's channel c at row y * i + a, column x * j + b (PyTorch's PixelShuffle; in Lava, a reshaped port).

    A sum beyond 24 bits wraps into -2**23..2**23 - 1; one beyond 32 bits becomes 0, as Lava's cast of it to int32 gives
    -2**31 (on x86). Lava keeps strides and the like in int8 and, beyond 127, goes on with other numbers or stops
    answering: such a convolution is refused here.
    """

    source: str
    target: str
    weights: Array
    input_shape: tuple[int, int, int]
    stride: Any = (1, 1)
    padding: Any = (0, 0)
    dilation: Any = (1, 1)
    groups: int = 1
    graded: bool = False
    layout: str = "xyc"
    phases: Any = (1, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", integers(self.weights))
        object.__setattr__(self, "input_shape", tuple(int(n) for n in self.input_shape))
        for name in ("stride", "padding", "dilation", "phases"):
            x, y = np.broadcast_to(getattr(self, name), 2).tolist()
            object.__setattr__(self, name, (int(x), int(y)))

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(X, Y, channels out) of the target."""
        x, y = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.input_shape[:2], self.padding, self.dilation, self.weights.shape[1:3], self.stride, strict=True
            )
        )
        return x, y, self.weights.shape[0]

    def problems(self, sizes: Mapping[str, int], targets: set[str]) -> Iterator[str]:
        """What does not fit, one message each; `sizes` of all inputs and populations, `targets` the populations."""
        where = f"convolution {self.source!r} -> {self.target!r}"
        if self.source not in sizes:
            yield f"{where}: there is no input or population {self.source!r}"
        if self.target not in targets:
            yield f"{where}: there is no population {self.target!r}"
        yield from out_of(self.weights, *INT32, f"{where}: weights")
        wrong = list(self._wrong_numbers(where))
        yield from wrong
        if wrong:
            return
        if min(self.output_shape) < 1:
            yield f"{where}: its output would have shape {self.output_shape}"
            return
        for end, name, shape in (("source", self.source, self.input_shape), ("target", self.target, self.output_shape)):
            if name in sizes and sizes[name] != np.prod(shape):
                yield f"{where}: {end} has {sizes[name]} neurons, expected {np.prod(shape)} for shape {shape}"

    def _wrong_numbers(self, where: str) -> Iterator[str]:
        if self.weights.ndim != 4 or not self.weights.size:
            yield f"{where}: weights have shape {self.weights.shape}, expected (out, x, y, in / groups)"
            return
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            yield f"{where}: input_shape is {self.input_shape}, expected (x, y, channels)"
            return
        for name, low, values in (
            ("kernel", 1, self.weights.shape[1:3]),
            ("stride", 1, self.stride),
            ("padding", 0, self.padding),
            ("dilation", 1, self.dilation),
            ("groups", 1, (self.groups,)),
            ("phases", 1, self.phases),
        ):
            if min(values) < low or max(values) > INT8_MAX:
                yield f"{where}: {name} is {', '.join(map(str, values))}, allowed {low}..{INT8_MAX}"
        channels, out = self.input_shape[2], self.weights.shape[0]
        if self.layout not in LAYOUTS or (self.layout == "xyc" and self.phases != (1, 1)):
            yield f"{where}: layout is {self.layout!r} with phases {self.phases}, expected 'xyc' with 1, or 'cyx'"
        if min(self.phases) >= 1 and out % (self.phases[0] * self.phases[1]):
            yield f"{where}: {out} channels out are no multiple of the {self.phases[0] * self.phases[1]} phases"
        if self.groups >= 1 and (channels % self.groups or out % self.groups):
            yield f"{where}: {channels} channels in and {out} out cannot be split into {self.groups} groups"
        elif self.groups >= 1 and self.weights.shape[3] != channels // self.groups:
            yield (
                f"{where}: weights have shape {self.weights.shape}, expected {channels // self.groups} as the last "
                f"({channels} channels in {self.groups} groups)"
            )


def synapse_count(convolution: Convolution) -> int:
    """The synapses that a convolution is: per output, the weights that are not 0 and lie on the source."""
    ones = np.ones((1, int(np.prod(convolution.input_shape))))
    return int(convolve(convolution, (convolution.weights != 0).astype(np.float64), ones).sum())


def convolve(convolution: Convolution, weights: Array, values: Array) -> Array:
    """The sums (n, n_target) for `values` (n, n_source), in the type of `weights`: the convolution's own, or others.

    One matrix product of the gathered inputs with the flipped kernels, per group, for some samples at a time.
    """
    c = convolution
    out_x, out_y, channels = c.output_shape
    kernel = np.ascontiguousarray(weights[:, ::-1, ::-1].reshape(c.groups, channels // c.groups, -1).swapaxes(1, 2))
    found = np.empty((len(values), out_x, out_y, c.groups, channels // c.groups), weights.dtype)
    at_once = max(1, _COLUMNS // (out_x * out_y * c.groups * kernel.shape[1]))
    for start in range(0, len(values), at_once):
        windows = _windows(c, values[start : start + at_once].astype(weights.dtype))
        columns = windows.reshape(c.groups, -1, kernel.shape[1])
        sums = columns @ kernel
        found[start : start + at_once] = np.moveaxis(sums, 0, 1).reshape(-1, out_x, out_y, c.groups, kernel.shape[2])
    if c.layout == "xyc":
        return found.reshape(len(values), -1)
    parts = found.reshape(len(values), out_x, out_y, -1, c.phases[1], c.phases[0])
    return np.ascontiguousarray(parts.transpose(0, 3, 2, 4, 1, 5)).reshape(len(values), -1)


def _windows(c: Convolution, values: Array) -> Array:
    """What each output sees of `values` (n, n_source): (groups, n, X, Y, kernel x, kernel y, channels in / groups)."""
    x, y, channels = c.input_shape
    (pad_x, pad_y), (step_x, step_y), (far_x, far_y) = c.padding, c.stride, c.dilation
    if c.layout == "xyc":
        images = values.reshape(-1, x, y, channels)
    else:
        images = values.reshape(-1, channels, y, x).transpose(0, 3, 2, 1)
    padded = np.pad(images, ((0, 0), (pad_x, pad_x), (pad_y, pad_y), (0, 0)))
    sample, row, column, channel = padded.strides
    per_group = channels // c.groups
    return np.lib.stride_tricks.as_strided(
        padded,
        (c.groups, len(padded), *c.output_shape[:2], *c.weights.shape[1:3], per_group),
        (channel * per_group, sample, row * step_x, column * step_y, row * far_x, column * far_y, channel),
        writeable=False,
    )
