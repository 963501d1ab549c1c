"""`snnir passes`: the passes and their options, from the code's own table."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import complete_names, debug_option, format_option

if TYPE_CHECKING:
    from snnir.pipeline import Pass


def _names() -> Iterable[str]:
    from snnir.pipeline import PASSES

    return PASSES


@click.command("passes")
@click.argument("name", required=False, shell_complete=complete_names(_names))
@format_option
@debug_option
def passes_command(name: str | None, output_format: str) -> int:
    """List the passes, or explain the pass NAME.

    \b
    Example:
      snnir passes fuse-linear
    """
    from snnir.cli.show import cells, console, print_json, table
    from snnir.pipeline import PASSES, pass_class

    found = [_describe(pass_class(each)) for each in ([name] if name else PASSES)]
    if output_format == "json":
        print_json("passes", {"passes": found})
    elif name is None:
        listing = table("pass", "keeps", "options", "what it does")
        for each in found:
            options = ", ".join(f"{o['name']}={o['default']}" for o in each["options"])
            listing.add_row(*cells(each["name"], each["keeps"], options, each["doc"].partition("\n")[0]))
        console().print(listing)
    else:
        (each,) = found
        click.echo(f"{each['name']}: keeps {_KEEPS[each['keeps']]}")
        click.echo(f"\n{each['doc']}\n")
        for option in each["options"]:
            default = "" if option["default"] is None else f" (default {option['default']})"
            click.echo(f"  {option['name']}: {option['type']}{default}")
        inside = ",".join(f"{o['name']}={o['default']}" for o in each["options"])
        click.echo(f"on the command line: -p '{each['name']}{f'{{{inside}}}' if inside else ''}'")
    return 0


_KEEPS = {
    "exact": "everything: outputs are the same up to rounding",
    "spikes": "the spikes of the outputs",
    "approximate": "the network only approximately",
}


def _describe(cls: type[Pass]) -> dict[str, Any]:
    from dataclasses import MISSING, fields
    from typing import get_type_hints

    from snnir.pipeline import kind_text, value_text

    hints = get_type_hints(cls)
    options = [
        {
            "name": f.name,
            "type": kind_text(hints[f.name]),
            "default": None if f.default is MISSING else value_text(f.default),
        }
        for f in fields(cls)
    ]
    return {"name": cls.name, "keeps": cls.keeps, "doc": cleandoc(cls.__doc__ or ""), "options": options}
