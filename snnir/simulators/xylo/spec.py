"""A network as Xylo holds it: weights, decays, thresholds, and the ranges that they may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

FAMILIES = ("xylo-audio2", "xylo-audio3", "xylo-imu")
MAX_INPUT_EVENTS = 15
MAX_HIDDEN_SPIKES = 31
MAX_OUTPUT_SPIKES = 1

HIGH, LOW = 32767, -32768  # of every state
_INTEGERS = (
    dict.fromkeys(("weights_in", "weights_rec", "weights_out"), (-128, 127))
    | dict.fromkeys(("dash_mem", "dash_mem_out", "dash_syn", "dash_syn_2", "dash_syn_out"), (0, 15))
    | dict.fromkeys(("threshold", "threshold_out", "bias", "bias_out"), (LOW, HIGH))
)
_SHIFTS = ("weight_shift_in", "weight_shift_rec", "weight_shift_out")


@dataclass(frozen=True, kw_only=True, eq=False)
class XyloSpec:
    """A network as Xylo holds it, under the key names and shapes of Rockpool's own specification.

    Shapes, with S synapses (1 or 2) per hidden neuron; a missing last axis means S = 1:

    - `weights_in` (Nin, N, S): column n feeds hidden neuron n. N is Nhid on Audio 2, and the number of input
      expansion neurons, which are the *first* hidden neurons, on Audio 3 and IMU.
    - `weights_rec` (Nhid, Nhid, S): source by target.
    - `weights_out` (N, Nout): row n leaves from hidden neuron Nhid - N + n. N is Nhid on Audio 2, and the number of
      output expansion neurons, the *last* hidden neurons, on Audio 3 and IMU.
    - `dash_*`, `threshold*`, `bias*`: one value per hidden or output (`_out`) neuron. `dash_syn_2` belongs to the
      second synapse. A dash d decays with a time constant of -dt / ln(1 - 2**-d); 0 forgets at once.
    - `aliases`: for each hidden neuron, the hidden neurons that its spikes are copied to. Empty: none anywhere.

    A weight acts as int16(weight << weight_shift), which wraps for shifts above 8. Thresholds and biases are not
    shifted. Biases have 16 bits here, as in xylosim, but 8 on the chip. `dt` is the time step in seconds; it changes
    nothing in the arithmetic. The limits of a family (channels, neurons, fan-out) are the compiler's to check.

    Raises ValueError, with every problem listed, if a shape or a range does not fit.
    """

    weights_in: Array
    weights_rec: Array
    weights_out: Array
    dash_mem: Array
    dash_mem_out: Array
    dash_syn: Array
    dash_syn_2: Array
    dash_syn_out: Array
    threshold: Array
    threshold_out: Array
    bias: Array
    bias_out: Array
    dt: float
    family: str
    weight_shift_in: int = 0
    weight_shift_rec: int = 0
    weight_shift_out: int = 0
    aliases: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError("not a Xylo specification: " + "; ".join(problems))
        for name, (low, _) in _INTEGERS.items():
            kind = np.int16 if low == LOW else np.int8 if low < 0 else np.uint8
            values = np.array(getattr(self, name), kind)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        aliases = self.aliases or ((),) * self.n_hidden
        object.__setattr__(self, "aliases", tuple(tuple(map(int, targets)) for targets in aliases))

    def _problems(self) -> Iterator[str]:
        rec, into, out = (np.shape(w) for w in (self.weights_rec, self.weights_in, self.weights_out))
        hidden, outputs = (*rec, 0)[0], (0, *out)[-1]
        synapses = ((), (1,), (2,))
        if len(rec) < 2 or rec[1] != hidden or rec[2:] not in synapses:
            yield f"weights_rec has shape {rec}, expected (Nhid, Nhid) or (Nhid, Nhid, 1 or 2)"
        if len(into) < 2 or into[1] > hidden or into[2:] not in synapses:
            yield f"weights_in has shape {into}, expected (Nin, at most {hidden}) or (Nin, at most {hidden}, 1 or 2)"
        if len(out) != 2 or out[0] > hidden:
            yield f"weights_out has shape {out}, expected (at most {hidden}, Nout)"
        for name, (low, high) in _INTEGERS.items():
            values = np.asarray(getattr(self, name))
            size = outputs if name.endswith("_out") else hidden
            if not name.startswith("weights") and values.shape != (size,):
                yield f"{name} has shape {values.shape}, expected ({size},)"
            if not is_integer(values):
                yield f"{name} must hold integers"
            elif values.size and (values.min() < low or values.max() > high):
                yield f"{name} spans {values.min()}..{values.max()}, allowed {low}..{high}"
        for name in _SHIFTS:
            if getattr(self, name) not in range(16):
                yield f"{name} is {getattr(self, name)}, allowed 0..15"
        if len(self.aliases) not in (0, hidden):
            yield f"aliases has {len(self.aliases)} entries, expected none or one per hidden neuron ({hidden})"
        if any(target not in range(hidden) for targets in self.aliases for target in targets):
            yield f"aliases must name hidden neurons, 0..{hidden - 1}"
        if not (np.isfinite(self.dt) and self.dt > 0):
            yield f"dt is {self.dt}, expected a positive number of seconds"
        if self.family not in FAMILIES:
            yield f"family is {self.family!r}, expected one of {', '.join(FAMILIES)}"

    @property
    def n_in(self) -> int:
        return self.weights_in.shape[0]

    @property
    def n_hidden(self) -> int:
        return self.weights_rec.shape[0]

    @property
    def n_out(self) -> int:
        return self.weights_out.shape[1]

    @property
    def n_synapses(self) -> int:
        """Synaptic currents per hidden neuron: 1 or 2."""
        return max(w.shape[2] if w.ndim == 3 else 1 for w in (self.weights_in, self.weights_rec))

    def to_npz_dict(self) -> dict[str, Array]:
        """Plain arrays for `numpy.savez`, readable with `allow_pickle=False`.

        `aliases` becomes (source, target) pairs, and the hidden bias appears twice: Rockpool's simulator reads it as
        `bias`, its chip configuration as `bias_hidden` (and drops `bias` without a word).
        """
        arrays: dict[str, Array] = {name: getattr(self, name) for name in _INTEGERS}
        arrays["bias_hidden"] = arrays["bias"]
        arrays |= {name: np.array(getattr(self, name)) for name in _SHIFTS}
        arrays["aliases"] = alias_pairs(self.aliases)
        arrays["dt"] = np.array(self.dt)
        arrays["family"] = np.array(self.family)
        return arrays

    @classmethod
    def from_npz_dict(cls, arrays: Mapping[str, Array]) -> XyloSpec:
        """The inverse of `to_npz_dict`; takes a loaded `.npz` as it is.

        Raises ValueError if a key is missing or unknown, or if `bias` and `bias_hidden` differ.
        """
        found = {name: np.asarray(arrays[name]) for name in arrays}
        hidden_bias = found.pop("bias_hidden", None)
        if hidden_bias is not None and not np.array_equal(hidden_bias, found.setdefault("bias", hidden_bias)):
            raise ValueError("bias and bias_hidden differ: both name the hidden neurons' bias")
        names = {field.name for field in fields(cls)}
        missing, unknown = names - set(found), set(found) - names
        if missing or unknown:
            raise ValueError(f"not a Xylo specification: missing {sorted(missing)}, unknown {sorted(unknown)}")
        values: dict[str, Any] = {name: array if array.ndim else array.item() for name, array in found.items()}
        pairs = found["aliases"].reshape(-1, 2).tolist()
        sources = range((*found["weights_rec"].shape, 0)[0])
        if any(source not in sources for source, _ in pairs):
            raise ValueError(f"aliases must name hidden neurons, 0..{len(sources) - 1}")
        values["aliases"] = tuple(tuple(target for source, target in pairs if source == n) for n in sources)
        return cls(**values)


def alias_pairs(aliases: Sequence[Sequence[int]]) -> Array:
    pairs = [(source, target) for source, targets in enumerate(aliases) for target in targets]
    return np.array(pairs, int).reshape(-1, 2)


def is_integer(values: Array) -> bool:
    if values.dtype.kind == "f":
        return bool(np.all(np.isfinite(values) & (values == np.rint(values))))
    return values.dtype.kind in "iub"
