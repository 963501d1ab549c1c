"""A chip part that breaks a rule, made smaller: what of it stays on the chip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_FEW = 10  # populations, all runs of which are tried
_TRIALS = 60  # of ops that might go one by one

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
    order, that fits, together with what has to stay. Few are tried in all runs; of more than ten, it is taken for
    granted that a longer run does not fit where a shorter one does not, so that twice as many trials are enough.

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
    kept = _run(populations, held, neurons, fits)
    if kept:
        return kept, ()
    if held and others:
        away = frozenset(populations) - set(held)
        if away and fits(away | set(others), held):
            return tuple(held), tuple(others)
    return None


def _run(
    populations: Sequence[str], held: Sequence[str], neurons: Callable[[Sequence[str]], int], fits: Fits
) -> tuple[str, ...]:
    """The run with most neurons that fits, with `held`; nothing if none does."""
    count = len(populations)

    def run(start: int, end: int) -> tuple[str, ...]:
        return tuple(n for k, n in enumerate(populations) if start <= k < end or n in held)

    def tried(kept: tuple[str, ...]) -> bool:
        return len(kept) < count and fits(frozenset(populations) - set(kept), kept)

    if count <= _FEW:
        runs = [run(i, i + size) for size in range(count - 1, 0, -1) for i in range(count - size + 1)]
        runs = sorted(dict.fromkeys(runs), key=lambda names: -neurons(names))
        return next((kept for kept in [*runs, *([tuple(held)] if held else [])] if tried(kept)), ())
    found: list[tuple[str, ...]] = []
    end = 0
    for start in range(count):
        end = max(end, start)
        while end < count and tried(run(start, end + 1)):
            end += 1
        if end > start:
            found.append(run(start, end))
    if not found and held and tried(tuple(held)):
        return tuple(held)
    return max(found, key=neurons, default=())


def _without_others(populations: Sequence[str], others: Sequence[str], fits: Fits) -> tuple[str, ...]:
    """The ops besides populations without which all of these fit: one, if one is enough; none if that does not help."""
    if not populations or not others or not fits(frozenset(others), populations):
        return ()
    one = next((name for name in others[:_TRIALS] if len(others) > 1 and fits(frozenset([name]), populations)), None)
    return tuple(others) if one is None else (one,)
