"""How plain PyTorch writes neurons: each population is one call of the fused kernels, which the file carries along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from snnir.backends.torch_source import neurons as n
from snnir.backends.torch_source.library import body
from snnir.backends.torch_source.source import Classes, Layer, call
from snnir.ops import Neuron, Op, SpikingNeuron, Threshold
from snnir.semantics import Semantics

KERNELS = Path(__file__).with_name("kernels.py")


@dataclass(frozen=True)
class TorchDialect:
    """Neuron layers on `kernels.run` (all steps at once) and `kernels.step` (one)."""

    name: str = "PyTorch"
    packages: tuple[str, ...] = ()

    def imports(self) -> list[str]:
        """The kernels' own imports."""
        return body(KERNELS)[0]

    def appendix(self) -> str:
        """The kernels, word for word."""
        _, doc, rest = body(KERNELS)
        lines: list[str] = []
        for paragraph in doc.split("\n\n"):
            formula = paragraph.startswith("    ")
            lines += [*(paragraph.splitlines() if formula else wrap(paragraph.replace("\n", " "), 118)), ""]
        comment = "\n".join(f"# {line}".rstrip() for line in lines[:-1])
        return f"{comment}\n\n{rest}"

    def neuron(self, op: Neuron, semantics: Semantics, stepwise: bool, fresh: bool, classes: Classes) -> Layer:
        """See `Dialect`."""
        classes.need("keep")
        semantics = n.in_time(op, semantics)
        name = classes.add(n.class_name(op), _sequence(op, semantics))
        options = _options(op) if isinstance(op, SpikingNeuron) else {}
        if stepwise:
            name = classes.add(f"{n.class_name(op)}Cell", _cell(op, semantics, name))
        elif fresh:
            options["in_place"] = "True"
        return Layer(call(name, **n.arguments(op, options)), uses="kernels.step" if stepwise else "kernels.run")

    def stateless(self, op: Op, classes: Classes) -> Layer | None:
        """None: plain PyTorch."""
        return None

    def threshold(self, op: Threshold, semantics: Semantics, classes: Classes) -> Layer:
        """See `Dialect`."""
        classes.need("keep")
        inclusive = "" if semantics.comparison == ">" else ", inclusive=True"
        methods = [
            [
                "def __init__(self, threshold, surrogate):",
                "    super().__init__()",
                "    keep(self, threshold=threshold)",
                "    self.surrogate = surrogate",
            ],
            [
                "def forward(self, x: Tensor) -> Tensor:",
                f"    return spike(x, self.threshold, self.surrogate{inclusive})",
            ],
        ]
        doc = [f"y = 1 where x {semantics.comparison} threshold, else 0."]
        name = classes.add("Threshold", n.class_text("NAME(nn.Module)", doc, methods))
        return Layer(call(name, **n.arguments(op, {"surrogate": _surrogate(op)})), uses="kernels.spike")


def _surrogate(op: Op) -> str:
    chosen = n.surrogate(op)
    return "Surrogate()" if chosen is None else f'Surrogate("{chosen.kind}", {chosen.parameter!r})'


def _options(op: Op) -> dict[str, str]:
    return {"surrogate": _surrogate(op), "detach_reset": "False" if n.detach_reset(op) is False else ""}


def _sequence(op: Neuron, semantics: Semantics) -> str:
    spiking = isinstance(op, SpikingNeuron)
    extras = ["surrogate", "detach_reset=True"] if spiking else []
    init = [
        *n.definition(op, *extras, "in_place=False"),
        "    super().__init__()",
        *n.keep_fields(op),
        "    self.in_place = in_place",
    ]
    if spiking:
        init += ["    self.surrogate, self.detach_reset = surrogate, detach_reset"]
    start = n.start(op, semantics)
    rule = ["def rule(self) -> Neuron:", '    """The step as the kernels take it."""', *_rule(op, semantics)]
    forward = [
        "def forward(self, x: Tensor) -> Tensor:",
        f"    return run(x, self.rule(), {_state(start)}, self.in_place)[0]",
    ]
    doc = [*n.describe(op, semantics), "x: (T, B, ...), all steps at once; `in_place` writes over x."]
    return n.class_text("NAME(nn.Module)", doc, [init, rule, forward])


def _state(start: str) -> str:
    return "State()" if start == "0.0" else f"State(v={start})"


def _rule(op: Neuron, semantics: Semantics) -> list[str]:
    fields: dict[str, str] = {"decay": "1.0", "gain": n.gain(op, semantics)}
    lines: list[str] = []
    if op.time_constants:
        lines.append(f"    decay = {n.decay('tau_mem' if n.current_based(op) else 'tau', semantics)}")
        fields |= {"decay": "decay", "drive": "(1 - decay) * self.v_leak"}
    if n.current_based(op):
        fields |= {
            "decay_syn": n.decay("tau_syn", semantics),
            "gain_syn": n.times(n.rise("tau_syn", semantics), "self.w_in"),
        }
    if isinstance(op, SpikingNeuron):
        fields |= {"threshold": "self.v_threshold"} | _reset(semantics)
        fields |= {"surrogate": "self.surrogate", "detach_reset": "self.detach_reset"}
    return [*lines, "    return Neuron(", *(f"        {key}={value}," for key, value in fields.items()), "    )"]


def _reset(semantics: Semantics) -> dict[str, str]:
    found = {"v_reset": "self.v_reset"} if semantics.reset.endswith("value") else {"v_drop": "self.v_threshold"}
    found |= {} if semantics.comparison == ">" else {"inclusive": "True"}
    found |= {"late": "True"} if semantics.reset.startswith(("delayed", "held")) else {}
    return found | ({"held": "True"} if semantics.reset.startswith("held") else {})


def _cell(op: Neuron, semantics: Semantics, base: str) -> str:
    forward = [
        "def forward(self, x: Tensor, state=None):",
        "    if state is None:",
        f"        self.coefficients, state = self.rule(), {_state(n.start(op, semantics))}",
        "    return step(x, self.coefficients, state)",
    ]
    doc = [f"{base} one step at a time, for a loop over time. x: (B, ...); gives the output and the next state."]
    return n.class_text(f"NAME({base})", doc, [forward])
