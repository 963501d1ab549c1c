"""How Norse's people write neurons: box cells, whose Euler step is NIR's own, on parameters made from the buffers.

Norse's LIFBoxCell computes v + dt tau_mem_inv (x + v_leak - v), so dt tau_mem_inv = 1 - decay, and x = r I where the
gain is the equation's; a spike where v - v_th > 0. CubaLIF is an LIBoxCell (the synapse) in front of it. What Norse
does not have is written in its style and said in the report: other surrogate gradients than 'super' (1 / (1 + |u|)^2,
whatever its alpha) and 'triangle' of half width 1, IAFCell with another reset, a reset one step after the spike, a pure
integrator.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

from snnir.backends.torch_source import neurons as n
from snnir.backends.torch_source.source import WIDTH, Classes, Layer, call
from snnir.ops import IF, I, Neuron, Op, SpikingNeuron, Threshold
from snnir.semantics import Semantics

_PARTS = {"atan": "ATan", "fast_sigmoid": "FastSigmoid", "triangle": "Triangle"}


@dataclass(frozen=True)
class NorseDialect:
    """Neuron layers on Norse's box cells."""

    name: str = "Norse"
    packages: tuple[str, ...] = ("norse",)

    def imports(self) -> list[str]:
        """Norse under the name that its documentation gives it, and its step function."""
        spike = "from norse.torch.functional.threshold import threshold as spike"
        return ["from typing import NamedTuple", "import norse.torch as norse", spike]

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
        return Layer(call(name, **n.arguments(op, writer.options())), uses=writer.uses(), own="; ".join(writer.own))

    def stateless(self, op: Op, classes: Classes) -> Layer | None:
        """None: plain PyTorch."""
        return None

    def threshold(self, op: Threshold, semantics: Semantics, classes: Classes) -> Layer:
        """See `Dialect`."""
        method, alpha, own = _method(op, classes)
        fires = "self.method(u, self.alpha)" if own else "spike(u, self.method, self.alpha)"
        made = n.step_function(op, semantics, classes, {"method": method, "alpha": alpha}, fires)
        return Layer(made, uses="" if own else "norse.functional.threshold", own=own)


def _method(op: Op, classes: Classes) -> tuple[str, str, str]:
    """Norse's name of the surrogate (or a function of our own), its alpha, and why it is not Norse's ('' if it is)."""
    chosen = n.surrogate(op)
    if chosen is None or chosen == n.Surrogate("fast_sigmoid", 1.0):
        return '"super"', "100.0", ""
    if chosen == n.Surrogate("triangle", 1.0):
        return '"triangle"', "0.5", ""
    classes.need(_PARTS[chosen.kind])
    reason = f"Norse has no surrogate gradient {chosen.kind} with parameter {chosen.parameter:g}"
    return f"{_PARTS[chosen.kind]}.apply", repr(chosen.parameter), reason


class _Writer:
    """Writes the classes of one population."""

    def __init__(self, op: Neuron, semantics: Semantics, classes: Classes) -> None:
        self.op, self.semantics, self.classes = op, n.in_time(op, semantics), classes
        self.held = self.spiking and self.semantics.reset == "held-subtract"
        self.late = self.held or (self.spiking and self.semantics.reset.startswith("delayed"))
        self.own: list[str] = []
        self.method, self.alpha = "", ""
        self.foreign = ""
        if isinstance(op, SpikingNeuron):
            self.method, self.alpha, self.foreign = _method(op, classes)
            self.own += [self.foreign] if self.foreign else []
        self.plain_iaf = isinstance(op, IF) and not self.foreign and self.reset() == ""
        if self.late:
            self.own.append("Norse's cells reset in the step of the spike alone")
        elif isinstance(op, IF) and not self.foreign and not self.plain_iaf:
            self.own.append("Norse's IAFCell only resets to a value, and passes gradients through the reset")
        if isinstance(op, I):
            self.own.append("Norse has no integrator without leak and spike")

    def uses(self) -> str:
        """Norse's cells behind the class."""
        if isinstance(self.op, I):
            return ""
        membrane = "IAFCell" if isinstance(self.op, IF) else "LIFBoxCell" if self.spiking else "LIBoxCell"
        return f"norse.LIBoxCell + norse.{membrane}" if n.current_based(self.op) else f"norse.{membrane}"

    @property
    def spiking(self) -> bool:
        return isinstance(self.op, SpikingNeuron)

    def options(self) -> dict[str, str]:
        """Constructor arguments beside the parameters."""
        return {"method": self.method, "alpha": self.alpha} if self.spiking else {}

    # -- pieces ------------------------------------------------------------------------------------------------------

    def reset(self) -> str:
        """The reset method as source; '' for Norse's default, `reset_value`."""
        detached = n.detach_reset(self.op) is True
        if self.semantics.reset.endswith("value"):
            if detached and n.resets_to_zero(self.op, self.semantics):
                return self.function(_DETACHED_ZERO, "reset_zero_detached")
            return self.function(_DETACHED_VALUE, "reset_value_detached") if detached else ""
        return self.function(_SUBTRACT.replace("Z", "z.detach()" if detached else "z"), "reset_by_threshold")

    def function(self, text: str, stem: str) -> str:
        return self.classes.add(stem, text)

    def inverse(self, tau: str) -> str:
        """Norse's inverse time constant: dt times it is 1 - decay."""
        return f"1 / self.{tau}" if self.semantics.decay == "euler" else f"-torch.expm1(-DT / self.{tau}) / DT"

    def scaled(self, factor: str, tau: str, x: str) -> str:
        """The input by which Norse's step adds what ours adds; `factor` names a parameter."""
        if self.semantics.gain == "ode":
            return x if self.is_one(factor) else f"self.{factor} * {x}"
        if self.semantics.decay == "euler":
            return f"self.{factor} * self.{tau} / DT * {x}"
        return f"self.{factor} / -torch.expm1(-DT / self.{tau}) * {x}"

    def is_one(self, factor: str) -> bool:
        """Whether a gain can be left out (`assumptions` then holds it to 1)."""
        return self.semantics.gain == "ode" and bool((getattr(self.op, factor) == 1).all())

    def assumptions(self) -> list[str]:
        """The statement that holds parameters to what the class takes for granted."""
        given = ("r", "w_in") if n.current_based(self.op) else () if isinstance(self.op, IF) else ("r",)
        held = [f"self.{name} == 1" for name in given if self.is_one(name)]
        if self.spiking and n.resets_to_zero(self.op, self.semantics) and n.detach_reset(self.op) is True:
            held.append("self.v_reset == 0")
        self.classes.need(*(["fits"] if held else []))
        return [f"    fits({', '.join(held)})"] if held else []

    def spike_parameters(self) -> list[str]:
        reset = self.reset()
        drop = self.semantics.reset.endswith("subtract")
        return [
            f"v_th={n.threshold('v_threshold', self.semantics, self.classes)}",
            f"v_reset=self.{'v_threshold' if drop else 'v_reset'}",
            "method=self.method",
            "alpha=self.alpha",
            *([f"reset_method={reset}"] if reset else []),
        ]

    def membrane(self, tau: str) -> list[str]:
        """Norse's parameters of the membrane, as a call over several lines."""
        if isinstance(self.op, IF):
            name = "IAFParameters" if self.plain_iaf else "LIFBoxParameters"
            given = self.spike_parameters()
        else:
            name = "LIFBoxParameters" if self.spiking else "LIBoxParameters"
            given = [f"tau_mem_inv={self.inverse(tau)}", "v_leak=self.v_leak"]
            given += self.spike_parameters() if self.spiking else []
        return [f"norse.{name}(", *(f"    {g}," for g in given), ")"]

    def state(self) -> str:
        name = "norse.IAFFeedForwardState" if isinstance(self.op, IF) else "norse.LIFBoxFeedForwardState"
        name = name if self.spiking else "norse.LIBoxState"
        at_rest = "v_leak" in self.op.arrays and self.semantics.start == "rest"
        zero = f"torch.zeros_like(self.{'v_leak' if 'v_leak' in self.op.arrays else 'r'})"
        if self.late:
            return f"{self.function(_LATE_STATE, 'LateState')}(v={'self.v_leak' if at_rest else zero}, z={zero})"
        return f"{name}(v={'self.v_leak' if at_rest else zero})"

    def activation(self) -> str:
        """Our own step in the place of Norse's; '' where Norse's does."""
        if not self.spiking or not self.own:
            return ""
        fires = "p.method(v - p.v_th, p.alpha)" if self.foreign else "spike(v - p.v_th, p.method, p.alpha)"
        iaf = isinstance(self.op, IF)
        rule = "state.v + x" if iaf else "torch.lerp(state.v, x + p.v_leak, dt * p.tau_mem_inv)"
        stem = "iaf_step" if iaf else "lif_box_step"
        text = _HELD_STEP if self.held else _LATE_STEP if self.late else _STEP
        text = text.replace("RULE", rule).replace("FIRES", fires).replace("STATE", self.state().partition("(")[0])
        theirs = "iaf_feed_forward_step" if iaf else "lif_box_feed_forward_step"
        doc, why = f"norse.{theirs}, written out", "; ".join(self.own)
        head = f"{doc}: {why}."
        if len(head) > WIDTH - 10:
            head = "\n".join([f"{doc}.", "", *(f"    {line}" for line in wrap(f"{why}.", WIDTH - 4)), "    "])
        return self.function(text.replace("DOC", head), stem)

    # -- classes -----------------------------------------------------------------------------------------------------

    def init(self, parent: list[str]) -> list[str]:
        extras = ("method", "alpha") if self.spiking else ()
        lines = [*n.definition(self.op, *extras), *parent, *n.keep_fields(self.op)]
        return [*lines, "    self.method, self.alpha = method, alpha"] if self.spiking else lines

    def text(self) -> str:
        """The class for whole sequences."""
        if isinstance(self.op, I):
            return n.integrator(self.op, self.semantics)
        doc = [*n.describe(self.op, self.semantics), n.WHOLE]
        return self.current_based(doc) if n.current_based(self.op) else self.single(doc)

    def single(self, doc: list[str]) -> str:
        cell = self.uses()
        parent = ["    super().__init__(p=None, dt=DT)  # start() makes the parameters from the buffers"]
        init = self.init(parent)
        if self.activation():
            init.append(f"    self.activation = {self.activation()}")
        first, *more = self.membrane("tau")
        start = [
            "def start(self):",
            '    """Norse\'s parameters and the state before the first step."""',
            f"    self.p = {first}",
            *(f"    {line}" for line in more),
            *self.assumptions(),
            f"    return {self.state()}",
        ]
        return n.class_text(
            f"NAME({cell})", doc, [init, start, self.loop(f"super().forward({self.x('current')}, state)")]
        )

    def x(self, x: str) -> str:
        """The input of the (first) cell."""
        if n.current_based(self.op):
            return self.scaled("w_in", "tau_syn", x)
        if isinstance(self.op, IF):
            return f"{n.gain(self.op, self.semantics)} * {x}"
        return self.scaled("r", "tau", x)

    def loop(self, step: str) -> list[str]:
        self.classes.need("by_step", "whole")
        return [
            "def forward(self, x: Tensor) -> Tensor:",
            "    state, out = self.start(), []",
            "    for current in by_step(x):",
            f"        y, state = {step}",
            "        out.append(y)",
            "    return whole(out)",
        ]

    def current_based(self, doc: list[str]) -> str:
        cell = "LIFBoxCell" if self.spiking else "LIBoxCell"
        init = self.init(["    super().__init__()"])
        init += [
            "    self.synapse = norse.LIBoxCell(p=None, dt=DT)",
            f"    self.membrane = norse.{cell}(p=None, dt=DT)",
        ]
        if self.activation():
            init.append(f"    self.membrane.activation = {self.activation()}")
        first, *more = self.membrane("tau_mem")
        zero = "torch.zeros_like(self.tau_syn)"
        start = [
            "def start(self):",
            '    """Norse\'s parameters and the state before the first step."""',
            f"    self.synapse.p = norse.LIBoxParameters(tau_mem_inv={self.inverse('tau_syn')}, v_leak={zero})",
            f"    self.membrane.p = {first}",
            *(f"    {line}" for line in more),
            *self.assumptions(),
            *self.both(f"norse.LIBoxState(v={zero})"),
        ]
        step = [
            "def step(self, x: Tensor, state):",
            "    synapse, membrane = state",
            f"    i, synapse = self.synapse({self.x('x')}, synapse)",
            f"    y, membrane = self.membrane({self.scaled('r', 'tau_mem', 'i')}, membrane)",
            "    return y, (synapse, membrane)",
        ]
        return n.class_text("NAME(nn.Module)", doc, [init, start, step, self.loop("self.step(current, state)")])

    def both(self, synapse: str) -> list[str]:
        """The statements that give the states of synapse and membrane."""
        whole = f"    return {synapse}, {self.state()}"
        return (
            [whole] if len(whole) <= WIDTH - 4 else [f"    synapse = {synapse}", f"    return synapse, {self.state()}"]
        )

    def cell(self, base: str) -> str:
        """The class for one step, on that for sequences."""
        if n.current_based(self.op):
            step = "self.step(x, self.start() if state is None else state)"
        else:
            step = f"{self.uses()}.forward(self, {self.x('x')}, self.start() if state is None else state)"
        return n.cell_text(self.op, self.semantics, base, [f"return {step}"])


_DETACHED_VALUE = '''def NAME(z, v, reset, th):
    """norse.reset_value without a gradient through the spike."""
    return norse.reset_value(z.detach(), v, reset, th)'''

_DETACHED_ZERO = '''def NAME(z, v, reset, th):
    """norse.reset_value to 0, without a gradient through the spike."""
    return (1 - z.detach()) * v'''

# norse.reset_subtract takes five operations for this, and `th`, which is not the threshold where a spike is v >= it.
_SUBTRACT = '''def NAME(z, v, reset, th):
    """norse.reset_subtract in two operations; `reset` holds the threshold."""
    return v - Z * reset'''

_STEP = '''def NAME(x, state, p, dt):
    """DOC"""
    v = RULE
    z = FIRES
    return z, STATE(v=p.reset_method(z, v, p.v_reset, p.v_th))'''

_LATE_STATE = '''class NAME(NamedTuple):
    """A membrane, and the spikes that reset it in the next step."""

    v: Tensor
    z: Tensor'''

_LATE_STEP = '''def NAME(x, state, p, dt):
    """DOC"""
    v = p.reset_method(state.z, RULE, p.v_reset, p.v_th)
    z = FIRES
    return z, STATE(v=v, z=z)'''

_HELD_STEP = '''def NAME(x, state, p, dt):
    """DOC"""
    v = p.reset_method(state.z, RULE, p.v_reset, p.v_th)
    z = FIRES
    v = p.reset_method(z - state.z, v, p.v_reset, p.v_th)  # what state.z took off counts
    return z, STATE(v=v, z=FIRES)'''
