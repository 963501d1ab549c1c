"""The three Xylo backends: which passes bring a graph to the chip, and how an artifact is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnir.backends.xylo.artifact import XyloArtifact
from snnir.backends.xylo.build import Options, build
from snnir.backends.xylo.chip import AUDIO2, AUDIO3, IMU, Chip
from snnir.backends.xylo.mapping import plan
from snnir.backends.xylo.target import target_of
from snnir.graph import Graph
from snnir.pipeline import Pass, parse_pipeline
from snnir.target import Target, require

PIPELINE = "simplify,fold-batch-norm,split-concat,unroll-conv,fuse-linear,normalise-gain"


@dataclass(frozen=True)
class XyloBackend:
    """One chip's way from a sound graph to an artifact."""

    chip: Chip
    target: Target

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Makes sure that there are such options, and that they can have such values.

        Raises:
            UsageError: with all that is wrong with them.
        """
        Options.read(options)

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Pass, ...]:
        """To dense weights and plain neurons."""
        Options.read(options)  # a misspelt option is an error before any work is done
        return parse_pipeline(PIPELINE)

    def lags(self, graph: Graph) -> Mapping[str, int]:
        """By how many steps populations and outputs of a lowered graph come late: name -> steps."""
        return plan(graph, self.chip).lags

    def build(self, graph: Graph, options: Mapping[str, Any]) -> XyloArtifact:
        """The artifact.

        Options: `calibrate` recorded input by name, (T, B, *shape) of 0 to 15 events; `choose_dt` true for the time
        step that suits the chip's decays best, or seconds.

        Raises:
            CompileError: a broken rule, or recorded input that the chip cannot take.
            UsageError: an option that does not exist, or a value that it cannot have.
        """
        chosen = Options.read(options)
        require(self.target, graph)
        return build(self.chip, graph, chosen)


XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU = (XyloBackend(chip, target_of(chip)) for chip in (AUDIO2, AUDIO3, IMU))
