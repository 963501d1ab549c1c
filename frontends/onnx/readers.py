"""The table of readers: ONNX operator -> the function that reads its nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from snnir.frontends.onnx.builder import Builder
from snnir.frontends.onnx.node import Node
from snnir.frontends.onnx.values import Value

Reader = Callable[[Builder, Node], Value | Sequence[Value]]
READERS: dict[str, Reader] = {}


def reads(*kinds: str) -> Callable[[Any], Any]:
    """Enters a reader for operators of the standard."""

    def enter(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(kinds, reader))
        return reader

    return enter
