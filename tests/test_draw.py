"""Pictures: what stands in them, that nothing overlaps, and that any name survives every format."""

from __future__ import annotations

import os
import random
import re
import stat
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from snnir import ops
from snnir.draw import to_dot, to_mermaid, to_svg
from snnir.draw.layered import place
from snnir.draw.style import FAMILIES, family
from snnir.draw.view import amount, view
from snnir.errors import UsageError
from snnir.graph import Edge, Graph, chain
from snnir.ops import KINDS
from snnir.semantics import Semantics
from tests.work import calls

S = Semantics(dt=1e-3)
SVG = "{http://www.w3.org/2000/svg}"


def linear(n: int = 3) -> ops.Linear:
    return ops.Linear(weight=np.ones((n, n)))


def lif() -> ops.LIF:
    return ops.LIF(tau=0.02, v_threshold=1.0)


def recurrent() -> Graph:
    """input -> net.fc -> net.lif -> output, net.lif -> net.rec -> net.lif, and net.lif -> net.lif."""
    named = {
        "input": ops.Input(shape=(3,)),
        "net.fc": linear(),
        "net.lif": lif(),
        "net.rec": linear(),
        "output": ops.Output(),
    }
    pairs = [("input", "net.fc"), ("net.fc", "net.lif"), ("net.lif", "net.rec"), ("net.rec", "net.lif")]
    pairs += [("net.lif", "net.lif"), ("net.lif", "output")]
    return Graph(named, tuple(Edge(*pair) for pair in pairs), S)


def random_graph(seed: int, size: int = 25) -> Graph:
    """A graph of neurons and weights with skips and feedback, in modules."""
    rng = random.Random(seed)
    named: dict[str, Any] = {"input": ops.Input(shape=(3,))}
    pairs: list[tuple[str, str]] = []
    for i in range(size):
        name = f"block{i // 6}.{'fc' if i % 2 else 'lif'}{i}"
        named[name] = linear() if i % 2 else lif()
        pairs.append((list(named)[rng.randrange(max(0, i - 3), i + 1)], name))
    neurons = [name for name in named if "lif" in name]
    for _ in range(size // 4):
        pairs.append((rng.choice(list(named)), rng.choice(neurons)))
    named["output"] = ops.Output()
    pairs.append((f"block{(size - 1) // 6}.{'fc' if size % 2 == 0 else 'lif'}{size - 1}", "output"))
    return Graph(named, tuple(Edge(*pair) for pair in dict.fromkeys(pairs)), S).verify()


@pytest.mark.parametrize("seed", range(12))
def test_own_layout_keeps_boxes_apart_and_links_attached(seed: int) -> None:
    shown = view(random_graph(seed))
    placed = place(shown)
    for (a, first), (b, second) in combinations(placed.boxes.items(), 2):
        apart = (
            first.right <= second.left + 0.1
            or second.right <= first.left + 0.1
            or first.bottom <= second.top + 0.1
            or second.bottom <= first.top + 0.1
        )
        assert apart, (a, b)
    for link, curve in zip(shown.links, placed.curves, strict=True):
        source, target = placed.boxes[link.source], placed.boxes[link.target]
        for box, (x, y) in ((source, curve.points[0]), (target, curve.points[-1])):
            on_side = min(abs(y - box.top), abs(y - box.bottom), abs(x - box.left), abs(x - box.right)) < 0.1
            assert on_side
            assert box.left - 0.1 <= x <= box.right + 0.1
            assert box.top - 0.1 <= y <= box.bottom + 0.1
        if not link.late:
            assert source.bottom < target.top  # data flows downwards
        assert (len(curve.points) - 1) % 3 == 0
    everything = [p for c in placed.curves for p in c.points]
    assert all(-0.1 <= x <= placed.width + 0.1 and -0.1 <= y <= placed.height + 0.1 for x, y in everything)


def test_a_chain_is_a_straight_line() -> None:
    graph = chain(ops.Input(shape=(3,)), linear(), lif(), linear(), lif(), ops.Output(), semantics=S)
    placed = place(view(graph))
    assert len({round(box.x, 3) for box in placed.boxes.values()}) == 1
    assert all(len({round(x, 3) for x, _ in curve.points}) == 1 for curve in placed.curves)


def test_the_work_of_drawing_grows_at_most_quadratically() -> None:
    small, large = (view(random_graph(0, size=n)) for n in (100, 200))  # links as long as the graph
    assert calls(lambda: place(large)) < 4.4 * calls(lambda: place(small))


def test_svg_says_everything_in_text() -> None:
    graph = recurrent()
    root = ElementTree.fromstring(to_svg(graph, layout="own"))
    assert root.get("role") == "img"
    assert root.get("aria-label") == "3 → 3 · 5 ops · 23 parameters · step 1 ms"
    titles = [t.text or "" for t in root.iter(f"{SVG}title")]
    for name, op in graph.ops.items():
        assert sum(t.startswith(f"{name}\n{op.kind}") for t in titles) == 1
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert texts.count("z⁻¹") == 2  # the two edges that are one step late
    assert "LIF τ 20 ms" in texts
    assert "3 · 9 par." in texts
    assert "net" in titles  # the frame around the module
    assert {"input, output", "weights", "spiking neurons", "z⁻¹ one step late"} <= set(texts)  # the legend
    assert "pool, scale, norm" not in texts


def test_svg_is_self_contained() -> None:
    text = to_svg(recurrent(), layout="own")
    assert not re.search(r"href|url\(|<script|<style|\bid=", text)
    assert text == to_svg(recurrent(), layout="own")


def test_families_differ_by_shape_alone() -> None:
    assert len({f.shape for f in FAMILIES}) == len(FAMILIES)
    every = {f.label: [kind for kind, cls in KINDS.items() if family(cls.__new__(cls)) is f] for f in FAMILIES}
    assert every["wiring"] == ["Flatten", "Concat", "Upsample2d", "Reshape", "Transpose", "Slice"]
    assert every["spiking neurons"] == ["Threshold", "IF", "LIF", "CubaLIF"]
    assert all(every.values())


def test_ports_and_origin_are_shown() -> None:
    named = {
        "a": ops.Input(shape=(2, 4)),
        "b": ops.Constant(value=np.ones((2, 4))),
        "cat": ops.Concat(inputs=2),
        "output": ops.Output(),
    }
    edges = (Edge("a", "cat", "in0"), Edge("b", "cat", "in1"), Edge("cat", "output"))
    graph = Graph(named, edges, origin={"cat": ("x.cat", "y")})
    text = to_svg(graph, layout="own")
    assert ">in0<" in text
    assert ">in1<" in text
    assert "made from x.cat, y" in text
    assert 'headlabel="in1"' in to_dot(graph)
    assert '-->|"in1"| n_cat' in to_mermaid(graph)


def test_dot_has_one_statement_per_box_and_link() -> None:
    text = to_dot(recurrent())
    assert len(re.findall(r"^ +\w+ \[label=", text, re.M)) == 5
    assert len(re.findall(r" -> ", text)) == 6
    assert text.count('label="z⁻¹"') == 2
    assert 'subgraph "cluster_net"' in text
    assert text.count("{") == text.count("}")


def test_mermaid_has_one_line_per_box_and_link() -> None:
    text = to_mermaid(recurrent())
    assert text.splitlines()[3] == "flowchart TD"
    assert len(re.findall(r"^ +n_\w+ -->", text, re.M)) == 4
    assert len(re.findall(r'^ +n_\w+ -\.->\|"z⁻¹"\|', text, re.M)) == 2
    assert 'subgraph g_net["net"]' in text
    assert "linkStyle 3,4 " in text


NASTY = ['x "y" <b>&amp;', "end", "class", "0", "a.b\\n", "a.{c}|[d]#1;", "日本.\x07", "--> x", "digraph"]


def test_any_name_survives() -> None:
    named: dict[str, Any] = {"input": ops.Input(shape=(2,)), **{name: lif() for name in NASTY}, "o": ops.Output()}
    names = list(named)
    graph = Graph(named, tuple(Edge(a, b) for a, b in pairwise(names)), S)
    root = ElementTree.fromstring(to_svg(graph, title='t "1" \x00', layout="own"))
    titles = " ".join(t.text or "" for t in root.iter(f"{SVG}title"))
    for name in NASTY:
        assert name.replace("\x07", "\N{REPLACEMENT CHARACTER}") in titles
    dot = to_dot(graph)
    strings = re.findall(r'"(?:[^"\\]|\\.)*"', dot)
    assert '"' not in re.sub(r'"(?:[^"\\]|\\.)*"', "", dot)  # every quote belongs to a string
    assert any('x \\"y\\" <b>' in s for s in strings)
    mermaid = to_mermaid(graph, title="a\nb: c")
    assert '"a\\nb: c"' in mermaid
    boxes = re.findall(r'^ +n_\w+[(\[{]+"(.*)"[)\]}]+$', mermaid, re.M)
    assert len(boxes) == len(named)
    assert not any(set('"<>') & set(box.replace("<br/>", "")) for box in boxes)


def test_unsound_graphs_are_drawn_too() -> None:
    named = {"input": ops.Input(shape=(3,)), "fc": linear(4), "odd": linear(3), "output": ops.Output()}
    edges = (Edge("input", "fc"), Edge("fc", "output"), Edge("fc", "nowhere"))
    text = to_svg(Graph(named, edges), layout="own")
    assert "shape unknown" in text
    assert "odd" in text
    assert to_svg(Graph({}, ()), layout="own").startswith("<svg")


def test_many_levels_of_modules_are_drawn_once() -> None:
    named = {"input": ops.Input(shape=(3,)), "net.unet.a.x": lif(), "net.unet.a.y": lif(), "net.unet.b": lif()}
    named |= {"output": ops.Output(), "lif": lif(), "lif.1": lif(), "lif.2": lif()}
    names = ["input", "net.unet.a.x", "net.unet.a.y", "net.unet.b", "lif", "lif.1", "lif.2", "output"]
    shown = view(Graph(named, tuple(Edge(a, b) for a, b in pairwise(names)), S))
    assert {box.lines[0]: box.groups for box in shown.boxes if box.groups} == {
        "net.unet.a.x": ("net.unet", "net.unet.a"),  # 'net' holds the same boxes as 'net.unet'
        "net.unet.a.y": ("net.unet", "net.unet.a"),
        "net.unet.b": ("net.unet",),
    }


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0"), (950, "950"), (999.9, "1k"), (9216, "9.2k"), (48_000, "48k"), (1_400_000, "1.4M")]
)
def test_amounts_are_short(n: float, text: str) -> None:
    assert amount(n) == text


# What `dot -Tjson` (Graphviz 2.43) says of the graph input -> lif -> output with lif -> lif, shortened.
DOT_SAYS = """{"bb": "0,0,122,194", "objects": [
 {"_gvid": 0, "name": "input", "pos": "48,167", "width": "1.3333", "height": "0.75"},
 {"_gvid": 1, "name": "lif", "pos": "48,97", "width": "1.1", "height": "0.75"},
 {"_gvid": 2, "name": "output", "pos": "48,27", "width": "1.3333", "height": "0.75"}],
 "edges": [
 {"_gvid": 0, "id": "1", "pos": "e,88,89 88,105 98,105 106,102 106,97 106,94 103,92 98,90", "lp": "114,97"},
 {"_gvid": 1, "id": "0", "pos": "e,48,124 48,139 48,138 48,136 48,134"},
 {"_gvid": 2, "id": "2", "pos": "e,48,54 48,69 48,68 48,66 48,64"}]}"""


@pytest.fixture
def only_fake_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a program `dot` that runs the given shell script, and nothing else, reachable on the PATH."""

    def install(script: str) -> None:
        program = tmp_path / "dot"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/bin")
    if Path("/bin/dot").exists():  # /bin may be /usr/bin
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "cat").symlink_to("/bin/cat")
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{tools}")
    return install


def looped() -> Graph:
    graph = chain(ops.Input(shape=(3,)), lif(), ops.Output(), semantics=S)
    edges = (Edge("input", "lif"), Edge("lif", "lif"), Edge("lif", "output"))
    return Graph(graph.ops, edges, S)


def test_layout_by_dot(only_fake_dot: Any, tmp_path: Path) -> None:
    (tmp_path / "says.json").write_text(DOT_SAYS)
    only_fake_dot(f"cat > {tmp_path}/asked.dot; cat {tmp_path}/says.json")
    text = to_svg(looped(), layout="dot")
    assert text == to_svg(looped())  # 'auto' takes dot where there is one
    assert text != to_svg(looped(), layout="own")
    root = ElementTree.fromstring(text)
    boxes = [r for g in root.iter(f"{SVG}g") for r in g.findall(f"{SVG}rect") if g.find(f"{SVG}title") is not None]
    assert [(r.get("x"), r.get("y")) for r in boxes] == [("0.0", "0.0"), ("8.4", "70.0"), ("0.0", "140.0")]
    paths = [p.get("d", "") for p in root.iter(f"{SVG}path")]
    assert paths[0].startswith("M48.0 55.0")  # in the order of the edges, y downwards
    assert paths[1].startswith("M88.0 89.0")
    asked = (tmp_path / "asked.dot").read_text()
    assert "lif -> output [id=2 ]" in asked


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", 'echo \'{"bb": "0,0,1,1"}\''])
def test_a_broken_dot_is_no_obstacle(only_fake_dot: Any, script: str) -> None:
    only_fake_dot(script)
    assert to_svg(looped()) == to_svg(looped(), layout="own")
    with pytest.raises(UsageError, match="Graphviz"):
        to_svg(looped(), layout="dot")


def test_no_dot_at_all(only_fake_dot: Any) -> None:
    assert to_svg(looped()) == to_svg(looped(), layout="own")
    with pytest.raises(UsageError, match="Graphviz"):
        to_svg(looped(), layout="dot")
