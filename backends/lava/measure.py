"""What quantisation costs: the integers against the source network, on the same input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.backends.lava.artifact import LavaArtifact
from snnir.backends.lava.chip import STATE_LIMIT
from snnir.interpreter import interpret
from snnir.ops import Array
from snnir.simulators.loihi import LoihiRun


def measure(artifact: LavaArtifact, inputs: Mapping[str, Array], recorded: bool) -> dict[str, Any]:
    """Errors of spike counts by population, and of outputs that are numbers (root mean square, relative).

    The integer network runs as many steps longer as it is late, so that all of the source's steps are compared.
    """
    graph, plan = artifact.graph, artifact.plan
    names = [n for n in plan.network.populations if plan.cells_of(n)[0].trace == "spikes"]
    outputs, spikes = interpret(graph, dict(inputs), record=names)
    want = outputs if isinstance(outputs, dict) else {graph.outputs[0]: outputs}
    late = max([0, *plan.lags.values()])
    longer = {n: np.concatenate([x, np.zeros((late, *x.shape[1:]))]) for n, x in inputs.items()}
    run = artifact.simulate(longer, record=True)
    got = artifact.outputs_of(run)
    counted = {name: artifact.population(name, run) for name in names}
    steps, batch = next(iter(inputs.values())).shape[:2]

    def aligned(name: str, values: Array) -> Array:
        return values[plan.lags[name] : plan.lags[name] + steps]

    by_population = {n: count_error(aligned(n, counted[n]), spikes[n]) for n in names}
    numbers = {n: relative_error(aligned(n, got[n]), want[n]) for n, r in plan.reads.items() if r.trace != "spikes"}
    differences = [np.abs(aligned(n, counted[n]).sum(axis=0) - spikes[n].sum(axis=0)).sum() for n in names]
    total = sum(float(spikes[n].sum()) for n in names)
    return {
        "on": "recorded input" if recorded else "made-up input",
        "steps": steps,
        "batch": batch,
        "spikes": int(total),
        "count_error": round(float(sum(differences)) / max(total, 1.0), 6),
        "count_error_by_population": {n: round(e, 6) for n, e in by_population.items()},
        "membranes_cut_off": _cut_off(run),
        "output_error": {n: round(e, 6) for n, e in numbers.items()},
    }


def _cut_off(run: LoihiRun) -> list[str]:
    """The cells whose membranes came to the end of their 24 bits."""
    return [name for name, v in (run.v or {}).items() if np.abs(v).max(initial=0) >= STATE_LIMIT - 1]


def count_error(got: Array, want: Array) -> float:
    """Summed absolute difference of spike counts per sample and neuron, over summed counts; time first."""
    return float(np.abs(got.sum(axis=0) - want.sum(axis=0)).sum() / max(float(want.sum()), 1.0))


def relative_error(got: Array, want: Array) -> float:
    """Root mean square difference over the root mean square of what was wanted."""
    return float(np.sqrt(((got - want) ** 2).mean()) / max(float(np.sqrt((want**2).mean())), 1e-300))
