"""All checks of one file, in order, and what they worked on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from snnir.doctor.fields import check_fields
from snnir.doctor.finding import Chart, Diagnosis
from snnir.doctor.names import check_names
from snnir.doctor.neurons import check_neurons
from snnir.doctor.reading import read_sheet
from snnir.doctor.shapes import Guess, Shapes, check_shapes
from snnir.doctor.sheet import Net, Sheet, net_of
from snnir.doctor.structure import check_structure
from snnir.doctor.time_steps import check_reset, check_time_steps, commonest_step, known_step, read_time_steps


@dataclass
class Content:
    """What a readable file holds, and the shapes it means."""

    sheet: Sheet
    net: Net
    shapes: Shapes
    guess: Guess


@dataclass
class Examination:
    """A diagnosis with its grounds; `content` is None where the file could not be read."""

    diagnosis: Diagnosis
    content: Content | None = None


def examination(source: Path | bytes) -> Examination:
    """Examines a file, or the content of one."""
    chart = Chart()
    sheet = read_sheet(source, chart)
    if sheet is None:
        return Examination(chart.diagnosis())
    net = net_of(sheet.root)
    check_fields(sheet, chart)
    check_structure(sheet, net, chart)
    shapes, guess = check_shapes(net, chart)
    check_names(sheet, chart)
    chart.populations = read_time_steps(sheet)
    chart.dt = known_step(sheet, chart.populations)
    check_neurons(sheet, commonest_step(sheet, chart.populations), chart)
    check_time_steps(sheet, chart.populations, chart)
    check_reset(sheet, chart)
    _check_loading(source, chart)
    return Examination(chart.diagnosis(), Content(sheet, net, shapes, guess))


def _check_loading(source: Path | bytes, chart: Chart) -> None:
    """Where no rule found a fault, the loader's word counts: what it refuses is a fault."""
    if any(finding.severity == "fault" for finding in chart.found):
        return
    from snnir.errors import CompileError
    from snnir.nir_io import read

    try:
        read(source)
    except CompileError as error:
        for fault in error.violations:
            chart.add("not-loadable", fault.where, fault.what, todo=fault.hint)
