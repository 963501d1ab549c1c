"""The emitted folder: runs without snnir, reads well, says what is the framework's and what is not."""

from __future__ import annotations

import builtins
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import ops
from snnir.errors import CompileError, MissingPackageError, UsageError
from snnir.graph import Edge, Graph, chain
from snnir.interpreter import interpret
from snnir.registry import backend
from snnir.semantics import Semantics
from tests.backends.family import FAMILY, built, same_everywhere
from tests.graph_equal import assert_same
from tests.strategies import GRAPH_KINDS, inputs_for, make_graph

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "snnir":
            raise ModuleNotFoundError(f"{name} is not to be needed", name=name)
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv.pop(1))
sys.argv[0] = "run.py"
try:
    import snnir
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("snnir can still be imported")
import runpy
runpy.run_path(sys.path[0] + "/run.py", run_name="__main__")
"""


def two_by_two() -> Graph:
    """Two inputs, two outputs, names that are no identifiers."""
    lif = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.5))
    nodes: dict[str, ops.Op] = {
        "left.in": ops.Input(shape=(3,)),
        "right-in": ops.Input(shape=(3,)),
        "0": ops.Linear(weight=np.random.default_rng(0).normal(size=(3, 3))),
        "lif": lif,
        "lambda": lif,
        "out/a": ops.Output(shape=(3,)),
        "out b": ops.Output(shape=(3,)),
    }
    edges = (
        ("left.in", "0"),
        ("0", "lif"),
        ("right-in", "lif"),
        ("right-in", "lambda"),
        ("lif", "out/a"),
        ("lambda", "out b"),
        ("lif", "out b"),
    )
    return Graph(nodes, edges, Semantics(dt=1e-3)).verify()  # type: ignore[arg-type]


@pytest.mark.oracle
@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("kind", ["two by two", "recurrence-affine"])
def test_the_folder_runs_where_snnir_is_not(kind: str, target: str, tmp_path: Path) -> None:
    graph = two_by_two() if kind == "two by two" else make_graph(0, kind, "disc")
    for name, data in built(graph, target).files().items():
        (tmp_path / name).write_bytes(data)
    x = inputs_for(graph, T=20, B=2, values="spikes")
    np.savez(tmp_path / "in.npz", **x)
    command = [sys.executable, "-I", "-c", BLOCKED, str(tmp_path), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = interpret(graph, x)
    expected = expected if isinstance(expected, dict) else {graph.outputs[0]: expected}
    got = np.load(tmp_path / "out.npz")
    assert sorted(got) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, atol=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("target", FAMILY)
def test_several_inputs_and_outputs_by_name(target: str) -> None:
    graph = two_by_two()
    assert same_everywhere(graph, target, steps=30) > 20
    import torch

    model = built(graph, target).module(torch.float64)
    x = {n: torch.from_numpy(v) for n, v in inputs_for(graph, T=5).items()}
    outputs = model(left_in=x["left.in"], right_in=x["right-in"])
    assert list(outputs) == ["out/a", "out b"]


@pytest.mark.parametrize("target", FAMILY)
def test_the_source_is_clean(target: str, tmp_path: Path) -> None:
    """ruff finds no unused name, no undefined name, no long line."""
    for kind in [*GRAPH_KINDS, "two by two"]:
        graph = two_by_two() if kind == "two by two" else make_graph(0, kind, "r1")
        text = built(graph, target).source.text
        (tmp_path / f"{kind.replace('-', '_')}.py").write_text(text)
        assert "import snnir" not in text
    for kind in ("affine-lif", "cubalif", "if", "recurrence-affine"):
        for reset in ("subtract", "delayed-value", "delayed-subtract", "held-subtract"):
            graph = make_graph(0, kind, "r1")
            graph = replace(graph, semantics=graph.semantics.with_(reset=reset))
            if not backend(target).target.check(graph):
                text = built(graph, target).source.text
                (tmp_path / f"{kind}_{reset}.py".replace("-", "_")).write_text(text)
    rules = ["--isolated", "--select", "E,F,I,B", "--ignore", "E741", "--line-length", "120"]
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run([ruff, "check", *rules, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", FAMILY)
def test_names_that_would_hide_python_or_pytorch(target: str) -> None:
    lif = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.5))
    names = [
        "input",
        "torch",
        "type",
        "x",
        "forward",
        "steps",
        "len",
        "F",
        "DT",
        "lif_state",
        "_modules",
        "zip",
        "keep",
    ]
    nodes: dict[str, ops.Op] = {name: lif for name in names[1:]}
    nodes = {"input": ops.Input(shape=(3,)), **nodes, "lif": lif, "out": ops.Output()}
    order = list(nodes)
    edges = [Edge(a, b) for a, b in pairwise(order)]
    edges += [Edge("lif", "lif"), Edge("steps", "zip"), Edge("torch", "type"), Edge("torch", "out"), Edge("x", "out")]
    edges += [Edge("DT", "out"), Edge("lif_state", "keep"), Edge("F", "len")]  # F and len: a cycle
    graph = Graph(nodes, tuple(dict.fromkeys(edges)), Semantics(dt=1e-3)).verify()
    same_everywhere(graph, target, steps=20)
    model = built(graph, target).module()
    graph.with_weights(model.state_dict())


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("name", ["line\nbreak", "\N{ROBOT FACE}.v", "nul\0", '"""x""" \\', "a, b, " * 20], ids=repr)
def test_names_of_any_characters(name: str, target: str) -> None:
    """JSON spells what lies beyond 16 bits as two characters; a line break ends comments and strings; commas split."""
    lif = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.5))
    into, delay, one, other = (f"{name} {part}" for part in ("in", "delay", "out", "out2"))
    nodes = {into: ops.Input(shape=(3,)), name: lif, delay: ops.Delay(delay=np.float64(1e-3)), one: ops.Output()}
    edges = (Edge(into, name), Edge(name, delay), Edge(delay, name), Edge(name, one), Edge(into, other))
    graph = Graph({**nodes, other: ops.Output()}, edges, Semantics(dt=1e-3), metadata={"name": name}).verify()
    assert same_everywhere(graph, target, steps=20) > 5
    graph.with_weights(built(graph, target).module().state_dict())


def test_deep_and_wide_values_are_dropped_when_read() -> None:
    """A value that is read for the last time early is deleted; one that only the next line reads is called x."""
    lif = ops.LIF(tau=np.float64(5e-3), r=5.0, v_threshold=np.float64(0.5))
    nodes: dict[str, ops.Op] = {"input": ops.Input(shape=(3,)), **{f"n{i}": lif for i in range(8)}, "out": ops.Output()}
    order = list(nodes)
    edges = [Edge(a, b) for a, b in pairwise(order)] + [Edge("n1", "n3")]
    text = built(Graph(nodes, tuple(edges), Semantics(dt=1e-3)), "torch").source.text
    body = text[text.index("recorded(self, record") :].split("\n\n")[0]
    assert [line.strip() for line in body.splitlines()[1:9]] == [
        'expect(x, "input", 3)',
        "x = self.n0(x)",
        "n1 = self.n1(x)",
        "x = self.n2(n1)",
        "x = self.n3(x + n1)",
        "del n1",
        "x = self.n4(x)",
        "x = self.n5(x)",
    ]


def test_frameworks_own_layers_are_used_and_exceptions_named() -> None:
    def report(target: str, *neurons: ops.Op, **semantics: Any) -> Any:
        graph = chain(ops.Input(shape=(3,)), *neurons, ops.Output(), semantics=Semantics(dt=1e-3, **semantics))
        return built(graph, target).report

    lif = ops.LIF(tau=np.float64(5e-3), v_threshold=np.float64(0.5))
    cuba = ops.CubaLIF(tau_syn=np.float64(5e-3), tau_mem=np.float64(5e-3), v_threshold=np.float64(0.5))
    iaf = ops.IF(v_threshold=np.float64(0.5))
    li = ops.LI(tau=np.float64(5e-3), v_leak=0.3)
    norse = report("norse", lif, cuba, iaf, li)
    assert norse["framework layers"] == {
        "lif": "norse.LIFBoxCell",
        "cubalif": "norse.LIBoxCell + norse.LIFBoxCell",
        "if": "norse.IAFCell",
        "li": "norse.LIBoxCell",
    }
    assert norse["own cells"] == {}
    snntorch = report("snntorch", lif, cuba, iaf, li)
    assert snntorch["framework layers"] == dict(zip(["lif", "cubalif", "if", "li"], ["snn.Leaky"] * 4, strict=True)) | {
        "cubalif": "snn.Synaptic"
    }
    assert snntorch["own cells"] == {}
    assert "IAFCell only resets to a value" in report("norse", iaf, reset="subtract")["own cells"]["if"]
    strange = iaf.with_(metadata={"surrogate": "atan"})
    assert "no surrogate gradient atan" in report("norse", strange)["own cells"]["if"]
    assert "no leak potential" in report("snntorch", cuba.with_(v_leak=np.float64(0.1)))["own cells"]["cubalif"]
    assert "clamps" in report("snntorch", lif.with_(tau=np.float64(5e-4)))["own cells"]["lif"]


@pytest.mark.parametrize("target", FAMILY)
def test_what_the_family_cannot_do_is_refused(target: str) -> None:
    graph = make_graph(0, "delay", "r1")
    refused = {
        "decay": "shift",
        "reset": "held-subtract",
        "order": "membrane-first",
        "spikes_per_step": None,
        "latency_neuron": 1,
        "latency_input": 1,
        "membrane_floor": -1.0,
        "number_format": "xylo-int16",
    }
    if target != "sinabs":
        del refused["reset"]
    if target in ("rockpool", "sinabs"):
        del refused["spikes_per_step"]  # its own
    if target == "sinabs":
        del refused["membrane_floor"]  # its own
    for name, value in refused.items():
        other = replace(graph, semantics=graph.semantics.with_(**{name: value}))
        with pytest.raises(CompileError) as caught:
            snnir.compile(other, target)
        assert any(str(value) in v.what for v in caught.value.violations), name
    odd = {**graph.ops, "delay": ops.Delay(delay=np.full(6, 2.5e-3))}
    with pytest.raises(CompileError, match=r"2\.5 steps"):
        snnir.compile(replace(graph, ops=odd), target)
    with pytest.raises(CompileError, match="time step is not known"):
        snnir.compile(replace(graph, semantics=Semantics()), target)


@pytest.mark.parametrize("target", FAMILY)
def test_numbers_that_float32_does_not_hold_are_refused(target: str) -> None:
    graph = make_graph(0, "affine-lif", "r1")
    fits = np.full(graph.weights()["fc1.weight"].shape, -3e38)
    fc1 = graph["fc1"].with_(weight=fits * 100)
    with pytest.raises(CompileError) as caught:
        snnir.compile(replace(graph, ops={**graph.ops, "fc1": fc1}), target)
    assert [(v.rule, v.where, v.what) for v in caught.value.violations] == [
        ("torch-range", "fc1", "weight holds a number of size 3e+40")
    ]
    fc1 = graph["fc1"].with_(weight=fits)
    assert snnir.compile(replace(graph, ops={**graph.ops, "fc1": fc1}), target).latency == 0


def test_a_number_of_steps_that_changes_within_a_cycle_is_refused() -> None:
    lif = ops.LIF(tau=np.float64(5e-3), v_threshold=np.float64(0.5))
    nodes = {"input": ops.Input(shape=(3,)), "n": lif, "twice": ops.Repeat(steps=2), "output": ops.Output()}
    edges = (Edge("input", "n"), Edge("n", "twice"), Edge("twice", "n"), Edge("n", "output"))
    with pytest.raises(CompileError, match=r"\[graph-steps\] twice -> n: brings 2 steps for one of the input"):
        snnir.compile(Graph(nodes, edges, Semantics(dt=1e-3)), "torch")


@pytest.mark.parametrize("target", FAMILY)
def test_files_need_no_framework_but_running_does(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = built(make_graph(0, "affine-lif", "r1"), target)
    missing = target
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *args, **kwargs)

    for name in [n for n in sys.modules if n.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr("snnir.backends.torch_source.backend.import_module", lambda name: refuse(name))
    assert {"model.py", "weights.safetensors", "run.py", "npz_files.py"} == set(artifact.files())
    with pytest.raises(MissingPackageError, match=rf"pip install 'snnir\[{missing}\]'"):
        artifact.module()
    with pytest.raises(MissingPackageError):
        artifact.run({"input": np.zeros((1, 1, 4))}, ())


def test_unknown_options_are_refused() -> None:
    with pytest.raises(UsageError, match="bits"):
        snnir.compile(make_graph(0, "affine-lif", "r1"), "norse", bits=8)
    assert backend("norse").pipeline(make_graph(0, "affine-lif", "r1"), {}) == ()


@pytest.mark.parametrize("target", FAMILY)
def test_weights_are_written_once(target: str, tmp_path: Path) -> None:
    """A graph that NIR cannot say is stored beside the module, and finds its arrays in the module's file."""
    rng = np.random.default_rng(0)
    graph = chain(
        ops.Input(shape=(40,)),
        ("fc", ops.Affine(weight=rng.normal(size=(40, 40)).astype(np.float32), bias=np.arange(40))),
        ("norm", ops.BatchNorm(weight=rng.normal(size=40), bias=np.ones(40), mean=np.ones(40), var=np.ones(40))),
        ("lif", ops.LIF(tau=np.float64(5e-3), v_threshold=np.float64(0.5))),
        ops.Output(),
        semantics=Semantics(dt=1e-3),
    )
    made = snnir.compile(graph, target)
    made.save(tmp_path / "out")
    sizes = {p.parent.name: p.stat().st_size for p in (tmp_path / "out").rglob("weights.safetensors")}
    assert sizes["out"] > 4 * 1600
    assert sizes["graph"] < 1000  # the whole numbers, which the module has as floats
    again = snnir.load(tmp_path / "out")
    assert_same(again, made.graph)
    (tmp_path / "out" / "graph").rename(tmp_path / "alone")
    with pytest.raises(CompileError, match="keep the folders together"):
        snnir.load(tmp_path / "alone")
