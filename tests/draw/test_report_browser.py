"""The report of `snnir validate` as a page: opened offline in a real browser, looked at by what it shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnir.draw.report import report_text
from snnir.draw.report_figures import ROWS, STEPS, chosen, window
from snnir.nir_io import write
from snnir.semantics import Semantics
from snnir.validation import judge, populations, run_reference
from tests.browser import WHY_NOT, Browser, find_browser
from tests.cli.kit import network, said


def page(verdicts: list[Any], traces: dict[str, Any], **more: Any) -> str:
    document = {"source": "net.py", "verdicts": [json.loads(json.dumps(v.to_json())) for v in verdicts], **more}
    return report_text(document, {name: (t.pairs, t.places) for name, t in traces.items()})


def differing(steps: int = 60, **changes: Any) -> tuple[Any, Any]:
    """A verdict on a target that computes under another semantics."""
    graph = network()
    x = {"input": (np.random.default_rng(0).random((steps, 4, 4)) < 0.4).astype(float)}
    got = run_reference(graph, x, populations(graph), Semantics(dt=1e-3, **changes))
    return judge(graph, x, got, "a target")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if find_browser() is None:
        pytest.skip(WHY_NOT)
    with Browser(tmp_path_factory.mktemp("profile"), width=1200, height=900) as found:
        yield found


def test_the_command_writes_the_page(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.nir").write_bytes(write(network()))
    status, _, _ = said(capsys, "validate", "net.nir", "-t", "torch,norse,xylo-imu", "-o", "report.html")
    assert status == 1  # a readout that leaks is nothing for Xylo: refused
    browser.open(tmp_path / "report.html")
    assert browser.run("document.querySelector('h1').textContent") == "Is it the same network? net.nir"
    rows = browser.run("[...document.querySelectorAll('#verdicts tr')].slice(1).map(r => r.innerText.split('\\t')[1])")
    assert [row.strip() for row in rows] == ["✓ identical", "✓ identical", "✗ refused"]
    assert "2 of 3 targets" in browser.run("document.querySelector('.answer').textContent")
    assert browser.run("document.querySelector('#target-xylo-imu').open") is False
    browser.click("#verdicts a[href='#target-xylo-imu']")
    browser.wait("document.querySelector('#target-xylo-imu').open")  # browsers tell of a new address a little later
    assert "Why it is refused" in browser.run("document.querySelector('#target-xylo-imu').innerText")
    addresses = [address for address in browser.requests if address != "about:blank"]
    assert addresses == [(tmp_path / "report.html").as_uri()]
    assert browser.complaints == []


def test_a_difference_is_drawn_where_it_is(tmp_path: Path, browser: Browser) -> None:
    verdict, traces = differing(reset="subtract")
    assert verdict.first is not None
    file = tmp_path / "report.html"
    file.write_text(page([verdict], {"a target": traces}))
    browser.open(file)
    section = "#target-a-target"
    text = browser.run(f"document.querySelector('{section}').innerText")
    at = f"{verdict.first.op}[{', '.join(map(str, verdict.first.neuron))}], step {verdict.first.step}"
    assert f"They part at {at}" in text
    assert "reset" in text
    off = traces.places[verdict.first.op][:, verdict.first.batch]
    want, got = (side[:, verdict.first.batch] for side in traces.pairs[verdict.first.op])
    path = "(document.querySelector('{} path.{}')?.getAttribute('d') ?? '').split('M').length - 1"
    marks = {kind: browser.run(path.format(section, kind)) for kind in ("both", "reference", "target")}
    assert marks == {
        "both": np.count_nonzero((want != 0) & ~off),
        "reference": np.count_nonzero(off & (want > got)),
        "target": np.count_nonzero(off & (got > want)),
    }
    assert marks["reference"] + marks["target"] > 0
    # What lies under the pointer is read out.
    data = json.loads(browser.run(f"document.querySelector('{section} figure[data-marks]').dataset.marks"))
    t, row, wanted, given = data["marks"][0]
    x, y = data["left"] + (t + 0.5) * data["cell"], data["top"] + (row + 0.5) * data["height"]
    browser.run(
        f"(() => {{ const s = document.querySelector('{section} figure[data-marks] svg'); s.scrollIntoView();"
        f"const b = s.getBoundingClientRect(); s.dispatchEvent(new PointerEvent('pointermove', {{clientX: b.left + {x},"
        f"clientY: b.top + {y}}})); }})()"
    )
    readout = browser.run(f"document.querySelector('{section} .readout').textContent")
    assert readout == f"step {t}, neuron {data['neurons'][row]}: reference {wanted}, target {given}"


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_page(tmp_path: Path, browser: Browser, width: int, dark: bool) -> None:
    """Many targets, a long run, names without end: what is wide scrolls in its own box; text stands off its ground."""
    verdict, traces = differing(steps=900, reset="subtract")
    many = [type(verdict)(**{**vars(verdict), "target": f"target-{'x' * 30}-{k}"}) for k in range(12)]
    file = tmp_path / "report.html"
    file.write_text(page(many, {v.target: traces for v in many}))
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.call("Emulation.setEmulatedMedia", features=scheme)
    browser.open(file)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true }); 0")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(CONTRASTS) >= 4.5
    # More than three targets that differ: their sections wait to be opened.
    browser.open(file)
    assert browser.run("document.querySelectorAll('details[open]').length") == 0


CONTRASTS = """(() => {
  const light = c => {
    const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2];
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(c)) return c;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = document.querySelectorAll('h1, h2, h3, p, td, th, .pill, small, figcaption, .short, a');
  return Math.min(...[...texts].map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
})()"""


def test_large_populations_are_sampled_and_it_is_said() -> None:
    rng = np.random.default_rng(0)
    off = np.zeros((50, 5000), bool)
    late = rng.choice(5000, 100, replace=False)
    off[rng.integers(10, 50, 100), late] = True
    off[3, 4321] = True
    active = rng.random(5000) < 0.5
    rows = chosen(off, active | off.any(axis=0))
    assert len(rows) == ROWS
    assert 4321 in rows
    assert np.all(np.diff(rows) > 0)
    assert (active | off.any(axis=0))[rows].all()
    assert np.array_equal(chosen(off[:, :10], active[:10]), np.arange(10))
    assert (window(5000, 2500).start, window(5000, 2500).stop) == (2500 - STEPS // 6, 2500 - STEPS // 6 + STEPS)
    assert window(5000, 4990).stop == 5000
    verdict, traces = differing()
    (want, got), name = traces.pairs["lif"], "lif"
    wide = type(traces)({name: (np.tile(want, 200), np.tile(got, 200))})
    assert f"{ROWS} of 1,600 neurons ({ROWS} at most)" in page([verdict], {"a target": wide})


def test_names_never_become_markup() -> None:
    verdict, traces = differing(reset="subtract")
    evil = "<img src=x onerror=alert(1)>&\"'"
    pairs = {evil: next(iter(traces.pairs.values()))}
    text = page([type(verdict)(**{**vars(verdict), "target": evil})], {evil: type(traces)(pairs)}, input=None)
    assert "<img" not in text


@pytest.mark.oracle
def test_importers_stand_on_the_page(tmp_path: Path, browser: Browser) -> None:
    from snnir.importers import check_importer
    from tests.graph_kinds import make_graph

    found = check_importer(make_graph(0, "li-readout", "disc", dt=1e-4), "norse", batch=2, steps=30)
    file = tmp_path / "report.html"
    file.write_text(report_text({"source": "x.nir", "importers": [json.loads(json.dumps(asdict(found)))]}, {}))
    browser.open(file)
    assert browser.run("document.querySelector('.answer').textContent") == "0 of 1 importers build the file's network."
    text = browser.run("document.querySelector('#importer-target-norse').textContent")
    assert "n2 (LI) is missing" in text
    assert "norse.torch.from_nir(graph, dt=0.0001)" in text


def test_real_values_are_drawn_as_lines(tmp_path: Path) -> None:
    graph = network()
    x = {"input": np.ones((30, 2, 4))}
    got = run_reference(graph, x, populations(graph))
    got["output"] = got["output"] + (np.arange(30) > 10)[:, None, None] * 0.25
    verdict, traces = judge(graph, x, got, "a target")
    text = page([verdict], {"a target": traces})
    assert text.count("<polyline") == 2
    assert "They part at <b>output[0]</b>, step 11" in text
