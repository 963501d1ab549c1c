"""The import direction, and what the core may not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up; a module may import from its own floor's package and from floors below it.
FLOORS = (
    {"errors", "naming", "npz_files", "contents"},
    {"ops"},
    {"semantics", "frameworks", "learning"},
    {"graph"},
    {"values", "literals", "text", "nir_io", "store", "schedule", "rates"}
    | {"edit", "discretise", "simulators", "stimuli"},
    {"interpreter"},
    {"kernels"},
    {"networks"},
    {"diffusion"},
    {"synapses", "activity", "arithmetic", "cost", "operations", "energy"}
    | {"pipeline", "passes", "draw", "verify_passes", "projections", "lags", "roundings"},
    {"doctor", "diff"},
    {"target", "rules"},
    {"nn"},
    {"frontends", "backends", "models"},
    {"registry"},
    {"compiler", "artifact", "placement"},
    {"validation", "conformance", "importers"},
    {"testing"},
    {"cli"},
    {"__main__"},
)
# Imports inside functions that go up on purpose: printing and drawing of a graph, checking it, embedding kernels.
UPWARD = {
    ("graph", "text"),
    ("graph", "draw"),
    ("graph", "schedule"),
    ("graph", "rates"),
    ("pipeline", "target"),
    ("target", "pipeline"),
    ("nn", "backends"),
    ("artifact", "compiler"),
    ("conformance", "cli"),  # its own __main__
}


def floor(part: str) -> int:
    return next(i for i, parts in enumerate(FLOORS) if part in parts)


def sources() -> list[Path]:
    tops = [ROOT / "snnir", ROOT / "frontends", ROOT / "backends", ROOT / "models"]
    return sorted(p for top in tops for p in top.rglob("*.py") if "__pycache__" not in p.parts)


def module_parts(path: Path) -> list[str]:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return parts[1:] if parts[0] == "snnir" else parts


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found += [
                f"{node.module}.{alias.name}" if node.module == "snnir" else str(node.module) for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def test_imports_go_down_only() -> None:
    wrong = []
    for path in sources():
        here = module_parts(path)[0]
        if here == "__init__":
            continue
        for name in imports(path):
            there = name.split(".")
            if there[0] != "snnir" or len(there) == 1 or there[1].startswith("__"):
                continue
            if floor(there[1]) > floor(here) and (here, there[1]) not in UPWARD:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_frontends_and_backends_keep_apart() -> None:
    wrong = []
    for path in sources():
        parts = module_parts(path)
        if parts[0] not in ("frontends", "backends"):
            continue
        for name in imports(path):
            there = name.split(".")
            if there[:1] != ["snnir"] or len(there) < 3 or there[1] not in ("frontends", "backends"):
                continue
            sibling = there[1] == parts[0] and (there[2] == parts[1] or there[2] in SHARED[parts[0]])
            reads_back = parts[0] == "frontends" and there[1] == "backends" and there[2] == parts[1] in READ_BACK
            if not (sibling or reads_back):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


# Files that stand below their siblings and serve several of them.
SHARED = {"backends": {"torch_source"}, "frontends": {"torch_fx", "nir_file", "rockpool"}}
# Frontends that read back what the backend of their name wrote, and prove it by writing it once more.
READ_BACK = {"onnx"}


def test_only_nn_and_the_pytorch_parts_import_torch() -> None:
    allowed = ("snnir/nn", "snnir/diffusion", "frontends/torch_fx", "backends/torch", "models/")
    allowed += tuple(f"frontends/{name}.py" for name in ("norse", "snntorch", "spikingjelly", "sinabs"))  # live modules
    for path in sources():
        relative = str(path.relative_to(ROOT))
        if relative.startswith(allowed):
            continue
        top_level = [
            alias
            for node in ast.parse(path.read_text()).body
            for alias in (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        ]
        assert not any(name.split(".")[0] == "torch" for name in top_level), relative


@pytest.mark.parametrize("statement", ["import snnir", "import snnir.compiler", "import snnir.cli"])
def test_imports_stay_light(statement: str) -> None:
    heavy = ["torch", "networkx", "h5py", "scipy", "norse", "snntorch", "rockpool", "samna", "matplotlib", "onnx"]
    code = f"{statement}\nimport sys\nprint([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_the_three_folders_are_links_into_the_package() -> None:
    for name in ("frontends", "backends", "models"):
        link = ROOT / "snnir" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / name
