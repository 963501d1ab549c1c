"""forward() is called a second time: what it kept from the first, wherever that is, shows in the second.

`untouched` sees what modules hold. A class, a function, a global name, an object with slots or a default argument can
hold a membrane as well, and a count of calls, or a random number, makes every call another network. So the second call
must not compute with a value of the first, and must give the same ops.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from snnir.errors import Violation
from snnir.frontends.torch_fx.builder import Builder
from snnir.frontends.torch_fx.loops import Loop
from snnir.frontends.torch_fx.signals import Signal, State, Unknown
from snnir.frontends.torch_fx.tracer import History, Tracer
from snnir.frontends.torch_fx.untouched import HINT
from snnir.ops import Loc, Op

Inputs = dict[str, Signal | Unknown | State]


def kept(
    first: Tracer, root: nn.Module, make: Callable[[Builder], Inputs], fallback: Loc, place: str
) -> Violation | None:
    """What a second call of forward() shows: that it computes with what the first has left, or None.

    Args:
        first: the first call's tracer, whose builder has no violation.
        make: adds the inputs to a new builder.
        fallback: where the module is defined; place: its class.
    """
    before = first.builder
    builder = Builder(root, before)
    builder.name, builder.foreign, builder.dt = before.name, before.foreign, before.dt
    if before.loop is not None:
        builder.loop = Loop(before.loop.static, before.loop.length)
    inputs = make(builder)
    builder.name = place
    first.history = again = History()
    tracer = Tracer(builder, fallback)
    tracer.history = again
    tracer.run(root, inputs)
    if again.states and not again.signals:
        return None  # states of layers, which the graph keeps: whose call they were of does not matter
    what, where, loc = "", place, str(fallback)
    if again.signals or builder.violations:
        what = "forward() keeps a value from call to call, so the network has a state that no op stands for"
        where, loc = next(((v.where or place, v.loc) for v in builder.violations), (where, loc))
    elif (name := _differs(before, builder)) is not None:
        what = "forward() computes it anew in every call (a count of calls, random numbers), so no op stands for it"
        where, loc = name, str(before.ops[name].loc or "") if name in before.ops else loc
    return Violation("trace-state", what, where, loc, hint=HINT) if what else None


def _differs(a: Builder, b: Builder) -> str | None:
    """The first op that two builders do not have in common, or that reads something else."""
    for name in [*a.ops, *(n for n in b.ops if n not in a.ops)]:
        if name not in a.ops or name not in b.ops or not _same(a.ops[name], b.ops[name]):
            return name
    return min((edge.target for edge in a.edges.keys() ^ b.edges.keys()), default=None)


def _same(a: Op, b: Op) -> bool:
    """Whether two ops compute the same; NaN is NaN."""
    mine, theirs = a.parameters(), b.parameters()
    return type(a) is type(b) and all(_equal(mine[name], theirs[name]) for name in mine)


def _equal(a: object, b: object) -> bool:
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return type(a) is type(b) and a == b
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
