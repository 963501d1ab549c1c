"""A chip part that breaks a rule, made smaller: what of it stays on the chip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_TRIALS = 60

Fits = Callable[[frozenset[str], Sequence[str]], bool]
"""Whether all goes well with some ops off the chip and the populations named second still on it, any of them."""


def smaller(
    populations: Sequence[str],
    held: Sequence[str],
    others: Sequence[str],
    neurons: Callable[[Sequence[str]], int],
    fits: Fits,
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The most of a part that fits.

    Where it is enough that weights or Delays go, all populations stay. Else the largest run of populations, in their
    order, that fits, together with what has to stay.

    Args:
        populations: of the part, in their order. held: those of them that must stay. others: ops of the part that need
            not: weights, Delays.
        neurons: how many neurons populations hold.
        fits: tries it.

    Returns:
        The populations that stay, and others that go; None if nothing fits.
    """
    gone = _without_others(populations, others, fits)
    if gone:
        return tuple(populations), gone
    windows = [populations[i : i + size] for size in range(len(populations) - 1, 0, -1)
               for i in range(len(populations) - size + 1)]  # fmt: skip
    kept = [tuple(n for n in populations if n in window or n in held) for window in windows[:_TRIALS]]
    kept = [k for k in dict.fromkeys(kept) if len(k) < len(populations)]
    kept.sort(key=lambda names: -neurons(names))
    if held and tuple(held) not in kept and len(held) < len(populations):
        kept.append(tuple(held))
    for window in kept:
        if fits(frozenset(populations) - set(window), window):
            return window, ()
    if held and others:
        away = frozenset(populations) - set(held)
        if away and fits(away | set(others), held):
            return tuple(held), tuple(others)
    return None


def _without_others(populations: Sequence[str], others: Sequence[str], fits: Fits) -> tuple[str, ...]:
    """The ops besides populations without which all of these fit: one, if one is enough; none if that does not help."""
    if not populations or not others or not fits(frozenset(others), populations):
        return ()
    one = next((name for name in others[:_TRIALS] if len(others) > 1 and fits(frozenset([name]), populations)), None)
    return tuple(others) if one is None else (one,)
