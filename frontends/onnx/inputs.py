"""Which axes of a file's inputs are time and batch, and which belong to a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snnir.errors import UsageError, Violation
from snnir.frontends.onnx.values import PRIMES, Axes, Lead
from snnir.ops import Shape

FORMS: dict[str, Lead] = {"B": ("B",), "TB": ("T", "B"), "BT": ("B", "T"), "sample": ()}
SAY = "say it: axes=B, axes=TB, axes=BT or axes=sample (-S axes=... on the command line)"

Dims = list[int | str]


def dims_of(value: Any) -> Dims | None:
    """Sizes of a value's axes, text where they are open; None where even their number is."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]


def form_of(axes: Any) -> Lead | None:
    """The leading axes that the option `axes` names; None where it is not given.

    Raises:
        UsageError: there is no such form.
    """
    if axes is None:
        return None
    if str(axes) not in FORMS:
        raise UsageError(f"axes={axes!r}: give one of {', '.join(FORMS)} (B batch, T time)")
    return FORMS[str(axes)]


def shapes_of(
    inputs: Mapping[str, Dims | None], axes: Any, input_shape: Any, faults: list[Violation]
) -> tuple[Axes, Lead, dict[str, Shape]]:
    """Sizes for the leading axes, which they are, and the shape of a sample of every input.

    Args:
        inputs: as `dims_of` gives them. axes, input_shape: the options; faults: gets what is not clear.
    """
    lead = form_of(axes)
    given = _given(inputs, input_shape)
    sizes = dict(PRIMES)
    leads: dict[Lead, str] = {}
    shapes: dict[str, Shape] = {}
    for name, dims in inputs.items():
        wanted = given.get(name)
        if dims is None:
            if wanted is None:
                faults.append(_fault(name, "has no shape", "input_shape=(...), the shape of a sample, says it"))
                continue
            dims = [*("?",) * len(lead or ("B",)), *wanted]
        here = lead if lead is not None else _guess(name, dims, wanted, faults)
        if here is None:
            continue
        found = _sample(name, dims, here, wanted, faults)
        if found is None:
            continue
        leads.setdefault(here, name)
        shapes[name] = found
        for letter, size in zip(here, dims, strict=False):
            if isinstance(size, int):
                sizes[letter] = size
    if len(leads) > 1:
        said = "; ".join(f"{name}: {', '.join(form) or 'none'}" for form, name in leads.items())
        faults.append(_fault(", ".join(leads.values()), f"have different leading axes ({said})", SAY))
    return Axes(sizes), next(iter(leads), ("B",)), shapes


def _given(inputs: Mapping[str, Any], input_shape: Any) -> dict[str, Shape]:
    if input_shape is None:
        return {}
    if isinstance(input_shape, Mapping):
        unknown = sorted(set(input_shape) - set(inputs))
        if unknown:
            raise UsageError(f"input_shape names {', '.join(unknown)}; the inputs are {', '.join(inputs)}")
        return {name: tuple(int(n) for n in shape) for name, shape in input_shape.items()}
    if len(inputs) != 1:
        raise UsageError(f"there are {len(inputs)} inputs: give input_shape={{name: shape}} for {', '.join(inputs)}")
    shape = input_shape if isinstance(input_shape, (tuple, list)) else (input_shape,)
    return {next(iter(inputs)): tuple(int(n) for n in shape)}


def _guess(name: str, dims: Dims, wanted: Shape | None, faults: list[Violation]) -> Lead | None:
    """The leading axes, where only one reading is possible: a first axis that is open, or of length 1, is the batch."""
    count = len(dims) - len(wanted) if wanted is not None else None
    shown = f"has shape {dims}"
    if count == 0:
        return ()
    is_batch = bool(dims) and (not isinstance(dims[0], int) or dims[0] == 1)
    if count == 1 or (count is None and is_batch and all(isinstance(n, int) for n in dims[1:])):
        return ("B",)
    if count is None and is_batch and all(isinstance(n, int) for n in dims[2:]):
        faults.append(_fault(name, f"{shown}: time may be one of its first two axes", SAY + ", or give input_shape"))
    elif count is None and any(not isinstance(n, int) for n in dims):
        faults.append(_fault(name, f"{shown}: a sample's axes are open", "give input_shape=(...), a sample's shape"))
    else:
        faults.append(_fault(name, f"{shown}: its first axis may be a batch or part of a sample", SAY))
    return None


def _sample(name: str, dims: Dims, lead: Lead, wanted: Shape | None, faults: list[Violation]) -> Shape | None:
    rest = dims[len(lead) :]
    if len(dims) < len(lead):
        faults.append(_fault(name, f"has shape {dims}, too few axes for {', '.join(lead)}", SAY))
        return None
    if wanted is not None:
        fits = len(rest) == len(wanted) and all(
            not isinstance(a, int) or a == n for a, n in zip(rest, wanted, strict=True)
        )
        if not fits:
            faults.append(_fault(name, f"has samples of shape {rest}, not {list(wanted)}", "give another input_shape"))
            return None
        return wanted
    found = [n for n in rest if isinstance(n, int)]
    if len(found) < len(rest):
        what = f"has shape {dims}: a sample's axes are open"
        faults.append(_fault(name, what, "give input_shape=(...), a sample's shape"))
        return None
    return tuple(found)


def _fault(name: str, what: str, hint: str) -> Violation:
    return Violation("onnx-axes", what, where=name, hint=hint)
