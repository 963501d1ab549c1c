"""How sinabs's people write neurons: LIF, IAF and ExpLeak, set from the buffers at each call.

sinabs's LIF with norm_input=False computes i = alpha_syn (i + x), v = alpha_mem v + i; ExpLeak is the same without
spikes, IAF with alpha_mem = 1. The decay factors themselves can be given (train_alphas), so Euler's are such, too;
gains and a leak potential go into x (norm_input makes its gain of 1 - alpha_mem, of which a large tau leaves few
digits). What spikes (spike_fn), its gradient (surrogate_grad_fn) and what a spike does (reset_fn) are functions that
the layers take: sinabs's own where they are meant, else such as the file carries. A synapse with a leak potential
behind it, or one that keeps nothing of a step, is an ExpLeak of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.backends.sinabs import helpers as h
from snnir.backends.torch_source import neurons as n
from snnir.backends.torch_source.source import WIDTH, Classes, Layer, call, fitted
from snnir.discretise import recurrence
from snnir.ops import IF, I, Neuron, Op, SpikingNeuron, Threshold
from snnir.semantics import Semantics

LEAST_DECAY = 1e-6
"""Of a membrane whose threshold is subtracted one step late: what is left of it in the next step divides that."""

_ACTIVATION = "MaxSpike, MembraneReset, MembraneSubtract, MultiSpike, SingleExponential, SingleSpike"


@dataclass(frozen=True)
class SinabsDialect:
    """Layers on sinabs's LIF, IAF and ExpLeak."""

    name: str = "sinabs"
    packages: tuple[str, ...] = ("sinabs",)

    def imports(self) -> list[str]:
        """sinabs's layers under the name that its documentation gives them, and its activations."""
        return [
            "from dataclasses import dataclass",
            "import sinabs.layers as sl",
            f"from sinabs.activation import {_ACTIVATION}",
        ]

    def appendix(self) -> str:
        """Nothing."""
        return ""

    def stateless(self, op: Op, classes: Classes) -> Layer | None:
        """None: plain PyTorch."""
        return None

    def neuron(self, op: Neuron, semantics: Semantics, stepwise: bool, fresh: bool, classes: Classes) -> Layer:
        """See `Dialect`."""
        classes.need("keep")
        writer = _Writer(op, n.in_time(op, semantics), classes)
        name = classes.add(n.class_name(op), writer.text())
        if stepwise:
            name = classes.add(f"{n.class_name(op)}Cell", writer.cell(name))
        own = "an integrator is a sum over time" if isinstance(op, I) else ""
        return Layer(call(name, **n.arguments(op, writer.options())), uses=" + ".join(writer.layers), own=own)

    def threshold(self, op: Threshold, semantics: Semantics, classes: Classes) -> Layer:
        """See `Dialect`."""
        positive = bool((op.threshold > 0).all())
        function = _single(op, semantics, positive, classes)
        classes.need("keep", *(["fits"] if _divides(op, positive) else []))
        methods = [
            [
                "def __init__(self, threshold, surrogate_grad_fn):",
                "    super().__init__()",
                *n.keep_fields(op),
                "    self.surrogate_grad_fn = surrogate_grad_fn",
            ],
            [
                "def forward(self, x: Tensor) -> Tensor:",
                *(["    fits(self.threshold > 0)"] if _divides(op, positive) else []),
                f"    return {function}.apply(x, self.threshold, self.surrogate_grad_fn).to(x.dtype)",
            ],
        ]
        text = n.class_text("NAME(nn.Module)", [f"y = 1 where x {semantics.comparison} threshold, else 0."], methods)
        name = classes.add("Threshold", text)
        options = {"surrogate_grad_fn": _surrogate(op, positive, classes)}
        return Layer(call(name, **n.arguments(op, options)), uses="sinabs.activation")


def _divides(op: Op, positive: bool) -> bool:
    """Whether the surrogate gradient is sinabs's, whose width is a share of the threshold."""
    return n.surrogate(op) is None and positive


def _surrogate(op: Op, positive: bool, classes: Classes) -> str:
    """The surrogate gradient as a call: sinabs's own where the network names none."""
    chosen = n.surrogate(op)
    if chosen is None:
        return "SingleExponential()" if positive else f"{classes.add('ExponentialAtOne', h.AT_ONE)}()"
    stem, text = h.SURROGATES[chosen.kind]
    return f"{classes.add(stem, text)}({chosen.parameter!r})"


def _single(op: Op, semantics: Semantics, positive: bool, classes: Classes) -> str:
    """The class of functions that give at most one spike."""
    if semantics.comparison == ">=" and _divides(op, positive):
        return "SingleSpike"
    return classes.add("Spike", h.SPIKE.replace("SIGN", semantics.comparison))


class _Writer:
    """Writes the classes of one population."""

    def __init__(self, op: Neuron, semantics: Semantics, classes: Classes) -> None:
        self.op, self.semantics, self.classes = op, semantics, classes
        self.spiking = isinstance(op, SpikingNeuron)
        self.rule = recurrence(op, semantics)
        self.positive = self.rule.threshold is not None and bool((self.rule.threshold > 0).all())
        # The layer's own current runs straight into the membrane, decayed in the step that it comes.
        decay_syn = self.rule.decay_syn
        self.own_current = decay_syn is not None and bool((decay_syn > 0).all()) and not self.leaks()
        self.apart = decay_syn is not None and not self.own_current
        membrane = ("IAF" if isinstance(op, IF) else "LIF") if self.spiking or self.own_current else "ExpLeak"
        self.layers = [] if isinstance(op, I) else [*(["sl.ExpLeak"] if self.apart else []), f"sl.{membrane}"]

    # -- what the layer takes ----------------------------------------------------------------------------------------

    def options(self) -> dict[str, str]:
        """Constructor arguments beside the parameters."""
        if not self.spiking:
            return {}
        return {"surrogate_grad_fn": _surrogate(self.op, self.positive, self.classes)}

    def spike_fn(self) -> str:
        most, inclusive = self.semantics.spikes_per_step, self.semantics.comparison == ">="
        if most == 1:
            return _single(self.op, self.semantics, self.positive, self.classes)
        if inclusive:
            return "MultiSpike" if most is None else f"MaxSpike({most})"
        one = self.classes.add("Spike", h.SPIKE.replace("SIGN", ">"))
        return f"{self.classes.add('StrictSpikes', h.STRICT.replace('ONE', one))}({most})"

    def held_reset(self) -> bool:
        """Whether the reset needs v_reset, or what a late one subtracts, which are tensors."""
        if self.late():
            return True
        if not self.spiking or self.semantics.reset != "value":
            return False
        return not n.resets_to_zero(self.op, self.semantics) or self.attached()

    def late(self) -> bool:
        """Whether the threshold is subtracted one step after the spike: at once, it is divided by a step's decay."""
        return self.spiking and self.semantics.reset == "delayed-subtract" and bool(self.op.time_constants)

    def attached(self) -> bool:
        """Whether gradients pass a reset to a value; they never pass sinabs's own."""
        return n.detach_reset(self.op) is False and self.semantics.spikes_per_step == 1

    def reset_fn(self) -> str:
        """The reset as a call; of v_reset where that is not 0."""
        if self.semantics.reset.endswith("subtract"):
            given = "self.v_threshold / self.alpha_mem" if self.late() else ""
            if n.detach_reset(self.op) is not True:
                return f"MembraneSubtract({given})"
            return f"{self.classes.add('DetachedSubtract', h.SUBTRACT)}({given})"
        if not self.held_reset():
            return "MembraneReset()"
        body = h.ATTACHED if self.attached() else h.DETACHED
        return f"{self.classes.add('ResetTo', h.RESET.replace('BODY', body))}(self.v_reset)"

    def made(self) -> list[str]:
        """The statements of the constructor that make sinabs's layers."""
        self.classes.need("derived")
        leak = "sl.ExpLeak(1.0, train_alphas=True)"
        lines = [*self.bare("synapse", leak)] if self.apart else []
        kind = self.layers[-1]
        if kind == "sl.ExpLeak":
            return [*lines, *self.bare("neurons", leak)]
        given = dict.fromkeys(("spike_fn", "reset_fn", "surrogate_grad_fn"), "None")
        if self.spiking:
            reset = "None" if self.held_reset() else self.reset_fn()
            given = {"spike_fn": self.spike_fn(), "reset_fn": reset, "surrogate_grad_fn": "surrogate_grad_fn"}
        if kind == "sl.IAF":
            return [*lines, *self.bare("neurons", call(kind, **given))]
        taus = ["1.0", "tau_syn=1.0"] if self.own_current else ["1.0"]
        layer = call(kind, *taus, **given, train_alphas="True", norm_input="False")
        return [*lines, *self.bare("neurons", layer)]

    def bare(self, name: str, layer: str) -> list[str]:
        """The statement that makes a layer; its parameters are set at each call."""
        line = f"self.{name} = {self.classes.add('bare', h.BARE)}({layer})"
        if len(line) <= WIDTH - 8:
            return [line]
        return [f"{line[: line.index('(') + 1]}", *fitted("", layer, 4, WIDTH - 8), ")"]

    # -- coefficients ------------------------------------------------------------------------------------------------

    def tau(self) -> str:
        return "tau_mem" if n.current_based(self.op) else "tau"

    def leaks(self) -> bool:
        return bool(np.any(getattr(self.op, "v_leak", 0.0)))

    def factors(self) -> list[str]:
        """What the input of each layer is multiplied by; '' for 1, which `conditions` holds the parameter to."""
        membrane = n.gain(self.op, self.semantics)
        if not n.current_based(self.op):
            return ["" if self.is_one("r") else membrane]
        synapse = n.times(n.rise("tau_syn", self.semantics), "self.w_in")
        if self.apart:
            return ["" if self.is_one("w_in") else synapse, "" if self.is_one("r") else membrane]
        return [f"{synapse} * {membrane} / self.alpha_syn"]

    def is_one(self, field: str) -> bool:
        """Whether a gain can be left out."""
        there = self.semantics.gain == "unit" and not self.own_current
        return there and bool((getattr(self.op, field) == 1).all())

    def gains(self) -> list[str]:
        """What the factors are called: a parameter as it is, or the layer would register it again."""
        names = ["self.gain_syn", "self.gain"] if self.apart else ["self.gain"]
        return [name if " " in factor else factor for name, factor in zip(names, self.factors(), strict=True)]

    def drive(self) -> str:
        """What every step adds to the membrane's input; '' for nothing."""
        return "(1 - self.alpha_mem) * self.v_leak" if self.leaks() else ""

    def conditions(self) -> list[str]:
        """What must hold of the parameters for the layers to compute the neuron, as they did when it was written."""
        found = [f"self.{field} == 1" for field in ("w_in", "r") if field in self.op.arrays and self.is_one(field)]
        if "v_leak" in self.op.arrays and not self.leaks():
            found.append("self.v_leak == 0")
        if self.own_current:
            found.append("self.alpha_syn > 0")
        if self.late():
            found.append(f"self.alpha_mem.abs() > {LEAST_DECAY}")
        if self.spiking and (_divides(self.op, self.positive) or self.semantics.spikes_per_step != 1):
            found.append("self.v_threshold > 0")
        if self.spiking and n.resets_to_zero(self.op, self.semantics) and not self.held_reset():
            found.append("self.v_reset == 0")
        return found

    def start(self) -> list[str]:
        """The method `start`."""
        lines = []
        if self.op.time_constants:
            lines.append(f"self.alpha_mem = {n.decay(self.tau(), self.semantics)}")
        if n.current_based(self.op):
            lines.append(f"self.alpha_syn = {n.decay('tau_syn', self.semantics)}")
        held = zip(self.gains(), self.factors(), strict=True)
        lines += [f"{name} = {factor}" for name, factor in held if name != factor]
        lines += [f"self.drive = {self.drive()}"] if self.drive() else []
        if self.conditions():
            self.classes.need("fits")
            lines += fitted("", f"fits({', '.join(self.conditions())})", 0, WIDTH - 8)
        zero = "torch.zeros_like(x)"
        v = f"{zero} + self.v_leak" if self.leaks() and self.semantics.start == "rest" else zero
        return [
            "def start(self, x: Tensor):",
            '    """The coefficients, and the state before the first step; x: (B, ...), such as a step\'s."""',
            *(f"    {line}" for line in lines),
            f"    return {f'({zero}, {v})' if n.current_based(self.op) else f'({v},)'}",
        ]

    # -- a call ------------------------------------------------------------------------------------------------------

    def values(self) -> dict[str, str]:
        """Parameters and states of the (last) layer."""
        found = {} if isinstance(self.op, IF) else {"alpha_mem": "self.alpha_mem"}
        if self.own_current:
            found |= {"alpha_syn": "self.alpha_syn", "i_syn": "i_syn"}
        found["v_mem"] = "v_mem"
        if self.spiking:
            found["spike_threshold"] = "self.v_threshold"
            found |= {"reset_fn": self.reset_fn()} if self.held_reset() else {}
        if self.semantics.membrane_floor is not None:
            found["min_v_mem"] = repr(float(self.semantics.membrane_floor))
        return found

    def run(self) -> list[str]:
        """The method `run`."""
        through = self.classes.add("through", h.THROUGH)
        given = [f"{name} * x" if name else "x" for name in self.gains()]
        lines, states = ["(v_mem,) = state"], "v_mem"
        if n.current_based(self.op):
            lines, states = ["i_syn, v_mem = state"], "i_syn, v_mem"
        if self.apart:
            values = {"alpha_mem": "self.alpha_syn", "v_mem": "i_syn"}
            lines += fitted("x, i_syn = ", call(through, "self.synapse", given[0], **values), 0, WIDTH - 8)
        x = f"{given[-1]} + self.drive" if self.drive() else given[-1]
        # A layer with a current of its own gives both of its states.
        after = states if self.own_current else "v_mem"
        lines += fitted(f"y, {after} = ", call(through, "self.neurons", x, **self.values()), 0, WIDTH - 8)
        if not self.spiking and self.semantics.membrane_floor is not None:
            lines.append(f"y = y.clamp(min={float(self.semantics.membrane_floor)!r})  # the layer bounds its state")
        lines.append(f"return y, ({states}{',' if states == 'v_mem' else ''})")
        return [
            "def run(self, x: Tensor, state):",
            '    """The output, and the state after it."""',
            *(f"    {line}" for line in lines),
        ]

    # -- classes -----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The class for whole sequences."""
        if isinstance(self.op, I):
            return n.integrator(self.op, self.semantics)
        init = [
            *n.definition(self.op, *(["surrogate_grad_fn"] if self.spiking else [])),
            "    super().__init__()",
            *n.keep_fields(self.op),
            *(f"    {line}" for line in self.made()),
        ]
        forward = ["def forward(self, x: Tensor) -> Tensor:", "    return self.run(x, self.start(x[0]))[0]"]
        doc = n.describe(self.op, self.semantics)
        if self.spiking and self.semantics.spikes_per_step != 1:
            doc.append("As many spikes in a step as the threshold fits into v.")
        if self.semantics.membrane_floor is not None:
            doc.append(f"v is at least {self.semantics.membrane_floor:g}.")
        return n.class_text("NAME(nn.Module)", [*doc, n.WHOLE], [init, self.start(), self.run(), forward])

    def cell(self, base: str) -> str:
        """The class for one step, on that for sequences."""
        lines = [
            "y, state = self.run(x.unsqueeze(0), self.start(x) if state is None else state)",
            "return y.squeeze(0), state",
        ]
        return n.cell_text(self.op, self.semantics, base, lines)
