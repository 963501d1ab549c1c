"""Checks of the graph: edges, ends, cycles, subgraphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from snnir.doctor.finding import Chart
from snnir.doctor.sheet import STATEFUL, Level, Net, Node, Sheet


def check_structure(sheet: Sheet, net: Net, chart: Chart) -> None:
    """Everything about edges and connections."""
    for level in sheet.root.levels():
        _edges(level, chart)
        if level.path:
            n_nodes = len(level.nodes)
            chart.add("subgraph", level.path, f"is a graph of {n_nodes} nodes")
    _subgraph_ports(sheet.root, chart)
    _ends(sheet.root, chart)
    feeds, readers = net.feeds(), net.readers()
    _connections(sheet.root, net, feeds, readers, chart)
    _fan_in(net, feeds, chart)
    _cycles(net, readers, chart)


def _edges(level: Level, chart: Chart) -> None:
    before = level.prefix()
    for (a, b), count in Counter(level.edges).items():
        where = f"{before}{a} -> {before}{b}"
        for end, role in ((a, "source"), (b, "target")):
            if end not in level.nodes:
                near = ", ".join(list(level.nodes)[:8]) + (", ..." if len(level.nodes) > 8 else "")
                todo = f"correct or remove the edge; there are {near}"
                chart.add("edge-dangling", where, f"its {role} {end!r} does not exist", todo=todo)
        if count > 1:
            chart.add("edge-duplicate", where, f"stands {count} times")
        source, target = level.nodes.get(a), level.nodes.get(b)
        if isinstance(source, Node) and source.kind == "Output":
            chart.add("edge-direction", where, "leaves an Output")
        if isinstance(target, Node) and target.kind == "Input":
            chart.add("edge-direction", where, "enters an Input")


def _subgraph_ports(root: Level, chart: Chart) -> None:
    for level in root.levels():
        for name, inner in level.nodes.items():
            if not isinstance(inner, Level):
                continue
            inward = any(b == name for _, b in level.edges)
            outward = any(a == name for a, _ in level.edges)
            for used, kind in ((inward, "Input"), (outward, "Output")):
                ends = inner.ends(kind)
                if used and len(ends) != 1 and not any(n.broken for _, n in inner.own_nodes()):
                    there = f": {', '.join(ends)}" if ends else ""
                    chart.add("subgraph-ports", inner.path, f"has {len(ends)} {kind} nodes{there}")


def _ends(root: Level, chart: Chart) -> None:
    unsure = any(node.broken or not node.known for node in root.all_nodes()) or not root.nodes
    for kind, none, several in (("Input", "no-input", "several-inputs"), ("Output", "no-output", "several-outputs")):
        ends = root.ends(kind)
        if not ends and not unsure:
            chart.add(none, "", f"has no {kind} node")
        elif len(ends) > 1:
            chart.add(several, "", f"has {len(ends)} {kind} nodes: {', '.join(ends)}")


def _connections(
    root: Level, net: Net, feeds: Mapping[str, list[str]], readers: Mapping[str, list[str]], chart: Chart
) -> None:
    if not net.nodes or chart.has("file-content"):
        return
    aimed = _wanted_ends(root)
    loose = [n for n in net.nodes if not feeds[n] and n not in aimed[1] and net.nodes[n].kind != "Input"]
    for name in loose:
        alone = not readers[name] and name not in aimed[0]
        what = "no edge touches it" if alone else "nothing arrives"
        chart.add("unconnected", name, f"{what} at the {net.nodes[name].kind or 'node'}" if not alone else what)
    for name, node in net.nodes.items():
        if readers[name] or name in aimed[0] or node.kind == "Output" or (name in loose and not feeds[name]):
            continue
        if node.kind == "Input" and name in net.inner_ends and not feeds[name]:
            continue
        chart.add("dead-end", name, f"nothing reads the {node.kind or 'node'}")
    roots = [name for name in net.nodes if not feeds[name]]
    lost = set(net.nodes) - _reached(roots, readers)
    for name in net.nodes:
        if name in lost and net.nodes[name].kind != "Input":
            chart.add("unreachable", name, "lies on or behind a cycle that nothing from outside feeds")


def _wanted_ends(root: Level) -> tuple[set[str], set[str]]:
    """Nodes with an edge whose other end does not exist: as its source, and as its target."""
    sources, targets = set(), set()
    for level in root.levels():
        for a, b in level.edges:
            if b not in level.nodes and isinstance(node := level.nodes.get(a), Node):
                sources.add(node.path)
            if a not in level.nodes and isinstance(node := level.nodes.get(b), Node):
                targets.add(node.path)
    return sources, targets


def _reached(roots: Iterable[str], readers: Mapping[str, list[str]]) -> set[str]:
    found, pending = set(roots), list(roots)
    while pending:
        for name in readers[pending.pop()]:
            if name not in found:
                found.add(name)
                pending.append(name)
    return found


def _fan_in(net: Net, feeds: Mapping[str, list[str]], chart: Chart) -> None:
    cyclic = {name for part in _components(list(net.nodes), net.readers()) for name in part}
    for name, node in net.nodes.items():
        forward = [f for f in feeds[name] if not (f in cyclic and name in cyclic)]
        if len(forward) > 1:
            rule = "output-fan-in" if node.kind == "Output" else "fan-in"
            chart.add(rule, name, f"{len(feeds[name])} edges end here: {', '.join(feeds[name])}")


def _cycles(net: Net, readers: Mapping[str, list[str]], chart: Chart) -> None:
    stateless = [n for n, node in net.nodes.items() if node.known and node.kind not in STATEFUL]
    inside = set(stateless)
    thin = {name: [r for r in readers[name] if r in inside] for name in stateless}
    looped: set[str] = set()
    for part in _components(stateless, thin):
        looped.update(part)
        chart.add("algebraic-loop", part[0], f"the cycle through {', '.join(part)} holds no state")
    for part in _components(list(net.nodes), readers):
        if set(part) <= looped:
            continue
        for name in part:
            if name in readers[name] and name not in looped:
                chart.add("self-edge", f"{name} -> {name}", f"the {net.nodes[name].kind} feeds itself directly")
        if len(part) > 1:
            shown = ", ".join(part[:6]) + (f" and {len(part) - 6} more" if len(part) > 6 else "")
            chart.add("recurrence", part[0], f"a cycle of {len(part)} nodes: {shown}")


def _components(names: list[str], readers: Mapping[str, list[str]]) -> list[list[str]]:
    """The strongly connected parts that hold a cycle, each in file order (Tarjan 1972, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    rank = {name: k for k, name in enumerate(names)}
    parts: list[list[str]] = []
    for start in names:
        if start in index:
            continue
        work = [(start, iter(readers[start]))]
        index[start] = low[start] = len(index)
        stack.append(start)
        on_stack.add(start)
        while work:
            name, following = work[-1]
            step = next(following, None)
            if step is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    cut = stack.index(name)
                    part, stack[cut:] = stack[cut:], []
                    on_stack.difference_update(part)
                    if len(part) > 1 or name in readers[name]:
                        parts.append(sorted(part, key=rank.__getitem__))
            elif step not in index:
                index[step] = low[step] = len(index)
                stack.append(step)
                on_stack.add(step)
                work.append((step, iter(readers[step])))
            elif step in on_stack:
                low[name] = min(low[name], index[step])
    return sorted(parts, key=lambda part: rank[part[0]])
