"""The artifact: Rockpool's keys and shapes, xylosim's spikes, files that run without snnir, samna's configuration."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import snnir
from snnir.backends.xylo import XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU, XyloBackend, samna_config
from snnir.errors import UsageError
from snnir.graph import Graph, chain
from snnir.interpreter import interpret
from snnir.ops import Affine, AvgPool2d, Conv2d, Delay, Flatten, Input, Output
from snnir.simulators.xylo import XyloSpec, simulate
from tests.backends.xylo_nets import DT, SOFT, affine, count_error, cuba, layers, lif, linear, spikes, wired
from tests.xylo_oracle import XyloOracle

BACKENDS = (XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU)


def everything(rng: np.random.Generator) -> Graph:
    """Both kinds of neurons, biases, recurrence, a skip path, a delay: relays, drivers and starters."""
    ops = {"in": Input(shape=(5,)), "w1": affine(rng, 12, 5), "a": lif(12), "back": linear(rng, 12, 12, 0, 0.1)}
    ops |= {"w2": affine(rng, 10, 12), "b": cuba(10), "skip": linear(rng, 6, 5), "d": Delay(delay=np.full(5, 2 * DT))}
    ops |= {"w3": affine(rng, 6, 10), "c": cuba(6), "out": Output()}
    return wired(ops, "in > w1 > a > w2 > b > w3 > c > out", "a > back > a", "in > d > skip > c")


# -- the specification -------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(4))
def test_xylosim_computes_the_same(backend: XyloBackend, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = everything(rng) if seed % 2 else layers(rng, [5, 20, 15, 6])
    artifact = backend.build(graph, {"calibrate": {"in": spikes((60, 4, 5), 0.3, seed)}})
    events = rng.integers(0, 4, (80, 3, 5))
    events[20:30] = 15
    ours, theirs = simulate(artifact.spec, events, record=True), XyloOracle(artifact.spec).run(events)
    assert theirs.spikes.sum() > 0
    for name in ("spikes", "spikes_hidden", "v_hidden", "i_hidden", "v_out", "i_out"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


@pytest.mark.parametrize(
    ("backend", "into", "rec", "out"),
    [
        (XYLO_AUDIO2, (8, 70), (70, 70), (70, 6)),
        (XYLO_AUDIO3, (8, 40, 1), (70, 70, 1), (30, 6)),
        (XYLO_IMU, (8, 40, 1), (70, 70, 1), (30, 6)),
    ],
)
def test_keys_and_shapes_are_rockpools(backend: XyloBackend, into: Any, rec: Any, out: Any) -> None:
    artifact = backend.build(layers(np.random.default_rng(0), [8, 40, 30, 6]), {})
    with np.load(io.BytesIO(artifact.files()["xylo.npz"])) as arrays:
        shapes = {name: arrays[name].shape for name in arrays}
        again = XyloSpec.from_npz_dict(arrays)
    assert shapes == {
        "weights_in": into, "weights_rec": rec, "weights_out": out, "aliases": (0, 2), "dt": (), "family": (),
        "dash_mem": (70,), "dash_syn": (70,), "dash_syn_2": (70,), "threshold": (70,), "bias": (70,),
        "bias_hidden": (70,), "dash_mem_out": (6,), "dash_syn_out": (6,), "threshold_out": (6,), "bias_out": (6,),
        "weight_shift_in": (), "weight_shift_rec": (), "weight_shift_out": (),
    }  # fmt: skip
    assert again.dt == DT
    assert again.family == backend.target.name
    np.testing.assert_array_equal(again.weights_rec, artifact.spec.weights_rec)


def test_integers_are_within_what_the_chip_stores() -> None:
    for seed in range(3):
        graph = everything(np.random.default_rng(seed))
        spec = XYLO_AUDIO3.build(graph, {"calibrate": {"in": spikes((60, 4, 5), 0.3, seed)}}).spec
        assert max(spec.weight_shift_in, spec.weight_shift_rec, spec.weight_shift_out) <= 8
        assert np.abs(spec.bias.astype(int)).max() <= 127  # the chip's memory holds 8 bits of it
        assert np.abs(spec.bias_out.astype(int)).max() <= 127
        assert min(spec.dash_syn.min(), spec.dash_syn_out.min()) >= 1  # 0 would be a dead synapse
        assert min(spec.threshold.min(), spec.threshold_out.min()) >= 1


# -- running here ------------------------------------------------------------------------------------------------------


def test_compiled_from_convolutions_and_batches_of_images() -> None:
    """Everything between the pipeline and the artifact, with names, shapes and latency of the source network."""
    rng = np.random.default_rng(3)
    graph = chain(
        ("image", Input(shape=(1, 4, 4))),
        ("conv", Conv2d(weight=rng.normal(0.2, 0.3, (2, 1, 3, 3)), bias=rng.normal(0, 0.05, 2), padding=1)),
        ("n1", cuba(1)),
        ("pool", AvgPool2d(kernel_size=(2, 2), stride=(2, 2))),
        ("flat", Flatten()),
        ("dense", affine(rng, 4, 8)),
        ("n2", cuba(1)),
        ("out", Output()),
        semantics=SOFT,
    )
    x = spikes((120, 6, 1, 4, 4), 0.3)
    result = snnir.compile(graph, "xylo-imu", calibrate=spikes((120, 6, 1, 4, 4), 0.3, 1))
    want, recorded = interpret(graph, x, record=["n1"])
    got, spiked = result.run(x, record=["n1"])
    assert (result.latency, got.shape, spiked["n1"].shape) == (1, want.shape, recorded["n1"].shape)
    assert recorded["n1"].sum() > 200
    assert count_error(spiked["n1"], recorded["n1"]) < 0.03
    assert count_error(got[1:], want[:-1]) < 0.05
    assert result.report["used"]["hidden_neurons"][0] == 33  # 2 x 4 x 4, and a driver for the biases


def test_several_outputs_by_name_and_what_can_be_recorded() -> None:
    rng = np.random.default_rng(4)
    ops = {
        "in": Input(shape=(4,)),
        "w1": linear(rng, 8, 4),
        "n": cuba(8),
        "w2": linear(rng, 3, 8),
        "w3": linear(rng, 2, 8),
    }
    ops |= {"left": cuba(3), "right": cuba(2), "l": Output(), "r": Output()}
    graph = wired(ops, "in > w1 > n > w2 > left > l", "n > w3 > right > r")
    result = snnir.compile(graph, "xylo-audio2")
    x = spikes((50, 2, 4), 0.4)
    outputs, recorded = result.run(x, record=["n", "left"])
    assert {k: v.shape for k, v in outputs.items()} == {"l": (50, 2, 3), "r": (50, 2, 2)}
    np.testing.assert_array_equal(recorded["left"], outputs["l"])
    with pytest.raises(UsageError, match=r"cannot record w1.*n, left, right"):
        result.run(x, record=["w1"])


def test_a_batch_gives_what_its_samples_give_alone() -> None:
    artifact = XYLO_AUDIO3.build(everything(np.random.default_rng(1)), {})
    x = spikes((60, 5, 5), 0.4)
    together = artifact.run({"in": x}, ())[0]["out"]
    for b in range(5):
        np.testing.assert_array_equal(artifact.run({"in": x[:, b : b + 1]}, ())[0]["out"], together[:, b : b + 1])


def test_the_report_says_what_was_wanted_and_got() -> None:
    graph = layers(np.random.default_rng(0), [4, 20, 3])
    slow = Graph({**graph.ops, "n1": cuba(20, tau_mem=20 * DT)}, graph.edges, graph.semantics)
    report = snnir.compile(slow, "xylo-audio3", calibrate=spikes((100, 4, 4), 0.3)).report
    taus = report["populations"]["n1"]["tau_mem"]
    assert taus["wanted"] == [0.02, 0.02]
    assert set(taus["got"]) <= {0.016, 0.032}
    assert report["populations"]["n1"]["tau_syn"]["largest_error"] == 0
    assert {c["name"] for c in report["measured"]["candidates"]} == {"plain", "calibrated"}
    assert report["measured"]["on"] == "recorded input"
    assert any("dt = " in note for note in report["notes"])
    json.dumps(report)
    without = snnir.compile(slow, "xylo-audio3").report
    assert any("not calibrated" in note for note in without["notes"])
    looks = {"inputs": {slow.inputs[0]: {"most": 1, "mean": 0.3, "std": 0.1, "steps": 16}}}
    described = snnir.compile(replace(slow, metadata=looks), "xylo-audio3").report
    assert {c["name"] for c in described["measured"]["candidates"]} == {"plain", "calibrated"}
    assert any("calibrated on input made up as the model describes it" in note for note in described["notes"])
    assert not any("not calibrated" in note for note in described["notes"])


def test_neurons_can_be_traced_to_the_source() -> None:
    graph = layers(np.random.default_rng(0), [4, 20, 12, 3])
    result = snnir.compile(graph, "xylo-audio3")
    about = json.loads(result.files()["xylo.json"])
    assert [(b["name"], b["first"], b["last"], b["source"]) for b in about["hidden"]] == [
        ("n1", 0, 19, ["n1"]),
        ("n2", 20, 31, ["n2"]),
    ]
    assert about["outputs"] == [{"name": "out", "neurons": [0, 1, 2], "shape": [3], "lag": 2}]
    assert about["inputs"] == [{"name": "in", "first_channel": 0, "channels": 4, "shape": [4]}]
    assert (about["latency"], about["dt"], about["part"]) == (2, DT, "SYNS65302")


# -- files that run without snnir --------------------------------------------------------------------------------------


def unpack(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def without_snnir(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script of the folder in an interpreter in which importing snnir fails."""
    code = (
        "import sys, runpy; sys.modules['snnir'] = None; "
        "sys.argv = sys.argv[1:]; sys.path.insert(0, '.'); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.oracle
@pytest.mark.parametrize("backend", BACKENDS)
def test_run_py_runs_alone_in_numpy_and_in_xylosim(backend: XyloBackend, tmp_path: Path) -> None:
    graph = everything(np.random.default_rng(5))
    artifact = backend.build(graph, {})
    unpack(artifact.files(), tmp_path)
    x = np.random.default_rng(0).integers(0, 5, (70, 3, 5))
    np.savez(tmp_path / "events.npz", anything=x)
    want = artifact.run({"in": x}, ())[0]["out"]
    assert want.sum() > 0
    for extra in ((), ("--xylosim",)):
        run = without_snnir(tmp_path, "run.py", "events.npz", "-o", "spikes.npz", *extra)
        assert run.returncode == 0, run.stderr
        np.testing.assert_array_equal(np.load(tmp_path / "spikes.npz")["out"], want)
        counts = want.sum(axis=0).astype(int)
        assert run.stdout.splitlines() == [f"out[{b}]: {' '.join(map(str, counts[b]))}" for b in range(3)]


def test_run_py_takes_one_sample_and_says_what_does_not_fit(tmp_path: Path) -> None:
    artifact = XYLO_AUDIO3.build(layers(np.random.default_rng(0), [4, 10, 3]), {})
    unpack(artifact.files(), tmp_path)
    x = np.random.default_rng(0).integers(0, 5, (30, 4))
    np.savez(tmp_path / "one.npz", x=x)
    assert without_snnir(tmp_path, "run.py", "one.npz").stdout.startswith("out[0]: ")
    for name, bad in (("half", x + 0.5), ("many", x + 16), ("shape", x[:, :3])):
        np.savez(tmp_path / f"{name}.npz", x=bad)
        run = without_snnir(tmp_path, "run.py", f"{name}.npz")
        assert run.returncode == 1
        assert "input 'in'" in run.stderr
        assert "Traceback" not in run.stderr
    missing = without_snnir(tmp_path, "run.py", "none.npz")
    assert missing.returncode == 1
    assert "Traceback" not in missing.stderr


def test_input_is_held_back_where_the_source_does_so(tmp_path: Path) -> None:
    graph = layers(np.random.default_rng(0), [4, 10, 3], lif)
    artifact = XYLO_AUDIO3.build(graph, {})
    assert artifact.plan.input_delay == 1
    unpack(artifact.files(), tmp_path)
    x = np.random.default_rng(0).integers(0, 2, (30, 2, 4))
    np.savez(tmp_path / "x.npz", x=x)
    assert without_snnir(tmp_path, "run.py", "x.npz", "-o", "y.npz").returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["out"], artifact.run({"in": x}, ())[0]["out"])


# -- samna -------------------------------------------------------------------------------------------------------------


class _Samna(SimpleNamespace):
    """Takes the place of a module `samna.<chip>.configuration`."""

    def __init__(self, hidden: str) -> None:
        def config() -> SimpleNamespace:
            parts = ("input", "hidden", "reservoir", "readout", "debug")
            return SimpleNamespace(**{part: SimpleNamespace() for part in parts})

        neuron = {hidden: lambda: SimpleNamespace(alias_target=None)}
        super().__init__(XyloConfiguration=config, OutputNeuron=SimpleNamespace, **neuron)


@pytest.mark.parametrize(
    ("backend", "module", "layer", "neuron"),
    [
        (XYLO_AUDIO2, "samna.xyloCore2.configuration", "reservoir", "ReservoirNeuron"),
        (XYLO_AUDIO3, "samna.xyloAudio3.configuration", "hidden", "HiddenNeuron"),
        (XYLO_IMU, "samna.xyloImu.configuration", "hidden", "HiddenNeuron"),
    ],
)
def test_samna_configuration_holds_the_specification(
    backend: XyloBackend, module: str, layer: str, neuron: str
) -> None:
    spec = backend.build(everything(np.random.default_rng(6)), {}).spec
    asked: list[str] = []

    def load(name: str) -> Any:
        asked.append(name)
        return _Samna(neuron)

    config = samna_config.configuration(spec, load)
    hidden = getattr(config, layer)
    assert asked == [module]
    np.testing.assert_array_equal(np.array(config.input.weights), spec.weights_in.reshape(spec.n_in, -1))
    np.testing.assert_array_equal(np.array(hidden.weights), spec.weights_rec.reshape(spec.n_hidden, -1))
    np.testing.assert_array_equal(np.array(config.readout.weights), spec.weights_out)
    shifts = (config.input.weight_bit_shift, hidden.weight_bit_shift, config.readout.weight_bit_shift)
    assert shifts == (spec.weight_shift_in, spec.weight_shift_rec, spec.weight_shift_out)
    assert [n.v_mem_bias for n in hidden.neurons] == spec.bias.tolist()  # Rockpool loses these
    assert [n.threshold for n in hidden.neurons] == spec.threshold.tolist()
    assert [n.i_syn_decay for n in hidden.neurons] == spec.dash_syn.tolist()
    assert [n.v_mem_decay for n in config.readout.neurons] == spec.dash_mem_out.tolist()
    assert all(n.alias_target is None for n in hidden.neurons)
    assert (config.bias_enable, config.synapse2_enable, hidden.aliasing) == (True, False, False)
    assert hasattr(config.debug, "ram_power_enable") == (layer == "reservoir")


def test_an_alias_to_neuron_zero_is_kept() -> None:
    spec = XYLO_AUDIO3.build(layers(np.random.default_rng(0), [4, 10, 3]), {}).spec
    arrays = {**spec.to_npz_dict(), "aliases": np.array([[4, 0]])}
    config = samna_config.configuration(XyloSpec.from_npz_dict(arrays), lambda _: _Samna("HiddenNeuron"))
    assert config.hidden.neurons[4].alias_target == 0
    assert config.hidden.aliasing


def test_the_stub_of_samna_is_never_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPI's samna runs pip when it is imported: a distribution without compiled code is not samna."""

    def installed(*files: str) -> None:
        found = SimpleNamespace(files=[Path(f) for f in files])
        monkeypatch.setattr(samna_config, "distribution", lambda _: found)

    installed("samna/__init__.py", "samna-0.48.6.dist-info/METADATA")
    assert not samna_config.available()
    artifact = XYLO_AUDIO3.build(layers(np.random.default_rng(0), [4, 10, 3]), {})
    assert "samna_config.json" not in artifact.files()
    installed("samna/__init__.py", "samna/samna.cpython-311-x86_64-linux-gnu.so")
    assert samna_config.available()
    made = SimpleNamespace(to_json=lambda: '{"hidden": {}}')
    monkeypatch.setattr(samna_config, "configuration", lambda _: made)
    assert artifact.files()["samna_config.json"] == b'{"hidden": {}}'
    assert "samna" not in sys.modules


def test_samna_config_py_explains_itself_without_samna(tmp_path: Path) -> None:
    artifact = XYLO_AUDIO3.build(layers(np.random.default_rng(0), [4, 10, 3]), {})
    run = without_snnir(unpack(artifact.files(), tmp_path), "samna_config.py")
    assert run.returncode == 1
    assert "samna is not installed" in run.stderr


def test_bias_of_a_source_layer_reaches_the_configuration() -> None:
    """A bias small enough for the neuron itself, without a driver."""
    rng = np.random.default_rng(7)
    small = Affine(weight=rng.normal(0, 0.5, (8, 4)), bias=np.full(8, 1e-3))
    graph = chain(("in", Input(shape=(4,))), ("w1", small), ("n1", cuba(8)), ("w2", linear(rng, 3, 8)), ("n2", cuba(3)),
                  ("out", Output()), semantics=SOFT)  # fmt: skip
    artifact = XYLO_AUDIO3.build(graph, {})
    assert [b.kind for b in artifact.plan.blocks] == ["current"]
    assert (artifact.spec.bias > 0).all()
