"""The Loihi simulator is Lava's fixed-point models, bit for bit, on random networks; and what its network accepts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnir.backends.lava.environment import find
from snnir.simulators import source_files
from snnir.simulators.loihi import (
    CURRENT_LIMIT,
    Connection,
    Convolution,
    LoihiSpec,
    LoihiSteps,
    Population,
    effective_weights,
    largest_currents,
    simulate,
)
from snnir.simulators.loihi import run as loihi_run
from tests.lava_oracle import RECORDED, Case, of_case, run_lava
from tests.lava_process import unpack
from tests.lava_regimes import PER_REGIME, REGIMES, draw_all

TRACES = ("spikes", "u", "v")


LIVE = (
    "recurrent, delays",
    "sparse, delays",
    "graded, beyond int32",
    "membrane clips",
    "resets",
    "convolution, groups",
    "convolution, recurrent",
    "convolution, graded, beyond int32",
)


def ours(case: Case) -> tuple[Any, Case]:
    spec, inputs = of_case(case)
    run = simulate(spec, inputs, record=True)
    return run, {f"{kind}.{p.name}": getattr(run, kind)[p.name][:, 0] for kind in TRACES for p in spec.populations}


def differing(case: Case, traces: Case) -> list[str]:
    _, found = ours(case)
    assert traces.keys() <= found.keys()
    return [key for key, values in traces.items() if not np.array_equal(values, found[key])]


def split(recorded: Case) -> tuple[Case, Case]:
    traces = {key: values for key, values in recorded.items() if key.partition(".")[0] in TRACES}
    return {key: values for key, values in recorded.items() if key not in traces}, traces


@pytest.fixture(scope="module")
def recorded() -> tuple[list[Case], dict[str, Any]]:
    return unpack(RECORDED)


@pytest.mark.parametrize("index", range(len(REGIMES)), ids=list(REGIMES))
def test_same_as_recorded_by_lava_oracle(index: int, recorded: tuple[list[Case], dict[str, Any]]) -> None:
    shown = list(REGIMES.values())[index].shown
    here = recorded[0][index * PER_REGIME : (index + 1) * PER_REGIME]
    assert len(here) == PER_REGIME
    wrong = {i: bad for i, (case, traces) in enumerate(map(split, here)) if (bad := differing(case, traces))}
    assert not wrong
    given = [split(case)[0] for case in here]
    assert any(shown(of_case(case)[0], ours(case)[0], of_case(case)[1]) for case in given)


def test_stepped_by_hand_it_is_lava_too_oracle(recorded: tuple[list[Case], dict[str, Any]]) -> None:
    for case in recorded[0]:
        given, traces = split(case)
        spec, inputs = of_case(given)
        largest = {name: int(np.abs(x).max(initial=0)) for name, x in inputs.items()}
        stepped = LoihiSteps(spec, 1, largest)
        found = [stepped.step({n: x[t] for n, x in inputs.items()}) for t in range(len(next(iter(inputs.values()))))]
        for key, expected in traces.items():
            trace, _, name = key.partition(".")
            assert np.array_equal(np.stack([step[trace][name][0] for step in found]), expected)
    with pytest.raises(ValueError, match="was the most"):
        LoihiSteps(one(), 1, {"in": 1}).step({"in": np.full((1, 1), 2)})


def test_the_record_is_large_small_and_named(recorded: tuple[list[Case], dict[str, Any]]) -> None:
    cases, facts = recorded
    assert len(cases) >= 160
    for given, traces in map(split, cases):
        assert len(traces) == len(TRACES) * sum(key.endswith(".vth") for key in given)
    assert RECORDED.stat().st_size < 500_000
    assert facts["versions"]["lava-nc"] == "0.10.0"


@pytest.mark.skipif(find() is None, reason="no Lava here (make lava): its recorded traces are compared instead")
def test_same_as_a_live_lava_oracle() -> None:
    """Networks that are not among the recorded ones; few, as every process of Lava's is one of the system's."""
    python = find()
    assert python is not None
    rng = np.random.default_rng(31)
    cases = {name: REGIMES[name].draw(rng) for name in LIVE}
    traces, _ = run_lava(python, list(cases.values()), record=("spikes", "v"))
    assert not [name for name, trace in zip(cases, traces, strict=True) if differing(cases[name], trace)]


@pytest.mark.parametrize("block", [1, 40, 2**19])
def test_a_batch_is_its_samples_in_blocks_of_any_length(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loihi_run, "_BLOCK", block)
    rng = np.random.default_rng(3)
    for name in ("recurrent, delays", "resets", "current wraps", "convolution, recurrent", "convolution, groups"):
        spec, _ = of_case(REGIMES[name].draw(rng))
        events = rng.integers(0, 2, (30, 5, spec.inputs["in"]))
        together = simulate(spec, {"in": events}, record=True)
        for b in range(5):
            monkeypatch.setattr(loihi_run, "_BLOCK", 2**19)
            alone = simulate(spec, {"in": events[:, b : b + 1]}, record=True)
            monkeypatch.setattr(loihi_run, "_BLOCK", block)
            for population in spec.sizes.keys() - {"in"}:
                for kind in TRACES:
                    assert np.array_equal(
                        getattr(together, kind)[population][:, b], getattr(alone, kind)[population][:, 0]
                    )


@pytest.mark.parametrize(
    ("mode", "bits", "given", "acts"),
    [
        ("auto", 8, [3, -5, 7, 1, -1], [2, -6, 6, 0, -2]),
        ("auto", 8, [3, 5, 300], [3, 5, 255]),
        ("auto", 8, [-3, -5, -300], [-3, -5, -255]),
        ("mixed", 8, [255, -256, 400, -400], [254, -256, 254, -256]),
        ("excitatory", 8, [-7, 7], [0, 7]),
        ("inhibitory", 6, [-7, 7, -255], [-4, 0, -252]),
        ("null", 8, [-7, 300], [0, 255]),
        ("mixed", 1, [100, 200, -1, 255], [0, 0, -256, 0]),
    ],
)
def test_effective_weights(mode: str, bits: int, given: list[int], acts: list[int]) -> None:
    connection = Connection(source="a", target="b", weights=[given], sign_mode=mode, num_weight_bits=bits)
    assert effective_weights(connection).tolist() == [acts]


def one(weights: Any = ((100,),), *, delays: Any = 0, exponent: int = 0, **population: Any) -> LoihiSpec:
    cells = Population(name="p", size=len(weights), **({"vth": 100, "du": 4095} | population))
    wire = Connection(source="in", target="p", weights=weights, delays=delays, weight_exp=exponent)
    return LoihiSpec(inputs={"in": len(weights[0])}, populations=(cells,), connections=(wire,))


def test_one_step_of_latency_a_strict_threshold_and_a_hard_reset() -> None:
    pulse = np.array([1, 0, 0, 1, 1, 0, 0])[:, None, None]
    run = simulate(one(), {"in": pulse}, record=True)
    assert run.v is not None
    assert run.v["p"].ravel().tolist() == [0, 6400, 6400, 6400, 0, 6400, 6400]  # 100 << 6 is not above itself
    assert run.spikes["p"].ravel().tolist() == [0, 0, 0, 0, 1, 0, 0]
    later = simulate(one(delays=2), {"in": pulse}, record=True)
    assert later.v is not None
    assert later.v["p"].ravel().tolist() == [0, 0, 0, 6400, 6400, 6400, 0]


def test_decay_rounds_towards_zero_on_both_sides() -> None:
    events = np.zeros((4, 1, 2), int)
    events[0] = 1
    run = simulate(one([[2, 0], [0, -2]], du=1000, dv=4096), {"in": events}, record=True)
    assert run.u is not None
    assert run.u["p"][:, 0].T.tolist() == [[0, 128, 96, 72], [0, -128, -96, -72]]  # 128 * 3095/4096 = 96.7


def test_the_range_of_a_current_ends_as_in_lava() -> None:
    """2**23 stays, -2**23 turns positive, and beyond them the sign changes."""
    weights = np.zeros((4, 9), int)
    weights[[0, 2], :8], weights[[1, 3], :8] = 128, -128
    weights[2:, 8] = 2, -2
    run = simulate(one(weights, exponent=7, dv=4096, vth=131071), {"in": np.ones((2, 1, 9), int)}, record=True)
    assert run.u is not None
    assert run.v is not None
    beyond = 2**23 - (2 << 13)
    assert run.u["p"][1, 0].tolist() == [2**23, 2**23, -beyond, beyond]
    assert run.spikes["p"][1, 0].tolist() == [1, 1, 0, 0]
    assert run.v["p"][1, 0].tolist() == [0, 0, -beyond, beyond]


def test_a_negative_exponent_is_the_floor_of_the_sum() -> None:
    run = simulate(one([[2, 4], [-2, -4]], exponent=-2, dv=4096), {"in": np.ones((2, 1, 2), int)}, record=True)
    assert run.u is not None
    assert run.u["p"][1, 0].tolist() == [1 << 6, -2 << 6]  # 6/4 and -6/4


def test_largest_currents_bound_every_run_and_tell_a_wrap() -> None:
    told, wrapped, tightest = set(), 0, 0.0
    for i, case in enumerate(draw_all(seed=5, per_regime=8)):
        spec, inputs = of_case(case)
        run = simulate(spec, inputs, record=True)
        assert run.u is not None
        bounds = largest_currents(spec, int(np.abs(inputs["in"]).max()))
        for name, bound in bounds.items():
            peak = int(np.abs(run.u[name]).max())
            told.add(bound < CURRENT_LIMIT)
            if bound < CURRENT_LIMIT:
                assert peak <= bound, (i, name)
                tightest = max(tightest, peak / max(bound, 1))
            wrapped += bool(np.abs(np.diff(run.u[name], axis=0)).max() > 1.2 * CURRENT_LIMIT)
    assert told == {True, False}
    assert wrapped > 5
    assert tightest > 0.9


def test_largest_current_of_a_driven_neuron_is_reached() -> None:
    spec = one(du=99)
    run = simulate(spec, {"in": np.ones((800, 1, 1), int)}, record=True)
    assert run.u is not None
    (bound,) = largest_currents(spec).values()
    assert bound == 100 * 64 * 4096 / 100
    assert 0.99 * bound < run.u["p"].max() <= bound
    assert largest_currents(one(du=-1)) == {"p": np.inf}


@pytest.mark.parametrize("regime", ["recurrent, delays", "convolutions in a row"])
def test_a_network_survives_npz(regime: str, tmp_path: Path) -> None:
    spec, inputs = of_case(REGIMES[regime].draw(np.random.default_rng(1)))
    np.savez(tmp_path / "net.npz", **spec.to_npz_dict())
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        again = LoihiSpec.from_npz_dict(file)
        with pytest.raises(ValueError, match="unknown key 'other'"):
            LoihiSpec.from_npz_dict({**file, "other": np.zeros(1)})
        with pytest.raises(ValueError, match="missing 1 required keyword-only argument: 'vth'"):
            LoihiSpec.from_npz_dict({key: file[key] for key in file if key != "populations.0.vth"})
    first, second = (simulate(s, inputs, record=True) for s in (spec, again))
    for kind in TRACES:
        for name, values in getattr(first, kind).items():
            assert np.array_equal(values, getattr(second, kind)[name])


def test_every_problem_is_listed() -> None:
    cells = Population(name="p", size=2, vth=[1, 2, 3], du=-2, dv=0.5, bias_mant=4096, bias_exp=8)
    wires = (
        Connection(source="q", target="p", weights=np.ones((2, 2)), delays=64),
        Connection(source="in", target="p", weights=np.ones((2, 2)), weight_exp=8, num_weight_bits=9, sign_mode="any"),
    )
    with pytest.raises(ValueError, match="not a Loihi network") as caught:
        LoihiSpec(inputs={"in": 3, "p": 1}, populations=(cells,), connections=wires)
    assert str(caught.value).removeprefix("not a Loihi network: ").split("; ") == [
        "the name 'p' is used more than once",
        "population 'p': vth has shape (3,), expected () or (2,)",
        "population 'p': du spans -2..-2, allowed -1..4095",
        "population 'p': dv must hold integers",
        "population 'p': bias_mant spans 4096..4096, allowed -4096..4095",
        "population 'p': bias_exp spans 8..8, allowed 0..7",
        "connection 'q' -> 'p': there is no input or population 'q'",
        "connection 'q' -> 'p': delays spans 64..64, allowed 0..63",
        "connection 'in' -> 'p': weights have shape (2, 2), expected (2, 3)",
        "connection 'in' -> 'p': weight_exp is 8, allowed -8..7",
        "connection 'in' -> 'p': num_weight_bits is 9, allowed 1..8",
        "connection 'in' -> 'p': sign_mode is 'any', expected one of auto, null, mixed, excitatory, inhibitory",
    ]


def strip(weights: Any, shape: tuple[int, int, int], size: int, **more: Any) -> LoihiSpec:
    """A convolution from an input of `shape` to `size` neurons without memory."""
    cells = Population(name="p", size=size, vth=131071, du=4095, dv=4096)
    wire = Convolution(source="in", target="p", weights=weights, input_shape=shape, **more)
    return LoihiSpec(inputs={"in": int(np.prod(shape))}, populations=(cells,), connections=(wire,))


def test_a_convolution_is_flipped_and_counts_in_x_y_channel_order() -> None:
    weights = np.arange(1, 5).reshape(1, 4, 1, 1)
    events = np.zeros((2, 1, 7), int)
    events[0, 0, 3] = 1
    run = simulate(strip(weights, (7, 1, 1), 4), {"in": events}, record=True)
    assert run.u is not None
    assert (run.u["p"][1, 0] >> 6).tolist() == [1, 2, 3, 4]  # a correlation would give 4, 3, 2, 1
    both = np.array([[1, 0], [0, 10], [1, 10]])[:, None, None]  # (out, 1, 1, in)
    events = np.array([[[1, 0, 0, 1, 1, 1]]] * 2)  # pixel 0: channel 0; pixel 1: channel 1; pixel 2: both
    run = simulate(strip(both, (3, 1, 2), 9), {"in": events}, record=True)
    assert run.u is not None
    assert (run.u["p"][1, 0] >> 6).tolist() == [1, 0, 1, 0, 10, 10, 1, 10, 11]


def test_neurons_numbered_as_in_pytorch_and_shuffled_pixels() -> None:
    """Layout "cyx" is conv2d itself on an image that is not square, and phases are its pixel_shuffle."""
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(0)
    weight = rng.integers(-9, 10, (8, 2, 3, 2))  # PyTorch's: out, in / groups, height, width
    images = rng.integers(-5, 6, (3, 4, 5, 9))  # step, channel, height, width
    wanted = functional.conv2d(
        torch.tensor(images, dtype=torch.float64),
        torch.tensor(weight, dtype=torch.float64),
        stride=(1, 2),
        padding=(2, 1),
        dilation=(2, 1),
        groups=2,
    )
    numbers = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2, "graded": True, "layout": "cyx"}
    flipped = weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
    for phases in (1, 2):
        shown = functional.pixel_shuffle(wanted, phases).numpy().reshape(3, -1)
        spec = strip(flipped, (9, 5, 4), shown.shape[1], **numbers, phases=phases)
        run = simulate(spec, {"in": images.reshape(3, 1, -1)}, record=True)
        assert run.u is not None
        np.testing.assert_array_equal(run.u["p"][1:, 0] >> 6, shown[:2])


@pytest.mark.parametrize(
    ("weight", "sums"),
    [
        (1, [2**23 - 1, -(2**23), 2**23 - 1, 5, -1, 0]),
        (2, [-2, 0, -2, 10, 0, 0]),
        (-1, [1 - 2**23, -(2**23), -(2**23) + 1, -5, 1, 0]),
    ],
)
def test_sums_of_a_convolution_wrap_at_24_bits_and_are_gone_beyond_32(weight: int, sums: list[int]) -> None:
    """As Lava's Conv gives them for these values; the current then wraps by one turn only."""
    values = np.tile([2**23 - 1, 2**23, -(2**23) - 1, 2**24 + 5, 2**31 - 1, -(2**31)], (2, 1, 1))
    run = simulate(strip([[[[weight]]]], (6, 1, 1), 6, graded=True), {"in": values}, record=True)
    assert run.u is not None
    turn = 2 * CURRENT_LIMIT
    wanted = [(a << 6) - turn * ((a << 6) > CURRENT_LIMIT) + turn * ((a << 6) <= -CURRENT_LIMIT) for a in sums]
    assert run.u["p"][1, 0].tolist() == wanted


def test_sums_that_nothing_holds_exactly_are_refused() -> None:
    spec = strip(np.full((1, 100, 1, 1), 2**30), (100, 1, 1), 1, graded=True)
    with pytest.raises(ValueError, match=r"cannot run: sums of up to \d+ from 'in' are beyond 2\*\*53"):
        simulate(spec, {"in": np.full((2, 1, 100), 2**30)})


def test_every_problem_of_a_convolution_is_listed() -> None:
    def problems(weights: Any, shape: Any, size: int = 1, **more: Any) -> list[str]:
        with pytest.raises(ValueError, match="not a Loihi network") as caught:
            strip(weights, shape, size, **more)
        return (
            str(caught.value).removeprefix("not a Loihi network: ").replace("convolution 'in' -> 'p': ", "").split("; ")
        )

    assert problems(np.ones((2, 3, 3)), (4, 4, 1)) == [
        "weights have shape (2, 3, 3), expected (out, x, y, in / groups)"
    ]
    assert problems(np.ones((2, 1, 1, 1)) / 2, (4, 4, 1), stride=0, padding=(0, 128), dilation=200) == [
        "weights must hold integers",
        "stride is 0, 0, allowed 1..127",
        "padding is 0, 128, allowed 0..127",
        "dilation is 200, 200, allowed 1..127",
    ]
    assert problems(np.ones((3, 1, 1, 1)), (4, 4, 1), 48, phases=(2, 1), layout="xyc") == [
        "layout is 'xyc' with phases (2, 1), expected 'xyc' with 1, or 'cyx'",
        "3 channels out are no multiple of the 2 phases",
    ]
    assert problems(np.ones((128, 1, 1, 1)), (1, 1, 128), 128, groups=128) == ["groups is 128, allowed 1..127"]
    assert problems(np.ones((3, 1, 1, 2)), (1, 1, 4), 3, groups=2) == [
        "4 channels in and 3 out cannot be split into 2 groups"
    ]
    assert problems(np.ones((2, 1, 1, 4)), (1, 1, 4), 2, groups=2) == [
        "weights have shape (2, 1, 1, 4), expected 2 as the last (4 channels in 2 groups)"
    ]
    assert problems(np.ones((1, 5, 1, 1)), (4, 4, 1)) == ["its output would have shape (0, 4, 1)"]
    assert problems(np.ones((3, 3, 3, 1)), (4, 4, 1), 11) == ["target has 11 neurons, expected 12 for shape (2, 2, 3)"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'in' is missing"),
        ({"in": np.zeros((3, 1, 1), int), "x": np.zeros(1)}, "there is no input 'x'"),
        ({"in": np.zeros((3, 1), int)}, r"input 'in' has shape \(3, 1\), expected \(steps, batch, 1\)"),
        ({"in": np.full((3, 1, 1), 0.5)}, "input 'in' must hold integers"),
        ({"in": np.full((3, 1, 1), 2**40)}, "input 'in' spans"),
    ],
)
def test_inputs_that_do_not_fit(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(one(), inputs)


def test_the_simulator_travels_alone(tmp_path: Path) -> None:
    for name, content in source_files("loihi", "sim").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    spec, inputs = of_case(REGIMES["convolution, recurrent"].draw(np.random.default_rng(2)))
    np.savez(tmp_path / "net.npz", **spec.to_npz_dict())
    np.save(tmp_path / "in.npy", inputs["in"])
    code = """
import sys, numpy, sim
run = sim.simulate(sim.LoihiSpec.from_npz_dict(numpy.load("net.npz")), {"in": numpy.load("in.npy")})
numpy.save("p0.npy", run.spikes["p0"])
print([m for m in ("snnir", "scipy", "torch") if m in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == "[]"
    assert np.array_equal(np.load(tmp_path / "p0.npy"), simulate(spec, inputs).spikes["p0"])
