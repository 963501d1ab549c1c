"""Metadata values: which ones can be kept in files, and how they are written as JSON without loss.

Plain JSON stays plain. What JSON cannot say is an object with one key that starts with '$': {"$tuple": [...]},
{"$float": "nan"}, {"$bytes": hex}, {"$scalar": [dtype, value]}, {"$array": ...}, {"$dict": [[key, value], ...]}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from snnir.ops.base import Array

NUMBERS = "biufc"  # NumPy dtype kinds that files keep


class ValueKindError(ValueError):
    """A value that no file format keeps; the message names its place and its type."""


def native(array: Any) -> Array:
    """`array` as a NumPy array in this machine's byte order; no copy where none is needed."""
    found = np.asarray(array)
    return found if found.dtype.isnative else found.astype(found.dtype.newbyteorder("="))


def keeps(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of `dtype` can be kept: booleans, integers, floats and complex numbers of common widths."""
    return dtype.kind in NUMBERS and dtype.itemsize <= (16 if dtype.kind == "c" else 8)


def encode(value: Any, put_array: Callable[[Array], Any], place: str = "metadata") -> Any:
    """`value` as JSON data; `put_array` stores an array and gives the JSON by which it is found again.

    Raises:
        ValueKindError: the value, or one inside it, is of a type that cannot be kept.
    """
    if value is None or isinstance(value, (bool, str)):
        return value if type(value) in (type(None), bool, str) else str(value)
    if isinstance(value, np.generic):
        if not keeps(value.dtype):
            raise ValueKindError(f"{place} holds a {type(value).__name__}, which no file keeps")
        plain = value.item()
        if isinstance(plain, complex):
            plain = [plain.real, plain.imag]
        return {"$scalar": [value.dtype.name, encode(plain, put_array, place)]}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, np.ndarray):
        if not keeps(value.dtype):
            raise ValueKindError(f"{place} holds an array of {value.dtype}, which no file keeps")
        return {"$array": put_array(native(value))}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": bytes(value).hex()}
    if isinstance(value, (list, tuple)):
        items = [encode(item, put_array, f"{place}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        return _encode_mapping(value, put_array, place)
    raise ValueKindError(f"{place} holds a {type(value).__name__}, which no file keeps")


def _encode_mapping(value: Mapping[Any, Any], put_array: Callable[[Array], Any], place: str) -> Any:
    items = {key: encode(item, put_array, f"{place}[{key!r}]") for key, item in value.items()}
    if all(isinstance(key, str) and not key.startswith("$") for key in items):
        return items
    return {"$dict": [[encode(key, put_array, place), item] for key, item in items.items()]}


def decode(data: Any, get_array: Callable[[Any], Array]) -> Any:
    """The inverse of `encode`; `get_array` is the inverse of `put_array`.

    Raises:
        ValueError, KeyError, TypeError: the data was not written by `encode`.
    """
    if isinstance(data, list):
        return [decode(item, get_array) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1 or not next(iter(data), "").startswith("$"):
        return {key: decode(item, get_array) for key, item in data.items()}
    (tag, inside), *_ = data.items()
    if tag == "$tuple":
        return tuple(decode(item, get_array) for item in inside)
    if tag == "$float":
        return float(inside)
    if tag == "$bytes":
        return bytes.fromhex(inside)
    if tag == "$array":
        return get_array(inside)
    if tag == "$dict":
        return {decode(key, get_array): decode(item, get_array) for key, item in inside}
    if tag == "$scalar":
        dtype, plain = np.dtype(inside[0]), decode(inside[1], get_array)
        return dtype.type(complex(*plain) if dtype.kind == "c" else plain)
    raise ValueError(f"unknown tag {tag!r}")


def inline_array(array: Array) -> Any:
    """An array as JSON data, for places where no file of tensors stands beside it; see `read_inline_array`."""
    return [array.dtype.name, list(array.shape), np.asarray(array, order="C").tobytes().hex()]


def read_inline_array(data: Any) -> Array:
    """The inverse of `inline_array`."""
    name, shape, raw = data
    return np.frombuffer(bytes.fromhex(raw), np.dtype(name)).reshape(shape).copy()


def identical(a: Any, b: Any) -> bool:
    """Whether two metadata values are the same: type, dtype and value; NaN equals NaN, 0.0 is not -0.0."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(identical(a[key], b[key]) for key in a)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(identical(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.generic) and a.dtype.kind != "f":
        return bool(a.dtype == b.dtype and a == b)
    if isinstance(a, (float, np.floating)):
        return (a == b and math.copysign(1.0, a) == math.copysign(1.0, b)) or (a != a and b != b)
    return bool(a == b)
