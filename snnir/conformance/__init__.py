"""A public conformance suite for simulators and importers of NIR: small graphs, inputs, exact expected traces.

Every case probes one thing. The files lie in `snnir/conformance/cases` (`snnir conformance --export DIR` copies them)
and need nothing of snnir: `NAME.nir`, `NAME.npz` (inputs, expected outputs, and what known mistakes give) and
`manifest.json`, which says what they mean. docs/conformance.md describes them and how to judge another library:

    snnir conformance --target torch                     # a target of snnir
    python -m snnir.conformance my_package:adapter       # any other library
"""

from __future__ import annotations

from snnir.conformance.judging import CaseVerdict, Score
from snnir.conformance.running import Refused, check_adapter, check_target, load_adapter
from snnir.conformance.suite import Case, cases, export

__all__ = [
    "Case",
    "CaseVerdict",
    "Refused",
    "Score",
    "cases",
    "check_adapter",
    "check_target",
    "export",
    "load_adapter",
]
