"""Adapters of the conformance suite around the frameworks' own NIR importers, as their users call them.

    python -m snnir.conformance benchmarks/importer_adapters.py:norse
    python docs/make_conformance.py                  # all of them, as the table in docs/conformance.md

Each is given what it can use: Norse and SpikingJelly take dt. snnTorch's importer has 1e-4 s in its source and sinabs
counts steps, so their files are rewritten to that step first: times and delays are scaled, the r of integrators
inversely, which leaves the network what it is.
None takes another rule of a step than its own, so cases that mean another one are refused here, by the adapter: a NIR
file has no field for it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from snnir.conformance import Refused

SNNTORCH_DT = 1e-4  # seconds: stands in snntorch/import_nir.py
LATE_BIAS = {"recurrent_bias_at_start": False}
OWN_SINABS = {
    "decay": "exponential",
    "gain": "unit",
    "comparison": ">=",
    "reset": "subtract",
    "spikes_per_step": None,
    "recurrent_bias_at_start": False,
    "start": "zero",
}
TIMES = ("tau", "tau_mem", "tau_syn", "delay")


def norse(path: str, inputs: dict[str, Any], dt: float, semantics: dict[str, Any]) -> dict[str, Any]:
    """Norse's `from_nir`."""
    import norse.torch

    _own_rule("Norse", semantics, LATE_BIAS)
    return _run(path, inputs, lambda graph: norse.torch.from_nir(graph, dt=dt))


def snntorch(path: str, inputs: dict[str, Any], dt: float, semantics: dict[str, Any]) -> dict[str, Any]:
    """snnTorch's `import_from_nir`."""
    from snntorch.import_nir import import_from_nir

    _own_rule("snnTorch", semantics)
    return _run(path, inputs, lambda graph: import_from_nir(_in_steps_of(graph, SNNTORCH_DT / dt)))


def sinabs(path: str, inputs: dict[str, Any], dt: float, semantics: dict[str, Any]) -> dict[str, Any]:
    """sinabs's `from_nir`."""
    from sinabs.nir import from_nir

    _own_rule("sinabs", semantics, OWN_SINABS)
    batch = next(iter(inputs.values())).shape[1]
    return _run(path, inputs, lambda graph: from_nir(_in_steps_of(graph, 1.0 / dt), batch_size=batch))


def spikingjelly(path: str, inputs: dict[str, Any], dt: float, semantics: dict[str, Any]) -> dict[str, Any]:
    """SpikingJelly's `import_from_nir`."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    _own_rule("SpikingJelly", semantics, {"comparison": ">="}, LATE_BIAS)
    return _run(path, inputs, lambda graph: import_from_nir(graph, dt=dt))


ADAPTERS: dict[str, Callable[..., dict[str, Any]]] = {
    "norse": norse,
    "snntorch": snntorch,
    "sinabs": sinabs,
    "spikingjelly": spikingjelly,
}


def _own_rule(title: str, semantics: dict[str, Any], *own: dict[str, Any]) -> None:
    if semantics and semantics not in own:
        raise Refused(f"{title}'s importer takes no {', '.join(semantics)}")


def _in_steps_of(graph: Any, factor: float) -> Any:
    """The same network with another length of a step."""
    for name, node in graph.nodes.items():
        if type(node).__name__ == "NIRGraph":
            _in_steps_of(node, factor)
            continue
        changes = {f: getattr(node, f) * factor for f in TIMES if hasattr(node, f)}
        if type(node).__name__ in ("IF", "I"):
            changes["r"] = node.r / factor
        if changes:
            graph.nodes[name] = replace(node, **changes)
    return graph


def _run(path: str, inputs: dict[str, Any], build: Callable[[Any], Any]) -> dict[str, Any]:
    """Imports a file and runs it step by step, (B, *shape) at a time, the state handed on by the caller."""
    import nir
    import torch

    torch.set_num_threads(1)
    graph = nir.read(path, type_check=False)
    outputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
    with _quiet(), torch.no_grad():
        try:
            model = build(graph)
        except Exception as error:  # nothing has been built, and the user is told: the importer's way to refuse
            raise Refused(f"{type(error).__name__}: {error}") from error
        series = [torch.from_numpy(inputs[name]) for name in inputs]
        state, steps = None, []
        for values in zip(*series, strict=True):
            given = model(*values, state)
            *parts, state = given if isinstance(given, tuple) else (given, None)
            steps.append([part.numpy() for part in parts])
    if len(steps[0]) != len(outputs):
        raise ValueError(f"{len(steps[0])} values come back for {len(outputs)} output{'s' * (len(outputs) > 1)}")
    return {name: np.stack([step[k] for step in steps]) for k, name in enumerate(outputs)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the frameworks print and log on import."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
