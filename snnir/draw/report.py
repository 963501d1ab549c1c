"""A validation as one HTML file that holds everything it needs: verdicts, causes, rasters, divergence over time.

The page takes plain data (the JSON document of `snnir validate`, and arrays). Everything is drawn when the page is
written; its script only reads out what lies under the pointer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from snnir.draw.offline import as_html, offline_page
from snnir.draw.report_figures import ROWS, chosen, divergence, lines, raster, strip, window
from snnir.ops import Array

Pairs = Mapping[str, tuple[Array, Array]]
NAMED = 0.1  # share of a chip's difference from which on a rounding is named in the table
OPEN = 3  # sections of targets that differ stand open, if they are not more


def report_text(
    document: Mapping[str, Any],
    traces: Mapping[str, tuple[Pairs, Mapping[str, Array]]],
    title: str = "",
) -> str:
    """The page.

    Args:
        document: what `snnir validate --output-format json` prints: `source`, `input`, `verdicts`, `importers`.
        traces: target -> (op -> (reference, target), op -> where they differ), arrays (T, B, *shape) in running order.
        title: default made of the source.
    """
    verdicts: Sequence[Mapping[str, Any]] = document.get("verdicts", ())
    importers: Sequence[Mapping[str, Any]] = document.get("importers", ())
    name = title or f"Is it the same network? {document.get('source', '')}"
    web = files("snnir.draw").joinpath("web")
    differing = [v for v in verdicts if v.get("first") is not None]
    parts = [f"<h1>{as_html(name)}</h1>", _input(document), _answer(verdicts, importers)]
    if verdicts:
        parts += ["<h2>Targets</h2>", _table(verdicts, traces)]
        for v in verdicts:
            opened = v in differing and len(differing) <= OPEN
            parts.append(_section(v, traces.get(v["target"]), opened))
    if importers:
        parts += ["<h2>The frameworks' own importers</h2>", *(_importer(v, len(importers) <= OPEN) for v in importers)]
    body = "\n".join(part for part in parts if part)
    style, script = (web.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return offline_page(name, style, f"<main>\n{body}\n</main>", script)


def _input(document: Mapping[str, Any]) -> str:
    given = document.get("input")
    if not given and document.get("importers"):
        v = document["importers"][0]
        origin = "recorded" if v["seed"] is None else f"made-up input, seed {v['seed']}"
        given = {"steps": v["steps"], "batch": v["batch"], "origin": origin}
    if not given:
        return ""
    origin = {"recorded": "recorded input"}.get(given["origin"], given["origin"])
    return f'<p class="faint">{given["steps"]:,} steps, batch {given["batch"]:,}, {as_html(origin)}</p>'


def _answer(verdicts: Sequence[Mapping[str, Any]], importers: Sequence[Mapping[str, Any]]) -> str:
    said = []
    if verdicts:
        same = sum(v["verdict"] in ("identical", "identical after latency") for v in verdicts)
        said.append(
            f"{same} of {len(verdicts)} target{'s give' if len(verdicts) != 1 else ' gives'} the reference's spikes"
        )
        kept = sum(v["ok"] for v in verdicts)
        if kept != same:
            said.append(f"{kept} keep what they promise")
    if importers:
        right = sum(v["ok"] for v in importers)
        said.append(f"{right} of {len(importers)} importers build the file's network")
    return f'<p class="answer">{"; ".join(said)}.</p>' if said else ""


def _words(v: Mapping[str, Any]) -> str:
    if v["verdict"] == "identical after latency":
        return f"identical after {v['latency']} step{'s' if v['latency'] != 1 else ''}"
    return str(v["verdict"])


def _pill(word: str, ok: bool) -> str:
    kind, sign = ("good", "✓") if ok else ("mute", "–") if word == "not installed" else ("bad", "✗")
    return f'<span class="pill {kind}">{sign} {as_html(word)}</span>'


def _table(verdicts: Sequence[Mapping[str, Any]], traces: Mapping[str, Any]) -> str:
    rows = [
        '<tr><th>target</th><th>verdict</th><th class="number">reference spikes</th><th class="number">differing</th>'
        '<th>over time</th><th class="number">count error</th><th class="number">value error</th><th>why</th></tr>'
    ]
    for v in verdicts:
        compared = v["verdict"] not in ("refused", "not installed")
        numbers = (f"{v['spikes']:,}", f"{v['differing']:,}", f"{v['count_error']:.3%}", f"{v['max_error']:.1e}")
        a, b, c, d = (f'<td class="number">{n if compared else "–"}</td>' for n in numbers)
        kept = traces.get(v["target"])
        over = strip(_share(kept[1].values())) if kept and v.get("first") else ""
        rows.append(
            f'<tr><td><a href="#{_id(v["target"])}">{as_html(v["target"])}</a></td><td>{_pill(_words(v), v["ok"])}</td>'
            f'{a}{b}<td>{over}</td>{c}{d}<td class="why">{as_html(_why(v))}</td></tr>'
        )
    return f'<div class="card wide"><table id="verdicts">{"".join(rows)}</table></div>'


def _why(v: Mapping[str, Any]) -> str:
    causes = v.get("causes") or ()
    if causes:
        names = ", ".join(f"{c['name']}{' at ' + c['where'] if c['where'] else ''}" for c in causes)
        return f"{names} ({v['explained']:.0%} of the differences)"
    integers = v.get("integers")
    if integers and integers["causes"]:
        named = [f"{_label(c)} {c['explained']:.0%}" for c in integers["causes"] if c["explained"] >= NAMED]
        said = ", ".join(named[:3]) or "no rounding alone a tenth"
        return f"{said} of the difference in {integers['measure']}"
    return str(v.get("cause", ""))


def _share(places: Any) -> Array:
    """Share of all recorded places that differ, per step, of the ops that differ."""
    counts = [(w.reshape(len(w), -1).sum(axis=1), w[0].size) for w in places if w.any()]
    steps = min((len(c) for c, _ in counts), default=0)
    total = sum(size for _, size in counts)
    return np.sum([c[:steps] for c, _ in counts], axis=0) / total if total else np.zeros(1)


def _section(v: Mapping[str, Any], kept: Any, opened: bool) -> str:
    head = f'<span class="name">{as_html(v["target"])}</span>{_pill(_words(v), v["ok"])}'
    head += f'<span class="short">{as_html(_why(v))}</span>'
    body = [_first(v), _causes(v), _violations(v), _flips(v)]
    if kept:
        body += _figures(v, *kept)
    return (
        f'<details class="card" id="{_id(v["target"])}"{" open" if opened else ""}><summary>{head}</summary>'
        f"{''.join(body)}</details>"
    )


def _first(v: Mapping[str, Any]) -> str:
    d = v.get("first")
    if not d:
        return ""
    at = f"{d['op']}{list(d['neuron'])}" if d["neuron"] else d["op"]
    return (
        f"<p>They part at <b>{as_html(at)}</b>, step {d['step']:,}, sample {d['batch']}: the target gives "
        f"{d['got']:.6g}, the reference {d['expected']:.6g}.</p>"
    )


def _causes(v: Mapping[str, Any]) -> str:
    named, partial = v.get("causes") or (), v.get("partial") or ()
    if v.get("integers"):
        return _integers(v["integers"])
    if not (named or partial):
        return f"<p>Cause: {as_html(v['cause'])}.</p>" if v.get("cause") and not v.get("violations") else ""
    title = "Cause" if named else "No cause explains it; these explain a part"
    rows = []
    for c in named or partial:
        at = f" at {c['where']}" if c["where"] else ""
        same = f" <small>(on this input the same as {as_html(', '.join(c['same']))})</small>" if c.get("same") else ""
        rows.append(
            f"<li><b>{as_html(c['name'] + at)}</b>: it computes {as_html(c['does'])}, the network means "
            f"{as_html(c['meant'])}. Explains {c['explained']:.1%} of the differences.{same}"
            f"<br>To remove it: {as_html(c['remedy'])}</li>"
        )
    return f"<h3>{title}</h3><ul>{''.join(rows)}</ul>"


def _label(c: Mapping[str, Any]) -> str:
    return f"{c['name']}, calibrated" if c["by_correction"] else str(c["name"])


def _integers(found: Mapping[str, Any]) -> str:
    """What each rounding explains, measured: a bar and two numbers each."""
    calibrated = any(c["corrected"] is not None for c in found["causes"])
    head = '<tr><th>rounding</th><th colspan="2">explains</th><th class="number">alone makes</th>'
    head += ('<th class="number">calibrated</th>' if calibrated else "") + "<th>here</th></tr>"
    rows = [head]
    for c in found["causes"]:
        if c["exact"]:
            continue
        more = "" if c["corrected"] is None else f"{c['corrected']:.2%}"
        rows.append(
            f'<tr><td>{as_html(_label(c))}</td><td class="number">{c["explained"]:.0%}</td>'
            f'<td><span class="bar"><span style="width:{100 * min(1.0, c["explained"]):.1f}%"></span></span></td>'
            f'<td class="number">{c["alone"]:.2%}</td>'
            + (f'<td class="number">{more}</td>' if calibrated else "")
            + f'<td class="why">{as_html(c["what"])}</td></tr>'
        )
    exact = [c["name"] for c in found["causes"] if c["exact"]]
    said = (
        f"The chip is {found['error']:.2%} off in {found['measure']}. Each rounding was put alone into the network in "
    )
    said += (
        "floats: how much of the chip's difference is then gone, and how far off that alone is. Single shares do not "
    )
    said += f"add up; all together, in floats, explain {max(0.0, 1 - found['remainder']):.0%}."
    if found["samples"] < found["batch"]:
        said += f" Measured on {found['samples']} of {found['batch']} samples."
    if exact:
        said += f" Exact here: {', '.join(exact)}."
    return (
        f'<h3>Which roundings</h3><div class="wide"><table class="roundings">{"".join(rows)}</table></div>'
        f'<p class="faint">{as_html(said)}</p>'
    )


def _violations(v: Mapping[str, Any]) -> str:
    rows = []
    for found in v.get("violations") or ():
        where = f"<b>{as_html(found['where'])}</b>: " if found["where"] else ""
        more = "".join(
            f"<br><small>{label} {as_html(found[key])}</small>"
            for key, label in (("expected", "expected"), ("hint", "help:"), ("loc", "at"))
            if found.get(key)
        )
        rows.append(f"<li>{where}{as_html(found['what'])} <code>{as_html(found['rule'])}</code>{more}</li>")
    return f"<h3>Why it is refused</h3><ul>{''.join(rows)}</ul>" if rows else ""


def _flips(v: Mapping[str, Any]) -> str:
    if not v.get("float32_flips"):
        return ""
    text = f"{v['float32_flips']:,} places differ between its float32 and its float64 run: rounding at a threshold."
    return f'<p class="faint">{text}</p>'


def _figures(v: Mapping[str, Any], pairs: Pairs, places: Mapping[str, Array]) -> list[str]:
    op = next((n for n in pairs if v.get("first") and n == v["first"]["op"]), None)
    op = op or next((n for n in pairs if places[n].any()), None) or _spiking(pairs)
    if op is None:
        return []
    want, got = pairs[op]
    off = places[op]
    d = v.get("first")
    others = tuple(axis for axis in range(off.ndim) if axis != 1)
    sample = d["batch"] if d and d["op"] == op else int(off.any(axis=others).argmax())
    steps, shape = len(want), want.shape[2:]
    a, b, w = (side[:, sample].reshape(steps, -1) for side in (want, got, off))
    ever = w.any(axis=1)
    parts = bool(ever.any())
    first = int(ever.argmax()) if parts else -1
    found = ["<h3>Differences over time</h3>", _divergence(places)] if off.any() else []
    found.append(f"<h3>{as_html(op)}: reference and target on top of one another</h3>")
    if _whole(a) and _whole(b):
        rows = chosen(w, (a != 0).any(axis=0) | (b != 0).any(axis=0))
        names = [_neuron(n, shape) for n in range(a.shape[1])]
        said = f"{window(steps, max(first, 0)).said}; sample {sample} of {want.shape[1]}; "
        said += f"all {a.shape[1]:,} neurons" if len(rows) == a.shape[1] else _subsample(w, rows)
        found += [_key(parts), raster(a, b, w, names, rows, first), _caption(said, parts)]
        return found
    element = int(w.any(axis=0).argmax())
    if d and d["op"] == op and d["neuron"]:
        element = int(np.ravel_multi_index(tuple(d["neuron"]), shape))
    said = f"element {_neuron(element, shape)}, sample {sample}; {window(steps, max(first, 0)).said}"
    key = '<div class="key"><span style="color:var(--reference)">━ reference</span>'
    found += [key + '<span style="color:var(--target)">╍ target</span></div>']
    found += [lines(a[:, element], b[:, element], first), f"<figcaption>{as_html(said)}</figcaption></figure>"]
    return found


def _spiking(pairs: Pairs) -> str | None:
    return next((n for n, (want, _) in pairs.items() if want.any()), None)


def _divergence(places: Mapping[str, Array]) -> str:
    shares = {n: w.reshape(len(w), -1).mean(axis=1) for n, w in places.items()}
    totals = {n: (int(np.count_nonzero(w)), int(w.size)) for n, w in places.items()}
    figure, said = divergence(shares, totals)
    text = "The stronger the colour, the more of an op's places differ in that step; ops in running order."
    return f"{figure}<figcaption>{as_html(f'{text} {said}')}</figcaption></figure>"


def _subsample(off: Array, rows: Array) -> str:
    differ = int(off.any(axis=0).sum())
    shown = int(off[:, rows].any(axis=0).sum())
    text = f"{len(rows)} of {off.shape[1]:,} neurons ({ROWS} at most)"
    return f"{text}: {shown} of the {differ:,} that differ, first those that part first, and others" if differ else text


def _caption(said: str, differs: bool) -> str:
    line = " Dashed: where they part." if differs else ""
    hint = '<p class="readout faint">Point at a place to read it out.</p>'
    return f"<figcaption>{as_html(said)}.{line}</figcaption>{hint}</figure>"


def _key(differs: bool) -> str:
    def sign(kind: str, y: float, tall: float) -> str:
        return f'<svg aria-hidden="true"><rect class="{kind}" x="3" y="{y}" width="8" height="{tall}"/></svg>'

    entries = [sign("both", 2, 10) + "both spike, alike"]
    if differs:
        entries += [sign("reference", 1, 6) + "reference more", sign("target", 7, 6) + "target more"]
    return f'<div class="key">{"".join(f"<span>{entry}</span>" for entry in entries)}</div>'


def _whole(values: Array) -> bool:
    return bool(np.all(values == np.rint(values)))


def _neuron(index: int, shape: tuple[int, ...]) -> str:
    return ",".join(map(str, np.unravel_index(index, shape))) if len(shape) > 1 else str(index)


def _importer(v: Mapping[str, Any], opened: bool) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in v["versions"].items())
    rows = [f'<p class="faint">{as_html(versions)}; <code>{as_html(v["call"])}</code></p>']
    if v["error"]:
        rows.append(f"<p><code>{as_html(v['error'])}</code></p>")
    if v["shape"]:
        rows.append(f"<p>It returns shape {list(v['shape'][1])}, the file's output has {list(v['shape'][0])}.</p>")
    elif v["places"]:
        rows.append(f"<p>{v['differing']:,} of {v['places']:,} places of the output differ.</p>")
    points = [_fault(fault) for fault in v["faults"]]
    points += [
        f"<li>It refuses <b>{as_html(r['where'])}</b> ({as_html(r['kind'])}): <code>{as_html(r['error'])}</code></li>"
        for r in v["refused"]
    ]
    rows.append(f"<ul>{''.join(points)}</ul>" if points else "")
    if v["explained"] is not None and v["faults"]:
        share = "all" if v["explained"] == v["returned"] else f"{v['explained']:,} of"
        said = f"these faults give the importer's own output in {share} {v['returned']:,} places"
        rows.append(f"<p>Put together, {said}.</p>")
    rows += [f'<p class="faint">Note: {as_html(note)}.</p>' for note in v["notes"]]
    short = ", ".join(dict.fromkeys(fault["kind"] for fault in v["faults"])) or v["error"]
    head = f'<span class="name">{as_html(v["importer"])}</span>{_pill(v["verdict"], v["ok"])}'
    return (
        f'<details class="card" id="importer-{_id(v["importer"])}"{" open" if opened else ""}><summary>{head}'
        f'<span class="short">{as_html(short)}</span></summary>{"".join(rows)}</details>'
    )


def _fault(fault: Mapping[str, Any]) -> str:
    alone = "" if fault["places"] is None else f" Alone it changes {fault['places']:,} places of the output."
    return (
        f"<li><b>{as_html(fault['kind'])}</b>: {as_html(fault['what'])}.{alone}"
        f"<br><small>{as_html(fault['evidence'])}</small></li>"
    )


def _id(name: str) -> str:
    return "target-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
