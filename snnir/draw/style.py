"""How ops look: families with a shape and a colour each, told apart by shape alone where colours are not.

Colours are light tints and dark outlines of Okabe and Ito's palette, which holds for the usual kinds of colour
blindness ("Color Universal Design", 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

from snnir import ops
from snnir.ops import Op


@dataclass(frozen=True)
class Family:
    """Ops that are drawn alike.

    Attributes:
        label: in the legend.
        shape: 'pill', 'box', 'round', 'octagon', 'hexagon', 'slanted', 'notched' or 'plain'.
        fill, line: colours.
        dot: Graphviz's nearest shape and style.
        mermaid: the brackets of Mermaid's nearest shape.
    """

    label: str
    shape: str
    fill: str
    line: str
    dot: tuple[str, str]
    mermaid: tuple[str, str]


IO = Family("input, output", "pill", "#ECEFF1", "#455A64", ("ellipse", "filled"), ("([", "])"))
WEIGHTS = Family("weights", "box", "#DCEBF6", "#0072B2", ("box", "filled"), ("[", "]"))
NEURONS = Family("spiking neurons", "round", "#FCE4D6", "#C24A00", ("box", "filled,rounded"), ("(", ")"))
INTEGRATORS = Family("integrators", "octagon", "#FFF1CC", "#9A6A00", ("octagon", "filled"), ("{{", "}}"))
WINDOWS = Family("pool, scale, norm", "hexagon", "#D9F0E7", "#00795A", ("hexagon", "filled"), ("{{", "}}"))
FUNCTIONS = Family("products, functions", "notched", "#F6E3EE", "#A34A7F", ("component", "filled"), ("[[", "]]"))
TIME = Family("delay, encoder, decoder", "slanted", "#E4F2FB", "#2E7FAE", ("parallelogram", "filled"), ("[/", "/]"))
WIRING = Family("wiring", "plain", "#FFFFFF", "#78909C", ("box", "filled,dashed"), ("[", "]"))
# Not a family of ops: a module that stands for all that is in it.
MODULE = Family("module, folded", "box", "#EEF1F5", "#5F6F79", ("box3d", "filled"), ("[", "]"))

FAMILIES = (IO, WEIGHTS, NEURONS, INTEGRATORS, WINDOWS, FUNCTIONS, TIME, WIRING)

_MEMBERS: tuple[tuple[Family, tuple[type[Op], ...]], ...] = (
    (IO, (ops.Input, ops.Output, ops.Constant)),
    (WEIGHTS, (ops.Linear, ops.Conv, ops.ConvTranspose2d)),
    (NEURONS, (ops.SpikingNeuron, ops.Threshold)),
    (INTEGRATORS, (ops.Neuron,)),
    (WINDOWS, (ops.Pool2d, ops.Scale, ops.BatchNorm, ops.LayerNorm, ops.TokenShift)),
    (FUNCTIONS, (ops.Multiply, ops.Activation, ops.Wkv)),
    (TIME, (ops.Delay, ops.Repeat, ops.TemporalMean)),
)


def family(op: Op) -> Family:
    """The family of an op; whatever belongs to none is wiring."""
    return next((found for found, members in _MEMBERS if isinstance(op, members)), WIRING)


# Of regions that passes rewrote: stronger than the families' tints. The pass's name stands beside each outline.
MARKS = ("#7B3FB5", "#C2185B", "#00838F", "#2E7D32", "#B26A00", "#3949AB", "#8D4B2D", "#607D8B")


def mark(number: int) -> str:
    """The colour of the mark with this number."""
    return MARKS[number % len(MARKS)]


def mixed(colour: str, other: str, share: float) -> str:
    """`share` of one colour and the rest of another, both '#RRGGBB'."""
    pairs = ((int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02X}" for a, b in pairs)
