"""An adapter as an example: a simulator of forty lines that knows Linear, Affine, LIF and IF in one line of ops.

    python -m snnir.conformance snnir.conformance.example_adapter:run

It reads the files with the nir package, as any library would, and nothing of snnir but the word for a refusal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir.conformance import Refused

KNOWN = ("Input", "Linear", "Affine", "LIF", "IF", "Output")


def run(path: str, inputs: dict[str, Any], dt: float, semantics: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a NIR file: node name -> (T, B, *shape)."""
    import nir

    if semantics:  # not NIR's forward Euler: this simulator knows no other
        raise Refused(f"cannot do {', '.join(f'{name}={value!r}' for name, value in semantics.items())}")
    graph = nir.read(path, type_check=False)
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    strange = sorted(set(kinds.values()) - set(KNOWN))
    if strange:
        raise Refused(f"knows no {', '.join(strange)}")
    targets: dict[str, str] = {}
    for source, target in graph.edges:
        if source in targets or target in targets.values():
            raise Refused(f"ops must stand in a line, but edges meet at {source} and {target}")
        targets[source] = target
    (name,) = (n for n in kinds if kinds[n] == "Input")
    x, traces = np.asarray(inputs[name], np.float64), {}
    while name in targets:
        name = targets[name]
        x = traces[name] = _node(graph.nodes[name], kinds[name], x, dt)
    return traces  # spikes of hidden neurons by name are compared too


def _node(node: Any, kind: str, x: Any, dt: float) -> Any:
    """One node over all steps of x (T, B, n)."""
    if kind == "Output":
        return x
    if kind in ("Linear", "Affine"):
        return x @ node.weight.T + (node.bias if kind == "Affine" else 0.0)
    leak = node.v_leak if kind == "LIF" else np.zeros(1)
    v, spikes = np.zeros_like(x[0]) + leak, np.zeros_like(x)
    for t in range(len(x)):
        v = v + (dt / node.tau * (leak - v + node.r * x[t]) if kind == "LIF" else dt * node.r * x[t])
        spikes[t] = v > node.v_threshold
        v = np.where(spikes[t] > 0, node.v_reset, v)
    return spikes
