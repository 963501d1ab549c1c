"""From a graph that keeps all rules to an artifact: layout, integers, measurement, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from snnir.backends.lava.artifact import LavaArtifact
from snnir.backends.lava.inputs import BITS, CONV_BITS, Code, codes, example
from snnir.backends.lava.measure import measure
from snnir.backends.lava.netx import unsayable
from snnir.backends.lava.plan import PART, Plan, mark
from snnir.backends.lava.planner import Conv, plan
from snnir.backends.lava.quantise import assemble, quantise
from snnir.backends.lava.report import describe
from snnir.errors import CompileError, UsageError, Violation, did_you_mean
from snnir.graph import Graph
from snnir.ops import Array

WEIGHT_BITS = (8, 9, 16)
_ATTEMPTS = 4  # at scales at which no membrane is cut off


@dataclass(frozen=True)
class Options:
    """The options of the lava target.

    Attributes:
        calibrate: recorded input by name, (T, B, *shape): says which inputs are spikes and which are numbers, and how
            large; and is what the report measures with.
        input_bits: bits of the integers that numbers become, sign included, 2 to 24; default 12, or 10 where they go
            through Lava's Conv, whose weights have no exponents.
        input_range: largest magnitude of numbers that go in; default what was recorded.
        threshold: units of weight that a threshold is, for all populations; default what suits each best.
        weight_bits: with the sign: 16 by a coarse and a fine connection per matrix, 9 by one per sign, 8 by one.
        period: steps of a call, for networks that are called again and again: every neuron is reset when a call begins
            for it, so that a call may follow the other without a pause.
        conv: "conv" for Lava's Conv wherever there is a convolution, "matrix" for matrices alone, "auto" for Conv where
            a matrix would be large.
        netx: write `network.net`, too, which lava-dl's netx loads: for chains without biases, weights of 8 bits.
    """

    calibrate: Mapping[str, Array] | None = None
    input_bits: int | None = None
    input_range: float | None = None
    threshold: int | None = None
    weight_bits: int = 16
    period: int | None = None
    conv: Conv = "auto"
    netx: bool = False

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Options:
        """Options as `compile` and the command line give them.

        Raises:
            UsageError: with every option that does not exist, and every value that one cannot have.
        """
        faults: list[str] = []
        names = ("calibrate", "input_bits", "input_range", "threshold", "weight_bits", "period", "conv", "netx")
        unknown = set(options) - {*names, "allow"}
        if unknown:
            there = ", ".join((*names, "allow"))
            meant = did_you_mean(sorted(unknown), names)
            faults.append(f"lava has no option {', '.join(sorted(unknown))}{meant}; its options: {there}")
        found = cls(**{name: options[name] for name in names if name in options})
        for name in ("threshold", "period"):
            value = getattr(found, name)
            if value is not None and not (isinstance(value, int) and value > 0):
                faults.append(f"{name} is {value}, expected a whole number above 0")
        if found.weight_bits not in WEIGHT_BITS:
            faults.append(f"weight_bits is {found.weight_bits}, expected one of {', '.join(map(str, WEIGHT_BITS))}")
        if found.conv not in get_args(Conv):
            faults.append(f"conv is {found.conv!r}, expected one of {', '.join(get_args(Conv))}")
        if not isinstance(found.netx, bool):
            faults.append(f"netx is {found.netx}, expected true or false")
        if faults:
            raise UsageError("\n".join(faults))
        return replace(found, weight_bits=8) if found.netx else found


def build(graph: Graph, options: Options) -> LavaArtifact:
    """The artifact of a graph that keeps all rules.

    Raises:
        CompileError: ranges that do not fit, or calls that would run into one another.
        UsageError: a value that an option cannot have.
    """
    layout = plan(graph, options.conv)
    if layout.faults:
        raise CompileError(layout.faults, title=f"the network does not fit with conv={options.conv}")
    if options.period is not None:
        _require_calls(layout)
    inputs = _codes(graph, layout, options)
    _require_relays(layout, inputs)
    shown = example(graph, options.calibrate, inputs)
    caps: dict[str, float] = {}
    for attempt in range(_ATTEMPTS):
        made = _made(graph, layout, inputs, options, caps, shown)
        measured = measure(made, shown, recorded=options.calibrate is not None)
        cut = [] if options.threshold is not None else measured["membranes_cut_off"]
        if not cut or attempt == _ATTEMPTS - 1:
            break
        caps |= {q.cell.name: q.scale / 4.0 for q in made.cells if q.cell.name in cut}
    return replace(made, report=describe(made, measured))


def _codes(graph: Graph, layout: Plan, options: Options) -> dict[str, Code]:
    """The codes of all inputs, those in front of convolutions in fewer bits and in two parts."""
    bits = options.input_bits
    found = codes(graph, options.calibrate, BITS if bits is None else bits, options.input_range)
    convolved = {wire.source for wire in layout.wires if wire.geometry is not None and wire.source in found}
    if options.netx or not convolved:
        return found
    fewer = codes(graph, options.calibrate, CONV_BITS if bits is None else bits, options.input_range)
    return {
        name: fewer[name].in_two(mark(PART, layout.network)) if name in convolved else code
        for name, code in found.items()
    }


def _made(
    graph: Graph,
    layout: Plan,
    inputs: Mapping[str, Code],
    options: Options,
    caps: Mapping[str, float],
    shown: Mapping[str, Array],
) -> LavaArtifact:
    strict = graph.semantics.comparison == ">"
    cells = quantise(layout, inputs, strict, options.threshold, options.weight_bits, caps, options.netx)
    spec = assemble(layout, cells, inputs, options.period)
    made = LavaArtifact(
        graph, layout, cells, inputs, spec, _one(shown, layout), netx=options.netx, weight_bits=options.weight_bits
    )
    if options.netx and (faults := list(unsayable(spec))):
        raise CompileError(faults, title="netx files cannot hold this network")
    return made


def _one(shown: Mapping[str, Array], layout: Plan) -> dict[str, Array]:
    """One sample, and as many steps more as outputs come late."""
    late = max((read.lag for read in layout.reads.values()), default=0)
    return {name: np.concatenate([x[:, :1], np.zeros((late, 1, *x.shape[2:]))]) for name, x in shown.items()}


def _require_calls(layout: Plan) -> None:
    if not layout.feeds_forward:
        late = next(w for w in layout.wires if w.source_delay > 0)
        what = f"spikes of {late.source} act on later steps, and so one call would act on the next"
        fault = Violation("lava-period", what, late.target, hint="leave period out, and pause between calls")
        raise CompileError([fault], title="calls cannot follow one another without a pause")


def _require_relays(layout: Plan, inputs: Mapping[str, Code]) -> None:
    """Relays hand on spikes, not numbers."""
    relays = {cell.name: cell.relay[0] for cell in layout.cells if cell.relay}
    faults = [
        Violation(
            "lava-size",
            f"numbers of {wire.source} would have to wait in front of a convolution, and relays hand on spikes alone",
            where=relays[wire.target],
            expected="a smaller layer, which a matrix can reach",
            hint="let spikes go in, or put neurons right behind the input",
        )
        for wire in layout.wires
        if wire.target in relays and wire.source in inputs and inputs[wire.source].graded
    ]
    if faults:
        raise CompileError(faults, title="the network does not fit Lava's Conv")
