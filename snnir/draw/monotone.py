"""Positions under an order: the one sum the layered layout solves."""

from __future__ import annotations


def monotone(values: list[float], weights: list[float]) -> list[float]:
    """The nondecreasing sequence nearest to `values` in weighted least squares (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        count = 1
        while blocks and blocks[-1][0] > value:
            other, more, n = blocks.pop()
            value = (value * weight + other * more) / (weight + more)
            weight, count = weight + more, count + n
        blocks.append((value, weight, count))
    return [value for value, _, count in blocks for _ in range(count)]
