"""Nearest-neighbour upsampling with nothing but NIR's own ops: masks (Scale), shifts and copies (one-hot Conv2d).

Convolutions move all pixels alike, masks choose pixels. So pixel i of an axis of n goes to f * i in log2(n) stages: the
stage of bit b, highest first, moves those pixels whose i has that bit by (f - 1) * 2^b, all others stay.

    x -> conv (more room) -> mask(bit off) -------------> sum -> ... -> conv(f ones) -> f copies, side by side
                          -> mask(bit on) -> conv (moves) -^

No two pixels meet on the way: after the bits from the highest down to b, pixel i stands at i + (f - 1) * (i with its
lower bits cleared), which grows with i. Values are multiplied by 1 and 0 and added to 0, so it is exact to the bit,
spikes stay spikes, and each makes about one operation per stage. Weights are one-hot and depthwise: a phase form that
keeps f^2 phases in the channels would multiply the weights of every later convolution by f^4.

Kernels are square wherever they can be: nir's own shape inference (1.0.8) takes a kernel's height for its width, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnir.ops import Array, AvgPool2d, Conv2d, Loc, Op, Scale, Shape, SumPool2d, Upsample2d
from snnir.passes.common import Work

KIND = np.dtype(np.float32)


def upsample_by_shifts(work: Work, name: str, op: Upsample2d) -> int:
    """Puts masks and shifts in the place of the upsampling at `name`; the number of ops that are new."""
    start, end, before = work.arriving(name), work.shapes[name], len(work.ops)
    pixel = start[1:] == (1, 1) and max(op.factor) > 1
    last, sources = _tile(work, name, op) if pixel else _deal(work, name, op, start, end)
    for edge in work.incoming(name):
        work.disconnect(edge)
    work.swap(name, last)
    for source in sources:
        work.connect(source, name)
    return len(work.ops) - before


def _tile(work: Work, name: str, op: Upsample2d) -> tuple[Op, Sequence[str]]:
    """One pixel fills a square: the prime factors of its side one after the other, each sets copies side by side.

    A rectangle is the square under a mean of equal values, which leaves fewer of them.
    """
    sources: Sequence[str] = work.feeders(name)
    channels, side = work.arriving(name)[0], 1
    chain: list[tuple[Op, Shape]] = []
    for k in _primes(max(op.factor)):
        apart = side * (k - 1)
        tiles = _depthwise(channels, np.ones((k, k), KIND), (apart, apart), (side, side), op.loc)
        side *= k
        chain.append((tiles, (channels, side, side)))
    if op.factor[0] != op.factor[1]:
        crop = AvgPool2d(kernel_size=tuple(side - f + 1 for f in op.factor), stride=(1, 1), loc=op.loc)
        chain.append((crop, work.shapes[name]))
    for i, (made, shape) in enumerate(chain[:-1]):
        sources = [_add(work, f"{name}.tile{i}", made, name, sources, shape)]
    return chain[-1][0], sources


def _primes(n: int) -> list[int]:
    found, k = [], 2
    while n > 1:
        while n % k == 0:
            found.append(k)
            n //= k
        k += 1
    return found


def _deal(work: Work, name: str, op: Upsample2d, start: Shape, end: Shape) -> tuple[Op, Sequence[str]]:
    """Pixels go to their places, `factor` apart; what the op at `name` is to be then copies each."""
    sources: Sequence[str] = work.feeders(name)
    shape = (start[0], *(f * (n - 1) + 1 for n, f in zip(start[1:], op.factor, strict=True)))
    if shape != start:
        sources = [_add(work, f"{name}.room", _room(start, shape, op.loc), name, sources, shape)]
    for axis in (0, 1):
        n, factor = start[1 + axis], op.factor[axis]
        for bit in reversed(range((n - 1).bit_length() if factor > 1 else 0)):
            sources = _stage(work, name, op.loc, sources, shape, axis, (n, factor, bit))
    if max(op.factor) <= 2:  # PyTorch pads a pool by at most half its kernel
        pads = tuple(f - 1 for f in op.factor)
        return SumPool2d(kernel_size=op.factor, stride=(1, 1), padding=pads, loc=op.loc), sources
    return _copies(shape, end, op.factor, op.loc), sources


def _stage(
    work: Work,
    name: str,
    loc: Loc | None,
    sources: Sequence[str],
    shape: Shape,
    axis: int,
    of: tuple[int, int, int],
) -> tuple[str, ...]:
    """One bit of one axis; the ops whose sum is the result."""
    n, factor, bit = of
    pixel = np.arange(n)
    # Where the pixels stand that have been moved by all higher bits.
    at = pixel + (factor - 1) * ((pixel >> (bit + 1)) << (bit + 1))
    chosen = (pixel >> bit) & 1
    stem = f"{name}.{'hw'[axis]}{bit}"
    ends: list[str] = []
    for on, what in ((0, "stay"), (1, "go")):
        mask = np.zeros(shape[1 + axis], KIND)
        mask[at[chosen == on]] = 1
        scale = Scale(scale=mask.reshape((1, -1, 1) if axis == 0 else (1, 1, -1)), loc=loc)
        ends.append(_add(work, f"{stem}.{what}", scale, name, sources, shape))
    move = _move(shape[0], axis, (factor - 1) << bit, loc)
    return ends[0], _add(work, f"{stem}.move", move, name, [ends[1]], shape)


def _move(channels: int, axis: int, distance: int, loc: Loc | None) -> Conv2d:
    """y[p] = x[p - distance] along an axis: of 3x3 taps, `distance` apart, one is 1."""
    taps = np.zeros((3, 3), KIND)
    taps[(0, 1) if axis == 0 else (1, 0)] = 1
    apart = (distance, 1) if axis == 0 else (1, distance)
    return _depthwise(channels, taps, apart, apart, loc)


def _room(start: Shape, end: Shape, loc: Loc | None) -> Conv2d:
    """The same pixels with zeros behind them, on both axes."""
    grown = tuple(to - n for n, to in zip(start[1:], end[1:], strict=True))
    if min(grown) < 1:
        return _copies(start, end, (1, 1), loc)
    taps = np.zeros((2, 2), KIND)
    taps[1, 1] = 1
    return _depthwise(start[0], taps, (grown[0], grown[1]), (grown[0], grown[1]), loc)


def _copies(start: Shape, end: Shape, factor: Sequence[int], loc: Loc | None) -> Conv2d:
    """y[p] = sum of x[p - d] over d < factor, on each axis, from shape `start` to shape `end`."""
    pads, kernel = [], []
    for n, to, f in zip(start[1:], end[1:], factor, strict=True):
        pads.append(max(f - 1, to - n))
        kernel.append(2 * pads[-1] - (to - n) + 1)
    if (kernel[0] - kernel[1]) % 2 == 0:
        pads = [p + (max(kernel) - k) // 2 for p, k in zip(pads, kernel, strict=True)]
        kernel = [max(kernel)] * 2
    rows, columns = (_ones(k, p, f) for k, p, f in zip(kernel, pads, factor, strict=True))
    return _depthwise(start[0], rows[:, None] * columns, (pads[0], pads[1]), (1, 1), loc)


def _ones(taps: int, padding: int, factor: int) -> Array:
    found = np.zeros(taps, KIND)
    found[padding - factor + 1 : padding + 1] = 1
    return found


def _depthwise(
    channels: int, taps: Array, padding: tuple[int, int], dilation: tuple[int, int], loc: Loc | None
) -> Conv2d:
    weight = np.broadcast_to(taps, (channels, 1, *taps.shape))
    bias = np.zeros(channels, KIND)
    return Conv2d(weight=weight, bias=bias, padding=padding, dilation=dilation, groups=channels, loc=loc)


def _add(work: Work, wish: str, op: Op, behind: str, sources: Sequence[str], shape: Shape) -> str:
    new = work.add(wish, op, (behind,), shape=shape)
    for source in sources:
        work.connect(source, new)
    return new
