"""`snnir compile`: a network into the files of one or several targets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snnir.cli.common import (
    check_chips,
    check_source_options,
    debug_option,
    dt_option,
    format_option,
    key_value,
    load_source,
    npz_option,
    passes_option,
    places_of,
    progress,
    read_arrays,
    source_argument,
    source_option,
    targets_option,
)
from snnir.cli.wrong_usage import WrongUsage

if TYPE_CHECKING:
    from snnir.compiler import CompileResult
    from snnir.errors import CompileError
    from snnir.pipeline import Step

SHOWN_NOTES = 6  # of a pass, per kind; JSON has them all


OPTION_HELP = "Option of a target, or of one of several; `snnir targets NAME` lists those of a target."


@click.command("compile")
@source_argument
@targets_option("-t", "--target", text="Targets to compile for (`snnir targets` lists them).")
@click.option("-o", "--output", required=True, metavar="DIR", help="New folder; with several targets, DIR/<target>.")
@click.option(
    "--host",
    type=click.Choice(["torch", "onnx"]),
    help="Cut the network: what the target, a chip, cannot run goes here (docs/placement.md).",
)
@click.option(
    "--place",
    multiple=True,
    metavar="OP=chip|host",
    help="With --host: where an op, or all that a pattern like 'blocks.0.*' names, has to run.",
)
@click.option(
    "--chips",
    metavar="auto|N",
    help="Spread the network, with --host each of its chip parts, over several chips of the target, N at most; one if "
    "that holds it (docs/placement.md).",
)
@click.option("--dump-placement", is_flag=True, help="With --host or --chips: print what went where, and why.")
@passes_option("Passes to run before the target's own, e.g. 'fold-batch-norm,fuse-linear{max_growth=4}'.")
@dt_option
@npz_option("--calibrate", "Recorded input (T, B, *shape) that quantising targets measure with.")
@click.option("--verify-passes", is_flag=True, help="Run the network before and after every pass and compare.")
@click.option("--time-passes", is_flag=True, help="Show how long every pass took.")
@click.option("--print-after", metavar="PASS|all", help="Print the graph after this pass, on stderr.")
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice(["approximate"]),
    help="Let a target run what it cannot run exactly; the report says how far off it is.",
)
@click.option("-O", "--option", "options", multiple=True, metavar="[TARGET:]KEY=VALUE", help=OPTION_HELP)
@source_option
@click.option("--force", is_flag=True, help="Replace DIR where snnir has written it.")
@format_option
@debug_option
def compile_command(
    source: str,
    targets: tuple[str, ...],
    output: str,
    host: str | None,
    place: tuple[str, ...],
    chips: str | None,
    dump_placement: bool,
    passes: str | None,
    dt: float | None,
    calibrate: str | None,
    verify_passes: bool,
    time_passes: bool,
    print_after: str | None,
    allow: tuple[str, ...],
    options: tuple[str, ...],
    source_options: dict[str, Any],
    force: bool,
    output_format: str,
) -> int:
    """Compile SRC for one or several targets.

    All or nothing: where one target cannot take the network, nothing is written, and everything that stands in the way
    on every target is shown at once.

    \b
    Examples:
      snnir compile model.py -t norse,snntorch,nir -o out
      snnir compile net.nir --dt 1e-3 -t xylo-audio3 --calibrate x.npz -o chip
      snnir compile model.py -t lava -O conv=matrix -o out
    """
    from snnir.compiler import prepare, save_all
    from snnir.errors import CompileError

    wrong = WrongUsage()
    settings = _settings(options, targets, wrong)
    _check_targets(targets, settings, host, chips, wrong)
    places: dict[str, Any] = {}
    with wrong.part():
        places = places_of(place, host)
    with wrong.part():
        if dump_placement and host is None and chips is None:
            raise click.UsageError("--dump-placement needs --host or --chips: without them nothing is placed")
    with wrong.part():
        check_source_options(source, source_options)
    with wrong.part():
        _check_passes(passes)
    hook: Callable[[Step], None] | None = None
    with wrong.part():
        hook = _printer(print_after)
    with wrong.part():
        if not output.strip():
            raise click.BadParameter("is empty, expected the name of a folder", param_hint="-o")
    wrong.stop()
    _check_output(output, force)
    graph = load_source(source, dt, source_options)
    recorded = read_arrays(calibrate, graph)
    results: dict[str, CompileResult] = {}
    refused: dict[str, CompileError] = {}
    try:
        with progress("running the passes"):
            prepared = prepare(
                graph, passes=passes, calibrate=recorded, verify_passes=verify_passes, allow=allow, hook=hook
            )
        del graph
    except CompileError as error:
        refused = dict.fromkeys(targets, error)
    for target in () if refused else targets:
        try:
            with progress(f"compiling for {target}"):
                if host is not None:
                    results[target] = prepared.partition(target, host, places, chips or 1, **settings[target])
                elif chips is not None:
                    results[target] = prepared.spread(target, chips, **settings[target])
                else:
                    results[target] = prepared.compile(target, **settings[target])
        except CompileError as error:
            refused[target] = error
    if refused:
        return _refuse(source, targets, refused, output_format)
    with progress(f"writing {output}"):
        inner = {target: target if len(targets) > 1 else "" for target in targets}
        save_all({inner[target]: result for target, result in results.items()}, output, force)
    folders = {target: str(Path(output, inner[target])) for target in targets}
    if output_format == "json":
        _print_json(source, results, folders)
    else:
        for target, result in results.items():
            _print_text(source, result, folders[target], time_passes)
    if dump_placement:
        for target, result in results.items():  # JSON keeps stdout to itself
            click.echo(_placed(target, result), err=output_format == "json")
    return 0


def _check_output(output: str, force: bool) -> None:
    """Says at once, not after minutes of work, that the folder cannot become ours."""
    from snnir.artifact import check_free

    check_free(Path(output), force)


def _settings(options: tuple[str, ...], targets: tuple[str, ...], wrong: WrongUsage) -> dict[str, dict[str, Any]]:
    """The options of each target, from KEY=VALUE (all targets) and TARGET:KEY=VALUE (one)."""
    found: dict[str, dict[str, Any]] = {target: {} for target in targets}
    for item in options:
        with wrong.part():
            key, _, _ = item.partition("=")
            target, colon, _ = key.rpartition(":")
            name, value = key_value(item.removeprefix(f"{target}:") if colon else item, "-O")
            if name in _RESERVED:
                raise click.BadParameter(f"{name} is set by --{name.replace('_', '-')}", param_hint="-O")
            if colon and target not in found:
                raise click.BadParameter(f"{item!r} names {target}, which is not compiled for", param_hint="-O")
            for chosen in [target] if colon else targets:
                found[chosen][name] = value
    return found


def _check_targets(
    targets: tuple[str, ...],
    settings: Mapping[str, Mapping[str, Any]],
    host: str | None,
    chips: str | None,
    wrong: WrongUsage,
) -> None:
    """Whether each target can be given its options, a host, several chips: known before the source has been read."""
    from snnir.registry import backend
    from snnir.target import check_options

    with wrong.part():
        check_chips(chips)
    for target in targets:
        chosen = backend(target)
        with wrong.part():
            check_options(chosen, settings[target])
        with wrong.part():
            if host is not None:
                from snnir.placement.fitting import check_alone

                check_alone(chosen.target, settings[target])
        with wrong.part():
            if chips is not None and (host is None or chips != "1"):
                from snnir.placement.chips.spread import require_chips

                require_chips(chosen)


def _check_passes(passes: str | None) -> None:
    if passes:
        from snnir.pipeline import parse_pipeline

        parse_pipeline(passes)


# Of partitions: for machines, or said otherwise.
_DATA = ("measured", "part_reports", "misfits", "crossings", "streamed_latency")
_RESERVED = frozenset(
    {"passes", "dt", "calibrate", "verify_passes", "allow", "hook", "target", "source", "semantics"}
    | {"host", "place", "chips"}
)


def _printer(print_after: str | None) -> Callable[[Step], None] | None:
    if print_after is None:
        return None
    if print_after != "all":
        from snnir.pipeline import pass_class

        pass_class(print_after)  # a name that no pass has is wrong usage, said before any work

    def hook(step: Step) -> None:
        if print_after in ("all", step.pass_.name):
            same = "unchanged" if step.after is step.before else f"{len(step.before)} -> {len(step.after)} ops"
            click.echo(f"// after {step.pass_}: {same}\n{step.after}", err=True)

    return hook


def _refuse(source: str, targets: tuple[str, ...], refused: Mapping[str, CompileError], output_format: str) -> int:
    from snnir.cli.show import print_json, print_violations

    found = [(target, v) for target, error in refused.items() for v in error.violations]
    if output_format == "json":
        verdicts = {
            target: {"ok": target not in refused, "violations": [v.to_json() for t, v in found if t == target]}
            for target in targets
        }
        print_json("compile", {"ok": False, "source": source, "targets": verdicts})
    different = {id(error): error for error in refused.values()}  # a pass that fails does so for all targets at once
    only = next(iter(different.values())) if len(different) == 1 else None
    title = only.title if only is not None else f"{len(refused)} of {len(targets)} targets cannot take {source}"
    print_violations(title, found if only is None else [("", v) for v in only.violations])
    click.echo("nothing was written", err=True)
    return 1


def _print_json(source: str, results: Mapping[str, CompileResult], folders: Mapping[str, str]) -> None:
    from snnir.cli.show import print_json

    made = {
        target: {
            "ok": True,
            "violations": [],
            "folder": folders[target],
            "files": _files(folders[target]),
            "latency": result.latency,
            "report": result.report,
        }
        for target, result in results.items()
    }
    print_json("compile", {"ok": True, "source": source, "targets": made})


def _files(folder: str) -> list[str]:
    """All files of an artifact, as paths within it."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def _print_text(source: str, result: CompileResult, folder: str, time_passes: bool) -> None:
    from snnir.cli.facts import print_facts, print_wrapped

    steps = (
        f"outputs {result.latency} step{'s' if result.latency != 1 else ''} late" if result.latency else "no latency"
    )
    click.echo(f"{source} for {result.target}: {len(result.source)} ops -> {len(result.graph)} ops, {steps}")
    idle: list[str] = []
    for step in result.report.get("passes", ()):
        if step.get("notes") or time_passes:
            _print_step(step, time_passes)
        else:
            idle.append(step["pass"])
    if idle:
        print_wrapped([f"nothing to do for {', '.join(idle)}"], inset=2)
    print_facts(result.report, ("target", "pipeline", "passes", "ops", "latency", *_DATA))
    click.echo(f"  written to {folder}")
    for path in _listed(_files(folder)) if "part_reports" not in result.report else ["run.py"]:
        click.echo(f"    {Path(folder)}{os.sep}{path}")


def _placed(target: str, result: CompileResult) -> str:
    """The placement of a result, as wide as the terminal."""
    from snnir.cli.show import console
    from snnir.placement import describe
    from snnir.placement.chips import Spread
    from snnir.placement.chips import describe as describe_chips

    placed = getattr(result.artifact, "placement", None)
    width = console().width
    if placed is None:
        return f"one {target} chip holds the network: nothing is cut"
    if isinstance(placed, Spread):
        return describe_chips.text(placed, width)
    return describe.text(placed, width)


def _listed(files: list[str]) -> list[str]:
    """The files of a folder, those of its own folders counted."""
    inside = Counter(path.partition(os.sep)[0] for path in files if os.sep in path)
    own = [path for path in files if os.sep not in path]
    return sorted([*own, *(f"{name}{os.sep} ({n} file{'s' if n != 1 else ''})" for name, n in inside.items())])


def _print_step(step: Mapping[str, Any], time_passes: bool) -> None:
    from snnir.cli.facts import print_wrapped

    notes = step.get("notes", ())
    changed = [note for note in notes if note["kind"] == "did"]
    took = f", {step['seconds'] * 1e3:.1f} ms" if time_passes else ""
    ops = f"{step['ops_before']} -> {step['ops_after']} ops" if changed else "nothing to do"
    click.echo(f"  {step['pass']} ({step['keeps']}{took}): {ops}")
    for kind, word in (("did", ""), ("declined", "left alone: ")):
        some = [note for note in notes if note["kind"] == kind]
        for note in some[:SHOWN_NOTES]:
            said = "" if ": " in note["text"] else word  # the text says itself what was not done, and then why
            print_wrapped([f"{note['where']}: {said}{note['text']}"])
        if len(some) > SHOWN_NOTES:
            print_wrapped([f"... and {len(some) - SHOWN_NOTES} more of these"])
