"""SDiT as published has no form in NIR: it is said why, by kind of op, with the lines of the model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.errors import CompileError
from snnir.graph import chain
from snnir.models import sdit

ROOT = Path(__file__).parents[2]


def refused(graph: snnir.Graph) -> list[snnir.Violation]:
    with pytest.raises(CompileError) as caught:
        snnir.compile(graph, "nir")
    assert {v.rule for v in caught.value.violations} == {"nir-op"}
    return list(caught.value.violations)


def test_blockers_come_first_each_once_with_why_and_with_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    violations = refused(snnir.load("models/sdit.py", preset="digits"))
    kinds = [re.match(r"[A-Z]\w+( [a-z]\w*(?= is a function))?", v.what) for v in violations]
    first = [kind.group() for kind in kinds if kind][:6]
    assert set(first) == {
        "LayerNorm",
        "Wkv",
        "Multiply",
        "Activation sigmoid",
        "Activation relu2",
        "Activation silu",
    }
    by_kind = dict(zip(first, violations, strict=False))
    assert by_kind["Wkv"].what.endswith("divides, and NIR has neither (3 ops)")
    assert by_kind["Wkv"].where == ("blocks_in.0.time_mix.wkv, block_middle.time_mix.wkv, blocks_out.0.time_mix.wkv")
    assert by_kind["LayerNorm"].where.endswith(" and 4 more")
    assert all(v.hint and not v.expected for v in violations[:6])
    words = {"LayerNorm": "norm", "Wkv": "wkv", "Multiply": "*", "Activation relu2": "square"}
    for kind, word in words.items():
        for place in by_kind[kind].loc.split("; "):
            file, _, lines = place.partition(":")
            source = Path(file).read_text().splitlines()
            assert all(word in source[int(line) - 1] for line in lines.split(", ")), place
    assert not any(v.hint for v in violations[6:])
    (flag,) = (v.hint.partition("with --")[2] for v in violations if "with --" in v.hint)
    assert flag == "variant spiking, which has none of these"
    assert snnir.compile(snnir.load("models/sdit.py", preset="digits", variant="spiking"), "nir").files()


def test_without_them_what_is_left_only_moves_values() -> None:
    """So it is no matter of principle, but of a lowering that does not exist."""
    violations = refused(snnir.load(sdit.build("digits")))
    left = {v.what.partition(" ")[0] for v in violations[6:]}
    moves = {"Transpose", "Reshape", "Concat", "Constant", "TokenShift", "Repeat", "TemporalMean", "Slice"}
    assert left == moves


def test_one_op_is_told_as_it_always_was() -> None:
    loc = ops.Loc("model.py", 7, "net.shift")
    graph = chain(ops.Input(shape=(3, 4)), ("shift", ops.TokenShift(mix=np.full(4, 0.5), loc=loc)), ops.Output())
    (violation,) = refused(graph)
    assert (violation.what, violation.where) == ("TokenShift does not exist on NIR files", "shift")
    assert violation.loc == "model.py:7 (net.shift)"
    assert "Affine" in violation.expected
