"""Is it the same network, and if not, why not? Verdicts, first differences and named causes."""

from snnir.validation.checking import judge, populations, run_reference, validate
from snnir.validation.comparing import RATE_LIMIT, aligned, compare, first_difference
from snnir.validation.search import Explanation, explain
from snnir.validation.verdicts import (
    TOLERANCE,
    Cause,
    Difference,
    IntegerCause,
    IntegerCauses,
    Population,
    Report,
    Traces,
    Verdict,
    Word,
    differs,
)

__all__ = [
    "RATE_LIMIT",
    "TOLERANCE",
    "Cause",
    "Difference",
    "Explanation",
    "IntegerCause",
    "IntegerCauses",
    "Population",
    "Report",
    "Traces",
    "Verdict",
    "Word",
    "aligned",
    "compare",
    "differs",
    "explain",
    "first_difference",
    "judge",
    "populations",
    "run_reference",
    "validate",
]
