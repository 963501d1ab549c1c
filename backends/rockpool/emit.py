"""How Rockpool's people write neurons: LIFTorch, LIFNeuronTorch and ExpSynTorch, set from the buffers at each call.

LIFTorch computes i = (i + x) beta, v = alpha v + i + bias, and gives floor(v / threshold) spikes, each of which takes
the threshold off v; LIFNeuronTorch is the same without i; ExpSynTorch is i alone. So every gain goes into x, a leak
potential is a bias, and what spikes, and its gradient, is a function that the layers take. What they do not do is
written out and said in the report: a reset to a value, a reset without gradient, Euler's decay where the layer makes
its own from a time constant, a step within a loop over time (they keep the state of one sample only).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.backends.rockpool import helpers as h
from snnir.backends.rockpool.bitshift import shifted
from snnir.backends.torch_source import neurons as n
from snnir.backends.torch_source.source import WIDTH, Classes, Layer, call, fitted
from snnir.discretise import recurrence
from snnir.ops import Affine, I, Linear, Neuron, Op, SpikingNeuron, Threshold
from snnir.semantics import Semantics

_PARTS = {"atan": "ATan", "fast_sigmoid": "FastSigmoid", "triangle": "Triangle"}
_WINDOW = 0.5  # of Rockpool's surrogate gradient
_MOST = 2.0**24  # spikes in a step where there is no limit: float32, in which Rockpool counts them, is exact up to it


@dataclass(frozen=True)
class RockpoolDialect:
    """Layers on Rockpool's torch modules."""

    name: str = "Rockpool"
    packages: tuple[str, ...] = ("rockpool",)
    bitshift: bool = False
    """Whether current-based neurons whose decays are 1 - 2^-dash are LIFBitshiftTorch."""

    def imports(self) -> list[str]:
        """Rockpool's torch modules, none of which needs samna."""
        layers = "ExpSynTorch, LIFBitshiftTorch, LIFNeuronTorch, LIFTorch, LinearTorch"
        return [
            f"from rockpool.nn.modules.torch import {layers}",
            "from rockpool.nn.modules.torch.lif_torch import StepPWL",
        ]

    def appendix(self) -> str:
        """Nothing."""
        return ""

    def stateless(self, op: Op, classes: Classes) -> Layer | None:
        """See `Dialect`: plain weight matrices are LinearTorch."""
        if not isinstance(op, Linear) or op.weight.ndim > 2:
            return None
        biased = isinstance(op, Affine)
        if isinstance(op, Affine) and op.bias.shape != op.weight.shape[:1]:
            return None
        name = classes.add("Linear", h.LINEAR)
        sizes = f"({op.weight.shape[1]}, {op.weight.shape[0]})"
        return Layer(call(name, sizes, has_bias="True" if biased else ""), uses="LinearTorch")

    def neuron(self, op: Neuron, semantics: Semantics, stepwise: bool, fresh: bool, classes: Classes) -> Layer:
        """See `Dialect`."""
        classes.need("keep")
        writer = _Writer(op, n.in_time(op, semantics), stepwise, self.bitshift, classes)
        name = classes.add(n.class_name(op), writer.text())
        if stepwise:
            name = classes.add(f"{n.class_name(op)}Cell", writer.cell(name))
        return Layer(call(name, **n.arguments(op)), uses=writer.layer, own=writer.own)

    def threshold(self, op: Threshold, semantics: Semantics, classes: Classes) -> Layer:
        """See `Dialect`."""
        chosen = n.surrogate(op)
        if chosen is None:
            options, function = {"window": repr(_WINDOW)}, classes.add("Step", h.STEP)
        else:
            options, function = {"surrogate": repr(chosen.parameter)}, _PARTS[chosen.kind]
            classes.need(function)
        made = n.step_function(op, semantics, classes, options, f"{function}.apply(u, self.{next(iter(options))})")
        return Layer(made, own="Rockpool has no step function without a membrane")


class _Writer:
    """Writes the classes of one population."""

    def __init__(self, op: Neuron, semantics: Semantics, stepwise: bool, bitshift: bool, classes: Classes) -> None:
        self.op, self.semantics, self.stepwise, self.classes = op, semantics, stepwise, classes
        self.spiking = isinstance(op, SpikingNeuron)
        self.rule = recurrence(op, semantics)
        self.late = n.is_late(op, semantics)
        self.chosen = n.surrogate(op) if semantics.spikes_per_step == 1 else None
        self.shifts = bitshift and semantics.decay == "exponential" and self._shifted()
        self.own = self._own()
        self.layer = "" if self.own else self._layer()

    def _layer(self) -> str:
        if not self.spiking:
            return "ExpSynTorch"
        if n.current_based(self.op):
            return "LIFBitshiftTorch" if self.shifts else "LIFTorch"
        return "LIFNeuronTorch"

    def _shifted(self) -> bool:
        """Whether both decays are 1 - 2^-dash."""
        return shifted(self.rule.decay) and self.rule.decay_syn is not None and shifted(self.rule.decay_syn)

    def _own(self) -> str:
        """Why Rockpool's layer does not do, or ''."""
        rule = self.rule
        if isinstance(self.op, I):
            return "an integrator is a sum over time"
        if self.stepwise:
            return "it is on a cycle, and Rockpool's layers keep the state of one sample only"
        if self.late:
            return "Rockpool's neurons reset in the step of the spike alone"
        if self.spiking and self.semantics.reset != "subtract":
            return "Rockpool's neurons subtract the threshold; this reset is to a value"
        if self.spiking and n.detach_reset(self.op) is True:
            return "gradients stop at this reset, and go through that of Rockpool's neurons"
        if self.spiking and not self.positive:
            return "a threshold is not above 0, and Rockpool divides by it"
        layer = self._layer()
        if (
            not layer.endswith(("LIFTorch", "LIFBitshiftTorch"))
            and self.op.time_constants
            and self.semantics.decay == "euler"
        ):
            return f"{layer} makes its decay e^(-DT/tau) from a time constant; this one is 1 - DT/tau"
        outlasts = rule.decay if layer == "ExpSynTorch" else 1.0
        decay_syn = 1.0 if rule.decay_syn is None else rule.decay_syn
        if not np.all(np.minimum(outlasts, decay_syn) > 0):
            return f"nothing of a step is left in the next, and {layer} decays its input"
        return ""

    @property
    def positive(self) -> bool:
        """Whether thresholds are such as Rockpool divides by."""
        return self.rule.threshold is not None and bool((self.rule.threshold > 0).all())

    # -- spikes ------------------------------------------------------------------------------------------------------

    def most(self) -> float:
        """The most spikes of a step."""
        said = self.semantics.spikes_per_step
        return _MOST if said is None else float(said)

    def function(self) -> str:
        """The function of (v, threshold, window, most) that gives spikes, where it is one of Rockpool's form."""
        if self.semantics.comparison == ">=":
            return self.classes.add("ExactPWL", h.AT_LEAST)
        return self.classes.add("StrictPWL", h.STRICT)

    def foreign(self) -> bool:
        """Whether spikes are a function of how far v lies above the threshold, one per step."""
        return self.chosen is not None or not self.positive

    def above(self, v: str, threshold: str) -> str:
        """Spikes of a foreign function."""
        if self.semantics.comparison == ">=":
            self.classes.need("just_below")
            threshold = f"just_below({threshold})"
        if self.chosen is None:
            return f"{self.classes.add('Step', h.STEP)}.apply({v} - {threshold}, {_WINDOW})"
        self.classes.need(_PARTS[self.chosen.kind])
        return f"{_PARTS[self.chosen.kind]}.apply({v} - {threshold}, {self.chosen.parameter!r})"

    # -- coefficients ------------------------------------------------------------------------------------------------

    def tau(self) -> str:
        return "tau_mem" if n.current_based(self.op) else "tau"

    def leaks(self) -> bool:
        return bool(np.any(getattr(self.op, "v_leak", 0.0)))

    def starts_elsewhere(self) -> bool:
        return n.start(self.op, self.semantics) != "0.0" and self.leaks()

    def gain_of_layer(self) -> str:
        """What x is multiplied by before it goes into LIFTorch or LIFNeuronTorch."""
        membrane = n.gain(self.op, self.semantics)
        if not n.current_based(self.op):
            return membrane
        synapse = n.times(n.rise("tau_syn", self.semantics), "self.w_in")
        return f"{synapse} * {membrane} / beta"

    def is_one(self) -> bool:
        """Whether the layer takes x as it is."""
        rule = self.rule
        gain = rule.gain
        if rule.decay_syn is not None and rule.gain_syn is not None:
            gain = np.asarray(gain * rule.gain_syn / rule.decay_syn)
        return bool(np.allclose(gain, 1.0, rtol=0, atol=1e-12))

    def held(self, *conditions: str) -> list[str]:
        """The statement that holds parameters to what the layer was written for."""
        self.classes.need("fits")
        return fitted("", f"fits({', '.join(conditions)})", 0, WIDTH - 8) if conditions else []

    def start_of(self, *fields: str) -> dict[str, str]:
        """States before the first step: zeros, but for a membrane that starts at its leak potential."""
        return {f: "self.v_leak" if f == "vmem" and self.starts_elsewhere() else "zero" for f in fields}

    # -- Rockpool's layers ------------------------------------------------------------------------------------------

    def spiking_layer(self) -> list[list[str]]:
        """The methods on LIFTorch or LIFNeuronTorch."""
        synaptic = n.current_based(self.op)
        options = {"dt": "DT", "max_spikes_per_dt": repr(self.most())}
        if not self.foreign():
            options["spike_generation_fn"] = self.function()
        init = self.init([f"    self.neurons = {self.bare(call(self.layer, '1', **options))}"])
        methods = [init]
        if self.foreign():
            init.append("    self.neurons.spike_generation_fn = self.fire")
            fire = ["def fire(self, v, threshold, window, most):", f"    return {self.above('v', 'threshold')}"]
            methods.append(fire)
        alpha = f"alpha = {n.decay(self.tau(), self.semantics)}" if self.op.time_constants else ""
        lines = [alpha] if alpha else []
        conditions = ["self.v_threshold > 0"]
        bias = "(1 - alpha) * self.v_leak" if self.leaks() else "zero"
        if "v_leak" in self.op.arrays and not self.leaks():
            conditions.append("self.v_leak == 0")
        values = {"bias": bias, "threshold": "self.v_threshold"}
        if synaptic:
            lines.append(f"beta = {n.decay('tau_syn', self.semantics)}")
            conditions.append("beta > 0")
            leaks = {"alpha": "alpha", "beta": "beta"}
            if self.shifts:  # it makes alpha and beta itself, rounding what they are made from
                leaks = {"tau_mem": "self.tau_mem", "tau_syn": "self.tau_syn"}
                conditions += [f"{self.classes.add('is_shift', h.IS_SHIFT)}({name})" for name in ("alpha", "beta")]
            values = {**leaks, **values, **self.start_of("vmem", "isyn", "spikes")}
        else:
            tau = "self.tau" if self.op.time_constants else "torch.full_like(self.r, torch.inf)"
            if not self.leaks():
                lines = []
            values = {"tau_mem": tau, **values, **self.start_of("vmem")}
        lines += [f"gain = {self.gain_of_layer()}"]
        if self.is_one():
            conditions.append("(gain - 1).abs() < 1e-5")
        lines += self.held(*conditions)
        return [*methods, self.forward("neurons", lines, values, "x" if self.is_one() else "gain * x")]

    def exponentials(self) -> list[list[str]]:
        """The methods on one ExpSynTorch, or two, one after the other."""
        names = ["synapse", "membrane"] if n.current_based(self.op) else ["membrane"]
        init = self.init([f"    self.{name} = {self.bare('ExpSynTorch(1, dt=DT)')}" for name in names])
        lines: list[str] = []
        if n.current_based(self.op):
            beta = n.decay("tau_syn", self.semantics)
            synapse = n.times(n.rise("tau_syn", self.semantics), "self.w_in")
            lines += ["zero = x.new_zeros(())", f"gain = {synapse} / ({beta})"]
            lines += self.call("synapse", {"tau": "self.tau_syn", "isyn": "zero"}, "gain * x", "x = ")
        alpha = n.decay(self.tau(), self.semantics)
        lines += [f"alpha = {alpha}", f"gain = {n.gain(self.op, self.semantics)} / alpha"]
        x = "gain * x"
        if self.leaks():
            x += " + (1 - alpha) / alpha * self.v_leak"
        else:
            lines += self.held("self.v_leak == 0")
        start = "self.v_leak" if self.starts_elsewhere() else "zero"
        values = {"tau": f"self.{self.tau()}", "isyn": start}
        if "zero = x.new_zeros(())" in lines:
            rest = self.call("membrane", values, x, "return ")
            return [init, ["def forward(self, x: Tensor) -> Tensor:", *(f"    {line}" for line in [*lines, *rest])]]
        return [init, self.forward("membrane", lines, values, x)]

    def bare(self, made: str) -> str:
        return f"{self.classes.add('bare', h.BARE)}({made})"

    def call(self, layer: str, values: dict[str, str], x: str, head: str) -> list[str]:
        """The statements that set a layer's parameters and run it."""
        given, through = self.classes.add("given", h.GIVEN), self.classes.add("through", h.THROUGH)
        setting = ", ".join([f"self.{layer}", "x", *(f"{key}={value}" for key, value in values.items())])
        return [*fitted("layer = ", f"{given}({setting})", 0, WIDTH - 8), f"{head}{through}(layer, {x})"]

    def forward(self, layer: str, lines: list[str], values: dict[str, str], x: str) -> list[str]:
        zero = ["zero = x.new_zeros(())"] if "zero" in values.values() else []
        body = [*lines, *zero, *self.call(layer, values, x, "return ")]
        return ["def forward(self, x: Tensor) -> Tensor:", *(f"    {line}" for line in body)]

    # -- written out ------------------------------------------------------------------------------------------------

    def written_out(self) -> list[list[str]]:
        """The methods of a layer that is no layer of Rockpool's."""
        synaptic = n.current_based(self.op)
        lines = []
        if self.op.time_constants:
            lines.append(f"self.alpha = {n.decay(self.tau(), self.semantics)}")
        lines.append(f"self.gain = {n.gain(self.op, self.semantics)}")
        if synaptic:
            lines.append(f"self.beta = {n.decay('tau_syn', self.semantics)}")
            lines.append(f"self.gain_syn = {n.times(n.rise('tau_syn', self.semantics), 'self.w_in')}")
        if self.leaks():
            lines.append("self.bias = (1 - self.alpha) * self.v_leak")
        conditions = ["self.v_leak == 0"] if "v_leak" in self.op.arrays and not self.leaks() else []
        if self.spiking and not self.foreign():
            conditions.append("self.v_threshold > 0")
        if self.spiking and n.resets_to_zero(self.op, self.semantics):
            conditions.append("self.v_reset == 0")
        if conditions:
            lines += self.held(*conditions)
        zero = "torch.zeros_like(x)"
        vmem = f"{zero} + self.v_leak" if self.starts_elsewhere() else zero
        state = ", ".join([*([zero] if synaptic else []), vmem, *([zero] if self.late else [])])
        start = [
            "def start(self, x: Tensor):",
            '    """The coefficients, and the state before the first step; x: (B, ...), such as a step\'s."""',
            *(f"    {line}" for line in lines),
            f"    return {state}",
        ]
        self.classes.need("by_step", "whole")
        forward = [
            "def forward(self, x: Tensor) -> Tensor:",
            "    steps, out = by_step(x), []",
            "    state = self.start(steps[0])",
            "    for current in steps:",
            "        y, state = self.step(current, state)",
            "        out.append(y)",
            "    return whole(out)",
        ]
        extra = []
        if self.spiking and not self.foreign():
            extra = [f"    self.window, self.most = torch.tensor({_WINDOW}), torch.tensor({self.most()!r})"]
        return [self.init(extra), start, self.step(), forward]

    def step(self) -> list[str]:
        """The method `step`."""
        synaptic = n.current_based(self.op)
        parts = [*(["isyn"] if synaptic else []), "vmem", *(["late"] if self.late else [])]
        state = f"({', '.join(parts)})" if len(parts) > 1 else "vmem"
        lines = [f"{', '.join(parts)} = state"] if len(parts) > 1 else []
        lines += ["isyn = self.beta * isyn + self.gain_syn * x"] if synaptic else []
        decayed = "self.alpha * vmem" if self.op.time_constants else "vmem"
        bias = " + self.bias" if self.leaks() else ""
        lines.append(f"vmem = {decayed} + self.gain * {'isyn' if synaptic else 'x'}{bias}")
        if not self.spiking:
            lines.append(f"return vmem, {state}")
        else:
            if self.foreign():
                fires = self.above("vmem", "self.v_threshold")
            else:
                fires = f"{self.function()}.apply(vmem, self.v_threshold, self.window, self.most).to(vmem.dtype)"
            before: list[str] = []
            behind = self.reset_lines()
            if self.late:
                before, behind = n.late_reset(self.op, self.semantics, "vmem", "spikes", fires)
            lines += [*before, f"spikes = {fires}", *behind, f"return spikes, {state}"]
        return [
            f"def step(self, x: Tensor, {'state' if len(parts) > 1 else 'vmem'}):",
            *(f"    {line}" for line in lines),
        ]

    def reset_lines(self) -> list[str]:
        detached = "" if n.detach_reset(self.op) is not True else ".detach()"
        if self.semantics.reset == "subtract":
            return [f"vmem = vmem - spikes{detached} * self.v_threshold"]
        if n.resets_to_zero(self.op, self.semantics):
            return [f"vmem = (1 - spikes{detached}) * vmem"]
        return [f"fired = spikes{detached}", "vmem = (1 - fired) * vmem + fired * self.v_reset"]

    # -- classes -----------------------------------------------------------------------------------------------------

    def init(self, more: list[str]) -> list[str]:
        return [*n.definition(self.op), "    super().__init__()", *n.keep_fields(self.op), *more]

    def text(self) -> str:
        """The class for whole sequences."""
        if isinstance(self.op, I):
            return n.integrator(self.op, self.semantics)
        doc = n.describe(self.op, self.semantics)
        if self.spiking and self.semantics.spikes_per_step != 1:
            doc.append("As many spikes in a step as the threshold fits into v.")
        if self.own:
            methods = self.written_out()
        else:
            methods = self.spiking_layer() if self.spiking else self.exponentials()
        return n.class_text("NAME(nn.Module)", [*doc, n.WHOLE], methods)

    def cell(self, base: str) -> str:
        """The class for one step, on that for sequences."""
        return n.cell_text(
            self.op, self.semantics, base, ["return self.step(x, self.start(x) if state is None else state)"]
        )
