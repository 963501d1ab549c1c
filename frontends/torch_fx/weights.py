"""Trained weights of a graph, back into the module that it came from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from snnir.errors import CompileError, Violation
from snnir.frontends.torch_fx.builder import Binding
from snnir.frontends.torch_fx.load import Traced, trace
from snnir.graph import Graph
from snnir.ops import Array, same


def to_module_weights(graph: Graph, module: nn.Module) -> nn.Module:
    """Writes the arrays of a graph into the module that it was loaded from; returns the module.

    The usual way is `to_module_weights(graph.with_weights(emitted.state_dict()), model)`. Nothing is written unless
    everything fits.

    Args:
        graph: as loaded from `module` (no pass may have changed its ops), with other values in its arrays.
        module: weights, running statistics and neuron parameters are overwritten; they stay the same tensors.

    Raises:
        CompileError: the graph has other ops than the module, or holds a value that the module has no place for (a bias
            of a layer without one, or different values for two ops that share a tensor).
    """
    shapes = {name: graph.shapes[name] for name in graph.inputs}
    own = trace(module, semantics=graph.semantics, input_shape=shapes)
    faults = _structure(graph, own.graph)
    if faults:
        raise CompileError(faults, title="the graph is not the module's own")
    values, faults = _values(graph, own)
    if faults:
        raise CompileError(faults, title="the module cannot hold the graph's weights")
    with torch.no_grad():
        for binding, value in values:
            _write(binding, value)
    return module


def _structure(graph: Graph, own: Graph) -> list[Violation]:
    found: list[tuple[str, str, str]] = []
    for name in [*graph.ops, *(n for n in own.ops if n not in graph.ops)]:
        if name not in own.ops or name not in graph.ops:
            found.append((f"exists in {'the graph' if name in graph else 'the module'} only", name, ""))
            continue
        mine, theirs = graph[name], own[name]
        if type(mine) is not type(theirs) or not same(mine.with_(**_arrays(theirs)), theirs):
            found.append((f"is {mine!r}, in the module {theirs!r}", name, str(theirs.loc)))
    found += [("connects differently", str(edge), "") for edge in sorted(set(graph.edges) ^ set(own.edges))]
    hint = "take the weights to the graph that load() gave, before any pass"
    return [Violation("weights-graph", what, where, loc, hint=hint) for what, where, loc in found]


def _arrays(op: object) -> dict[str, Array]:
    return {field: getattr(op, field) for field in getattr(op, "arrays", ())}


def _values(graph: Graph, own: Traced) -> tuple[list[tuple[Binding, Array]], list[Violation]]:
    found: dict[tuple[int, str], tuple[Binding, Array, str]] = {}
    faults: list[Violation] = []
    for key, value in graph.weights().items():
        name, _, field = key.rpartition(".")
        old, binding = own.graph.weights()[key], own.bindings.get((name, field))
        if binding is None:
            if not np.array_equal(value, old):
                what = "has changed, but the module has no parameter for it"
                faults.append(Violation("weights-place", what, key, str(own.graph[name].loc or "")))
            continue
        here = getattr(binding.owner, binding.attribute)
        fits = value.size == here.numel() if isinstance(here, Tensor) else value.size and np.all(value == value.flat[0])
        if not fits:
            faults.append(Violation("weights-shape", f"shape {list(value.shape)}", key, expected=str(list(old.shape))))
            continue
        value = value.T if binding.transposed else value
        place = id(binding.owner), binding.attribute
        first = found.setdefault(place, (binding, value, key))
        if not np.array_equal(first[1], value):
            what = f"differs from {first[2]}, with which it shares {binding.name}"
            faults.append(Violation("weights-shared", what, key))
    return [(binding, value) for binding, value, _ in found.values()], faults


def _write(binding: Binding, value: Array) -> None:
    here = getattr(binding.owner, binding.attribute)
    if isinstance(here, Tensor):
        # Into memory of its own: all layers of sinabs share that of the default of `spike_threshold`.
        fresh = torch.empty_like(here, requires_grad=False)
        here.data = fresh.copy_(torch.from_numpy(np.array(value)).reshape(here.shape))
    else:
        setattr(binding.owner, binding.attribute, float(value.flat[0]))
