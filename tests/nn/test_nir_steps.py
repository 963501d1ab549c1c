"""nirtorch's tools on our files with our maps; and nirtorch's faults that docs/nirtorch.md names, by running it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import snnir
from snnir import nn, ops
from snnir.graph import Edge, Graph, chain
from snnir.nn.nir_steps import module_map, node_map
from snnir.semantics import Semantics

nir = pytest.importorskip("nir")
nirtorch = pytest.importorskip("nirtorch")

DT = 1e-3
ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nirtorch_demo", ROOT / "examples" / "nirtorch" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spikes(*shape: int) -> np.ndarray:
    return (np.random.default_rng(1).random(shape) < 0.4).astype(float)


def nets() -> dict[str, Graph]:
    def normal(*shape: int) -> np.ndarray:
        return RNG.normal(0, 0.6, shape)

    conv = chain(
        ops.Input(shape=(2, 6, 6)),
        ops.Conv2d(weight=normal(4, 2, 3, 3), bias=normal(4), padding=1),
        ops.IF(r=np.full((4, 6, 6), 1 / DT), v_threshold=0.8),
        ops.SumPool2d(kernel_size=2, stride=2, padding=1),
        ops.Scale(scale=normal(4, 1, 1) * np.ones((4, 4, 4))),
        ops.Flatten(),
        ops.Affine(weight=normal(5, 64), bias=normal(5)),
        ops.CubaLIF(tau_syn=np.full(5, 0.004), tau_mem=np.full(5, 0.008), r=8.0, w_in=4.0, v_leak=0.1, v_threshold=0.5),
        ops.Output(),
        semantics=Semantics(dt=DT, decay="exponential", reset="subtract"),
    )
    line = chain(
        ops.Input(shape=(5,)),
        ops.Threshold(threshold=np.full(5, 0.5)),
        ops.Delay(delay=DT * np.arange(5.0)),
        ops.Linear(weight=normal(3, 5)),
        ops.LI(tau=np.full(3, 0.01), v_leak=np.full(3, 0.2)),
        ops.Output(),
        semantics=Semantics(dt=DT),
    )
    return {"conv": conv, "line": line}


@pytest.mark.parametrize("name", ["conv", "line"])
def test_a_nir_file_through_nirtorch_with_our_map(name: str, demo: ModuleType, tmp_path: Path) -> None:
    graph = nets()[name]
    file = tmp_path / "net.nir"
    file.write_bytes(snnir.compile(graph, "nir").files()["graph.nir"])
    x = spikes(30, 3, *graph.shapes["input"])
    want = snnir.interpret(graph, x)
    assert want.astype(bool).mean() > 0.05
    np.testing.assert_allclose(demo.file_to_torch(file, x), want, rtol=0, atol=1e-12)


def test_cycles_and_paths_that_meet_through_nirtorch(demo: ModuleType, tmp_path: Path) -> None:
    graph = demo.network()
    file = tmp_path / "net.nir"
    file.write_bytes(snnir.compile(graph, "nir").files()["graph.nir"])
    x = spikes(40, 3, 6)
    want = snnir.interpret(graph, x)
    np.testing.assert_array_equal(demo.file_to_torch(file, x), want)
    assert 0.05 < want.mean() < 0.95
    for target in ("torch", "norse", "snntorch", "sinabs", "spikingjelly"):
        live = snnir.compile(graph, target).module().double()
        with torch.no_grad():
            np.testing.assert_array_equal(live(torch.from_numpy(x)).numpy(), want, err_msg=target)


def test_a_model_through_nirtorchs_tracer(demo: ModuleType, tmp_path: Path) -> None:
    model = demo.Model().double()
    graph = demo.torch_to_file(model, tmp_path / "model.nir")
    x = spikes(30, 2, 6)
    with torch.no_grad():
        want = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(snnir.interpret(graph, x), want, rtol=0, atol=1e-12)
    assert {op.kind for op in graph.ops.values()} == {"Input", "Affine", "Linear", "LIF", "LI", "Output"}
    assert np.abs(want).max() > 0.05


def test_the_example_runs_as_a_program(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "nirtorch" / "demo.py"), "-o", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("largest difference 0.0e+00") == 5, run.stdout


def test_what_the_maps_refuse() -> None:
    for semantics in (
        Semantics(dt=DT, reset="delayed-value"), Semantics(dt=DT, spikes_per_step=None, reset="subtract"),
        Semantics(dt=DT, latency_neuron=1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="modules of one step have no"):
            node_map(semantics)
    with pytest.raises(snnir.CompileError, match="time step"):
        node_map(Semantics())
    with pytest.raises(ValueError, match="numbers only"):
        module_map()[nn.LIF](nn.LIF(tau=0.01, dt=DT))


# -- faults of nirtorch 2.6, as docs/nirtorch.md names them ---------------------------------------------------------


def of_nirtorch_26(test: Callable[..., None]) -> Callable[..., None]:
    found = version("nirtorch")
    return pytest.mark.skipif(found != "2.6", reason=f"nirtorch {found}: docs/nirtorch.md names the faults of 2.6")(
        test
    )


def through(node: Any, x: np.ndarray, *inputs: int) -> torch.Tensor:
    graph = nir.NIRGraph.from_list(nir.Input(input_type=np.array(inputs)), node)
    output, _ = nirtorch.nir_to_torch(graph, {})(torch.from_numpy(x.astype(np.float32)))
    return output.detach()


@of_nirtorch_26
def test_nirtorchs_own_affine_has_a_random_bias() -> None:
    node = nir.Affine(weight=np.zeros((3, 2), np.float32), bias=np.array([1, 2, 3], np.float32))
    assert not np.allclose(through(node, np.zeros((1, 2)), 2).numpy(), [1, 2, 3])


@of_nirtorch_26
def test_nirtorchs_own_flatten_takes_the_batch_along() -> None:
    node = nir.Flatten(input_type={"input": np.array([2, 3])}, start_dim=0, end_dim=-1)
    assert list(through(node, np.zeros((4, 2, 3)), 2, 3).shape) == [24]


@of_nirtorch_26
def test_nirtorchs_own_sum_pool_has_no_padding() -> None:
    node = nir.SumPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([1, 1]))
    assert through(node, np.ones((1, 1, 4, 4)), 1, 4, 4).shape[-2:] == (2, 2)  # 3 x 3 with it


@of_nirtorch_26
def test_two_edges_into_an_output_are_not_added() -> None:
    nodes = {
        "input": nir.Input(input_type=np.array([2])),
        "a": nir.Linear(weight=np.eye(2, dtype=np.float32)),
        "b": nir.Linear(weight=np.eye(2, dtype=np.float32)),
        "output": nir.Output(output_type=np.array([2])),
    }
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")]
    found = nirtorch.nir_to_torch(nir.NIRGraph(nodes, edges), {})(torch.ones(1, 2))
    assert len(found) == 3  # a, b and the state


@of_nirtorch_26
def test_names_that_differ_by_a_dot_become_one() -> None:
    nodes = {
        "input": nir.Input(input_type=np.array([2])),
        "a.b": nir.Linear(weight=np.eye(2, dtype=np.float32)),
        "a_b": nir.Linear(weight=3 * np.eye(2, dtype=np.float32)),
        "output": nir.Output(output_type=np.array([2])),
    }
    edges = [("input", "a.b"), ("a.b", "a_b"), ("a_b", "output")]
    found = nirtorch.nir_to_torch(nir.NIRGraph(nodes, edges), {})(torch.ones(1, 2))[0]
    assert found.detach().tolist() == [[12.0, 12.0]]  # and not 3


@of_nirtorch_26
def test_nirtorch_load_gives_one_of_two_branches_instead_of_their_sum() -> None:
    nodes = {
        "input": nir.Input(input_type=np.array([2])),
        "a": nir.Linear(weight=np.eye(2, dtype=np.float32)),
        "b": nir.Linear(weight=10 * np.eye(2, dtype=np.float32)),
        "m": nir.Linear(weight=np.eye(2, dtype=np.float32)),
        "output": nir.Output(output_type=np.array([2])),
    }
    edges = [("input", "a"), ("input", "b"), ("a", "m"), ("b", "m"), ("m", "output")]

    def linear(node: Any) -> torch.nn.Module | None:
        if not isinstance(node, nir.Linear):
            return None
        layer = torch.nn.Linear(2, 2, bias=False)
        layer.weight.data = torch.from_numpy(node.weight)
        return layer

    loaded = nirtorch.load(nir.NIRGraph(nodes, edges), linear)
    found = loaded(torch.ones(1, 2))
    found = found[0] if isinstance(found, tuple) else found
    assert not np.allclose(found.detach().numpy(), 11.0)
    right = nirtorch.nir_to_torch(nir.NIRGraph(nodes, edges), {})(torch.ones(1, 2))[0]
    assert np.allclose(right.detach().numpy(), 11.0)


@of_nirtorch_26
def test_a_map_of_ones_own_for_linear_is_not_looked_at() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    def mine(layer: torch.nn.Linear) -> Any:
        return nir.Affine(layer.weight.detach().numpy(), np.zeros(2))

    made = nirtorch.torch_to_nir(Two(), {torch.nn.Linear: mine})
    assert {type(node).__name__ for node in made.nodes.values()} == {"Input", "Linear", "Output"}


def test_edges_into_several_places_are_all_found() -> None:
    graph = Graph(
        {"input": ops.Input(shape=(2,)), "a": ops.Linear(weight=np.eye(2)), "li": ops.LI(tau=np.full(2, 0.01)),
         "output": ops.Output(shape=(2,))},
        (Edge("input", "a"), Edge("a", "li"), Edge("input", "li"), Edge("li", "output")),
        Semantics(dt=DT),
    )  # fmt: skip
    made = nirtorch.nir_to_torch(snnir.nir_io.to_nir(graph), node_map(graph.semantics), dtype=torch.float64)
    x = RNG.normal(size=(1, 4, 2))
    with torch.no_grad():
        np.testing.assert_allclose(made(torch.from_numpy(x[0]))[0].numpy(), snnir.interpret(graph, x)[0], atol=1e-12)
