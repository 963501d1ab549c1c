"""Checks of one node alone: its fields, their types, numbers and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir.doctor.finding import Chart
from snnir.doctor.sheet import ELEMENTWISE, NEURONS, OPTIONAL_ARRAYS, Node, Sheet
from snnir.nir_io.raw import FIELDS
from snnir.ops import Shape

_AXES = {"Conv1d": 1, "Conv2d": 2, "SumPool2d": 2, "AvgPool2d": 2}
_LEAST = {"stride": 1, "dilation": 1, "kernel_size": 1, "groups": 1, "padding": 0, "shape": 1, "input_shape": 1}


def check_fields(sheet: Sheet, chart: Chart) -> None:
    """Every node's fields."""
    for node in sheet.root.all_nodes():
        if not node.known:
            continue
        _presence(node, chart)
        for name in node.arrays:
            _numbers(node, name, chart)
        _one_type(node, chart)
        for name in FIELDS[node.kind].required + FIELDS[node.kind].optional:
            if name not in node.arrays and name in node.fields:
                _whole(node, name, chart)
        if node.kind in NEURONS:
            _parameter_shapes(node, chart)
        elif node.kind in ("Linear", "Affine", "Conv1d", "Conv2d"):
            _weights(node, chart)


def _presence(node: Node, chart: Chart) -> None:
    required, optional = FIELDS[node.kind]
    for name in required:
        if name not in node.fields:
            chart.add("field-missing", node.path, f"the {node.kind} has no {name}")
    for name in node.fields:
        if name not in (*required, *optional):
            chart.add("field-unknown", node.path, f"has a field {name!r}, which {node.kind} does not have")
    for name, rule in (("v_reset", "v-reset-missing"), ("w_in", "w-in-missing")):
        if name in optional and name not in node.fields:
            chart.add(rule, node.path, f"the {node.kind} has no {name}")


def _numbers(node: Node, name: str, chart: Chart) -> None:
    value = node.fields.get(name)
    if isinstance(value, str):
        chart.add("not-numbers", node.path, f"its {name} is the text {value[:20]!r}")
        return
    if not isinstance(value, np.ndarray):
        return
    if value.dtype.kind in "cb":
        chart.add("not-numbers", node.path, f"its {name} is {value.dtype}, expected real numbers")
        return
    odd = value.dtype.kind in "iu" or value.dtype.itemsize not in (4, 8) or not value.dtype.isnative
    if odd:
        order = "" if value.dtype.isnative else " in foreign byte order"
        chart.add("dtype", node.path, f"its {name} is {value.dtype.name}{order}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        bad = ~np.isfinite(value)
        first = [int(i) for i in np.argwhere(bad)[0]]
        how_many = f"{int(bad.sum())} numbers that are not finite" if bad.sum() > 1 else "a number that is not finite"
        what = f"its {name} holds {how_many}, {value[tuple(first)]} at {first}"
        chart.add("not-finite", node.path, what)


def _one_type(node: Node, chart: Chart) -> None:
    found = {
        name: value.dtype.name
        for name in node.arrays
        if isinstance(value := node.fields.get(name), np.ndarray) and value.dtype.name in ("float32", "float64")
    }
    if len(set(found.values())) > 1:
        chart.add("dtype-mixed", node.path, ", ".join(f"{name} is {kind}" for name, kind in found.items()))


def _whole(node: Node, name: str, chart: Chart) -> None:
    """Sizes: whole numbers, as many as there are axes."""
    value: Any = node.fields[name]
    if name == "padding" and isinstance(value, str):
        if value not in ("same", "valid"):
            chart.add("conv-invalid", node.path, f"its padding is {value!r}")
        return
    if name == "input_type" and value is None:
        return
    sizes = node.sizes(name)
    if sizes is None:
        shown = value.tolist() if isinstance(value, np.ndarray) else value
        chart.add("field-sizes", node.path, f"its {name} is {shown!r}, expected whole numbers")
        return
    axes = 1 if name in ("groups", "start_dim", "end_dim") else _AXES.get(node.kind)
    if axes is not None and len(sizes) not in (1, axes):
        chart.add("field-sizes", node.path, f"its {name} is {list(sizes)}, expected {axes} of them")
    elif name in _LEAST and min(sizes, default=1) < _LEAST[name]:
        chart.add("field-sizes", node.path, f"its {name} is {list(sizes)}, expected {_LEAST[name]} or more")


def _parameter_shapes(node: Node, chart: Chart) -> None:
    """Shapes of a neuron's parameters among themselves; against what arrives they are checked with the edges."""
    shapes = {name: value.shape for name in node.arrays if isinstance(value := node.fields.get(name), np.ndarray)}
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        said = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        chart.add("parameter-shapes", node.path, f"its parameters do not fit one another: {said}")


def _weights(node: Node, chart: Chart) -> None:
    weight, bias = node.array("weight"), node.array("bias")
    if weight is None:
        return
    axes = _AXES.get(node.kind)
    if weight.ndim < 2 or (axes is not None and weight.ndim != axes + 2):
        wanted = "(..., out, in)" if axes is None else f"(out, in / groups, kernel of {axes})"
        chart.add("weight-axes", node.path, f"its weight has shape {list(weight.shape)}, expected {wanted}")
        return
    n_out = weight.shape[0 if axes else -2]
    if bias is not None and bias.size != 1:
        fits = bias.shape[-1:] == (n_out,) and (axes is None or bias.ndim == 1)
        if not fits:
            chart.add("bias-shape", node.path, f"its bias has shape {list(bias.shape)} for {n_out} outputs")
    elif bias is not None and (bias.ndim == 0 or (n_out != 1 and bias.size == 1)):
        rule = "scalar-parameter" if bias.ndim == 0 else "broadcast-parameter"
        meaning = "nir does not check it; importers that copy it into a layer get a bias of the wrong shape"
        chart.add(rule, node.path, f"its bias has shape {list(bias.shape)} for {n_out} outputs", meaning=meaning)
    if axes is not None:
        _convolution(node, weight.shape, chart)


def _convolution(node: Node, shape: Shape, chart: Chart) -> None:
    groups, strides = node.sizes("groups"), node.sizes("stride")
    if groups and len(groups) == 1 and groups[0] > 1:
        if shape[0] % groups[0]:
            chart.add("conv-invalid", node.path, f"{shape[0]} output channels do not divide into {groups[0]} groups")
        else:
            chart.add("conv-grouped", node.path, f"has {groups[0]} groups")
    if len(set(shape[2:])) > 1:
        chart.add("conv-non-square", node.path, f"its kernel is {' x '.join(map(str, shape[2:]))}")
    if node.text("padding") == "same" and strides and max(strides) > 1:
        chart.add("conv-invalid", node.path, f"padding 'same' with stride {list(strides)}")


def full_shape(node: Node) -> Shape | None:
    """The shape that the parameters of a neuron or of an elementwise op have together; None where they do not fit."""
    names = node.arrays if node.kind in NEURONS else (ELEMENTWISE[node.kind],)
    shapes = [value.shape for name in names if isinstance(value := node.fields.get(name), np.ndarray)]
    try:
        return np.broadcast_shapes(*shapes) if shapes else None
    except ValueError:
        return None


def short_parameters(node: Node, population: Shape) -> dict[str, Shape]:
    """The parameters that are smaller than the population, by name, with their shape; those nir expands left out."""
    names = node.arrays if node.kind in NEURONS else (ELEMENTWISE[node.kind],)
    found = {name: value.shape for name in names if isinstance(value := node.fields.get(name), np.ndarray)}
    return {
        name: shape
        for name, shape in found.items()
        if shape != population and not (name in OPTIONAL_ARRAYS and shape == ())
    }
