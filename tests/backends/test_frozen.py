"""What the model's author does not train is not trained: not by emitted modules, not after passes, not after a file."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, prune

import snnir
from snnir import nn, ops
from snnir.backends.torch_source.weights import state
from snnir.diffusion.spec import spec_of
from snnir.diffusion.train import TrainConfig, train
from snnir.errors import CompileError
from snnir.frontends.torch_fx import to_module_weights
from snnir.graph import Graph, chain
from snnir.learning import by_default, check_trainable, learned, merged, note
from snnir.models.fsddim import build
from snnir.semantics import Semantics
from snnir.text import from_text, to_text
from tests.backends.family import FAMILY, built

pytestmark = pytest.mark.oracle


class Net(nn.Module):
    """Every kind of op with weights."""

    input_shape = (2, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bare = nn.Conv2d(4, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.lif = nn.LIF(tau=5e-3, r=50.0, v_threshold=0.3, dt=1e-3)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.scale = nn.Scale(torch.rand(2, 1, 1) + 0.5, learn=True)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(128, 6)
        self.layer_norm = nn.LayerNorm(6)
        self.offset = torch.nn.Parameter(torch.rand(6))
        self.gain = torch.nn.Parameter(torch.tensor(1.3))
        self.matrix = torch.nn.Parameter(torch.randn(6, 5))
        self.turned = torch.nn.Parameter(torch.randn(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif(self.norm(self.bare(self.conv(x))))
        x = self.fc(self.flat(self.scale(self.up(x))))
        x = (self.layer_norm(x) + self.offset) * self.gain
        return (x @ self.matrix) @ self.turned.t()


PARAMETERS = [name for name, _ in Net().named_parameters()]
IN_GRAPH = {"offset": "constant.value", "gain": "mul.scale", "matrix": "matmul.weight", "turned": "matmul_1.weight"}


def frozen_net(names: Any) -> Net:
    model = Net()
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def in_graph(graph: Graph, name: str) -> str:
    """The array of the graph that a parameter became."""
    if name not in IN_GRAPH:
        return name
    kind, field = IN_GRAPH[name].split(".")
    wanted = {"constant": ops.Constant, "mul": ops.Scale}.get(kind)
    if wanted is None:
        shape = {"matrix": (5, 6), "turned": (3, 5)}[name]
        (found,) = [n for n, op in graph.ops.items() if isinstance(op, ops.Linear) and op.weight.shape == shape]
    else:
        (found,) = [n for n, op in graph.ops.items() if isinstance(op, wanted) and n != "scale"]
    return f"{found}.{field}"


def spelt(key: str) -> str:
    stem, _, field = key.rpartition(".")
    return f"{stem.replace('.', '_')}.{field}"


def stepped(model: torch.nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters before and after two steps of AdamW."""
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    before |= {k: v.detach().clone() for k, v in model.named_buffers()}
    x = torch.rand(5, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1)) * 2
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(2):
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()
    return before, dict(model.named_parameters()) | dict(model.named_buffers())


HALF = [PARAMETERS[0::2], PARAMETERS[1::2], PARAMETERS, []]


@pytest.mark.parametrize("names", HALF[:2], ids=["even", "odd"])
@pytest.mark.parametrize("target", FAMILY)
def test_frozen_parameters_stay_and_others_move(target: str, names: list[str]) -> None:
    """They all moved: only factors and constants said that they were not trained."""
    graph = snnir.load(frozen_net(names))
    module = snnir.compile(graph, target=target).module().train()
    before, after = stepped(module)
    for name in PARAMETERS:
        key = spelt(in_graph(graph, name))
        assert torch.equal(before[key], after[key]) == (name in names), key
    assert torch.equal(after["bare.bias"], torch.zeros(4))  # the model has none
    assert not torch.equal(before["norm.mean"], after["norm.mean"])  # statistics follow, as they do in the model
    assert torch.equal(before["lif.tau"], after["lif.tau"])


@pytest.mark.parametrize("names", HALF, ids=["even", "odd", "all", "none"])
def test_what_is_trained_survives_files(tmp_path: Path, names: list[str]) -> None:
    graph = snnir.load(frozen_net(names))
    trained = {f"{name}.{field}" for name, op in graph.ops.items() for field in learned(op)}
    assert trained == {in_graph(graph, name) for name in PARAMETERS if name not in names}
    snnir.compile(graph, target="torch").save(tmp_path / "out")
    for again in (snnir.load(tmp_path / "out"), from_text(to_text(graph, limit=None))):
        assert {n: learned(op) for n, op in again.ops.items()} == {n: learned(op) for n, op in graph.ops.items()}


def test_the_written_package_freezes_too_without_snnir(tmp_path: Path) -> None:
    graph = snnir.load(frozen_net(PARAMETERS[0::2]))
    snnir.compile(graph, target="torch").save(tmp_path / "out")
    code = (
        "import sys; sys.modules['snnir'] = None\n"
        "from model import Model\n"
        "print(*(n for n, p in Model().named_parameters() if not p.requires_grad))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    ).stdout
    expected = {spelt(in_graph(graph, name)) for name in PARAMETERS[0::2]} - {spelt(in_graph(graph, "offset"))}
    assert set(said.split()) == expected | {"bare.bias"}


def test_gradients_are_those_of_the_model() -> None:
    names = PARAMETERS[1::2]
    model = frozen_net(names).double().train()
    graph = snnir.load(model)
    emitted = built(graph, "torch").module(torch.float64).train()
    x = torch.rand(5, 3, 2, 4, 4, dtype=torch.float64) * 2
    for module in (model, emitted):
        module(x).square().mean().backward()
    got = dict(emitted.named_parameters())
    for name, parameter in model.named_parameters():
        if name in names:
            continue
        mine = got[spelt(in_graph(graph, name))].grad
        wanted = parameter.grad
        assert wanted is not None
        mine = mine.T if name == "matrix" else mine
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-9)


def test_loading_does_not_depend_on_the_mode_around_it() -> None:
    model = frozen_net(PARAMETERS[0::2])
    plain = {n: dict(op.metadata) for n, op in snnir.load(model).ops.items()}
    for around in (torch.no_grad(), torch.inference_mode()):
        with around:
            assert {n: dict(op.metadata) for n, op in snnir.load(model).ops.items()} == plain


# -- passes ----------------------------------------------------------------------------------------------------------


class Chain(nn.Module):
    input_shape = (3, 5, 5)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        ([], ("weight", "bias")),
        (["conv.weight"], ("weight", "bias")),
        (["norm.weight", "norm.bias"], ("weight",)),
        (["conv.weight", "norm.weight"], ("bias",)),
        (["conv.weight", "norm.weight", "norm.bias"], ()),
    ],
)
def test_a_folded_batch_norm_is_trained_where_either_was(frozen: list[str], expected: tuple[str, ...]) -> None:
    model = Chain()
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    artifact = snnir.compile(snnir.load(model), target="torch", passes="fold-batch-norm")
    trained = {name: p.requires_grad for name, p in artifact.module().named_parameters()}
    assert trained == {f"conv.{field}": field in expected for field in ("weight", "bias")}


def test_a_bias_moves_with_weights_that_are_behind_it() -> None:
    first = ops.Affine(weight=np.ones((2, 2)), bias=np.ones(2), metadata=note(ops.Affine, ()))
    second = ops.Linear(weight=np.ones((2, 2)))
    both = merged(ops.Affine(weight=np.ones((2, 2)), bias=np.ones(2)), [first, second])
    assert learned(both) == ("weight", "bias")
    silent = merged(both, [first.with_(bias=np.zeros(2)), second])
    assert learned(silent) == ("weight",)
    literal = ops.Scale(scale=np.float64(2.0), metadata={"learned": False, "literal": True})
    free = merged(literal, [literal, ops.Scale(scale=np.ones(2))])
    assert (learned(free), "literal" in free.metadata) == (("scale",), False)
    assert merged(literal, [literal, literal]).metadata == literal.metadata


_BIASED = {"weight": np.ones(2), "bias": np.ones(2)}
IN_ANOTHER_FORM = {
    "groups": (
        ops.Conv1d(weight=np.ones((2, 1, 1)), bias=np.ones(2), groups=2),
        ops.Conv1d(weight=np.eye(2)[..., None], bias=np.ones(2)),
    ),
    "kind": (ops.Affine(weight=np.eye(2), bias=np.ones(2)), ops.Conv1d(weight=np.eye(2)[..., None], bias=np.ones(2))),
    "norm": (ops.BatchNorm(**_BIASED, mean=np.ones(2), var=np.ones(2)),) * 2,
    "centred": (
        ops.BatchNorm(**_BIASED, mean=np.zeros(2), var=np.ones(2)),
        ops.Affine(weight=np.eye(2), bias=np.ones(2)),
    ),
    "wkv": (ops.Wkv(log_decay=np.zeros(2), first=np.zeros(2)),) * 2,
}


@pytest.mark.parametrize("form", IN_ANOTHER_FORM)
def test_one_op_in_another_form_is_trained_field_by_field_as_it_was(form: str) -> None:
    """A frozen bias beside trained weights was trained as soon as a pass wrote the op in another form."""
    before, after = IN_ANOTHER_FORM[form]
    fields = by_default(type(before))
    for some in ((), fields[:1], fields[1:], fields):
        part = before.with_(metadata=note(type(before), some))
        assert learned(merged(after, [part])) == some


def test_a_bias_moves_with_weights_behind_a_mean_or_neurons_at_another_rest() -> None:
    weights_only = note(ops.BatchNorm, ["weight"])
    norm = ops.BatchNorm(**_BIASED, mean=np.ones(2), var=np.ones(2), metadata=weights_only)
    affine = ops.Affine(weight=np.eye(2), bias=np.ones(2))
    assert learned(merged(affine, [norm])) == ("weight", "bias")
    held = affine.with_(metadata=note(ops.Affine, ["weight"]))
    neurons = ops.LI(tau=np.ones(2), r=np.ones(2), v_leak=np.full(2, 0.5))
    assert learned(merged(affine, [held, neurons])) == ("weight", "bias")
    assert learned(merged(affine, [held, neurons.with_(v_leak=np.zeros(2))])) == ("weight",)


@pytest.mark.parametrize("target", FAMILY)
def test_an_array_that_one_op_trains_and_another_does_not(target: str) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 4))
    graph = chain(
        ops.Input(shape=(4,)),
        ("free", ops.Linear(weight=weight)),
        ("held", ops.Linear(weight=weight, metadata={"learned": False})),
        ops.Output(),
        semantics=Semantics(dt=1e-3),
    )
    module = snnir.compile(graph, target=target).module()
    module(torch.rand(3, 2, 4)).sum().backward()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    optimiser.step()
    np.testing.assert_array_equal(module.state_dict()["held.weight"].numpy(), state(graph)["held.weight"].astype("f4"))
    assert not np.array_equal(module.state_dict()["free.weight"].numpy(), weight.astype("f4"))


# -- weights that are computed ---------------------------------------------------------------------------------------


class Tied(nn.Module):
    """An embedding that also reads out, as in language models; `form` says how the second use is written."""

    input_shape = (4,)

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(4, 4))
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        x = torch.nn.functional.linear(x, w)
        if self.form == "again":
            return torch.nn.functional.linear(x, w)
        if self.form == "view":
            return x @ w.t()
        if self.form == "transposed":
            return x @ w
        if self.form == "detached":
            return torch.nn.functional.linear(x, w.detach())
        if self.form == "masked":
            return torch.nn.functional.linear(x, w * torch.eye(4))
        return x * w[0]


@pytest.mark.parametrize("form", ["again", "view"])
def test_weights_used_twice_are_one(form: str) -> None:
    model = Tied(form)
    graph = snnir.load(model)
    check_trainable(graph.ops)
    emitted = snnir.compile(graph, target="torch").module().double()
    assert len(list(emitted.parameters())) == 1
    model = model.double()
    x = torch.rand(3, 2, 4, dtype=torch.float64)
    for module in (model, emitted):
        module(x).square().sum().backward()
    assert model.weight.grad is not None
    torch.testing.assert_close(next(emitted.parameters()).grad, model.weight.grad)
    twin = Tied(form)
    to_module_weights(graph.with_weights({k: v * 2 for k, v in graph.weights().items()}), twin)
    torch.testing.assert_close(twin.weight, 2 * model.weight.float())


@pytest.mark.parametrize("form", ["transposed", "detached", "masked", "row"])
def test_weights_whose_tie_a_graph_cannot_keep_are_not_trained_unnoticed(form: str) -> None:
    graph = snnir.load(Tied(form))
    with pytest.raises(CompileError, match=r"\[learned-derived\].* is computed from weight"):
        check_trainable(graph.ops)
    frozen = Tied(form)
    frozen.weight.requires_grad_(False)
    assert not any("derived" in op.metadata for op in snnir.load(frozen).ops.values())


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize("form", ["transposed", "detached", "masked", "row"])
def test_emitted_modules_refuse_to_train_what_was_computed(form: str, target: str) -> None:
    graph = snnir.load(Tied(form))
    module = snnir.compile(graph, target=target).module()
    x = torch.rand(3, 2, 4, requires_grad=True)
    for copied in (module, copy.deepcopy(module), module.double().float()):
        with pytest.raises(RuntimeError, match=r" from weight\. Train the model"):
            copied(x)
    with torch.no_grad():
        wanted = snnir.interpret(graph, x.numpy())
        np.testing.assert_allclose(module(x).numpy(), wanted, rtol=1e-5, atol=1e-5)
    module.eval()(x).sum().backward()  # the gradient of the input alone is nobody's training
    assert x.grad is not None
    there = {name: p for name, p in module.named_parameters() if name in module.DERIVED}
    assert all(p.grad is None for p in there.values())


class Computed(nn.Module):
    input_shape = (3,)

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3, 3)
        if how == "weight-norm":
            parametrizations.weight_norm(self.fc)
        elif how == "spectral-norm":
            parametrizations.spectral_norm(self.fc)
        elif how == "orthogonal":
            parametrizations.orthogonal(self.fc)
        elif how == "old-weight-norm":
            torch.nn.utils.weight_norm(self.fc)
        else:
            prune.random_unstructured(self.fc, "weight", amount=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("how", ["old-weight-norm", "pruned"])
def test_hooks_that_make_weights_are_refused(how: str) -> None:
    with pytest.raises(CompileError, match=r"has hooks.*\n.*\n.*prune.remove") as caught:
        snnir.load(Computed(how))
    assert len(caught.value.violations) == 1


@pytest.mark.parametrize("how", ["weight-norm", "spectral-norm", "orthogonal"])
def test_parametrised_weights_are_read_exactly_and_not_trained_unnoticed(how: str) -> None:
    model = Computed(how).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    graph = snnir.load(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    x = torch.rand(4, 2, 3)
    with torch.no_grad():
        wanted = model(x).numpy()
    np.testing.assert_allclose(snnir.interpret(graph, x.numpy()), wanted, atol=1e-6)
    with pytest.raises(CompileError, match=r"\[learned-derived\] fc: weight is computed from fc\."):
        check_trainable(graph.ops)
    changed = graph.with_weights({"fc.weight": graph["fc"].weight + 1})
    with pytest.raises(CompileError, match="the module has no parameter for it"):
        to_module_weights(changed, model)


def test_snnir_train_leaves_frozen_parameters_as_they_are() -> None:
    model: Any = build("digits", weights=None)
    frozen = {name for i, (name, _) in enumerate(model.named_parameters()) if i % 2}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    graph = snnir.load(model)
    check_trainable(graph.ops)
    spec = spec_of(graph)
    images = np.random.default_rng(0).uniform(-1, 1, (32, *spec.image)).astype(np.float32)
    state = train(snnir.compile(graph, target="torch").module(), spec, images, TrainConfig(images=16, batch=8))
    before, after = graph.weights(), graph.with_weights(state).weights()
    names = {name for name, _ in model.named_parameters()} & before.keys()
    assert len(names) == 50
    assert {name for name in names if np.array_equal(before[name], after[name])} == frozen & names
