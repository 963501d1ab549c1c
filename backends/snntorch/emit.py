"""How snnTorch's people write neurons: snn.Leaky and snn.Synaptic, their parameters made from the buffers.

snn.Leaky computes clamp(beta) mem + x and spikes where mem - threshold > 0; a leak potential is a constant input, a
gain is a factor of x. Its own reset without delay first looks at the membrane that the step before left ("avoid double
reset"), which is NIR's reset as long as that is below the threshold. So with v_reset = 0 <= v_threshold the layer
resets itself ('zero', reset_delay=False); else it only integrates and fires ('none'), and one line resets.
snn.Synaptic has no leak potential. A tau below DT makes a negative beta, which snnTorch clamps to 0: written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.backends.torch_source import neurons as n
from snnir.backends.torch_source.source import WIDTH, Classes, Layer, call, fitted
from snnir.discretise import recurrence
from snnir.ops import I, Neuron, Op, SpikingNeuron, Threshold
from snnir.semantics import Semantics


@dataclass(frozen=True)
class SnnTorchDialect:
    """Neuron layers on snn.Leaky and snn.Synaptic."""

    name: str = "snnTorch"
    packages: tuple[str, ...] = ("snntorch",)

    def imports(self) -> list[str]:
        """snnTorch under the name that its documentation gives it."""
        return ["import snntorch as snn", "from snntorch import surrogate"]

    def appendix(self) -> str:
        """Nothing."""
        return ""

    def neuron(self, op: Neuron, semantics: Semantics, stepwise: bool, fresh: bool, classes: Classes) -> Layer:
        """See `Dialect`."""
        classes.need("keep")
        writer = _Writer(op, semantics, classes)
        name = classes.add(n.class_name(op), writer.text())
        if stepwise:
            name = classes.add(f"{n.class_name(op)}Cell", writer.cell(name))
        options = {"spike_grad": _spike_grad(op, classes)} if writer.spiking else {}
        return Layer(call(name, **n.arguments(op, options)), uses=writer.uses, own=writer.own)

    def threshold(self, op: Threshold, semantics: Semantics, classes: Classes) -> Layer:
        """See `Dialect`."""
        classes.need("keep")
        methods = [
            [
                "def __init__(self, threshold, spike_grad):",
                "    super().__init__()",
                "    keep(self, threshold=threshold)",
                "    self.spike_grad = spike_grad",
            ],
            [
                "def forward(self, x: Tensor) -> Tensor:",
                f"    return self.spike_grad(x - {_threshold('threshold', semantics, classes)}).to(x.dtype)",
            ],
        ]
        doc = [f"y = 1 where x {semantics.comparison} threshold, else 0."]
        name = classes.add("Threshold", n.class_text("NAME(nn.Module)", doc, methods))
        return Layer(call(name, **n.arguments(op, {"spike_grad": _spike_grad(op, classes)})), uses="snntorch.surrogate")


def _spike_grad(op: Op, classes: Classes) -> str:
    chosen = n.surrogate(op)
    if chosen is None:
        return "surrogate.atan()"
    if chosen.kind == "atan":
        return f"surrogate.atan(alpha={chosen.parameter!r})"
    if chosen.kind == "fast_sigmoid":
        return f"surrogate.fast_sigmoid(slope={chosen.parameter!r})"
    return f"{classes.add('triangle', _TRIANGLE)}({chosen.parameter!r})"


_TRIANGLE = '''def NAME(width):
    """The surrogate gradient max(0, 1 - |u| / width) / (2 width); width is half that of its foot."""

    def gradient(u, grad, spikes):
        return grad * (1 - u.abs() / width).clamp(min=0) / (2 * width)

    return surrogate.custom_surrogate(gradient)'''


def _bracketed(product: str) -> str:
    return f"({product})" if " " in product else product


def _threshold(field: str, semantics: Semantics, classes: Classes) -> str:
    if semantics.comparison == ">":
        return f"self.{field}"
    classes.need("just_below")
    return f"just_below(self.{field})"


class _Writer:
    """Writes the classes of one population."""

    def __init__(self, op: Neuron, semantics: Semantics, classes: Classes) -> None:
        self.op, self.semantics, self.classes = op, semantics, classes
        self.spiking = isinstance(op, SpikingNeuron)
        self.own = self._own()
        synaptic = n.current_based(op) and not self.own
        self.layer = "snn.Synaptic" if synaptic else "snn.Leaky"
        self.uses = "" if self.written_out else self.layer
        self.resets_itself = self.spiking and not self.written_out and self._resets_itself()

    def _own(self) -> str:
        """Why snnTorch's layer does not do, or ''."""
        self.written_out = True
        if isinstance(self.op, I):
            return "an integrator is a sum over time"
        rule = recurrence(self.op, self.semantics)
        if (rule.decay < 0).any() or (rule.decay_syn is not None and (rule.decay_syn < 0).any()):
            return f"a time constant is below DT, and snnTorch clamps negative decays to 0 ({self.op.kind})"
        self.written_out = False
        if n.current_based(self.op) and np.any(getattr(self.op, "v_leak", 0.0)):
            return "snn.Synaptic has no leak potential, so the synapse is written out in front of snn.Leaky"
        return ""

    def _resets_itself(self) -> bool:
        """Whether the layer's own reset is the one that is meant, spike for spike."""
        rule = recurrence(self.op, self.semantics)
        threshold, v_reset = rule.threshold, rule.v_reset
        if threshold is None or v_reset is None or self.semantics.reset != "value" or n.detach_reset(self.op) is True:
            return False
        above = (threshold > 0) if self.semantics.comparison == ">=" else (threshold >= 0)
        below = (rule.start < threshold) | (rule.start == 0)
        return not v_reset.any() and bool(np.all(above)) and bool(np.all(below))

    # -- pieces ------------------------------------------------------------------------------------------------------

    def tau(self) -> str:
        return "tau_mem" if n.current_based(self.op) else "tau"

    def beta(self) -> str:
        return n.decay(self.tau(), self.semantics) if self.op.time_constants else "torch.ones_like(self.r)"

    def synapse_gain(self) -> str:
        return n.times(n.rise("tau_syn", self.semantics), "self.w_in")

    def gain(self) -> str:
        """What the whole of x is multiplied by before the loop over time."""
        membrane = n.gain(self.op, self.semantics)
        if not n.current_based(self.op):
            return membrane
        # snn.Synaptic adds its current to the membrane as it is, so both gains go into x.
        return (
            f"{membrane} * {_bracketed(self.synapse_gain())}" if self.layer == "snn.Synaptic" else self.synapse_gain()
        )

    def drive(self) -> str:
        """What every step adds to the membrane; '' for nothing."""
        return "(1 - self.beta) * self.v_leak" if "v_leak" in self.op.arrays and self.layer == "snn.Leaky" else ""

    def current(self) -> str:
        """The input of `step` from x: whole sequence or one step."""
        return "self.gain * x + self.drive" if self.drive() and not n.current_based(self.op) else "self.gain * x"

    def reset_line(self) -> str:
        fired = "spk.detach()" if n.detach_reset(self.op) is True else "spk"
        if self.semantics.reset == "subtract":
            return f"mem = mem - {fired} * self.v_threshold"
        return f"mem = (1 - {fired}) * mem + {fired} * self.v_reset"

    def step(self) -> list[str]:
        """The body of `step(self, x, state)`: x is a current of `current()`."""
        if self.layer == "snn.Synaptic":
            lines = ["syn, mem = state", "spk, syn, mem = snn.Synaptic.forward(self, x, syn, mem)"]
        elif n.current_based(self.op):
            lines = ["syn, mem = state", "syn = self.alpha * syn + x"]
            lines += self._leaky("self.gain_mem * syn + self.drive")
        else:
            lines = ["mem = state", *self._leaky("x")]
        state = "(syn, mem)" if n.current_based(self.op) else "mem"
        if not self.spiking:
            return [*lines, f"return mem, {state}"]
        if not self.resets_itself:
            lines.append(self.reset_line())
        return [*lines, f"return spk.to(x.dtype), {state}"]

    def _leaky(self, x: str) -> list[str]:
        spk = "spk" if self.spiking else "_"
        if not self.written_out:
            return [f"{spk}, mem = snn.Leaky.forward(self, {x}, mem)"]
        lines = [f"mem = self.beta * mem + {x}"]
        fires = f"spk = self.spike_grad(mem - {_threshold('v_threshold', self.semantics, self.classes)})"
        return [*lines, fires] if self.spiking else lines

    def start(self) -> list[str]:
        """The body of `start(self, shape)`: coefficients, and the state before the first step."""
        lines = [f"self.beta = {self.beta()}"]
        if n.current_based(self.op):
            lines.append(f"self.alpha = {n.decay('tau_syn', self.semantics)}")
        lines.append(f"self.gain = {self.gain()}")
        if self.drive():
            lines.append(f"self.drive = {self.drive()}")
        if n.current_based(self.op) and self.layer == "snn.Leaky":
            lines.append(f"self.gain_mem = {n.gain(self.op, self.semantics)}")
        if self.spiking and not self.written_out:
            lines.append(f"self.threshold = {_threshold('v_threshold', self.semantics, self.classes)}")
        if not self.written_out:
            self.classes.need("fits")
            lines += fitted("", f"fits({', '.join(self.conditions())})", 0, WIDTH - 8)
        at_rest = n.start(self.op, self.semantics) != "0.0"
        mem = "self.v_leak.expand(shape)" if at_rest else "self.beta.new_zeros(shape)"
        if not n.current_based(self.op):
            return [*lines, f"return {mem}"]
        return [*lines, f"return self.beta.new_zeros(shape), {mem}"]

    def conditions(self) -> list[str]:
        """What must hold of the parameters for the layer to compute the neuron, as it did when it was written."""
        found = ["self.beta >= 0"]
        if n.current_based(self.op):
            found.append("self.alpha >= 0")
        if self.layer == "snn.Synaptic":
            found.append("self.v_leak == 0")
        if self.resets_itself:
            least = ">=" if self.semantics.comparison == ">" else ">"
            found += ["self.v_reset == 0", f"self.v_threshold {least} 0"]
            if n.start(self.op, self.semantics) != "0.0" and self.layer == "snn.Leaky":
                found.append("(self.v_leak < self.v_threshold) | (self.v_leak == 0)")
        return found

    # -- classes -----------------------------------------------------------------------------------------------------

    def init(self) -> list[str]:
        lines = n.definition(self.op, *(["spike_grad"] if self.spiking else []))
        if self.written_out:
            lines += ["    super().__init__()", *n.keep_fields(self.op)]
            return [*lines, "    self.spike_grad = spike_grad"] if self.spiking else lines
        options = ["alpha=0.0"] if self.layer == "snn.Synaptic" else []
        options += ["beta=0.0", *(["spike_grad=spike_grad"] if self.spiking else [])]
        options += ['reset_mechanism="zero"', "reset_delay=False"] if self.resets_itself else ['reset_mechanism="none"']
        self.classes.need("derived")
        return [
            *lines,
            f"    super().__init__({', '.join(options)})",
            "    derived(self)  # start() makes them from the buffers",
            *n.keep_fields(self.op),
        ]

    def text(self) -> str:
        """The class for whole sequences."""
        doc = [*n.describe(self.op, self.semantics), "x: (T, B, ...), all steps."]
        if isinstance(self.op, I):
            forward = [
                "def forward(self, x: Tensor) -> Tensor:",
                f"    return ({n.gain(self.op, self.semantics)} * x).cumsum(0)",
            ]
            return n.class_text("NAME(nn.Module)", doc, [self.init(), forward])
        start = [
            "def start(self, shape):",
            '    """The coefficients, and the state before the first step."""',
            *(f"    {line}" for line in self.start()),
        ]
        step = ["def step(self, x: Tensor, state):", *(f"    {line}" for line in self.step())]
        forward = [
            "def forward(self, x: Tensor) -> Tensor:",
            "    state, out = self.start(x.shape[1:]), []",
            f"    for current in {self.current()}:",
            "        y, state = self.step(current, state)",
            "        out.append(y)",
            *([] if self.written_out else ["    self.reset_mem()  # or the layer would keep the last graph alive"]),
            "    return torch.stack(out)",
        ]
        base = "nn.Module" if self.written_out else self.layer
        return n.class_text(f"NAME({base})", doc, [self.init(), start, step, forward])

    def cell(self, base: str) -> str:
        """The class for one step, on that for sequences."""
        doc = [f"{base} one step at a time, for a loop over time. x: (B, ...); gives the output and the next state."]
        if isinstance(self.op, I):
            gain = n.gain(self.op, self.semantics)
            lines = [f"    v = {gain} * x if state is None else state + {gain} * x", "    return v, v"]
        else:
            lines = [
                "    state = self.start(x.shape) if state is None else state",
                f"    y, state = self.step({self.current()}, state)",
                *([] if self.written_out else ["    self.mem = self.mem.detach()  # ours is in `state`"]),
                "    return y, state",
            ]
        return n.class_text(f"NAME({base})", doc, [["def forward(self, x: Tensor, state=None):", *lines]])
