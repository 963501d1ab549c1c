"""snnir: a compiler for spiking neural networks.

Define a network once, lower it to the Neuromorphic Intermediate Representation (NIR), optimise it by graph passes, and
emit it for training and deployment; know, target by target, that it is the same network, or exactly why not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnir.compiler import CompileResult, compile, load
    from snnir.errors import CompileError, MissingPackageError, SnnirError, UsageError, Violation
    from snnir.frameworks import semantics_of
    from snnir.graph import Edge, Graph
    from snnir.interpreter import interpret
    from snnir.ops import Loc, Op
    from snnir.placement import Placement, partition
    from snnir.semantics import Semantics
    from snnir.validation import explain, validate

__version__ = "0.1.0"

# Names are imported when first used, so that `import snnir` and `snnir --help` stay fast.
_WHERE = {
    "CompileError": "snnir.errors",
    "CompileResult": "snnir.compiler",
    "Edge": "snnir.graph",
    "Graph": "snnir.graph",
    "Loc": "snnir.ops",
    "MissingPackageError": "snnir.errors",
    "Op": "snnir.ops",
    "Placement": "snnir.placement",
    "Semantics": "snnir.semantics",
    "SnnirError": "snnir.errors",
    "UsageError": "snnir.errors",
    "Violation": "snnir.errors",
    "compile": "snnir.compiler",
    "explain": "snnir.validation",
    "interpret": "snnir.interpreter",
    "load": "snnir.compiler",
    "partition": "snnir.placement",
    "semantics_of": "snnir.frameworks",
    "validate": "snnir.validation",
}

__all__ = [
    "CompileError",
    "CompileResult",
    "Edge",
    "Graph",
    "Loc",
    "MissingPackageError",
    "Op",
    "Placement",
    "Semantics",
    "SnnirError",
    "UsageError",
    "Violation",
    "__version__",
    "compile",
    "explain",
    "interpret",
    "load",
    "partition",
    "semantics_of",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'snnir' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value
