"""The text of `model.py`: header, the model, the layers it uses, and what the framework's dialect adds."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from snnir import __version__, ops
from snnir.backends.torch_source.layers import as_trained, stateless
from snnir.backends.torch_source.library import names, used, with_needs
from snnir.backends.torch_source.neurons import Dialect, moved, trained
from snnir.backends.torch_source.program import Program
from snnir.backends.torch_source.source import WIDTH, Classes, Layer, fitted, literal, visible
from snnir.backends.torch_source.weights import shared
from snnir.graph import Graph
from snnir.learning import DERIVED, DROPOUT, learned
from snnir.naming import identifiers
from snnir.schedule import schedule


@dataclass(frozen=True)
class Source:
    """An emitted file and what became of each op: `layers` op name -> `Layer`."""

    text: str
    layers: Mapping[str, Layer]


def write(graph: Graph, dialect: Dialect) -> Source:
    """The PyTorch-family source of a graph that `family_target` accepts."""
    attributes = identifiers(graph.ops)
    classes = Classes()
    layers = _layers(graph, dialect, classes)
    classes.need("recorded", "expect")
    if _trains_neurons(graph):
        classes.need("forget")
    if any(_computed(graph, neurons=False)):
        classes.need("untrained")
    beside = [*with_needs(classes.parts).values(), *classes.sources()]
    appendix = dialect.appendix()
    taken = names("\n".join([*beside, appendix])) | names("\n".join(_imports(dialect))) | {"Model", "DT"}
    model = _model(graph, dialect, layers, attributes, frozenset(taken))
    extras = [*beside, *([appendix] if appendix else [])]
    needed = used("\n".join(extras)) | set(re.findall(r"(?<![\w.\"'])[A-Za-z_]\w*", model))
    body = "\n\n\n".join([model, *extras])
    imports = "\n".join(_grouped(_imports(dialect), needed))
    head = "\n\n".join([_header(graph, dialect), imports, *_constants(graph)])
    return Source(f"{head}\n\n\n{body}\n", layers)


def _trains_neurons(graph: Graph) -> bool:
    return any(isinstance(op, (ops.Neuron, ops.Threshold)) and learned(op) for op in graph.ops.values())


def _layers(graph: Graph, dialect: Dialect, classes: Classes) -> dict[str, Layer]:
    stepwise = {name for group in schedule(graph).groups if group.cyclic for name in group.ops}
    layers: dict[str, Layer] = {}
    for name, op in graph.ops.items():
        if isinstance(op, (ops.Input, ops.Output)):
            continue
        if isinstance(op, ops.Neuron):
            cyclic = name in stepwise
            fresh = not cyclic and _fresh(graph, name)
            made = dialect.neuron(moved(op), graph.semantics, cyclic, fresh, classes)
            layers[name] = trained(op, made, classes)
        elif isinstance(op, ops.Threshold):
            layers[name] = trained(op, dialect.threshold(op, graph.semantics, classes), classes)
        else:
            theirs = dialect.stateless(op, classes)
            made = theirs or stateless(op, _arriving(graph, name), name in stepwise, classes)
            layers[name] = as_trained(op, made, classes)
    return layers


def _arriving(graph: Graph, name: str) -> ops.Shape:
    """The shape at an op's first port; () for an op without."""
    edges = [edge for edge in graph.incoming[name] if edge.port == graph[name].ports[0]]
    return graph.shapes[edges[0].source] if edges else ()


def _fresh(graph: Graph, name: str) -> bool:
    """Whether a neuron's input is a new tensor that nobody else reads, and that its producer does not need either."""
    sources = [edge.source for edge in graph.incoming[name]]
    if len(sources) > 1:
        return True  # a sum
    makers = (ops.Linear, ops.Conv, ops.ConvTranspose2d, ops.BatchNorm)
    return all(isinstance(graph[s], makers) and len(graph.outgoing[s]) == 1 for s in sources)


def _imports(dialect: Dialect) -> list[str]:
    ours = [
        "from pathlib import Path",
        "from typing import Any",
        "import torch",
        "from torch import Tensor, nn",
        "from torch.nn import functional as F",
        "from safetensors.torch import load_file",
    ]
    return list(dict.fromkeys([*ours, *dialect.imports()]))


def _grouped(lines: list[str], needed: set[str]) -> list[str]:
    """Import lines of the names that are needed, in the usual order: the standard library, then packages."""
    plain: list[str] = []
    merged: dict[str, set[str]] = {}
    for line in lines:
        if line.startswith("from "):
            module, _, what = line.removeprefix("from ").partition(" import ")
            there = (part.strip() for part in what.split(","))
            merged.setdefault(module, set()).update(part for part in there if part.split()[-1] in needed)
        elif line.split()[-1].partition(".")[0] in needed:
            plain.append(line)
    whole = plain + [f"from {module} import {', '.join(sorted(what))}" for module, what in merged.items() if what]

    def key(line: str) -> tuple[bool, str]:
        return line.startswith("from "), line.split()[1].lower()

    standard = sorted((line for line in whole if line.split()[1].partition(".")[0] in sys.stdlib_module_names), key=key)
    others = sorted((line for line in whole if line not in standard), key=key)
    return ["from __future__ import annotations", "", *standard, "", *others]


def _header(graph: Graph, dialect: Dialect) -> str:
    dt = graph.semantics.dt
    title = str(graph.metadata.get("name") or "A spiking network")
    inputs = ", ".join(f"{name} {_with_time(graph.shapes[name])}" for name in graph.inputs)
    outputs = ", ".join(f"{name} {_with_time(graph.shapes[name])}" for name in graph.outputs)
    size = sum(array.size for array in graph.weights().values())
    step = "" if dt is None else f" A step is {dt:g} s."
    lines = [
        f"{title}, for {dialect.name}.",
        "",
        f"Written by snnir {__version__} from a graph of {len(graph)} ops with {size:,} numbers, which are in",
        f"weights.safetensors. T is steps, B is batch; a call starts at rest.{step}",
        "",
        f"    in   {inputs}",
        f"    out  {outputs}",
        "",
        "    model = Model()",
        "    y = model(x)" if len(graph.inputs) == 1 else f"    y = model({', '.join(_call_names(graph))})",
        *_left_out(graph),
        "",
        "It needs torch, safetensors" + "".join(f", {p}" for p in dialect.packages) + "; not snnir.",
    ]
    text = "\n".join(visible(line.replace("\\", "\\\\")) for line in lines).replace('"""', "'''")
    return f'"""{text}\n"""'


def _left_out(graph: Graph) -> list[str]:
    """What its model does in training and this one does not."""
    dropped = ", ".join(f"{p} at {name}" for name, p in graph.metadata.get(DROPOUT, {}).items())
    made = "; ".join(f"{field} of {name} from {names}" for name, field, names in _computed(graph, neurons=True))
    said = [
        *([f"In training its model drops out values ({dropped}); this one does not."] if dropped else []),
        *([f"In training its model changes what this one leaves as it is: {made}."] if made else []),
    ]
    return [line for text in said for line in ("", *wrap(text, WIDTH - 2))]


def _computed(graph: Graph, neurons: bool) -> list[tuple[str, str, str]]:
    """Arrays that were computed from a model's parameters: op, field, and these; of neurons, or of all others.

    Those of neurons are buffers, which training leaves alone; weights would be trained apart from what made them.
    """
    return [
        (name, field, ", ".join(parameters))
        for name, op in graph.ops.items()
        if isinstance(op, (ops.Neuron, ops.Threshold)) == neurons
        for field, parameters in op.metadata.get(DERIVED, {}).items()
    ]


def _call_names(graph: Graph) -> list[str]:
    spelt = identifiers(graph.ops)
    return [f"{spelt[name]}={spelt[name]}" for name in graph.inputs]


def _with_time(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(['T', 'B', *map(str, sizes)])})"


def _constants(graph: Graph) -> list[str]:
    return [] if graph.semantics.dt is None else [f"DT = {graph.semantics.dt!r}  # seconds per step"]


def _model(
    graph: Graph, dialect: Dialect, layers: Mapping[str, Layer], attributes: Mapping[str, str], taken: frozenset[str]
) -> str:
    program = Program(graph, attributes, taken)
    parameters = program.parameters()
    body = program.body()
    stepwise = [name for group in program.plan.groups if group.cyclic for name in group.ops]
    spelt = {name: a for name, a in attributes.items() if a != name and name in layers}
    pairs_of = shared(graph).items()
    twins = {f"{attributes[op]}.{field}": f"{attributes[first]}.{slot}" for (op, field), (first, slot) in pairs_of}
    made = _computed(graph, neurons=False)
    derived = {f"{attributes[name]}.{field}": parameters for name, field, parameters in made}
    lines = [
        "class Model(nn.Module):",
        '    """The network. Its state dict has the graph\'s own names, so trained weights go back as they are."""',
        "",
        f"    INPUTS = {_tuple(graph.inputs)}",
        f"    OUTPUTS = {_tuple(graph.outputs)}",
        *(_constant("STEPWISE", stepwise, "ops on a cycle") if stepwise else []),
        *(_constant("SHARED", twins, "one array, read by two layers") if twins else []),
        *(_constant("DERIVED", derived, "computed from a model's parameters") if derived else []),
        *(_constant("SPELT", spelt, "op -> its layer, where the names differ") if spelt else []),
        "",
        "    def __init__(self, weights: dict[str, Tensor] | None = None, dtype: torch.dtype = torch.float32) -> None:",
        '        """weights: a state dict; None reads weights.safetensors beside this file."""',
        "        super().__init__()",
    ]
    for name, layer in layers.items():
        lines += fitted(f"self.{attributes[name]} = ", layer.make, 8)
    lines += [
        "        if weights is None:",
        '            weights = load_file(Path(__file__).with_name("weights.safetensors"))',
    ]
    if twins:
        lines.append("        weights = {key: weights[first] for key, first in self.SHARED.items()} | weights")
    lines.append("        self.load_state_dict(weights, assign=True)")
    if twins:
        lines += [
            "        for key, first in self.SHARED.items():",
            '            (layer, field), (other, slot) = key.split("."), first.split(".")',
            "            setattr(getattr(self, layer), field, getattr(getattr(self, other), slot))",
        ]
    lines.append("        self.to(dtype)")
    if _trains_neurons(graph):
        lines.append("        self.register_forward_hook(forget)")
    if derived:
        lines += [
            "        for name in self.DERIVED:",
            '            layer, field = name.split(".")',
            "            getattr(getattr(self, layer), field).requires_grad_(False)",
            "        self.register_forward_pre_hook(untrained)",
        ]
    lines.append("")
    many = len(parameters) > 1
    signature = f"def forward(self, {', '.join(f'{p}: Tensor' for p in parameters)}, record=()):"
    if len(signature) > 110:
        signature = "def forward(\n        self,\n" + "".join(f"        {p}: Tensor,\n" for p in parameters)
        signature += "        record=(),\n    ):"
    pairs = ", ".join(f'"{p}": {p}' for p in parameters)
    lines += [
        f"    {signature}",
        f'        """{"Each input" if many else "x"}: (T, B, ...). `record`: ops whose values are wanted too."""',
        "        if record:",
        *(fitted("return ", f"recorded(self, record, {{{pairs}}})", 12)),
        *(
            line
            for parameter, name in zip(parameters, graph.inputs, strict=True)
            for line in _expected(parameter, name, graph, parameters[0])
        ),
        *(f"        {line}" for line in body),
    ]
    return "\n".join(lines)


def _expected(parameter: str, name: str, graph: Graph, first: str) -> list[str]:
    """The statement that holds an input to its shape, and to the steps and samples of the first one."""
    given = [
        parameter,
        literal(name),
        *map(str, graph.shapes[name]),
        *([f"like={first}"] if first != parameter else []),
    ]
    return fitted("", f"expect({', '.join(given)})", 8)


def _tuple(items: Sequence[str]) -> str:
    return f"({', '.join(map(literal, items))}{',' if len(items) == 1 else ''})"


def _constant(name: str, value: Sequence[str] | Mapping[str, str], about: str) -> list[str]:
    """A tuple or dict of strings, in one line where it fits."""
    if isinstance(value, Mapping):
        items = [f"{literal(key)}: {literal(of)}" for key, of in value.items()]
        whole = "{" + ", ".join(items) + "}"
    else:
        items, whole = [literal(item) for item in value], _tuple(value)
    one = f"    {name} = {whole}  # {about}"
    if len(one) <= WIDTH:
        return [one]
    return [f"    {name} = {whole[0]}  # {about}", *(f"        {item}," for item in items), f"    {whole[-1]}"]
