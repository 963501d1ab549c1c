"""What the command line says to somebody who does not know it yet: examples, likely names, options, what to install."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from snnir import nir_io, ops
from snnir.backends.lava.build import Options as LavaOptions
from snnir.backends.xylo.build import Options as XyloOptions
from snnir.cli import cli, run
from snnir.cli.common import State
from snnir.cli.failure import explain
from snnir.cli.show import print_violations
from snnir.errors import UsageError, Violation, fail
from snnir.graph import Graph, chain
from snnir.registry import backend, backend_names
from snnir.semantics import Semantics
from tests.cli.kit import ROOT, network


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = run(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("command", list(cli.commands))
def test_every_help_shows_a_command_that_fits(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, command, "--help")
    assert status == 0
    _, _, after = out.partition("  Examples:\n" if "Examples:" in out else "  Example:\n")
    lines = after.partition("\n\n")[0].splitlines()
    assert any(line.startswith(f"    snnir {command} ") for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_the_list_of_commands_is_cut_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = said(capsys, "--help")
    listed = out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == sorted(cli.commands)
    assert not any("..." in line for line in listed)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("compile", "net.nir", "-t", "torhc", "-o", "out"), "torch"),
        (("compile", "net.nir", "-t", "nir", "-p", "fold-batchnorm", "-o", "out"), "fold-batch-norm"),
        (("targets", "xylo-audio"), "xylo-audio3"),
        (("passes", "fuse-linaer"), "fuse-linear"),
        (("inspect", "net.nir", "--energy", "-t", "xylo-imo"), "xylo-imu"),
        (("validate", "net.nir", "--against-importer", "nors"), "norse"),
        (("conformance", "-t", "torch", "--case", "fan_in"), "fan-in"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_misspelt_name_gets_the_likely_one(
    arguments: tuple[str, ...], meant: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = said(capsys, *arguments)
    assert status == 2
    assert re.search(rf"\(did you mean {meant}\?\); there are ", err)


def test_targets_list_exactly_the_options_that_backends_take() -> None:
    listed = {name: set(backend(name).target.options) for name in backend_names()}
    lava, xylo = ({field.name for field in fields(kind)} - {"calibrate"} for kind in (LavaOptions, XyloOptions))
    expected = {
        "lava": lava,
        "rockpool": {"bitshift"},
        **{f"xylo-{chip}": xylo for chip in ("audio2", "audio3", "imu")},
    }
    assert {name: options for name, options in listed.items() if options} == expected


@pytest.mark.parametrize("target", ["torch", "norse", "rockpool", "nir", "onnx", "lava", "xylo-imu"])
def test_an_unknown_option_names_those_that_exist(target: str) -> None:
    from snnir.compiler import compile as compile_graph

    with pytest.raises(UsageError, match="has no option no_such") as caught:
        compile_graph(network(), target, no_such=1)
    options = backend(target).target.options
    assert all(option in str(caught.value) for option in options)
    assert options or "it takes none" in str(caught.value)


def test_options_of_a_target_are_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = said(capsys, "targets", "lava")
    assert all(f"\n{option} " in out for option in backend("lava").target.options)
    assert out.count("judged by a design rule") == 1
    _, out, _ = said(capsys, "targets", "torch")
    assert "-O NAME=VALUE" not in out
    assert re.search(r"\nlatency_neuron +0 +refused", out)


@pytest.mark.parametrize("width", [80, 99, 100, 120])
def test_names_of_resets_are_in_one_piece(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = said(capsys, "targets")
    _, _, table = out.partition("What a step means")
    assert table.count("delayed-subtract") == 2
    assert all(len(line) <= width for line in table.splitlines())
    assert "SpikingJelly" in table
    assert ("xylo-int16" in table) == (width >= 100)


def test_long_violations_are_a_list_and_short_ones_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    short = Violation("rule", "10 outputs", "out", "model.py:7", "at most 8", "use fewer")
    print_violations("does not fit", [("", short), ("", short)])
    assert "what to do" in capsys.readouterr().err
    long = Violation("rule", "says " + "much " * 30, ", ".join(f"blocks.{k}.norm" for k in range(8)), hint="say less")
    print_violations("does not fit", [("", short), ("", long)])
    listed = capsys.readouterr().err
    assert "what to do" not in listed
    assert listed.count("[rule]") == 2
    assert all(len(line) <= 100 for line in listed.splitlines())


def test_training_without_torch_names_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text("")
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, err = said(capsys, "train", "model.py", "--data", "digits", "-o", "run")
    assert (status, out) == (3, "")
    assert err == "error: snnir train needs the package 'torch': pip install 'snnir[diffusion]'\n"
    assert not (tmp_path / "run").exists()


def test_an_import_that_an_extra_mends_is_no_fault_of_snnir(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(ModuleNotFoundError("No module named 'snntorch'", name="snntorch.spikegen"), State()) == 3
    assert "pip install 'snnir[snntorch]'" in capsys.readouterr().err
    assert explain(ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere"), State()) == 2
    assert "a fault of snnir" in capsys.readouterr().err


def test_what_is_written_is_listed_once_and_short(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    status, out, _ = said(capsys, "compile", "net.nir", "-t", "lava", "-o", "chip")
    assert status == 0
    listed = [line.strip() for line in out.partition("written to chip\n")[2].splitlines()]
    there = sorted(path.name for path in (folder / "chip").iterdir())
    assert [name.removeprefix("chip/").partition("/")[0] for name in listed] == there
    files = sum(path.is_file() for path in (folder / "chip" / "loihi_simulator").iterdir())
    assert f"chip/loihi_simulator/ ({files} files)" in listed


def test_an_error_of_one_violation_has_no_empty_title() -> None:
    assert str(fail("nir-file", "does not exist", where="net.nir")) == "[nir-file] net.nir: does not exist"


def test_the_document_of_the_command_line_knows_every_command_and_option() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    sections: dict[str, str] = {}
    for heading, body in re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE):
        sections |= dict.fromkeys(heading.split(", "), body)
    everywhere = {"--help", "--debug", "--output-format"}  # said once, for all commands
    missing = [
        f"{name} {option.opts[0]}"
        for name, command in cli.commands.items()
        for option in command.params
        if option.param_type_name == "option" and not everywhere & set(option.opts)
        if not any(re.search(rf"{spelt}(?![\w-])", sections[name]) for spelt in option.opts)
    ]
    assert not missing
    assert all(f"\nsnnir {name} " in text for name in cli.commands)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("vali", ["plain,validate"]),
        ("compile net.nir -t torch,spik", ["plain,torch,spikingjelly"]),
        ("targets xylo-", ["plain,xylo-audio2", "plain,xylo-audio3", "plain,xylo-imu"]),
        ("passes fold", ["plain,fold-batch-norm"]),
        ("inspect mod", ["file,mod"]),
        ("diff a.nir b", ["file,b"]),
    ],
)
def test_the_shell_completes(
    typed: str, expected: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_SNNIR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"snnir {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
    with pytest.raises(SystemExit):
        cli.main(args=[], prog_name="snnir")
    assert capsys.readouterr().out.split() == expected


def test_validate_names_neurons_that_never_spike(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def layers(second: float) -> Graph:
        return chain(
            ops.Input(shape=(4,)),
            ("fc", ops.Linear(weight=np.ones((8, 4)))),
            ("first", ops.LIF(tau=np.full(8, 0.01), v_threshold=np.full(8, 0.1))),
            ("out", ops.Linear(weight=np.full((3, 8), second))),
            ("second", ops.LIF(tau=np.full(3, 0.01), v_threshold=np.full(3, 0.1))),
            ops.Output(shape=(3,)),
            semantics=Semantics(dt=1e-3),
        )

    for weight, expected in ((1.0, False), (-1.0, True)):
        (folder / "two.nir").write_bytes(nir_io.write(layers(weight)))
        status, out, _ = said(capsys, "validate", "two.nir", "-t", "nir")
        assert status == 0
        assert "identical" in out
        assert ("no spike here: second; recorded input (--input)" in out) == expected
