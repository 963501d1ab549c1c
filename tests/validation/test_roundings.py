"""Networks with one planted cause: validation names that rounding, measured, and gives hardly anything to others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnir import nir_io
from snnir.draw.report import report_text
from snnir.errors import CompileError
from snnir.graph import Edge, Graph, chain
from snnir.models import fsddim
from snnir.ops import LI, Constant, Input, Linear, Output
from snnir.semantics import Semantics
from snnir.validation import Verdict, validate
from snnir.validation.comparing import aligned, compare
from tests.backends.xylo_nets import DT, SOFT, Array, affine, cuba, layers, lif, spikes
from tests.cli.kit import said

HARD = Semantics(dt=DT)
MANY = SOFT.with_(spikes_per_step=None)
CHANNELS, NEURONS = 10, 20


def one(kind: Any, weight: Array, semantics: Semantics, **neuron: Any) -> Graph:
    """Input, weights, one layer of neurons, output."""
    return chain(
        ("in", Input(shape=(weight.shape[1],))),
        ("w", Linear(weight=weight)),
        ("n", kind(len(weight), **neuron)),
        ("out", Output()),
        semantics=semantics,
    )


def halves() -> Array:
    """Weights of one size and of none: whatever the scale, integers write them."""
    weight = np.random.default_rng(3).choice([0.5, -0.5, 0.5, 0.5, 0.0], (NEURONS, CHANNELS))
    weight[:, 0] = 0.5
    return weight


def fine(largest: float = 0.02) -> Array:
    """Two large weights per neuron, and small ones of a few units in 8 bits."""
    small = np.random.default_rng(4).uniform(0.004, largest, CHANNELS)
    return np.where(np.arange(CHANNELS) < 2, 1.0, small) * halves()


def bursts() -> Array:
    """Events that make the neurons behind spike 40 times in a step, and pauses."""
    x = np.zeros((100, 8, CHANNELS))
    x[::25, :, :3] = np.random.default_rng(0).integers(1, 5, (4, 8, 3))
    return x


def bursting() -> Graph:
    """Hidden neurons with bursts, and others behind them that spike now and then."""
    return chain(
        ("in", Input(shape=(CHANNELS,))),
        ("w0", Linear(weight=np.full((4, CHANNELS), 1.0))),
        ("n0", cuba(4, tau_mem=2 * DT, tau_syn=2 * DT, threshold=0.0303)),
        ("w1", Linear(weight=np.full((6, 4), 0.01))),
        ("n1", cuba(6, threshold=0.8)),
        ("out", Output()),
        semantics=MANY,
    )


def sinking() -> tuple[Graph, Array]:
    """Inhibition far below what 24 bits hold, then excitation."""
    weight = np.full((NEURONS, CHANNELS), -2.0)
    weight[:, 5:] = 1.5
    x = spikes((200, 8, CHANNELS), 0.3)
    x[:80, :, 5:] = 0
    x[80:, :, :5] = 0
    return one(lif, weight, HARD, tau=1000 * DT), x


RANDOM = spikes((100, 8, CHANNELS), 0.2, 1)
SPARSE = spikes((100, 8, CHANNELS), 0.1)
LONG = spikes((300, 8, CHANNELS), 0.2)
GAUSS = np.random.default_rng(1).normal(0.3, 1.0, (100, 8, CHANNELS))
AT = HARD.with_(comparison=">=")
PLAIN: dict[str, Any] = {"calibrate": None}

# cause, network, input, options of the target, least share of the difference that it explains
XYLO = {
    "tau_mem": ("decay-membrane", one(cuba, halves(), SOFT, threshold=3.03, tau_mem=22.6 * DT), RANDOM, {}, 0.8),
    "tau_mem plain": (
        "decay-membrane",
        one(cuba, halves(), SOFT, threshold=3.03, tau_mem=22.6 * DT),
        RANDOM,
        PLAIN,
        0.8,
    ),
    "tau_syn": ("decay-synapse", one(cuba, halves(), SOFT, threshold=3.03, tau_syn=5.7 * DT), RANDOM, PLAIN, 0.9),
    "small weights": ("weights", one(lif, fine(), SOFT, threshold=1.03), RANDOM, PLAIN, 0.99),
    "small weights, calibrated": ("weights", one(lif, fine(), SOFT, threshold=1.03), RANDOM, {}, 0.99),
    "40 spikes of a hidden neuron": ("spikes-per-step", bursting(), bursts(), PLAIN, 0.95),
    "several spikes of an output": (
        "output-spikes-per-step",
        one(cuba, np.full((16, CHANNELS), 0.5), MANY, threshold=0.5),
        SPARSE,
        {},
        0.95,
    ),
    "several spikes where the network gives one": (
        "spikes-per-step",
        one(cuba, halves(), SOFT, threshold=0.4),
        SPARSE,
        PLAIN,
        0.95,
    ),
    "no room above the threshold": ("saturation", one(cuba, halves(), SOFT, threshold=0.4), SPARSE, {}, 0.9),
}
LAVA = {
    "small weights": ("weights", one(lif, fine(0.1), HARD), RANDOM, {"weight_bits": 8}, 0.99),
    "a long tau": ("decay-membrane", one(lif, halves() / 32, HARD, tau=6000 * DT), LONG, {}, 0.99),
    "a low threshold": ("thresholds", one(lif, halves() / 4, AT), RANDOM, {"threshold": 16}, 0.9),
    "numbers in 4 bits": ("inputs", one(lif, halves(), HARD), GAUSS, {"input_bits": 4}, 0.99),
    "few units": ("state-rounding", one(lif, halves() / 16, HARD, tau=512 * DT), LONG, {"threshold": 64}, 0.99),
    "deep membranes": ("saturation", *sinking(), {"threshold": 4096}, 0.99),
}


def verdict(target: str, graph: Graph, x: Array, options: dict[str, Any]) -> Verdict:
    """Of one target."""
    (found,) = validate(graph, target, x, **options).verdicts
    return found


def planted(found: Verdict, cause: str, least: float) -> None:
    """That this cause is the one, that it makes the error, and that no other alone makes a fifth of it."""
    assert found.integers is not None
    first, *others = found.integers.causes
    assert first.name == cause, [(c.name, c.explained) for c in found.integers.causes]
    assert first.explained >= least
    assert max((c.explained for c in others), default=0.0) <= 0.15
    error = found.integers.error
    assert found.integers.measure == "spike counts"
    assert error == pytest.approx(found.count_error)
    made = first.corrected if first.by_correction else first.alone
    assert made == pytest.approx(error, rel=0.25)
    assert found.integers.remainder < 1e-9  # all roundings in floats are the chip
    assert f"{first.label} {first.explained:.0%}" in found.cause


@pytest.mark.parametrize("name", XYLO)
def test_xylo_names_what_was_planted(name: str) -> None:
    cause, graph, x, options, least = XYLO[name]
    found = verdict("xylo-audio3", graph, x, options)
    planted(found, cause, least)
    if not any(c.by_correction for c in found.integers.causes):  # type: ignore[union-attr]
        others = [c.alone for c in found.integers.causes[1:]]  # type: ignore[union-attr]
        assert max(others) <= 0.3 * found.count_error


@pytest.mark.parametrize("name", LAVA)
def test_lava_names_what_was_planted(name: str) -> None:
    cause, graph, x, options, least = LAVA[name]
    found = verdict("lava", graph, x, options)
    planted(found, cause, least)
    assert max(c.alone for c in found.integers.causes[1:]) <= 0.1 * found.count_error  # type: ignore[union-attr]


def test_what_can_be_written_is_said_to_be_exact_and_not_run() -> None:
    cause, graph, x, options, _ = LAVA["a long tau"]
    found = verdict("lava", graph, x, options).integers
    assert found is not None
    exact = {c.name for c in found.causes if c.exact}
    assert exact == {"weights", "biases", "thresholds", "decay-synapse", "inputs", "graded-sums"}
    assert cause not in exact
    assert found.runs == 5  # none, three roundings, all


def test_a_chip_that_is_the_network_has_nothing_to_explain() -> None:
    found = verdict("lava", one(lif, halves(), HARD), RANDOM, {})
    assert found.words == "identical after 1 step"
    assert found.integers is None


def test_what_the_layout_bends_is_told_apart_from_roundings() -> None:
    """Hidden neurons that read inputs get their bias from a driver, a step late: no integer has to do with it."""
    rng = np.random.default_rng(2)
    ops = [("in", Input(shape=(CHANNELS,))), ("w", affine(rng, NEURONS, CHANNELS, 0.3)), ("n", cuba(NEURONS))]
    graph = chain(*ops, ("w2", affine(rng, 6, NEURONS)), ("out_n", cuba(6)), ("out", Output()), semantics=SOFT)
    found = verdict("xylo-audio3", graph, RANDOM, {}).integers
    assert found is not None
    layout = next(c for c in found.causes if c.name == "layout")
    assert layout.alone > 0
    assert "its bias comes from a driver, one step late at the start" in layout.what
    assert found.remainder < 1e-9


def test_roundings_that_make_up_for_one_another_are_named_as_a_pair() -> None:
    """Calibration may take a scale at which the weights are worse, and with the decays better."""
    graph = layers(np.random.default_rng(0), [10, 30, 20], lambda n: cuba(n, 20 * DT, 8 * DT))
    found = validate(graph, "xylo-audio3", rate=0.3).verdicts[0].integers
    assert found is not None
    first = found.causes[0]
    assert "+" in first.name
    assert first.explained > 0.5 > max(c.explained for c in found.causes[1:])


def test_currents_that_end_at_16_bits_between_two_events_are_seen() -> None:
    """An untrained denoiser: up to 15 events per step and channel, whose sum 16 bits hold, but not the way to it."""
    source = Path(__file__).parents[2] / "models" / "fsddim_nano.py"
    found = validate(source, "xylo-audio3").verdicts[0].integers
    assert found is not None
    first, *others = found.causes
    assert (first.name, first.explained > 0.8) == ("saturation", True)
    assert max(c.explained for c in others) < 0.1
    assert found.remainder < 1e-9


def test_of_the_shipped_denoiser_every_spike_is_accounted_for() -> None:
    found = validate(fsddim.build("nano", weights="shipped"), "xylo-audio3").verdicts[0]
    assert found.differing > 0
    assert found.integers is not None
    assert found.integers.remainder < 1e-9
    assert found.integers.causes[0].name.startswith("weights")


def test_networks_of_numbers_are_explained_by_values() -> None:
    """Where all spikes are right, what outputs read is compared."""
    rng = np.random.default_rng(1)
    ops = [("in", Input(shape=(CHANNELS,))), ("w", Linear(weight=halves())), ("n", lif(NEURONS))]
    graph = chain(*ops, ("read", Linear(weight=rng.normal(0, 1, (3, NEURONS)))), ("out", Output()), semantics=HARD)
    found = verdict("lava", graph, RANDOM, {"weight_bits": 8}).integers
    assert found is not None
    assert found.measure == "values"
    assert (found.causes[0].name, round(found.causes[0].explained, 2)) == ("weights", 1.0)


def test_a_large_network_is_measured_on_some_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph, x, options, _ = LAVA["small weights"]
    whole = verdict("lava", graph, x, options)
    monkeypatch.setattr("snnir.validation.roundings.WORK", 1_500_000)
    found = verdict("lava", graph, x, options)
    assert found.count_error == whole.count_error
    assert found.integers is not None
    assert 1 <= found.integers.samples < found.integers.batch == 8
    assert found.integers.causes[0].name == "weights"
    monkeypatch.setattr("snnir.validation.roundings.WORK", 0)
    least = verdict("lava", graph, x, options).integers
    assert least is not None
    assert least.samples == 1


def test_another_time_step_is_not_taken_apart() -> None:
    graph = layers(np.random.default_rng(0), [10, 30, 20], lambda n: cuba(n, 20 * DT, 10 * DT))
    found = validate(graph, "xylo-audio3", rate=0.2, choose_dt=0.8 * DT, allow=("approximate",)).verdicts[0]
    assert found.integers is None
    assert "was not measured" in found.cause


def test_small_differences_are_no_zero() -> None:
    """'(0.00%)' was said of weights that are off in the last of 16 bits."""
    weight = np.random.default_rng(0).normal(size=(4, 4))
    graph = chain(Input(shape=(4,)), Linear(weight=weight), Output(), semantics=Semantics(dt=1e-3))
    found = validate(graph, "lava").verdicts[0].integers
    assert found is not None
    assert 0 < found.error < 1e-4
    assert f"values ({100 * found.error:.1g}%): weights 100%" in found.headline


def test_a_network_without_inputs_is_refused() -> None:
    """It ended in a StopIteration."""
    ops = {"one": Constant(value=np.ones(3)), "y": Output(shape=(3,))}
    with pytest.raises(CompileError, match=r"\[validate-input\] has no input, so nothing says how many steps to run"):
        validate(Graph(ops, (Edge("one", "y"),), Semantics(dt=1e-3)), "torch")


def test_terminal_json_and_page_show_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    graph, x = LAVA["a long tau"][1:3]
    (tmp_path / "net.nir").write_bytes(nir_io.write(graph))
    np.savez(tmp_path / "x.npz", x)
    given = [str(tmp_path / "net.nir"), "-t", "lava", "--dt", str(DT), "--input", str(tmp_path / "x.npz")]
    text = said(capsys, "validate", *given, "-o", str(tmp_path / "report.html"))[1]
    assert "alone, in floats, these explain the difference in spike counts" in text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert any(row.startswith("decay-membrane 100% ") for row in rows)
    assert "4096ths: 0.999833 per step becomes 0.999756 in n" in text
    assert any(row.startswith("all together 100% ") for row in rows)
    assert "exact here: weights" in text
    document = json.loads(said(capsys, "validate", *given, "--output-format", "json")[1])
    found = document["verdicts"][0]["integers"]
    first = found["causes"][0]
    assert (first["name"], found["measure"], found["samples"]) == ("decay-membrane", "spike counts", 8)
    for page in ((tmp_path / "report.html").read_text("utf-8"), report_text(document, {})):
        assert "<h3>Which roundings</h3>" in page
        assert "decay-membrane 100%" in page
        assert "0.999833 per step becomes 0.999756" in page


def test_a_network_of_values_alone_keeps_what_an_integer_target_promises() -> None:
    readout = LI(tau=np.full(3, 5 * DT), r=np.ones(3), v_leak=np.zeros(3))
    weight = np.random.default_rng(0).normal(size=(3, 4))
    shape = ("in", Input(shape=(4,))), ("w", Linear(weight=weight)), ("n", readout), ("out", Output())
    graph = chain(*shape, semantics=HARD)
    lava, torch = validate(graph, ["lava", "torch"]).verdicts
    assert (lava.verdict, lava.ok) == ("values differ", True)
    assert 0 < lava.max_error < 1e-3
    assert (torch.verdict, torch.ok) == ("identical", True)

    want = np.random.default_rng(1).normal(size=(9, 2, 3))
    for factor, quantised, word in ((1.4, True, "values differ"), (1.6, True, "wrong"), (1.4, False, "wrong")):
        traces = aligned(graph, {"out": want}, {"out": factor * want})
        assert compare(graph, "t", traces, quantised=quantised).verdict == word
