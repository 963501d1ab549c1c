"""The records of other frameworks: data that the frontends use, and what is asked of them wrongly."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

import snnir
from snnir import UsageError
from snnir.frameworks import FRAMEWORKS
from snnir.semantics import Semantics


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_records_are_of_the_versions_that_the_tests_run(name: str) -> None:
    assert version(name) == FRAMEWORKS[name].version


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

    from snnir.cli.targets import targets_command

    shown = CliRunner().invoke(targets_command, [], env={"COLUMNS": "200"}).output
    for record in FRAMEWORKS.values():
        assert f"{record.title} {record.version}" in shown
    assert "delayed-subtract" in shown
    data = json.loads(CliRunner().invoke(targets_command, ["--output-format", "json"]).output)
    assert [record["name"] for record in data["frameworks"]] == list(FRAMEWORKS)
