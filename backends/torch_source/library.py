"""Reads code that is meant to be copied into emitted files: one class or function by name, or a whole file's body."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def _segments(path: Path) -> dict[str, tuple[str, ast.AST]]:
    source = path.read_text(encoding="utf-8")
    found: dict[str, tuple[str, ast.AST]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found[node.name] = (ast.get_source_segment(source, node) or "", node)
    return found


PARTS = [Path(__file__).with_name(name) for name in ("parts.py", "token_parts.py")]


def with_needs(names: list[str]) -> dict[str, str]:
    """The source of the named classes and functions of `PARTS`, and of those they use: name -> text, needs first."""
    there = {name: segment for path in PARTS for name, segment in _segments(path).items()}
    found: dict[str, str] = {}

    def take(name: str) -> None:
        if name in found:
            return
        text, node = there[name]
        for used in ast.walk(node):
            if isinstance(used, ast.Name) and used.id in there and used.id != name:
                take(used.id)
        found[name] = text

    for name in names:
        take(name)
    return found


def body(path: Path) -> tuple[list[str], str, str]:
    """A file as its import lines, its docstring, and all that follows the imports."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    lines = [ast.unparse(node) for node in imports]
    end = max((node.end_lineno or 0 for node in imports), default=0)
    rest = "\n".join(source.splitlines()[end:]).strip("\n")
    return lines, ast.get_docstring(tree) or "", rest


def names(source: str) -> set[str]:
    """The names that a module binds at its top level."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


def used(source: str) -> set[str]:
    """The names that a module reads anywhere."""
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
