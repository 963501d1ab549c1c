"""specialise-time, unroll-sampler, fuse-decoder: exact to the border pixel, spikes between calls, shared weights."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snnir
from snnir.cost import cost
from snnir.diffusion.schedule import CosineSchedule
from snnir.diffusion.spec import spec_of, time_embedding
from snnir.diffusion.unrolled import call_of, crossing, crossing_faults, sampler_of
from snnir.graph import Graph, chain
from snnir.ops import Constant, Conv2d, Input, Output
from snnir.passes.decoder_paths import Paths
from snnir.pipeline import Entry, Step, parse_pipeline, run_pipeline
from snnir.store import WEIGHTS_FILE, load_files, save
from snnir.verify_passes import check_step
from tests.diffusion.denoisers import denoiser, noise, rate, spiking

Array = np.ndarray[Any, np.dtype[Any]]
few = settings(max_examples=3)


def run(graph: Graph, pipeline: str, check: bool = True) -> tuple[Graph, list[Entry]]:
    """The graph after a pipeline whose every step was held to what it keeps, and the log."""
    steps: list[Step] = []
    after = run_pipeline(graph, parse_pipeline(pipeline), steps.append)
    for step in steps if check else ():
        evidence = check_step(step)
        assert step.before is step.after or (evidence.spikes > 50 and not evidence.ties)
    return after, [entry for step in steps for entry in step.entries]


def by_a_loop(graph: Graph, x: Array, calls: int) -> tuple[Array, dict[str, Array]]:
    """What a sampler on the host makes of the network: the last current, and the spikes by their unrolled names."""
    spec, spikes = spec_of(graph), {}
    for k, step in enumerate(CosineSchedule(spec.timesteps, spec.offset).rotations(calls)):
        time = np.broadcast_to(time_embedding(np.array([step.t]), spec.time_size), (*x.shape[:2], spec.time_size))
        y, found = snnir.interpret(graph, {"x": x, "time": time}, record=spiking(graph))
        spikes |= {f"call.{k}.{name}": value for name, value in found.items()}
        x = step.a * x + step.b * y
    return x, spikes


# -- specialise-time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0, 417, 999])
def test_at_one_time_the_time_path_is_a_series_of_constants(t: int) -> None:
    graph = denoiser(t)
    after, _ = run(graph, f"specialise-time{{t={t}}}")
    assert after.inputs == ("x",)
    series = {name: op for name, op in after.ops.items() if isinstance(op, Constant)}
    assert set(series) == {"down.spread", "middle.0.spread", "up.spread"}
    assert all(op.series and op.value.shape == (4, *graph.shapes[name]) for name, op in series.items())
    assert any(np.ptp(op.value, axis=0).max() > 0.01 for op in series.values())  # neurons' transients
    assert after.sources("down.spread")[:2] == ("time", "time_embedding.expand")
    assert not [name for name in after.ops if "time_embedding" in name]


def test_other_graphs_are_declined_with_a_reason() -> None:
    plain = chain(Input(shape=(2,)), Output())
    for text in ("specialise-time", "unroll-sampler"):
        after, log = run(plain, text)
        assert after is plain
        assert "its metadata do not say how it is sampled" in log[0].text
    after, log = run(denoiser(), "fuse-decoder")
    assert "put unroll-sampler{steps=...} before this pass" in log[0].text
    after, log = run(denoiser(), "specialise-time{t=1000}")
    assert "t is 1000, and the schedule has 0 to 999" in log[0].text
    after, log = run(denoiser(), "unroll-sampler{steps=2},unroll-sampler{steps=2}")
    assert "it is an unrolled sampler already" in log[-1].text


# -- unroll-sampler ------------------------------------------------------------------------------------------------


def test_the_unrolled_graph_does_what_the_loop_does() -> None:
    graph = denoiser(1)
    after, _ = run(graph, "unroll-sampler{steps=10}")
    x = noise(graph)
    want, spikes = by_a_loop(graph, x, 10)
    names = spiking(after)
    got, found = snnir.interpret(after, x, record=names)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    assert len(names) == 60  # 6 populations see the image, in 10 calls
    for name in names:
        np.testing.assert_array_equal(found[name], spikes[name], err_msg=name)
    assert 0.02 < rate(found) < 0.6
    sampler = sampler_of(after)
    assert sampler is not None
    assert [call.t for call in sampler.calls] == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert (after.inputs, after.outputs) == (("x",), graph.outputs)
    assert spec_of(after) == spec_of(graph)
    assert {call_of(name) for name in after.ops} == {None, *range(10)}
    assert after.sources("call.7.down.conv1") == ("down.conv1",)


def test_weights_are_there_once() -> None:
    graph = denoiser(2, double=False)
    after, _ = run(graph, "fold-batch-norm,unroll-sampler{steps=5}", check=False)
    assert after["call.4.up.conv1"].weight is after["call.0.up.conv1"].weight  # type: ignore[attr-defined]
    one, _ = run(graph, "fold-batch-norm,unroll-sampler{steps=1}", check=False)
    series = sum(op.value.nbytes for op in after.ops.values() if isinstance(op, Constant))
    for size in (lambda g: len(save(g)[WEIGHTS_FILE]), lambda g: len(emitted(g)["weights.safetensors"])):
        assert size(after) < size(one) + series + 40_000  # names, scalars, the series: no weights
    assert cost(after).weight_bytes < cost(one).weight_bytes + series + 4_000
    back = load_files(save(after))
    assert back["call.4.up.conv1"].weight is back["call.0.up.conv1"].weight or np.shares_memory(  # type: ignore[attr-defined]
        back["call.4.up.conv1"].weight,  # type: ignore[attr-defined]
        back["call.0.up.conv1"].weight,  # type: ignore[attr-defined]
    )


def emitted(graph: Graph) -> Any:
    return snnir.compile(graph, "torch").artifact.files()


def test_emitted_copies_share_their_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.numpy import load

    graph, _ = run(denoiser(3), "fold-batch-norm,unroll-sampler{steps=3}", check=False)
    result = snnir.compile(graph, "torch")
    module = result.module()
    assert module.call_2_up_conv1.weight is module.call_0_up_conv1.weight
    assert len(list(module.parameters())) < 3 * len(list(module.parameters())) / 2
    files = result.artifact.files()
    kept = load(files["weights.safetensors"])
    assert "call_0_up_conv1.weight" in kept
    assert "call_2_up_conv1.weight" not in kept
    file = types.ModuleType("emitted_sampler")
    monkeypatch.setitem(sys.modules, file.__name__, file)
    exec(compile(files["model.py"], "model.py", "exec"), file.__dict__)
    again = file.Model({k: torch.from_numpy(np.array(v)) for k, v in kept.items()}, torch.float64)
    x = noise(graph)
    with torch.no_grad():
        np.testing.assert_array_equal(again(torch.from_numpy(x.copy())).numpy(), result.run(x))


# -- fuse-decoder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["spikes-only", "factored", "auto"])
@pytest.mark.parametrize(("calls", "coding"), [(1, {}), (2, {}), (10, {}), (50, {}), (10, {"levels": 3, "steps": 1})])
def test_fused_and_unfused_samplers_give_the_same_image(calls: int, coding: dict[str, int], mode: str) -> None:
    graph, _ = run(
        denoiser(4, stem_skip=False, **coding), f"fold-batch-norm,unroll-sampler{{steps={calls}}}", check=False
    )
    after, _ = run(graph, f"fuse-decoder{{mode={mode}}}", check=calls == 2)
    x = noise(graph)
    names = spiking(graph)
    want, before = snnir.interpret(graph, x, record=names)
    senders = list(dict.fromkeys(e.source for e in crossing(after)))
    got, found = snnir.interpret(after, x, record=[*names, *senders])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)  # all pixels, the border too
    assert all(np.array_equal(found[name], before[name]) for name in names)
    assert 0.02 < rate(before) < 0.6
    if mode == "spikes-only":
        ways = 2 * coding["levels"] if coding else 1  # every level of both skips has synapses of its own
        assert len(crossing(after)) == calls * (calls - 1) // 2 * ways  # each call hears all earlier ones
        assert not crossing_faults(after)
        assert not crossing_faults(after, found)  # 0 or 1, checked on the values
    if mode == "factored" and calls > 1:
        assert len(crossing_faults(after, found)) == len(senders)


def test_a_bias_becomes_a_map_that_differs_along_the_border_alone() -> None:
    graph, _ = run(denoiser(5, stem_skip=False), "unroll-sampler{steps=3}", check=False)
    after, _ = run(graph, "fuse-decoder{mode=spikes-only}")
    conv = after["call.2.conv_in"]
    assert isinstance(conv, Conv2d)
    bias = conv.bias
    assert bias.shape == (4, 6, 6)
    inside = bias[:, 1:-1, 1:-1]
    assert np.ptp(inside, axis=(1, 2)).max() < 1e-12
    assert abs(bias[:, 0, :] - inside[:, :1, 0]).max() > 1e-3 * abs(bias).max()
    fused = after["call.2.conv_in.from.call.0.cat_1"]
    assert isinstance(fused, Conv2d)
    assert fused.weight.shape == (4, 8, 3, 3)  # from the channels of z, in the kernel of conv_in


def test_a_stem_that_skips_to_the_end_is_declined_by_name() -> None:
    graph, _ = run(denoiser(6), "fold-batch-norm,unroll-sampler{steps=3}", check=False)
    for text in ("fuse-decoder{mode=spikes-only}", "fuse-decoder{carries=spikes}"):
        after, log = run(graph, text)
        assert after is graph
        assert [e.kind for e in log] == ["declined"]
        for part in ("call.0.conv_in (Conv2d)", "to call.0.conv_out", "stem_skip=False"):
            assert part in log[0].text
    after, log = run(graph, "fuse-decoder")
    assert sampler_of(after).decoder == "factored"  # type: ignore[union-attr]
    assert any("the only way" in e.text for e in log)


def test_the_factored_relay_costs_less_than_what_it_replaces() -> None:
    """b goes into conv_out; with enough channels, the stem's skip becomes one small convolution of the relay."""
    wide = {"widths": (16, 6), "seed": 7}
    graph, _ = run(denoiser(**wide), "fold-batch-norm,unroll-sampler{steps=3}", check=False)  # type: ignore[arg-type]
    after, log = run(graph, "fuse-decoder{mode=factored}")
    assert not [name for name in after.ops if name.endswith("ddim.turn")]
    keep = after["call.1.ddim.keep"]
    assert isinstance(keep, Conv2d)
    assert keep.weight.shape == (1, 1, 3, 3)
    assert after["call.1.conv_out"].weight.shape == (1, 32, 1, 1)  # type: ignore[attr-defined]
    assert any("took over what call.1.conv_in sends to call.1.conv_out" in e.text for e in log)
    assert cost(after).macs < cost(graph).macs


def test_auto_knows_both_prices_and_says_them() -> None:
    graph, _ = run(denoiser(8, stem_skip=False), "fold-batch-norm,unroll-sampler{steps=10}", check=False)
    after, log = run(graph, "fuse-decoder", check=False)
    said = [e.text for e in log]
    assert any(text.startswith("factored: ") and "uJ (counted as the paper's authors do:" in text for text in said)
    assert any(text.startswith("spikes-only: ") and "MACs" in text for text in said)
    assert sampler_of(after).decoder == "factored"  # type: ignore[union-attr]
    spikes, log = run(graph, "fuse-decoder{carries=spikes}", check=False)
    assert sampler_of(spikes).decoder == "spikes-only"  # type: ignore[union-attr]
    assert any("the target carries spikes alone" in e.text for e in log)
    quiet, _ = run(graph, "fuse-decoder{rate=0.001}", check=False)
    assert sampler_of(quiet).decoder == "spikes-only"  # type: ignore[union-attr]


def test_after_split_concat_it_finds_every_part() -> None:
    text = "split-concat,fold-batch-norm,unroll-sampler{steps=3},fuse-decoder{mode=spikes-only}"
    after, _ = run(denoiser(9, stem_skip=False), text)
    assert len(crossing(after)) == 2 * 3  # two populations end a call
    assert not crossing_faults(after)


@few
@given(
    st.tuples(st.integers(1, 2), st.sampled_from([4, 6]), st.sampled_from([4, 8])),
    st.sampled_from([4, 8]),
    st.booleans(),
    st.sampled_from(["value", "subtract"]),
    st.booleans(),
    st.integers(1, 2),
    st.integers(0, 99),
)
def test_random_networks_and_all_modes(
    image: tuple[int, int, int], steps: int, skip: bool, reset: str, paper: bool, blocks: int, seed: int
) -> None:
    options = {"image": image, "steps": steps, "stem_skip": skip, "reset": reset, "blocks": blocks, "widths": (3, 4)}
    graph = denoiser(seed, paper=paper, **options)
    unrolled, _ = run(graph, "unroll-sampler{steps=3}")
    folded, _ = run(graph, "fold-batch-norm,unroll-sampler{steps=3}")
    x = noise(graph, seed)
    want, _ = by_a_loop(graph, x, 3)
    for before in (unrolled, folded):
        for mode in ("spikes-only", "factored"):
            after, _ = run(before, f"fuse-decoder{{mode={mode}}}")
            np.testing.assert_allclose(snnir.interpret(after, x), want, rtol=0, atol=1e-9)
            if mode == "spikes-only":
                assert (after is before) == skip
                assert bool(crossing_faults(after)) == skip


def test_calls_begin_where_their_names_say() -> None:
    graph, _ = run(denoiser(10), "unroll-sampler{steps=3}", check=False)
    assert Paths(graph).entries(0) == ["call.0.conv_in", "call.1.conv_in", "call.2.conv_in"]


def test_a_stored_sampler_is_the_same_sampler() -> None:
    graph, _ = run(denoiser(11), "unroll-sampler{steps=2}", check=False)
    back = load_files(save(graph))
    assert sampler_of(back) == sampler_of(graph)
    assert io.BytesIO(save(back)[WEIGHTS_FILE]).getvalue() == save(graph)[WEIGHTS_FILE]
