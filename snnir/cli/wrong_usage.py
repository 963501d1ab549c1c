"""Wrong usage is said all at once, before any work is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from snnir.errors import UsageError


class WrongUsage:
    """What is wrong with a call: each check runs in a `part`, and `stop` ends the call if any of them failed."""

    def __init__(self) -> None:
        self._found: list[click.UsageError | UsageError] = []

    @contextmanager
    def part(self) -> Iterator[None]:
        """Keeps wrong usage that a check finds, so that the next check can run."""
        try:
            yield
        except (click.UsageError, UsageError) as error:
            self._found.append(error)

    def stop(self) -> None:
        """Raises what has been found: one error as it is, several as one."""
        if not self._found:
            return
        if len(self._found) == 1:
            raise self._found[0]
        said = [e.format_message() if isinstance(e, click.UsageError) else str(e) for e in self._found]
        lines = [line for text in dict.fromkeys(said) for line in text.splitlines()]
        raise click.UsageError(
            "\n".join([f"{len(lines)} things are wrong with this call:", *(f"  {t}" for t in lines)])
        )
