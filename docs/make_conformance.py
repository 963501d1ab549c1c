"""Writes the generated parts of docs/conformance.md: the cases, and what targets and frameworks' own importers score.

python docs/make_conformance.py              # run everything and rewrite (a minute or two)
python docs/make_conformance.py --check      # exit 1 if the cases or the importers' scores are out of date
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.importer_adapters import ADAPTERS  # noqa: E402
from snnir.conformance import Score, cases, check_adapter, check_target  # noqa: E402
from snnir.conformance.suite import GROUPS  # noqa: E402
from snnir.registry import backend_names  # noqa: E402

PAGE = ROOT / "docs" / "conformance.md"
TITLES = {"norse": "Norse", "snntorch": "snnTorch", "sinabs": "sinabs", "spikingjelly": "SpikingJelly"}
TIMEOUT = 10.0  # seconds: nirtorch never comes back from two outputs
# nirtorch's executor goes through a set of nodes, so what a file with an unknown node becomes differs from run to run.
UNSTEADY = {(name, case): "or a crash, it changes" for name in ("norse", "sinabs") for case in ("scale", "delay")}
HEAD = "| | exact | not exact: quantised | refused | crashed | silently wrong |\n|---|---|---|---|---|---|"


def case_table() -> str:
    """Every case in a row."""
    rows = ["| case | group | probes | mistakes that it names |", "|---|---|---|---|"]
    rows += [f"| `{c.name}` | {c.group} | {c.probes} | {'; '.join(c.mistakes)} |" for c in cases()]
    return "\n".join(rows)


def target_scores() -> str:
    """Every target of snnir in a row."""
    rows = [HEAD]
    for name in backend_names():
        rows.append(_row(f"`{name}`", check_target(name)))
    return "\n".join(rows)


def importer_scores() -> tuple[str, str]:
    """Every importer in a row; and every case with the verdict of each."""
    for adapter in ADAPTERS.values():
        check_adapter(adapter, cases(["lif"]))  # imports the framework, on nobody's time
    scores = {name: _steady(name, check_adapter(adapter, timeout=TIMEOUT)) for name, adapter in ADAPTERS.items()}
    rows = [HEAD, *(_row(f"{TITLES[n]} {version(n)}", score) for n, score in scores.items())]
    per_case = ["| case | " + " | ".join(TITLES[n] for n in scores) + " |", "|---|" + "---|" * len(scores)]
    for k, case in enumerate(cases()):
        if case.group == "core":
            per_case.append(f"| `{case.name}` | " + " | ".join(_cell(s, k) for s in scores.values()) + " |")
    return "\n".join(rows), "\n".join(per_case)


def _steady(name: str, score: Score) -> Score:
    """Counts as wrong what is wrong in one run and crashes in the next."""
    verdicts = tuple(
        replace(v, verdict="wrong", looks_like=UNSTEADY[name, v.case]) if (name, v.case) in UNSTEADY else v
        for v in score.verdicts
    )
    return replace(score, verdicts=verdicts)


def _row(title: str, score: Score) -> str:
    words = [score.count(word) for word in ("exact", "quantised", "refused", "crashed", "wrong")]  # type: ignore[arg-type]
    split = " + ".join(str(score.count("exact", group)) for group in GROUPS)
    return f"| {title} | {words[0]} ({split}) | " + " | ".join(str(n) for n in words[1:]) + " |"


def _cell(score: Score, k: int) -> str:
    found = score.verdicts[k]
    if found.verdict == "exact":
        return "exact"
    if found.verdict == "wrong":
        return f"**wrong**: {found.looks_like}" if found.looks_like else "**wrong**"
    return found.verdict


def written(page: str, parts: dict[str, str]) -> str:
    """The page with its generated parts replaced."""
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        page = re.sub(f"{begin}.*?{end}", lambda _, t=f"{begin}\n{text}\n{end}": t, page, flags=re.DOTALL)
    return page


def fresh_parts() -> dict[str, str]:
    """What can be checked quickly: the cases, and the importers."""
    summary, per_case = importer_scores()
    return {"cases": case_table(), "importers": summary, "importers by case": per_case}


def main() -> int:
    """Rewrites the page, or checks it."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # on which some of nirtorch's results depend
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    page = PAGE.read_text()
    if "--check" in sys.argv:
        fresh = written(page, fresh_parts())
        stale = [line for line in fresh.splitlines() if line not in page.splitlines()]
        print("\n".join(stale))
        return 0 if fresh == page else 1
    PAGE.write_text(written(page, {**fresh_parts(), "targets": target_scores()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
