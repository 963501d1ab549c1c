"""What every op is: a frozen dataclass that can infer its shape and name its own faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Loc:
    """Where an op came from: a line of source, and the dotted path of the module that made it."""

    file: str = ""
    line: int = 0
    module: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        if self.module and place:
            return f"{place} ({self.module})"
        return place or self.module


class ShapeError(ValueError):
    """An op cannot take the shapes it is given; the message names both."""


def read_only(value: Any) -> Array:
    """`value` as an array that cannot be written through; no copy is made."""
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view


def sizes(value: Any, n: int = 0) -> tuple[int, ...]:
    """`value` (a number, or one per axis) as a tuple of ints; a single one stands for all `n` axes.

    What is no whole number stays as it is, for `size_faults` to name: nothing is rounded.
    """
    flat = np.atleast_1d(np.asarray(value)).reshape(-1)
    each = np.repeat(flat, n) if flat.size == 1 and n else flat
    return tuple(whole(v) for v in each.tolist())


def whole(value: Any) -> Any:
    """`value` as an int where it is a whole number, else unchanged."""
    try:
        return int(value) if int(value) == value else value
    except (TypeError, ValueError, OverflowError):
        return value


def size_faults(name: str, value: tuple[int, ...], least: int, n: int | None = None) -> Iterator[str]:
    """What is wrong with a field of sizes: their number (`n`; None: any), their type, or one that is below `least`."""
    if n is not None and len(value) != n:
        yield f"{name} {_plain(value)} has {len(value)} numbers, expected {n}"
    elif not all(isinstance(v, int) for v in value):
        yield f"{name} {_plain(value)} holds what is no whole number"
    elif min(value, default=least) < least:
        yield f"{name} {_plain(value)} holds {min(value)}, expected {least} or more"


def _plain(value: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(str, value))}]"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Op:
    """One operation. Subclasses add typed fields; fields named in `arrays` become read-only NumPy arrays.

    Attributes:
        metadata: free-form data that travels with the op and never changes its meaning.
        loc: source location, kept through every pass.
    """

    arrays: ClassVar[tuple[str, ...]] = ()
    linear: ClassVar[bool] = False  # affine in its inputs (biases allowed)
    stateful: ClassVar[bool] = False  # its output depends on earlier steps
    spiking: ClassVar[bool] = False  # its output is 0 or 1
    dialect: ClassVar[str] = "nir"

    metadata: Mapping[str, Any] = field(default_factory=dict)
    loc: Loc | None = None

    def __post_init__(self) -> None:
        for name in self.arrays:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, read_only(value))

    @property
    def kind(self) -> str:
        """The op's type name, as the text form and NIR files spell it."""
        return type(self).__name__

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the input ports; several edges into one port sum."""
        return ("input",)

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        """Output shape (no time, no batch axis) from the shapes at the ports; None when not yet known.

        Raises:
            ShapeError: the op cannot take these shapes.
        """
        raise NotImplementedError(self.kind)

    def verify(self) -> Iterator[str]:
        """Yields one message per fault of the op's own fields; nothing when it is sound."""
        for name in self.arrays:
            value = getattr(self, name)
            if value is None:
                continue
            if value.dtype.kind not in "fiub":
                yield f"{name} holds {value.dtype}, expected numbers"
            elif value.dtype.kind == "f" and not np.isfinite(value).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
                yield f"{name} holds {value[where]} at index {list(where)}, expected finite numbers"

    def parameters(self) -> dict[str, Any]:
        """The op's own fields by name, without metadata and loc."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("metadata", "loc")}

    def with_(self, **changes: Any) -> Any:
        """A copy with some fields replaced; metadata and loc stay."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={_brief(v)}" for k, v in self.parameters().items())
        return f"{self.kind}({inside})"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.item():.6g}" if value.ndim == 0 else f"{value.dtype}{list(value.shape)}"
    return repr(value)


def same(a: Op, b: Op) -> bool:
    """Whether two ops are the same operation: type and fields equal to the bit; metadata and loc aside."""
    if type(a) is not type(b):
        return False
    left, right = a.parameters(), b.parameters()
    return all(_same_value(left[name], right[name]) for name in left)


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a is b or (a.dtype == b.dtype and np.array_equal(a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    return a == b


def default(value: float) -> Any:
    """A dataclass field whose default is the scalar array `value`."""
    return field(default_factory=lambda: np.float64(value))


def known(shapes: Mapping[str, Shape | None], port: str = "input") -> Shape | None:
    """The shape at `port`, or None while it is unknown."""
    return shapes.get(port)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Input(Op):
    """A graph input: one value of `shape` per step and batch element."""

    shape: Shape

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "shape", sizes(self.shape))

    @property
    def ports(self) -> tuple[str, ...]:
        return ()

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        return self.shape

    def verify(self) -> Iterator[str]:
        faults = list(size_faults("shape", self.shape, 0))
        yield from faults
        if not faults and 0 in self.shape:
            yield f"shape {list(self.shape)} has an empty axis"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Output(Op):
    """A graph output: y = sum of what arrives. `shape` may be None: then it is what arrives."""

    linear: ClassVar[bool] = True
    shape: Shape | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape is not None:
            object.__setattr__(self, "shape", sizes(self.shape))

    def infer(self, shapes: Mapping[str, Shape | None]) -> Shape | None:
        arriving = known(shapes)
        if self.shape is None or arriving is None:
            return arriving
        if arriving != self.shape:
            raise ShapeError(f"declares shape {list(self.shape)}, but {list(arriving)} arrives")
        return self.shape

    def verify(self) -> Iterator[str]:
        if self.shape is not None:
            yield from size_faults("shape", self.shape, 1)


__all__ = ["Array", "Input", "Loc", "Op", "Output", "Shape", "ShapeError", "default", "known", "same"]
