"""What training changes: which arrays of an op its author trains, as the op's metadata says it.

`metadata["learned"]` is False where training leaves all arrays alone, True for a `Constant` that is trained, and a
tuple of field names where it differs from what ops of that kind do by themselves: weights, biases and factors are
trained, constants and neurons' parameters are not. `metadata["literal"]` is of a number in the code, which no file of
weights holds. `metadata["derived"]` names the parameters that a field was computed from in forward(): what is trained
there is not the array itself. `metadata["momentum"]` of a batch norm is how fast its statistics follow in training, as
PyTorch has it; None for means over all batches. A graph's own `metadata["dropout"]` says what its model drops out in
training, layer -> probability: no op stands for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from snnir.errors import CompileError, Violation
from snnir.ops import Constant, Neuron, Op, Threshold

LEARNED, LITERAL, DERIVED, MOMENTUM, DROPOUT = "learned", "literal", "derived", "momentum", "dropout"

_WEIGHTED = ("Linear", "Affine", "Conv1d", "Conv2d", "ConvTranspose2d", "BatchNorm", "LayerNorm")
TRAINED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_WEIGHTED, ("weight", "bias")),
    "Scale": ("scale",),
    "TokenShift": ("mix",),
    "Wkv": ("log_decay", "first"),
}
"""The fields that are trained where nothing else is said, by op kind."""


def by_default(kind: type[Op]) -> tuple[str, ...]:
    """The fields of an op of that kind that are trained where nothing is said."""
    return tuple(name for name in TRAINED.get(kind.__name__, ()) if name in kind.arrays)


def learned(op: Op) -> tuple[str, ...]:
    """The fields of `op` that training changes."""
    said = op.metadata.get(LEARNED)
    if said is False:
        return ()
    if said is None or said is True:
        return op.arrays if said and isinstance(op, Constant) else by_default(type(op))
    return tuple(name for name in op.arrays if name in said and getattr(op, name) is not None)


def note(kind: type[Op], fields: Iterable[str]) -> dict[str, Any]:
    """The metadata that say that training changes these fields of an op of that kind; empty where it does anyway."""
    usual, given = by_default(kind), set(fields)
    found = tuple(name for name in kind.arrays if name in given)
    if set(found) == set(usual):
        return {}
    if not found:
        return {LEARNED: False}
    return {LEARNED: True if issubclass(kind, Constant) else found}


def merged(op: Op, parts: Iterable[Op]) -> Op:
    """`op`, trained where one of the ops whose work it does is; neurons, and what has no arrays, stay as they are.

    A bias is trained where one of theirs is, or where one that is not 0 is multiplied with trained weights. One op of
    the same kind in another form is trained as it was, field by field.
    """
    if not op.arrays or isinstance(op, (Neuron, Threshold)):
        return op
    behind = [part for part in parts if part.arrays]
    there = [(part, set(learned(part))) for part in behind if not isinstance(part, (Neuron, Threshold))]
    if not there:
        return op
    usual = by_default(type(op)) or (op.arrays if isinstance(op, Constant) else ())
    if len(there) == 1 and type(there[0][0]) is type(op):
        fields = there[0][1]
        weights, offsets = bool(fields - {"bias"}), ["v_leak"]  # what neurons hand on is multiplied with its weights
    else:
        weights = any(names - {"bias"} for _, names in there)
        fields = set(usual) - {"bias"} if weights else set()
        offsets = ["mean", "v_leak", *(["bias"] if len(there) > 1 else [])]  # nothing multiplies the bias of one
    bias = any("bias" in names for _, names in there) or (weights and any(_shifts(part, offsets) for part in behind))
    if bias and isinstance(op, Constant):
        weights, fields = True, set(usual)
    said = note(type(op), (name for name in usual if (bias if name == "bias" else name in fields)))
    metadata = {key: value for key, value in op.metadata.items() if key not in (LEARNED, LITERAL, DERIVED)} | said
    if all(part.metadata.get(LITERAL) for part, _ in there):
        metadata[LITERAL] = True
    derived = {name for part, _ in there for names in part.metadata.get(DERIVED, {}).values() for name in names}
    if derived and (weights or bias):
        metadata[DERIVED] = {name: tuple(sorted(derived)) for name in learned(op.with_(metadata=said))}
    return op if metadata == dict(op.metadata) else op.with_(metadata=metadata)  # type: ignore[no-any-return]


def _shifts(op: Op, names: Iterable[str]) -> bool:
    """Whether an op adds something to what it, or what is behind it, multiplies: one of these fields, not 0."""
    offsets = (getattr(op, name, None) for name in names)
    return any(offset is not None and bool(offset.any()) for offset in offsets)


def check_trainable(ops: Mapping[str, Op], metadata: Mapping[str, Any] | None = None) -> None:
    """Training the arrays of these ops trains what their author does, and as he does it.

    Args:
        ops: of a graph; metadata: the graph's own.

    Raises:
        CompileError: nothing is trained; an array was computed from the author's parameters, which training it would
            not reach; a batch norm averages its statistics over all batches, or values are dropped out, which no
            emitted module does.
    """
    faults = [
        Violation(
            "learned-derived",
            f"{field} is computed from {', '.join(names)}, and training would change the result alone",
            where=name,
            loc=str(op.loc or ""),
            expected="parameters that the network uses as they are",
            hint="torch.nn.utils.parametrize.remove_parametrizations (or prune.remove, remove_weight_norm, ...) makes "
            "a parameter of the result; or train the module itself in PyTorch",
        )
        for name, op in ops.items()
        for field, names in op.metadata.get(DERIVED, {}).items()
    ]
    faults += [
        Violation(
            "learned-statistics",
            "averages its statistics over all batches of the training (momentum=None)",
            where=name,
            loc=str(op.loc or ""),
            expected="a momentum",
            hint="train the module itself in PyTorch, and load it with its weights",
        )
        for name, op in ops.items()
        if MOMENTUM in op.metadata and op.metadata[MOMENTUM] is None
    ]
    faults += [
        Violation(
            "learned-dropout",
            f"drops out values in training, {_dropped(probability)} of them, which emitted modules do not",
            where=where,
            expected="a network without dropout",
            hint="train the module itself in PyTorch, and load it with its weights; or leave dropout out (p=0)",
        )
        for where, probability in (metadata or {}).get(DROPOUT, {}).items()
    ]
    if not any(map(learned, ops.values())):
        hint = "requires_grad_(True) on what is to be trained, before the network is loaded"
        faults.append(Violation("learned-nothing", "the network has no array that training changes", hint=hint))
    if faults:
        raise CompileError(faults)


def _dropped(probability: Any) -> str:
    return f"{probability:g}" if isinstance(probability, (int, float)) else str(probability)
