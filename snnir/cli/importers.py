"""How `snnir validate --against-importer` looks: an importer's verdict, its faults, what it refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from snnir.importers import ImporterVerdict


def importers_option(command: Any) -> Any:
    """Adds --against-importer; completed by the shell."""
    from click.shell_completion import CompletionItem

    def complete(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
        from snnir.importers import importer_names

        *done, last = typed.split(",")
        head = "".join(f"{name}," for name in done)
        return [CompletionItem(head + n) for n in importer_names() if n.startswith(last) and n not in done]

    return click.option(
        "--against-importer",
        "importers",
        multiple=True,
        metavar="F[,F]",
        callback=_names,
        shell_complete=complete,
        help="Run these frameworks' own from_nir on SRC's NIR file and name what they get wrong: norse, snntorch, "
        "sinabs, spikingjelly, rockpool, or all.",
    )(command)


def _names(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        return ()
    from snnir.errors import there_are
    from snnir.importers import importer_names

    there = importer_names()
    names = tuple(dict.fromkeys(name.strip() for item in value for name in item.split(",") if name.strip()))
    if "all" in names:
        return there
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        said = f"no importer {', '.join(unknown)}" if unknown else "no importer is named"
        raise click.BadParameter(said + there_are(unknown, (*there, "all")), context, parameter)
    return names


def print_importer(v: ImporterVerdict) -> None:
    """One importer's verdict as text."""
    from rich.padding import Padding
    from rich.text import Text

    from snnir.cli.show import cells, console, count, table

    out = console()
    others = ", ".join(f"{name} {number}" for name, number in v.versions.items() if name != v.importer)
    out.print(Text(f"{v.importer} {v.versions[v.importer]} ({others}): {v.call}", style="bold"))
    line = Text(v.verdict, style="green" if v.ok else "bold red")
    if v.error:
        line.append(f": {v.error}", style="not bold default")
    if v.places:
        line.append(f"{';' if v.error else ':'} {_differing(v)}", style="not bold default")
    out.print(line)
    if v.faults:
        listing = table("fault", "what", "places", right=("places",))
        for fault in v.faults:
            listing.add_row(*cells(fault.kind, fault.what, "-" if fault.places is None else count(fault.places)))
        out.print(listing)
        for fault in v.faults:
            if fault.evidence:
                out.print(Padding(Text(f"{fault.kind}: {fault.evidence}", style="dim"), (0, 0, 0, 2), expand=False))
    if v.refused:
        listing = table("node it refuses", "kind", "its words")
        for refusal in v.refused:
            listing.add_row(*cells(refusal.where, refusal.kind, refusal.error))
        out.print(listing)
    for text in _ends(v):
        out.print(Text(text))


def _differing(v: ImporterVerdict) -> str:
    if v.shape is not None:
        return f"it returns shape {list(v.shape[1])}, the file's output has {list(v.shape[0])}"
    return f"{v.differing:,} of {v.places:,} places of the output differ"


def _ends(v: ImporterVerdict) -> list[str]:
    lines: list[str] = []
    if v.explained is not None and v.faults:
        share = "all" if v.explained == v.returned else f"{v.explained:,} of"
        lines.append(f"put together, these faults give the importer's own output in {share} {v.returned:,} places")
    elif v.faults and v.places:
        lines.append("put together, these faults do not yet give the importer's own output")
    if any(fault.places is not None for fault in v.faults):
        lines.append("places: of the output, that differ when this fault is the only one (-: the shape differs)")
    return [*lines, *(f"note: {note}" for note in v.notes)]
