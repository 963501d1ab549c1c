"""Why a network does not go onto several chips: everything at once, with factors, layers, and where it could be cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from snnir.errors import Violation
from snnir.placement.chips.packing import Load, Packer
from snnir.placement.chips.parts import Aim, Net
from snnir.placement.crossing import SPIKE_ONCE, twice
from snnir.placement.fitting import factor

_SHOWN = 8


def unsplittable(packer: Packer) -> list[Violation]:
    """The populations that must share a chip, since what is between them is too wide to cross, and cannot."""
    net = packer.net
    faults = list(_wide_inputs(packer))
    blocks = _blocks(net, packer.ports.inputs)
    for last, block in blocks.items():
        if any(block < other for other in blocks.values()):
            continue
        aims = (Aim(last),)
        if packer.packed(aims, block) is not None:
            continue
        found = packer.violations(aims, block)
        kept = [v for v in found if not _elsewhere(v)] or ([] if faults else found)
        faults += [_named(packer, v, block) for v in kept]
    return list(dict.fromkeys(faults)) or _last_resort(packer)


def _elsewhere(violation: Violation) -> bool:
    """Whether a rule is about a chip's ends, which other cuts move."""
    return violation.rule.endswith(("input-channels", "output-neurons"))


def _wide_inputs(packer: Packer) -> Iterator[Violation]:
    """Populations that read more input channels than a chip has, whatever else it holds."""
    net, most = packer.net, packer.ports.inputs
    for group in net.groups:
        for name in group:
            cone = net.cone((Aim(name),), frozenset(group))
            inputs = {n: net.size(n) for n in cone.outside if _of_input(net, n)}
            total = sum(inputs.values())
            if total > most:
                much = f"{total / most:.3g} times what a chip has"
                yield Violation(
                    "placement-channels",
                    f"reads {total} input channels ({', '.join(sorted(inputs))}), {much}",
                    ", ".join(net.graph.sources(name)),
                    str(net.graph[name].loc or ""),
                    expected=f"at most {most} channels",
                    hint=f"give {name} {most} channels or less: no cut can lie before the first neurons",
                )


def _of_input(net: Net, name: str) -> bool:
    return name in net.graph.inputs or (
        not net.population(name) and net.graph.incoming[name][0].source in net.graph.inputs
    )


def _blocks(net: Net, most: int) -> dict[str, frozenset[str]]:
    """Population -> those that its chip must hold: its loop, and all before it that too many channels come from."""
    found: dict[str, frozenset[str]] = {}
    for group in net.groups:
        block = set(group)
        cone = net.cone(tuple(Aim(name) for name in group), frozenset(group))
        widths: dict[str, int] = {}
        for name in cone.outside:
            source = name if net.population(name) or name in net.graph.inputs else net.graph.incoming[name][0].source
            widths[source] = widths.get(source, 0) + net.size(name)
        for source, width in widths.items():
            if net.population(source) and width > most:
                block |= found[source]
        found.update(dict.fromkeys(group, frozenset(block)))
    return found


def _named(packer: Packer, violation: Violation, block: frozenset[str]) -> Violation:
    """A chip's rule, with the layers that break it, by how much, and what would help."""
    net, most = packer.net, packer.ports.inputs
    names = [name for group in net.groups for name in group if name in block]
    much = factor(violation)
    times = f", {much:.3g} times too much" if much is not None and much > 1 else ""
    loops = [name for name in names if name in net.loops]
    inner = [n for n in names if n not in net.loops and any(r in block for r in net.readers[n])]
    sizes = {name: net.size(name) for name in inner if net.size(name) > most}
    why = f"{_some(names)} must share a chip" if len(names) > 1 else f"{names[0]} needs a chip of its own"
    if sizes:
        listed = _some([f"{name} {size}" for name, size in sizes.items()])
        why += f": what they send one another is wider than {most} channels ({listed})"
    if loops:
        why += f"; the loop of {_some(loops)} lies in one chip, since spikes come back from another steps late"
    hints = [violation.hint] if violation.hint else []
    if sizes:
        least = min(sizes, key=lambda name: sizes[name])
        much = sizes[least] / most
        hints.append(f"make one of these layers {most} neurons wide to cut behind it: {least} is {much:.3g} times that")
    cuts = [name for group in net.groups for name in group if net.size(name) <= most and name not in block]
    cuts = [name for name in cuts if any(net.population(reader) for reader in net.readers[name])]
    where = f"; a cut is possible behind {_some(cuts)}" if cuts else ""
    return replace(
        violation,
        what=f"{violation.what}{times}; {why}",
        where=violation.where or _some(names),
        hint=", or ".join(hints) + where,
    )


def most_that_go(packer: Packer) -> str:
    """The run of populations with the most neurons that chips could hold; '' for none."""
    net, start = packer.net, 0
    runs: list[list[str]] = [[]]
    while start < len(net.groups):
        _, reach = packer.best(start)
        runs.append([name for group in net.groups[start:reach] for name in group])
        start = max(reach, start + 1)
    sizes = [sum(net.size(name) for name in run) for run in runs]
    largest = max(range(len(runs)), key=lambda i: sizes[i])
    return f"{_some(runs[largest])} ({sizes[largest]} neurons)" if runs[largest] else ""


def _last_resort(packer: Packer) -> list[Violation]:
    """Where no block alone is to blame: what stands behind the last cut that chips can hold."""
    groups = packer.net.groups
    _, reach = packer.best()
    inside: frozenset[str] = frozenset()
    found: list[Violation] = []
    for end in range(len(groups), reach, -1):
        inside = frozenset(name for group in groups[reach:end] for name in group)
        found = packer.violations(packer.aims(inside), inside)
    return [_named(packer, v, inside) for v in found] or [
        Violation(
            "placement-chips", "no order of cuts was found", expected="at most what chips can hold, layer by layer"
        )
    ]


def spiking_twice(packer: Packer, loads: list[Load]) -> list[Violation]:
    """The populations that would have to be cut behind, but spike more than once in a step."""
    net = packer.net
    found: list[Violation] = []
    names = dict.fromkeys(aim.name for load in loads for aim in load.aims if packer.several.get(aim.name))
    for name in names:
        if any(net.population(reader) for reader in net.readers[name]):
            found.append(
                Violation(
                    "placement-cut-spikes",
                    twice(packer.several[name]),
                    ", ".join(net.graph.sources(name)),
                    str(net.graph[name].loc or ""),
                    expected="one spike per step: more do not leave a chip",
                    hint=SPIKE_ONCE,
                )
            )
    return found


def too_few(packer: Packer, loads: list[Load], chips: int) -> Violation:
    """The network needs more chips than there are."""
    title = packer.chip.target.title
    return Violation(
        "placement-chips",
        f"needs {len(loads)} {title} chips",
        expected=f"at most {chips}",
        hint=f"--chips {len(loads)} or auto; or make its layers smaller",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
