"""The same network makes the same files in every process: nothing of them depends on hashing, luck or the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

CODE = """
import hashlib, json
import numpy as np
import snnir
from snnir.models import sdit
from tests.graph_kinds import make_graph

def hashes(result):
    return {name: hashlib.sha256(data).hexdigest() for name, data in result.files().items()}

def digits():
    from examples.digits import model
    return snnir.load(model.build())

SEVERAL = {
    "torch": lambda: snnir.compile(make_graph(5, "recurrence-cubalif", "disc"), "torch"),
    "norse": lambda: snnir.compile(make_graph(5, "delay"), "norse"),
    "nir": lambda: snnir.compile(make_graph(5, "fan-in"), "nir"),
    "onnx": lambda: snnir.compile(make_graph(5, "recurrence-cubalif"), "onnx"),
    "xylo-audio3": lambda: snnir.compile(digits(), "xylo-audio3"),
    "lava": lambda: snnir.compile(make_graph(5, "recurrence-cubalif"), "lava", allow=("approximate",)),
    "placement": lambda: snnir.compile(snnir.load(sdit.build("digits", variant="spiking")), "lava", host="torch"),
}
print(json.dumps({name: hashes(make()) for name, make in SEVERAL.items()}))
"""


def test_every_process_writes_the_same_bytes() -> None:
    seen = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        seen.append(json.loads(done.stdout))
    assert all("manifest.json" in files for files in seen[0].values())
    assert seen[0] == seen[1]
