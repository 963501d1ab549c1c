"""How SpikingJelly's people write neurons: its nodes in step mode 'm', their parameters set from the buffers.

LIFNode computes v + (x - (v - v_reset)) / tau, tau in steps, or, with decay_input=False, v - (v - v_reset) / tau + x;
v_reset is 0 there where the reset subtracts. So r and the way from v_reset to the leak potential go into x, and a decay
e^(-DT/tau) is that of 1 / (1 - e^(-DT/tau)) steps. IFNode adds x; CUBALIFNode takes the two decays as they are and has
no leak potential; NonSpikingLIFNode starts at 0. All spike where v - v_threshold >= 0; a strict comparison is that with
the next number above, or, where the threshold is subtracted, a surrogate function that is 0 at 0. LIFNode takes tau
above one step only, and on cycles nodes without spikes cannot hand their state on: such neurons are written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnir.backends.spikingjelly import helpers as h
from snnir.backends.torch_source import neurons as n
from snnir.backends.torch_source.source import WIDTH, Classes, Layer, call, fitted
from snnir.discretise import recurrence
from snnir.ops import IF, CubaLIF, I, Neuron, Op, SpikingNeuron, Threshold
from snnir.semantics import Semantics


@dataclass(frozen=True)
class SpikingJellyDialect:
    """Neuron layers on SpikingJelly's nodes."""

    name: str = "SpikingJelly"
    packages: tuple[str, ...] = ("spikingjelly",)

    def imports(self) -> list[str]:
        """SpikingJelly's modules under the names that its documentation gives them."""
        return ["from spikingjelly.activation_based import neuron, surrogate"]

    def appendix(self) -> str:
        """Nothing."""
        return ""

    def stateless(self, op: Op, classes: Classes) -> Layer | None:
        """None: plain PyTorch."""
        return None

    def neuron(self, op: Neuron, semantics: Semantics, stepwise: bool, fresh: bool, classes: Classes) -> Layer:
        """See `Dialect`."""
        classes.need("keep")
        writer = _Writer(op, n.in_time(op, semantics), stepwise, classes)
        name = classes.add(n.class_name(op), writer.text())
        if stepwise:
            name = classes.add(f"{n.class_name(op)}Cell", writer.cell(name))
        return Layer(call(name, **n.arguments(op, writer.options())), uses=" + ".join(writer.nodes()), own=writer.own)

    def threshold(self, op: Threshold, semantics: Semantics, classes: Classes) -> Layer:
        """See `Dialect`."""
        classes.need("keep")
        at = "self.threshold"
        if semantics.comparison == ">":
            at = f"{classes.add('just_above', h.JUST_ABOVE)}({at})"
        methods = [
            [
                "def __init__(self, threshold, surrogate_function):",
                "    super().__init__()",
                *n.keep_fields(op),
                "    self.surrogate_function = surrogate_function",
            ],
            ["def forward(self, x: Tensor) -> Tensor:", f"    return self.surrogate_function(x - {at})"],
        ]
        text = n.class_text("NAME(nn.Module)", [f"y = 1 where x {semantics.comparison} threshold, else 0."], methods)
        options = {"surrogate_function": _surrogate(op, classes)}
        made = call(classes.add("Threshold", text), **n.arguments(op, options))
        return Layer(made, uses="spikingjelly.surrogate")


def _surrogate(op: Op, classes: Classes) -> str:
    """The surrogate function as a call: SpikingJelly's default where the network names none."""
    chosen = n.surrogate(op)
    if chosen is None:
        return "surrogate.Sigmoid()"
    p = chosen.parameter
    if chosen.kind == "atan":
        return f"surrogate.ATan({p!r})"
    if chosen.kind == "fast_sigmoid" and p == 1:
        return "surrogate.SuperSpike()"
    if chosen.kind == "fast_sigmoid" and p == 2:
        return "surrogate.SoftSign(2.0)"
    scaled = classes.add("Scaled", h.SCALED)
    if chosen.kind == "fast_sigmoid":
        return f"{scaled}(surrogate.SoftSign({p!r}), {2 / p!r})"
    return f"{scaled}(surrogate.PiecewiseQuadratic({1 / p!r}), 0.5)"


class _Writer:
    """Writes the classes of one population."""

    def __init__(self, op: Neuron, semantics: Semantics, stepwise: bool, classes: Classes) -> None:
        self.op, self.semantics, self.stepwise, self.classes = op, semantics, stepwise, classes
        self.spiking = isinstance(op, SpikingNeuron)
        self.subtracts = semantics.reset.endswith("subtract")
        self.late = n.is_late(op, semantics)
        self.rule = recurrence(op, semantics)
        self.own = self._own()

    def _own(self) -> str:
        """Why SpikingJelly's nodes do not do, or ''."""
        if isinstance(self.op, I):
            return "an integrator is a sum over time"
        if not self.spiking:
            return "it is on a cycle, and NonSpikingLIFNode takes no state" if self.stepwise else ""
        if self.late:
            return "SpikingJelly's nodes reset in the step of the spike alone"
        if self.kind() == "LIFNode" and not (self.rule.decay > 0).all():
            return "a time constant is not above DT, and LIFNode takes tau above one step"
        return ""

    def kind(self) -> str:
        """The node that holds the membrane."""
        if isinstance(self.op, IF):
            return "IFNode"
        if isinstance(self.op, CubaLIF) and not np.any(self.op.v_leak):
            return "CUBALIFNode"
        return "LIFNode" if self.spiking else "NonSpikingLIFNode"

    def nodes(self) -> list[str]:
        """SpikingJelly's nodes behind the class."""
        if self.own:
            return []
        both = n.current_based(self.op) and not self.spiking
        return [f"neuron.{self.kind()}"] * (2 if both else 1)

    # -- pieces ------------------------------------------------------------------------------------------------------

    def options(self) -> dict[str, str]:
        """Constructor arguments beside the parameters."""
        if not self.spiking:
            return {}
        chosen = _surrogate(self.op, self.classes)
        if self.strict() and self.subtracts and not self.own:
            chosen = f"{self.classes.add('Strict', h.STRICT)}({chosen})"
        return {"surrogate_function": chosen}

    def strict(self) -> bool:
        return self.semantics.comparison == ">"

    def given_threshold(self) -> str:
        """The threshold from which on the layer spikes."""
        if not self.strict() or (self.subtracts and not self.own):
            return "self.v_threshold"
        return f"{self.classes.add('just_above', h.JUST_ABOVE)}(self.v_threshold)"

    def tau(self) -> str:
        return "tau_mem" if n.current_based(self.op) else "tau"

    def in_steps(self, tau: str) -> str:
        """A time constant in SpikingJelly's steps: 1 over what a step takes away."""
        return f"self.{tau} / DT" if self.semantics.decay == "euler" else f"-1 / torch.expm1(-DT / self.{tau})"

    def ode(self) -> bool:
        return self.semantics.gain == "ode"

    def leaks(self) -> bool:
        """Whether the membrane leaks to another value than LIFNode's."""
        leak = getattr(self.op, "v_leak", None)
        if leak is None:
            return False
        if self.kind() == "LIFNode" and not self.own and not self.subtracts:
            return bool(np.any(leak != getattr(self.op, "v_reset", 0.0)))
        return bool(np.any(leak))

    def starts_elsewhere(self) -> bool:
        """Whether the membrane starts elsewhere than at 0."""
        return n.start(self.op, self.semantics) != "0.0" and bool(np.any(getattr(self.op, "v_leak", 0.0)))

    def is_one(self) -> bool:
        """Whether the node takes x, or the current, times 1."""
        if self.kind() == "CUBALIFNode":
            return False
        if isinstance(self.op, IF) and self.ode():
            return False
        return bool((getattr(self.op, "r", np.zeros(())) == 1).all())

    def scaled(self, x: str) -> str:
        """The input of LIFNode."""
        x = x if self.is_one() else f"self.r * {x}"
        if not self.leaks():
            return x
        return f"{x} + self.drive" if " " in self.drive() else f"{x} + {self.drive()}"

    def drive(self) -> str:
        """What is added to the input of LIFNode in every step."""
        leak = "self.v_leak" if self.subtracts else "self.v_leak - self.v_reset"
        if self.ode():
            return leak
        return f"({leak}) / self.steps" if " " in leak else f"{leak} / self.steps"

    def gain(self) -> str:
        """The factor of x, or of the current's input where the synapse is written out."""
        if not n.current_based(self.op):
            return n.gain(self.op, self.semantics)
        synapse = n.times(n.rise("tau_syn", self.semantics), "self.w_in")
        return f"{synapse} * {n.gain(self.op, self.semantics)}" if self.kind() == "CUBALIFNode" else synapse

    def given_gain(self) -> str:
        """What the factor is called: a parameter as it is, or the layer would register it again."""
        return "self.gain" if " " in self.gain() else self.gain()

    def conditions(self) -> list[str]:
        """What must hold of the parameters for the node to compute the neuron, as it did when it was written."""
        found = []
        if self.kind() == "LIFNode":
            found.append("self.steps > 1")
        if self.is_one():
            found.append("self.r == 1")
        if "v_leak" in self.op.arrays and not self.leaks():
            same = self.kind() == "LIFNode" and not self.subtracts
            found.append(f"self.v_leak == {'self.v_reset' if same else '0'}")
        if n.start(self.op, self.semantics) != "0.0" and not self.starts_elsewhere():
            found.append("self.v_leak == 0")
        return list(dict.fromkeys(found))

    def fit(self, conditions: list[str]) -> list[str]:
        """The statement that holds parameters to conditions."""
        if not conditions:
            return []
        self.classes.need("fits")
        return fitted("", f"fits({', '.join(conditions)})", 0, WIDTH - 8)

    # -- nodes that spike --------------------------------------------------------------------------------------------

    def made(self) -> list[str]:
        """The statements of the constructor that make the node."""
        detach = n.detach_reset(self.op) is True
        options = {"v_reset": "None" if self.subtracts else "", "surrogate_function": "surrogate_function"}
        if self.kind() == "CUBALIFNode":
            made = [f"self.node = {call('neuron.CUBALIFNode', **options)}", 'self.node.step_mode = "m"']
            return [*made, *(["self.node.detach_reset = True"] if detach else [])]
        if self.kind() == "LIFNode":
            options = {"decay_input": "" if self.ode() else "False", **options}
        options |= {"detach_reset": "True" if detach else "", "step_mode": '"m"'}
        return fitted("self.node = ", call(f"neuron.{self.kind()}", **options), 0, WIDTH - 8)

    def start(self) -> list[str]:
        """The method `start` of a layer on a node that spikes."""
        lines = []
        if self.kind() == "LIFNode":
            lines.append(f"self.steps = {self.in_steps(self.tau())}")
            if self.leaks() and " " in self.drive():
                lines.append(f"self.drive = {self.drive()}")
        if self.kind() == "CUBALIFNode":
            lines.append(f"self.decay = {n.decay('tau_mem', self.semantics)}")
        if n.current_based(self.op):
            lines.append(f"self.decay_syn = {n.decay('tau_syn', self.semantics)}")
        if (n.current_based(self.op) or (isinstance(self.op, IF) and not self.is_one())) and " " in self.gain():
            lines.append(f"self.gain = {self.gain()}")
        lines += self.fit(self.conditions())
        zero = "torch.zeros_like(x)"
        state = {"v": f"{zero} + self.v_leak" if self.starts_elsewhere() else zero}
        if n.current_based(self.op):
            state["c" if self.kind() == "CUBALIFNode" else "i"] = zero
        pairs = ", ".join(f'"{key}": {value}' for key, value in state.items())
        return [
            "def start(self, x: Tensor):",
            '    """The coefficients, and the state before the first step; x: (B, ...), such as a step\'s."""',
            *(f"    {line}" for line in lines),
            f"    return {{{pairs}}}",
        ]

    def run(self) -> list[str]:
        """The method `run`."""
        through = self.classes.add("through", h.THROUGH)
        if self.kind() == "LIFNode":
            values = {"tau": "self.steps"}
        else:
            values = {} if isinstance(self.op, IF) else {"c_decay": "self.decay_syn", "v_decay": "self.decay"}
        values["v_threshold"] = self.given_threshold()
        values |= {} if self.subtracts else {"v_reset": "self.v_reset"}
        if self.apart():
            self.classes.need("whole")
            x = self.scaled("whole(currents)")
            given = call(through, "self.node", x, '{"v": state["v"]}', **values)
            lines = [
                'i, currents = state["i"], []',
                "for current in by_step(x):",
                f"    i = self.decay_syn * i + {self.given_gain()} * current",
                "    currents.append(i)",
                *fitted("y, after = ", given, 0, WIDTH - 8),
                'return y, {"i": i, **after}',
            ]
            self.classes.need("by_step")
        else:
            x = self.scaled("x") if self.kind() == "LIFNode" else "x" if self.is_one() else f"{self.given_gain()} * x"
            lines = fitted("return ", call(through, "self.node", x, "state", **values), 0, WIDTH - 8)
        return [
            "def run(self, x: Tensor, state):",
            '    """The output, and the state after it."""',
            *(f"    {line}" for line in lines),
        ]

    def apart(self) -> bool:
        """Whether the synapse is written out in front of the node."""
        return n.current_based(self.op) and self.kind() == "LIFNode"

    # -- nodes that do not -------------------------------------------------------------------------------------------

    def membranes(self) -> list[list[str]]:
        """The methods on NonSpikingLIFNode."""
        self.classes.need("whole")
        membrane = self.classes.add("membrane", h.MEMBRANE)
        names = ["synapse", "node"] if n.current_based(self.op) else ["node"]
        init = self.init([f"self.{name} = neuron.NonSpikingLIFNode()" for name in names])
        lines = []
        if n.current_based(self.op):
            lines.append(f"steps = {self.in_steps('tau_syn')}")
            x = "self.w_in * x" if self.ode() else "steps * self.w_in * x"
            lines.append(f"x = {membrane}(self.synapse, {x}, steps)")
        lines.append(f"steps = {self.in_steps(self.tau())}")
        x = "self.r * x" if self.ode() else "steps * self.r * x"
        rests = self.leaks() and self.starts_elsewhere()
        x = f"{x} + self.v_leak" if self.leaks() and not rests else x
        lines += self.fit([] if self.leaks() else ["self.v_leak == 0"])
        lines.append(f"return {'self.v_leak + ' if rests else ''}{membrane}(self.node, {x}, steps)")
        return [init, ["def forward(self, x: Tensor) -> Tensor:", *(f"    {line}" for line in lines)]]

    # -- written out -------------------------------------------------------------------------------------------------

    def written_out(self) -> list[list[str]]:
        """The methods of a layer that is no node of SpikingJelly's."""
        synaptic = n.current_based(self.op)
        leaks = bool(self.op.time_constants)
        lines = [f"self.decay = {n.decay(self.tau(), self.semantics)}"] if leaks else []
        gain, gain_syn = n.gain(self.op, self.semantics), n.times(n.rise("tau_syn", self.semantics), "self.w_in")
        lines += [f"self.gain = {gain}"] if " " in gain else []
        if synaptic:
            lines.append(f"self.decay_syn = {n.decay('tau_syn', self.semantics)}")
            lines += [f"self.gain_syn = {gain_syn}"] if " " in gain_syn else []
        gain, gain_syn = ("self.gain" if " " in gain else gain), ("self.gain_syn" if " " in gain_syn else gain_syn)
        lines += ["self.drive = (1 - self.decay) * self.v_leak"] if leaks else []
        v = "torch.zeros_like(x)"
        v = f"{v} + self.v_leak" if n.start(self.op, self.semantics) != "0.0" else v
        start = [
            "def start(self, x: Tensor):",
            '    """The coefficients, and the state before the first step; x: (B, ...), such as a step\'s."""',
            *(f"    {line}" for line in lines),
            f"    return {', '.join(['torch.zeros_like(x)'] * synaptic + [v] + ['torch.zeros_like(x)'] * self.late)}",
        ]
        parts = ["i"] * synaptic + ["v"] + ["late"] * self.late
        state = f"({', '.join(parts)})" if len(parts) > 1 else "v"
        lines = [f"{', '.join(parts)} = state"] if len(parts) > 1 else []
        lines += [f"i = self.decay_syn * i + {gain_syn} * x"] if synaptic else []
        x = f"{gain} * {'i' if synaptic else 'x'}"
        lines.append(f"v = self.decay * v + {x} + self.drive" if leaks else f"v = v + {x}")
        fires = f"self.surrogate_function(v - {self.given_threshold()})" if self.spiking else ""
        if self.late:
            before, behind = n.late_reset(self.op, self.semantics, "v", "y", fires)
            lines += [*before, f"y = {fires}", *behind]
        elif self.spiking:
            lines.append(f"y = {fires}")
            fired = "y.detach()" if n.detach_reset(self.op) is True else "y"
            reset = f"(1 - {fired}) * v + {fired} * self.v_reset"
            lines.append(f"v = v - {fired} * self.v_threshold" if self.subtracts else f"v = {reset}")
        lines.append(f"return {'y' if self.spiking else 'v'}, {state}")
        step = [
            f"def step(self, x: Tensor, {'state' if len(parts) > 1 else 'v'}):",
            *(f"    {line}" for line in lines),
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
        return [self.init(["self.surrogate_function = surrogate_function"] * self.spiking), start, step, forward]

    # -- classes -----------------------------------------------------------------------------------------------------

    def init(self, more: list[str]) -> list[str]:
        extras = ["surrogate_function"] if self.spiking else []
        head = [*n.definition(self.op, *extras), "    super().__init__()", *n.keep_fields(self.op)]
        return [*head, *(f"    {line}" for line in more)]

    def text(self) -> str:
        """The class for whole sequences."""
        if isinstance(self.op, I):
            return n.integrator(self.op, self.semantics)
        if self.own:
            methods = self.written_out()
        elif self.spiking:
            forward = ["def forward(self, x: Tensor) -> Tensor:", "    return self.run(x, self.start(x[0]))[0]"]
            methods = [self.init(self.made()), self.start(), self.run(), forward]
        else:
            methods = self.membranes()
        return n.class_text("NAME(nn.Module)", [*n.describe(self.op, self.semantics), n.WHOLE], methods)

    def cell(self, base: str) -> str:
        """The class for one step, on that for sequences."""
        if self.own:
            lines = ["return self.step(x, self.start(x) if state is None else state)"]
        elif self.apart():
            lines = [
                "y, state = self.run(x.unsqueeze(0), self.start(x) if state is None else state)",
                "return y.squeeze(0), state",
            ]
        else:
            lines = ['self.node.step_mode = "s"', "return self.run(x, self.start(x) if state is None else state)"]
        return n.cell_text(self.op, self.semantics, base, lines)
