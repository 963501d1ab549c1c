"""Weights that come with snnir, or from `snnir train`, into a model."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parent / "weights"
_FIELDS = {"mean": "running_mean", "var": "running_var"}  # the graph's names of what PyTorch's batch norms hold


def shipped(name: str) -> Path | None:
    """The weights file of that name, if snnir comes with one."""
    path = FOLDER / f"{name}.safetensors"
    return path if path.is_file() else None


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Loads a file of `snnir train`, whose keys are those of the graph: layer.field.

    Raises:
        ValueError: the file cannot be read or is of another model; every difference at once.
    """
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    state = model.state_dict()
    wanted = {k for k in state if not k.endswith("num_batches_tracked")}
    given = {_in_torch(key, state): value for key, value in arrays.items()}
    faults = [f"no {key}" for key in sorted(wanted - given.keys())]
    faults += [f"{key}, which the model has not" for key in sorted(given.keys() - wanted)]
    faults += [
        f"{key} {list(given[key].shape)}, expected {list(state[key].shape)}"
        for key in sorted(wanted & given.keys())
        if given[key].shape != state[key].shape
    ]
    if faults:
        raise ValueError(f"{path} is of another model: {'; '.join(faults)}")
    model.load_state_dict({k: given.get(k, v) for k, v in state.items()})


def _in_torch(key: str, state: dict[str, torch.Tensor]) -> str:
    stem, _, field = key.rpartition(".")
    name = f"{stem}.{_FIELDS.get(field, field)}"
    return name if name in state else key
