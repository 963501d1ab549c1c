"""What a target is: data and design rules; and what a backend must offer.

All rules of a target are checked and all violations come at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from snnir.errors import CompileError, Violation
from snnir.ops import Array, Op
from snnir.semantics import Semantics

if TYPE_CHECKING:
    from snnir.graph import Graph
    from snnir.pipeline import Pass

Rule = Callable[["Graph"], Iterator[Violation]]

ALLOWED = "snnir.allow"
"""Key of a graph's metadata: what the user allows a target to do to this network (`compile(..., allow=)`)."""


def allowed(graph: Graph, what: str) -> bool:
    """Whether the user allows `what` ('approximate') for this compilation."""
    return what in graph.metadata.get(ALLOWED, ())


def with_allowed(graph: Graph, allow: Sequence[str]) -> Graph:
    """The graph with just this allowed; what an earlier compilation of it was allowed is forgotten."""
    if not allow and ALLOWED not in graph.metadata:
        return graph
    others = {key: value for key, value in graph.metadata.items() if key != ALLOWED}
    return replace(graph, metadata={**others, ALLOWED: list(allow)} if allow else others)


class _File:
    """A file's content when called, and its hash from then on."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self.make, self.sha256 = make, ""

    def __call__(self) -> bytes:
        data = self.make()
        self.sha256 = self.sha256 or hashlib.sha256(data).hexdigest()
        return data


class Files(Mapping[str, bytes]):
    """Files by relative path, each made when it is asked for: a large network is in memory once, not per file."""

    def __init__(self, makers: Mapping[str, Callable[[], bytes]]) -> None:
        self._makers = {path: make if isinstance(make, _File) else _File(make) for path, make in makers.items()}

    def sha256(self, path: str) -> str:
        """The hash of a file; one that was read before is not made again for it."""
        file = self._makers[path]
        if not file.sha256:
            file()
        return file.sha256

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Files:
        """Any files; those of a `Files` stay as they are."""
        return files if isinstance(files, Files) else cls({path: partial(bytes, data) for path, data in files.items()})

    def __getitem__(self, path: str) -> bytes:
        return self._makers[path]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, path: object) -> bool:
        return path in self._makers

    def __or__(self, others: Files) -> Files:
        return Files({**self._makers, **others._makers})

    def under(self, folder: str) -> Files:
        """The same files within a folder; '' is none."""
        return Files({f"{folder}/{path}" if folder else path: make for path, make in self._makers.items()})


@dataclass(frozen=True)
class Ports:
    """What can go into a chip and out of it, for networks that a host shares (`snnir.partition`).

    Attributes:
        most: the largest whole number that goes in per channel and step; None for any number, as a graded spike.
        membranes: whether a host can read membranes and currents; spikes it can read in any case.
        says: what goes in, in words.
        inputs, outputs: channels in and out, and neurons: of a chip in all, of those that other chips can continue
            (`snnir.placement.chips`); None where a chip alone is large enough.
        late: rules about populations that show only as integers are made; one population less, and they may hold.
        alone: options that change what a step is, and so do not go with a host.
    """

    most: int | None
    membranes: bool
    says: str
    inputs: int | None = None
    outputs: int | None = None
    neurons: int | None = None
    late: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Target:
    """A platform that graphs are compiled for.

    Attributes:
        name: as on the command line.
        title: what it is, in a line.
        ops: the op types it takes, after its backend's pipeline.
        semantics: what it does in a step; fields that it can adapt to the graph are in `adapts`.
        adapts: names of the fields of `semantics` that follow the graph's.
        rules: one function per limit; each yields a violation per breach.
        package: import name of the package that runs it; None when snnir runs it itself.
        extra: the extra of snnir that installs the package.
        limits: numbers worth printing (`snnir targets`), name -> value with unit.
        options: what its backend takes beyond what every target takes, name -> what it does, and its default.
        ports: what a chip and a host can exchange; None for what is no chip.
    """

    name: str
    title: str
    ops: frozenset[type[Op]]
    semantics: Semantics
    adapts: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    package: str | None = None
    extra: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    ports: Ports | None = None

    def check(self, graph: Graph) -> list[Violation]:
        """Every reason why `graph` cannot run here: unsupported ops, unsupported semantics, broken design rules."""
        return [*self._unsupported(graph), *self._semantics(graph), *(v for rule in self.rules for v in rule(graph))]

    def _unsupported(self, graph: Graph) -> Iterator[Violation]:
        takes = ", ".join(sorted(op.__name__ for op in self.ops))
        for name, op in graph.ops.items():
            if type(op) not in self.ops:
                yield Violation(
                    f"{self.name}-op",
                    f"{op.kind} does not exist on {self.title}",
                    where=", ".join(graph.sources(name)),
                    loc=str(op.loc or ""),
                    expected=takes,
                )

    def _semantics(self, graph: Graph) -> Iterator[Violation]:
        for name, (wanted, there) in graph.semantics.differences(self.semantics).items():
            if name in self.adapts or name in ("dt", "number_format"):
                continue
            yield Violation(
                f"{self.name}-semantics",
                f"the network means {name}={wanted!r}, {self.title} does {there!r}",
                expected=f"{name}={there!r}",
                hint="train the network with that rule",
            )


class Artifact(Protocol):
    """What a backend makes of a graph: files, and a way to run them here."""

    @property
    def latency(self) -> int:
        """Steps by which outputs come later than the source network's."""
        ...

    @property
    def report(self) -> Mapping[str, Any]:
        """What was decided and what it cost, as JSON data."""
        ...

    def files(self) -> Mapping[str, bytes]:
        """The target's own files: relative path -> content. Writes nothing."""
        ...

    def run(self, inputs: Mapping[str, Array], record: tuple[str, ...]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Runs on `inputs` (name -> (T, B, *shape)), state at rest; gives outputs by name and recorded op outputs."""
        ...


class Environment(Protocol):
    """A Python of its own that a target's framework runs in."""

    def state(self) -> Mapping[str, Any]:
        """`python` (path or None), `version` of the framework there (or None), and `says`, both in a sentence."""
        ...

    def set_up(self, folder: str | None, python: str | None, say: Callable[[str], None]) -> None:
        """Makes it, unless it is there: in `folder` or the user's cache, of `python` or one that is found.

        Raises:
            CompileError: what is missing, or what failed.
        """
        ...


class Backend(Protocol):
    """One target's way from a sound graph to an artifact."""

    target: Target

    def pipeline(self, graph: Graph, options: Mapping[str, Any]) -> tuple[Pass, ...]:
        """The passes that bring a graph to this target, in order."""
        ...

    def build(self, graph: Graph, options: Mapping[str, Any]) -> Artifact:
        """The artifact of a graph that has gone through the pipeline and passed `target.check`.

        Raises:
            CompileError: what only shows while building (quantisation, ranges), all at once.
            UsageError: an option that this target does not have.
        """
        ...


def check_options(backend: Backend, options: Mapping[str, Any]) -> None:
    """Makes sure, before there is a graph, that a target can be given these options.

    Backends say so in a method `check_options(options)`. Those of other packages may lack it; they find out as they
    build.

    Raises:
        UsageError: an option that the target does not have, or a value that it cannot have.
    """
    check = getattr(backend, "check_options", None)
    if check is not None:
        check(options)


def require(target: Target, graph: Graph) -> None:
    """Raises CompileError with all violations of `target`'s rules, or returns."""
    violations = target.check(graph)
    if violations:
        raise CompileError(violations, title=f"the network does not fit {target.title}")
