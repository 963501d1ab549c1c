"""Values as readable text and back, without loss: what stands between the brackets of a graph's text form.

Python's own literals (strings as JSON writes them), and for NumPy:

    f32[3]{1.0, 2.5, 0.1}    an array of float32, row by row      f32[128]=0.5    all elements equal
    f32[64,32]#9f86d081884c  an array named by a hash of its content, which must be given when the text is read
    f32(0.5)                 a NumPy scalar                       bytes"00ff"     bytes
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from snnir.ops.base import Array
from snnir.values import keeps, native

DTYPES: dict[str, str] = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "c64": "complex64",
    "c128": "complex128",
    "bool": "bool",
}
_SHORT = {long: short for short, long in DTYPES.items()}


def digest(array: Array) -> str:
    """12 hex digits that name an array by its type, shape and content."""
    array = np.asarray(native(array), order="C")
    return hashlib.sha256(f"{array.dtype.name}{array.shape}".encode() + array.tobytes()).hexdigest()[:12]


# -- writing ---------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """A string in double quotes, on one line."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def written(value: Any, limit: int | None) -> str:
    """`value` as text; arrays of more than `limit` elements by their hash. What cannot be kept becomes `<its type>`."""
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, np.ndarray):
        return _written_array(native(value), limit)
    if isinstance(value, np.generic):
        kept = keeps(value.dtype)
        return f"{_SHORT[value.dtype.name]}({_elements(np.asarray(value))[0]})" if kept else f"<{value.dtype}>"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, (bytes, bytearray)):
        return f'bytes"{bytes(value).hex()}"'
    if isinstance(value, list):
        return f"[{', '.join(written(v, limit) for v in value)}]"
    if isinstance(value, tuple):
        return f"({', '.join(written(v, limit) for v in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{written(k, limit)}: {written(v, limit)}' for k, v in value.items())}}}"
    return f"<{type(value).__name__}>"


def _written_array(array: Array, limit: int | None) -> str:
    if not keeps(array.dtype):
        return f"<array of {array.dtype}>"
    head = f"{_SHORT[array.dtype.name]}[{','.join(map(str, array.shape))}]"
    flat = np.asarray(array, order="C").reshape(-1)
    if flat.size and flat.tobytes() == flat[:1].tobytes() * flat.size:
        return f"{head}={_elements(flat[:1])[0]}"
    if limit is not None and flat.size > limit:
        return f"{head}#{digest(array)}"
    return f"{head}{{{', '.join(_elements(flat))}}}"


def _elements(array: Array) -> list[str]:
    """The elements as the shortest text that gives each of them back to the bit."""
    flat = array.reshape(-1)
    if flat.dtype.kind in "biu":
        return [repr(v) for v in flat.tolist()]
    if flat.dtype.kind == "c" or flat.dtype.itemsize == 8:
        return [repr(v) for v in flat.tolist()]
    short = [str(v) for v in flat]
    # The shortest text of a float32 is read as a float64 first, which in rare cases rounds to a neighbour.
    with np.errstate(over="ignore"):
        again = np.array([float(v) for v in short]).astype(flat.dtype)
    return [s if a == b or b != b else repr(float(b)) for s, a, b in zip(short, again, flat, strict=True)]


# -- reading ---------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"[-+]?(?:inf\b|nan\b|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
_HEX = re.compile(r"[0-9a-f]{12}")
_COMPLEX = re.compile(r"\(?[-+.\w]+j\)?")


class TextError(ValueError):
    """A text that cannot be read; the message says what was expected where."""


def spelt_name(name: str) -> str:
    """An op name: bare where that is clear, else in quotes."""
    return name if _NAME.fullmatch(name) else quoted(name)


class Reader:
    """Reads one line from left to right.

    Args:
        line: the text.
        find: gives the array with a digest; raises KeyError when there is none.
    """

    def __init__(self, line: str, find: Callable[[str], Array]) -> None:
        self.line, self.at, self.find = line, 0, find

    def fail(self, expected: str) -> TextError:
        """The error to raise where something else was expected."""
        rest = self.line[self.at : self.at + 24] or "the end of the line"
        return TextError(f"expected {expected} in column {self.at + 1}, found {rest!r}")

    def skip(self) -> None:
        """Moves over spaces."""
        while self.at < len(self.line) and self.line[self.at] == " ":
            self.at += 1

    def take(self, token: str) -> bool:
        """Moves over `token` if it comes next."""
        self.skip()
        found = self.line.startswith(token, self.at)
        self.at += len(token) if found else 0
        return found

    def need(self, token: str) -> None:
        """Moves over `token`, which must come next."""
        if not self.take(token):
            raise self.fail(repr(token))

    def match(self, pattern: re.Pattern[str], expected: str) -> str:
        """Moves over what fits `pattern`, and gives it."""
        self.skip()
        found = pattern.match(self.line, self.at)
        if found is None:
            raise self.fail(expected)
        self.at = found.end()
        return found[0]

    def next_is(self, pattern: re.Pattern[str]) -> bool:
        """Whether what comes next fits `pattern`."""
        self.skip()
        return pattern.match(self.line, self.at) is not None

    def at_end(self) -> bool:
        """Whether the line is read to its end."""
        self.skip()
        return self.at >= len(self.line)

    def word(self, expected: str = "a name") -> str:
        """A Python identifier."""
        return self.match(_WORD, expected)

    def string(self) -> str:
        """A quoted string."""
        try:
            return json.loads(self.match(_STRING, "a string"))
        except ValueError as error:
            raise self.fail("a string without damage before this") from error

    def name(self) -> str:
        """An op name, bare or quoted."""
        return self.string() if self.next_is(_STRING) else self.match(_NAME, "the name of an op")

    def items(self, close: str, read: Callable[[], Any]) -> list[Any]:
        """What stands between commas up to `close`, the opening bracket already taken."""
        found: list[Any] = []
        while not self.take(close):
            if found:
                self.need(",")
                if self.take(close):
                    break
            found.append(read())
        return found

    def value(self) -> Any:
        """Any value that `written` writes."""
        if self.next_is(_STRING):
            return self.string()
        if self.next_is(_NUMBER):
            return _number(self.match(_NUMBER, "a number"))
        if self.take("["):
            return self.items("]", self.value)
        if self.take("("):
            return tuple(self.items(")", self.value))
        if self.take("{"):
            return dict(self.items("}", self._pair))
        if self.take("<"):
            self.at -= 1
            raise self.fail("a value (this one is of a type that text does not keep)")
        word = self.word("a value")
        if word in ("None", "True", "False"):
            return {"None": None, "True": True, "False": False}[word]
        if word == "bytes":
            return bytes.fromhex(self.string())
        if word not in DTYPES:
            raise self.fail(f"a value, not {word!r}, before this")
        return self._numpy(np.dtype(DTYPES[word]))

    def _pair(self) -> tuple[Any, Any]:
        key = self.value()
        self.need(":")
        return key, self.value()

    def _numpy(self, dtype: np.dtype[Any]) -> Any:
        if self.take("("):
            element = self._element(dtype)
            self.need(")")
            return dtype.type(element)
        self.need("[")
        shape = tuple(int(n) for n in self.items("]", lambda: self.match(re.compile(r"\d+"), "a size")))
        if self.take("="):
            return np.full(shape, self._element(dtype), dtype)
        if self.take("#"):
            array = self.find(self.match(_HEX, "12 hex digits"))
            if array.dtype != dtype or array.shape != shape:
                raise TextError(f"the array found is {array.dtype}{list(array.shape)}, not {dtype}{list(shape)}")
            return array
        self.need("{")
        elements = self._quick(dtype) or self.items("}", lambda: self._element(dtype))
        if len(elements) != prod(shape):
            raise TextError(f"an array of shape {list(shape)} has {prod(shape)} elements, found {len(elements)}")
        return np.array(elements, dtype).reshape(shape)

    def _quick(self, dtype: np.dtype[Any]) -> list[Any]:
        """All elements up to the closing bracket at once; nothing where they need the slow way, or its error."""
        end = self.line.find("}", self.at)
        try:
            found = [(int if dtype.kind in "iu" else float)(text) for text in self.line[self.at : end].split(",")]
        except ValueError:
            return []
        if dtype.kind in "bc" or end < 0:
            return []
        self.at = end + 1
        return found

    def _element(self, dtype: np.dtype[Any]) -> Any:
        if dtype.kind == "c":
            return complex(self.match(_COMPLEX, "a complex number"))
        if dtype.kind == "b":
            return self.match(re.compile("True|False"), "True or False") == "True"
        found = _number(self.match(_NUMBER, "a number"))
        if dtype.kind in "iu" and not isinstance(found, int):
            raise self.fail("whole numbers before this")
        return found


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
