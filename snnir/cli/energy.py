"""`snnir inspect --energy`: operations and energy of an inference, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from snnir.cli.common import progress
from snnir.errors import install_command

if TYPE_CHECKING:
    from rich.console import Console

    from snnir.backends.sanafe import Estimate
    from snnir.energy import Activities, Energy
    from snnir.errors import Violation
    from snnir.graph import Graph
    from snnir.ops import Array

MISSING = f"not installed (GPL-3.0, a program of its own): {install_command('sanafe')}, or SNNIR_SANAFE_PYTHON"


@dataclass(frozen=True)
class Asked:
    """What the command line says of --energy."""

    target: str | None
    calls: int | None
    steps: int | None
    seed: int
    sanafe: bool | None


@dataclass(frozen=True)
class OnLoihi:
    """SANA-FE's estimate, or why there is none: one line."""

    estimate: Estimate | None
    why: str = ""
    reasons: tuple[Violation, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures, or the reasons."""
        if self.estimate is not None:
            return self.estimate.to_json()
        return {"missing": self.why, "violations": [asdict(v) for v in self.reasons]}


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


def on_loihi(graph: Graph, x: Mapping[str, Array], asked: Asked) -> OnLoihi:
    """SANA-FE's estimate for the first sample of `x`; --sanafe makes an error of what stands in its way.

    Raises:
        MissingPackageError, CompileError: --sanafe, and SANA-FE is not installed or cannot take the network.
        UsageError: SNNIR_SANAFE_PYTHON names no Python that has it.
    """
    from snnir.backends.sanafe import estimate, find_python
    from snnir.errors import CompileError

    if asked.sanafe is False:
        return OnLoihi(None, "left out (--no-sanafe)")
    if asked.sanafe is None and find_python() is None:
        return OnLoihi(None, MISSING)
    try:
        with progress("running SANA-FE"):
            return OnLoihi(estimate(graph, x))
    except CompileError as error:
        if asked.sanafe:
            raise
        return OnLoihi(None, "not for this network", tuple(error.violations))


def document(found: Energy, loihi: OnLoihi, asked: Asked) -> dict[str, Any]:
    """The JSON form."""
    return {"target": asked.target, **found.to_json(), "sanafe": loihi.to_json()}


def print_energy(found: Energy, loihi: OnLoihi, asked: Asked, out: Console) -> None:
    """The tables."""
    from rich.text import Text

    from snnir.arithmetic import in_words
    from snnir.cli.show import cells, count, table
    from snnir.energy import SOURCE
    from snnir.operations import AC_JOULES, MAC_JOULES

    where = "" if asked.target is None else f", run by {asked.target}"
    unit = "inference" if found.calls in (None, 1) else "denoising call"
    out.print(Text(f"\nper {unit}, counted over {found.origin}{where}"), style="bold")
    special = ("exp, /, √",) if found.other.special else ()
    numbers = ("spikes/step", "AC", "MAC", *special, "updates", "energy", "share")
    listing = table("op", "kind", *numbers, right=numbers)
    total = sum(row.priced.joules for row in found.rows)
    for row in found.rows:
        o, more = row.priced, row.other.special
        if not (o.acs or o.macs or more or row.updates):
            continue
        share = f"{o.joules / total:.1%}" if o.joules and total else ""
        rate = f"{row.rate:.3f}" if row.rate is not None and row.updates else ""
        amounts = (count(round(n)) if n else "" for n in (o.acs, o.macs, *((more,) if special else ()), row.updates))
        listing.add_row(*cells(row.name, row.kind, rate, *amounts, joules(o.joules) if o.joules else "", share))
    out.print(listing)
    out.print()
    out.print(_totals(found, unit))
    if found.other.special:
        unpriced = replace(found.other, acs=0.0, macs=0.0)
        out.print(Text(f"without a price: {in_words(unpriced, lambda n: count(round(n)))} per {unit}"))
    if found.rate is not None:
        made_up = found.calls is None and not found.origin.startswith("recorded")
        hint = ": hardly any on made-up input, --input takes recorded one" if made_up and found.rate < 0.01 else ""
        out.print(Text(f"mean rate: {found.rate:.3f} spikes per neuron and step{hint}"))
    out.print(Text(f"energy: {MAC_JOULES * 1e12:g} pJ a MAC, {AC_JOULES * 1e12:g} pJ an AC; {SOURCE};"))
    out.print(Text("arithmetic only: no memory, no clock, no leakage"))
    _print_loihi(found, loihi, unit, out)


def _print_loihi(found: Energy, loihi: OnLoihi, unit: str, out: Console) -> None:
    from rich.text import Text

    from snnir.cli.show import cells, count, table

    e = loihi.estimate
    if e is None:
        out.print(Text(f"\nLoihi by SANA-FE: {loihi.why}"))
        for v in loihi.reasons:
            where, expected = f"{v.where}: " if v.where else "", f" (expected: {v.expected})" if v.expected else ""
            out.print(Text(f"  [{v.rule}] {where}{v.what}{expected}"))
        return
    out.print(Text(f"\nLoihi 1 by SANA-FE {e.version}, per {unit}: the first sample, {e.steps} steps"), style="bold")
    image = () if found.calls in (None, 1) else (f"per image ({found.calls} calls)",)
    numbers = (f"per {unit}", *image)
    listing = table("", *numbers, right=numbers)
    calls = found.calls or 1
    rows: list[tuple[str, float, Callable[[float], str]]] = [
        (f"energy: {part}", e.joules[part], joules) for part in ("synapse", "soma", "dendrite", "network", "total")
    ]
    rows += [("time", e.seconds, seconds), ("packets", e.packets, count), ("synaptic events", e.events, count)]
    for name, amount, form in rows:
        listing.add_row(*cells(name, form(amount), *((form(amount * calls),) if image else ())))
    out.print(listing)
    same = "the same as here" if not e.differing else f"{e.expected:,} here; {e.differing:,} at other steps or neurons"
    for line in (
        f"{e.neurons:,} neurons and {e.synapses:,} synapses on {e.cores} cores; {e.spikes:,} spikes, {same}",
        f"not in it: {e.host_macs:,} MACs of a host, for inputs that are no spikes" if e.host_macs else "",
        f"{e.moved:,} synapses need delays, which SANA-FE's Loihi loses: imitated by biases" if e.moved else "",
        "a model, not the chip: float weights, no limit on synaptic memory, no static power (docs/energy.md)",
    ):
        if line:
            out.print(Text(line))


def _totals(found: Energy, unit: str) -> Any:
    from snnir.cli.show import cells, count, table
    from snnir.energy import priced

    image = () if found.calls in (None, 1) else (f"per image ({found.calls} calls)",)
    numbers = ("AC", "MAC", f"per {unit}", *image)
    listing = table("in total", *numbers, right=numbers)
    rows = [
        ("synaptic operations", found.inference.ours),
        ("as the authors of FSDDIM count", found.inference.papers),
        ("neuron updates (in neither)", found.neurons),
    ]
    if found.other:
        rows.append(("ops without synapses (in neither)", priced(found.other)))
    for name, o in rows:
        whole = [joules(o.joules * found.calls)] if image and found.calls is not None else []
        listing.add_row(*cells(name, count(round(o.acs)), count(round(o.macs)), joules(o.joules), *whole))
    return listing


def joules(amount: float) -> str:
    """An energy with three significant digits and the unit that suits it."""
    for unit, factor in (("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9)):
        if amount >= factor:
            return f"{amount / factor:.3g} {unit}" if amount < 999.5 * factor else f"{amount / factor:,.0f} {unit}"
    return f"{amount / 1e-12:.3g} pJ"


def seconds(amount: float) -> str:
    """A time with three significant digits and the unit that suits it."""
    unit, factor = next(((u, f) for u, f in (("s", 1.0), ("ms", 1e-3)) if amount >= f), ("us", 1e-6))
    return f"{amount / factor:.3g} {unit}"
