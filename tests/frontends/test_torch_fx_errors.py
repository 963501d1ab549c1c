"""What cannot be traced, and layers that disagree: every reason, with its line, all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from snnir import CompileError, Semantics, nn
from snnir.frontends.torch_fx import load_module

DT = 1e-3
HERE = Path(__file__).name


def lif(**options: Any) -> nn.LIF:
    return nn.LIF.from_decay(0.8, dt=DT, **options)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Branching()
        self.pool = torch.nn.MaxPool2d(2)
        self.lif = lif()
        self.hidden = [nn.Linear(4, 4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(x)
        y = torch.fft.fft(y)  # line 2
        outputs = [self.lif(step) for step in x]  # line 3
        z = x.softmax(-1)  # line 4
        z.add_(1)  # line 5
        last = x[-1]  # line 6
        if len(x) > 3:  # line 7
            y = self.hidden[0](y)  # line 8
        return torch.stack(outputs) + y + last  # line 9


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while x.mean() > 0:  # line 1
            x = x - 1
        if not x.sum() > 3:  # line 3
            x = x * 2
        for _ in range(x.shape[0]):  # line 5
            x = x + 1
        return x


def test_all_untraceable_lines_come_at_once() -> None:
    with pytest.raises(CompileError) as caught:
        load_module(Untraceable(), input_shape=(4,))
    found = {(v.rule, int(v.loc.partition(" (")[0].rpartition(":")[2])) for v in caught.value.violations}
    outer, inner = (c.forward.__code__.co_firstlineno for c in (Untraceable, Branching))
    assert found >= {
        ("trace-branch", inner + 1),
        ("trace-branch", inner + 3),
        ("trace-python", inner + 5),
        ("trace-loop", outer + 3),
        ("trace-unsupported", outer + 4),
        ("trace-unsupported", outer + 6),
        ("trace-number", outer + 7),
    }
    assert all(HERE in v.loc for v in caught.value.violations)
    assert all(v.hint or v.expected for v in caught.value.violations)


class Line(nn.Module):
    def __init__(self, function: Callable[..., Any], *layers: torch.nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.layers, x)


REFUSED: dict[str, tuple[Callable[..., Any], tuple[torch.nn.Module, ...], str]] = {
    "max pool": (lambda m, x: m[0](x), (torch.nn.MaxPool2d(2), lif()), "use AvgPool2d or SumPool2d"),
    "attention": (
        lambda m, x: m[0](x, x, x)[0],
        (torch.nn.MultiheadAttention(4, 1), lif()),
        "nn.MultiheadAttention has no counterpart",
    ),
    "time index": (lambda m, x: m[0](x)[0], (lif(),), "picks from the time axis"),
    "batch mean": (lambda m, x: m[0](x).mean(1), (lif(),), "axis 1 is one of the leading axes"),
    "cat over time": (lambda m, x: torch.cat([x, m[0](x)]), (lif(),), "axis 0 is one of the leading axes"),
    "time to the back": (lambda m, x: m[0](x).permute(2, 3, 4, 0, 1), (lif(),), "moves the time or batch axis"),
    "batch first": (lambda m, x: m[0](x.transpose(0, 1)), (lif(),), "axis 0 is one of the leading axes"),
    "fixed batch": (lambda m, x: m[0](x).reshape(8, 2, -1), (lif(),), "leading sizes taken from x.shape"),
    "steps as number": (lambda m, x: m[0](x) / x.shape[0], (lif(),), "the number of steps is not known"),
    "steps compared": (lambda m, x: m[0](x) if x.shape[0] == 1 else x, (lif(),), "the number of steps is not known"),
    "folded neuron": (lambda m, x: m[0](x.flatten(0, 1)), (lif(),), "time has been folded away"),
    "mixed leads": (lambda m, x: m[0](x) + x.flatten(0, 1), (lif(),), "tensors with different leading axes meet"),
    "mixed layers": (
        lambda m, x: torch.cat([m[0](x), m[1](x)], 1),
        (torch.nn.Conv2d(1, 1, 1), lif()),
        "count axes from",
    ),
    "shapes": (lambda m, x: m[0](x) + m[0](x)[..., 1:], (lif(),), "cannot be summed"),
    "layer shape": (lambda m, x: m[0](m[1](x)), (nn.Conv2d(3, 2, 1), lif()), "takes (3 channels, 2 spatial axes)"),
    "division": (lambda m, x: x / m[0](x), (lif(),), "division by a signal"),
    "dropout": (lambda m, x: F.dropout(m[0](x), 0.5), (lif(),), "dropout that stays on"),
    "bilinear": (
        lambda m, x: F.interpolate(m[0](x).flatten(0, 1), scale_factor=2, mode="bilinear"),
        (lif(),),
        "bilinear",
    ),
    "factor": (lambda m, x: F.interpolate(m[0](x).flatten(0, 1), scale_factor=1.5), (lif(),), "whole factors"),
    "padding": (lambda m, x: m[0](x), (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),), "'circular'"),
    "ceil": (lambda m, x: m[0](x), (nn.AvgPool2d(3, ceil_mode=True),), "ceil_mode=True"),
    "no statistics": (
        lambda m, x: m[0](x),
        (nn.BatchNorm2d(1, track_running_stats=False),),
        "no running statistics",
    ),
    "assignment": (lambda m, x: x.__setitem__(0, m[0](x)), (lif(),), "assigns into a tensor"),
    "in place": (lambda m, x: m[0](x).mul_(2), (lif(),), "mul_() changes a tensor in place"),
    "written over": (lambda m, x: m[0](x) + x, (torch.nn.ReLU(inplace=True), lif()), "writes over a tensor"),
    "as a number": (lambda m, x: m[0](x) * float(x.max()), (lif(),), "max() has no counterpart"),
    "what it returns": (lambda m, x: [m[0](x), "spikes"], (lif(),), "forward() returns a str"),
    "a wrong call": (lambda m, x: m[0](x).flatten(first=1), (lif(),), "flatten: TypeError"),
    "raises": (lambda m, x: 1 / 0, (lif(),), "ZeroDivisionError: division by zero"),
    "not a layer of the model": (lambda m, x: lif()(x), (lif(),), "assign the layer to the module"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_why_and_where(case: str) -> None:
    function, layers, message = REFUSED[case]
    with pytest.raises(CompileError) as caught:
        load_module(Line(function, *layers), input_shape=(1, 4, 4))
    assert message in str(caught.value)
    assert caught.value.violations[0].loc.startswith(("tests", "/"))
    assert f"{HERE}:" in caught.value.violations[0].loc


def test_layers_with_hooks_and_of_other_frameworks() -> None:
    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda m, args, y: y * 2)
    with pytest.raises(CompileError, match="has hooks"):
        load_module(nn.Sequential(hooked, lif()))
    import snntorch

    with pytest.raises(CompileError, match=r"snntorch\S*Alpha is a layer of snntorch(.|\n)*Leaky, RLeaky"):
        load_module(torch.nn.Sequential(torch.nn.Linear(4, 4), snntorch.Alpha(0.9, 0.8)))


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("reset", {"reset": "subtract"}),
        ("comparison", {"comparison": ">="}),
        ("decay", {"decay": "exponential"}),
        ("gain", {"gain": "unit"}),
        ("dt", {"dt": 2e-3}),
    ],
)
def test_layers_that_disagree_are_both_named(field: str, options: dict[str, Any]) -> None:
    line = test_layers_that_disagree_are_both_named.__code__.co_firstlineno
    model = nn.Sequential(
        nn.Linear(3, 3),
        nn.LIF(0.01, dt=DT),
        nn.I(dt=options.get("dt", DT), gain=options.get("gain", "ode")),
        nn.LIF(**{"tau": 0.01, "dt": DT, **options}),
    )
    with pytest.raises(CompileError) as caught:
        load_module(model)
    (violation,) = caught.value.violations
    assert violation.rule == "semantics-conflict"
    assert violation.what.startswith(f"{field} is {next(iter(options.values()))!r} here")
    assert f"in 1 at tests/frontends/{HERE}:" in violation.what
    assert line + 10 < int(violation.loc.partition(" (")[0].rpartition(":")[2]) < line + 20


def test_integrators_do_not_care_for_decay_nor_readouts_for_resets() -> None:
    model = nn.Sequential(
        nn.LIF(np.full(3, 0.01), dt=DT, decay="exponential", reset="subtract"),
        nn.IF(dt=DT, reset="subtract"),
        nn.I(dt=DT),
    )
    assert load_module(model).semantics.decay == "exponential"
    model = nn.Sequential(nn.LIF(np.full(3, 0.01), dt=DT, comparison=">="), nn.LI(0.01, dt=DT))
    assert load_module(model).semantics.comparison == ">="


def test_time_step_is_never_guessed() -> None:
    silent = nn.Sequential(nn.Linear(3, 3), nn.LIF(0.01), nn.LI(0.02))
    with pytest.raises(CompileError, match=r"time-step\] 1: the time step is not known"):
        load_module(silent)
    assert load_module(silent, dt=5e-4).semantics.dt == 5e-4
    said = nn.Sequential(nn.Linear(3, 3), nn.LIF(0.01, dt=DT), nn.LI(0.02))
    assert load_module(said).semantics.dt == DT
    assert load_module(said, dt=DT).semantics.dt == DT
    with pytest.raises(CompileError, match=r"dt=0.002 s is asked for, but the model says 0.001 s"):
        load_module(said, dt=2e-3)
    with pytest.raises(CompileError, match="dt is -1 s"):
        load_module(silent, dt=-1)


def test_semantics_can_be_said_over_the_layers() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LIF(0.01, dt=DT), nn.LIF(0.01, dt=DT, reset="subtract"))
    graph = load_module(model, semantics=Semantics(reset="delayed-subtract"))
    assert graph.semantics == Semantics(dt=DT, reset="delayed-subtract")
