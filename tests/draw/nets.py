"""Networks whose pictures are tested."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np

from snnir import ops
from snnir.graph import Edge, Graph
from snnir.semantics import Semantics

S = Semantics(dt=1e-3)
NASTY = [
    "</script><script>alert(1)</script>",
    "<!--",
    "<img src=x onerror=alert(2)>.conv",
    "a\"b'c`${1}\\",
    "&lt;b&amp;",
    "日本.\x07.\u2028",
    "lone\ud800",
    "__proto__",
    "constructor",
    "a.b..c",
    "]]>",
]


def lif(shape: tuple[int, ...] = ()) -> ops.LIF:
    return ops.LIF(tau=np.full(shape, 0.02), v_threshold=np.ones(shape))


def conv(a: int, b: int) -> ops.Conv2d:
    weight = np.random.default_rng(a * 10 + b).normal(size=(b, a, 3, 3)).astype(np.float32)
    return ops.Conv2d(weight=weight, bias=np.zeros(b, np.float32), padding=(1, 1))


def norm(c: int) -> ops.BatchNorm:
    one = np.ones(c)
    return ops.BatchNorm(weight=2 * one, bias=one, mean=0.5 * one, var=3 * one)


def residual(blocks: int = 2) -> Graph:
    """input -> stem -> blocks of (conv, norm, lif, conv2, + skip, lif2) -> concat with the stem -> head -> output."""
    named: dict[str, Any] = {"input": ops.Input(shape=(2, 6, 6)), "stem": conv(2, 4)}
    edges: list[Edge] = [Edge("input", "stem")]
    last = "stem"
    for k in range(blocks):
        parts = {
            "conv": conv(4, 4),
            "norm": norm(4),
            "lif": lif((4, 6, 6)),
            "conv2": conv(4, 4),
            "lif2": lif((4, 6, 6)),
        }
        names = [f"block.{k}.{part}" for part in parts]
        named |= dict(zip(names, parts.values(), strict=True))
        edges += [Edge(last, names[0]), *(Edge(a, b) for a, b in pairwise(names)), Edge(last, names[-1])]
        last = names[-1]
    named |= {"cat": ops.Concat(inputs=2), "head": conv(8, 3), "output": ops.Output()}
    edges += [Edge(last, "cat", "in0"), Edge("stem", "cat", "in1"), Edge("cat", "head"), Edge("head", "output")]
    return Graph(named, tuple(edges), S).verify()


def nasty() -> Graph:
    """A chain of neurons with the names that break careless writers."""
    named: dict[str, Any] = {"input": ops.Input(shape=(2,)), **{name: lif() for name in NASTY}, "o": ops.Output()}
    return Graph(named, tuple(Edge(a, b) for a, b in pairwise(named)), S)


def tangled(seed: int, size: int = 30) -> Graph:
    """Neurons and weights with skips, feedback, and modules two deep that values leave and enter again."""
    rng = random.Random(seed)
    named: dict[str, Any] = {"input": ops.Input(shape=(3,))}
    pairs: list[tuple[str, str]] = []
    for i in range(size):
        name = f"part{rng.randrange(4)}.{rng.choice(['in', 'out'])}.n{i}"
        before = list(named)
        named[name] = lif() if i % 2 else ops.Linear(weight=np.ones((3, 3)))
        pairs += [(before[rng.randrange(max(0, i - 4), i + 1)], name) for _ in range(1 + (rng.random() < 0.3))]
    neurons = [name for name, op in named.items() if isinstance(op, ops.LIF)]
    pairs += [(rng.choice(neurons), rng.choice(neurons)) for _ in range(size // 6)]
    last = list(named)[-1]
    named["output"] = ops.Output()
    pairs.append((last, "output"))
    return Graph(named, tuple(Edge(*pair) for pair in dict.fromkeys(pairs)), S).verify()
