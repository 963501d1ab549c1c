"""How snnir says no: one exception tree, and all the reasons at once.

A `Violation` is one reason: what, where, expected, what to do. A `CompileError` carries every violation that
was found; its text is what the command line prints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Violation:
    """One reason why something cannot be done.

    Attributes:
        rule: stable identifier of the rule, e.g. `xylo-input-channels` or `graph-cycle`.
        what: what is wrong, with the value found.
        where: the op (or file) it concerns; empty when it concerns the whole graph.
        loc: source location `file:line (module.path)`, when known.
        expected: the limit, or what would be accepted.
        hint: what to do about it.
    """

    rule: str
    what: str
    where: str = ""
    loc: str = ""
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        head = f"[{self.rule}] " + (f"{self.where}: " if self.where else "") + self.what
        lines = [head]
        if self.loc:
            lines.append(f"  at       {self.loc}")
        if self.expected:
            lines.append(f"  expected {self.expected}")
        if self.hint:
            lines.append(f"  help     {self.hint}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The violation as plain JSON data, one key per attribute."""
        return asdict(self)


class SnnirError(Exception):
    """Base of every error that snnir raises on purpose."""


class CompileError(SnnirError):
    """The source cannot be loaded, is not a sound graph, or cannot run on the target.

    Attributes:
        violations: every reason found, in graph order; never empty.
    """

    def __init__(self, violations: Iterable[Violation], title: str = "") -> None:
        self.violations: tuple[Violation, ...] = tuple(violations)
        self.title = title or f"{len(self.violations)} violation{'s' if len(self.violations) != 1 else ''}"
        head = [] if self.title == "error" else [self.title + ":"]  # the one violation says it all
        super().__init__("\n".join([*head, *(str(v) for v in self.violations)]))


class UsageError(SnnirError):
    """The call itself is wrong: an unknown target, pass or option (exit status 2)."""


WITHOUT_REQUIREMENTS = {"norse": "1.1.0", "sinabs": "3.1.3", "spikingjelly": "2.0.0"}
"""Packages whose extras of the same name hold what they import, not them: what they ask for can replace a build of
PyTorch (torchvision) or of nir. The versions are the tested ones."""


def install_command(extra: str) -> str:
    """The command that installs what an extra of snnir stands for, and leaves the PyTorch that is there as it is."""
    command = f"pip install 'snnir[{extra}]'"
    version = WITHOUT_REQUIREMENTS.get(extra)
    return command if version is None else f"{command} && pip install --no-deps {extra}=={version}"


class MissingPackageError(SnnirError):
    """A target needs a package that is not installed (exit status 3)."""

    def __init__(self, package: str, extra: str, why: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{why} needs the package {package!r}: {install_command(extra)}")


def did_you_mean(names: Iterable[str], known: Iterable[str]) -> str:
    """The known names that were likely meant by others, as ' (did you mean ...?)'; '' for none."""
    from difflib import get_close_matches

    known = list(known)
    meant = list(dict.fromkeys(near for name in names for near in get_close_matches(name, known, n=1)))
    return f" (did you mean {', '.join(meant)}?)" if meant else ""


def there_are(names: Iterable[str], known: Iterable[str]) -> str:
    """What a message about unknown names ends with: the names that were likely meant, and those that exist."""
    known = list(known)
    return f"{did_you_mean(names, known)}; there are {', '.join(known)}"


def fail(rule: str, what: str, **fields: str) -> CompileError:
    """A `CompileError` with a single violation, ready to be raised."""
    return CompileError([Violation(rule, what, **fields)], title="error")
