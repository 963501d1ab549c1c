"""SDiT asked for what it cannot be: one error, with everything that is wrong; and weights of another network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

import snnir
from snnir.cli import run
from snnir.diffusion.checkpoint import write_weights
from snnir.errors import CompileError, UsageError
from snnir.models import sdit
from tests.sdit.nets import TINY

MODEL = str(Path(__file__).parents[2] / "models" / "sdit.py")
SMALL = {**TINY, "image": (1, 4, 4)}
OPTIONS = ["--preset", "digits", *(f"-S{k}={v}".replace(" ", "") for k, v in SMALL.items())]


def written(path: Path, **options: Any) -> str:
    graph = snnir.load(sdit.build("digits", weights="none", **{**SMALL, **options}))
    write_weights(path, graph, graph)
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """What the command line says on the error output, as one line; it must be one error, without a traceback."""
    assert run(list(command)) in (1, 2)
    text = " ".join(capsys.readouterr().err.split())
    assert text.lower().count("error") == 1
    assert "raises" not in text
    return text


@pytest.mark.parametrize("variant", ["published", "spiking"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["image=(1,9,8)", "steps=0"],
            ["9 x 8 does not divide into patches of 2 x 2", "steps is 0, expected at least 1"],
        ),
        (["patch=3", "depth=3", "width=0"], ["patches of 3 x 3", "depth is 3, expected an even", "width is 0"]),
        (["image=(1,8)", "width=true"], ["image is (1, 8), expected channels, height and width", "width is True"]),
        (["patch=2.5", "image=8"], ["image is 8, expected", "patch is 2.5, expected a whole number"]),
        (["classes=-1", "time=7", "prediction=x0"], ["classes is -1", "time is 7", "prediction is 'x0'"]),
    ],
)
def test_options(variant: str, options: list[str], said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = [part for option in options for part in ("-S", option)]
    text = told(capsys, "inspect", MODEL, "--preset", "digits", "--variant", variant, *flags)
    assert all(part in text for part in said), text


def test_names(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "inspect", MODEL, "--preset", "digitz", "--variant", "spikey", "-S", "size=3")
    assert "preset is 'digitz', expected one of mnist, cifar, small, digits;" in text
    assert "variant is 'spikey', expected one of published, spiking; no option size; there are image" in text
    with pytest.raises(UsageError, match="comes with no weights for SDiT 'mnist', spiking"):
        sdit.build("mnist", variant="spiking", weights="shipped")


@pytest.mark.parametrize(("here", "there"), [("published", "spiking"), ("spiking", "published")])
def test_weights_of_the_other_variant(
    here: str, there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image = written(tmp_path / "w.safetensors", variant=there), str(tmp_path / "x.npz")
    monitor = ["sample", MODEL, *OPTIONS, "--variant", here, "-n", "1", "--steps", "1", "-o", image]
    text = told(capsys, *monitor, "--weights", path)
    assert "weights do not fit the network" in text
    with pytest.raises(CompileError) as caught:
        sdit.build("digits", variant=here, weights=path, **SMALL)
    first, *others = caught.value.violations
    assert (first.rule, first.where) == ("other-network", path)
    assert first.what == f"is of another network: variant is {there} there and {here} here"
    assert first.hint == f"build the network as it was trained: --variant {there}"
    assert {v.rule for v in others} == {"weights-key", "weights-missing", "weights-shape"}
    assert run([*monitor, "--weights", written(tmp_path / "fits.safetensors", variant=here)]) == 0


def test_what_the_chip_has_not_is_said_and_nothing_that_only_follows_from_it() -> None:
    with pytest.raises(CompileError) as caught:
        snnir.compile(sdit.build("digits", weights="none", **SMALL), "lava")
    assert {v.rule for v in caught.value.violations} == {"lava-op"}


def test_weights_of_another_size_say_of_which(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors", width=4, image=(1, 4, 8))
    with pytest.raises(CompileError) as caught:
        sdit.build("digits", weights=path, **SMALL)
    assert caught.value.violations[0].hint == "build the network as it was trained: -S 'image=[1,4,8]' -S width=4"


@pytest.mark.parametrize("variant", ["published", "spiking"])
def test_weights_that_predict_something_else(variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every array fits, and what it draws would be nonsense."""
    said = "is of another network: prediction is v there and noise here"
    with pytest.raises(CompileError) as caught:
        sdit.build("digits", variant=variant, weights="shipped", prediction="noise")
    (found,) = caught.value.violations
    assert (found.rule, found.what) == ("other-network", said)
    assert found.hint == "build the network as it was trained: -S prediction=v"
    path, image = written(tmp_path / "w.safetensors", variant=variant), str(tmp_path / "x.npz")
    command = ["sample", MODEL, *OPTIONS, "--variant", variant, "-S", "prediction=noise", "--weights", path]
    assert said in told(capsys, *command, "-n", "1", "--steps", "1", "-o", image)
    assert sdit.build("digits", variant=variant, weights="shipped", steps=8)  # longer, but the same network


def test_weights_that_hold_less_or_more_are_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that stays random would be worse than an error; files without a note of their network are judged too."""
    arrays = load_file(written(tmp_path / "w.safetensors"))
    less = {k: v for k, v in arrays.items() if k != "head.bias"}
    path = str(tmp_path / "less.safetensors")
    save_file({**less, "foot.bias": arrays["head.bias"], "smooth.bias": arrays["head.bias"]}, path)
    image = str(tmp_path / "x.npz")
    told(capsys, "sample", MODEL, *OPTIONS, "-n", "1", "--steps", "1", "-o", image, "--weights", path)
    with pytest.raises(CompileError) as caught:
        sdit.build("digits", weights=path, **SMALL)
    assert [(v.rule, v.what) for v in caught.value.violations] == [
        ("weights-key", "holds what this network has not: foot.bias"),
        ("weights-missing", "has nothing for head.bias"),
        ("weights-shape", "smooth.bias [4]"),
    ]
    assert "the same preset, variant and options" in caught.value.violations[-1].hint
    with pytest.raises(CompileError, match="cannot be read"):
        sdit.build("digits", weights=str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize("variant", ["published", "spiking"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--guidance", "1e300", "--steps", "1"],
            "holds values that are not finite expected finite numbers help smaller",
        ),
        (
            ["-S", "classes=0", "--guidance", "2", "--label", "3"],
            "a label and guidance of 2: this network has no labels",
        ),
        (["--label", "12", "--label", "-1"], "no label 12, -1; the network has 0 to 2, or None"),
        (["--label", "none", "--guidance", "2"], "guidance of 2 is towards a label, and image 0 has none"),
        (["--guidance", "nan"], "guidance is nan, expected a finite number"),
        (["--steps", "0"], "0 is not in the range x>=1"),
    ],
)
def test_sampling(
    variant: str, flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(tmp_path / "x.npz")
    command = ["sample", MODEL, *OPTIONS, "--variant", variant, "--weights", "none", "-n", "2", "-o", image]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert said in told(capsys, *command, *flags)
    assert not Path(image).exists()
