"""Placements as a page in a real browser, offline: colours say where ops run, tooltips and the panel say why.

Needs Chromium (Debian: `apt-get install chromium`); without it these tests say so and are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snnir.cli import run
from snnir.placement import partition
from snnir.placement.picture import COLOURS, page
from tests.browser import WHY_NOT, Browser, find_browser
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


def test_the_page_loads_nothing_and_no_name_becomes_markup() -> None:
    text = page(partition(mixed("value"), "lava"), title="<script>alert(1)</script>")
    assert "<script>alert" not in text
    assert "src=" not in text.replace("data-src=", "")
    assert "http://" not in text.replace("http://www.w3.org", "")
