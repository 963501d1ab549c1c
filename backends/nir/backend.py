"""A graph as a NIR file, and the file read back and run: what is proven is what was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from snnir.backends.nir.blockers import NirTarget
from snnir.errors import UsageError, Violation
from snnir.graph import Graph
from snnir.interpreter import interpret
from snnir.ops import NIR_OPS, Array, Conv
from snnir.pipeline import Pass, parse_pipeline
from snnir.semantics import Semantics
from snnir.target import Files


def biases_are_per_channel(graph: Graph) -> Iterator[Violation]:
    """NIR's convolutions take one bias per channel, not a bias map."""
    for name, op in graph.ops.items():
        if isinstance(op, Conv) and op.bias.ndim > 1:
            yield Violation(
                "nir-bias-map",
                f"{op.kind} has a bias of shape {list(op.bias.shape)}",
                where=", ".join(graph.sources(name)),
                loc=str(op.loc or ""),
                expected=f"one bias per channel, {[op.bias.shape[0]]}",
                hint="leave the padded convolutions unfused (use fuse-linear{bias_map=false})",
            )


TARGET = NirTarget(
    name="nir",
    title="NIR files",
    ops=frozenset(NIR_OPS),
    semantics=Semantics(),
    # A NIR file fixes no step rule; ours is written beside it as metadata, so all of it follows the network.
    adapts=frozenset(f.name for f in fields(Semantics)),
    rules=(biases_are_per_channel,),
)


@dataclass(frozen=True)
class NirArtifact:
    """One `.nir` file."""

    graph: Graph
    latency: int = 0
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The file, made anew each time: it is as large as the network."""
        from snnir.nir_io import write

        return write(self.graph)

    def files(self) -> Files:
        """`graph.nir`."""
        return Files({"graph.nir": lambda: self.data})

    @cached_property
    def _read(self) -> Graph:
        from snnir.nir_io import read

        return read(self.data)

    def run(self, inputs: Mapping[str, Array], record: tuple[str, ...]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Reads the file back and runs it in the reference interpreter."""
        graph = self._read
        # An input that lift-vectors made a map of takes its values as such.
        shaped = {n: np.reshape(v, (*v.shape[:2], *graph.shapes[n])) for n, v in inputs.items()}
        outputs, recorded = interpret(graph, shaped, record=record)
        named = outputs if isinstance(outputs, dict) else {graph.outputs[0]: outputs}
        return named, recorded


class NirBackend:
    """Lowers what has a NIR form and writes the file."""

    target = TARGET

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Makes sure that no option is given but those of every target.

        Raises:
            UsageError: one is.
        """
        unknown = sorted(set(options) - {"allow", "calibrate"})
        if unknown:
            raise UsageError(f"target nir has no option {', '.join(unknown)}; it takes none")

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Pass, ...]:
        """Splits concatenations, folds batch norms and lowers upsampling, which NIR has not; drops dead ops.

        NIR's own reader would give an op that nobody reads an output of its own.
        """
        wanted = ["simplify{identities=false,layouts=false,duplicates=false}"]
        if not all(type(op) in NIR_OPS for op in graph.ops.values()):
            wanted += ["split-concat", "fold-batch-norm", "lift-vectors", "lower-upsample{alone=shift}"]
            wanted += ["ungroup-conv"]
        return parse_pipeline(",".join(wanted))

    def build(self, graph: Graph, options: Mapping[str, Any]) -> NirArtifact:
        """The file.

        Raises:
            UsageError: an option; this target has none.
        """
        from snnir.nir_io import check

        self.check_options(options)
        check(graph)
        return NirArtifact(graph)


NIR = NirBackend()
