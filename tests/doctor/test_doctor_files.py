"""Whole files: unreadable ones, those of other frameworks' exporters, our own, and what the time steps say."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given, settings

from snnir.doctor import Diagnosis, diagnose, examine
from snnir.errors import CompileError
from snnir.graph import Graph
from snnir.nir_io import read, write
from tests.doctor.kit import DT, F, both, cuba, drop, edges, ends, full, lif, line, named, put, scaled, weight, written
from tests.graph_kinds import GRAPH_KINDS, make_graph
from tests.strategies import nir_graphs


def only(source: Any) -> tuple[str, str]:
    (finding,) = diagnose(source)
    assert (finding.severity, finding.node) == ("fault", "")
    return finding.rule, finding.what


# -- files that cannot be read ---------------------------------------------------------------------------------------


def test_no_file_a_folder_an_empty_file(tmp_path: Path) -> None:
    assert only(tmp_path / "no.nir") == ("file", "cannot be opened: No such file or directory")
    assert only(tmp_path) == ("file", "cannot be opened: Is a directory")
    assert only(b"") == ("file", "is empty")


def test_other_formats(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("data", "x" * 100)
    assert (
        only(tmp_path / "model.pt")[1] == "is no HDF5 file; it looks like a zip archive (a PyTorch checkpoint is one)"
    )
    assert only(pickle.dumps({"a": 1})) == ("file-format", "is no HDF5 file; it looks like a Python pickle")
    assert only(b"hello, this is no network") == ("file-format", "is no HDF5 file")


def test_a_truncated_file_at_every_length() -> None:
    data = write(make_graph(0, "affine-lif"))
    for length in range(1, len(data) - 1, 307):
        rule, what = only(data[:length])
        assert rule == "file-damaged"
        assert what.startswith("cannot be read to its end: ") or length < 8


def test_hdf5_that_is_no_nir(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["weights"] = [1.0]
    assert only(tmp_path / "a.h5") == ("file-content", "holds no NIR graph (no group /node; it holds weights)")
    nir.write(tmp_path / "single.nir", nir.Linear(np.ones((2, 2))))
    assert only(tmp_path / "single.nir") == ("file-content", "its root is a Linear, not a NIRGraph")


def test_what_nir_leaves_behind_when_it_fails_to_write(tmp_path: Path) -> None:
    graph = line(*ends([3], [3]), ("n", nir.LIF(*(np.array(v) for v in (0.02, 20.0, 0.0, 1.0)))))
    with pytest.raises(TypeError, match="Scalar datasets"):
        nir.write(tmp_path / "half.nir", graph)
    (finding,) = diagnose(tmp_path / "half.nir")
    assert (finding.rule, finding.what) == ("file-content", "its root has no type")
    assert "scalar parameter" in finding.todo


def test_damaged_bytes_never_raise() -> None:
    """In processes of their own: a damaged file can make the HDF5 library itself crash, which nothing can catch."""
    code = """
import os, random, signal
from snnir.doctor import diagnose
from snnir.nir_io import write
from tests.graph_kinds import make_graph
data, rng = write(make_graph(0, "conv2d-flatten")), random.Random(5)
diagnose(data)  # imports everything once, before the processes part
found = 0
for _ in range(60):
    bad = bytearray(data)
    for _ in range(rng.choice([1, 4, 20])):
        bad[rng.randrange(len(bad))] = rng.randrange(256)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            os._exit(any(f.severity == "fault" for f in diagnose(bytes(bad))))
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(2)
    found += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
print("found", found > 15)
"""
    env = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "found True\n"


# -- all at once -----------------------------------------------------------------------------------------------------


def test_all_faults_come_at_once_also_behind_the_first(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "dense",
        put("n1/type", "Izhikevich"),
        drop("fc2/bias"),
        put("fc1/weight", full((6, 4), np.nan)),
        put("n2/tau", full(3, -1)),
        put("output/shape", [9]),
        edges(("n2", "gone"), ("fc1", "n1")),
    )
    faults = {(f.rule, f.node) for f in diagnose(path) if f.severity == "fault"}
    assert faults == {
        ("node-type", "n1"),
        ("field-missing", "fc2"),
        ("not-finite", "fc1"),
        ("tau", "n2"),
        ("shape-mismatch", "n2 -> output"),
        ("edge-dangling", "n2 -> gone"),
        ("edge-duplicate", "fc1 -> n1"),
    }
    found = diagnose(path)
    order = [("fault", "risk", "note").index(f.severity) for f in found]
    assert order == sorted(order)
    assert found == diagnose(path.read_bytes())


def test_what_the_loader_refuses_is_a_fault(tmp_path: Path) -> None:
    """The files of tests/test_bad_nir.py, and what only the loader knows."""
    from tests.test_bad_nir import CONV_FAULTS, NODE_FAULTS, changed

    cases = [(c[1], "affine-lif") for c in NODE_FAULTS] + [(c[1], "conv2d-flatten") for c in CONV_FAULTS]
    for k, (change, kind) in enumerate(cases):
        folder = tmp_path / str(k)
        folder.mkdir()
        found = diagnose(changed(folder, change, kind=kind))
        assert any(f.severity == "fault" for f in found), (NODE_FAULTS + CONV_FAULTS)[k][0]  # type: ignore[operator]
        assert all(f.rule != "not-loadable" for f in found), (NODE_FAULTS + CONV_FAULTS)[k][0]  # type: ignore[operator]


# -- sound files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_our_own_files_have_no_fault(kind: str) -> None:
    for style in ("r1", "disc"):
        graph = make_graph(0, kind, style)
        found = diagnose(write(graph))
        rules = {f.rule for f in found}
        assert rules <= {"time-step-said", *TRUE_OF.get(kind, ())}, [f"{f.rule} {f.node}: {f.what}" for f in found]


TRUE_OF = {
    "recurrence-lif": ["recurrence"],
    "recurrence-cubalif": ["recurrence"],
    "recurrence-affine": ["recurrence"],
    "long-recurrence": ["recurrence"],
    "fan-in": ["fan-in"],
    "fan-out-sum": ["output-fan-in"],
    "skip": ["fan-in"],
    "v-reset": ["v-reset-ignored"],
    "nested-like": ["name-odd"],
}


def test_a_clean_file_is_one_that_loads(tmp_path: Path) -> None:
    """A file without faults is read; one that is not read has faults: over every kind, with one field spoilt."""
    rng = np.random.default_rng(0)
    for kind in GRAPH_KINDS[::3]:
        data = write(make_graph(0, kind))
        for _ in range(3):
            path = tmp_path / "x.nir"
            path.write_bytes(data)
            with h5py.File(path, "r+") as file:
                del file["node/metadata"]
                nodes = file["node/nodes"]
                name = list(nodes)[rng.integers(len(nodes))]
                fields = list(nodes[name])
                key = fields[rng.integers(len(fields))]
                del nodes[name][key]
                if rng.random() < 0.5:
                    nodes[name][key] = rng.normal(0, 1, (2, 3))
            try:
                read(path)
            except CompileError:
                assert not examine(path).ok, (kind, name, key)


@pytest.mark.parametrize("exporter", ["snntorch", "norse", "rockpool", "spikingjelly"])
def test_files_of_exporters(exporter: str, tmp_path: Path) -> None:
    """Findings on what the frameworks write are what nir itself and the source of the exporters say."""
    graph = EXPORTERS[exporter]()
    nir.write(tmp_path / "net.nir", graph)
    diagnosis = examine(tmp_path / "net.nir")
    wrong = named([f for f in diagnosis.findings if f.severity != "note"])
    if exporter in ("norse", "rockpool"):  # they leave the batch in, and nir.read refuses
        with pytest.raises(ValueError, match="type mismatch"):
            nir.read(tmp_path / "net.nir")
    else:
        nir.read(tmp_path / "net.nir")
    assert wrong == EXPECTED[exporter][0]
    assert diagnosis.dt == EXPECTED[exporter][1]
    assert {p.convention for p in diagnosis.populations} == {EXPECTED[exporter][2]}


BATCHED = {("batch-axis", "input"), ("batch-axis", "output")}
EXPECTED: dict[str, tuple[set[tuple[str, str]], float | None, str]] = {
    "snntorch": (set(), 1e-4, "discrete"),
    "norse": (BATCHED | {("unit", "1"), ("unit", "3")}, None, "continuous"),
    "rockpool": (BATCHED, 1e-3, "rockpool"),
    "spikingjelly": (set(), 1e-4, "discrete"),
}


def from_snntorch() -> Any:
    import snntorch
    import torch
    from snntorch.export_nir import export_to_nir

    first = snntorch.Leaky(beta=torch.full((6,), 0.9), threshold=torch.ones(6), init_hidden=True)
    second = snntorch.Synaptic(
        torch.full((3,), 0.8), torch.full((3,), 0.9), torch.ones(3), init_hidden=True, output=True
    )
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), first, torch.nn.Linear(6, 3), second)
    return export_to_nir(net, torch.zeros(1, 4), ignore_dims=[0])


def from_norse() -> Any:
    import norse.torch as norse
    import torch
    from norse.torch.utils.export_nir import to_nir

    rate = torch.full((6,), 100.0)
    lif_p = norse.LIFBoxParameters(tau_mem_inv=rate, v_th=torch.ones(6), v_leak=torch.zeros(6))
    li_p = norse.LIBoxParameters(tau_mem_inv=rate[:3], v_leak=torch.zeros(3))
    first, last = torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)
    net = norse.SequentialState(first, norse.LIFBoxCell(lif_p), last, norse.LIBoxCell(li_p))
    return to_nir(net, torch.zeros(1, 4))


def from_rockpool() -> Any:
    import torch
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules.torch import LIFTorch, LinearTorch
    from rockpool.nn.modules.torch.nir import to_nir

    neurons = [LIFTorch(n, tau_mem=0.02, tau_syn=0.01, dt=1e-3) for n in (6, 3)]
    return to_nir(Sequential(LinearTorch((4, 6)), neurons[0], LinearTorch((6, 3)), neurons[1]), torch.zeros(1, 10, 4))


def from_spikingjelly() -> Any:
    import torch
    from spikingjelly.activation_based import layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    first = neuron.LIFNode(tau=20.0, decay_input=False)
    net = torch.nn.Sequential(layer.Linear(4, 6), first, layer.Linear(6, 3), neuron.IFNode())
    return export_to_nir(net, torch.zeros(1, 4))


EXPORTERS = {
    "snntorch": from_snntorch,
    "norse": from_norse,
    "rockpool": from_rockpool,
    "spikingjelly": from_spikingjelly,
}


# -- what r and tau say ----------------------------------------------------------------------------------------------


def of(*nodes: tuple[str, Any], folder: Path) -> Diagnosis:
    first, last = ends([3], [3])
    nir.write(folder / "t.nir", line(first, *nodes, last))
    return examine(folder / "t.nir")


def test_every_population_says_what_it_implies(tmp_path: Path) -> None:
    tau = full(3, 0.02)
    rockpool = nir.LIF(tau, (tau * np.exp(-DT / tau) / DT).astype(F), full(3, 0), full(3, 1))
    found = of(
        ("a", lif(3)), ("b", cuba(3)), ("c", rockpool), ("d", nir.IF(full(3, 1 / DT), full(3, 1))), folder=tmp_path
    )
    assert [(p.node, p.convention, p.dt) for p in found.populations] == [
        ("a", "discrete", DT),
        ("b", "discrete", DT),
        ("c", "rockpool", DT),
        ("d", "discrete", DT),
    ]
    assert found.dt == DT
    readings = found.populations[0].readings
    assert readings["gain"] == DT
    assert readings["rockpool-import"] == pytest.approx(0.02 / 21)
    assert readings["rockpool-export"] == pytest.approx(9.534e-4, rel=1e-3)
    assert found.populations[1].readings["gain-w-in"] == DT
    assert found.populations[3].readings == {"gain-rate": DT}
    assert found.populations[2].readings["gain"] == pytest.approx(1.0513e-3, rel=1e-3)
    assert not [f for f in found.findings if f.severity != "note"]


def test_tau_in_steps_as_sinabs_writes_it(tmp_path: Path) -> None:
    found = of(("a", nir.LIF(full(3, 20), full(3, 1), full(3, 0), full(3, 1))), folder=tmp_path)
    assert found.populations[0].readings == {"steps": 1.0}
    rules = {f.rule: f.what for f in found.findings}
    assert "sinabs counts it in steps" in rules["unit"]
    assert "as if counted in steps" in rules["time-step-unsaid"]


def test_slow_and_fast_neurons_that_say_their_step_are_believed(tmp_path: Path) -> None:
    """An adaptation of 2 s at dt 1 ms, and an accelerated chip with tau 20 us at dt 1 us."""
    slow = of(("a", lif(3, 2.0)), folder=tmp_path)
    quick = of(("a", lif(3, 2e-5, dt=1e-6)), folder=tmp_path)
    for found, dt in ((slow, 1e-3), (quick, 1e-6)):
        assert found.dt == dt
        assert not [f for f in found.findings if f.severity != "note"]


def test_a_file_all_in_ms(tmp_path: Path) -> None:
    path = written(tmp_path, "dense", scaled("n1/tau", 1000), scaled("n2/tau", 1000))
    found = examine(path)
    assert named([f for f in found.findings if f.severity != "note"]) == {("unit", "n1"), ("unit", "n2")}
    assert found.dt == 1.0  # which is what such a file says


def test_our_own_dt_is_believed_and_told(tmp_path: Path) -> None:
    graph = make_graph(0, "affine-lif", "r1", dt=5e-4)
    (finding,) = diagnose(write(graph))
    assert (finding.severity, finding.rule) == ("note", "time-step-said")
    assert "dt = 0.0005 s" in finding.what


def test_a_scalar_whose_population_only_its_readers_know(tmp_path: Path) -> None:
    path = written(tmp_path, "dense", *(put(f"n1/{n}", F(v)) for n, v in NUMBERS.items()), drop("fc1"), BRIDGE)
    found = [f for f in diagnose(path) if f.rule == "scalar-parameter"]
    assert [f.node for f in found] == ["n1"]
    assert "shape [6]" in found[0].what


NUMBERS = {"tau": 0.02, "r": 20.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}
BRIDGE = both(edges(without=(("input", "fc1"), ("fc1", "n1"))))


def test_weights_that_fit_when_transposed_are_called_so(tmp_path: Path) -> None:
    path = written(tmp_path, "dense", put("fc2/weight", weight(6, 3)), put("fc2/bias", weight(6)))
    advice = {f.todo for f in diagnose(path) if f.node == "n1 -> fc2"}
    assert advice == {"the weight fits when transposed: NIR's is (out, in)"}


@settings(max_examples=40)
@given(nir_graphs(several_io=True))
def test_random_sound_networks_have_no_fault_and_what_nir_refuses_is_a_risk(graph: Graph) -> None:
    data = write(graph)
    found = diagnose(data)
    assert not [f for f in found if f.severity == "fault"]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.nir"
        path.write_bytes(data)
        try:
            nir.read(path)
        except ValueError:  # its type check: groups, kernels that are not square
            assert {f.rule for f in found} & {"conv-grouped", "conv-non-square"}
