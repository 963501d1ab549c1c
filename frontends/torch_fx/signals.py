"""What flows through a trace: signals of the graph, sizes that are not known, and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from snnir.ops import Shape


class Refuse(Exception):
    """A construct cannot become part of the graph; says why, and what to do instead."""

    def __init__(self, what: str, expected: str = "", hint: str = "", rule: str = "trace-unsupported") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.hint = hint
        self.rule = rule


class Unreadable(TypeError):
    """Python code did something with a traced tensor, or an unknown size, that symbols cannot do."""


@dataclass(frozen=True, eq=False)
class Size:
    """The length of the time axis, of the batch axis, or their product: known only when the network runs."""

    label: str

    def _unknown(self, *_: Any) -> NoReturn:
        what = {"T": "the number of steps", "B": "the batch size"}.get(
            self.label, "the number of steps times the batch"
        )
        raise Unreadable(f"{what} is not known when compiling, so nothing can depend on it")

    def __mul__(self, other: Any) -> Size:
        if isinstance(other, Size) and {self.label, other.label} == {"T", "B"}:
            return FOLDED
        self._unknown()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Size):
            return self.label == other.label
        self._unknown()

    def __hash__(self) -> int:
        return hash(self.label)

    def __fx_create_arg__(self, tracer: Any) -> str:
        return self.label

    __index__ = __int__ = __float__ = __bool__ = _unknown  # type: ignore[assignment]
    __lt__ = __le__ = __gt__ = __ge__ = _unknown
    __add__ = __radd__ = __sub__ = __rsub__ = __rmul__ = __floordiv__ = __truediv__ = __rtruediv__ = __mod__ = _unknown


TIME, BATCH, FOLDED = Size("T"), Size("B"), Size("T*B")
Lead = tuple[Size, ...]
SEQUENCE, STEP, BATCH_FIRST = (TIME, BATCH), (BATCH,), (BATCH, TIME)


@dataclass(frozen=True)
class Signal:
    """A value at every step: the sum of the outputs of some ops.

    Attributes:
        sources: names of the ops whose outputs are summed; each once.
        shape: without leading axes.
        lead: the tensor's axes before `shape`: (T, B), (B, T) in sinabs, (B,), or (T*B,) when time is folded into the
            batch; None where the model does not say (a layer of PyTorch that takes no time axis stands in a model over
            time).
        steps: number of time steps, where an example input tells it.
    """

    sources: tuple[str, ...]
    shape: Shape
    lead: Lead | None
    steps: int | None = None

    @property
    def sizes(self) -> tuple[Any, ...]:
        """The tensor's sizes, leading axes included."""
        if self.lead is None:
            raise Refuse(AMBIGUOUS, hint=SAY_WHICH)
        return (*self.lead, *self.shape)


class Unknown:
    """The result of something that was refused; whatever is computed from it is unknown too."""


UNKNOWN = Unknown()


class State:
    """What a layer of another framework hands to its own next step. It is no signal: the graph keeps states inside.

    Attributes:
        owner: path of the layer that gave it; empty for an argument of forward() that nobody has used yet.
        argument: name of that argument.
        parts: states that forward() has put into it (`state[i] = ...`).
    """

    def __init__(self, owner: str = "", argument: str = "") -> None:
        self.owner = owner
        self.argument = argument
        self.parts: list[Any] = []


AMBIGUOUS = "a layer before takes no time axis, so it is not clear which axis this is"
SAY_WHICH = "count axes from the end, or use the layers of snnir.nn, which take (T, B, *shape)"


def axis_of(x: Signal, dim: int) -> int:
    """The axis of `x.shape` that `dim` names, counted as the model does, leading axes included.

    Raises:
        Refuse: it is the time or batch axis, or does not exist.
    """
    if dim < 0:
        axis = dim + len(x.shape)
    elif x.lead is None:
        raise Refuse(f"axis {dim}: {AMBIGUOUS}", hint=SAY_WHICH)
    else:
        axis = dim - len(x.lead)
    if axis < 0:
        names = " and ".join(s.label for s in x.lead or (TIME, BATCH))
        raise Refuse(f"axis {dim} is one of the leading axes ({names})", "an axis of the sample, after time and batch")
    if axis >= len(x.shape):
        raise Refuse(f"axis {dim} does not exist in a sample of shape {list(x.shape)}")
    return axis


def is_time(x: Signal, dim: int) -> bool:
    """Whether `dim` names the time axis."""
    if x.lead is None or len(x.lead) != 2:
        return False
    place = x.lead.index(TIME)
    return dim in (place, place - len(x.shape) - 2)


def holds(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a nested tuple, list, dict or slice holds an instance of `kind`."""
    if isinstance(value, kind):
        return True
    if isinstance(value, dict):
        return any(holds(v, kind) for v in value.values())
    if isinstance(value, (tuple, list)):
        return any(holds(v, kind) for v in value)
    return isinstance(value, slice) and holds((value.start, value.stop, value.step), kind)
