"""SDiT-digits on every target that runs it whole: the interpreter's values, the module's gradients, weights back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import snnir
from snnir import ops
from snnir.diffusion.checkpoint import write_weights
from snnir.diffusion.sample import noise, sample
from snnir.diffusion.spec import DiffusionSpec
from snnir.models import sdit
from snnir.models.loading import load_weights
from snnir.models.sdit_inputs import guided, one_hot
from snnir.naming import identifiers
from tests.backends import family, onnx_family
from tests.sdit.nets import TINY, called, example, lively
from tests.values_equal import same_values

pytestmark = pytest.mark.oracle
TARGETS = (*family.FAMILY, "onnx")


def built(graph: snnir.Graph, target: str) -> Any:
    return onnx_family.built(graph) if target == "onnx" else family.built(graph, target)


@pytest.fixture(scope="module")
def digits() -> tuple[sdit.SDiT, snnir.Graph]:
    model = lively("digits")
    return model, snnir.load(model)


def test_the_graph_is_the_module(digits: tuple[sdit.SDiT, snnir.Graph]) -> None:
    model, graph = digits
    given = example(model, batch=3)
    got, recorded = snnir.interpret(graph, given, record=["blocks_in.0.rate1.mean", "blocks_out.0.rate2.mean"])
    want = called(model, given)
    assert np.abs(want).max() > 0.5
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
    for rates in recorded.values():  # all the levels there are, so that the neurons are no constant
        assert set(np.unique(rates)) == {0, 0.25, 0.5, 1}


@pytest.mark.parametrize("target", TARGETS)
def test_every_op_gives_the_interpreter_s_value(target: str, digits: tuple[sdit.SDiT, snnir.Graph]) -> None:
    model, graph = digits
    given = example(model, batch=2, seed=1)
    want, expected = snnir.interpret(graph, given, record=list(graph.ops))
    artifact = built(graph, target)
    _, recorded = artifact.run(given, tuple(graph.ops))
    assert same_values(graph, recorded, expected, target) > 500
    single, _ = artifact.run({name: value.astype(np.float32) for name, value in given.items()})
    np.testing.assert_allclose(single["output"], want, rtol=0, atol=1e-4)


def test_a_call_is_a_step_of_step_onnx(tmp_path: Path, digits: tuple[sdit.SDiT, snnir.Graph]) -> None:
    """Inner steps and all; membranes go on from call to call in both, as the states say that are handed on."""
    model, graph = digits
    given = {name: np.concatenate([v, v[:, ::-1], v]) for name, v in example(model).items()}
    want = snnir.interpret(graph, given)
    assert np.abs(want[0] - want[2]).max() > 1e-6  # the same input, other membranes
    artifact = onnx_family.built(graph)
    assert not artifact.report
    np.testing.assert_allclose(onnx_family.by_steps(artifact, given, np.float64)["output"], want, rtol=0, atol=1e-9)
    (tmp_path / "step.onnx").write_bytes(artifact.files()["step.onnx"])
    again = snnir.load(tmp_path / "step.onnx")
    np.testing.assert_allclose(snnir.interpret(again, given), want, rtol=0, atol=1e-4)


def test_a_guided_sampling_run_is_the_same_everywhere() -> None:
    """DDIM on v from fixed noise, labels with guidance; float64, so that no spike falls on another side."""
    model = lively("digits", depth=2, width=16)
    graph = snnir.load(model)
    spec = DiffusionSpec(image=model.config.image, steps=1, time_size=model.config.time)
    start = noise(spec, 3, seed=1, dtype=np.float64)
    label = one_hot([3, 8, 0], 10)[None]

    def images(run: Any) -> Any:
        network = guided(run, 1.5, channels=1)
        return sample(lambda x, time: network(x, np.array(time), label), spec, start, steps=6).currents

    def through(artifact: Any) -> Any:
        return lambda x, time, label: artifact.run({"x": x, "time": time, "label": label})[0]["output"]

    want = images(lambda x, time, label: snnir.interpret(graph, {"x": x, "time": time, "label": label}))
    assert want.std() > 0.1
    for target in TARGETS:
        np.testing.assert_allclose(images(through(built(graph, target))), want, rtol=0, atol=1e-4, err_msg=target)


@pytest.mark.parametrize("target", family.FAMILY)
def test_training_reaches_every_parameter_as_in_the_module(target: str) -> None:
    model = lively(**TINY).double()
    graph = snnir.load(model)
    emitted = family.built(graph, target).module(torch.float64)
    given = [torch.from_numpy(v) for v in example(model).values()]
    grads = []
    for net in (model, emitted.train()):
        net.zero_grad()
        net(*given).square().sum().backward()
        grads.append({name: p.grad for name, p in net.named_parameters()})
    spelt = identifiers(graph.ops)
    theirs = {name: f"{spelt[op]}.{field}" for name in grads[0] for op, _, field in [name.rpartition(".")]}
    assert set(grads[1]) == set(theirs.values())  # neither more is trained nor less
    assert all(bool(g.isfinite().all()) for g in grads[1].values())
    assert not [name for name, g in grads[0].items() if not bool(g.abs().max() > 0)]
    for name, mine in grads[0].items():
        other, op = grads[1][theirs[name]], graph[name.rpartition(".")[0]]
        if target == "rockpool" and isinstance(op, ops.Linear):
            other = other.t()  # its layer keeps (in, out) inside
        near = 1e-9 if target == "torch" else 1e-5  # the others compute surrogates in their own way
        np.testing.assert_allclose(other.numpy(), mine.numpy(), rtol=near, atol=near, err_msg=name)


def test_weights_trained_on_the_target_come_back_into_the_model(tmp_path: Path) -> None:
    model = lively(**TINY)
    graph = snnir.load(model)
    module = family.built(graph, "torch").module()
    given = example(model)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    tensors = [torch.from_numpy(v).float() for v in given.values()]
    before = float(module(*tensors).square().mean())
    for _ in range(5):
        optimiser.zero_grad()
        module(*tensors).square().mean().backward()
        optimiser.step()
    assert float(module(*tensors).square().mean()) < 0.8 * before
    trained = graph.with_weights({name: value.numpy() for name, value in module.state_dict().items()})
    write_weights(tmp_path / "weights.safetensors", graph, trained)
    again = sdit.build("digits", **TINY, weights="none", seed=9)
    load_weights(again, tmp_path / "weights.safetensors")
    np.testing.assert_allclose(called(again, given), snnir.interpret(trained, given), rtol=1e-6, atol=1e-6)
