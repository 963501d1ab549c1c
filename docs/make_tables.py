"""Writes the tables of targets and passes into README.md and docs/targets.md, from the code's own tables.

python docs/make_tables.py           # rewrite
python docs/make_tables.py --check   # exit 1 if a file is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from textwrap import wrap

from snnir.ops import NIR_OPS, SNN_OPS, Op
from snnir.pipeline import PASSES, pass_class
from snnir.registry import backend, backend_names
from snnir.target import Target

ROOT = Path(__file__).parents[1]


def targets() -> list[Target]:
    """Every target, in the registry's order."""
    return [backend(name).target for name in backend_names()]


def short_table() -> str:
    """One row per target: for the README."""
    rows = ["| target | what it is | runs on | NIR ops | snn ops | reset | one step |", "|---|---|---|---|---|---|---|"]
    for target in targets():
        floats = target.semantics.number_format.startswith("float")
        reset = "value, subtract" if floats else target.semantics.reset
        rule = "the network's, exactly" if floats else f"{target.semantics.number_format}, bit-exact simulator"
        runs = f"`{target.package}`" if target.package else "snnir itself"
        rows.append(
            f"| `{target.name}` | {target.title} | {runs} | {_share(target, NIR_OPS)} | {_share(target, SNN_OPS)} "
            f"| {reset} | {rule} |"
        )
    return "\n".join(rows)


def _share(target: Target, kinds: tuple[type[Op], ...]) -> str:
    taken = sum(kind in target.ops for kind in kinds)
    return "all" if taken == len(kinds) else f"{taken} of {len(kinds)}" if taken else "lowered, or refused"


def op_table() -> str:
    """Ops by targets: which op reaches which target after that target's own passes."""
    every = targets()
    rows = [
        "| op | dialect | " + " | ".join(f"`{t.name}`" for t in every) + " |",
        "|---|---|" + "---|" * len(every),
    ]
    for kind in (*NIR_OPS, *SNN_OPS):
        marks = " | ".join("yes" if kind in t.ops else "" for t in every)
        rows.append(f"| {kind.__name__} | {kind.dialect} | {marks} |")
    return "\n".join(rows)


def limits_table() -> str:
    """The limits of the chips."""
    lines = []
    for target in targets():
        if not target.limits:
            continue
        lines += [f"### `{target.name}`: {target.title}", "", "| limit | value |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in target.limits.items()] + [""]
        if target.rules:
            lines += ["Design rules, all checked and reported together:", ""]
            rules = [f"* `{rule.__name__}`: {_first_line(rule.__doc__)}" for rule in target.rules]
            lines += [line for rule in rules for line in wrap(rule, 120, subsequent_indent="  ")] + [""]
    return "\n".join(lines).rstrip()


def pass_table() -> str:
    """Every pass with what it keeps."""
    rows = ["| pass | keeps | what it does |", "|---|---|---|"]
    for name in PASSES:
        made = pass_class(name)
        rows.append(f"| `{name}` | {made.keeps} | {_first_line(made.__doc__)} |")
    return "\n".join(rows)


def _first_line(doc: str | None) -> str:
    return " ".join((doc or "").strip().split("\n\n")[0].split()).replace("|", "\\|")


FILES = {
    "README.md": {"targets": short_table, "passes": pass_table},
    "docs/targets.md": {"targets": short_table, "ops": op_table, "limits": limits_table},
}


def main() -> int:
    """Rewrites or checks the blocks between `<!-- name -->` and `<!-- /name -->`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, tables in FILES.items():
        path = ROOT / name
        old = new = path.read_text()
        for block, table in tables.items():
            pattern = re.compile(rf"(<!-- {block} -->\n).*?(<!-- /{block} -->)", re.DOTALL)
            if not pattern.search(new):
                sys.exit(f"{name} has no block <!-- {block} -->")
            new = pattern.sub(lambda m, t=table: f"{m[1]}{t()}\n{m[2]}", new)
        if new != old:
            stale.append(name)
            if not check:
                path.write_text(new)
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run python docs/make_tables.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
