"""Faults in real frameworks: emitted source with one line changed, modules built by hand, weights cast to int8."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import snnir
from snnir.graph import Graph
from snnir.validation import Verdict, judge, populations
from tests.graph_kinds import make_graph
from tests.planted import ready

pytestmark = pytest.mark.oracle

Probe = Callable[[Any], dict[str, Any]]

TORCH_EDITS = {
    "at least": (
        "v_reset=self.v_reset,\n            surrogate",
        "v_reset=self.v_reset,\n            inclusive=True,\n            surrogate",
    ),
    "r": ("gain=DT / self.tau * self.r", "gain=DT / self.tau"),
    "dt in ms": ("DT = 0.0009765625", "DT = 0.9765625"),
    "bias": ("x = self.fc1(x)", "x = nn.functional.linear(x, self.fc1.weight)"),
    "transposed": ("w_rec = self.w_rec(n1)", "w_rec = nn.functional.linear(n1, self.w_rec.weight.T, self.w_rec.bias)"),
    "late": ("x = self.fc2(n1)", "x = self.fc2(torch.cat([torch.zeros_like(n1[:1]), n1[:-1]]))"),
    "no recurrence": ("self.n1(fc1_now + w_rec, n1_state)", "self.n1(fc1_now, n1_state)"),
    "int8": (
        "self.to(dtype)",
        "self.to(dtype); w = self.fc1.weight.data; w.copy_((w * 64).long().to(torch.int8) / 64)",
    ),
}
NAMED = {
    "at least": ("comparison", "", "'>='"),
    "r": ("r-ignored", "", ""),
    "dt in ms": ("dt", "", "(1000 times)"),
    "bias": ("bias-dropped", "fc1", ""),
    "transposed": ("weight-transposed", "w_rec", ""),
    "late": ("edge-delayed", "n1 -> fc2", "1 step"),
    "no recurrence": ("recurrent-edge-lost", "w_rec -> n1", ""),
    "int8": ("weight-wrapped", "fc1", "2^-6"),
}  # fmt: skip


def edited(graph: Graph, target: str, old: str, new: str, folder: Path) -> Probe:
    """The artifact of a graph with one piece of its source replaced, run in float64."""
    snnir.compile(graph, target).save(folder / "net")
    path = folder / "net" / "model.py"
    source = path.read_text()
    assert old in source, old
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location(f"edited_{abs(hash(str(folder)))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    names = populations(graph)

    def run(x: Any) -> dict[str, Any]:
        net = module.Model(dtype=torch.float64)
        with torch.no_grad():
            out, seen = net(torch.from_numpy(np.array(x["input"], np.float64)), record=tuple(names))
        return {"output": out.numpy(), **{n: v.numpy() for n, v in seen.items()}}

    return run


def verdict(graph: Graph, x: Any, run: Probe) -> Verdict:
    return judge(graph, x, run(x), "edited", probe=run)[0]


@pytest.mark.parametrize("edit", TORCH_EDITS)
def test_torch_source_with_a_line_changed(edit: str, tmp_path: Path) -> None:
    graph, x = ready(make_graph(3, "recurrence-affine"), 3)
    sound = verdict(graph, x, edited(graph, "torch", "DT = ", "DT = ", tmp_path / "sound"))
    assert sound.verdict == "identical"
    found = verdict(graph, x, edited(graph, "torch", *TORCH_EDITS[edit], tmp_path / "edited"))
    assert not found.ok
    name, where, does = NAMED[edit]
    # In this network a delay of every spike cannot be told from a delay of n1's.
    alike = [s for c in found.causes for s in c.same if s.startswith(f"{name} at {where} (")]
    named = [c for c in found.causes if (c.name, c.where) == (name, where) and does in c.does]
    assert named or (edit == "late" and alike), found.cause
    assert found.explained == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("DT = 0.001 ", "DT = 0.0001 ", "dt"),
        ("v_reset=self.v_reset,", "v_reset=0 * self.v_reset,", "v_reset-ignored"),
        ("=self.v_leak", "=0 * self.v_leak", "v_leak-ignored"),
        ("return whole(out)", "return whole([torch.zeros_like(out[0]), *out[:-1]])", "edge-delayed"),
    ],
)
def test_norse_source_with_a_line_changed(old: str, new: str, name: str, tmp_path: Path) -> None:
    graph = make_graph(4, "v-leak" if "leak" in old else "v-reset", "r1")
    x = {"input": np.random.default_rng(1).binomial(1, 0.4, (60, 4, 4)).astype(float)}
    found = verdict(graph, x, edited(graph, "norse", old, new, tmp_path / "edited"))
    assert not found.ok
    assert {c.name for c in found.causes} == {name}, found.cause
    assert found.explained == pytest.approx(1.0)


def test_norse_cells_built_with_norses_own_default_dt() -> None:
    """The network means 0.1 ms; the cells were built without saying so, and Norse takes 1 ms."""
    import norse.torch as norse

    graph = make_graph(5, "linear", "r1", dt=1e-4, dtype=np.float64)
    cells = {}
    for name in ("n1", "n2"):
        op: Any = graph[name]
        values = {k: torch.from_numpy(np.array(v)) for k, v in op.parameters().items()}
        cells[name] = norse.LIFBoxCell(
            norse.LIFBoxParameters(1 / values["tau"], values["v_leak"], values["v_threshold"], values["v_reset"])
        )

    def run(x: Any) -> dict[str, Any]:
        states: dict[str, Any] = {"n1": None, "n2": None}
        steps: dict[str, list[Any]] = {"n1": [], "n2": []}
        for now in torch.from_numpy(np.array(x["input"])):
            value = now
            for weight, name in (("fc1", "n1"), ("fc2", "n2")):
                value = value.detach() @ torch.from_numpy(np.array(graph[weight].weight)).T  # type: ignore[attr-defined]
                value, states[name] = cells[name](value, states[name])
                steps[name].append(value)
        traces = {name: torch.stack(values).detach().numpy() for name, values in steps.items()}
        return {**traces, "output": traces["n2"]}

    x = {"input": np.random.default_rng(2).binomial(1, 0.4, (60, 4, 4)).astype(float)}
    found = verdict(graph, x, run)
    assert [(c.name, c.where) for c in found.causes] == [("dt", "")], found.cause
    assert "0.001 s (10 times)" in found.causes[0].does
    assert "0.0001 s" in found.causes[0].remedy


@pytest.mark.parametrize(
    ("options", "does"),
    [
        ({}, "'delayed-subtract'"),
        ({"reset_mechanism": "zero"}, ""),  # late, but before anything else happens
        ({"reset_delay": False}, "'held-subtract'"),
    ],
)
def test_snntorch_leaky_with_its_own_resets(options: dict[str, Any], does: str) -> None:
    """The network resets at once, to 0; snn.Leaky's defaults do not."""
    import snntorch as snn

    graph = make_graph(6, "linear", "disc", dtype=np.float64)
    taus = {n: graph[n].tau for n in ("n1", "n2")}  # type: ignore[attr-defined]
    thresholds = {n: graph[n].v_threshold for n in ("n1", "n2")}  # type: ignore[attr-defined]

    def run(x: Any) -> dict[str, Any]:
        layers = {
            n: snn.Leaky(
                beta=torch.from_numpy(1 - 1e-3 / taus[n]),
                threshold=torch.from_numpy(np.array(thresholds[n])),
                **options,
            )
            for n in taus
        }
        states: dict[str, Any] = {n: layer.init_leaky() for n, layer in layers.items()}
        steps: dict[str, list[Any]] = {"n1": [], "n2": []}
        with torch.no_grad():
            for now in torch.from_numpy(np.array(x["input"])):
                value = now
                for weight, name in (("fc1", "n1"), ("fc2", "n2")):
                    value = value.double() @ torch.from_numpy(np.array(graph[weight].weight)).T  # type: ignore[attr-defined]
                    value, states[name] = layers[name](value, states[name])
                    steps[name].append(value)
        traces = {name: torch.stack(values).double().numpy() for name, values in steps.items()}
        return {**traces, "output": traces["n2"]}

    x = {"input": np.random.default_rng(3).binomial(1, 0.4, (80, 4, 4)).astype(float)}
    found = verdict(graph, x, run)
    if not does:
        assert found.verdict == "identical"
        return
    assert [c.name for c in found.causes] == ["reset"], found.cause
    assert does in found.causes[0].does or any(does in s for s in found.causes[0].same), found.cause
    assert found.explained >= 0.99
