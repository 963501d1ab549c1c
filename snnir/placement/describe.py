"""A placement in words and as JSON data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snnir.placement.chips.describe import chip_line, cut_line, why_title
from snnir.placement.chips.types import Spread
from snnir.placement.grouped import WIDTH, broken, grouped, shared_reason
from snnir.placement.types import Crossing, Encode, Hold, Loop, Part, Placement

_SHOWN = 4  # chips named in a line
_SIDES = {"chip": "on the chip", "host": "on the host", "driver": "between them"}


def data(placement: Placement) -> dict[str, Any]:
    """`placement.json`."""
    return {
        "target": placement.target,
        "host": placement.host,
        "steps": [_step(step, placement) for step in placement.steps],
        "crossings": [_crossing(c) for c in placement.crossings],
        "ops": {
            name: {
                "side": place.side,
                "reason": place.reason,
                "loc": str(placement.graph[name].loc or ""),
                **({"chips": where} if (where := chips_of(placement, name)) else {}),
            }
            for name, place in placement.places.items()
        },
        "misfits": [dict(m) for m in placement.misfits],
        "moved": [dict(m) for m in placement.moved],
    }


def _step(step: Part | Encode | Loop, placement: Placement) -> dict[str, Any]:
    if isinstance(step, Loop):
        holds = [
            {
                "name": h.name,
                "reads": list(h.sources),
                "least": int(h.steps.min()),
                "most": int(h.steps.max()),
                "arrays": f"{step.name}.{k}",  # in holds.npz
            }
            for k, h in enumerate(step.holds)
        ]
        return {"name": step.name, "kind": "loop", "parts": [_step(p, placement) for p in step.parts], "holds": holds}
    if isinstance(step, Encode):
        return {"name": step.name, "kind": step.kind, "steps": step.steps, "reads": list(step.sources)}
    return {
        "name": step.name,
        "kind": "part",
        "side": step.side,
        "rate": float(step.rate),
        "reads": list(step.graph.inputs),
        "gives": dict(step.gives),
        "ops": len(step.graph),
        "state": any(op.stateful for op in step.graph.ops.values()),
        "chips": len(placement.spreads[step.name].chips) if step.name in placement.spreads else 1,
    }


def _crossing(c: Crossing) -> dict[str, Any]:
    way = "to chip" if c.to_chip else "to host"
    return {"source": c.source, "way": way, "kind": c.kind, "width": c.width, "most": c.most}


def text(placement: Placement, width: int = WIDTH) -> str:
    """What went where and why, the ops under the reason that they share; the parts in their order; what crosses; what
    does not fit.

    In lines of `width` columns.
    """
    graph, places = placement.graph, placement.places
    count = {side: sum(p.side == side for p in places.values()) for side in ("chip", "host", "driver")}
    lines = [
        f"{len(graph)} ops: {count['chip']} on the chip ({placement.target}), {count['host']} on the host "
        f"({placement.host}), {count['driver']} between them",
        "",
    ]
    for side, title in _SIDES.items():
        rows = [(_heading(placement, n), op.kind, n) for n, op in graph.ops.items() if places[n].side == side]
        lines += [f"{title}:", *grouped(rows), ""] if rows else []
    lines += ["in this order:"]
    for step in placement.steps:
        lines += [f"  {line}" for line in _told(step, placement.spreads)]
    lines += ["", "crossings (numbers per step):"]
    lines += [f"  {crossing_line(c)}" for c in placement.crossings]
    for name, spread in placement.spreads.items():
        lines += ["", f"{name}: {why_title(spread)}:"]
        lines += [f"  {v['what']}, expected {v['expected']} [{v['rule']}]" for v in spread.single]
        lines += [f"  {cut_line(cut, name)}" for cut in spread.cuts]
    for misfit in placement.misfits:
        lines += ["", *_misfit(misfit)]
    if placement.moved:
        lines += ["", "off the chip, because of what only its integers show:"]
        lines += [f"  {line}" for moved in placement.moved for line in moved_lines(moved)]
    return "\n".join(broken(lines, width))


def _heading(placement: Placement, name: str) -> str:
    """Why an op is where it is, and on which chips."""
    on = chips_of(placement, name)
    on = on if len(on) < _SHOWN else [*on[: _SHOWN - 1], f"{len(on) - _SHOWN + 1} more"]
    return shared_reason(placement.places[name].reason) + (f" ({', '.join(on)})" if on else "")


def crossing_line(c: Crossing) -> str:
    """A crossing in a line."""
    way = "-> chip" if c.to_chip else "-> host"
    most = f" up to {c.most}" if c.kind == "counts" and c.most is not None else ""
    lost = "" if c.to_chip or c.kind != "counts" else " (one spike per step leaves the chip)"
    return f"{way}  {c.width:>7} {c.kind}{most}  {c.source}{lost}"


def chips_of(placement: Placement, name: str) -> list[str]:
    """The chips that hold an op, where its part needs several: part/chip."""
    return [f"{part}/{chip}" for part, spread in placement.spreads.items() for chip in spread.places.get(name, ())]


def chips_lines(placement: Placement) -> list[str]:
    """How many chips there are where, in lines."""
    many = {name: count for name, spread in placement.spreads.items() if (count := len(spread.chips)) > 1}
    if not many:
        return [f"1 for each part ({len(placement.chips)})"]
    others = len(placement.chips) - len(many)
    said = [f"{count} for {name}" for name, count in many.items()] + (
        [f"1 for each other part ({others})"] * bool(others)
    )
    total = sum(many.values()) + others
    return [f"{', '.join(said)}; {max(many.values())} if they are loaded anew for each part, else {total}"]


def _told(step: Part | Encode | Loop, spreads: Mapping[str, Spread]) -> list[str]:
    if isinstance(step, Loop):
        return [
            f"{step.name}, step by step:",
            *(f"  {line}" for part in step.parts for line in _told(part, spreads)),
            *(f"  {'':<10}{hold_line(hold)}" for hold in step.holds),
        ]
    if isinstance(step, Encode):
        does = f"every step {step.steps} times" if step.kind == "Repeat" else f"the mean of {step.steps} steps"
        return [f"{'':<10}{step.name}: {does} of {', '.join(step.sources)}"]
    inner = len(step.graph) - len(step.graph.inputs) - len(step.graph.outputs)
    reads, gives = ", ".join(step.graph.inputs) or "nothing", ", ".join(step.gives)
    line = f"{step.name:<10}{inner} op{'s' if inner != 1 else ''}: {reads} -> {gives}"
    spread = spreads.get(step.name)
    if spread is None:
        return [line]
    chips = [f"{'':<10}{step.name}/{chip_line(spread, part)}" for part in spread.chips]
    return [f"{line}, on {len(chips)} chips" if len(chips) > 1 else f"{line}, on a chip", *chips]


def hold_line(hold: Hold) -> str:
    """What waits between the parts of a loop, in a line."""
    low, high = int(hold.steps.min()), int(hold.steps.max())
    steps = f"{low} step{'s' if low != 1 else ''}" if low == high else f"{low} to {high} steps"
    return f"{hold.name}: {' + '.join(hold.sources)}, {steps} later"


def moved_lines(moved: Any) -> list[str]:
    """What left the chip in one round, and why."""
    lines = [f"{v['where']}: {v['what']}{_limit(v)} [{v['rule']}]" for v in moved["violations"]]
    return [*lines, f"with it: {', '.join(moved['with'])}"] if moved["with"] else lines


def _limit(violation: Any) -> str:
    return f", expected {violation['expected']}" if violation["expected"] else ""


def _misfit(misfit: Any) -> list[str]:
    kept, whole = misfit["neurons"]
    lines = [f"does not fit together: {', '.join(misfit['populations'])} ({whole} neurons)"]
    lines += [f"  {v['what']}, expected {v['expected']} [{v['rule']}]" for v in misfit["violations"]]
    if misfit["factor"] is not None:
        lines.append(f"  {misfit['factor']:.3g} times what the chip holds")
    largest = ", ".join(misfit["largest"]) or "none of them"
    without = f" without {', '.join(misfit['without'])}" if misfit["without"] else ""
    lines.append(f"  the largest sub-network that fits: {largest}{without} ({kept} neurons)")
    return lines
