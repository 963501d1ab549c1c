"""The line of the model that made a layer, so that the compiler can name it where no forward() does."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import FrameType

import torch

_LIBRARIES = (str(Path(inspect.getfile(torch)).parent), str(Path(__file__).parent))


def caller() -> tuple[str, int]:
    """File and line of the innermost call outside PyTorch and `snnir.nn`; ('', 0) when there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_LIBRARIES):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "", 0
