"""Twins, regions and what was said: everything follows from origin, for passes and for two sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snnir import ops
from snnir.draw import compare
from snnir.draw.comparison import Comparison, Region
from snnir.errors import UsageError
from snnir.graph import Edge, Graph, chain
from snnir.ops import same
from tests.draw.nets import S, conv, lif, norm, residual


def check(comparison: Comparison, two_sources: bool = False) -> None:
    """What holds for every comparison; between passes, the ops before are the sources."""
    before, after = comparison.before, comparison.after
    for name in before.ops:
        behind = set(before.sources(name)) if two_sources else {name}
        assert set(comparison.twins.get(name, ())) == {a for a in after.ops if behind & set(after.sources(a))}
    pairs = {(a, b) for a, twins in comparison.twins.items() for b in twins}
    assert pairs == {(a, b) for b, twins in comparison.back.items() for a in twins}
    for side, graph in (("before", before), ("after", after)):
        listed = [name for region in comparison.regions for name in getattr(region, side)]
        assert len(listed) == len(set(listed))
        assert set(listed) <= set(graph.ops)
        assert all(
            list(getattr(r, side)) == [n for n in graph.ops if n in getattr(r, side)] for r in comparison.regions
        )
        assert all(set(getattr(said, side)) <= set(graph.ops) for said in comparison.said)
    for a, b in pairs:  # twins lie in the same region, or in none
        assert [a in r.before for r in comparison.regions] == [b in r.after for r in comparison.regions]
    still = set(before.ops) - {name for region in comparison.regions for name in region.before}
    assert all(same(after[name], before[name]) for name in still)


def test_passes_leave_the_regions_one_expects() -> None:
    graph = residual(1)
    found = compare(graph, "fold-batch-norm,split-concat")
    check(found)
    assert found.regions == (
        Region(("fold-batch-norm",), ("block.0.conv", "block.0.norm"), ("block.0.conv",)),
        Region(("split-concat",), ("cat", "head"), ("head.part0", "head.part1")),
    )
    assert found.twins["cat"] == ("head.part0", "head.part1")
    assert found.twins["stem"] == ("stem",)
    assert [region.name for region in found.regions] == ["fold-batch-norm", "split-concat"]
    texts = {(s.entry.pass_name, s.entry.where): (s.before, s.after) for s in found.said if s.entry.kind == "did"}
    assert texts["fold-batch-norm", "block.0.norm"] == (("block.0.norm",), ("block.0.conv",))
    assert texts["split-concat", "cat"] == (("cat",), ("head.part0", "head.part1"))


def test_passes_that_meet_share_a_region() -> None:
    a, b = ops.Input(shape=(2, 6, 6)), ops.Input(shape=(2, 6, 6))
    named = {"a": a, "b": b, "cat": ops.Concat(inputs=2), "conv": conv(4, 3), "norm": norm(3), "output": ops.Output()}
    edges = (Edge("a", "cat", "in0"), Edge("b", "cat", "in1"), Edge("cat", "conv"), Edge("conv", "norm"))
    found = compare(Graph(named, (*edges, Edge("norm", "output")), S), "fold-batch-norm,split-concat,simplify")
    check(found)
    region = Region(("fold-batch-norm", "split-concat"), ("cat", "conv", "norm"), ("conv.part0", "conv.part1"))
    assert found.regions == (region,)


def test_an_origin_from_before_makes_no_twins() -> None:
    """Copies of one op, as an unrolled network has them, do not light each other."""
    graph = residual(2)
    common = {name: (name.replace("block.1", "block.0"),) for name in graph.ops}
    found = compare(replace(graph, origin=common), "fold-batch-norm")
    assert found.twins["block.1.conv2"] == ("block.1.conv2",)
    assert found.twins["block.0.norm"] == ("block.0.conv",)


def test_nothing_changed_is_no_region() -> None:
    found = compare(residual(1), "simplify")
    check(found)
    assert found.regions == ()


def test_two_sources() -> None:
    before = residual(1)
    head = before["head"]
    assert isinstance(head, ops.Conv2d)
    named = {n: op for n, op in before.ops.items() if n not in ("block.0.norm", "output")}
    named |= {
        "head": head.with_(weight=2 * head.weight),
        "gain": ops.Scale(scale=np.float64(2)),
        "output": ops.Output(),
    }
    edges = [e for e in before.edges if "block.0.norm" not in (e.source, e.target) and e.target != "output"]
    edges += [Edge("block.0.conv", "block.0.lif"), Edge("head", "gain"), Edge("gain", "output")]
    found = compare(before, Graph(named, tuple(edges), S))
    assert found.regions == (
        Region(("removed",), ("block.0.norm",), ()),
        Region(("changed",), ("head",), ("head",)),
        Region(("added",), (), ("gain",)),
    )
    assert "block.0.norm" not in found.twins
    origin = {"block.0.conv": ("block.0.conv", "block.0.norm")}
    check(found, two_sources=True)
    merged = compare(before, Graph(named, tuple(edges), S, origin))
    check(merged, two_sources=True)
    assert merged.regions[0] == Region(("merged",), ("block.0.conv", "block.0.norm"), ("block.0.conv",))
    assert compare(before, before).regions == ()


def test_what_is_removed_together_is_one_region() -> None:
    before = chain(
        ops.Input(shape=(3,)), ("a", lif((3,))), ("b", lif((3,))), ("c", lif((3,))), ops.Output(), semantics=S
    )
    after = chain(ops.Input(shape=(3,)), ("c", lif((3,))), ops.Output(), semantics=S)
    assert compare(before, after).regions == (Region(("removed",), ("a", "b"), ()),)


def test_against_must_be_a_pipeline() -> None:
    with pytest.raises(UsageError, match="no pass 'fuze'"):
        compare(residual(1), "fuze")


def test_fused_is_the_standard_fusions() -> None:
    found = compare(residual(2), "fused")
    check(found)
    names = {region.name for region in found.regions}
    assert "fold-batch-norm" in names
    assert any("split-concat" in name for name in names)


def test_fused_shows_a_diffusion_model_between_two_calls() -> None:
    pytest.importorskip("torch")
    from snnir.compiler import load
    from snnir.models import fsddim

    graph = load(fsddim.build("digits"))
    found = compare(graph, "fused")
    check(found)
    assert len(found.before) > 1.4 * len(graph)  # two calls, their time paths known
    assert [name for name in found.before.ops if name.endswith("conv_out")] == ["call.0.conv_out", "call.1.conv_out"]
    decoder = next(region for region in found.regions if "fuse-decoder" in region.passes)
    assert {"call.0.conv_out", "call.0.ddim.turn"} <= set(decoder.before)
    assert len(decoder.after) < len(decoder.before)
    for region in found.regions:
        if "fuse-decoder" not in region.passes:  # all else happens within a call
            assert len({name.split(".")[1] for name in region.before}) == 1
    check(compare(load(fsddim.build("digits", stem_skip=False)), "fused"))
