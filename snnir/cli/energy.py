"""`snnir inspect --energy`: operations and energy of an inference, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snnir.cli.common import progress

if TYPE_CHECKING:
    from rich.console import Console

    from snnir.energy import Activities, Energy
    from snnir.graph import Graph
    from snnir.ops import Array


@dataclass(frozen=True)
class Asked:
    """What the command line says of --energy."""

    target: str | None
    calls: int | None
    steps: int | None
    seed: int


def measured(graph: Graph, x: Mapping[str, Array] | None, asked: Asked) -> tuple[Energy, Activities]:
    """The energy of an inference on `x`, or on made-up input; and what was run for it."""
    from snnir.energy import energy, made_up, recorded

    run = None
    if asked.target is not None:
        from snnir.compiler import compile as compile_graph

        with progress(f"compiling for {asked.target}"):
            run = compile_graph(graph, asked.target, allow=("approximate",)).run
    with progress("running the network"):
        if x is not None:
            found = recorded(graph, x, asked.calls, run)
        else:
            found = made_up(graph, asked.calls, asked.steps, asked.seed, run)
    return energy(graph, found), found


def document(found: Energy, asked: Asked) -> dict[str, Any]:
    """The JSON form."""
    return {"target": asked.target, **found.to_json()}


def print_energy(found: Energy, asked: Asked, out: Console) -> None:
    """The tables."""
    from rich.text import Text

    from snnir.cli.show import cells, count, table
    from snnir.energy import SOURCE
    from snnir.operations import AC_JOULES, MAC_JOULES

    where = "" if asked.target is None else f", run by {asked.target}"
    unit = "inference" if found.calls in (None, 1) else "denoising call"
    out.print(Text(f"\nper {unit}: {found.origin}{where}"), style="bold")
    numbers = ("spikes/step", "AC", "MAC", "updates", "energy", "share")
    listing = table("op", "kind", *numbers, right=numbers)
    total = found.inference.ours.joules
    for row in found.rows:
        o = row.operations
        if not (o.acs or o.macs or row.updates):
            continue
        share = f"{o.joules / total:.1%}" if o.joules and total else ""
        rate = f"{row.rate:.3f}" if row.rate is not None and row.updates else ""
        amounts = (count(round(n)) if n else "" for n in (o.acs, o.macs, row.updates))
        listing.add_row(*cells(row.name, row.kind, rate, *amounts, joules(o.joules) if o.joules else "", share))
    out.print(listing)
    out.print()
    out.print(_totals(found, unit))
    if found.rate is not None:
        out.print(Text(f"mean rate: {found.rate:.3f} spikes per neuron and step"))
    out.print(Text(f"energy: {MAC_JOULES * 1e12:g} pJ a MAC, {AC_JOULES * 1e12:g} pJ an AC; {SOURCE};"))
    out.print(Text("arithmetic only: no memory, no clock, no leakage"))


def _totals(found: Energy, unit: str) -> Any:
    from snnir.cli.show import cells, count, table

    image = () if found.calls in (None, 1) else (f"per image ({found.calls} calls)",)
    numbers = ("AC", "MAC", f"per {unit}", *image)
    listing = table("in total", *numbers, right=numbers)
    for name, o in (
        ("synaptic operations", found.inference.ours),
        ("as the authors of FSDDIM count", found.inference.papers),
        ("neuron updates (in neither)", found.neurons),
    ):
        whole = [joules(o.joules * found.calls)] if image and found.calls is not None else []
        listing.add_row(*cells(name, count(round(o.acs)), count(round(o.macs)), joules(o.joules), *whole))
    return listing


def joules(amount: float) -> str:
    """An energy with three significant digits and the unit that suits it."""
    for unit, factor in (("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9)):
        if amount >= factor:
            return f"{amount / factor:.3g} {unit}" if amount < 999.5 * factor else f"{amount / factor:,.0f} {unit}"
    return f"{amount / 1e-12:.3g} pJ"
