"""The files of a compiled network. They run without snnir: NumPy, and the simulator's own source beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snnir import __version__
from snnir.backends.xylo import samna_config
from snnir.backends.xylo.report import places
from snnir.contents import npz, source
from snnir.simulators import source_files

if TYPE_CHECKING:
    from snnir.backends.xylo.artifact import XyloArtifact

FORMAT = "snnir-xylo/1"


def files(artifact: XyloArtifact) -> Mapping[str, bytes]:
    """Relative path -> content."""
    found = {
        "xylo.npz": npz(artifact.spec.to_npz_dict()),
        "xylo.json": (json.dumps(description(artifact), indent=1) + "\n").encode(),
        "run.py": source("snnir.backends.xylo.run_script"),
        "npz_files.py": source("snnir.npz_files"),
        "samna_config.py": source("snnir.backends.xylo.samna_config"),
        **source_files("xylo", "xylo_simulator"),
    }
    host = artifact.graph.metadata.get("diffusion", {}).get("host")
    if host is not None:  # a denoising network: what the host computes between its calls
        found["host.json"] = (json.dumps(host) + "\n").encode()
        found["sample.py"] = source("snnir.backends.xylo.sample_script")
        found["diffusion_host.py"] = source("snnir.diffusion.events")
    if samna_config.available():
        found["samna_config.json"] = samna_config.configuration(artifact.spec).to_json().encode()
    return found


def description(artifact: XyloArtifact) -> dict[str, Any]:
    """`xylo.json`: how to read `xylo.npz`, which neuron is which, and the report."""
    plan, spec = artifact.plan, artifact.spec
    return {
        "format": FORMAT,
        "snnir": __version__,
        "family": spec.family,
        "chip": plan.chip.title,
        "part": plan.chip.part,
        "dt": spec.dt,
        "latency": artifact.latency,
        "input_delay": plan.input_delay,
        "outputs": [
            {
                "name": name,
                "neurons": artifact.output_ids(name).tolist(),
                "shape": list(shape),
                "lag": plan.lags[name],
            }
            for name, shape in plan.network.outputs.items()
        ],
        **places(artifact.graph, plan),
        "spec": {
            "file": "xylo.npz",
            "keys": {name: list(np.shape(value)) for name, value in spec.to_npz_dict().items()},
            "note": "keys and shapes are Rockpool's; bias_hidden repeats bias, which its chip configuration drops",
        },
        "report": dict(artifact.report),
    }
