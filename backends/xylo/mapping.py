"""Where everything goes: input channels, hidden neurons (expansion neurons first and last), outputs, and when.

Besides the network's own there are helpers (`snnir.backends.xylo.parts`): *relays* hold spikes back for a step, where
paths of different length must meet, or stand in for outputs that cannot be output neurons themselves; *drivers* spike
in every step and so deliver constants that the chip's 8-bit bias cannot hold; *starters* spike in the first step only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from snnir.backends.xylo.chip import Chip
from snnir.backends.xylo.layout import Block, Feed, Kind, Matrix, Plan, Wire
from snnir.backends.xylo.parts import needs_driver
from snnir.errors import Violation
from snnir.graph import Graph
from snnir.lags import timing
from snnir.naming import apart, fresh
from snnir.projections import Projection, Reading, read_network
from snnir.target import allowed

READING = Reading("xylo", room="at most 1000 neurons, 16 input channels")

_plans: WeakKeyDictionary[Graph, dict[str, Plan]] = WeakKeyDictionary()


def plan(graph: Graph, chip: Chip) -> Plan:
    """The layout of `graph` on `chip`. Never raises for a network that does not fit: the rules judge the plan.

    Drivers and starters make a network more exact, but it can do without most of them: where they would take the room
    that it needs itself, it does.
    """
    known = _plans.setdefault(graph, {})
    if chip.name not in known:
        made = [_Planner(graph, chip, "all").plan()]
        while not _fits(made[-1]) and len(made) < len(_HELPED):
            made.append(_Planner(graph, chip, _HELPED[len(made)]).plan())
        known[chip.name] = made[-1]
    return known[chip.name]


Helped = Literal["all", "hidden", "lifted", "least"]
_HELPED: tuple[Helped, ...] = ("all", "hidden", "lifted", "least")


def _fits(found: Plan) -> bool:
    chip, fan_out = found.chip, found.fan_out()
    return (
        found.n_hidden <= chip.hidden
        and found.input_expansion <= chip.input_expansion
        and found.output_expansion <= chip.output_expansion
        and int(fan_out.max(initial=0)) <= chip.fan_out
        and int(fan_out.sum()) <= chip.entries
    )


class _Planner:
    """Makes one plan.

    `helped`: which populations may have drivers and starters. 'all'; 'hidden' no output neurons; 'lifted' only LIF and
    IF neurons; 'least' only those LIF and IF neurons that could not have their biases otherwise.
    """

    def __init__(self, graph: Graph, chip: Chip, helped: Helped) -> None:
        self.chip = chip
        self.graph = graph
        self.semantics = graph.semantics
        self.network = read_network(graph, READING)
        self.mark = apart("~", graph.ops)  # between the names of relays' sources and their numbers
        self.named: dict[Kind, str] = {"driver": fresh("driver", graph.ops), "starter": fresh("starter", graph.ops)}
        self.faults: list[Violation] = []
        populations = self.network.populations
        known = [n for n, p in populations.items() if p.rule is not None]
        single = self.semantics.spikes_per_step == 1 and helped != "least"
        self.helped = helped
        self.lifted = [n for n in known if single and not populations[n].current_based]
        needy = [n for n in known if needs_driver(self.network, n, self.semantics)]
        alone = helped in ("lifted", "least")
        self.driven = [n for n in known if n in self.lifted or n in needy]
        self.driven = [n for n in self.driven if not (alone and populations[n].current_based)]
        # With the membrane updated before the synapse, a current acts one step after its spike.
        late = {n for n, p in self.network.populations.items() if p.current_based} if self._membrane_first else set()
        self.timing = timing(
            tuple(self.network.inputs),
            tuple(self.network.populations),
            [
                Projection(p.source, p.target, p.delay + (p.target in late), p.weight)
                for p in self.network.projections
                if p.target in self.network.populations
            ],
            prefix=READING.prefix,
        )
        self.between = self.timing.projections

    @property
    def _membrane_first(self) -> bool:
        return self.semantics.order == "membrane-first"

    def plan(self) -> Plan:
        network, chip = self.network, self.chip
        channels = dict(zip(network.inputs, np.cumsum([0, *network.inputs.values()]).tolist(), strict=False))
        if not network.complete:
            return self._sizes_only(channels)
        reads = self._reads()
        bendable = allowed(self.graph, "approximate")
        self.faults += () if bendable else self.timing.slow_loops
        lags = {name: self.timing.lags[name] for name in network.populations}
        native = self._native(reads)
        relayed = native is None
        if self.helped == "hidden":
            self.driven = [n for n in self.driven if n not in (native or ())]
        delay = max([0, *(-lag for lag in lags.values()), *(1 - lags[name] for name in self.lifted)])
        lags = {name: lag + delay for name, lag in lags.items()}
        at_input = {**dict.fromkeys(network.inputs, delay - 1), **lags}
        blocks = self._blocks(native or (), lags, at_input)
        place = {block.name: block for block in blocks}
        outputs = dict(
            zip(
                native or (),
                np.cumsum([0, *(network.populations[n].size for n in native or ())]).tolist(),
                strict=False,
            )
        )
        tapped = np.zeros(0, int)
        if relayed:
            order = dict.fromkeys(element for name in network.outputs for element in reads[name])
            tapped = np.array([place[name].first + index for name, index in order], int)
        return Plan(
            chip,
            network,
            self.semantics,
            blocks,
            outputs,
            relayed,
            tapped,
            reads,
            {**lags, **self._output_lags(lags, relayed)},
            delay,
            channels,
            tuple(self._feeds(place, outputs, channels, at_input)),
            tuple(self._relays(place, channels)),
            tuple(self._from_helpers("driver", self.driven, place, outputs, at_input)),
            tuple(self._from_helpers("starter", self.lifted, place, outputs, at_input)),
            (*network.faults, *self.faults),
            self.timing.slow_loops if bendable else (),
        )

    def _sizes_only(self, channels: Mapping[str, int]) -> Plan:
        """What the rules about sizes need, for networks whose connections cannot be read."""
        network, graph = self.network, self.graph
        size = {n: p.size for n, p in network.populations.items()}
        last = [n for n in size if any(e.target in network.outputs for e in graph.outgoing[n])]
        starts = np.cumsum([0, *(size[n] for n in last)]).tolist()
        return Plan(
            self.chip,
            network,
            self.semantics,
            tuple(Block(n, "current", size[n], 0) for n in size if n not in last),
            dict(zip(last, starts, strict=False)),
            channels=channels,
            faults=network.faults,
        )

    # -- outputs ---------------------------------------------------------------------------------------------------

    def _reads(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """Which neuron each element of each output is; a fault where it is not exactly one."""
        reads: dict[str, tuple[tuple[str, int], ...]] = {}
        for name in self.network.outputs:
            arriving = self.network.into(name)
            size = int(np.prod(self.network.outputs[name]))
            weights = [p.weight for p in arriving]
            sound = all(p.source in self.network.populations for p in arriving) and name not in self.network.bias
            stacked = np.concatenate([*weights, np.zeros((1, size))])
            sound = sound and bool(np.isin(stacked, (0, 1)).all() and (stacked.sum(axis=0) == 1).all())
            if not sound:
                what = "holds weighted sums, currents or constants" if weights else "no spikes of a neuron arrive"
                hint = "let the last layer spike, and decode its spikes on the host"
                wanted = "outputs that are spikes of neurons"
                self.faults.append(Violation("xylo-output-source", what, name, expected=wanted, hint=hint))
                reads[name] = ()
                continue
            if len({p.delay for p in arriving}) > 1:
                what = "its elements come with different delays"
                hint = "give every delayed part an output of its own"
                self.faults.append(Violation("xylo-output-source", what, name, hint=hint))
                reads[name] = ()
                continue
            sources = [(p.source, i) for p in arriving for i in range(len(p.weight))]
            reads[name] = tuple(sources[i] for i in stacked.argmax(axis=0).tolist())
        return reads

    def _native(self, reads: Mapping[str, Sequence[tuple[str, int]]]) -> tuple[str, ...] | None:
        """The populations that can be output neurons themselves; None where relays must stand in for them.

        An output neuron has a synaptic current, reads hidden neurons only, and nothing on the chip reads it.
        """
        last = tuple(dict.fromkeys(name for name in self.network.outputs for name, _ in reads[name]))
        feeding = {p.source for p in self.between}
        from_input = {p.target for p in self.between if p.source in self.network.inputs and self.timing.slack(p) == 0}
        for name in last:
            if not self.network.populations[name].current_based or name in feeding or name in from_input:
                return None
        return last

    def _output_lags(self, lags: Mapping[str, int], relayed: bool) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in self.network.outputs:
            projection = next((p for p in self.network.into(name) if p.source in lags), None)
            if projection is not None:
                found[name] = lags[projection.source] + int(relayed) - projection.delay
        return found

    # -- places ----------------------------------------------------------------------------------------------------

    def _blocks(self, native: Sequence[str], lags: Mapping[str, int], at: Mapping[str, int]) -> tuple[Block, ...]:
        network = self.network
        blocks = [
            Block(n, "current" if p.current_based else "direct", p.size, lags[n])
            for n, p in network.populations.items()
            if n not in native
        ]
        held: dict[str, int] = {}
        for p in self.between:
            held[p.source] = max(held.get(p.source, 0), self.timing.slack(p))
        for name, count in held.items():
            size = network.size(name)
            blocks += [Block(self._relay(name, i), "relay", size, at[name] + i) for i in range(1, count + 1)]
        blocks += self._helpers(native, at)
        return self._ordered(blocks, native, lags)

    def _ordered(self, blocks: list[Block], native: Sequence[str], lags: Mapping[str, int]) -> tuple[Block, ...]:
        """Ids: what reads inputs first, what outputs read last; what does neither, wherever it leaves both in reach."""
        reads_input = {p.target for p in self.between if p.source in self.network.inputs and self.timing.slack(p) == 0}
        reads_input |= {self._relay(name, 1) for name in self.network.inputs}
        read: set[str] = {self._held(p) for p in self.between if p.target in native}
        outputs = self.network.outputs
        read |= {p.source for p in self.network.projections if p.target in outputs and p.source not in native}
        deep = {self._level(n, lags[n]) for n in native if n in self.driven}
        read |= {self._relay(self.named["driver"], level) for level in deep}
        group: dict[str, list[Block]] = {"first": [], "both": [], "neither": [], "last": []}
        for block in blocks:
            first, last = block.name in reads_input, block.name in read
            group["both" if first and last else "first" if first else "last" if last else "neither"].append(block)
        size = {key: sum(b.size for b in members) for key, members in group.items()}
        before: list[Block] = []
        surplus = size["both"] + size["neither"] + size["last"] - self.chip.output_expansion if group["both"] else 0
        for block in group["neither"]:
            if not group["both"] or sum(b.size for b in before) < surplus:
                before.append(block)
        after = [b for b in group["neither"] if b not in before]
        ordered = [*group["first"], *before, *group["both"], *after, *group["last"]]
        starts = np.cumsum([0, *(b.size for b in ordered)]).tolist()
        return tuple(Block(b.name, b.kind, b.size, b.lag, s) for b, s in zip(ordered, starts, strict=False))

    def _relay(self, name: str, count: int) -> str:
        """The block that holds the spikes of `name` back for `count` steps: for none, its own."""
        return f"{name}{self.mark}{count}" if count else name

    def _held(self, p: Projection) -> str:
        """The block whose spikes a projection carries: its source, or the last relay behind it."""
        return self._relay(p.source, self.timing.slack(p))

    # -- drivers and starters --------------------------------------------------------------------------------------

    def _level(self, name: str, lag: int) -> int:
        """How many relays hold a driver's first spikes back until the source network's first step is due."""
        late = self._membrane_first and self.network.populations[name].current_based
        return max(0, lag + late - 1)

    def _helpers(self, native: Sequence[str], at: Mapping[str, int]) -> Iterator[Block]:
        """Drivers, and starters beside them: as many as their targets need, and relays behind each."""
        if not self.driven:
            return
        levels = {n: self._level(n, at[n]) for n in self.driven}
        targets: dict[int, int] = {}
        for n, level in levels.items():
            if n not in native:
                targets[level] = targets.get(level, 0) + self.network.populations[n].size
        chunks = max(1, -(-max(targets.values(), default=0) // self._per_helper))
        kinds: list[Kind] = ["driver", "starter"] if self.lifted else ["driver"]
        for kind in kinds:
            yield Block(self.named[kind], kind, chunks, 0)
            deepest = max(levels[n] for n in (self.driven if kind == "driver" else self.lifted))
            yield from (Block(self._relay(self.named[kind], i), "relay", chunks, i) for i in range(1, deepest + 1))

    @property
    def _per_helper(self) -> int:
        return self.chip.fan_out - 2  # a driver also feeds its relay and its starter; a relay and a starter, themselves

    def _from_helpers(
        self,
        kind: Kind,
        names: Sequence[str],
        place: Mapping[str, Block],
        outputs: Mapping[str, int],
        at: Mapping[str, int],
    ) -> Iterator[Wire]:
        used: dict[str, int] = {}
        for name in names:
            level = self._level(name, at[name])
            block = place[self._relay(self.named[kind], level)]
            size = self.network.populations[name].size
            if name in outputs:
                yield Wire("out", name, np.full(size, block.first), outputs[name] + np.arange(size))
                continue
            slots = used.get(block.name, 0) + np.arange(size)
            used[block.name] = int(slots[-1]) + 1
            yield Wire("rec", name, block.first + slots // self._per_helper, place[name].ids)

    # -- connections -----------------------------------------------------------------------------------------------

    def _relays(self, place: Mapping[str, Block], channels: Mapping[str, int]) -> Iterator[Wire]:
        for block in place.values():
            if block.kind != "relay":
                continue
            stem, _, number = block.name.rpartition(self.mark)
            before = self._relay(stem, int(number) - 1)
            if before in place:
                yield Wire("rec", block.name, place[before].ids, block.ids)
            else:
                yield Wire("in", block.name, channels[stem] + np.arange(block.size), block.ids)

    def _feeds(
        self, place: Mapping[str, Block], outputs: Mapping[str, int], channels: Mapping[str, int], at: Mapping[str, int]
    ) -> Iterator[Feed]:
        for p in self.between:
            n_pre, n_post = p.weight.shape
            held = self._held(p)
            pre = place[held].ids if held in place else channels[p.source] + np.arange(n_pre)
            matrix: Matrix = "rec" if held in place else "in"
            if p.target in outputs:
                yield Feed("out", p.target, p.source, pre, outputs[p.target] + np.arange(n_post), p.weight, p.delay)
            else:
                yield Feed(matrix, p.target, p.source, pre, place[p.target].ids, p.weight, p.delay)
