"""Every fault planted alone in a sound file: it is found, at its node, and nothing else is."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from snnir.doctor import RULES
from tests.doctor.kit import (
    DT,
    Change,
    F,
    both,
    drop,
    edges,
    full,
    named,
    nested,
    new_findings,
    node,
    put,
    scaled,
    weight,
    written,
)


def external(file: Any) -> None:
    del file["node/nodes/fc1/weight"]
    file["node/nodes/fc1/weight"] = h5py.ExternalLink("elsewhere.h5", "/weight")


def nowhere(file: Any) -> None:
    del file["node/nodes/fc1/weight"]
    file["node/nodes/fc1/weight"] = h5py.SoftLink("/gone")


def strange_edges(file: Any) -> None:
    del file["node/edges"]
    file["node/edges"] = np.ones((3, 3))


def pickled(file: Any) -> None:
    put("fc1/bias", np.void(pickle.dumps(np.zeros(6))))(file)


def ragged(file: Any) -> None:
    del file["node/nodes/fc1/bias"]
    made = file["node/nodes/fc1"].create_dataset("bias", (6,), dtype=h5py.vlen_dtype(F))
    made[0] = np.zeros(3, F)


def slash(file: Any) -> None:
    nodes = file["node/nodes"]
    nodes.create_group("a")
    nodes.move("fc1", "a/fc1")
    edges(("input", "a/fc1"), ("a/fc1", "n1"), without=(("input", "fc1"), ("fc1", "n1")))(file)


def renamed(old: str, new: str) -> Change:
    def change(file: Any) -> None:
        file["node/nodes"].move(old, new)
        pairs = [(a.decode(), b.decode()) for a, b in file["node/edges"][()]]
        del file["node/edges"]
        swapped = [tuple(new if end == old else end for end in pair) for pair in pairs]
        file["node"].create_dataset("edges", data=swapped, dtype=h5py.string_dtype())

    return change


def grouped(file: Any) -> None:
    put("conv/weight", weight(3, 1, 3, 3))(file)
    put("input/shape", [3, 6, 6])(file)
    put("conv/groups", 3)(file)


def uneven_groups(file: Any) -> None:
    put("conv/weight", weight(3, 1, 3, 3))(file)
    put("conv/groups", 2)(file)


def non_square(file: Any) -> None:
    put("conv/weight", weight(3, 2, 1, 3))(file)
    put("conv/padding", [0, 1])(file)


def same_and_stride(file: Any) -> None:
    put("conv/padding", "same")(file)
    put("conv/stride", [2, 2])(file)
    put("conv/input_shape", [12, 12])(file)
    put("input/shape", [2, 12, 12])(file)


def two_inputs(file: Any) -> None:
    node("in2", nir.Input(np.array([3])))(file)
    node("w2", nir.Linear(weight(6, 3)))(file)
    edges(("in2", "w2"), ("w2", "n1"))(file)


def two_outputs(file: Any) -> None:
    node("out2", nir.Output(np.array([6])))(file)
    edges(("n1", "out2"))(file)


def loop(file: Any) -> None:
    node("back", nir.Linear(weight(4, 6)))(file)
    edges(("fc1", "back"), ("back", "fc1"))(file)


def recurrent(file: Any) -> None:
    node("back", nir.Linear(weight(6, 6)))(file)
    edges(("n1", "back"), ("back", "n1"))(file)


def island(file: Any) -> None:
    node("x", nir.Delay(full(3, 0.003)))(file)
    node("y", nir.Linear(weight(3, 3)))(file)
    edges(("x", "y"), ("y", "x"))(file)


def second_port(file: Any) -> None:
    group = file["node/nodes/block/nodes"].create_group("in2")
    group["type"], group["shape"] = "Input", [4]
    file["node/nodes/block/nodes"].create_group("fc2")
    for key, value in nir.Linear(weight(4, 4)).to_dict().items():
        if key != "metadata":
            file["node/nodes/block/nodes/fc2"][key] = value
    edges(("in2", "fc2"), ("fc2", "output"), at="node/nodes/block")(file)


def sum_in_output(file: Any) -> None:
    node("skip", nir.Linear(weight(3, 4)))(file)
    edges(("input", "skip"), ("skip", "output"))(file)


def beside(edge: tuple[str, str]) -> Change:
    return both(node("x", nir.Scale(weight(3))), edges(edge))


def fast(tau: float) -> Change:
    return both(put("n1/tau", full(6, tau)), put("n1/r", full(6, tau / DT)))


def colliding(file: Any) -> None:
    for name in ("n1.x", "n1_x"):
        node(name, nir.Scale(weight(6)))(file)
    edges(("n1", "n1.x"), ("n1.x", "n1_x"), ("n1_x", "fc2"), without=(("n1", "fc2"),))(file)


def sum_in_neuron(file: Any) -> None:
    node("skip", nir.Linear(weight(6, 4)))(file)
    edges(("input", "skip"), ("skip", "n1"))(file)


def without(name: str) -> Change:
    """Takes an Input or Output and its edge away."""

    def change(file: Any) -> None:
        pairs = [(a.decode(), b.decode()) for a, b in file["node/edges"][()]]
        edges(without=tuple(pair for pair in pairs if name in pair))(file)
        drop(name)(file)

    return change


def subgraph(file: Any) -> None:
    inside = nested().nodes["block"].to_dict()
    block = file["node/nodes"].create_group("block")
    for key in ("type", "edges"):
        block[key] = inside[key]
    for name, fields in inside["nodes"].items():
        made = block.create_group(f"nodes/{name}")
        for key, value in fields.items():
            if key != "metadata":
                made[key] = value
    edges(("input", "block"), ("block", "fc1"), without=(("input", "fc1"),))(file)


def at(where: str, value: Any) -> Change:
    def change(file: Any) -> None:
        file[where] = value

    return change


def own_note(file: Any) -> None:
    file["node"].create_group("metadata")["snnir"] = "not json"


def shape_drop(file: Any) -> None:
    del file["node/nodes/conv/input_shape"]


# id, base, change, the finding's rule, its node, words in its `what`
FAULTS: list[tuple[str, str, Change, str, str, str]] = [
    ("no version", "dense", drop("version"), "version", "", "has no version"),
    ("edges are no pairs", "dense", strange_edges, "file-content", "", "float64 of shape [3, 3]"),
    ("no edges", "dense", drop("node/edges"), "file-content", "", "no list of edges"),
    ("damaged notes", "dense", own_note, "own-metadata", "", "damaged"),
    ("external link", "dense", external, "link", "fc1", "its weight is a link into another file, 'elsewhere.h5'"),
    ("broken link", "dense", nowhere, "link", "fc1", "its weight is a link to '/gone', which is not there"),
    ("no type", "dense", drop("n1/type"), "node", "n1", "has no type; it holds r, tau"),
    ("bare dataset", "dense", both(drop("n1"), put("n1", 3.0)), "node", "n1", "bare dataset"),
    ("unknown type", "dense", put("n1/type", "Izhikevich"), "node-type", "n1", "'Izhikevich'"),
    ("missing field", "dense", drop("n1/tau"), "field-missing", "n1", "LIF has no tau"),
    ("unknown field", "dense", put("n1/refractory", 3.0), "field-unknown", "n1", "'refractory'"),
    ("pickle", "dense", pickled, "not-numbers", "fc1", "Python pickle"),
    ("ragged objects", "dense", ragged, "not-numbers", "fc1", "objects"),
    ("text", "dense", put("fc1/bias", "none"), "not-numbers", "fc1", "the text 'none'"),
    ("complex", "dense", put("fc1/bias", np.ones(6, complex)), "not-numbers", "fc1", "complex128"),
    ("bool", "dense", put("fc1/bias", np.ones(6, bool)), "not-numbers", "fc1", "bool"),
    ("NaN", "dense", put("fc1/bias", np.array([0, 1, np.nan, 0, 0, 0], F)), "not-finite", "fc1", "nan at [2]"),
    ("inf", "dense", put("fc2/weight", full((3, 6), np.inf)), "not-finite", "fc2", "18 numbers that are not finite"),
    ("half shape", "dense", put("input/shape", [4.5]), "field-sizes", "input", "whole numbers"),
    ("three strides", "image", put("conv/stride", [1, 1, 1]), "field-sizes", "conv", "[1, 1, 1], expected 2"),
    ("stride 0", "image", put("pool/stride", [0, 2]), "field-sizes", "pool", "[0, 2], expected 1 or more"),
    ("integers", "dense", put("n1/v_threshold", np.ones(6, np.int32)), "dtype", "n1", "v_threshold is int32"),
    ("half floats", "dense", put("fc1/weight", weight(6, 4).astype(np.float16)), "dtype", "fc1", "float16"),
    ("foreign order", "dense", put("fc1/weight", weight(6, 4).astype(">f4")), "dtype", "fc1", "foreign byte order"),
    ("mixed", "dense", put("n1/tau", np.full(6, 0.02)), "dtype-mixed", "n1", "tau is float64"),
    ("scalar tau", "dense", put("n1/tau", F(0.02)), "scalar-parameter", "n1", "shape [6], but tau []"),
    ("scalar bias", "dense", put("fc1/bias", F(0.5)), "scalar-parameter", "fc1", "[] for 6 outputs"),
    ("scalar scale", "delayed", put("scale/scale", F(0.5)), "scalar-parameter", "scale", "scale []"),
    ("size one", "dense", put("n1/tau", full(1, 0.02)), "broadcast-parameter", "n1", "tau [1]"),
    ("per channel", "image", put("n1/v_threshold", full((3, 1, 1), 1)), "broadcast-parameter", "n1", "[3, 1, 1]"),
    ("shapes in a node", "dense", put("n1/tau", full(5, 0.02)), "parameter-shapes", "n1", "tau [5]"),
    ("flat weight", "dense", put("fc1/weight", weight(24)), "weight-axes", "fc1", "[24], expected (..., out, in)"),
    ("flat kernel", "image", put("conv/weight", weight(3, 2, 3)), "weight-axes", "conv", "[3, 2, 3]"),
    ("bias of others", "dense", put("fc1/bias", weight(7)), "bias-shape", "fc1", "[7] for 6 outputs"),
    ("bias map", "image", put("conv/bias", weight(3, 6, 6)), "bias-shape", "conv", "[3, 6, 6] for 3 outputs"),
    ("no v_reset", "dense", drop("n1/v_reset"), "v-reset-missing", "n1", "has no v_reset"),
    ("no w_in", "current", drop("n1/w_in"), "w-in-missing", "n1", "has no w_in"),
    ("no input_shape", "image", shape_drop, "input-shape-missing", "conv", "no input_shape"),
    ("no input_type", "image", drop("flatten/input_type"), "input-type-missing", "flatten", "no input_type"),
    ("non-square", "image", non_square, "conv-non-square", "conv", "1 x 3"),
    ("grouped", "image", grouped, "conv-grouped", "conv", "3 groups"),
    ("same with stride", "image", same_and_stride, "conv-invalid", "conv", "padding 'same' with stride [2, 2]"),
    ("groups", "image", uneven_groups, "conv-invalid", "conv", "3 output channels do not divide into 2"),
    ("padding", "image", put("conv/padding", "reflect"), "conv-invalid", "conv", "'reflect'"),
    ("dangling", "dense", edges(("n1", "gone")), "edge-dangling", "n1 -> gone", "target 'gone'"),
    ("dangling source", "dense", edges(("ghost", "n2")), "edge-dangling", "ghost -> n2", "source 'ghost'"),
    ("duplicate", "dense", edges(("fc1", "n1")), "edge-duplicate", "fc1 -> n1", "stands 2 times"),
    ("out of an output", "nested", edges(("output", "n1")), "edge-direction", "output -> n1", "leaves an Output"),
    ("into an input", "dense", edges(("n2", "input")), "edge-direction", "n2 -> input", "enters an Input"),
    ("unconnected", "dense", node("extra", nir.Scale(weight(3))), "unconnected", "extra", "no edge touches it"),
    ("nothing arrives", "dense", beside(("x", "n2")), "unconnected", "x", "nothing arrives"),
    ("dead end", "dense", beside(("n2", "x")), "dead-end", "x", "nothing reads"),
    ("two inputs", "dense", two_inputs, "several-inputs", "", "in2, input"),
    ("two outputs", "dense", two_outputs, "several-outputs", "", "out2, output"),
    ("sum in output", "dense", sum_in_output, "output-fan-in", "output", "n2, skip"),
    ("two ports", "nested", second_port, "subgraph-ports", "block", "2 Input nodes: in2, input"),
    ("loop", "dense", loop, "algebraic-loop", "back", "back, fc1 holds no state"),
    ("self edge", "dense", edges(("n1", "n1")), "self-edge", "n1 -> n1", "feeds itself"),
    ("recurrence", "dense", recurrent, "recurrence", "back", "back, n1"),
    ("batch axis", "dense", put("input/shape", [1, 4]), "batch-axis", "input", "[1, 4]; everything fits with [4]"),
    ("batch and time", "dense", put("input/shape", [1, 100, 4]), "batch-axis", "input", "fits with [4]"),
    ("batch in output", "dense", put("output/shape", [1, 3]), "batch-axis", "output", "fits with [3]"),
    ("batch of images", "image", put("input/shape", [5, 2, 6, 6]), "batch-axis", "input", "fits with [2, 6, 6]"),
    ("flatten from 1", "image", put("flatten/start_dim", 1), "flatten-batch", "flatten", "fits from 0"),
    ("width", "dense", put("fc2/weight", weight(3, 5)), "shape-mismatch", "n1 -> fc2", "gives [6], but fc2 takes [5]"),
    ("wrong output", "dense", put("output/shape", [4]), "shape-mismatch", "n2 -> output", "[3], but output takes [4]"),
    ("wrong input", "dense", put("input/shape", [5]), "shape-mismatch", "input -> fc1", "[5], but fc1 takes [4]"),
    ("channels", "image", put("conv/weight", weight(3, 4, 3, 3)), "shape-mismatch", "input -> conv", "takes [4, 6, 6]"),
    ("kernel", "image", put("pool/kernel_size", [9, 9]), "shape-mismatch", "pool", "window is larger"),
    ("flatten dims", "image", put("flatten/start_dim", 7), "shape-mismatch", "flatten", "no range of axes"),
    ("negative tau", "dense", put("n1/tau", full(6, -0.02)), "tau", "n1", "-0.02 s"),
    ("zero tau", "dense", put("n1/tau", np.array([0, 1, 1, 1, 1, 1], F)), "tau", "n1", "0 s for 1 of 6"),
    ("negative delay", "delayed", put("delay/delay", full(4, -0.001)), "delay-negative", "delay", "-0.001 s"),
    ("threshold", "dense", put("n1/v_threshold", full(6, 0)), "threshold-reset", "n1", "0 does not lie above"),
    ("resting above", "dense", put("n1/v_leak", full(6, 2)), "fires-at-rest", "n1", "2 lies above its v_threshold 1"),
    ("v_reset", "dense", put("n1/v_reset", full(6, -1)), "v-reset-ignored", "n1", "-1"),
    ("slash", "dense", slash, "name-slash", "a/fc1", "'a/fc1'"),
    ("dots", "dense", renamed("fc1", "net.fc1"), "name-odd", "net.fc1", "dots"),
    ("blanks", "dense", renamed("fc1", "fc 1"), "name-odd", "fc 1", "blanks"),
    ("fractional delay", "delayed", put("delay/delay", full(4, 0.0035)), "delay-steps", "delay", "3.5 steps"),
    ("delay in ms", "delayed", put("delay/delay", full(4, 3000)), "unit", "delay", "ms would be usual"),
    ("newer version", "dense", both(drop("version"), at("version", "2.0.0")), "version-unknown", "", "'2.0.0'"),
    ("version is no text", "dense", both(drop("version"), at("version", 3)), "version", "", "is 3, no text"),
    ("no input", "dense", without("input"), "no-input", "", "no Input"),
    ("no output", "dense", without("output"), "no-output", "", "no Output"),
    ("fan-in", "dense", sum_in_neuron, "fan-in", "n1", "fc1, skip"),
    ("island", "dense", island, "unreachable", "x", "nothing from outside feeds"),
    ("subgraph", "dense", subgraph, "subgraph", "block", "a graph of 3 nodes"),
    ("r is 0", "dense", put("n1/r", np.array([0, 20, 20, 20, 20, 20], F)), "r-zero", "n1", "r is 0 for 1 of 6"),
    ("r is negative", "dense", put("n1/r", full(6, -20)), "r-negative", "n1", "r is -20"),
    ("tau in ms", "dense", scaled("n1/tau", 1000), "unit", "n1", "20, which is seconds; 20 ms would be usual"),
    ("silent conv", "image", both(drop("conv/input_shape"), put("input/shape", [36])), "shape-mismatch", "conv",
     "takes (channels, height, width), but [36] arrives"),
    ("names that collide", "dense", colliding, "name-clash", "n1_x", "'n1_x'"),
    ("two dt", "dense", scaled("n1/r", 10), "time-step-disagree", "", "0.0001 s: n1; 0.001 s: n2"),
    ("one r of 1", "dense", put("n1/r", full(6, 1)), "convention-mixed", "", "r = 1 in n1, but r scaled by 1/dt in n2"),
    ("all r of 1", "dense", both(put("n1/r", full(6, 1)), put("n2/r", full(3, 1))), "time-step-unsaid", "", "(n1, n2)"),
    ("unstable", "dense", fast(4e-4), "euler-unstable", "n1", "the factor per step is -1.5"),
    ("coarse", "dense", fast(8e-4), "euler-coarse", "n1", "the factor per step is -0.25"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "change", "rule", "where", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_a_planted_fault_alone_is_found(
    base: str, change: Change, rule: str, where: str, words: str, tmp_path: Path
) -> None:
    found = new_findings(written(tmp_path, base, change), base, tmp_path)
    followers = FOLLOWERS.get((rule, where), set())
    assert named(found) - followers == {(rule, where)}, [f"{f.rule} {f.node}: {f.what}" for f in found]
    first = next(f for f in found if f.rule == rule)
    assert words in first.what
    assert first.severity == RULES[rule].severity
    assert first.meaning
    assert first.todo


# What follows from a fault by necessity, and is true.
FOLLOWERS: dict[tuple[str, str], set[tuple[str, str]]] = {
    ("no-input", ""): {("unconnected", "fc1")},
    ("no-output", ""): {("dead-end", "n2")},
    ("unreachable", "x"): {("unreachable", "y"), ("recurrence", "x")},
    ("name-clash", "n1_x"): {("name-odd", "n1.x")},
    ("unit", "n1"): {("time-step-disagree", "")},
    ("shape-mismatch", "conv"): {("input-shape-missing", "conv")},
    ("time-step-disagree", ""): {("time-step", "n1")},
    ("several-inputs", ""): {("fan-in", "n1")},
    ("unconnected", "x"): {("fan-in", "n2")},
    ("subgraph-ports", "block"): {("output-fan-in", "block.output")},
}


# The rules whose `meaning` says that nir.read raises; and plants of other rules that it raises on too, or not.
REFUSED = {
    "file-content", "link", "node", "node-type", "field-missing", "field-unknown", "input-shape-missing",
    "conv-grouped", "conv-non-square", "conv-invalid", "edge-dangling", "edge-duplicate", "edge-direction",
    "subgraph-ports", "scalar-parameter", "broadcast-parameter", "parameter-shapes", "weight-axes", "batch-axis",
    "flatten-batch", "shape-mismatch", "name-slash",
}  # fmt: skip
BESIDES = {"half shape": True, "stride 0": True, "scalar bias": False, "flat kernel": False}


def test_what_nir_itself_does_with_every_fault(tmp_path: Path) -> None:
    for name, base, change, rule, *_ in FAULTS:
        path = written(tmp_path, base, change)
        try:
            nir.read(path)
        except Exception:  # whatever it is: TypeError, KeyError, AssertionError, ValueError, OverflowError
            refused = True
        else:
            refused = False
        assert refused == BESIDES.get(name, rule in REFUSED), name


def test_every_rule_is_planted_somewhere() -> None:
    planted = {fault[3] for fault in FAULTS} | ELSEWHERE
    assert set(RULES) - planted == set()


# Files that cannot be read at all, files of snnir's own, and notes that sound files carry: see the other tests.
ELSEWHERE = {"file", "file-format", "file-damaged", "not-loadable", "time-step", "time-step-said", "reset-unknown"}
