"""`snnir doctor`: every fault of a NIR file at once, what importers make of it, and repairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from snnir.cli.common import debug_option, format_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from snnir.doctor import Diagnosis, Finding
    from snnir.doctor.repairing import Repair

MOST_NODES = 8  # of one rule in the text; the JSON has all
COLOURS = {"fault": "bold red", "risk": "yellow", "note": "cyan"}


@click.command("doctor", short_help="Find every fault of a NIR file at once; repair it.")
@click.argument("file", metavar="FILE.nir", type=click.Path())
@click.option("--fix", is_flag=True, help="Write a repaired file to -o: what has one answer only is set right.")
@click.option("-o", "--output", metavar="NEW.nir", type=click.Path(), help="The repaired file; it must not exist.")
@format_option
@debug_option
def doctor_command(file: str, fix: bool, output: str | None, output_format: str) -> int:
    """Find every fault of FILE.nir at once, and what importers do with it.

    A fault breaks NIR or means nothing; a risk is sound NIR that some importer gets wrong; a note is worth knowing.
    The file itself is never changed.

    Exit status 1 when there is a fault (with --fix: when one is left).

    \b
    Examples:
      snnir doctor net.nir
      snnir doctor net.nir --fix -o repaired.nir
    """
    if fix != (output is not None):
        raise click.UsageError("--fix and -o NEW.nir belong together")
    from snnir.doctor import examine, repair

    done: Repair | None = None
    if output is None:
        found = examine(file)
    else:
        done = repair(file, output)
        found = done.before
    if output_format == "json":
        from snnir.cli.show import print_json

        print_json("doctor", {"source": file, **found.to_json(), "fix": None if done is None else done.to_json()})
    else:
        _print(file, found, done)
    return 0 if (found if done is None else done.after).ok else 1


def _print(file: str, found: Diagnosis, done: Repair | None) -> None:
    from rich.text import Text

    from snnir.cli.show import console

    out = console()
    out.print(Text(f"{file}: {_counts(found)}"), soft_wrap=True)
    by_rule: dict[str, list[Finding]] = {}
    for finding in found.findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    for group in by_rule.values():
        _print_rule(out, group)
    if done is None:
        return
    repairs = f"{len(done.deeds) or 'no'} repair{'s' if len(done.deeds) != 1 else ''}"
    out.print(Text(f"\n{done.output}: {repairs}"), soft_wrap=True)
    for deed in done.deeds:
        out.print(Text(f"  {deed.rule}  {deed.node}: {deed.did}" if deed.node else f"  {deed.rule}  {deed.did}"))
    left = [finding for finding in done.after.findings if finding.severity == "fault"]
    out.print(Text(f"{done.output}: {_counts(done.after)}"), soft_wrap=True)
    for finding in left:
        out.print(Text(f"  {finding.rule}  {_line(finding)}"))


def _counts(found: Diagnosis) -> str:
    counts = found.to_json()["counts"]
    said = [f"{n} {severity}{'s' if n != 1 else ''}" for severity, n in counts.items() if n]
    return ", ".join(said) or "nothing to say of it"


def _print_rule(out: Console, group: Sequence[Finding]) -> None:
    from rich.text import Text

    first = group[0]
    title = Text(f"\n{first.severity}  ", style=COLOURS[first.severity])
    out.print(title.append(first.rule, style="not bold default"))
    lines = [_line(finding) for finding in group[:MOST_NODES]]
    if len(group) > MOST_NODES:
        lines.append(f"and {len(group) - MOST_NODES} more")
    for line in lines:
        out.print(Text(_wrapped("  ", line, out.width)))
    todos = dict.fromkeys(finding.todo for finding in group)
    for head, texts in (("means", dict.fromkeys(f.meaning for f in group)), ("to do", todos)):
        for text in texts:
            fixed = "; --fix -o NEW.nir does it" if head == "to do" and any(f.fixable for f in group) else ""
            out.print(Text(_wrapped(f"  {head}  ", text + fixed, out.width), style="dim"))


def _wrapped(head: str, text: str, width: int) -> str:
    """A paragraph that hangs below its head."""
    from textwrap import fill

    return fill(head + text, max(40, width), subsequent_indent=" " * max(4, len(head)), break_on_hyphens=False)


def _line(finding: Finding) -> str:
    return f"{finding.node}: {finding.what}" if finding.node else finding.what
