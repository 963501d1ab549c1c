"""Writes the files of the conformance suite from their definitions.

    python -m tests.conformance.make_cases           # rewrite snnir/conformance/cases
    python -m tests.conformance.make_cases --check   # exit 1 where a file is not what it should be

A case is drawn anew until nothing about it hangs on rounding (no membrane comes within 0.1 % of its threshold, unless
it is to meet it exactly), at least half of the output neurons do something, and every mistake shows in the outputs.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from snnir import nir_io
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.ops import SpikingNeuron
from tests.conformance import core, layers, structure, variants
from tests.conformance.nested import write_nested
from tests.conformance.parts import CASES, Definition, spikes

FOLDER = Path(__file__).parents[2] / "snnir" / "conformance" / "cases"
ORDER = [part.__name__ for part in (core, structure, layers, variants)]
MARGIN = 0.001  # of the threshold; float32 rounds to some 1e-7 of it
SHOWS = 1e-3  # smallest difference of a real output that a mistake must make
TRIES = 2000


@dataclass(frozen=True)
class Made:
    """A case as it is shipped."""

    definition: Definition
    graph: Graph
    inputs: dict[str, Any]
    expected: dict[str, Any]
    populations: dict[str, Any]
    mistaken: dict[str, dict[str, Any]]


def made(definition: Definition) -> Made:
    """The first draw that satisfies all conditions."""
    for seed in range(TRIES):
        rng = np.random.default_rng([seed, *definition.name.encode()])
        graph = definition.build(rng).verify()
        inputs = (definition.stimulus or spikes)(rng, graph)
        traces = run(graph, inputs)
        outputs = {name: traces[name] for name in graph.outputs}
        if not all(_alive(trace) for trace in outputs.values()):
            continue
        if not (definition.on_threshold or _clear(graph, inputs, traces)):
            continue
        mistaken = {words: _outputs(change(graph), inputs, graph) for words, change in definition.mistakes.items()}
        if all(_shows(outputs, wrong) for wrong in mistaken.values()):
            populations = {name: traces[name] for name in traces if name not in outputs}
            return Made(definition, graph, inputs, outputs, populations, mistaken)
    raise RuntimeError(f"{definition.name}: no draw of {TRIES} satisfies its conditions")


def run(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs and spiking populations by name, computed in float64."""
    watched = [name for name, op in graph.ops.items() if isinstance(op, SpikingNeuron)]
    outputs, recorded = interpret(graph, inputs, record=watched, dtype=np.float64)
    by_name = outputs if isinstance(outputs, dict) else {graph.outputs[0]: outputs}
    return {**recorded, **by_name}


def _outputs(graph: Graph, inputs: dict[str, Any], right: Graph) -> dict[str, Any]:
    traces = run(graph, inputs)
    return {name: traces[name] for name in right.outputs}


def _alive(trace: Any) -> bool:
    """At least half of the neurons give something; of spikes, not one in every step."""
    spiking = np.array_equal(trace, np.rint(trace))
    return bool((trace != 0).any((0, 1)).mean() >= 0.5 and (not spiking or (trace != 0).mean() <= 0.97))


def _clear(graph: Graph, inputs: dict[str, Any], traces: dict[str, Any]) -> bool:
    """Whether the same spikes come where all thresholds are a little higher or lower.

    With a reset to a value the membranes are then the same, so none lies between the two thresholds.
    """
    for factor in (1 - MARGIN, 1 + MARGIN):
        changed = {
            name: op.with_(v_threshold=op.v_threshold * np.float32(factor)) if isinstance(op, SpikingNeuron) else op
            for name, op in graph.ops.items()
        }
        other = run(replace(graph, ops=changed), inputs)
        if any(not np.array_equal(other[n], traces[n]) for n in traces if n in graph and _spiking(graph, n)):
            return False
    return True


def _spiking(graph: Graph, name: str) -> bool:
    return isinstance(graph[name], SpikingNeuron)


def _shows(right: dict[str, Any], wrong: dict[str, Any]) -> bool:
    return any(np.abs(right[n] - wrong[n]).max() > SHOWS for n in right)


@cache
def suite() -> tuple[Made, ...]:
    """All cases, in the order of their definitions."""
    in_order = sorted(CASES.values(), key=lambda definition: ORDER.index(definition.build.__module__))
    return tuple(made(definition) for definition in in_order)


def files() -> Iterator[tuple[str, bytes]]:
    """Every file of the suite: name -> content."""
    entries = []
    for each in suite():
        name = each.definition.name
        yield f"{name}.nir", write_nested(each.graph) if each.definition.nested else nir_io.write(each.graph)
        yield f"{name}.npz", _arrays(each)
        entries.append(_entry(each))
    head = {
        "schema": "snnir.conformance-suite.v1",
        "version": 1,
        "units": "seconds; potentials, weights and inputs have no unit",
        "equations": EQUATIONS,
        "arrays": ARRAYS,
        "tolerance": "|got - expected| <= tolerance * max(1, max |expected|); spikes must be equal, step by step",
    }
    yield "manifest.json", (json.dumps({**head, "cases": entries}, indent=1) + "\n").encode()


EQUATIONS = {
    "step": "i = i + dt/tau_syn (w_in x - i); v = v + dt/tau (v_leak - v + r i); a spike where v > v_threshold;"
    " v = v_reset there. LIF, LI: i = x. IF, I: v = v + dt r x. All of a step happens in that step, layer by layer.",
    "feedback": "an edge that closes a cycle is one step late, and carries no spikes before step 0",
    "start": "i = 0, v = v_leak (0 where there is none)",
    "semantics": "what differs from this stands in a case's semantics; the fields are described in docs/conformance.md",
}
ARRAYS = {
    "input/NAME": "what goes into input node NAME, (T, B, *shape)",
    "expected/NAME": "what output node NAME gives, (T, B, *shape)",
    "population/NAME": "the spikes of node NAME, (T, B, *shape): need not be given, but are compared if they are",
    "mistake/K/NAME": "what output node NAME gives to whoever makes mistake K of the case's list",
}


def _entry(each: Made) -> dict[str, Any]:
    first = next(iter(each.inputs.values()))
    return {
        "name": each.definition.name,
        "group": each.definition.group,
        "probes": each.definition.probes,
        "graph": f"{each.definition.name}.nir",
        "arrays": f"{each.definition.name}.npz",
        "dt": each.graph.semantics.dt,
        "semantics": {k: v for k, v in each.graph.semantics.to_json().items() if k not in ("dt", "number_format")},
        "steps": first.shape[0],
        "batch": first.shape[1],
        "inputs": {n: list(v.shape[2:]) for n, v in each.inputs.items()},
        "outputs": {n: list(v.shape[2:]) for n, v in each.expected.items()},
        "populations": list(each.populations),
        "tolerance": 1e-5,
        "mistakes": list(each.mistaken),
    }


def _arrays(each: Made) -> bytes:
    arrays = {f"input/{n}": v for n, v in each.inputs.items()}
    arrays |= {f"expected/{n}": v for n, v in each.expected.items()}
    arrays |= {f"population/{n}": v for n, v in each.populations.items()}
    for k, outputs in enumerate(each.mistaken.values()):
        arrays |= {f"mistake/{k}/{n}": v for n, v in outputs.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: _packed(value) for name, value in arrays.items()})
    return buffer.getvalue()


def _packed(value: Any) -> Any:
    """Whole numbers as bytes."""
    small = value.astype(np.int8)
    return small if np.array_equal(small, value) else value


def main(arguments: list[str]) -> int:
    """Writes the files, or compares them with those that are there."""
    wanted = dict(files())
    if "--check" in arguments:
        there = {p.name: p.read_bytes() for p in FOLDER.iterdir()}
        stale = sorted(n for n in wanted.keys() | there.keys() if wanted.get(n) != there.get(n))
        print("\n".join(f"stale: {name}" for name in stale))
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, data in wanted.items():
        (FOLDER / name).write_bytes(data)
    print(f"{len(wanted) // 2} cases, {sum(map(len, wanted.values())):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
