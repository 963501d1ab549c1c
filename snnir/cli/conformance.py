"""`snnir conformance`: what a target, or another library through an adapter, makes of the public suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import HELP_NAMES, State, debug_option, format_option, progress, targets_option, write_file

if TYPE_CHECKING:
    from snnir.conformance import Case, Score

_MARKS = {"exact": "exact", "quantised": "quantised", "refused": "refused", "crashed": "CRASHED", "wrong": "WRONG"}
_STYLES = {"exact": "green", "quantised": "cyan", "refused": "yellow", "crashed": "bold red", "wrong": "bold red"}


@click.command(
    "conformance",
    context_settings=HELP_NAMES,
    short_help="Judge targets or other libraries by graphs with known results.",
)
@click.argument("adapters", metavar="[ADAPTER]...", nargs=-1)
@targets_option("-t", "--target", "--targets", text="Targets of snnir to judge.", required=False)
@click.option("--case", "patterns", multiple=True, metavar="NAME", help="Only cases of this name or pattern ('conv*').")
@click.option("--group", type=click.Choice(["core", "variants"]), help="Only cases of this group.")
@click.option("--allow", type=click.Choice(["approximate"]), multiple=True, help="As for snnir compile.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds that an ADAPTER may take for a case; 0 for any time.",
)
@click.option("--list", "listing", is_flag=True, help="List the cases and stop.")
@click.option("--export", metavar="DIR", type=click.Path(path_type=Path), help="Copy the suite's files there and stop.")
@click.option("--strict", is_flag=True, help="Exit status 1 unless every case is exact.")
@click.option("-o", "--output", metavar="SCORES.json", help="Write the JSON to this file too.")
@format_option
@debug_option
def conformance_command(
    adapters: tuple[str, ...],
    targets: tuple[str, ...],
    patterns: tuple[str, ...],
    group: str | None,
    allow: tuple[str, ...],
    timeout: float,
    listing: bool,
    export: Path | None,
    strict: bool,
    output: str | None,
    output_format: str,
) -> int:
    """Run small graphs with exactly known results, each probing one thing, and say which come out right.

    ADAPTER is package.module:name or file.py:name, a function (path, inputs, dt, semantics) around another library;
    docs/conformance.md describes it, and the suite's files.

    Exit status 1 when some case is wrong without a word or crashes; a refusal is no fault.

    \b
    Examples:
      snnir conformance -t torch,norse
      snnir conformance my_package.adapter:run --group core
    """
    from snnir.conformance import cases
    from snnir.conformance import export as export_files

    if export is not None:
        written = export_files(export)
        click.echo(f"{len(written)} files in {export}")
        return 0
    chosen = cases(patterns, group)
    if listing:
        return _list(chosen, output_format)
    if not targets and not adapters:
        raise click.UsageError("name a --target of snnir, or an ADAPTER (package.module:name)")
    scores, missing = _scores(targets, adapters, chosen, allow, timeout)
    document: dict[str, Any] = {
        "cases": len(chosen),
        "scores": [score.to_json() for score in scores],
        "not_installed": missing,
    }
    if output is not None:
        from snnir.cli.show import as_json

        write_file(output, as_json("conformance", document))
    if output_format == "json":
        from snnir.cli.show import print_json

        print_json("conformance", document)
    else:
        _print(chosen, scores, missing)
    if any(not score.ok or (strict and score.count("exact") < len(chosen)) for score in scores):
        return 1
    return 3 if missing else 0


def _scores(
    targets: tuple[str, ...],
    adapters: tuple[str, ...],
    chosen: tuple[Case, ...],
    allow: tuple[str, ...],
    timeout: float,
) -> tuple[list[Score], dict[str, str]]:
    from snnir.conformance import check_adapter, check_target, load_adapter
    from snnir.errors import MissingPackageError

    loaded = [(spec, load_adapter(spec)) for spec in adapters]  # all of them, before any work
    scores: list[Score] = []
    missing: dict[str, str] = {}
    for target in targets:
        try:
            with progress(f"{target}: {len(chosen)} cases"):
                scores.append(check_target(target, chosen, allow))
        except MissingPackageError as error:
            missing[target] = str(error)
    for spec, adapter in loaded:
        with progress(f"{spec}: {len(chosen)} cases"):
            scores.append(check_adapter(adapter, chosen, spec, timeout))
    return scores, missing


def _list(chosen: tuple[Case, ...], output_format: str) -> int:
    from snnir.cli.show import cells, console, print_json, table

    if output_format == "json":
        rows = [
            {
                "name": c.name,
                "group": c.group,
                "probes": c.probes,
                "dt": c.dt,
                "semantics": c.deviations,
                "mistakes": c.mistakes,
            }
            for c in chosen
        ]
        print_json("conformance-cases", {"cases": rows})
        return 0
    listing = table("case", "group", "probes")
    for c in chosen:
        listing.add_row(*cells(c.name, c.group, c.probes))
    console().print(listing)
    return 0


def _print(chosen: tuple[Case, ...], scores: list[Score], missing: dict[str, str]) -> None:
    from rich.text import Text

    from snnir.cli.show import cells, console, table

    out = console()
    if len(scores) == 1:
        _print_one(chosen, scores[0])
    elif scores:
        listing = table("case", *(score.subject for score in scores))
        for k, case in enumerate(chosen):
            words = [score.verdicts[k].verdict for score in scores]
            listing.add_row(*cells(case.name, *(Text(_MARKS[w], style=_STYLES[w]) for w in words)))
        out.print(listing)
        for score in scores:
            for v in score.verdicts:
                if v.verdict in ("wrong", "crashed"):
                    out.print(Text(f"{score.subject}, {v.case}: {_said(v.reason, v.looks_like)}"))
    for score in scores:
        style = "bold green" if score.ok else "bold red"
        out.print(Text(f"\n{score.subject}: ").append(Text(score.summary, style=style)))
    for target, why in missing.items():
        out.print(Text(f"\n{target}: not judged: {why}", style="yellow"))


def _print_one(chosen: tuple[Case, ...], score: Score) -> None:
    from rich.text import Text

    from snnir.cli.show import cells, console, table

    listing = table("case", "verdict", "what it probes, or why not")
    for case, v in zip(chosen, score.verdicts, strict=True):
        verdict = Text(_MARKS[v.verdict], style=_STYLES[v.verdict])
        text = Text(case.probes, style="dim") if v.verdict == "exact" else _said(v.reason, v.looks_like)
        listing.add_row(*cells(case.name, verdict, text))
    console().print(listing)


def _said(reason: str, looks_like: str) -> str:
    return f"{looks_like} ({reason})" if looks_like else reason


def main() -> None:
    """`python -m snnir.conformance`."""
    import sys

    from snnir.cli.failure import explain, finish_output

    state = State()
    try:
        status = conformance_command.main(prog_name="snnir.conformance", standalone_mode=False, obj=state)
        finish_output()
        sys.exit(status if isinstance(status, int) else 0)
    except Exception as error:
        sys.exit(explain(error, state))
    except KeyboardInterrupt:
        sys.exit(explain(click.Abort(), state))
