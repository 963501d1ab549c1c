"""How snnTorch's people write neurons: snn.Leaky and snn.Synaptic, their parameters made from the buffers.

snn.Leaky computes clamp(beta) mem + x and spikes where mem - threshold > 0; a leak potential is a constant input, a
gain is a factor of x. The layer integrates and fires; one line after it resets. Its own reset comes one step late by
default, and is used where the network means that ('delayed-subtract', 'delayed-value'). Without the delay it looks at
the membrane that the step before left ("avoid double reset"), so one that a reset leaves above the threshold is read in
its own way, which is used where the network means that ('held-subtract'). snn.Synaptic has no leak potential. A tau
below DT makes a negative beta, which snnTorch clamps to 0: such neurons are written out.
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

    def stateless(self, op: Op, classes: Classes) -> Layer | None:
        """None: plain PyTorch."""
        return None

    def threshold(self, op: Threshold, semantics: Semantics, classes: Classes) -> Layer:
        """See `Dialect`."""
        options = {"spike_grad": _spike_grad(op, classes)}
        made = n.step_function(op, semantics, classes, options, "self.spike_grad(u).to(x.dtype)")
        return Layer(made, uses="snntorch.surrogate")


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


class _Writer:
    """Writes the classes of one population."""

    def __init__(self, op: Neuron, semantics: Semantics, classes: Classes) -> None:
        self.op, self.semantics, self.classes = op, semantics, classes
        self.spiking = isinstance(op, SpikingNeuron)
        self.held = self.spiking and semantics.reset == "held-subtract"
        self.late = self.held or (self.spiking and semantics.reset.startswith("delayed"))  # the layer's own reset
        self.own = self._own()
        synaptic = n.current_based(op) and not self.own
        self.layer = "snn.Synaptic" if synaptic else "snn.Leaky"
        self.uses = "" if self.written_out else self.layer

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

    # -- pieces ------------------------------------------------------------------------------------------------------

    def tau(self) -> str:
        return "tau_mem" if n.current_based(self.op) else "tau"

    def beta(self) -> str:
        return n.decay(self.tau(), self.semantics) if self.op.time_constants else "torch.ones_like(self.r)"

    def gain(self) -> str:
        """The factor of x; '' for 1, which `conditions` then holds it to."""
        if self.is_one():
            return ""
        membrane = n.gain(self.op, self.semantics)
        if not n.current_based(self.op):
            return membrane
        synapse = n.times(n.rise("tau_syn", self.semantics), "self.w_in")
        # snn.Synaptic adds its current to the membrane as it is, so both gains go into x.
        return f"{synapse} * {membrane}" if self.layer == "snn.Synaptic" else synapse

    def is_one(self) -> bool:
        """Whether inputs add in full."""
        return self.semantics.gain == "unit" and all(bool((getattr(self.op, f) == 1).all()) for f in self.factors())

    def factors(self) -> list[str]:
        """The parameters in the factor of x."""
        if self.layer == "snn.Synaptic":
            return ["r", "w_in"]
        return ["w_in"] if n.current_based(self.op) else ["r"]

    def drive(self) -> str:
        """What every step adds to the membrane; '' for nothing, which `conditions` then holds it to."""
        leaks = "v_leak" in self.op.arrays and np.any(getattr(self.op, "v_leak", 0.0))
        return "(1 - self.beta) * self.v_leak" if leaks else ""

    def driven(self, current: str) -> str:
        """A current with the drive."""
        return f"{current} + self.drive" if self.drive() else current

    def reset_lines(self) -> list[str]:
        """The reset of this step's spikes; that of the last step's is the layer's own."""
        if self.late:
            return []
        fired = f"spk{self.detach()}"
        if self.semantics.reset == "subtract":
            return [f"mem = mem - {fired} * self.v_threshold"]
        if n.resets_to_zero(self.op, self.semantics):
            return [f"mem = (1 - {fired}) * mem"]
        return [f"fired = {fired}", "mem = (1 - fired) * mem + fired * self.v_reset"]

    def detach(self) -> str:
        """snnTorch's resets pass no gradient through the spike, so ours do only where the network says so."""
        return "" if n.detach_reset(self.op) is False else ".detach()"

    def mechanism(self) -> str:
        """snnTorch's name of the reset that its layer does."""
        if not self.late:
            return "none"
        return "zero" if self.semantics.reset == "delayed-value" else "subtract"

    def step(self) -> list[str]:
        """The method `step`."""
        x = "self.gain * x" if self.gain() else "x"
        if self.layer == "snn.Synaptic":
            lines = ["syn, mem = state", *self._integrates(x)]
        elif n.current_based(self.op):
            lines = ["syn, mem = state", f"syn = self.alpha * syn + {x}"]
            lines += self._integrates(self.driven("self.gain_mem * syn"))
        else:
            lines = self._integrates(self.driven(x))
        state = "(syn, mem)" if n.current_based(self.op) else "mem"
        if self.spiking:
            lines += [*self.reset_lines(), f"return spk, {state}"]
        else:
            lines += [f"return mem, {state}"]
        given = "state" if n.current_based(self.op) else "mem"
        return [f"def step(self, x: Tensor, {given}):", *(f"    {line}" for line in lines)]

    def _integrates(self, x: str) -> list[str]:
        """From a current and the old state to `spk` and the new one."""
        spk = "spk" if self.spiking else "_"
        if self.layer == "snn.Synaptic" and not self.written_out:
            return [f"{spk}, syn, mem = snn.Synaptic.forward(self, {x}, syn, mem)"]
        if not self.written_out:
            return [f"{spk}, mem = snn.Leaky.forward(self, {x}, mem)"]
        lines = [f"mem = self.beta * mem + {x}"]
        if self.spiking:
            lines.append(f"spk = {self.fires(n.threshold('v_threshold', self.semantics, self.classes))}")
        return lines

    def fires(self, threshold: str) -> str:
        """The spikes of a membrane; those of snnTorch are float32 always."""
        return f"self.spike_grad(mem - {threshold}).to(mem.dtype)"

    def start(self) -> list[str]:
        """The body of `start(self, x)`: coefficients, and the state before the first step."""
        lines = [f"self.beta = {self.beta()}"]
        if n.current_based(self.op):
            lines.append(f"self.alpha = {n.decay('tau_syn', self.semantics)}")
        if self.gain():
            lines.append(f"self.gain = {self.gain()}")
        if self.drive():
            lines.append(f"self.drive = {self.drive()}")
        if n.current_based(self.op) and self.layer == "snn.Leaky":
            lines.append(f"self.gain_mem = {n.gain(self.op, self.semantics)}")
        if self.spiking and not self.written_out:
            # [...]: a trained threshold must not become a parameter a second time, under this name.
            given = self.given_threshold()
            lines.append(f"self.threshold = {given}{'[...]' if given.startswith('self.') else ''}")
        if self.conditions():
            self.classes.need("fits")
            lines += fitted("", f"fits({', '.join(self.conditions())})", 0, WIDTH - 8)
        # Made like x, so that all states lie in memory as it does.
        mem = "torch.zeros_like(x) + self.v_leak" if self.starts_at_leak() else "torch.zeros_like(x)"
        return [*lines, f"return torch.zeros_like(x), {mem}" if n.current_based(self.op) else f"return {mem}"]

    def starts_at_leak(self) -> bool:
        """Whether the membrane starts elsewhere than at 0."""
        return n.start(self.op, self.semantics) != "0.0" and bool(self.drive())

    def given_threshold(self) -> str:
        """The layer's threshold: what a spike must exceed, or what its own reset subtracts."""
        return "self.v_threshold" if self.late else n.threshold("v_threshold", self.semantics, self.classes)

    def conditions(self) -> list[str]:
        """What must hold of the parameters for the layer to compute the neuron, as it did when it was written."""
        found = [] if self.written_out else ["self.beta > -1e-7"]
        if n.current_based(self.op) and not self.written_out:
            found.append("self.alpha > -1e-7")
        if "v_leak" in self.op.arrays and not self.drive():
            found.append("self.v_leak == 0")
        if self.spiking and n.resets_to_zero(self.op, self.semantics):
            found.append("self.v_reset == 0")
        if self.late:  # the layer takes a membrane above the threshold for a spike, even before the first step
            found.append(f"self.v_threshold > {'self.v_leak' if self.starts_at_leak() else '0'}")
        if not self.gain():
            found += [f"self.{name} == 1" for name in self.factors()]
        return found

    def hooks(self) -> list[list[str]]:
        """Methods of the layer that do less here, or nothing."""
        if self.written_out:
            return []
        if not self.spiking:
            about = '    """Not needed: it does not spike."""'
            return [["def mem_reset(self, mem):", about], ["def fire(self, mem):", about]]
        threshold = n.threshold("threshold", self.semantics, self.classes) if self.late else "self.threshold"
        fire = [
            "def fire(self, mem):",
            '    """The spikes in the precision of mem, not times the factor of graded spikes, which is 1."""',
            f"    return {self.fires(threshold)}",
        ]
        if not self.late:
            return [["def mem_reset(self, mem):", '    """Not needed: step() resets."""'], fire]
        reset = [
            "def mem_reset(self, mem):",
            '    """The spikes of the step before, for the reset that is one step late."""'
            if not self.held
            else '    """Whether the step before left the membrane above the threshold."""',
            f"    return self.fire(mem){self.detach()}",
        ]
        return [reset, fire]

    # -- classes -----------------------------------------------------------------------------------------------------

    def init(self) -> list[str]:
        lines = n.definition(self.op, *(["spike_grad"] if self.spiking else []))
        if self.written_out:
            lines += ["    super().__init__()", *n.keep_fields(self.op)]
            return [*lines, "    self.spike_grad = spike_grad"] if self.spiking else lines
        options = ["alpha=0.0"] if self.layer == "snn.Synaptic" else []
        options += ["beta=0.0", *(["spike_grad=spike_grad"] if self.spiking else [])]
        options.append(f'reset_mechanism="{self.mechanism()}"')
        options += ["reset_delay=False"] if self.held else []
        self.classes.need("derived")
        return [
            *lines,
            f"    super().__init__({', '.join(options)})",
            "    derived(self)  # start() makes them from the buffers",
            *n.keep_fields(self.op),
        ]

    def text(self) -> str:
        """The class for whole sequences."""
        if isinstance(self.op, I):
            return n.integrator(self.op, self.semantics)
        doc = [*n.describe(self.op, self.semantics), n.WHOLE]
        self.classes.need("by_step", "whole")
        start = [
            "def start(self, x: Tensor):",
            '    """The coefficients, and the state before the first step; x: (B, ...), such as a step\'s."""',
            *(f"    {line}" for line in self.start()),
        ]
        forward = [
            "def forward(self, x: Tensor) -> Tensor:",
            "    steps, out = by_step(x), []",
            "    state = self.start(steps[0])",
            "    for current in steps:",
            "        y, state = self.step(current, state)",
            "        out.append(y)",
            *([] if self.written_out else ["    self.reset_mem()  # or the layer would keep the last graph alive"]),
            *(["    self.reset = None"] if self.late else []),
            "    return whole(out)",
        ]
        base = "nn.Module" if self.written_out else self.layer
        return n.class_text(f"NAME({base})", doc, [self.init(), *self.hooks(), start, self.step(), forward])

    def cell(self, base: str) -> str:
        """The class for one step, on that for sequences."""
        lines = [
            "state = self.start(x) if state is None else state",
            "y, state = self.step(x, state)",
            *self.let_go(),
            "return y, state",
        ]
        return n.cell_text(self.op, self.semantics, base, lines)

    def let_go(self) -> list[str]:
        """The layer keeps its last state; ours is in `state`, and a copy with its graph would stay alive."""
        if self.written_out:
            return []
        late = ["self.reset = None"] if self.late else []
        if self.layer == "snn.Synaptic":
            return ["self.syn, self.mem = self.syn.detach(), self.mem.detach()", *late]
        return ["self.mem = self.mem.detach()", *late]
