"""Weights that come with snnir, or from `snnir train`, into a model."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from snnir.diffusion.weight_files import misfits
from snnir.errors import CompileError, Violation, fail

FOLDER = Path(__file__).resolve().parent / "weights"
_FIELDS = {"mean": "running_mean", "var": "running_var"}  # the graph's names of what PyTorch's batch norms hold


def shipped(name: str) -> Path | None:
    """The weights file of that name, if snnir comes with one."""
    path = FOLDER / f"{name}.safetensors"
    return path if path.is_file() else None


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Loads a file of `snnir train`, whose keys are those of the graph: layer.field.

    Raises:
        CompileError: the file cannot be read or is of another network; everything that does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        what = f"cannot be read: {error}"
        raise fail("weights-file", what, where=str(path), expected="a .safetensors file of `snnir train`") from None
    state = model.state_dict()
    wanted = {key: value.shape for key, value in state.items() if not key.endswith("num_batches_tracked")}
    given = {_in_torch(key, state): value for key, value in arrays.items() if not _is_absent(key, value, model)}
    shapes = {key: value.shape for key, value in given.items()}
    faults = misfits(str(path), shapes, wanted, said=said, metadata=getattr(model, "graph_metadata", {}))
    faults += [
        Violation(
            "weights-finite", f"{key} holds {'complex numbers' if value.is_complex() else 'NaN or inf'}", str(path)
        )
        for key, value in given.items()
        if value.is_complex() or not bool(value.isfinite().all())
    ]
    if faults:
        raise CompileError(faults, title="weights do not fit the network")
    model.load_state_dict({k: given.get(k, v) for k, v in state.items()})


def _is_absent(key: str, value: torch.Tensor, model: torch.nn.Module) -> bool:
    """Whether an array is what a layer without it computes with: no bias, a norm without weights."""
    stem, _, field = key.rpartition(".")
    layer = dict(model.named_modules()).get(stem)
    if layer is None or field not in ("weight", "bias") or getattr(layer, field, value) is not None:
        return False
    return bool((value == (1 if field == "weight" else 0)).all())


def _in_torch(key: str, state: dict[str, torch.Tensor]) -> str:
    stem, _, field = key.rpartition(".")
    name = f"{stem}.{_FIELDS.get(field, field)}"
    return name if name in state else key
