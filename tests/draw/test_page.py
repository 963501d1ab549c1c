"""The HTML page: well formed, self-contained, every op and edge in it, and no name that could become markup."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from snnir import nir_io
from snnir.cli import run
from snnir.draw import compare, to_html, to_svg
from snnir.draw.nest import ROOT, Container, containers
from snnir.draw.view import View, view
from snnir.graph import Graph
from snnir.pipeline import parse_pipeline, run_pipeline
from tests.draw.nets import NASTY, nasty, residual, tangled

VOID = {"meta", "input", "br", "link", "img"}
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """Reads a page, and complains about tags that do not pair."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.last = ""
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self.last = dict(attrs).get("id") or tag
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[self.last] = self.texts.get(self.last, "") + data

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.texts["data"])


PAGES = {
    "one": lambda: to_html(residual()),
    "passes": lambda: to_html(compare(residual(), "fused")),
    "sources": lambda: to_html(compare(residual(1), residual(2))),
    "nasty": lambda: to_html(compare(nasty(), "simplify"), title=NASTY[0]),
    "tangled": lambda: to_html(tangled(1)),
    "empty": lambda: to_html(Graph({}, ())),
}


@pytest.fixture(scope="module", params=PAGES)
def text(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]()


def test_well_formed(text: str) -> None:
    page = Page(text)
    assert page.tags["script"] == 2
    assert not {"link", "img", "iframe", "object", "base"} & set(page.tags)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    text.encode("utf-8")


def test_nothing_comes_from_outside(text: str) -> None:
    page = Page(text)
    assert not {"src", "href", "srcset", "action", "data"} & {name for name, _ in page.attributes}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    code = text.replace("http://www.w3.org/2000/svg", "", 1)  # a name, not an address
    code = code.replace(page.texts["data"], "")
    assert not re.search(
        r"https?:|//\w+\.\w|url\(|@import|fetch\(|XMLHttp|WebSocket|import\(|innerHTML|document\.write", code
    )
    assert "default-src 'none'" in text


def test_every_op_and_every_twin(text: str) -> None:
    data = Page(text).data
    for key, side in data["sides"].items():
        nodes = side["nodes"]
        assert all(re.fullmatch(r"\w+", ident, re.ASCII) for ident in nodes)
        for ident, node in nodes.items():
            for twin in node["twins"]:
                other = next(k for k in data["sides"] if k != key)
                assert ident in data["sides"][other]["nodes"][twin]["twins"]
            assert all(ident in nodes[after]["before"] for after in node["after"])
            assert all(ident in nodes[before]["after"] for before in node["before"])
            if node["region"] >= 0:
                assert ident in data["regions"][node["region"]][key]
        for number, region in enumerate(data["regions"]):
            assert all(nodes[ident]["region"] == number for ident in region[key])


def test_the_page_holds_the_comparison() -> None:
    found = compare(residual(), "fused")
    data = Page(to_html(found)).data
    for key, graph in (("before", found.before), ("after", found.after)):
        nodes = data["sides"][key]["nodes"]
        assert [node["name"] for node in nodes.values()] == list(graph.ops)
    before, after = (data["sides"][key]["nodes"] for key in ("before", "after"))
    lit = {n["name"]: tuple(after[t]["name"] for t in n["twins"]) for n in before.values() if n["twins"]}
    assert lit == dict(found.twins)
    assert [tuple(r["name"].split(" + ")) for r in data["regions"]] == [r.passes for r in found.regions]
    folded = next(node for node in before.values() if node["name"] == "block.0.norm")
    assert ["shape", "4×6×6"] in folded["facts"]
    assert ["parameters", "16"] in folded["facts"]
    assert ["eps", "1e-05"] in folded["parameters"]
    said = [data["said"][k] for k in folded["said"]]
    assert {
        "pass": "fold-batch-norm",
        "kind": "did",
        "where": "block.0.norm",
        "text": "folded into block.0.conv",
    } in said
    assert "2 regions" in to_html(found)


def test_any_name_survives() -> None:
    text = to_html(nasty(), title=NASTY[0] + "\x00")
    page = Page(text)
    assert [node["name"] for node in page.data["sides"]["graph"]["nodes"].values()][1:-1] == NASTY
    assert not {"<", ">", "&"} & set(page.texts["data"])
    assert page.texts["data"].isascii()
    assert page.texts["h1"].startswith("</script><script>alert(1)</script>\N{REPLACEMENT CHARACTER}")


def test_pages_are_small_and_the_same_each_time() -> None:
    found = compare(residual(40), "fused")  # 284 ops before
    text = to_html(found)
    assert len(text.encode()) < 1_000_000
    assert text == to_html(compare(residual(40), "fused"))


# -- modules that open ---------------------------------------------------------------------------------------------


def ways(shown: View, found: dict[str, Container]) -> set[tuple[str, str]]:
    """(source, target) of every link, as the ways through the containers lead."""
    joined: set[tuple[str, str]] = set()

    def follow(source: str, path: str, item: str) -> None:
        for way in found[path].ways:
            if way.source != source or way.items[0] != item:
                continue
            end = way.items[-1]
            if end[0] == "b":
                joined.add((source, end[1:]))
            elif end[0] == "m":
                follow(source, end[1:], f"i{source}")
            else:
                follow(source, found[path].parent, f"m{path}")

    for box in shown.boxes:
        home = next(path for path, c in found.items() if any(f"b{box.id}" in row for row in c.rows))
        follow(box.id, home, f"b{box.id}")
    return joined


@pytest.mark.parametrize("seed", range(25))
def test_containers_hold_every_box_once_and_every_link(seed: int) -> None:
    shown = view(residual(seed) if 0 < seed < 4 else tangled(seed))
    found = containers(shown)
    items = [item for container in found.values() for row in container.rows for item in row]
    assert sorted(item for item in items if item[0] == "b") == sorted(f"b{box.id}" for box in shown.boxes)
    assert sorted(item for item in items if item[0] == "m") == sorted(f"m{path}" for path in found if path != ROOT)
    assert ways(shown, found) == {(link.source, link.target) for link in shown.links if not link.late}
    for container in found.values():
        rank = {item: k for k, row in enumerate(container.rows) for item in row}
        assert all(row for row in container.rows)
        for way in container.ways:
            places = [rank[item] for item in way.items]
            assert places == list(range(places[0], places[-1] + 1))  # downwards, a helper in every row between


def test_modules_stay_whole_where_they_can() -> None:
    found = containers(view(residual(3)))
    assert set(found) == {ROOT, "block", "block.0", "block.1", "block.2"}
    assert found["block.1"].rows[0] == ("iblock_0_lif2",)
    assert found["block.1"].rows[-1] == ("oblock_1_lif2",)


def test_a_trunk_is_one_line() -> None:
    """A value that many blocks read goes down in one line from which branches part."""
    found = containers(view(residual(1)))
    ways_of_stem = [way for way in found[ROOT].ways if way.source == "stem"]
    assert len(ways_of_stem) == 2
    helpers = [item for row in found[ROOT].rows for item in row if item[0] == "h"]
    assert len(helpers) == len(set(helpers)) == 1


# -- the static picture, and the command line ----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["own", "auto"])
def test_svg_side_by_side(layout: Any) -> None:
    found = compare(residual(), "fused")
    text = to_svg(found, title="<both>", layout=layout)
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == "<both>"
    assert not re.search(r"href|url\(|<script|<style|\bid=", text)
    titles = Counter((t.text or "").split("\n")[0] for t in root.iter(f"{SVG}title"))
    expected = Counter([*found.before.ops, *found.after.ops])
    assert all(titles[name] >= n for name, n in expected.items())
    for region in found.regions:
        sides = bool(region.before) + bool(region.after)
        assert titles[region.name] == sides * sum(r.name == region.name for r in found.regions)
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert texts.count("fold-batch-norm") == 4  # one name per outline: two blocks on two sides
    assert found.titles[0] in texts
    assert found.titles[1] in texts


@pytest.mark.parametrize("layout", ["own", "dot"])
def test_a_large_picture_folds_its_modules(layout: Any) -> None:
    if layout == "dot" and shutil.which("dot") is None:
        pytest.skip("no program dot (Graphviz) on the PATH")
    found = compare(residual(40), "fused")  # 204 ops before
    root = ElementTree.fromstring(to_svg(found, layout=layout))
    titles = [t.text or "" for t in root.iter(f"{SVG}title")]
    blocks = [title for title in titles if title.startswith("block.7\n")]
    assert [len(title.splitlines()) for title in blocks] == [6, 5]  # the module and its ops, before and after
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert texts.count("5 ops") == 40
    assert texts.count("fold-batch-norm") == 2 * 40  # what is at work inside
    assert "module, folded" in texts
    assert titles.count("split-concat") == 2  # regions outside of modules keep their outlines


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    lowered = [run_pipeline(residual(n), parse_pipeline("fold-batch-norm,split-concat")) for n in (1, 2)]
    for name, graph in zip(("a.nir", "b.nir"), lowered, strict=True):
        Path(name).write_bytes(nir_io.write(graph))
    for against, name in (("fused", "f.html"), ("fold-batch-norm,simplify", "p.html"), ("b.nir", "s.html")):
        assert run(["visualize", "a.nir", "--against", against, "-o", name]) == 0
        assert set(Page(Path(name).read_text()).data["sides"]) == {"before", "after"}
    assert "<h2>b.nir</h2>" in Path("s.html").read_text()
    assert run(["visualize", "a.nir", "-o", "one.html", "--title", "a <net>"]) == 0
    assert Page(Path("one.html").read_text()).texts["h1"].strip() == "a <net>"
    assert run(["visualize", "a.nir", "--against", "fused", "-o", "f.svg", "--layout", "own"]) == 0
    assert Path("f.svg").read_text() == to_svg(compare(nir_io.read("a.nir"), "fused"), layout="own")
    capsys.readouterr()
    assert run(["visualize", "a.nir", "--against", "fuse", "-o", "f.svg"]) == 2
    assert "no such file, and no pipeline" in capsys.readouterr().err
    assert run(["visualize", "a.nir", "--against", "fused", "-o", "f.dot"]) == 2
    assert "svg or html" in capsys.readouterr().err
