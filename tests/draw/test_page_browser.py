"""The page in a real browser, offline: clicks, keys, modules that open, search; nothing overlaps, nothing is asked for.

Needs Chromium (Debian: `apt-get install chromium`); without it these tests say so and are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snnir.draw import compare, to_html
from snnir.graph import Graph
from tests.browser import WHY_NOT, Browser, find_browser
from tests.draw.nets import NASTY, nasty, residual, tangled

pytestmark = pytest.mark.skipif(find_browser() is None, reason=WHY_NOT)

TWINS = "[...document.querySelectorAll('.twin')].map(e => e.id)"
CHOSEN = "[...document.querySelectorAll('.selected')].map(e => e.id)"
PRESSED = "[...document.querySelectorAll('[aria-pressed=true][data-item]')].map(e => e.id)"
DETAILS = "document.getElementById('details').textContent"
FOCUS = "document.activeElement.id"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def fused(browser: Browser, tmp_path: Path) -> Browser:
    return opened(browser, tmp_path, to_html(compare(residual(), "fused")))


def opened(browser: Browser, folder: Path, text: str, fragment: str = "") -> Browser:
    """The browser with this page in it; every test ends by asking what the page complained of."""
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(file, fragment)
    return browser


def calm(browser: Browser) -> None:
    """Nothing went wrong, and nothing but the file was asked for."""
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []


def test_a_click_lights_the_twins_and_says_all(fused: Browser) -> None:
    assert fused.run(TWINS) == []
    fused.click("#before-block_0_norm .outline")
    assert fused.run(CHOSEN) == ["before-block_0_norm"]
    assert fused.run(PRESSED) == ["before-block_0_norm"]
    assert fused.run(TWINS) == ["after-block_0_conv"]
    said = fused.run(DETAILS)
    for text in (
        "block.0.norm",
        "BatchNorm",
        "4×6×6",
        "folded into block.0.conv",
        "eps",
        "Twins after",
        "fold-batch-norm",
    ):
        assert text in said
    # And back: the one op lights the two that it was made from.
    fused.click("#after-block_0_conv .outline")
    assert fused.run(CHOSEN) == ["after-block_0_conv"]
    assert fused.run(TWINS) == ["before-block_0_conv", "before-block_0_norm"]
    # Beside everything: nothing is selected any more.
    fused.run("fit(true)")
    fused.click("#before-svg")
    fused.press("Escape")
    assert fused.run(CHOSEN) == fused.run(TWINS) == []
    calm(fused)


def test_the_keyboard_does_the_same(fused: Browser) -> None:
    for _ in range(40):
        fused.press("Tab")
        if fused.run(FOCUS) == "before-stem":
            break
    assert fused.run(FOCUS) == "before-stem"
    fused.press(" ")
    assert fused.run(CHOSEN) == ["before-stem"]
    assert fused.run(TWINS) == ["after-stem"]
    fused.press("ArrowRight")
    assert fused.run(FOCUS) == "after-stem"
    fused.press("ArrowDown")
    assert fused.run(FOCUS) == "after-block_0_conv"
    fused.press("Enter")
    assert fused.run(CHOSEN) == ["after-block_0_conv"]
    fused.press("ArrowUp")
    assert fused.run(FOCUS) == "after-stem"
    fused.press("Escape")
    assert fused.run(CHOSEN) == []
    calm(fused)


def test_modules_close_and_open(fused: Browser) -> None:
    module = fused.run("pictures.before.domId('mblock.0')")
    assert fused.run("document.getElementById('before-block_0_conv') !== null")
    fused.click(f"#{module} .chip")
    assert fused.run("document.getElementById('before-block_0_conv')") is None
    assert fused.run(f"document.getElementById('{module}').getAttribute('aria-expanded')") == "false"
    assert "6 ops" not in fused.run(f"document.getElementById('{module}').textContent")
    assert "5 ops" in fused.run(f"document.getElementById('{module}').textContent")
    # What lies inside is still lit, through the box it lies in.
    fused.click("#after-block_0_conv .outline")
    assert fused.run(TWINS) == [module]
    # A link of the panel opens what it points into.
    fused.run("[...document.querySelectorAll('#details button')].find(b => b.textContent === 'block.0.norm').click()")
    assert fused.run(CHOSEN) == ["before-block_0_norm"]
    # With the keyboard, and by double click.
    fused.run(f"document.getElementById('{module}').focus()")
    fused.press("Enter")
    assert fused.run("document.getElementById('before-block_0_conv')") is None
    fused.run("fit(true)")
    fused.click(f"#{module} .outline", count=2)
    assert fused.run("document.getElementById('before-block_0_conv') !== null")
    fused.click("#close-all")
    assert fused.run("document.querySelectorAll('.frame').length") == 0
    assert fused.run("document.querySelectorAll('#before-svg .dot').length") > 0  # passes were at work inside
    fused.click("#open-all")
    assert fused.run("document.querySelectorAll('.module').length") == 0
    calm(fused)


def test_search_opens_and_goes_there(fused: Browser) -> None:
    fused.click("#close-all")
    fused.press("/")
    assert fused.run(FOCUS) == "search"
    for letter in ".conv2":
        fused.press(letter)
    assert fused.run("document.getElementById('count').textContent") == "4 found"
    fused.press("Enter")
    assert fused.run(CHOSEN) == ["before-block_0_conv2"]
    fused.press("Enter")
    assert fused.run(CHOSEN) == ["before-block_1_conv2"]
    assert fused.run("document.getElementById('count').textContent") == "2 of 4"
    calm(fused)


def test_regions_are_outlined_named_and_lead_to_their_ops(fused: Browser) -> None:
    names = "[...document.querySelectorAll('#before-svg .region text')].map(t => t.textContent)"
    assert sorted(fused.run(names)) == ["fold-batch-norm", "fold-batch-norm", "split-concat"]
    fused.run("document.querySelectorAll('#regions button')[0].scrollIntoView()")
    fused.click("#regions button")
    assert fused.run(TWINS) == ["before-block_0_conv", "before-block_0_norm", "after-block_0_conv"]
    assert "folded into block.0.conv" in fused.run(DETAILS)
    calm(fused)


def test_drag_and_wheel_move_both_sides_at_one_scale(fused: Browser) -> None:
    place = "(key => [views[key].x, views[key].y, state.scale])"
    x, y, scale = fused.run(f"{place}('before')")
    for kind, px, py in (
        ("mousePressed", 30, 300),
        ("mouseMoved", 50, 310),
        ("mouseMoved", 70, 330),
        ("mouseReleased", 70, 330),
    ):
        fused.call("Input.dispatchMouseEvent", type=kind, x=px, y=py, button="left", buttons=1, clickCount=1)
    assert fused.run(f"{place}('before')") == [x + 40, y + 30, scale]
    assert fused.run(CHOSEN) == []
    wheel = {"type": "mouseWheel", "x": 200, "y": 400, "deltaX": 0}
    fused.call("Input.dispatchMouseEvent", **wheel, deltaY=50)
    assert fused.run("views.before.y") == pytest.approx(y - 20)
    fused.call("Input.dispatchMouseEvent", **wheel, deltaY=-100, modifiers=2)
    assert fused.run("state.scale") > scale
    transforms = fused.run("Object.values(pictures).map(p => p.layer.getAttribute('transform').split('scale')[1])")
    assert transforms[0] == transforms[1]
    calm(fused)


OVERLAPS = """keys.flatMap(key => {
  const placed = pictures[key].placed, rects = [...placed.items].concat(placed.frames.map(f => ['f' + f.path, f]));
  const apart = (a, b) => a.x + a.w / 2 <= b.x - b.w / 2 + .1 || b.x + b.w / 2 <= a.x - a.w / 2 + .1
    || a.y + a.h <= b.y + .1 || b.y + b.h <= a.y + .1;
  const holds = (a, b) => a.x - a.w / 2 <= b.x - b.w / 2 + .1 && a.x + a.w / 2 >= b.x + b.w / 2 - .1
    && a.y <= b.y + .1 && a.y + a.h >= b.y + b.h - .1;
  const wrong = [];
  for (const [a, r] of rects) for (const [b, s] of rects) {
    if (a >= b || apart(r, s)) continue;
    if (a[0] === 'f' && holds(r, s) || b[0] === 'f' && holds(s, r)) continue;
    wrong.push([key, a, b]);
  }
  for (const s of placed.segments) {
    if (!(s.to[1] > s.from[1] - .1) || !s.to.concat(s.from).every(Number.isFinite)) wrong.push([key, s.source, s.to]);
  }
  const ends = new Set(placed.segments.filter(s => s.head).flatMap(s => [...s.targets]));
  for (const [id, node] of Object.entries(pictures[key].side.nodes)) {
    const outside = node.before.some(other => pictures[key].standIn(other) !== pictures[key].standIn(id));
    const late = pictures[key].side.late.some(([, target]) => target === id);
    if (outside && !late && !ends.has(id)) wrong.push([key, id, 'no arrow']);
  }
  return wrong;
})"""


@pytest.mark.parametrize("seed", range(4))
def test_nothing_overlaps_whatever_is_open(browser: Browser, tmp_path: Path, seed: int) -> None:
    graph: Graph = tangled(seed) if seed else residual(3)
    opened(browser, tmp_path, to_html(graph))
    assert browser.run("keys.length") == 1
    assert browser.run(OVERLAPS) == []
    for act in (
        "openAll(false)",
        "openAll(true)",
        "pictures.graph.side.modules.slice(1, 3).forEach(m => toggle('graph', m.path))",
    ):
        browser.run(act)
        assert browser.run(OVERLAPS) == []
    ids = browser.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    calm(browser)


def test_any_name_is_text(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, to_html(compare(nasty(), "simplify"), title=NASTY[0]))
    browser.run("openAll(true)")
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.scripts.length") == 2
    for k, name in enumerate(NASTY, 1):
        browser.run(f"select('before', 'b' + Object.keys(data.sides.before.nodes)[{k}], {{go: true}})")
        shown = browser.run("document.querySelector('#details h2').textContent")
        assert shown == name.replace("\ud800", "\N{REPLACEMENT CHARACTER}") or "\ud800" in name
        assert browser.run(CHOSEN) == browser.run(
            "[...document.querySelectorAll('#before-svg .selected')].map(e => e.id)"
        )
        assert len(browser.run(TWINS)) == 1
    calm(browser)


def test_an_address_leads_to_an_op(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, to_html(compare(residual(), "fused")), "#after:block.1.lif2")
    assert browser.run(CHOSEN) == ["after-block_1_lif2"]
    assert browser.run(TWINS) == ["before-block_1_lif2"]
    opened(browser, tmp_path, to_html(Graph({}, ())), "#nowhere:%")
    calm(browser)


def test_dark_and_light(fused: Browser) -> None:
    colours = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.outline')).fill]"
    )
    seen = []
    for scheme in ("dark", "light"):
        fused.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        seen.append(fused.run(colours))
    assert seen[0][0] == "rgb(20, 24, 27)"
    assert seen[1][0] == "rgb(255, 255, 255)"
    assert seen[0][1] != seen[1][1]
    calm(fused)


@pytest.mark.parametrize(("preset", "most"), [("small-temporal", 500_000), ("small", 1_000_000)])
def test_the_diffusion_model(browser: Browser, tmp_path: Path, preset: str, most: int) -> None:
    """The page that `snnir visualize models/fsddim.py --preset small --against fused` makes; it has 4 times the ops."""
    pytest.importorskip("torch")
    from snnir.compiler import load
    from snnir.models import fsddim

    text = to_html(compare(load(fsddim.build(preset)), "fused"))
    assert len(text.encode()) < most
    opened(browser, tmp_path, text)
    visible = browser.run("[...document.querySelectorAll('#before-svg .node, #before-svg .module')].length")
    assert 15 < visible <= 60  # calls are open, their blocks are boxes
    assert browser.run(OVERLAPS) == []
    browser.run("select('before', 'bcall_0_ddim_turn', {go: true})")
    assert len(browser.run(TWINS)) >= 1
    assert "went into call.0.conv_out" in browser.run(DETAILS)
    browser.click("#open-all")
    assert browser.run(OVERLAPS) == []
    calm(browser)
