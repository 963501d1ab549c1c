"""WKV: token by token, all tokens at once, and the interpreter's form are one function, also where it is extreme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import snnir
from snnir import nn, ops
from snnir.graph import Edge, Graph
from snnir.interpreter.stateless import STATELESS
from snnir.nn.wkv import wkv_parallel, wkv_running

Form = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
FORMS = (wkv_running, wkv_parallel)
TOKENS = 394  # of the published network: 197 of the image, 197 of reconstruction
EXTREME = (-80.0, -30.0, -5.0, -1.0, 0.0, 1.0, 3.0, 10.0, 80.0)


def drawn(tokens: int, log_decay: Any, spread: float = 3.0, seed: int = 0) -> list[Any]:
    """k, v (2, tokens, channels), log_decay and first (channels,) in float64."""
    rng = np.random.default_rng(seed)
    decay = np.asarray(log_decay, np.float64)
    k, v = rng.normal(0, spread, (2, tokens, decay.size)), rng.normal(0, 1, (2, tokens, decay.size))
    return [k, v, decay, rng.normal(0, 1, decay.size)]


def reference(k: Any, v: Any, log_decay: Any, first: Any) -> Any:
    """What the interpreter computes: sums of exponentials with the largest exponent kept apart."""
    return STATELESS[ops.Wkv](ops.Wkv(log_decay=log_decay, first=first), k, v)


def as_tensors(arrays: list[Any], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.from_numpy(np.array(a)).to(dtype) for a in arrays]


@pytest.mark.parametrize("form", FORMS)
def test_forms_agree_over_394_tokens_from_no_decay_to_no_memory(form: Form) -> None:
    arrays = drawn(TOKENS, EXTREME)
    want = reference(*arrays)
    np.testing.assert_allclose(form(*as_tensors(arrays)).numpy(), want, rtol=0, atol=1e-12)
    single = form(*as_tensors(arrays, torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), want, rtol=0, atol=1e-5)


def test_parallel_is_running_in_single_precision() -> None:
    tensors = as_tensors(drawn(TOKENS, np.linspace(-8, 4, 64), seed=1), torch.float32)
    assert float((wkv_parallel(*tensors) - wkv_running(*tensors)).abs().max()) < 1e-5


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60)
@given(
    tokens=st.integers(1, 20),
    log_decay=st.lists(st.floats(-80, 80), min_size=1, max_size=4),
    spread=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 999),
)
def test_any_length_decay_and_exponent(
    form: Form, tokens: int, log_decay: list[float], spread: float, seed: int
) -> None:
    arrays = drawn(tokens, log_decay, spread, seed)
    np.testing.assert_allclose(form(*as_tensors(arrays)).numpy(), reference(*arrays), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_the_two_ends_of_the_decay_have_closed_forms(form: Form) -> None:
    k, v, _, first = drawn(40, np.zeros(3), spread=1.0)
    none = form(*as_tensors([k, v, np.full(3, -80.0), first])).numpy()
    all_of_it = form(*as_tensors([k, v, np.full(3, 80.0), first])).numpy()
    for line in range(1, 40):
        now = np.exp(first + k[:, line])
        past = np.exp(k[:, :line])
        mean = ((past * v[:, :line]).sum(1) + now * v[:, line]) / (past.sum(1) + now)
        np.testing.assert_allclose(none[:, line], mean, rtol=1e-10, atol=1e-12)
        last = past[:, -1]
        pair = (last * v[:, line - 1] + now * v[:, line]) / (last + now)
        np.testing.assert_allclose(all_of_it[:, line], pair, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(none[:, 0], v[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_gradients_are_finite_and_the_same_in_both_forms(spread: float, dtype: torch.dtype) -> None:
    found = []
    for form in FORMS:
        tensors = [t.requires_grad_() for t in as_tensors(drawn(TOKENS, EXTREME, spread), dtype)]
        weight = torch.from_numpy(np.random.default_rng(5).normal(size=(2, TOKENS, len(EXTREME)))).to(dtype)
        (form(*tensors) * weight).sum().backward()
        grads = [t.grad for t in tensors]
        assert all(g is not None and bool(g.isfinite().all()) for g in grads)
        found.append(grads)
    if dtype == torch.float64:
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_finite_differences(form: Form) -> None:
    tensors = [t.requires_grad_() for t in as_tensors(drawn(7, [-3.0, 0.5], spread=1.0))]
    assert torch.autograd.gradcheck(form, tensors)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_seen_of_later_tokens(form: Form) -> None:
    k, v, decay, first = drawn(30, [-2.0, 0.0])
    before = form(*as_tensors([k, v, decay, first])).numpy()
    k[:, 17] += 5.0
    v[:, 17] -= 2.0
    after = form(*as_tensors([k, v, decay, first])).numpy()
    np.testing.assert_array_equal(after[:, :17], before[:, :17])
    assert (np.abs(after[:, 17:] - before[:, 17:]) > 0).all()


def test_the_op_names_its_faults() -> None:
    high = ops.Wkv(log_decay=np.array([0.0, 81.0]), first=np.zeros(2))
    assert list(high.verify()) == ["log_decay holds 81, expected at most 80"]
    uneven = ops.Wkv(log_decay=np.zeros(2), first=np.zeros(3))
    assert "log_decay [2] and first [3]" in next(uneven.verify())
    with pytest.raises(ops.ShapeError, match="does not fit tokens x channels"):
        ops.Wkv(log_decay=np.zeros(2), first=np.zeros(2)).infer({"k": (5, 3), "v": (5, 3)})
    with pytest.raises(ops.ShapeError, match="differ"):
        ops.Wkv(log_decay=np.zeros(3), first=np.zeros(3)).infer({"k": (5, 3), "v": (4, 3)})
    with pytest.raises(ValueError, match=r"\[2\] and \[3\]"):
        nn.Wkv(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="'auto', 'running' or 'parallel'"):
        nn.Wkv(torch.zeros(2), torch.zeros(2), form="scan")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["auto", "running", "parallel"])
def test_the_layer_is_the_op(form: Any) -> None:
    k, v, decay, first = drawn(6, [-1.0, 0.3, 2.0])
    layer = nn.Wkv(torch.from_numpy(decay), torch.from_numpy(first), form=form).double()
    nodes = {
        "k": ops.Input(shape=(6, 3)),
        "v": ops.Input(shape=(6, 3)),
        "wkv": ops.Wkv(log_decay=layer.log_decay.detach().numpy(), first=layer.first.detach().numpy()),
        "output": ops.Output(),
    }
    graph = Graph(nodes, (Edge("k", "wkv", "k"), Edge("v", "wkv", "v"), Edge("wkv", "output"))).verify()
    want = snnir.interpret(graph, {"k": k[None], "v": v[None]})
    np.testing.assert_allclose(layer(*as_tensors([k[None], v[None]])).detach().numpy(), want, rtol=1e-12, atol=1e-12)
