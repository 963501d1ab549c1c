"""RWKV's WKV as nodes: a Scan over the tokens that carries sums, and around it what all tokens do at once.

A Scan's body holds 12 nodes whatever the number of tokens. The file's whole-sequence Scans run over time; this one
lies within a step, so it works in the body of theirs too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snnir import ops
from snnir.backends.onnx.writer import Writer
from snnir.ops import Shape


def wkv(w: Writer, name: str, op: ops.Wkv, x: Sequence[str], shapes: Sequence[Shape], lead: int, _: str) -> str:
    """Values (..., tokens, channels); sums are kept relative to the largest exponent so far, which cancels out."""
    k, v = x
    before = _before(w, name, op, k, v, lead)
    top, total, weight = before
    own = w.node("Add", [k, w.weight(f"{name}.first", op.first)], f"{name}.own")
    past = w.node("Add", [top, w.node("Log", [weight], f"{name}.log_weight")], f"{name}.past")
    share = w.node("Sigmoid", [w.node("Sub", [past, own], f"{name}.balance")], f"{name}.share")
    apart = w.node("Sub", [w.node("Div", [total, weight], f"{name}.mean"), v], f"{name}.apart")
    return w.node("Add", [v, w.node("Mul", [share, apart], f"{name}.pull")], name, own=True)


def _before(w: Writer, name: str, op: ops.Wkv, k: str, v: str, lead: int) -> list[str]:
    """What each token finds: the largest exponent before it, and relative to that the sums with and without v."""
    tokens, channels = -2, op.first.size
    size = w.node(
        "Shape", [w.node("Gather", [k, w.weight("token_0", 0, np.int64)], f"{name}.token_0", axis=lead)], f"{name}.size"
    )
    start = {"top": -np.inf, "total": 0.0, "weight": 1.0}  # nothing at all: e^-inf times whatever
    states = [w.node("Expand", [w.weight(f"wkv.no_{s}", value), size], f"{name}.{s}_0") for s, value in start.items()]
    body = Writer(w.dtype, parent=w)
    top, total, weight, kl, vl = (body.unique(f"{name}.{s}_now") for s in (*start, "k", "v"))
    decay = w.weight(f"{name}.decay", np.exp(op.log_decay.astype(w.root.dtype)))

    def node(kind: str, inputs: Sequence[str], what: str) -> str:
        return body.node(kind, inputs, f"{name}.{what}")

    after = node("Max", [node("Sub", [top, decay], "top_then"), kl], "top_after")
    # The difference of the tops first: it is exact, so that roundings of the tops do not add up over the tokens.
    kept = node("Exp", [node("Sub", [node("Sub", [top, after], "fall"), decay], "left")], "kept")
    fresh = node("Exp", [node("Sub", [kl, after], "height")], "fresh")
    sums = [
        node("Add", [node("Mul", [kept, old], "old"), new], what)
        for old, new, what in (
            (total, node("Mul", [fresh, vl], "fresh_v"), "total_after"),
            (weight, fresh, "weight_after"),
        )
    ]
    row: list[int | str | None] = [*[None] * lead, channels]
    given = [body.info(s, row) for s in (top, total, weight, kl, vl)]
    carried = [node("Identity", [s], "carried") for s in (after, *sums)]
    found = [node("Identity", [s], "found") for s in (top, total, weight)]
    inner = body.graph(f"{name}.token", given, [body.info(s, row) for s in (*carried, *found)])
    last = [w.unique(f"{name}.{s}_last") for s in start]
    all_found = [w.unique(f"{name}.{s}") for s in start]
    axes = {"scan_input_axes": [tokens] * 2, "scan_output_axes": [tokens] * 3}
    w.nodes_out("Scan", [*states, k, v], [*last, *all_found], body=inner, num_scan_inputs=2, **axes)
    return all_found
