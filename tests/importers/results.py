"""The benchmark of the importers as a module, and what it has stored."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]


@cache
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nir_importers", ROOT / "benchmarks" / "nir_importers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nir_importers"] = module
    spec.loader.exec_module(module)
    return module


@cache
def stored() -> dict[str, Any]:
    return dict(json.loads((ROOT / "benchmarks" / "nir_importers.json").read_text()))
