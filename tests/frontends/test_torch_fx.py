"""Tracing: the graph of a module computes what the module computes, in float64, spike by spike."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from snnir import CompileError, interpret, nn
from snnir.frontends.torch_fx import load_module
from snnir.graph import Graph

DT = 1e-3
HERE = Path(__file__).name


def lif(**options: Any) -> nn.LIF:
    return nn.LIF.from_decay(0.8, dt=DT, **options)


def randomised(model: torch.nn.Module, gain: float) -> torch.nn.Module:
    """Float64, with weights that make spikes and norms away from their neutral start."""
    model.double()
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.modules.conv._ConvNd)):
            module.weight.data.mul_(gain)
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                if tensor is not None:
                    tensor.data.uniform_(0.3, 1.2)
    return model


def check(
    model: torch.nn.Module, *shapes: tuple[int, ...], gain: float = 3.0, steps: int = 12, **options: Any
) -> Graph:
    """Loads a model and holds the interpreter to it; returns the graph."""
    torch.manual_seed(0)
    randomised(model, gain)
    names = ["input"] if len(shapes) == 1 else list(signature(model.forward).parameters)
    given = options or {"input_shape": shapes[0] if len(shapes) == 1 else list(shapes)}
    training = [m.training for m in model.modules()]
    graph = load_module(model, **given)
    assert [m.training for m in model.modules()] == training
    x = [torch.randn(steps, 3, *shape, dtype=torch.float64) for shape in shapes]
    model.eval()
    with torch.no_grad():
        want = model(*x)
    got = interpret(graph, dict(zip(names, (v.numpy() for v in x), strict=True)))
    model.train()
    wanted = (
        want
        if isinstance(want, dict)
        else dict(zip(graph.outputs, want if isinstance(want, tuple) else [want], strict=True))
    )
    found = got if isinstance(got, dict) else {graph.outputs[0]: got}
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        values = values.numpy()
        if values.ndim == found[name].ndim - 1:  # time was reduced away: one step in the graph
            values = values[None]
        np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=name)
        assert 0 < np.abs(values).mean()
        if set(np.unique(values)) <= {0.0, 1.0}:
            assert 0.02 < values.mean() < 0.98, "a test on silence proves nothing"
    return graph


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops.values()]


# -- models that agree -------------------------------------------------------------------------------------------------


def test_mlp_infers_its_input() -> None:
    graph = check(nn.Sequential(nn.Linear(8, 16), lif(), nn.Linear(16, 4, bias=False), lif()), (8,), example_input=None)
    assert list(graph.ops) == ["input", "0", "1", "2", "3", "output"]
    assert kinds(graph) == ["Input", "Affine", "LIF", "Linear", "LIF", "Output"]
    assert graph["1"].tau.shape == ()  # type: ignore[attr-defined]
    assert graph.semantics.dt == DT


@pytest.mark.parametrize(
    "options",
    [{"reset": "subtract"}, {"comparison": ">="}, {"decay": "exponential"}, {"decay": "exponential", "gain": "unit"}],
    ids=str,
)
def test_semantics_follow_the_layers(options: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Linear(6, 12), lif(**options), nn.Linear(12, 5), lif(**options))
    graph = check(model, (6,))
    assert {k: getattr(graph.semantics, k) for k in options} == options


def test_current_based_and_readout() -> None:
    model = nn.Sequential(
        nn.Linear(6, 12),
        nn.CubaLIF(3e-3, 8e-3, r=10.0, w_in=2.0, v_leak=0.1, v_threshold=0.7, v_reset=-0.2, dt=DT),
        nn.Linear(12, 5),
        nn.CubaLI(2e-3, 5e-3, r=2.0, dt=DT),
        nn.LI(5e-3, v_leak=0.3, dt=DT),
        nn.I(0.5 / DT, dt=DT),
    )
    assert kinds(check(model, (6,))).count("CubaLI") == 1


def test_parameters_per_neuron_and_learned() -> None:
    model = nn.Sequential(
        nn.Linear(6, 4),
        nn.LIF(np.linspace(2e-3, 9e-3, 4), r=3.0, v_threshold=torch.linspace(0.2, 0.5, 4), dt=DT, learn="tau"),
        nn.IF(torch.full((4,), 400.0), v_threshold=0.5, dt=DT),
    )
    graph = check(model, (6,))
    assert graph["1"].tau.shape == (4,)  # type: ignore[attr-defined]


def test_recurrent() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Recurrent(lif(v_leak=0.05), nn.Linear(8, 8)), nn.Linear(8, 3), lif())
    graph = check(model, (6,))
    assert {"1.neuron", "1.connection"} <= set(graph.ops)
    assert ("1.connection", "1.neuron") in {(e.source, e.target) for e in graph.edges}


def test_recurrent_convolution_with_several_layers_and_a_leaky_neuron() -> None:
    connection = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 3, 1))
    check(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Recurrent(lif(), connection)), (2, 6, 6))
    check(nn.Sequential(nn.Recurrent(nn.LI(5e-3, v_leak=0.4, dt=DT), nn.Linear(4, 4))), (4,), gain=0.5)


def test_convolutions_norms_pools_flatten() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=1, bias=False),
        nn.BatchNorm2d(4),
        lif(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, padding="same", groups=2, dilation=2),
        nn.tdBatchNorm2d(6, alpha=0.5**0.5, v_th=0.8),
        lif(v_threshold=0.8),
        nn.SumPool2d(2, stride=1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6 * 4 * 2, 10),
        nn.tdBatchNorm1d(10, affine=False),
        lif(),
    )
    graph = check(model, (2, 10, 11))
    assert "Dropout" not in kinds(graph)
    assert graph["5"].alpha == pytest.approx(0.5**0.5)  # type: ignore[attr-defined]


def test_one_dimensional_and_transposed_convolution() -> None:
    check(
        nn.Sequential(nn.Conv1d(2, 3, 3, stride=2), nn.BatchNorm1d(3), lif(), nn.Flatten(2), nn.Linear(9, 4)), (2, 19)
    )
    check(
        nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1), lif(), nn.Upsample2d((1, 2))), (2, 4, 4)
    )


def test_pixel_shuffles_and_reshape() -> None:
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 4, 3), lif(), nn.PixelShuffle(2), nn.Reshape(4, 9))
    graph = check(model, (2, 10, 10))
    assert graph.shapes["output"] == (4, 9)


def test_repeat_as_a_function() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 6), lif()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lif(self.fc(torch.repeat_interleave(x, 4, dim=0)))

    assert "Repeat" in kinds(check(Encoder(), (4,), steps=3))


def test_delay_scale_repeat_mean() -> None:
    model = nn.Sequential(
        nn.Repeat(3), nn.Linear(4, 6), lif(), nn.Delay(2e-3, dt=DT), nn.Scale([1.0, 2, 3, 4, 5, 6]), nn.TemporalMean(3)
    )
    check(model, (4,), steps=5)


def test_time_distributed_and_manual_folding() -> None:
    class Folding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 3, 3)
            self.lif = lif()
            self.head = nn.TimeDistributed(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.Flatten(1)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            steps, batch = x.shape[:2]
            y = self.conv(x.flatten(0, 1))
            y = self.lif(y.view(steps, batch, *y.shape[1:]))
            return self.head(y) + self.head(y.reshape(steps * batch, 3, 4, 4).unflatten(0, (steps, batch)))

    graph = check(Folding(), (2, 6, 6))
    assert "head.module.0.1" in graph.ops  # called twice
    assert "twice" not in str(list(graph.ops))


class Unet(nn.Module):
    """FSDDIM's blocks in small: residual sums of currents, norms on the identity path, skips by concatenation."""

    input_shape: ClassVar = {"x": (1, 8, 8), "temb": (6,)}

    def __init__(self) -> None:
        super().__init__()
        half = 0.5**0.5
        self.conv_in = nn.Conv2d(1, 4, 3, padding=1)
        self.embed = nn.Sequential(nn.Linear(6, 8), lif(), nn.Linear(8, 4))
        self.embed_lif = lif()
        self.project = nn.Linear(4, 4)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm1 = nn.tdBatchNorm2d(4)
        self.lif1 = lif()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = nn.tdBatchNorm2d(4, alpha=half)
        self.norm_id = nn.tdBatchNorm2d(4, alpha=half)
        self.lif2 = lif()
        self.pool = nn.AvgPool2d(2)
        self.down = nn.Conv2d(4, 6, 1)
        self.up = nn.Upsample2d(2)
        self.mid = nn.Conv2d(6, 4, 3, padding=1)
        self.lif3 = lif()
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, x: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        h0 = self.conv_in(x)
        t = self.project(self.embed_lif(self.embed(temb)))
        h = self.conv1(h0) + t[..., None, None]
        h = self.lif1(self.norm1(h))
        h = self.lif2(self.norm2(self.conv2(h)) + self.norm_id(h0))
        low = self.down(self.pool(h))
        h2 = self.lif3(self.mid(self.up(low)))
        return self.out(torch.cat([h, h2, h0], dim=2))


def test_spiking_unet() -> None:
    graph = check(Unet(), (1, 8, 8), (6,))
    assert graph.inputs == ("x", "temb")
    assert {"embed.0", "embed.1", "cat", "add.spread"} <= set(graph.ops)
    assert {e.source for e in graph.incoming["lif2"]} == {"norm2", "norm_id"}


def test_outputs_by_name_and_by_number() -> None:
    class Two(nn.Module):
        def __init__(self, named: bool) -> None:
            super().__init__()
            self.a, self.b, self.lif = nn.Linear(4, 3), nn.Linear(4, 3), lif()
            self.named = named

        def forward(self, x: torch.Tensor) -> Any:
            spikes, current = self.lif(self.a(x)), self.b(x)
            return {"spikes": spikes, "sum": spikes + current} if self.named else (spikes, spikes + current, x)

    assert check(Two(True), (4,)).outputs == ("spikes", "sum")
    graph = check(Two(False), (4,))
    assert graph.outputs == ("output_0", "output_1", "output_2")
    assert {e.source for e in graph.incoming["output_1"]} == {"lif", "b"}


def test_a_shared_layer_becomes_two_ops_with_one_array() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(5, 5), lif()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lif(self.fc(self.lif(self.fc(x))))

    graph = check(Shared(), (5,))
    assert list(graph.ops) == ["input", "fc", "lif", "fc.1", "lif.1", "output"]
    assert np.shares_memory(graph["fc"].weight, graph["fc.1"].weight)  # type: ignore[attr-defined]


def test_the_graph_does_not_follow_training() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LIF(np.full(3, 5e-3), dt=DT))
    graph = load_module(model)
    before = {k: v.copy() for k, v in graph.weights().items()}
    with torch.no_grad():
        model[0].weight.fill_(7.0)
        model[1].tau.fill_(1.0)  # type: ignore[union-attr]
    assert all(np.array_equal(before[k], v) for k, v in graph.weights().items())
    assert graph["0"].weight.dtype == np.float32  # type: ignore[attr-defined]


class Call(nn.Module):
    """A model whose forward is a function of two linear maps and the model itself."""

    def __init__(self, function: Callable[..., Any], out: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        size = int(np.prod(out))
        self.a, self.b = nn.Linear(5, size), nn.Linear(5, size)
        self.shape = nn.Reshape(*out) if len(out) > 1 else nn.Identity()
        self.spike = nn.LI(3e-3, dt=DT)
        self.gamma = torch.nn.Parameter(torch.rand(out) + 0.5)
        self.position = torch.nn.Parameter(torch.rand(1, 1, *out))
        self.register_buffer("series", torch.rand(12, 1, *out))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, self.shape(self.a(x)), self.shape(self.spike(self.b(x))))


CALLS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "a + b": ((6,), lambda m, a, b: a + b),
    "a - b": ((6,), lambda m, a, b: a - b),
    "torch.sub alpha": ((6,), lambda m, a, b: torch.sub(a, b, alpha=3)),
    "torch.add alpha": ((6,), lambda m, a, b: torch.add(a, b, alpha=-0.5)),
    "a += b": ((6,), lambda m, a, b: m.added(a, b)),
    "a + a": ((6,), lambda m, a, b: a + a),
    "a + b + a": ((6,), lambda m, a, b: a + b + a),
    "-a": ((6,), lambda m, a, b: -a),
    "a * 3": ((6,), lambda m, a, b: a * 3),
    "0.5 * a": ((6,), lambda m, a, b: 0.5 * a),
    "a / 4": ((6,), lambda m, a, b: a / 4),
    "a.div(parameter)": ((6,), lambda m, a, b: a.div(m.gamma)),
    "a + 1": ((6,), lambda m, a, b: a + 1),
    "1 - a": ((6,), lambda m, a, b: 1 - a),
    "a * b": ((6,), lambda m, a, b: a * b),
    "a * (a + b)": ((6,), lambda m, a, b: a * (a + b)),
    "channel gate": ((3, 2, 2), lambda m, a, b: a[..., :1, :1] * b),
    "a ** 2": ((6,), lambda m, a, b: a**2),
    "a.square()": ((6,), lambda m, a, b: a.square()),
    "gamma * a": ((6,), lambda m, a, b: m.gamma * a),
    "a * gamma.exp()": ((6,), lambda m, a, b: a * m.gamma.exp()),
    "a + position": ((4, 3), lambda m, a, b: a + m.position),
    "series + a": ((4, 3), lambda m, a, b: m.series + a),
    "channel sum": ((3, 2, 4), lambda m, a, b: a + b.mean((-2, -1), keepdim=True)),
    "matmul": ((6,), lambda m, a, b: a @ m.a.weight[:, :3]),
    "F.linear": ((5,), lambda m, a, b: F.linear(a, m.a.weight, m.b.bias)),
    "F.linear without bias": ((5,), lambda m, a, b: F.linear(a, m.a.weight)),
    "cat": ((6,), lambda m, a, b: torch.cat([a, b], dim=2)),
    "cat of constants": ((6,), lambda m, a, b: torch.cat((a, m.gamma.expand_as(a)), -1)),
    "cat inner": ((3, 2, 4), lambda m, a, b: torch.concat((a, b, a), dim=-2)),
    "flatten": ((3, 2, 4), lambda m, a, b: a.flatten(2)),
    "flatten inner": ((3, 2, 4), lambda m, a, b: torch.flatten(a, start_dim=-2)),
    "unflatten": ((6,), lambda m, a, b: a.unflatten(-1, (2, 3))),
    "nn.Unflatten": ((6,), lambda m, a, b: m.layers["unflatten"](a)),
    "reshape": ((3, 2, 4), lambda m, a, b: a.reshape(a.shape[0], a.size(1), -1, 4)),
    "view": ((3, 2, 4), lambda m, a, b: a.view(*a.shape[:2], 6, 4)),
    "unpacked sizes": ((3, 2, 4), lambda m, a, b: m.unpacked(a)),
    "permute": ((3, 2, 4), lambda m, a, b: a.permute(0, 1, 4, 2, 3)),
    "transpose": ((3, 4), lambda m, a, b: a.transpose(-2, -1)),
    "unsqueeze": ((3, 4), lambda m, a, b: a.unsqueeze(2).squeeze(2).unsqueeze(-1)),
    "slices": ((3, 2, 4), lambda m, a, b: a[:, :, 1:, :, ::2] + a[:, :, :2, :, 1::2]),
    "single index": ((3, 2, 4), lambda m, a, b: a[:, :, 1] + a[..., -1, :, :]),
    "chunk": ((6,), lambda m, a, b: m.gated(a)),
    "split": ((6,), lambda m, a, b: torch.cat(a.split([1, 2, 3], dim=-1)[::-1], -1)),
    "narrow": ((6,), lambda m, a, b: a.narrow(2, 1, 4)),
    "expand": ((3, 2, 4), lambda m, a, b: a[..., :1, :1].expand(*a.shape[:2], -1, 2, 4) * b),
    "builtin sum": ((6,), lambda m, a, b: sum([a, b])),
    "relu": ((6,), lambda m, a, b: F.relu(a) + torch.sigmoid(b) + a.tanh() + F.silu(a) + torch.exp(b)),
    "activations": ((6,), lambda m, a, b: m.layers["relu"](a) + m.layers["silu"](b)),
    "interpolate": ((3, 2, 4), lambda m, a, b: m.up(a)),
    "pools": ((3, 4, 6), lambda m, a, b: m.pooled(a)),
    "repeats": ((3, 2, 4), lambda m, a, b: a.repeat_interleave(2, dim=-1).repeat_interleave(3, 3)),
    "spatial mean": ((3, 4, 6), lambda m, a, b: a.mean(dim=(3, 4))),
    "casts": ((6,), lambda m, a, b: a.double().contiguous().to(b.dtype).detach() + b.clone()),
    "dropout": ((6,), lambda m, a, b: F.dropout(a, 0.5, training=m.training)),
    "shape arithmetic": ((4, 6), lambda m, a, b: m.halves(a)),
    "layer norm": ((4, 6), lambda m, a, b: m.layers["norm"](a) * m.layers["plain norm"](b)),
}


class Methods(Call):
    def added(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a = a * 1.0
        a += b
        return a

    def unpacked(self, a: torch.Tensor) -> torch.Tensor:
        t, b, c, h, w = a.shape
        return a.view(t, b, c, h * w)

    def gated(self, a: torch.Tensor) -> torch.Tensor:
        value, gate = a.chunk(2, dim=2)
        return value * torch.sigmoid(gate)

    def up(self, a: torch.Tensor) -> torch.Tensor:
        t, b = a.shape[:2]
        y = F.interpolate(a.flatten(0, 1), scale_factor=2)
        return F.interpolate(y, size=(8, 8), mode="nearest").view(t, b, 3, 8, 8)

    def pooled(self, a: torch.Tensor) -> torch.Tensor:
        y = a.flatten(0, 1)
        y = F.avg_pool2d(y, 2) + F.adaptive_avg_pool2d(y, (2, 3)) + F.avg_pool2d(y, (2, 2), divisor_override=1)
        return y.unflatten(0, a.shape[:2])

    def halves(self, a: torch.Tensor) -> torch.Tensor:
        assert a.shape[2] == 4
        assert a.ndim == 4
        total = a[..., : a.shape[-1] // 2]
        for i in range(1, a.shape[2] // 2):
            total = total + a[..., : a.shape[-1] // 2] * i
        return total if len(a.shape) == 4 else a


LAYERS: dict[str, torch.nn.Module] = {
    "unflatten": torch.nn.Unflatten(2, (2, -1)),
    "relu": torch.nn.ReLU(),
    "silu": torch.nn.SiLU(),
    "norm": torch.nn.LayerNorm(6),
    "plain norm": torch.nn.LayerNorm(6, elementwise_affine=False),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls(call: str) -> None:
    out, function = CALLS[call]
    model = Methods(function, out)
    model.layers = torch.nn.ModuleDict(LAYERS)
    check(model, (5,), gain=1.0)


# -- names, lines, inputs ----------------------------------------------------------------------------------------------


def test_ops_know_the_line_of_forward_and_the_module() -> None:
    model = Unet()
    graph = load_module(model)
    first = Unet.forward.__code__.co_firstlineno
    for name, line in (("conv_in", 1), ("embed.1", 2), ("lif1", 4), ("cat", 8)):
        loc = graph[name].loc
        assert loc is not None
        assert Path(loc.file).name == HERE
        assert loc.line == first + line
    assert graph["embed.1"].loc.module == "embed.1"  # type: ignore[union-attr]


def test_layers_of_a_bare_sequential_know_where_they_were_made() -> None:
    model = nn.Sequential(
        nn.Linear(3, 3),
        nn.LIF(0.01, dt=DT),
    )
    loc = load_module(model)["1"].loc
    line = test_layers_of_a_bare_sequential_know_where_they_were_made.__code__.co_firstlineno + 3
    assert (Path(loc.file).name, loc.line, loc.module) == (HERE, line, "1")  # type: ignore[union-attr]


def test_a_single_layer_is_a_model() -> None:
    assert list(load_module(nn.LIF(np.full(4, 0.01), dt=DT)).ops) == ["input", "lif", "output"]
    assert list(load_module(nn.Recurrent(lif(), nn.Linear(3, 3))).ops) == [
        "input",
        "recurrent.neuron",
        "recurrent.connection",
        "output",
    ]


def test_input_shape_from_everywhere() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), lif(), nn.TemporalMean(4))
    for options in (
        {"input_shape": (1, 5, 6)},
        {"input_shape": [1, 5, 6]},
        {"input_shape": {"input": (1, 5, 6)}},
        {"input_shape": np.array([1, 5, 6]).tolist()},
        {"input_shape": tuple(np.array([1, 5, 6]))},
        {"example_input": np.zeros((8, 2, 1, 5, 6))},
        {"example_input": torch.zeros(8, 2, 1, 5, 6)},
        {"example_input": (torch.zeros(8, 2, 1, 5, 6),)},
        {"example_input": {"input": torch.zeros(8, 2, 1, 5, 6)}},
    ):
        assert load_module(model, **options).shapes["input"] == (1, 5, 6)
    model.input_shape = (1, 5, 6)  # type: ignore[assignment]
    assert load_module(model).shapes["0"] == (2, 3, 4)
    plain = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(24, 3))
    assert load_module(plain, example_input=torch.zeros(2, 1, 5, 6)).shapes["input"] == (1, 5, 6)
    with pytest.raises(CompileError, match=r"input-shape.*the example has shape \[5, 6\]"):
        load_module(model, example_input=torch.zeros(5, 6))
    with pytest.raises(CompileError, match=r"'y' is no argument of forward\(\)"):
        load_module(model, input_shape={"y": (1, 5, 6)})


def test_unknown_input_shape_is_an_error() -> None:
    with pytest.raises(CompileError, match=r"the shape of the input 'input' is not known(.|\n)*attribute input_shape"):
        load_module(nn.Sequential(nn.Conv2d(1, 2, 3), lif()))


def test_a_mean_over_time_needs_the_number_of_steps() -> None:
    class Rate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 3), lif()

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = self.lif(self.fc(x))
            return y.mean(0), y.sum(dim=0)

    check(Rate(), (4,), example_input=torch.zeros(12, 1, 4))
    with pytest.raises(CompileError, match=r"reduces over time(.|\n)*TemporalMean"):
        load_module(Rate())


def test_arguments_with_a_default_keep_it_and_dead_code_goes() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.unused, self.lif = nn.Linear(4, 3), nn.Linear(4, 3), nn.LIF(1.0, dt=7.0)

        def forward(self, x: torch.Tensor, state: Any = None, *, scale: float = 2.0) -> torch.Tensor:
            self.unused(x)
            return self.fc(x) * scale if state is None else self.lif(x)

    graph = check(Optional(), (4,), input_shape=(4,))
    assert "unused" not in graph
    assert "Scale" in kinds(graph)


def test_plain_pytorch_layers_without_time_axis() -> None:
    """The usual way to write an SNN in Sequential: layers of PyTorch that would see one step."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        nn.LIF(5e-3, r=5.0, dt=DT),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
        nn.LIF(5e-3, r=5.0, dt=DT),
    )
    torch.manual_seed(0)
    randomised(model, 3.0).eval()
    graph = load_module(model, input_shape=(1, 6, 6))
    x = torch.randn(10, 2, 1, 6, 6, dtype=torch.float64)
    y = x
    with torch.no_grad():
        for layer in model:
            y = layer(y) if isinstance(layer, (nn.LIF, torch.nn.Linear)) else nn.over_time(layer, y)
    np.testing.assert_array_equal(interpret(graph, x.numpy()), y.numpy())
    assert 0.02 < y.mean() < 0.98


def test_a_plain_network_without_time() -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = torch.nn.Conv2d(1, 2, 3), torch.nn.Linear(18, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.relu(self.conv(x))
            return self.fc(torch.cat([h, -h], dim=1)[:, :2].flatten(1)) + self.fc(h.view(h.size(0), -1))

    model = Plain().double()
    graph = load_module(model, input_shape=(1, 5, 5))
    assert graph.semantics.dt is None
    x = torch.randn(4, 3, 1, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        want = torch.stack([model(step) for step in x]).numpy()
    np.testing.assert_allclose(interpret(graph, x.numpy()), want, atol=1e-12)


def test_load_takes_live_modules() -> None:
    import snnir

    assert snnir.load(nn.Sequential(nn.Linear(3, 2), nn.LIF(0.01)), dt=DT).semantics.dt == DT
