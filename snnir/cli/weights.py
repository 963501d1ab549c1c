"""--weights: a file of arrays for the graph, or a word that the model's own build() knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from snnir.graph import Graph

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def weights_option(command: Decorated) -> Decorated:
    """Adds --weights."""
    return click.option(
        "--weights",
        metavar="FILE|WORD",
        help="A .safetensors file written by `snnir train`, or what build(weights=...) takes, e.g. shipped.",
    )(command)


_NUMBERS = {"F64", "F32", "F16", "BOOL", *(f"{sign}{bits}" for sign in "IU" for bits in (8, 16, 32, 64))}


def source_options_with(options: dict[str, Any], weights: str | None) -> dict[str, Any]:
    """The options of a source: a word for weights is among them, a file is not."""
    if weights is None or _is_file(weights):
        return options
    return {**options, "weights": weights}


def graph_with(graph: Graph, weights: str | None) -> Graph:
    """The graph with the arrays of a weights file.

    Raises:
        CompileError: the file cannot be read, or is of another network; everything that does not fit.
    """
    if weights is None or not _is_file(weights):
        return graph
    from safetensors import SafetensorError, safe_open

    from snnir.diffusion.weight_files import misfits
    from snnir.errors import CompileError, fail
    from snnir.naming import identifiers
    from snnir.ops import Neuron

    try:
        with safe_open(weights, framework="np") as file:
            said = file.metadata() or {}
            # Asked of the file, not of NumPy: which types that knows depends on what is imported (ml_dtypes).
            foreign = {key: kind for key in file.keys() if (kind := file.get_slice(key).get_dtype()) not in _NUMBERS}
            if foreign:
                what = "holds numbers that cannot be read: " + ", ".join(f"{k} ({v})" for k, v in foreign.items())
                raise fail("weights-file", what, where=weights, expected="float32, float64, float16 or integers")
            arrays = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise fail("weights-file", f"cannot be read: {error}", where=weights, expected=".safetensors") from None
    spelt = {ident: name for name, ident in identifiers(graph.ops).items()}
    given = {}
    for key, array in arrays.items():
        stem, _, field = key.rpartition(".")
        given[f"{stem if stem in graph.ops else spelt.get(stem, stem)}.{field}"] = array.shape
    wanted = {key: array.shape for key, array in graph.weights().items()}
    own = [
        key for key in wanted if isinstance(graph[key.rpartition(".")[0]], Neuron)
    ]  # untrained, they are not written
    faults = misfits(weights, given, wanted, own, said, graph.metadata)
    if faults:
        raise CompileError(faults, title="weights do not fit the network")
    return graph.with_weights(arrays)


def _is_file(weights: str) -> bool:
    if weights.endswith(".safetensors") and not Path(weights).exists():
        raise click.BadParameter(f"no such file: {weights}", param_hint="--weights")
    return Path(weights).is_file()
