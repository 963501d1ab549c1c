"""What a recorded run shows of an importer's faults: of structure, of every node, and of what this run hides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from snnir.graph import Edge, Graph
from snnir.importers.evidence import ignores
from snnir.importers.findings import Fault
from snnir.importers.model import Built, as_built, as_meant
from snnir.importers.readings import TOLERANCE, Change, Reading, applied, search, sizes
from snnir.importers.running import Recording
from snnir.importers.table import Importer
from snnir.importers.wiring import Feed, Wiring, meant, observed
from snnir.interpreter import interpret
from snnir.naming import fresh
from snnir.ops import Array, Input, Output

LARGE = 1e5  # of float32 values that are to be compared with sums of others
NODES = 40  # nodes that are imported alone, field by field
DEFAULTS = {"r": 1.0, "w_in": 1.0, "v_leak": 0.0, "v_reset": 0.0}  # to ignore these is no fault
IGNORED = {"v_reset": "reset-ignored", "bias": "bias-dropped"}  # others are called '<field>-ignored'


class Diagnosis:
    """What a recorded run shows."""

    def __init__(self, its: Importer, graph: Graph, x: Array, run: Recording, wanted: Array, batch: int) -> None:
        peaks = _peaks(run, x.shape[:2])
        tame = np.flatnonzero((np.arange(x.shape[1]) < batch) | (peaks.max(axis=0) < LARGE))
        wild = (peaks[:, :batch] >= LARGE).any(axis=1)
        self.steps = int(wild.argmax()) if wild.any() else len(x)  # those that can be compared
        self.its, self.graph, self.batch = its, graph, batch
        self.x, self.wanted = x[: self.steps, tame], wanted[: self.steps, tame]
        self.unbounded = self.steps < len(x)
        x, run = self.x, run.of(self.steps, tame)
        self.run = run
        self.wiring: Wiring = observed(graph, run, x)
        self.changes: dict[str, tuple[Change, ...] | None] = {n: self._changes(n) for n in run.y}
        self.meant = as_meant(graph)

    def _changes(self, name: str) -> tuple[Change, ...] | None:
        run = self.run
        x, y = (np.stack(side, 1).reshape(-1, *side[0].shape[1:]) for side in (run.x[name], run.y[name]))
        arriving, shape = self.graph.shapes[self.graph.incoming[name][0].source], self.graph.shapes[name]
        size = x.shape[:2]
        if x.size != np.prod((*size, *arriving)) or y.size != np.prod((*size, *shape)):
            return None
        own = Reading(self.graph[name], self.graph.semantics)
        return search(own, self.its.name, x.reshape(*size, *arriving), y.reshape(*size, *shape), shape)

    def _readings(self) -> dict[str, Reading]:
        return {
            name: applied(Reading(self.graph[name], self.graph.semantics), found)
            for name, found in self.changes.items()
            if found
        }

    def explained(self) -> int | None:
        """Places of the input's samples in which the model of all that was found gives the importer's own output."""
        built = as_built(self.graph, self.wiring, self._readings())
        if built is None or self.run.merged or any(found is None for found in self.changes.values()):
            return None
        given = built.run(self.x, self.run.output.shape[2:])
        if given is None:
            return None
        near = np.abs(given - self.run.output) <= TOLERANCE * sizes(self.run.output)
        return int(np.count_nonzero(near[:, : self.batch]))

    def faults(self) -> list[Fault]:
        """Everything that is not as the file says: structure first."""
        found = [*self._unbounded(), *self._lost(), *self._edges(), *self._output(), *self._nodes(), *self._merged()]
        known = {(fault.kind, name) for fault in found for name in fault.where}
        return [*found, *self._hidden(known)]

    def _hidden(self, known: set[tuple[str, str]]) -> list[Fault]:
        """What this run does not show: fields that can be changed in the file and change nothing of the answer."""
        together: dict[str, list[str]] = {}
        evidence: dict[str, str] = {}
        for name in list(self.run.y)[:NODES]:
            for field in self.graph[name].arrays:
                kind = kind_of(field)
                plain = field in DEFAULTS and not np.any(getattr(self.graph[name], field) != DEFAULTS[field])
                if plain or (kind, name) in known or self.changes[name] is None:
                    continue
                said = ignores(self.its, self.graph, name, field)
                if said:
                    together.setdefault(field, []).append(name)
                    evidence.setdefault(field, f"imported alone, {name} shows it: {said}")
        return [
            Fault(
                kind_of(field),
                tuple(names),
                f"{field} is ignored: {', '.join(names)}; this run does not show it",
                evidence[field],
                0,
            )
            for field, names in together.items()
        ]

    def _unbounded(self) -> list[Fault]:
        if not self.unbounded:
            return []
        text = f"its values grow beyond all bounds, past {LARGE:g} at step {self.steps}"
        return [Fault("unbounded", (), text, "what else is said was seen in the steps before")]

    # -- structure -----------------------------------------------------------------------------------------------

    def _lost(self) -> list[Fault]:
        found = [
            Fault("node-lost", (name,), f"{named(self.graph, name)} is missing", "no module stands for it")
            for name in self.run.lost
        ]
        for name in self.run.idle:
            text = f"{named(self.graph, name)} never runs"
            found.append(Fault("node-idle", (name,), text, "its module was not called in any step"))
        for name, sides in self.run.y.items():
            if len(sides) > 1:
                text = f"{named(self.graph, name)} runs {len(sides)} times in a step"
                found.append(Fault("node-repeated", (name,), text, f"its module was called {len(sides)} times a step"))
        return found

    def _edges(self) -> list[Fault]:
        faults: list[Fault] = []
        seen: set[str] = set()
        wanted = meant(self.graph)
        for name, feeds in self.wiring.calls:
            if name in seen:
                continue
            seen.add(name)
            what = self._fed(name, wanted[name], feeds)
            if what is None:
                continue
            kind, text, evidence = what
            ends = tuple(dict.fromkeys((name, *(s for s, _ in wanted[name]))))
            start = kind == "start-of-cycle"
            places = self._places(replace(self.meant, rest={})) if start else self._alone(feeds_of={name: feeds})
            faults.append(Fault(kind, ends, text, evidence, places))
        return faults

    def _fed(self, name: str, wanted: tuple[Feed, ...], feeds: tuple[Feed, ...] | None) -> tuple[str, str, str] | None:
        """Kind, words and evidence of what feeds an op wrongly."""
        if feeds is None:
            return "input-unknown", f"what arrives at {name} is no sum of what the nodes gave", "searched, not found"
        if set(feeds) == set(wanted):
            return self._first_step(name, wanted)
        seen = f"in every step {name} got {_sum_text(feeds)}; the file says {_sum_text(wanted)}"
        lost = [s for s, _ in wanted if s not in {f for f, _ in feeds}]
        new = [s for s, _ in feeds if s not in {f for f, _ in wanted}]
        late = [s for s, lag in feeds if (s, lag) not in wanted and s not in new and lag]
        soon = [s for s, lag in feeds if (s, lag) not in wanted and s not in new and not lag]
        if new:
            return "edge-wrong", f"{name} is fed by {_sum_text(feeds)} instead of {_sum_text(wanted)}", seen
        if lost:
            of = f"the fan-in of {name} is wrong: " if len(wanted) > 1 else ""
            return "edge-lost", f"{of}{', '.join(f'{s} -> {name}' for s in lost)} is lost", seen
        if late:
            of = f"the fan-in of {name} is wrong: " if len(wanted) > 1 else ""
            text = f"{of}{', '.join(f'{s} -> {name}' for s in late)} arrives one step late"
            return "edge-late", text, seen
        return "edge-early", f"the late edge {', '.join(f'{s} -> {name}' for s in soon)} arrives in its own step", seen

    def _first_step(self, name: str, wanted: tuple[Feed, ...]) -> tuple[str, str, str] | None:
        late = [s for s, lag in wanted if lag and np.any(self.meant.rest.get(s, 0.0))]
        if not late:
            return None
        text = f"what {', '.join(late)} gives at rest does not reach {name} in step 0"
        return "start-of-cycle", text, "in step 0 the late edge carried 0"

    def _output(self) -> list[Fault]:
        (name,) = self.graph.outputs
        wanted, feeds = meant(self.graph)[name], self.wiring.output
        found: list[Fault] = []
        if self.run.parts > 1:
            text = f"it returns {self.run.parts} values where the file sums {_sum_text(wanted)}"
            found.append(
                Fault("output-not-summed", (name,), text, f"its call gave {self.run.parts} values and a state")
            )
        if feeds is None:
            if off_by(self.run.output, self.wanted) is None or off_by(self.run.output, self.wanted).any():  # type: ignore[union-attr]
                text = "what it returns is no sum of what the nodes gave"
                found.append(Fault("output-unknown", (name,), text, "searched, not found"))
            return found
        if set(feeds) != set(wanted):
            text = f"it returns {_sum_text(feeds)}, not {_sum_text(wanted)}"
            sizes = (self.run.output.shape[2:], self.wanted.shape[2:])
            if sizes[0] != sizes[1]:
                text += f" (shape {list(sizes[0])}, not {list(sizes[1])})"
            evidence = f"in every step the returned value is that of {_sum_text(feeds)}"
            ends = tuple(dict.fromkeys(s for s, _ in (*feeds, *wanted)))
            found.append(Fault("wrong-output", ends, text, evidence, self._alone(feeds_of={name: feeds})))
        return found

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _nodes(self) -> list[Fault]:
        together: dict[tuple[str, str], list[tuple[str, Change]]] = {}
        faults: list[Fault] = []
        for name, found in self.changes.items():
            if found is None:
                text = f"{named(self.graph, name)} answers otherwise than the file says, in no known way"
                faults.append(Fault("answers-otherwise", (name,), text, "no change that was tried answers as it does"))
            for change in found or ():
                key = (change.kind, change.what) if not change.field else (change.kind, change.field)
                together.setdefault(key, []).append((name, change))
        for (kind, _), members in together.items():
            names = tuple(dict.fromkeys(name for name, _ in members))
            words = dict.fromkeys(change.what for _, change in members)
            places = [f"{name} ({change.said})" if change.said else name for name, change in members]
            text = f"{'; '.join(words)}: {', '.join(places)}"
            evidence = self._evidence(members)
            faults.append(Fault(kind, names, text, evidence, self._alone(changes_of=members)))
        return faults

    def _merged(self) -> list[Fault]:
        """Subgraphs that stand as one module, against the file's subgraph on what went in."""
        found: list[Fault] = []
        for out, ops in self.run.members.items():
            x, y = self.run.merged[out]
            given = _subgraph(self.graph, ops, out, x)
            off = None if given is None else off_by(y, given)
            if off is None or off.any():
                text = f"the one module that stands for {', '.join(ops)} answers otherwise than they do together"
                places = "in another shape" if off is None else f"in {np.count_nonzero(off):,} of {off.size:,} places"
                found.append(Fault("answers-otherwise", ops, text, f"on its own input it differs {places}"))
        return found

    def _evidence(self, members: list[tuple[str, Change]]) -> str:
        name, change = members[0]
        run = self.run
        count = sum(len(side) * side.shape[1] for side in run.y[name])
        seen = f"read so, {name} answers as its module did in all {count:,} recorded steps, and not otherwise"
        said = ignores(self.its, self.graph, name, change.field) if change.kind.endswith("-ignored") else ""
        return f"{seen}{'; ' + said if said else ''}"

    def _alone(
        self,
        feeds_of: Mapping[str, tuple[Feed, ...] | None] | None = None,
        changes_of: list[tuple[str, Change]] | None = None,
    ) -> int | None:
        """Places of the output that differ from the reference with this fault alone."""
        built: Built = self.meant
        (output,) = self.graph.outputs
        for name, feeds in (feeds_of or {}).items():
            if feeds is None:
                return None
            if name == output:
                built = replace(built, output=feeds)
            else:
                calls = tuple((n, feeds if n == name else old) for n, old in built.calls)
                built = replace(built, calls=calls)
        readings: dict[str, Reading] = {}
        for name, change in changes_of or ():
            own = readings.get(name, Reading(self.graph[name], self.graph.semantics))
            readings[name] = change.apply(own)
        return self._places(replace(built, readings=readings))

    def _places(self, built: Built) -> int | None:
        """Places of the output in which a network differs from the reference; None where its size differs."""
        given = built.run(self.x[:, : self.batch], self.wanted.shape[2:])
        if given is None:
            return None
        wanted = self.wanted[:, : self.batch]
        return int(np.count_nonzero(~(np.abs(given - wanted) <= TOLERANCE * sizes(wanted))))


def _sum_text(feeds: tuple[Feed, ...]) -> str:
    return " + ".join(f"{source}{' of the step before' if late else ''}" for source, late in feeds) or "nothing"


def named(graph: Graph, name: str) -> str:
    return f"{name} ({graph[name].kind})"


def _peaks(run: Recording, size: tuple[int, ...]) -> Array:
    """The largest absolute value in any node, (T, B)."""
    peaks = np.zeros(size)
    for values in (v for side in (*run.x.values(), *run.y.values()) for v in side):
        flat = np.abs(values.reshape(*size, -1))
        peaks = np.maximum(peaks, np.where(np.isfinite(flat), flat, np.inf).max(axis=-1))
    return peaks


def _subgraph(graph: Graph, ops: tuple[str, ...], out: str, x: Array) -> Array | None:
    """What some ops give at `out` when x arrives at all that is fed from outside them; None where x does not fit."""
    fed = [e for e in graph.edges if e.target in ops and e.source not in ops]
    shapes = {graph.shapes[e.source] for e in fed}
    if len(shapes) != 1 or len({e.source for e in fed}) != 1 or x.shape[2:] != next(iter(shapes)):
        return None
    start, end = fresh("input", graph.ops), fresh("output", graph.ops)
    table = {start: Input(shape=x.shape[2:]), **{n: graph[n] for n in ops}, end: Output(shape=graph.shapes[out])}
    edges = [Edge(start, e.target, e.port) for e in fed] + [e for e in graph.edges if {e.source, e.target} <= set(ops)]
    return np.asarray(interpret(Graph(table, (*edges, Edge(out, end)), graph.semantics), x))


def off_by(output: Array, wanted: Array) -> Array | None:
    """Where an output is not the reference's; None where it has another size."""
    if output.shape[:2] != wanted.shape[:2] or output.size != wanted.size:
        return None
    with np.errstate(invalid="ignore"):
        return ~(np.abs(output.reshape(wanted.shape) - wanted) <= TOLERANCE * sizes(wanted))


def kind_of(field: str) -> str:
    """What it is called when a field of the file is ignored."""
    return IGNORED.get(field, f"{field.replace('_', '-')}-ignored")
