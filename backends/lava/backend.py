"""The backend for Lava: which passes bring a graph to it, and how an artifact is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnir.backends.lava.artifact import LavaArtifact
from snnir.backends.lava.build import Options, build
from snnir.backends.lava.planner import plan
from snnir.backends.lava.target import TARGET
from snnir.graph import Graph
from snnir.pipeline import Pass, parse_pipeline
from snnir.target import Target, require

PIPELINE = "simplify,fold-batch-norm"
"""What is left of linear ops between neurons, convolutions included, becomes one matrix (`snnir.projections`)."""


@dataclass(frozen=True)
class LavaBackend:
    """The way from a sound graph to Loihi's integers."""

    target: Target = TARGET

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Makes sure that there are such options, and that they can have such values.

        Raises:
            UsageError: with all that is wrong with them.
        """
        Options.read(options)

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Pass, ...]:
        """To neurons and linear ops."""
        Options.read(options)  # a misspelt option is an error before any work is done
        return parse_pipeline(PIPELINE)

    def lags(self, graph: Graph) -> Mapping[str, int]:
        """By how many steps populations and outputs of a lowered graph come late: name -> steps."""
        return plan(graph).lags

    def build(self, graph: Graph, options: Mapping[str, Any]) -> LavaArtifact:
        """The artifact; options as in `snnir.backends.lava.build.Options`.

        Raises:
            CompileError: a broken rule, or ranges that do not fit the network.
            UsageError: an option that does not exist, or a value that it cannot have.
        """
        chosen = Options.read(options)
        require(self.target, graph)
        return build(graph, chosen)


LAVA = LavaBackend()
