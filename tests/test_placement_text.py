"""The text of a placement: every reason once, every op under its own, in lines that fit."""

from __future__ import annotations

import pytest

from snnir.placement import Placement, partition
from snnir.placement.describe import data, text
from snnir.placement.grouped import broken, grouped, shared_reason
from tests.test_placement_loops import feedback
from tests.test_placement_run import mixed
from tests.test_placement_several import shared


def said(placement: Placement, width: int) -> dict[str, dict[str, list[str]]]:
    """What a placement's text says: side -> reason -> names, read back from lines of any width."""
    found: dict[str, dict[str, list[str]]] = {}
    titles = {"on the chip:": "chip", "on the host:": "host", "between them:": "driver"}
    lines = text(placement, width).split("in this order:")[0].splitlines()
    side = reason = ""
    for line in lines[2:]:
        depth = len(line) - len(line.lstrip())
        words = line.strip()
        if not words:
            continue
        if depth == 0:
            side = titles[words]
        elif depth == 2:
            reason = words
            assert reason not in found.setdefault(side, {})
            found[side][reason] = []
        elif depth == 4:
            found[side][reason] += words.split(None, 1)[1].rstrip(",").split(", ")
        elif found[side][reason]:
            found[side][reason] += words.rstrip(",").split(", ")
        else:  # a long reason goes on
            full = f"{reason} {words}"
            found[side][full] = found[side].pop(reason)
            reason = full
    return found


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("net", ["mixed", "feedback", "shared"])
def test_every_op_stands_once_under_its_reason(net: str, width: int) -> None:
    if net == "shared":
        placement = partition(shared(), "xylo-audio3", chips="auto")
    else:
        placement = partition(mixed("value") if net == "mixed" else feedback(), "lava")
    found = said(placement, width)
    names = [name for reasons in found.values() for listed in reasons.values() for name in listed]
    assert sorted(names) == sorted(placement.graph.ops)
    for side, reasons in found.items():
        for reason, listed in reasons.items():
            for name in listed:
                assert placement.places[name].side == side
                assert reason.startswith(shared_reason(placement.places[name].reason))
    assert max(map(len, text(placement, width).splitlines())) <= width


def test_readers_are_left_out_of_a_reason_that_ops_share() -> None:
    """The file placement.json names them."""
    placement = partition(mixed("value"), "lava")
    reasons = {
        place.reason for place in placement.places.values() if ", which is not on the chip, reads it" in place.reason
    }
    assert reasons
    assert {shared_reason(reason) for reason in reasons} == {
        "read by what is not on the chip: only membranes and spikes come off the chip"
    }
    assert str(placement) == text(placement, 100)
    document = data(placement)
    assert {op["reason"] for op in document["ops"].values()} >= reasons


def test_lines_are_broken_under_their_own_text() -> None:
    rows = [("why", "LIF", f"net.{k}.neurons") for k in range(5)] + [("why", "Linear", "w")]
    assert list(broken(grouped(rows), 40)) == [
        "  why",
        "    LIF     net.0.neurons,",
        "            net.1.neurons,",
        "            net.2.neurons,",
        "            net.3.neurons, net.4.neurons",
        "    Linear  w",
    ]
    assert list(broken(["  a: " + "long words " * 4], 40)) == [
        "  a: long words long words long words",
        "      long words",
    ]
