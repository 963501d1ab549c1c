"""How much work a function does, as a number that does not depend on the machine: calls, Python's and C's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls(run: Callable[[], Any]) -> int:
    """Functions that `run` calls, and those call, in this thread."""
    count = 0

    def heard(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(heard)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count
