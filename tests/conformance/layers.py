"""The cases of the group 'core' about convolutions, pooling and flattening."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Graph
from tests.conformance.parts import case, lif, line, linear, sets, spikes, weights

Rng = np.random.Generator


def _few(rng: Rng, graph: Graph) -> dict[str, Any]:
    return spikes(rng, graph, steps=12)


def _conv2d(rng: Rng, c_in: int, c_out: int, kernel: tuple[int, int], **options: Any) -> ops.Conv2d:
    shape = (c_out, c_in // options.get("groups", 1), *kernel)
    return ops.Conv2d(weight=weights(rng, *shape), bias=weights(rng, c_out, low=-0.25, high=0.25), **options)


def _conv(rng: Rng, shape: tuple[int, ...], out: tuple[int, ...], conv: ops.Conv, threshold: float = 1.03125) -> Graph:
    return line(shape, out, conv=conv, lif=lif(out, threshold=threshold))


@case(
    "conv1d",
    "Conv1d with a stride and zero padding",
    {
        "the kernel is flipped": sets("conv", weight=lambda w: w[..., ::-1].copy()),
        "the bias is dropped": sets("conv", bias=0.0),
    },
    stimulus=_few,
)
def _conv1d(rng: Rng) -> Graph:
    conv = ops.Conv1d(weight=weights(rng, 3, 2, 3), bias=weights(rng, 3, low=-0.25, high=0.25), stride=2, padding=1)
    return _conv(rng, (2, 8), (3, 4), conv)


@case(
    "conv2d",
    "Conv2d with a stride and zero padding",
    {
        "the kernel is flipped": sets("conv", weight=lambda w: w[..., ::-1, ::-1].copy()),
        "rows and columns are swapped": sets("conv", weight=lambda w: w.swapaxes(2, 3).copy()),
        "the bias is dropped": sets("conv", bias=0.0),
    },
    stimulus=_few,
)
def _conv2d_case(rng: Rng) -> Graph:
    return _conv(rng, (2, 6, 6), (3, 3, 3), _conv2d(rng, 2, 3, (3, 3), stride=2, padding=1))


@case(
    "conv2d-not-square",
    "kernel, stride and padding differ between rows and columns",
    {"the kernel is flipped": sets("conv", weight=lambda w: w[..., ::-1, ::-1].copy())},
    stimulus=_few,
)
def _not_square(rng: Rng) -> Graph:
    return _conv(rng, (2, 5, 6), (2, 6, 3), _conv2d(rng, 2, 2, (2, 3), stride=(1, 2), padding=(1, 1)))


@case(
    "conv2d-dilation",
    "a dilated kernel",
    {"the dilation is ignored": sets("conv", dilation=(1, 1), padding=(1, 1))},
    stimulus=_few,
)
def _dilation(rng: Rng) -> Graph:
    return _conv(rng, (1, 6, 6), (2, 6, 6), _conv2d(rng, 1, 2, (3, 3), dilation=(2, 2), padding=(2, 2)))


@case(
    "conv2d-groups",
    "a grouped convolution: each half of the channels sees its own half",
    {
        "the groups are in another order": sets("conv", weight=lambda w: np.roll(w, 2, axis=0)),
        "the groups are ignored, every channel sees the first half": sets(
            "conv", groups=1, weight=lambda w: np.concatenate([w, np.zeros_like(w)], axis=1)
        ),
    },
    stimulus=_few,
)
def _groups(rng: Rng) -> Graph:
    return _conv(rng, (4, 4, 4), (4, 4, 4), _conv2d(rng, 4, 4, (3, 3), groups=2, padding=(1, 1)))


@case(
    "conv2d-same",
    "padding 'same' keeps the size",
    {"the kernel is flipped": sets("conv", weight=lambda w: w[..., ::-1, ::-1].copy())},
    stimulus=_few,
)
def _same(rng: Rng) -> Graph:
    return _conv(rng, (1, 4, 4), (2, 4, 4), _conv2d(rng, 1, 2, (3, 3), padding="same"))


def _pooled(rng: Rng, pool: ops.Op, threshold: float) -> Graph:
    return line((2, 4, 6), (2, 2, 3), pool=pool, lif=lif((2, 2, 3), tau=2.0, threshold=threshold))


@case(
    "sumpool",
    "SumPool2d sums its windows",
    {"the mean is taken, not the sum": lambda graph: _swap(graph, ops.AvgPool2d)},
)
def _sumpool(rng: Rng) -> Graph:
    return _pooled(rng, ops.SumPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0)), 2.15625)


@case(
    "avgpool",
    "AvgPool2d takes the mean of its windows",
    {"the sum is taken, not the mean": lambda graph: _swap(graph, ops.SumPool2d)},
)
def _avgpool(rng: Rng) -> Graph:
    return _pooled(rng, ops.AvgPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0)), 0.53125)


@case(
    "pool-padding",
    "padding of a pooling counts as zeros: the mean of an edge window is over the whole kernel",
    {"the mean is over what lies inside": lambda graph: _inside(graph)},
)
def _pool_padding(rng: Rng) -> Graph:
    pool = ops.AvgPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(1, 1))
    return line((1, 4, 4), (1, 3, 3), pool=pool, lif=lif((1, 3, 3), tau=2.0, threshold=0.40625))


def _swap(graph: Graph, kind: Any) -> Graph:
    op: Any = graph["pool"]
    pool = kind(kernel_size=op.kernel_size, stride=op.stride, padding=op.padding)
    return Graph({**graph.ops, "pool": pool}, graph.edges, graph.semantics)


def _inside(graph: Graph) -> Graph:
    """Windows at an edge hold two cells of the picture, those at a corner one."""
    factor = np.array([[[4, 2, 4], [2, 1, 2], [4, 2, 4]]], np.float32)
    return sets("lif", r=lambda r: r * factor)(graph)


@case(
    "flatten",
    "Flatten keeps the order channel, row, column",
    {
        "the order is row, column, channel": sets(
            "fc", weight=lambda w: w.reshape(3, 2, 2, 3).transpose(0, 2, 3, 1).reshape(3, 12).copy()
        ),
        "rows and columns are swapped": sets(
            "fc", weight=lambda w: w.reshape(3, 2, 2, 3).swapaxes(2, 3).reshape(3, 12).copy()
        ),
    },
)
def _flatten(rng: Rng) -> Graph:
    fc = linear(rng, 12, 3, low=-1.0)
    return line((2, 2, 3), 3, flatten=ops.Flatten(start_dim=0, end_dim=-1), fc=fc, lif=lif(3, threshold=1.03125))
