"""`snnir targets`: what can be compiled for, from the code's own tables."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import complete_names, debug_option, format_option

if TYPE_CHECKING:
    from snnir.target import Rule, Target


def _names() -> Iterable[str]:
    from snnir.registry import backend_names

    return backend_names()


@click.command("targets", short_help="List the targets, or show all about target T.")
@click.argument("name", metavar="[T]", required=False, shell_complete=complete_names(_names))
@click.option(
    "--setup",
    "folder",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Make the environment that T's framework needs of its own (lava: Python 3.10), in DIR or in the user's cache.",
)
@click.option("--python", metavar="PATH", help="The Python that --setup makes it of; otherwise it looks for one.")
@format_option
@debug_option
def targets_command(name: str | None, folder: str | None, python: str | None, output_format: str) -> int:
    """List the targets, or all about target T: ops, semantics, options, limits, design rules.

    \b
    Examples:
      snnir targets xylo-audio3
      snnir targets lava --setup
    """
    from snnir.cli.show import print_json
    from snnir.registry import backend, backend_names

    if python is not None and folder is None:
        raise click.UsageError("--python goes with --setup")
    if folder is not None:
        _set_up(name, folder, python)
    found = [backend(each).target for each in ([name] if name else backend_names())]
    if output_format == "json":
        others = {"frameworks": _frameworks()} if name is None else {}
        print_json("targets", {"targets": [_describe(target) for target in found], **others})
    elif folder is not None:
        pass  # it has been said what was set up
    elif name is None:
        _print_list(found)
        _print_frameworks()
    else:
        _print_one(_describe(found[0]))
    return 0


def _set_up(name: str | None, folder: str, python: str | None) -> None:
    from snnir.cli.common import progress
    from snnir.registry import ENVIRONMENTS, environment

    own = environment(name) if name else None
    if own is None:
        there = ", ".join(ENVIRONMENTS)
        raise click.UsageError(f"--setup goes with a target that needs an environment of its own: {there}")
    with progress(f"setting up the environment of {name}"):
        own.set_up(folder or None, python, lambda text: click.echo(text, err=True))


def _describe(target: Target) -> dict[str, Any]:
    from snnir.errors import install_command
    from snnir.registry import environment, installed

    own = environment(target.name)
    return {
        "name": target.name,
        "title": target.title,
        "package": target.package,
        "extra": target.extra,
        "installed": installed(target),
        "install": None if target.extra is None else install_command(target.extra),
        "environment": None if own is None else own.state(),
        "ops": sorted(op.__name__ for op in target.ops),
        "semantics": target.semantics.to_json(),
        "adapts": sorted(target.adapts),
        "limits": dict(target.limits),
        "options": [{"name": option, "doc": doc} for option, doc in target.options.items()],
        "rules": [{"name": _rule_name(rule), "doc": _first_line(rule)} for rule in target.rules],
    }


def _rule_name(rule: Rule) -> str:
    return _function(rule).__name__.strip("_").replace("_", "-")


def _first_line(rule: Rule) -> str:
    """The first paragraph of a rule's docstring, in one line."""
    return " ".join(cleandoc(_function(rule).__doc__ or "").partition("\n\n")[0].split())


def _function(rule: Any) -> Any:
    """The function behind a rule: a rule with bound arguments is told by what it binds."""
    while hasattr(rule, "func"):
        rule = rule.func
    return rule if hasattr(rule, "__name__") else type(rule)


_SHOWN = {
    "decay": "decay",
    "gain": "gain",
    "comparison": "spike",
    "reset": "reset",
    "spikes_per_step": "spikes",
    "latency_neuron": "latency",
    "start": "start",
    "number_format": "numbers",
}
NARROW = 100  # columns that all of these take
_LEFT_OUT = ("start", "number_format")


def _frameworks() -> list[dict[str, Any]]:
    """The records of `snnir.frameworks`, as JSON data."""
    from snnir.frameworks import FRAMEWORKS

    return [
        {
            "name": name,
            "title": record.title,
            "version": record.version,
            "semantics": record.semantics.to_json(),
            "options": {option: list(values) for option, values in record.options.items()},
            "note": record.note,
            "module": record.module,
        }
        for name, record in FRAMEWORKS.items()
    ]


def _print_frameworks() -> None:
    from rich.text import Text

    from snnir.cli.show import cells, console, table

    out = console()
    narrow = out.width < NARROW
    shown = {field: title for field, title in _SHOWN.items() if not (narrow and field in _LEFT_OUT)}
    listing = table("a step in", *shown.values())
    listing.columns[1 + list(shown).index("reset")].no_wrap = True  # names wrap before this does
    for record in _frameworks():
        values = [record["semantics"][field] for field in shown]
        listing.add_row(*cells(f"{record['title']} {record['version']}", *("any" if v is None else v for v in values)))
    out.print(Text("\nWhat a step means in each simulator, by default (snnir.semantics_of gives it as data):"))
    out.print(listing)
    if narrow:
        out.print(Text(f"not shown for want of room: {', '.join(_SHOWN[field] for field in _LEFT_OUT)}"))


def _print_list(found: list[Target]) -> None:
    from rich.text import Text

    from snnir.cli.show import cells, console, table
    from snnir.errors import install_command
    from snnir.registry import installed

    missing: list[str] = []
    listing = table("target", "what it is", "ops", "rules", "runs here", right=("ops", "rules"))
    for target in found:
        if installed(target):
            state = Text("yes" if target.package is None else f"yes ({target.package})", style="green")
        else:
            state = Text("missing", style="yellow")
            missing.append(install_command(target.extra or target.name))
        listing.add_row(*cells(target.name, target.title, len(target.ops), len(target.rules), state))
    out = console()
    out.print(listing)
    if missing:
        out.print(Text("\nWhat is missing is installed by"))
    for command in dict.fromkeys(missing):
        out.print(Text(f"  {command}", style="yellow"), soft_wrap=True)  # a command to copy stays in one line


FOLLOWED = "followed, converted, or judged by a design rule"
NAME_WIDTH = 34  # of limits; longer names wrap


def _print_one(data: dict[str, Any]) -> None:
    from rich.text import Text

    from snnir.cli.show import cells, console, table

    package = "runs without other packages"
    if data["package"]:
        state = "installed" if data["installed"] else f"missing: {data['install']}"
        package = f"runs with {data['package']} ({state})"
    out = console()
    out.print(Text(f"{data['name']}: {data['title']}", style="bold"))
    out.print(Text(package), soft_wrap=True)
    if data["environment"]:
        out.print(Text(data["environment"]["says"]))
    out.print(Text())
    out.print(Text(f"ops, after the target's own passes: {', '.join(data['ops'])}\n"))
    fields = {field: value for field, value in data["semantics"].items() if field != "dt"}
    refuses = any(field not in data["adapts"] for field in fields)
    listing = table("in a step", "it does", *(("a network that means otherwise",) if refuses else ()))
    for field, value in fields.items():
        shown = {None: "-", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else value
        otherwise = FOLLOWED if field in data["adapts"] else "refused"
        listing.add_row(*cells(field, shown, *((otherwise,) if refuses else ())))
    out.print(listing)
    if not refuses:
        out.print(Text(f"\na network that means otherwise is {FOLLOWED}"))
    for title, rows in (
        ("option (-O NAME=VALUE)", [(option["name"], option["doc"]) for option in data["options"]]),
        ("limit", list(data["limits"].items())),
        ("design rule", [(rule["name"], rule["doc"]) for rule in data["rules"]]),
    ):
        if rows:
            listing = table(title, "")
            listing.columns[0].max_width = NAME_WIDTH
            for row in rows:
                listing.add_row(*cells(*row))
            out.print(Text())
            out.print(listing)
