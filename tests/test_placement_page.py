"""Placements as a page in a real browser, offline: colours say where ops run, tooltips and the panel say why.

Needs Chromium (Debian: `apt-get install chromium`); without it these tests say so and are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snnir.cli import run
from snnir.placement import partition
from snnir.placement.chips import picture as chips
from snnir.placement.chips import spread
from snnir.placement.picture import CHIPS, COLOURS, page
from tests.browser import WHY_NOT, Browser, find_browser
from tests.test_placement_chips import layered
from tests.test_placement_loops import feedback
from tests.test_placement_run import mixed

DETAILS = "document.getElementById('details').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


def filled(browser: Browser, ident: str) -> str:
    return str(browser.run(f"getComputedStyle(document.querySelector('#graph-{ident} .outline')).fill"))


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


@pytest.mark.skipif(find_browser() is None, reason=WHY_NOT)
def test_sides_have_their_colours_and_reasons(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(partition(feedback(), "lava")), encoding="utf-8")
    browser.open(file)
    sides = {"a": "chip", "gate": "chip", "norm": "host", "late": "driver"}
    for name, side in sides.items():
        assert filled(browser, name) == rgb(COLOURS[side][0])  # type: ignore[index]
    legend = browser.run("document.getElementById('legend').textContent")
    for said in ("spiking neurons, on the chip", "norm, on the host", "delay, encoder, decoder, between them"):
        assert said in legend
    assert "Orange runs on the chip (lava), blue on the host (onnx)" in browser.run(DETAILS)
    tip = browser.run("document.querySelector('#graph-norm title').textContent")
    assert "runs: on the host (onnx), 01-host" in tip
    assert "because: LayerNorm does not exist on Lava" in tip
    assert "crosses: 12 graded spikes per step into the chip" in tip
    browser.click("#graph-late .outline")
    assert "waits between the parts: its loop lies on both sides" in browser.run(DETAILS)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []


@pytest.mark.skipif(find_browser() is None, reason=WHY_NOT)
def test_parts_are_frames_that_open_and_close(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from tests.test_placement_run import mixed\nmodel = mixed('value')\n")
    html = tmp_path / "placement.html"
    assert run(["visualize", str(tmp_path / "net.py"), "--target", "lava", "--host", "onnx", "-o", str(html)]) == 0
    browser.open(html)
    frame = browser.run("pictures.graph.domId('m00-chip (lava)')")
    line = f"getComputedStyle(document.querySelector('#{frame} rect')).stroke"
    assert browser.run(line) == rgb(COLOURS["chip"][1])
    browser.click(f"#{frame} .chip")
    assert browser.run("document.getElementById('graph-a')") is None
    assert "4 ops" in browser.run(f"document.getElementById('{frame}').textContent")
    assert browser.run(f"getComputedStyle(document.querySelector('#{frame} .outline')).stroke") == rgb(
        COLOURS["chip"][1]
    )
    assert browser.complaints == []


@pytest.mark.skipif(find_browser() is None, reason=WHY_NOT)
def test_chips_of_a_part_are_frames_within_its_own(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from tests.test_placement_several import shared\nmodel = shared()\n")
    html = tmp_path / "both.html"
    command = ["visualize", str(tmp_path / "net.py"), "--target", "xylo-audio3", "--host", "onnx", "--chips", "2"]
    assert run([*command, "-o", str(html)]) == 0
    browser.open(html)
    assert "Where a part needs several chips, each has a frame and a colour within it." in browser.run(DETAILS)
    assert filled(browser, "a1_n") == filled(browser, "b1_n") == rgb(CHIPS[0][0])
    assert filled(browser, "a4_n") == rgb(CHIPS[1][0])
    assert filled(browser, "host_norm") == rgb(COLOURS["host"][0])
    inner = browser.run("pictures.graph.modules.get('02-chip/01-chip').parent")
    assert inner == "02-chip (xylo-audio3, 2 chips)"
    assert "16 of 16 → 00-chip/01-chip" in browser.run("document.querySelector('#graph-a3_n').textContent")
    tip = browser.run("document.querySelector('#graph-b3_n title').textContent")
    assert "chip: 02-chip/00-chip" in tip
    assert "in use: 16 of 32 output neurons of 02-chip/00-chip, 16 of 16 channels of 02-chip/01-chip" in tip
    browser.run("select('graph', 'm02-chip (xylo-audio3, 2 chips)')")
    assert "because34346 connections between hidden neurons (expected at most 31744)" in browser.run(DETAILS)
    browser.run("select('graph', 'm02-chip/01-chip')")
    assert "goes in16 of 16 channels: b3.n" in browser.run(DETAILS)
    assert browser.complaints == []


def test_the_page_loads_nothing_and_no_name_becomes_markup() -> None:
    text = page(partition(mixed("value"), "lava"), title="<script>alert(1)</script>")
    assert "<script>alert" not in text
    assert "src=" not in text.replace("data-src=", "")
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.mark.skipif(find_browser() is None, reason=WHY_NOT)
def test_every_chip_has_its_colour_and_every_crossing_its_limits(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from tests.test_placement_chips import layered\nmodel = layered([16, 120, 120, 16, 125, 125, 8])\n"
    )
    html = tmp_path / "chips.html"
    command = ["visualize", str(tmp_path / "net.py"), "--target", "xylo-audio3", "--chips", "auto", "-o", str(html)]
    assert run(command) == 0
    browser.open(html)
    assert "One chip does not hold the network:" in browser.run(DETAILS)
    assert "16 channels go into a chip, 32 output neurons come off it." in browser.run(DETAILS)
    for name, fill in {"w1": 0, "n3": 0, "w4": 1, "n6": 1}.items():
        assert filled(browser, name) == rgb(chips.COLOURS[fill][0])
    assert filled(browser, "x") == rgb(chips.APART[0])
    frame = browser.run("pictures.graph.domId('m01-chip (xylo-audio3)')")
    assert browser.run(f"getComputedStyle(document.querySelector('#{frame} rect')).stroke") == rgb(chips.COLOURS[1][1])
    assert "16 of 16 → 01-chip" in browser.run("document.querySelector('#graph-n3').textContent")
    tip = browser.run("document.querySelector('#graph-n3 title').textContent")
    assert "crosses: n3: 16 spikes per step, 00-chip → 01-chip" in tip
    assert "in use: 16 of 32 output neurons of 00-chip, 16 of 16 channels of 01-chip" in tip
    browser.run("select('graph', 'm01-chip (xylo-audio3)')")
    assert "goes in16 of 16 channels: n3" in browser.run(DETAILS)
    assert "comes off8 of 32 output neurons: n6" in browser.run(DETAILS)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []


@pytest.mark.skipif(find_browser() is None, reason=WHY_NOT)
def test_a_chip_of_copies_is_named_beside_the_one_that_holds_them(browser: Browser, tmp_path: Path) -> None:
    """Both chips hold all layers before the cut; each gives half of its neurons."""
    placement = spread(layered([16, *[60] * 9, 16, *[60] * 9, 8], spread=0.4), "xylo-audio2")
    file = tmp_path / "pieces.html"
    file.write_text(page(placement), encoding="utf-8")
    browser.open(file)
    browser.run("select('graph', 'm00-chip, 01-chip (xylo-audio2)')")
    said = browser.run(DETAILS)
    assert "01-chip comes off8 of 8 output neurons: n10[8:16]" in said
    tip = browser.run("document.querySelector('#graph-n10 title').textContent")
    assert "each gives a piece of the population" in tip
    assert "n10[8:16]: 8 spikes per step, 01-chip → 02-chip" in tip
    assert "a copy gives the same spikes" in browser.run("document.querySelector('#graph-n4 title').textContent")
    assert browser.complaints == []
