"""`snnir validate`: is it the same network on every target?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import (
    debug_option,
    dt_option,
    format_option,
    load_source,
    npz_option,
    progress,
    read_arrays,
    source_argument,
    source_option,
    targets_option,
    write_file,
)
from snnir.cli.importers import importers_option

if TYPE_CHECKING:
    from rich.table import Table

    from snnir.diffusion.unrolled import Crossing
    from snnir.graph import Graph
    from snnir.importers import ImporterVerdict
    from snnir.validation import IntegerCauses, Report

MOST_SILENT = 6  # names of neurons in the text


@click.command("validate", short_help="Is it the same network on every target, spike by spike?")
@source_argument
@targets_option("-t", "--targets", "--target", text="Targets to compare with the reference.", required=False)
@importers_option
@npz_option("--input", "Recorded input, (T, B, *shape) per graph input; default made up.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of made-up input; default what SRC says, else 100.")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Batch of made-up input.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of made-up input.")
@click.option("--vendor", is_flag=True, help="Run chips in their vendor's software too (lava: in Lava itself).")
@source_option
@dt_option
@click.option("-o", "--output", metavar="REPORT.html|.json", help="Write the report too: one page, or JSON, by suffix.")
@format_option
@debug_option
def validate_command(
    source: str,
    targets: tuple[str, ...],
    importers: tuple[str, ...],
    input: str | None,
    steps: int | None,
    batch: int,
    seed: int,
    vendor: bool,
    source_options: dict[str, Any],
    dt: float | None,
    output: str | None,
    output_format: str,
) -> int:
    """Run the reference and every target on the same input and compare them, spike by spike.

    With --against-importer also, or only: what frameworks' own importers make of the network's NIR file.

    Made-up input is what SRC says its inputs look like (metadata "inputs"), else random spikes.

    Exit status 1 when some target is not the network that it promises to be.

    \b
    Examples:
      snnir validate model.py -t torch,norse,xylo-audio3 -o report.html
      snnir validate net.nir --dt 1e-4 --against-importer norse
    """
    if not targets and not importers:
        raise click.UsageError("name what to compare: -t TARGET, --against-importer FRAMEWORK, or both")
    graph = load_source(source, dt, source_options)
    recorded = read_arrays(input, graph)
    drive: dict[str, Any] = {"steps": steps, "batch": batch, "seed": seed}
    found: list[ImporterVerdict] = []
    for name in importers:
        from snnir.importers import check_importer

        with progress(f"running {name}'s own importer"):
            # A file goes to the framework as it is; what it means is the graph's, where --dt said the time step.
            given = source if source.endswith(".nir") else graph
            found.append(check_importer(given, name, recorded, dt=dt if given is source else None, **drive))
    report: Report | None = None
    if targets:
        from snnir.validation import validate

        with progress(f"comparing {', '.join(targets)} with the reference"):
            report = validate(graph, targets, recorded, keep_traces=_page(output), vendor=vendor, **drive)
    ok = all(v.ok for v in found) and (report is None or report.ok)
    document = {
        "source": source,
        **({"input": None, "verdicts": [], "crossing": None} if report is None else report.to_json()),
        "ok": ok,
        **({"importers": [v.to_json() for v in found]} if importers else {}),
    }
    if output is not None:
        from snnir.cli.show import as_json

        data = as_json("validate", document)
        write_file(output, _html(data, report) if _page(output) else data)
    if output_format == "json":
        from snnir.cli.show import print_json

        print_json("validate", document)
    else:
        if report is not None:
            _print(report, _silent(report, graph))
        for k, v in enumerate(found):
            from snnir.cli.importers import print_importer

            if k or report is not None:
                click.echo()
            print_importer(v)
    if ok:
        return 0
    return 1 if report is None or not all(v.ok for v in found) else _status(report)


def _page(output: str | None) -> bool:
    return output is not None and output.lower().endswith((".html", ".htm"))


def _html(data: bytes, report: Report | None) -> bytes:
    import json

    from snnir.draw.report import report_text

    kept = {} if report is None else {name: (t.pairs, t.places) for name, t in report.traces.items()}
    return report_text(json.loads(data), kept).encode()


def _status(report: Report) -> int:
    return 3 if all(v.ok or v.verdict == "not installed" for v in report.verdicts) else 1


def _silent(report: Report, graph: Graph) -> list[str]:
    """Neurons that never spike in the reference, where others do: of them a run shows next to nothing."""
    from snnir.ops import IF, LIF, CubaLIF

    quiet = {p.op for v in report.verdicts if v.spikes for p in v.populations if not p.spikes}
    return [name for name, op in graph.ops.items() if name in quiet and isinstance(op, (IF, LIF, CubaLIF))]


def _print(report: Report, silent: list[str]) -> None:
    from rich.text import Text

    from snnir.cli.show import cells, console, count, table

    origin = "recorded input" if report.seed is None else f"{report.made_up} (seed {report.seed})"
    out = console()
    out.print(Text(f"{report.steps} steps, batch {report.batch}, {origin}"))
    columns = ("target", "verdict", "reference\nspikes", "differing", "count error", "value error")
    listing = table(*columns, right=columns[2:])
    for v in report.verdicts:
        compared = v.verdict not in ("refused", "not installed")
        numbers = (count(v.spikes), count(v.differing), f"{v.count_error:.3%}", f"{v.max_error:.1e}")
        listing.add_row(
            *cells(v.target, Text(v.words, style="green" if v.ok else "bold red"), *(numbers if compared else "----"))
        )
    out.print(listing)
    if silent:
        more = f" and {len(silent) - MOST_SILENT} more" if len(silent) > MOST_SILENT else ""
        remedy = "other input" if report.seed is None else "recorded input (--input)"
        named = ", ".join(silent[:MOST_SILENT])
        out.print(Text(f"no spike here: {named}{more}; {remedy} that makes them spike would say more"))
    runs = {"reference": report.crossing, **{v.target: v.crossing for v in report.verdicts}}
    for run, crossed in runs.items():
        if crossed is not None:
            out.print(Text(f"{run}: {_crossing(crossed)}"))
    told: list[IntegerCauses] = []
    for v in report.verdicts:
        for line in _notes(v):
            out.print(Text(f"{v.target}: {line}"))
        if v.integers is not None and not any(t is v.integers for t in told):
            out.print(_roundings(v.integers))
            exact = ", ".join(c.name for c in v.integers.causes if c.exact)
            out.print(Text(f"exact here: {exact}\n" if exact else ""))
            told.append(v.integers)  # the same table serves a chip in its vendor's software


def _roundings(found: IntegerCauses) -> Table:
    """What each rounding explains, and makes alone."""
    from snnir.cli.show import cells, table

    corrected = any(c.corrected is not None for c in found.causes)
    more = ("calibrated",) if corrected else ()
    listing = table("rounding", "explains", "alone makes", *more, "here", right=("explains", "alone makes", *more))
    for column in listing.columns[:-1]:
        column.no_wrap = True
    listing.columns[-1].overflow = "ellipsis"
    for c in found.causes:
        if not c.exact:
            left = () if not corrected else ("" if c.corrected is None else f"{c.corrected:.2%}",)
            listing.add_row(*cells(c.label, f"{c.explained:.0%}", f"{c.alone:.2%}", *left, c.what))
    said = "in floats; shares of single roundings do not add up"
    if found.samples < found.batch:
        said += f"; measured on {found.samples} of {found.batch} samples"
    rest = cells("all together", f"{found.share:.0%}", f"{found.together:.2%}", *([""] if corrected else []), said)
    listing.add_row(*rest)
    return listing


def _crossing(found: Crossing) -> str:
    if found.faults:
        return f"what crosses between calls is not only 0 and 1: {found.faults[0].where} {found.faults[0].what}"
    share = found.spikes / max(found.values, 1)
    return (
        f"every value that crosses between calls is 0 or 1: {found.values:,} values of {found.senders} "
        f"op{'s' if found.senders != 1 else ''} in this run, {share:.1%} of them 1"
    )


def _notes(v: object) -> list[str]:
    from snnir.validation import Verdict

    if not isinstance(v, Verdict):
        return []
    lines: list[str] = []
    if v.first is not None:
        d = v.first
        where = f"{d.op}{list(d.neuron)}" if d.neuron else d.op
        lines.append(f"first difference at {where}, step {d.step}, batch {d.batch}: {d.got:g}, expected {d.expected:g}")
    for c in v.causes:
        lines.append(f"cause: {c.text}; explains {c.explained:.1%} of the differences")
        if c.same:
            lines.append(f"  or, with the same traces on every input tried: {'; '.join(c.same)}")
        lines.append(f"  to remove it: {c.remedy}")
    if v.cause and not v.violations and not v.causes:
        said = v.cause if v.integers is None else v.integers.headline
        lines.append(said if v.verdict == "not installed" else f"cause: {said}")
    for violation in v.violations:
        where = f"{violation['where']}: " if violation["where"] else ""
        expected = f" (limit: {violation['expected']})" if violation["expected"] else ""
        lines.append(f"[{violation['rule']}] {where}{violation['what']}{expected}")
    if v.float32_flips:
        lines.append(
            f"{v.float32_flips} places differ between its float32 and its float64 run: rounding at a threshold"
        )
    return lines
