"""What compiled placements have in common, whether their parts are for a chip and a host or for several chips."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from snnir.contents import npz, source
from snnir.errors import UsageError
from snnir.ops import Array
from snnir.target import Files

if TYPE_CHECKING:
    from snnir.compiler import CompileResult

_More = TypeVar("_More")


class Joined(ABC):
    """A network as parts, each with an artifact of its own, and a script that runs them together.

    Attributes:
        placement: what runs where.
        results: part name -> its compiled form. floats: the same in floats, for parts on a chip.
        shown: input that travels with it, (T, B, *shape) by name. values: what the network gives for it in floats,
            also between the parts.
        report: what crosses, and how far the chips' integers are off, cut by cut.
    """

    placement: Any
    results: Mapping[str, CompileResult]
    floats: Mapping[str, CompileResult]
    shown: Mapping[str, Array]
    values: Mapping[str, Array]
    report: Mapping[str, Any]

    @property
    def latency(self) -> int:
        """None: a part runs over all steps before the next one, and what comes late is waited for."""
        return 0

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """`placement.json`."""

    @abstractmethod
    def _readme(self) -> str:
        """`README.md`."""

    def _ends(self) -> dict[str, Any]:
        """What `placement.json` says of the whole."""
        graph = self.placement.graph
        return {
            "inputs": {name: list(graph.shapes[name]) for name in graph.inputs},
            "outputs": list(graph.outputs),
            "measured": self.report.get("measured", []),
        }

    def _files(self, script: str) -> Files:
        """A folder per part, `run.py` (the module `script`), `placement.json`, `placement.txt`, `input.npz`,
        `expected.npz`, `README.md`."""
        from snnir.artifact import with_manifest

        found = Files(
            {
                "run.py": lambda: source(script),
                "npz_files.py": lambda: source("snnir.npz_files"),
                "placement.json": lambda: (json.dumps(self.described(), indent=1) + "\n").encode(),
                "placement.txt": lambda: (str(self.placement) + "\n").encode(),
                "input.npz": lambda: npz(self.shown),
                "expected.npz": lambda: npz(self.values),
                "README.md": lambda: self._readme().encode(),
            }
        )
        for name, result in self.results.items():
            found = found | with_manifest(result).under(name)
        for name, result in self.floats.items():
            found = found | Files.of(result.artifact.files()).under(f"{name}/float")
        return found

    def _handed(
        self, values: Mapping[str, Array], record: tuple[str, ...]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Outputs and recorded values of all that lies between parts.

        Raises:
            UsageError: a recorded op whose value stays inside a part.
        """
        unknown = [name for name in record if name not in values]
        if unknown:
            there = ", ".join(values)
            raise UsageError(f"cannot record {', '.join(unknown)}: inside a part; between parts are {there}")
        return {name: values[name] for name in self.placement.graph.outputs}, {name: values[name] for name in record}


def in_own_time(
    run: Callable[[dict[str, Array]], tuple[dict[str, Array], _More]],
    inputs: Mapping[str, Array],
    late: int,
    lags: Mapping[str, int],
) -> tuple[dict[str, Array], _More]:
    """A part's outputs in the network's own time: it runs longer, and what comes late is put back.

    Args:
        run: inputs -> outputs, both (T, B, *shape) by name, and whatever else it says.
        inputs: (T, B, *shape) by name.
        late: steps by which its outputs come late. lags: output -> the same, where they differ.
    """
    steps = len(next(iter(inputs.values())))
    held = {n: np.concatenate([x, np.zeros((late, *x.shape[1:]), x.dtype)]) for n, x in inputs.items()}
    outputs, more = run(held)
    return {name: x[lags.get(name, late) :][:steps] for name, x in outputs.items()}, more
