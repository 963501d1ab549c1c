"""snnir inspect, passes, targets and visualize."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from snnir.cli import run
from snnir.registry import backend_names
from tests.cli.kit import network, said


def test_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "inspect", "net.nir", "--output-format", "json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "snnir.inspect.v1"
    assert document["inputs"] == {"input": [4]}
    assert document["semantics"]["dt"] == 1e-3
    assert document["totals"]["synapses"] == 4 * 8 + 8 * 3
    assert document["totals"]["neurons"] == 11
    assert [op["name"] for op in document["ops"]] == list(network().ops)
    assert ["fc", "lif", "input"] in document["edges"]
    status, out, _ = said(capsys, "inspect", "net.nir")
    assert "net.nir: input (4) -> output (3); 6 ops, 5 edges" in out
    assert "synaptic operations per step: 24 AC + 32 MAC, if every neuron spikes at every step" in out
    assert "time step 0.001 s, euler decay" in out


def test_inspect_reads_what_compile_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", "net.nir", "-t", "nir", "-o", "out"]) == 0
    capsys.readouterr()
    totals = [
        json.loads(said(capsys, "inspect", source, "--output-format", "json")[1])["totals"]
        for source in ("net.nir", "out")
    ]
    assert totals[0] == totals[1]


def test_inspect_after_passes_and_with_source_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.py").write_text(
        "import numpy as np\nfrom snnir import ops\nfrom snnir.graph import chain\n"
        "print('a word from the model')\n"
        "def build(width=2, twice=False):\n"
        "    scales = [ops.Scale(scale=np.float64(1.0)) for _ in range(1 + twice)]\n"
        "    return chain(ops.Input(shape=(width,)), *scales, ops.LIF(tau=0.01, v_threshold=1.0), ops.Output())\n"
    )
    arguments = ("inspect", "model.py:build", "-S", "width=5", "-S", "twice=true", "--dt", "0.001")
    status, out, err = said(capsys, *arguments, "--output-format", "json")
    assert (status, err) == (0, "a word from the model\n")
    document = json.loads(out)
    assert document["inputs"] == {"input": [5]}
    assert len(document["ops"]) == 5
    status, out, _ = said(capsys, *arguments, "-p", "simplify", "--output-format", "json")
    assert len(json.loads(out)["ops"]) == 3
    assert said(capsys, "inspect", "model.py", "-S", "depth=3", "--dt", "0.001")[0] == 2


def test_presets_and_model_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.py").write_text(
        "from snnir import ops\nfrom snnir.errors import UsageError\nfrom snnir.graph import chain\n"
        "def build(preset='small', widths=(2,)):\n"
        "    if preset not in ('small', 'large'):\n"
        "        raise UsageError(f'preset is {preset!r}, expected one of small, large')\n"
        "    shape = widths if preset == 'small' else (*widths, 7)\n"
        "    return chain(ops.Input(shape=shape), ops.LIF(tau=0.01, v_threshold=1.0), ops.Output())\n"
    )
    shape = ("inspect", "model.py", "--dt", "0.001", "--output-format", "json")
    for arguments, expected in (
        (("--preset", "large"), [2, 7]),
        (("--preset", "large", "--model-option", "widths=(5, 3)"), [5, 3, 7]),
        (("-S", "preset=large", "--preset", "large", "-S", "widths=[4]"), [4, 7]),
    ):
        status, out, err = said(capsys, *shape, *arguments)
        assert (status, err) == (0, "")
        assert json.loads(out)["inputs"] == {"input": expected}
    (folder / "fixed.py").write_text("def build(width=2): ...\n")
    for arguments, expected in (
        (("model.py", "--preset", "huge"), "preset is 'huge', expected one of small, large"),
        (("model.py", "--preset", "large", "-S", "preset=small"), "but -S says preset=small"),
        (("model.py", "-S", "widths=(4"), "no tuple or list of literals"),
        (("fixed.py", "--preset", "large"), "build() takes width=2"),
        (("net.nir", "--preset", "large"), "Invalid value for --preset: only a model.py takes options"),
    ):
        status, out, err = said(capsys, "inspect", *arguments)
        assert (status, out) == (2, "")
        assert expected in err


def test_passes_come_from_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    from snnir.pipeline import PASSES, parse_pipeline, pass_class

    status, out, _ = said(capsys, "passes", "--output-format", "json")
    assert status == 0
    found = {each["name"]: each for each in json.loads(out)["passes"]}
    assert list(found) == list(PASSES)
    for name, each in found.items():
        cls = pass_class(name)
        assert each["keeps"] == cls.keeps
        assert each["doc"].splitlines()[0] in (cls.__doc__ or "")
        given = ",".join(f"{o['name']}={o['default']}" for o in each["options"] if o["default"] is not None)
        assert parse_pipeline(f"{name}{{{given}}}") == (cls(),)  # the defaults shown are the defaults
    status, out, _ = said(capsys, "passes")
    assert all(f"\n{name} " in out for name in PASSES)
    status, out, _ = said(capsys, "passes", "simplify")
    assert out.startswith("simplify: keeps everything")
    assert "-p 'simplify{" in out


def test_targets_come_from_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "targets", "--output-format", "json")
    assert status == 0
    found = {each["name"]: each for each in json.loads(out)["targets"]}
    assert list(found) == list(backend_names())
    chip = found["fake-chip"]
    assert chip["rules"] == [{"name": "at-most-two-outputs", "doc": "The chip has two output pins."}]
    assert chip["ops"] == ["Affine", "Input", "LI", "LIF", "Linear", "Output"]
    assert (chip["installed"], found["fake-gone"]["installed"]) == (True, False)
    assert all(rule["doc"] for each in found.values() for rule in each["rules"])  # every rule says what it is
    status, out, _ = said(capsys, "targets")
    assert "\nWhat is missing is installed by\n  pip install 'snnir[fake]'\n" in out
    assert (chip["install"], found["fake-gone"]["install"]) == (None, "pip install 'snnir[fake]'")
    status, out, _ = said(capsys, "targets", "fake-chip")
    assert "fake-chip: a chip of cardboard" in out
    assert "at-most-two-outputs" in out
    assert "outputs" in out


def test_visualize(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "visualize", "net.nir")
    assert status == 0
    assert out.startswith("digraph snnir {")
    status, out, err = said(capsys, "visualize", "net.nir", "-o", "net.svg", "--title", "my <net>", "--layout", "own")
    assert (status, out) == (0, "")
    assert "net.svg" in err
    assert ElementTree.fromstring((folder / "net.svg").read_text()).get("aria-label") == "my <net>"
    assert run(["visualize", "net.nir", "-o", "net.mmd"]) == 0
    assert "flowchart TD" in (folder / "net.mmd").read_text()
    capsys.readouterr()
    assert said(capsys, "visualize", "net.nir", "-f", "mermaid")[1] == (folder / "net.mmd").read_text()
    status, _, err = said(capsys, "visualize", "net.nir", "-o", "no/such/folder/net.svg")
    assert status == 1
    assert "cannot be written" in err
    assert {p.name for p in folder.iterdir()} == {"net.nir", "net.svg", "net.mmd"}
