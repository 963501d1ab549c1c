"""Reads a live network of Rockpool: Sequential and Residual of its torch layers, trained or not.

Rockpool's layers take (B, T, N), ours (T, B, N). What a layer computes in a step, by experiment with Rockpool 3.1.0
(tests/frontends/test_rockpool.py runs every layer against its graph):

* LinearTorch: y = x weight + bias, weight (in, out).
* LIFTorch: i = (i + x + w_rec' s) beta, s the spikes of the step before, for each of a neuron's synapses, whose inputs
  lie next to one another; v = alpha v + sum(i) + bias; floor(v / threshold) spikes where v >= threshold, at most
  max_spikes_per_dt, each of which takes the threshold off v. States start at 0.
* LIFNeuronTorch: the same without i: x goes into v. LIFBitshiftTorch: LIFTorch with alpha = 1 - 2^-dash, dash the
  rounded log2(tau / dt), likewise beta, and at most 31 spikes. ExpSynTorch: i = (i + x) beta, i is its output.

So a synapse is a current with w_in = beta, a bias the leak potential bias / (1 - alpha), and a time constant whatever
gives the layer's very own alpha or beta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from snnir import ops
from snnir.errors import CompileError, UsageError, Violation
from snnir.graph import Edge, Graph
from snnir.learning import DROPOUT
from snnir.ops import Array, Op
from snnir.semantics import ROCKPOOL_SEMANTICS, Semantics

if TYPE_CHECKING:
    from torch import nn

_SPIKES = ("StepPWL", "PeriodicExponential")
_GONE = 1e-3  # of a step: a time constant after which nothing is left, in double precision too


def is_rockpool(source: Any) -> bool:
    """Whether an object is a module of Rockpool's (which is not imported for asking)."""
    return any(cls.__module__.partition(".")[0] == "rockpool" for cls in type(source).__mro__)


def load_rockpool(
    module: nn.Module, dt: float | None = None, semantics: Semantics | None = None, **options: Any
) -> Graph:
    """The network in a live module of Rockpool's.

    Args:
        module: a Sequential or Residual of LinearTorch, LIFTorch, LIFBitshiftTorch, LIFNeuronTorch, ExpSynTorch and
            dropout (which is off), or one of these alone. Its parameters are copied; what its states are does not
            matter: a graph starts at rest.
        dt: the time step in seconds; it must be the layers' own, where one has one.
        semantics: what a step means; default what Rockpool does.
        options: none exist.

    Returns:
        A verified graph, with input `input` and output `output`, ops named by module paths.

    Raises:
        CompileError: with every layer that cannot be read, and why.
        UsageError: an option is given.
    """
    if options:
        raise UsageError(f"reading a network of Rockpool takes no option {', '.join(options)}")
    reader = _Reader()
    size = int(getattr(module, "size_in", 0) or 0)
    reader.ops["input"] = ops.Input(shape=(size,))
    if size == 0:
        reader.refuse("", "has no input size", expected="a network that begins with a layer of Rockpool's")
    path = "" if _kind(module) in _COMBINATORS else str(getattr(module, "class_name", type(module).__name__))
    result = reader.read(module, path.lower(), ("input",))
    rule = reader.rule(dt, semantics)
    if reader.violations:
        raise CompileError(reader.violations, title=f"{type(module).__name__} cannot be read")
    reader.add("output", ops.Output(), result)
    metadata = {DROPOUT: reader.dropout} if reader.dropout else {}
    graph = Graph(reader.ops, tuple(reader.edges), rule, metadata=metadata)
    if semantics is not None:
        own = rule.dt if semantics.dt is None else semantics.dt
        graph = Graph(graph.ops, graph.edges, semantics.with_(dt=own), metadata=metadata)
    return graph.verify()


_Sources = tuple[str, ...]
"""The ops whose values are summed."""


@dataclass
class _Reader:
    ops: dict[str, Op] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    dropout: dict[str, float] = field(default_factory=dict)

    def refuse(self, where: str, what: str, expected: str = "", hint: str = "") -> None:
        self.violations.append(Violation("rockpool-module", what, where=where, expected=expected, hint=hint))

    def add(self, name: str, op: Op, sources: _Sources) -> _Sources:
        """Adds an op behind the sum of `sources`; a source that counts twice goes through a factor."""
        self.ops[name] = op
        for source in dict.fromkeys(sources):
            count = sources.count(source)
            if count > 1:
                factor = f"{name}.{source}.times"
                self.ops[factor] = ops.Scale(scale=np.asarray(float(count)))
                self.edges.append(Edge(source, factor))
                source = factor
            self.edges.append(Edge(source, name))
        return (name,)

    def rule(self, dt: float | None, semantics: Semantics | None) -> Semantics:
        """What a step means: what the layers, which must agree, say of it; the limit on spikes may be said for them."""
        lengths = sorted(set(self.steps.values()) | ({dt} if dt is not None else set()))
        if len(lengths) > 1:
            said = ", ".join(f"{where} {length:g} s" for where, length in self.steps.items())
            asked = "" if dt is None else f"; {dt:g} s is asked for"
            self.refuse("", f"time steps differ: {said}{asked}", expected="one dt for all layers")
        if len(set(self.most.values())) > 1 and semantics is None:
            said = ", ".join(f"{where} {most}" for where, most in self.most.items())
            self.refuse(
                "",
                f"max_spikes_per_dt differs: {said}",
                expected="one max_spikes_per_dt for all layers",
                hint="or say one for all: semantics=ROCKPOOL_SEMANTICS.with_(spikes_per_step=...)",
            )
        most = next(iter(self.most.values()), ROCKPOOL_SEMANTICS.spikes_per_step)
        return ROCKPOOL_SEMANTICS.with_(dt=lengths[0] if lengths else None, spikes_per_step=most)

    # -- modules -----------------------------------------------------------------------------------------------------

    def read(self, module: Any, path: str, sources: _Sources) -> _Sources:
        """Adds a module behind `sources`; gives the ops whose sum is its output."""
        kind = _kind(module)
        if kind in _COMBINATORS:
            result = sources
            for name in module._submodulenames:
                result = self.read(getattr(module, name), f"{path}.{name}" if path else name, result)
            return result if kind == "TorchSequential" else (*result, *sources)
        layer = _LAYERS.get(kind)
        if layer is None:
            takes = ", ".join(dict.fromkeys([*_COMBINATORS, *_LAYERS]))
            hint = "build the network as Sequential and Residual of such layers, or write it in snnir.nn"
            self.refuse(path, f"{_said(module)} cannot be read", expected=takes, hint=hint)
            return sources
        return layer(self, module, path, sources)

    def timed(self, module: Any, path: str) -> float:
        """The layer's time step; noise is refused on the way."""
        dt = float(module.dt)
        self.steps[path] = dt
        if np.any(_array(module.noise_std) != 0):
            self.refuse(
                path, f"adds noise of standard deviation {float(module.noise_std):g}", hint="set noise_std to 0"
            )
        return dt

    def decay(self, value: Array, dt: float, path: str, what: str) -> Array:
        """The time constant in seconds of a decay per step; a decay of 0 is one that nothing survives."""
        if not ((value >= 0) & (value < 1)).all():
            worst = value.flat[np.abs(value - 0.5).argmax()]
            self.refuse(path, f"{what} is {worst:g}", expected="a decay per step from 0 to below 1")
            return np.ones_like(value)
        with np.errstate(divide="ignore"):
            return np.maximum(-dt / np.log(value), _GONE * dt)

    def neurons(self, module: Any, path: str, dt: float, alpha: Array) -> dict[str, Any]:
        """What LIFTorch and LIFNeuronTorch have in common: the membrane and its spikes."""
        made_by = getattr(getattr(module.spike_generation_fn, "__self__", None), "__name__", "")
        if made_by not in _SPIKES:
            what = f"spikes are made by {made_by or module.spike_generation_fn}"
            self.refuse(path, what, expected=" or ".join(_SPIKES))
        threshold, size = _array(module.threshold), module.size_out
        if not (threshold > 0).all():
            self.refuse(path, f"threshold is {threshold.min():g}", expected="above 0, as Rockpool divides by it")
        self.most[path] = int(_array(module.max_spikes_per_dt))
        tau = self.decay(alpha, dt, path, "the membrane's decay")
        return {
            "tau": np.broadcast_to(tau, (size,)).copy(),
            "v_leak": np.broadcast_to(_array(module.bias) / np.maximum(1 - alpha, 1e-30), (size,)).copy(),
            "v_threshold": np.broadcast_to(threshold, (size,)).copy(),
        }


def _linear(reader: _Reader, module: Any, path: str, sources: _Sources) -> _Sources:
    weight, bias = _array(module.weight, np.float32).T.copy(), module.bias
    if bias is None:
        return reader.add(path, ops.Linear(weight=weight), sources)
    each = np.broadcast_to(_array(bias, np.float32), weight.shape[:1]).copy()
    return reader.add(path, ops.Affine(weight=weight, bias=each), sources)


def _torch_linear(reader: _Reader, module: Any, path: str, sources: _Sources) -> _Sources:
    weight = _array(module.weight, np.float32).copy()
    if module.bias is None:
        return reader.add(path, ops.Linear(weight=weight), sources)
    return reader.add(path, ops.Affine(weight=weight, bias=_array(module.bias, np.float32).copy()), sources)


def _lif(reader: _Reader, module: Any, path: str, sources: _Sources) -> _Sources:
    """LIFTorch. With several synapses, each takes its own slice; where they decay alike, they are one current."""
    dt, size, synapses = reader.timed(module, path), int(module.size_out), int(module.n_synapses)
    alpha, beta = _array(module.alpha), np.broadcast_to(_array(module.beta), (size, synapses))
    membrane = reader.neurons(module, path, dt, alpha)
    tau_mem = membrane.pop("tau")
    tau_syn = reader.decay(beta, dt, path, "a synapse's decay")
    alike = bool((beta == beta[:, :1]).all())
    if alike:
        neuron: Op = ops.CubaLIF(tau_mem=tau_mem, tau_syn=tau_syn[:, 0], w_in=beta[:, 0].copy(), **membrane)
    else:
        neuron = ops.LIF(tau=tau_mem, **membrane)
    arriving = sources
    if module._has_rec:
        # Only LIFTorch itself feeds it, and the edge back is one step late, as Rockpool's recurrent spikes are.
        arriving = (*sources, f"{path}.w_rec")
    if synapses == 1:
        reader.add(path, neuron, arriving)
    else:
        parts: list[str] = []
        for k in range(synapses):
            part = f"{path}.synapse{k}"
            reader.add(part, ops.Slice(axis=0, start=k, stop=size * synapses, step=synapses), arriving)
            if not alike:
                current = ops.LI(tau=tau_syn[:, k].copy(), r=beta[:, k].copy())
                (part,) = reader.add(f"{path}.current{k}", current, (part,))
            parts.append(part)
        reader.add(path, neuron, tuple(parts))
    if module._has_rec:
        weight = _array(module.w_rec, np.float32).T.copy()
        reader.add(f"{path}.w_rec", ops.Linear(weight=weight), (path,))
    return (path,)


def _lif_neuron(reader: _Reader, module: Any, path: str, sources: _Sources) -> _Sources:
    dt = reader.timed(module, path)
    alpha = np.exp(-np.float32(dt) / _array(module.tau_mem, np.float32)).astype(np.float64)
    return reader.add(path, ops.LIF(**reader.neurons(module, path, dt, alpha)), sources)


def _exp_syn(reader: _Reader, module: Any, path: str, sources: _Sources) -> _Sources:
    dt, size = reader.timed(module, path), (int(module.size_out),)
    beta = np.broadcast_to(np.exp(-np.float32(dt) / _array(module.tau, np.float32)).astype(np.float64), size)
    tau = reader.decay(beta, dt, path, "the decay")
    return reader.add(path, ops.LI(tau=tau.copy(), r=beta.copy()), sources)


def _nothing(reader: _Reader, module: Any, path: str, sources: _Sources) -> _Sources:
    return sources


def _dropout(reader: _Reader, module: Any, path: str, sources: _Sources) -> _Sources:
    """Dropout, which is off in a compiled network."""
    if module.p:
        reader.dropout[path] = float(module.p)
    return sources


_COMBINATORS = ("TorchSequential", "TorchResidual")
_LAYERS: Mapping[str, Callable[[_Reader, Any, str, _Sources], _Sources]] = {
    "LinearTorch": _linear,
    "LIFTorch": _lif,
    "LIFBitshiftTorch": _lif,
    "LIFNeuronTorch": _lif_neuron,
    "ExpSynTorch": _exp_syn,
    "UnitDropout": _dropout,
    "TimeStepDropout": _dropout,
    "torch.nn.Linear": _torch_linear,
    "torch.nn.Identity": _nothing,
    "torch.nn.Dropout": _dropout,
}


def _kind(module: Any) -> str:
    """The layer that a module is; '' for one that only derives from it and may compute something else."""
    cls = type(module)
    if cls.__name__ == "TorchModulePatch":  # a layer of PyTorch's that Rockpool has given its own face
        cls = cls.__mro__[1]
        return f"torch.nn.{cls.__name__}" if cls.__module__.startswith("torch.nn.") else ""
    return cls.__name__ if cls.__module__.partition(".")[0] == "rockpool" else ""


def _said(module: Any) -> str:
    cls = type(module)
    if cls.__name__ == "TorchModulePatch":
        cls = cls.__mro__[1]
    return f"{cls.__module__}.{cls.__qualname__}"


def _array(value: Any, dtype: Any = np.float64) -> Array:
    """A parameter as an array; a number that is none of PyTorch's, too."""
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value).astype(dtype)
