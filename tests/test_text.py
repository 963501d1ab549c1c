"""The text form: what it looks like, that it is read back to the bit, and how it says what it cannot read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnir.errors import CompileError
from snnir.graph import Edge, Graph, chain
from snnir.interpreter import interpret
from snnir.literals import Reader, written
from snnir.ops import LIF, Concat, Conv2d, Input, Linear, Loc, Output, Scale
from snnir.text import from_text, to_text
from snnir.values import identical
from tests.graph_equal import METADATA_VALUES, assert_same, decorated, snn_graph
from tests.strategies import GRAPH_KINDS, STYLES, inputs_for, make_graph

QUICK = settings(max_examples=150)

GOLDEN = """\
snnir.Graph 1
semantics(dt=0.001, decay="euler", gain="ode", order="synapse-first", comparison=">", reset="value", \
spikes_per_step=1, latency_input=0, latency_neuron=0, recurrent_bias_at_start=True, start="rest", \
membrane_floor=None, number_format="float32")
metadata({"task": "demo"})
x = Input(shape=(1, 2, 2))
conv = Conv2d(weight=f32[1,1,2,2]{1.0, -0.5, 0.1, 3e-10}, bias=f32[1]=0.0, padding="same") <- x
lif = LIF(tau=0.02, v_threshold=f32[1,2,2]=0.5, v_reset=f32[]=-0.1) <- conv, rec from ("net.lif",) \
meta {"sizes": [1, 2]} @ "model.py":12 "net.lif"
rec = Scale(scale=i8[1,2,2]{0, 1, 2, 3}) <- lif
"the cat" = Concat(inputs=2) <- in0: lif, in1: x
y = Output() <- "the cat"
"""


def golden() -> Graph:
    weight = np.array([1.0, -0.5, 0.1, 3e-10], np.float32).reshape(1, 1, 2, 2)
    lif = LIF(
        tau=np.float64(0.02),
        v_threshold=np.full((1, 2, 2), 0.5, np.float32),
        v_reset=np.float32(-0.1),
        metadata={"sizes": [1, 2]},
        loc=Loc("model.py", 12, "net.lif"),
    )
    ops = {
        "x": Input(shape=(1, 2, 2)),
        "conv": Conv2d(weight=weight, bias=np.zeros(1, np.float32), padding="same"),
        "lif": lif,
        "rec": Scale(scale=np.arange(4, dtype=np.int8).reshape(1, 2, 2)),
        "the cat": Concat(inputs=2),
        "y": Output(),
    }
    edges = (
        Edge("x", "conv"),
        Edge("conv", "lif"),
        Edge("rec", "lif"),
        Edge("lif", "rec"),
        Edge("lif", "the cat", "in0"),
        Edge("x", "the cat", "in1"),
        Edge("the cat", "y"),
    )
    semantics = chain(Input(shape=(1,)), Output()).semantics.with_(dt=0.001)
    return Graph(ops, edges, semantics, {"lif": ("net.lif",)}, {"task": "demo"}).verify()


def test_the_text_is_what_a_person_reads() -> None:
    assert to_text(golden()) == GOLDEN
    assert str(golden()) == GOLDEN
    assert_same(from_text(GOLDEN), golden())


@QUICK
@given(decorated())
def test_round_trip_in_full(graph: Graph) -> None:
    text = to_text(graph, limit=None)
    assert all(line.isprintable() for line in text.split("\n"))
    assert_same(from_text(text), graph, edge_order=False)
    assert to_text(from_text(text), limit=None) == text


@QUICK
@given(METADATA_VALUES)
def test_every_value_round_trips(value: object) -> None:
    text = written(value, None)
    reader = Reader(text, {}.__getitem__)
    assert identical(reader.value(), value)
    assert reader.at_end()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_abbreviated_arrays_come_back_from_the_weights(kind: str, style: str) -> None:
    graph = make_graph(2, kind, style)
    text = to_text(graph)
    assert len(text) < 4000
    again = from_text(text, arrays=graph.weights())
    assert_same(again, graph, edge_order=False)
    x = inputs_for(graph, T=10)
    assert np.array_equal(interpret(again, x), interpret(graph, x))


def test_snn_dialect_round_trips() -> None:
    graph = snn_graph()
    assert_same(from_text(to_text(graph), graph.weights()), graph, edge_order=False)
    assert_same(from_text(to_text(graph, limit=None)), graph, edge_order=False)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["f2", "f4", "f8"]))
def test_every_bit_of_floats_survives(seed: int, dtype: str) -> None:
    bits = np.random.default_rng(seed).integers(0, 256, 4000, np.uint8).tobytes()
    array = np.frombuffer(bits, dtype)
    array = array[np.isfinite(array)]
    again = Reader(written(array, None), {}.__getitem__).value()
    assert again.dtype == array.dtype
    assert again.tobytes() == array.tobytes()


def test_the_hash_depends_on_type_shape_and_every_element() -> None:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    changed = weight.copy()
    changed[2, 3] += 1e-6 * 11
    texts = [to_text(chain(Input(shape=(4,)), Linear(weight=w), Output())) for w in (weight, changed)]
    assert texts[0] != texts[1]
    assert len(to_text(chain(Input(shape=(4,)), Linear(weight=weight), Output()), limit=12)) > len(texts[0])
    with pytest.raises(CompileError, match=r"array #[0-9a-f]{12} is not given"):
        from_text(texts[0], arrays={"fc": changed})
    with pytest.raises(CompileError, match="is not given"):
        from_text(texts[0], arrays={"fc": weight.astype(np.float64)})
    assert len(from_text(texts[0], arrays={"anything": weight})) == 3


def test_a_graph_with_faults_can_be_printed_and_read() -> None:
    """Bug reports show graphs that do not verify."""
    nan = Linear(weight=np.array([[np.nan, -np.inf]]))
    edges = (Edge("x", "fc"), Edge("x", "fc"), Edge("fc", "nowhere", "in3"), Edge("gone", "fc"), Edge("y", "x"))
    graph = Graph({"x": Input(shape=(2,)), "fc": nan, "y": Output()}, edges, origin={"lost": ("a", "b")})
    text = to_text(graph)
    assert "fc = Linear(weight=f64[1,2]{nan, -inf}) <- x, x, gone" in text
    assert "edge(fc -> in3: nowhere)" in text
    assert 'origin(lost, ("a", "b"))' in text
    again = from_text(text)
    assert sorted(again.edges) == sorted(graph.edges)
    assert dict(again.origin) == dict(graph.origin)
    assert to_text(again) == text


def test_what_text_cannot_keep_is_shown_but_not_read() -> None:
    graph = chain(Input(shape=(2,), metadata={"o": object()}), Scale(scale=np.array(["a"])), Output())
    text = to_text(graph)
    assert 'meta {"o": <object>}' in text
    assert "scale=<array of <U1>" in text
    with pytest.raises(CompileError) as caught:
        from_text(text)
    assert [v.where for v in caught.value.violations] == ["line 3", "line 4"]
    assert "of a type that text does not keep" in caught.value.violations[0].what


def test_a_person_may_write_and_comment() -> None:
    text = """snnir.Graph 1
# no semantics: NIR's own

  x = Input(shape = (2,))
lif=LIF(tau=1, v_threshold=f32[2]{1,2.5},)<-x
y = Output()  <-  lif
"""
    graph = from_text(text).verify()
    lif = graph["lif"]
    assert isinstance(lif, LIF)
    assert lif.tau == 1
    assert lif.v_threshold.tolist() == [1.0, 2.5]
    assert graph.semantics.dt is None


def test_every_line_that_cannot_be_read_is_named() -> None:
    text = """snnir.Graph 1
semantics(dt=0.1, colour="red")
x = Input(shape=(2,)
x = Input(shape=(2,))
x = Input(shape=(3,))
a = Magic()
b = Linear() <- x
c = Linear(weight=f32[2,2]{1, 2, 3}) <- x
d = Scale(scale=f32[1]=oops) <- x
e = Scale(scale=i8[1]=1.5) <- x
f = Scale(scale=f32[2,2]#0123456789ab) <- x, "unclosed
g = Output() <- x y
h
paint(x)
i = Scale(scale=i8[1]=300) <- x
"""
    with pytest.raises(CompileError) as caught:
        from_text(text)
    said = {v.where: v.what for v in caught.value.violations}
    assert list(said) == [f"line {n}" for n in (2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)]
    assert "colour" in said["line 2"]
    assert said["line 3"] == "expected ',' in column 21, found 'the end of the line'"
    assert said["line 5"] == "the op 'x' stands twice"
    assert said["line 6"] == "there is no op called 'Magic'"
    assert "weight" in said["line 7"]
    assert said["line 8"] == "an array of shape [2, 2] has 4 elements, found 3"
    assert said["line 9"] == "expected a number in column 24, found 'oops) <- x'"
    assert "whole numbers" in said["line 10"]
    assert said["line 11"] == "array #0123456789ab is not given"
    assert said["line 12"] == "expected the end of the line in column 19, found 'y'"
    assert "expected '('" in said["line 13"]
    assert "found 'paint'" in said["line 14"]
    assert "300" in said["line 15"]


def test_another_file_is_refused() -> None:
    for text in ("", "hello", "snnir.Graph 2\n", "\x89HDF"):
        with pytest.raises(CompileError, match="no graph in text form"):
            from_text(text)
