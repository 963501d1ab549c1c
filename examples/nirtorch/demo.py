"""nirtorch's tools on snnir's files: a `.nir` as a PyTorch module of one step, and PyTorch modules as a `.nir`.

    python examples/nirtorch/demo.py [-o out/nirtorch]

Three ways into PyTorch and back, each compared with the reference interpreter, spike by spike:

* nirtorch.nir_to_torch on a file that snnir wrote, with snnir's node map: step by step, with its state given back.
* nirtorch.torch_to_nir on a model of snnir's layers: nirtorch's tracer finds the edges, snnir reads the graph.
* snnir.compile(...).module(): the live module of a target, all steps at once. For training take this one.

Without the node map nir_to_torch is wrong, silently: docs/nirtorch.md names the faults.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nir
import nirtorch
import numpy as np
import torch

import snnir
from snnir import nn, ops
from snnir.graph import Edge, Graph
from snnir.nn.nir_steps import module_map, node_map
from snnir.semantics import Semantics

DT = 1e-3
ROOT = Path(__file__).parents[2]


def network() -> Graph:
    """Two paths that meet, a cycle, a delay, biases: (6,) -> (3,)."""
    rng = np.random.default_rng(0)
    named = {
        "input": ops.Input(shape=(6,)),
        "into": ops.Affine(weight=rng.normal(0, 0.7, (8, 6)), bias=rng.normal(0, 0.2, 8)),
        "one": ops.LIF(tau=rng.uniform(0.004, 0.02, 8), r=6.0, v_threshold=np.full(8, 0.6)),
        "again": ops.Linear(weight=rng.normal(0, 0.3, (8, 8))),
        "on": ops.Linear(weight=rng.normal(0, 0.7, (3, 8))),
        "past": ops.Linear(weight=rng.normal(0, 0.7, (3, 6))),
        "late": ops.Delay(delay=np.full(3, 2 * DT)),
        "two": ops.CubaLIF(tau_syn=np.full(3, 0.004), tau_mem=np.full(3, 0.01), r=9.0, w_in=4.0, v_threshold=0.5),
        "output": ops.Output(shape=(3,)),
    }
    paths = ("input into one on two output", "one again one", "input past late two")
    edges = [Edge(*pair) for path in paths for pair in zip(path.split(), path.split()[1:], strict=False)]
    return Graph(named, tuple(edges), Semantics(dt=DT))


class Model(torch.nn.Module):
    """The kind of model that torch_to_nir takes: layers, and sums of what they give."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(6, 5), nn.Linear(6, 5, bias=False)
        self.hidden = nn.LIF(tau=np.full(5, 0.008), r=6.0, v_threshold=0.4, dt=DT)
        self.out = nn.Linear(5, 2)
        self.leaky = nn.LI(tau=np.full(2, 0.01), dt=DT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.leaky(self.out(self.hidden(self.left(x) + self.right(x))))


def stepped(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """A module of one step over x (T, B, *shape)."""
    state, outputs = None, []
    with torch.no_grad():
        for now in torch.from_numpy(x):
            y, state = module(now, state)
            outputs.append(y.numpy())
    return np.stack(outputs)


def file_to_torch(file: Path, x: np.ndarray) -> np.ndarray:
    """A .nir file through nirtorch, with snnir's modules of one step."""
    semantics = snnir.load(file).semantics
    return stepped(nirtorch.nir_to_torch(nir.read(file), node_map(semantics), dtype=torch.float64), x)


def torch_to_file(model: torch.nn.Module, file: Path) -> Graph:
    """A model through nirtorch's tracer to a .nir file, and back."""
    nir.write(file, nirtorch.torch_to_nir(model, module_map()))
    return snnir.load(file, dt=DT)


def main() -> None:
    """Runs all of them and says how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out" / "nirtorch")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    graph = network()
    x = (np.random.default_rng(1).random((50, 4, 6)) < 0.4).astype(float)
    want = snnir.interpret(graph, x)
    file = folder / "network.nir"
    file.write_bytes(snnir.compile(graph, "nir").files()["graph.nir"])
    report(f"nir_to_torch({file.name}, node_map)", file_to_torch(file, x), want)
    for target in ("torch", "norse", "snntorch"):
        live = snnir.compile(graph, target).module().double()
        with torch.no_grad():
            report(f"compile(..., {target!r}).module()", live(torch.from_numpy(x)).numpy(), want)
    model = Model().double()
    back = torch_to_file(model, folder / "model.nir")
    with torch.no_grad():
        report("torch_to_nir(model, module_map())", snnir.interpret(back, x), model(torch.from_numpy(x)).numpy())


def report(name: str, got: np.ndarray, want: np.ndarray) -> None:
    """One line."""
    print(f"{name:40} largest difference {np.abs(got - want).max():.1e}, {want.astype(bool).sum()} values not 0")


if __name__ == "__main__":
    main()
