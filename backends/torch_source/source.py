"""What the parts of an emitted file are made of: layers, classes, numbers as Python source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snnir.ops import Array

WIDTH = 120


@dataclass(frozen=True)
class Layer:
    """How one op is written: `make` is the call that builds its module.

    `uses` names the framework's own layer behind it; `own` says why there is none.
    """

    make: str
    uses: str = ""
    own: str = ""


@dataclass
class Classes:
    """The classes and functions that an emitted file needs beside its model, in order of first use."""

    parts: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # text with the name left open -> name
    taken: set[str] = field(default_factory=set)

    def need(self, *names: str) -> None:
        """Asks for classes or functions of `parts.py`."""
        self.parts += [name for name in names if name not in self.parts]

    def add(self, stem: str, text: str) -> str:
        """Adds a class whose text has `NAME` for its name, once; gives the name, `stem` or `stem2`, ..."""
        if text not in self.texts:
            name, n = stem, 1
            while name in self.taken:
                n += 1
                name = f"{stem}{n}"
            self.taken.add(name)
            self.texts[text] = name
        return self.texts[text]

    def sources(self) -> list[str]:
        """The added classes under their names."""
        return [text.replace("NAME", name) for text, name in self.texts.items()]


def literal(text: str) -> str:
    """A string as Python source in double quotes. (JSON's is another where a character takes two of its escapes.)"""
    return '"' + visible(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def visible(text: str) -> str:
    """The text with escapes for what is not printable: line breaks, control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def number(value: Any) -> str:
    """A scalar as Python source: the shortest text that reads back as it."""
    item = np.asarray(value).reshape(())[()]
    if isinstance(item, (float, np.floating)):
        return str(np.format_float_positional(item, trim="0")) if 1e-4 <= abs(item) < 1e16 or item == 0 else _e(item)
    return str(item.item())


def _e(item: Any) -> str:
    return str(np.format_float_scientific(item, trim="-"))


def parameter(array: Array) -> str:
    """A neuron's parameter as Python source; where every neuron has its own, only the shape (weights bring values)."""
    if array.ndim == 0:
        return number(array)
    if array.size and (array == array.flat[0]).all():
        return f"torch.full({shape(array.shape)}, {number(array.flat[0])})"
    return empty(array)


def empty(array: Array) -> str:
    """A tensor of the array's shape as Python source; its values come with the weights."""
    return f"torch.empty({shape(array.shape)})"


def shape(sizes: tuple[int, ...]) -> str:
    """A tuple of sizes as Python source."""
    return repr(tuple(int(n) for n in sizes))


def sizes(values: tuple[int, ...]) -> str:
    """Sizes as PyTorch users write them: one number where all are equal."""
    return str(values[0]) if len(set(values)) == 1 else shape(values)


def call(name: str, *arguments: str, **named: str) -> str:
    """A call as Python source; arguments that are empty strings are left out."""
    given = [a for a in arguments if a] + [f"{key}={value}" for key, value in named.items() if value]
    return f"{name}({', '.join(given)})"


def fitted(head: str, expression: str, indent: int, width: int = WIDTH) -> list[str]:
    """`head` + `expression` as one line, or, where that is too long, as a call or sum over several lines."""
    pad = " " * indent
    line = f"{pad}{head}{expression}"
    if len(line) <= width:
        return [line]
    opening = expression.find("(")
    if opening > 0 and expression.endswith(")") and _closes_last(expression, opening):
        inner = _split(expression[opening + 1 : -1], ", ")
        return [f"{pad}{head}{expression[: opening + 1]}", *[f"{pad}    {item}," for item in inner], f"{pad})"]
    first, *others = _split(expression, " + ")
    return [f"{pad}{head}(", f"{pad}    {first}", *[f"{pad}    + {item}" for item in others], f"{pad})"]


def _closes_last(text: str, opening: int) -> bool:
    """Whether the bracket at `opening` is closed by the last character."""
    depth = 0
    for i, char in enumerate(text[opening:], opening):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return i == len(text) - 1
    return False


def _split(text: str, separator: str) -> list[str]:
    """`text` split at the separators outside all brackets and strings."""
    found, depth, start, quoted = [], 0, 0, ""
    for i, char in enumerate(text):
        if quoted:
            quoted = "" if char == quoted else quoted
        elif char in "\"'":
            quoted = char
        else:
            depth += (char in "([{") - (char in ")]}")
            if depth == 0 and text.startswith(separator, i):
                found.append(text[start:i])
                start = i + len(separator)
    return [*found, text[start:]]
