"""The records of other frameworks: data that the frontends use, and what is asked of them wrongly."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

import snnir
import snnir.frameworks
from snnir import UsageError
from snnir.frameworks import FRAMEWORKS
from snnir.semantics import Semantics

# Run elsewhere: tests/test_framework_records.py compares with traces that hold their versions.
RECORDED = ("spyx", "lava")


@pytest.mark.parametrize("name", [name for name in FRAMEWORKS if name not in RECORDED])
def test_records_are_of_the_versions_that_the_tests_run(name: str) -> None:
    record = FRAMEWORKS[name]
    assert version(record.package or name) == record.version


def test_another_release_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert snnir.semantics_of("norse", version="1.1.0") == Semantics()
    with pytest.raises(UsageError, match=r"no record of Norse 1\.2\.0, only of 1\.1\.0"):
        snnir.semantics_of("norse", version="1.2.0")
    monkeypatch.setattr(snnir.frameworks, "_installed", lambda package: "9.0")
    with pytest.warns(UserWarning, match=r"the record of Lava was compared with 0\.10\.0, and 9\.0 is installed"):
        snnir.semantics_of("lava")
    assert snnir.semantics_of("lava", version="0.10.0").latency_neuron == 1  # asked for by name: no warning


def test_chips_records_are_what_their_targets_do() -> None:
    """But for the gain: a target scales weights to the network's, the record says what the chip does with them."""
    from snnir.registry import backend

    xylo, lava = snnir.semantics_of("xylo"), snnir.semantics_of("lava", arithmetic="fixed")
    assert xylo.with_(gain="ode") == backend("xylo-audio3").target.semantics
    assert lava.with_(gain="ode") == backend("lava").target.semantics
    assert snnir.semantics_of("xylo", neuron="output").spikes_per_step == 1
    assert {FRAMEWORKS[name].simulator for name in ("xylo", "lava")} == {
        "snnir.simulators.xylo",
        "snnir.simulators.loihi",
    }


def test_options_are_those_of_the_frameworks() -> None:
    assert snnir.semantics_of("norse") == Semantics()
    assert snnir.semantics_of("norse", reset="subtract").reset == "subtract"
    late = snnir.semantics_of("snntorch", reset="zero", dt=1e-3)
    assert (late.reset, late.gain, late.dt) == ("delayed-value", "unit", 1e-3)
    assert snnir.semantics_of("snntorch", reset="subtract").reset == "delayed-subtract"
    assert snnir.semantics_of("snntorch", reset_delay=False).reset == "held-subtract"
    assert snnir.semantics_of("snntorch", reset="zero", reset_delay=False).reset == "value"
    assert snnir.semantics_of("spikingjelly", decay_input=False).gain == "unit"
    sinabs = snnir.semantics_of("sinabs", min_v_mem=-1.0, spikes_per_step=3, norm_input=False)
    assert (sinabs.membrane_floor, sinabs.spikes_per_step, sinabs.gain) == (-1.0, 3, "unit")
    assert snnir.semantics_of("sinabs", spikes="single").spikes_per_step == 1
    assert snnir.semantics_of("rockpool", layer="LIFBitshiftTorch").spikes_per_step == 31
    assert snnir.semantics_of("rockpool", max_spikes_per_dt=4).spikes_per_step == 4
    assert snnir.semantics_of("spyx", layer="CuBaLIF").reset == "subtract"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("brian", {}, "no record of 'brian'; there are norse, snntorch"),
        ("norse", {"reset": "zero"}, "reset is 'zero', expected 'value', 'subtract'"),
        ("snntorch", {"floor": 1}, "snnTorch has no option 'floor'; its options: reset, reset_delay"),
    ],
)
def test_what_no_record_says(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        snnir.semantics_of(name, **options)


def test_targets_shows_the_frameworks_side_by_side() -> None:
    from click.testing import CliRunner

    from snnir.cli import cli

    shown = CliRunner().invoke(cli, ["targets"], env={"COLUMNS": "200"}).output
    for record in FRAMEWORKS.values():
        assert f"{record.title} {record.version}" in shown
    assert "delayed-subtract" in shown
    data = json.loads(CliRunner().invoke(cli, ["targets", "--output-format", "json"]).output)
    assert [record["name"] for record in data["frameworks"]] == list(FRAMEWORKS)
