"""`snnir inspect`: what a network is made of and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import (
    debug_option,
    dt_option,
    format_option,
    load_source,
    npz_option,
    passes_option,
    progress,
    read_arrays,
    source_argument,
    source_option,
)
from snnir.cli.energy import Asked

if TYPE_CHECKING:
    from snnir.cost import Cost
    from snnir.graph import Graph
    from snnir.ops import Array


def _target(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from snnir.errors import there_are
    from snnir.registry import backend_names

    if value not in backend_names():
        raise click.BadParameter(f"no target {value}{there_are([value], backend_names())}", context, parameter)
    return value


@click.command("inspect", short_help="Show ops, shapes, parameters, synapses, memory, energy.")
@source_argument
@npz_option("--input", "Recorded input: count the synaptic operations that it causes, instead of their bound.")
@passes_option("Passes to run first.")
@click.option("--energy", is_flag=True, help="Operations and energy of an inference, counted in a run.")
@click.option("-t", "--target", callback=_target, metavar="T", help="--energy: count the spikes of this target's run.")
@click.option("--calls", type=click.IntRange(1), metavar="K", help="--energy: denoising calls per image; default 50.")
@click.option("--steps", type=click.IntRange(1), metavar="T", help="--energy: steps of made-up input; default 100.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="--energy: seed of made-up input; default 0.")
@click.option("--sanafe/--no-sanafe", default=None, help="--energy: Loihi's by SANA-FE; default: where it is there.")
@source_option
@dt_option
@format_option
@debug_option
def inspect_command(
    source: str,
    input: str | None,
    passes: str | None,
    energy: bool,
    target: str | None,
    calls: int | None,
    steps: int | None,
    seed: int | None,
    sanafe: bool | None,
    source_options: dict[str, Any],
    dt: float | None,
    output_format: str,
) -> int:
    """Show the ops, shapes, parameters, synapses, synaptic operations and memory of SRC.

    Synaptic operations are per step: accumulates (AC) where spikes arrive, multiply-accumulates (MAC) where other
    numbers do. Norms, gates, products and other ops without synapses are counted apart: docs/energy.md. Without --input
    every neuron counts as one spike per step, an upper bound.

    --energy runs the network, on --input or on made-up input (a denoising network samples images), and gives per
    inference, and per image, what every op takes: docs/energy.md.

    \b
    Examples:
      snnir inspect net.nir --dt 1e-3
      snnir inspect model.py --energy -t xylo-audio3
    """
    from snnir.activity import measure
    from snnir.cost import cost

    if not energy:
        _only_with_energy(target=target, calls=calls, steps=steps, seed=seed, sanafe=sanafe)
    graph = load_source(source, dt, source_options, passes)
    recorded = read_arrays(input, graph)
    if energy:
        return _energy(source, graph, recorded, Asked(target, calls, steps, seed or 0, sanafe), output_format)
    activity = None
    if recorded is not None:
        with progress("running the network"):
            activity = measure(graph, recorded)
    found = cost(graph, activity)
    if output_format == "json":
        from snnir.cli.show import print_json

        print_json("inspect", _document(source, graph, found))
    else:
        _print(source, graph, found)
    return 0


def _only_with_energy(**options: object) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise click.UsageError(f"--{given[0]} belongs to --energy")


def _energy(source: str, graph: Graph, recorded: dict[str, Array] | None, asked: Asked, output_format: str) -> int:
    from rich.text import Text

    from snnir.cli.energy import document, measured, on_loihi, print_energy
    from snnir.cli.show import console, print_json
    from snnir.cost import cost

    if asked.sanafe:
        _need_sanafe()
    found, run = measured(graph, recorded, asked)
    loihi = on_loihi(graph, run.inputs, asked)
    if output_format == "json":
        print_json(
            "inspect", {**_document(source, graph, cost(graph, run.activity)), "energy": document(found, loihi, asked)}
        )
        return 0
    out = console()
    out.print(Text(_heading(source, graph)))
    print_energy(found, loihi, asked, out)
    return 0


def _need_sanafe() -> None:
    """Says at once that SANA-FE is missing, not after a run."""
    from snnir.backends.sanafe import find_python
    from snnir.errors import MissingPackageError

    if find_python() is None:
        raise MissingPackageError("sanafe", "sanafe", "--sanafe (this Python, or one that SNNIR_SANAFE_PYTHON names)")


def _document(source: str, graph: Graph, found: Cost) -> dict[str, Any]:
    data = found.to_json()
    ops = [
        {
            **row,
            "dialect": graph[row["name"]].dialect,
            "loc": str(graph[row["name"]].loc or ""),
            "sources": list(graph.sources(row["name"])),
        }
        for row in data["rows"]
    ]
    return {
        "source": source,
        "inputs": {name: list(graph.shapes[name]) for name in graph.inputs},
        "outputs": {name: list(graph.shapes[name]) for name in graph.outputs},
        "semantics": graph.semantics.to_json(),
        **_between_calls(graph),
        "edges": [[edge.source, edge.target, edge.port] for edge in graph.edges],
        "measured": data["measured"],
        "totals": data["totals"],
        "ops": ops,
    }


def _print(source: str, graph: Graph, found: Cost) -> None:
    from rich.text import Text

    from snnir.arithmetic import in_words
    from snnir.cli.show import cells, console, count, size, table
    from snnir.draw.view import shape_text

    out = console()
    out.print(Text(_heading(source, graph)))
    operations = "ops/step" if found.measured else "ops/step (bound)"
    special = ("exp, /, √",) if found.other.special else ()
    rates = ("rate",) if found.measured else ()
    numbers = ("parameters", "neurons", "synapses", operations, *special, *rates, "memory")
    listing = table("op", "kind", "shape", *numbers, right=numbers)
    for row in found.rows:
        acs, macs = row.acs + row.other.acs, row.macs + row.other.macs
        kind = "" if not acs + macs else " MAC" if not acs else " AC" if not macs else " mixed"
        rate = () if not found.measured else ("" if row.rate is None else f"{row.rate:.3g}",)
        work = count(acs + macs) + kind if row.synapses or acs + macs else ""
        more = (count(row.other.special) if row.other.special else "",) if special else ()
        memory = row.weight_bytes + row.state_bytes
        listing.add_row(
            *cells(
                row.name,
                row.kind,
                shape_text(row.shape),
                *(count(n) if n else "" for n in (row.parameters, row.neurons, row.synapses)),
                work,
                *more,
                *rate,
                size(memory) if memory else "",
            )
        )
    out.print(listing)
    bound = "" if found.measured else ", if every neuron spikes at every step"
    for line in (
        f"{count(found.parameters)} parameters ({size(found.weight_bytes)}), {count(found.neurons)} neurons "
        f"({size(found.state_bytes)} of state per batch element), {count(found.synapses)} synapses",
        f"synaptic operations per step: {count(found.acs)} AC + {count(found.macs)} MAC{bound}",
        f"ops without synapses, per step: {in_words(found.other, count)}" if found.other else "",
    ):
        if line:
            out.print(Text(line))
    for crossing in _between_calls(graph).values():
        senders = len(crossing["numbers"])
        what = "all of them spikes" if not senders else f"{senders} of their senders send numbers"
        out.print(
            Text(f"a sampler of {crossing['calls']} denoising calls: {crossing['edges']} edges between calls, {what}")
        )


def _heading(source: str, graph: Graph) -> str:
    from snnir.draw.view import shape_text

    ends = [", ".join(f"{n} ({shape_text(graph.shapes[n])})" for n in names) for names in (graph.inputs, graph.outputs)]
    what = f"{source}: {ends[0] or 'no input'} -> {ends[1]}; {len(graph)} ops, {len(graph.edges)} edges"
    return f"{what}\nsemantics: {_semantics(graph)}"


def _between_calls(graph: Graph) -> dict[str, Any]:
    """For an unrolled sampler: what crosses from one denoising call to another; nothing for other graphs."""
    from snnir.diffusion.unrolled import crossing, crossing_faults, sampler_of

    sampler = sampler_of(graph)
    if sampler is None:
        return {}
    numbers = [fault.where for fault in crossing_faults(graph)]
    return {"sampler": {"calls": len(sampler.calls), "edges": len(crossing(graph)), "numbers": numbers}}


def _semantics(graph: Graph) -> str:
    """The time step, and the fields that differ from NIR's forward Euler."""
    from snnir.semantics import Semantics

    said = graph.semantics
    dt = "time step not said" if said.dt is None else f"time step {said.dt:g} s"
    others = {n: value for n, (value, _) in said.differences(Semantics()).items() if n != "dt"}
    return ", ".join([dt, f"{said.decay} decay", *(f"{n} {value}" for n, value in others.items() if n != "decay")])
