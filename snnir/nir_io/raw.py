"""A NIR graph before it is understood: nodes by name, each a kind with fields. Files and live objects meet here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class RawNode:
    """One NIR node: its type's name and its fields as NIR names them, unchecked."""

    kind: str
    fields: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class RawGraph:
    """One NIRGraph, nested ones included, unchecked."""

    nodes: dict[str, RawNode | RawGraph]
    edges: list[tuple[str, str]]
    metadata: dict[str, Any] = field(default_factory=dict)


class Fields(NamedTuple):
    """Names of the fields that a node must have, and of those that some versions of NIR leave out."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


_CONV = Fields(("weight", "stride", "padding", "dilation", "groups", "bias"), ("input_shape",))
_POOL = Fields(("kernel_size", "stride", "padding"))

# As nir 1.0.8 writes them. v_reset came with 1.0.5, input_shape with 0.2, w_in has a default of 1.
FIELDS: Mapping[str, Fields] = {
    "Input": Fields(("shape",)),
    "Output": Fields(("shape",)),
    "Affine": Fields(("weight", "bias")),
    "Linear": Fields(("weight",)),
    "Scale": Fields(("scale",)),
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Flatten": Fields(("start_dim", "end_dim"), ("input_type",)),
    "Delay": Fields(("delay",)),
    "Threshold": Fields(("threshold",)),
    "I": Fields(("r",)),
    "IF": Fields(("r", "v_threshold"), ("v_reset",)),
    "LI": Fields(("tau", "r", "v_leak")),
    "LIF": Fields(("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
    "CubaLI": Fields(("tau_syn", "tau_mem", "r", "v_leak"), ("w_in",)),
    "CubaLIF": Fields(("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"), ("v_reset", "w_in")),
}

GRAPH_KIND = "NIRGraph"
UNREADABLE = ""
"""The kind of a node that stands in the file but cannot be read; the reason has been noted."""
OWN_KEY = "snnir"
"""The one key of a graph's NIR metadata under which snnir writes what NIR has no field for, as a JSON string."""
NIR_VERSION = "1.0.8"
"""The version of NIR's format that is read and written; files carry it in `/version`."""
