"""`model.py[:name]`: what a user's file may define, and what is said when it is wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnir
from snnir import CompileError, MissingPackageError, Semantics, UsageError
from snnir.frontends.model_file import load

ROOT = Path(__file__).parents[2]
MODULE = """
    from snnir import nn

    class Net(nn.Module):
        def __init__(self, hidden=8, dt=1e-3):
            super().__init__()
            self.fc = nn.Linear(4, hidden)
            self.lif = nn.LIF(0.01, dt=dt)

        def forward(self, x):
            return self.lif(self.fc(x))
"""


def write(folder: Path, text: str, name: str = "model.py", append: str = "") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text) + textwrap.dedent(append))
    return path


def violation(path: Any, **options: Any) -> Any:
    with pytest.raises(CompileError) as caught:
        load(path, **options)
    assert len(caught.value.violations) == 1
    return caught.value.violations[0]


def test_model_variable(tmp_path: Path) -> None:
    path = write(tmp_path, MODULE, append="model = Net()\n")
    graph = load(path)
    assert graph.shapes["fc"] == (8,)
    loc = graph["lif"].loc
    assert loc is not None
    assert (Path(loc.file).name, loc.line, loc.module) == ("model.py", 11, "lif")
    assert snnir.load(str(path)).semantics.dt == 1e-3


def test_build_takes_options(tmp_path: Path) -> None:
    path = write(tmp_path, MODULE, append="def build(hidden=3, dt=1e-3):\n    return Net(hidden, dt)\nmodel = Net(5)\n")
    assert load(path).shapes["fc"] == (5,)
    assert load(path, hidden=7).shapes["fc"] == (7,)
    assert snnir.load(f"{path}:build", hidden=2).shapes["fc"] == (2,)
    with pytest.raises(UsageError, match=r"build\(\) takes hidden=3, dt=0.001: .*'width'"):
        load(path, width=7)
    with pytest.raises(UsageError, match="options hidden are given, but 'model' is a model"):
        load(f"{path}:model", hidden=7)


def test_names_of_variables_classes_and_functions(tmp_path: Path) -> None:
    text = "small = Net(2)\ndef large(hidden=9):\n    return Net(hidden)\nnumber = 3\n"
    path = write(tmp_path, MODULE, append=text)
    assert load(f"{path}:small").shapes["fc"] == (2,)
    assert load(f"{path}:large").shapes["fc"] == (9,)
    assert load(f"{path}:Net", hidden=6).shapes["fc"] == (6,)
    found = violation(f"{path}:tiny")
    assert found.rule == "model-missing"
    assert found.what == "defines no 'tiny'"
    assert all(f"model.py:{name}" in found.hint for name in ("small", "Net", "large"))
    assert "LIF" not in found.hint
    assert violation(f"{path}:number").what == "'number' is a int, not a model"
    assert violation(path).what == "defines neither `model` nor `build`"


def test_dt_semantics_and_input_shape(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        from snnir import nn
        input_shape = (1, 6, 6)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LIF(0.01))
        """,
    )
    assert load(path, dt=2e-3).semantics.dt == 2e-3
    assert load(path, dt=2e-3).shapes["0"] == (2, 4, 4)
    assert load(path, dt=2e-3, input_shape=(1, 5, 5)).shapes["0"] == (2, 3, 3)
    assert load(path, semantics=Semantics(dt=1e-3, reset="subtract")).semantics.reset == "subtract"
    found = violation(path)
    assert found.rule == "time-step"
    assert found.loc.endswith("model.py:4 (1)")
    graph = load(path, dt=2e-3)
    assert str(graph["0"].loc).endswith("model.py:4 (0)")  # no forward calls it: the line that binds the model


def test_graphs_and_nir_graphs(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        import numpy as np
        import nir
        from snnir.graph import chain
        from snnir.ops import LIF, Input, Output
        model = chain(Input(shape=(3,)), LIF(tau=np.float64(0.01), v_threshold=np.float64(1.0)), Output())
        one = np.ones(3)
        exchange = nir.NIRGraph(
            {
                "input": nir.Input({"input": np.array([3])}),
                "lif": nir.LIF(tau=one, r=one, v_leak=one, v_threshold=one),
                "output": nir.Output({"output": np.array([3])}),
            },
            [("input", "lif"), ("lif", "output")],
        )
        """,
    )
    assert load(path).semantics.dt is None
    assert load(path, dt=1e-3).semantics.dt == 1e-3
    assert load(path, semantics=Semantics(reset="subtract"), dt=1e-3).semantics == Semantics(reset="subtract", dt=1e-3)
    assert load(f"{path}:exchange", dt=1e-3).semantics.dt == 1e-3
    assert violation(f"{path}:exchange").rule == "time-step"
    path = write(tmp_path, path.read_text() + "from snnir import Semantics\nmodel = chain(*model.ops.items(),"
                 " semantics=Semantics(dt=2e-3))\n")  # fmt: skip
    assert violation(path, dt=1e-3).what == "dt=0.001 s is asked for, but the graph says 0.002 s"


@pytest.mark.parametrize(
    ("text", "rule", "line", "message"),
    [
        ("import math\n\nx = math.sqrt(-1)\n", "model-raises", 3, "running the file raises ValueError: "),
        ("def build():\n    return 1 / 0\n", "model-raises", 2, "build() raises ZeroDivisionError: division by zero"),
        ("def f():\n    raise KeyError('a')\n\nmodel = f()\n", "model-raises", 2, "raises KeyError: 'a'"),
        ("import json\njson.loads('{')\n", "model-raises", 2, "raises JSONDecodeError"),
        ("import sys\nsys.exit('no')\n", "model-raises", 2, "raises SystemExit: no"),
        ("from nowhere_at_all import model\n", "model-raises", 1, "ModuleNotFoundError: No module named 'nowhere_at"),
        ("import torch\nmodel = torch.nn.Linear(3)\n", "model-raises", 2, "raises TypeError"),
        ("x = 1\nmodel = (\n", "model-syntax", 2, "SyntaxError: '(' was never closed"),
        ("x = 1\n  y = 2\n", "model-syntax", 2, "IndentationError"),
    ],
)
def test_files_that_raise(tmp_path: Path, text: str, rule: str, line: int, message: str) -> None:
    found = violation(write(tmp_path, text))
    assert found.rule == rule
    assert message in found.what
    assert found.loc.endswith(f"model.py:{line}")


def test_an_error_deep_in_a_library_names_both_lines(tmp_path: Path) -> None:
    found = violation(write(tmp_path, "import json\njson.loads('{')\n"))
    assert "decoder.py:" in found.hint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = 1\n", "defines neither `model` nor `build`"),
        ("model = 3\n", "'model' is a int, not a model"),
        ("def build():\n    return None\n", "build() returns None"),
        ("", "defines neither"),
    ],
)
def test_files_without_a_model(tmp_path: Path, text: str, what: str) -> None:
    found = violation(write(tmp_path, text))
    assert found.rule == "model-missing"
    assert what in found.what
    assert "model" in found.hint


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert violation(tmp_path / "none.py").what == "does not exist"
    assert violation(f"{tmp_path / 'none.py'}:model").what == "does not exist"
    assert violation(tmp_path).what == "is a folder"
    (tmp_path / "zero.py").write_bytes(b"a\0b")
    assert violation(tmp_path / "zero.py").rule in ("model-syntax", "model-file")


def test_what_cannot_be_traced_keeps_its_line(tmp_path: Path) -> None:
    text = MODULE.replace("return self.lif(self.fc(x))", "return self.lif(self.fc(x)).softmax(-1)")
    found = violation(write(tmp_path, text, append="model = Net()\n"))
    assert found.rule == "trace-unsupported"
    assert "model.py:11" in found.loc


def test_neighbouring_files_are_found_and_forgotten(tmp_path: Path) -> None:
    """Two models with a `layers.py` of their own: each gets its own, and the import path is as before."""
    paths = []
    for n in (3, 5):
        folder = tmp_path / str(n)
        folder.mkdir()
        write(folder, f"from snnir import nn\nwidth = {n}\ndef make():\n    return nn.Linear(2, width)\n", "layers.py")
        paths.append(write(folder, "from layers import make\ndef build():\n    import layers\n    return make()\n"))
    before = list(sys.path), {m for m in sys.modules if "layers" == m}
    assert [load(p).shapes["output"] for p in paths] == [(3,), (5,)]
    assert (list(sys.path), {m for m in sys.modules if "layers" == m}) == before
    write(tmp_path / "3", "1 / 0\n")
    violation(paths[0])
    assert list(sys.path) == before[0]


def test_the_file_sees_itself_as_a_module(tmp_path: Path) -> None:
    text = """
        from dataclasses import dataclass
        from pathlib import Path
        from snnir import nn

        @dataclass
        class Settings:
            width: int = 4

        assert Path(__file__).name == "model.py"
        assert __name__ != "__main__"
        model = nn.Linear(2, Settings().width)
        """
    assert load(write(tmp_path, text)).shapes["output"] == (4,)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "norse", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'snnir\[norse\]'"):
        load(write(tmp_path, "import norse.torch\nmodel = None\n"))


def test_without_torch(tmp_path: Path) -> None:
    """A file that defines a Graph needs no torch; one that imports torch says what to install."""
    write(
        tmp_path,
        """
        import numpy as np
        from snnir.graph import chain
        from snnir.ops import LIF, Input, Output
        model = chain(Input(shape=(3,)), LIF(tau=np.float64(0.01), v_threshold=np.float64(1.0)), Output())
        """,
        "graph.py",
    )
    write(tmp_path, "import torch\nmodel = torch.nn.Linear(2, 2)\n", "module.py")
    program = """
        import sys
        sys.modules["torch"] = None
        from snnir.errors import MissingPackageError
        from snnir.frontends.model_file import load
        print(len(load("graph.py", dt=1e-3)))
        try:
            load("module.py")
        except MissingPackageError as error:
            print(error)
        """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines() == ["3", "module.py needs the package 'torch': pip install 'snnir[torch]'"]


def test_weights_of_the_file_are_the_graphs(tmp_path: Path) -> None:
    path = write(tmp_path, MODULE, append="import torch\ntorch.manual_seed(3)\nmodel = Net()\n")
    assert np.array_equal(load(path).weights()["fc.weight"], load(path).weights()["fc.weight"])
