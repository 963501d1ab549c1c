"""The published network, 52,536,705 parameters: traced, folded, fused and written for Norse and NIR, and what it takes.

In a process of its own: a peak of memory is a process's, and what other tests used would count.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

CODE = """
import json, resource, sys
from pathlib import Path
import h5py, nir, safetensors.numpy, torch
import snnir
from snnir.models import fsddim

def peak():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used

out = Path(sys.argv[1])
torch.set_num_threads(1)
imports = peak()
graph = snnir.load(fsddim.build("paper"))
snnir.compile(graph, "nir").save(out / "nir")
fused = snnir.compile(graph, "norse", passes="fold-batch-norm,unroll-sampler{steps=50},fuse-decoder")
fused.save(out / "norse")
print(json.dumps({
    "memory": peak() - imports,
    "weights": sum(value.nbytes for value in graph.weights().values()),
    "decoder": fused.graph.metadata["sampler"]["decoder"],
    "files": {name: sum(f.stat().st_size for f in (out / name).rglob("*") if f.is_file()) for name in ("nir", "norse")},
}))
"""


def test_the_published_network_compiles_within_four_times_its_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    shutil.rmtree(tmp_path / "nir", ignore_errors=True)  # 200 MB each
    shutil.rmtree(tmp_path / "norse", ignore_errors=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    weights = found["weights"]
    assert 4 * 52_536_705 <= weights < 1.01 * 4 * 52_536_705  # and batch norms' statistics
    assert found["memory"] < 4 * weights  # beyond what importing PyTorch takes; about 3.5 times
    assert found["decoder"] == "factored"
    # what is written: the weights once, also where fifty calls share them
    assert all(0.9 * weights < size < 1.2 * weights for size in found["files"].values()), found["files"]
