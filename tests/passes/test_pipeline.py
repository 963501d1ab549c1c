"""Pipelines: text to passes and back, errors that name the choices, the hook, verification after each pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from snnir import pipeline
from snnir.errors import CompileError, UsageError
from snnir.graph import Edge, Graph, chain
from snnir.ops import Input, Linear, Output, Reshape, Scale
from snnir.pipeline import PASSES, Keeps, Log, Pass, Step, parse_pipeline, pass_class, pipeline_text, run_pipeline


@dataclass(frozen=True)
class Everything(Pass):
    """One option of every type."""

    name: ClassVar[str] = "everything"
    keeps: ClassVar[Keeps] = "approximate"
    needed: int
    ratio: float = 1.0
    flag: bool = False
    kind: Literal["one", "two"] = "one"
    names: tuple[str, ...] = ()
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.needed < 0:
            raise ValueError(f"needed is {self.needed}, expected 0 or more")

    def run(self, graph: Graph, log: Log) -> Graph:
        log.did("a", "nothing")
        return graph


@dataclass(frozen=True)
class Breaks(Pass):
    """Cuts every edge."""

    name: ClassVar[str] = "breaks"

    def run(self, graph: Graph, log: Log) -> Graph:
        return replace(graph, edges=())


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PASSES", {**PASSES, "everything": f"{__name__}:Everything"})
    monkeypatch.setattr(pipeline, "pass_class", lambda name: Everything if name == "everything" else pass_class(name))


def graph() -> Graph:
    return chain(("a", Input(shape=(2,))), ("w", Linear(weight=np.ones((2, 2)))), ("z", Output()))


def test_every_pass_loads_and_is_called_as_it_is_listed() -> None:
    for name in PASSES:
        cls = pass_class(name)
        assert cls.name == name
        assert cls.keeps == "exact"
        assert str(cls()) == name
        assert PASSES[name].split(":")[0] == f"snnir.passes.{name.replace('-', '_')}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "simplify",
        "fold-batch-norm,fuse-linear{max_growth=4}",
        "fuse-linear{max_growth=2.5,dense=true},simplify{dead=false}",
        "normalise-gain{zero=reset,threshold=true},balance-latency{latency=2}",
        "everything{needed=3,ratio=1e-07,flag=true,kind=two,names=a+b.c,limit=5}",
    ],
)
@pytest.mark.usefixtures("registered")
def test_text_and_back(text: str) -> None:
    passes = parse_pipeline(text)
    assert pipeline_text(passes) == text
    assert parse_pipeline(pipeline_text(passes)) == passes


@pytest.mark.usefixtures("registered")
def test_values_get_the_types_of_their_options() -> None:
    (found,) = parse_pipeline(" everything { needed = 3, names=x+y , limit=none, flag } ")
    assert found == Everything(needed=3, names=("x", "y"), limit=None, flag=True)
    assert isinstance(parse_pipeline("fuse-linear{max-growth=4}")[0].max_growth, float)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fold", "no pass 'fold'; there are balance-latency, fold-batch-norm, fuse-decoder, fuse-linear"),
        ("simplify,", "empty name, at place 2"),
        ("simplify{dead=maybe}", "option 'dead' of pass 'simplify' is 'maybe', expected true | false"),
        ("simplify{alive=true}", "has no option 'alive'; its options: dead: true | false, identities"),
        ("fuse-linear{max_growth}", "needs a value (a number)"),
        ("fuse-linear{max_growth=much}", "is 'much', expected a number"),
        ("lower-upsample{alone=zoom}", "expected transpose | shuffle"),
        ("simplify{dead=true,dead=true}", "is given twice"),
        ("simplify{dead=true", "ends within braces"),
        ("simplify}", "do not pair, at character 9"),
        ("simplify{dead=true}fuse-linear", "a comma is missing"),
        ("balance-latency{latency=-1}", "expected 0 or more"),
        ("everything", "needs the option 'needed' (an integer)"),
        ("everything{needed=1.5}", "expected an integer"),
        ("everything{needed=1,limit=x}", "expected an integer or none"),
        ("everything{needed=1,names}", "needs a value (a text + ...)"),
        ("everything{needed=-1}", "needed is -1"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_pipeline(text)
    assert said in str(error.value)


def test_the_hook_sees_every_pass_also_one_that_does_nothing() -> None:
    g = chain(("a", Input(shape=(2,))), ("one", Scale(scale=np.ones(2))), ("z", Output()))
    steps: list[Step] = []
    after = run_pipeline(g, parse_pipeline("lower-upsample,simplify"), steps.append)
    assert [str(s.pass_) for s in steps] == ["lower-upsample", "simplify"]
    assert steps[0].after is steps[0].before is g
    assert steps[1].before is g
    assert steps[1].after is after
    assert list(after.ops) == ["a", "z"]
    assert [str(e) for e in steps[1].entries] == ["simplify: one: removed: this Scale is the identity"]
    assert all(s.seconds >= 0 for s in steps)


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    with pytest.raises(CompileError, match="the pass breaks made a graph that is not sound"):
        run_pipeline(graph(), (Breaks(),))


def test_the_graph_before_is_never_touched() -> None:
    g = graph()
    edges, weights = g.edges, {k: v.copy() for k, v in g.weights().items()}
    run_pipeline(g, parse_pipeline(",".join(PASSES)))
    assert g.edges == edges == (Edge("a", "w"), Edge("w", "z"))
    assert all(np.array_equal(weights[k], v) for k, v in g.weights().items())


def test_a_balanced_graph_is_rewritten_no_more() -> None:
    graph = chain(Input(shape=(2,)), Scale(scale=np.ones(2)), Output(), metadata={"latency": {"output": 1}})
    declined: list[str] = []
    after = run_pipeline(graph, parse_pipeline("simplify"), lambda step: declined.extend(e.text for e in step.entries))
    assert after is graph
    assert "put this pass before balance-latency" in declined[0]


def test_vectors_are_lifted_in_the_order_of_the_graph() -> None:
    """Not in that of a set, which differs from process to process, and with it the files."""
    nodes: dict[str, Any] = {"in": Input(shape=(2,))}
    for i in range(9):
        nodes |= {f"up{i}": Reshape(shape=(2, 1, 1)), f"out{i}": Output()}
    edges = [e for i in range(9) for e in (Edge("in", f"up{i}"), Edge(f"up{i}", f"out{i}"))]
    after = run_pipeline(Graph(nodes, tuple(edges)).verify(), parse_pipeline("lift-vectors"))
    assert list(after.edges) == [Edge("in", f"out{i}") for i in range(9)]
