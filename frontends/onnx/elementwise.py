"""Sums, products, norms and activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from snnir.frontends.onnx.builder import Builder
from snnir.frontends.onnx.node import Node
from snnir.frontends.onnx.readers import reads
from snnir.frontends.onnx.values import Const, Refuse, Signal, Value
from snnir.ops import Activation, Affine, Array, BatchNorm, Conv, LayerNorm, Linear, Multiply, Threshold


def relu(b: Builder, x: Signal, part: str = "") -> Signal:
    """max(x, 0)."""
    return b.emit(Activation(function="relu", loc=b.loc), x, part)


def larger(b: Builder, x: Signal, y: Signal, part: str = "") -> Signal:
    """max(x, y) = y + relu(x - y), which is what the graph's ops can say."""
    stem = f"{part}." if part else ""
    return b.total([y, relu(b, b.total([x, b.minus(y, f"{stem}minus")]), f"{stem}more")])


@reads("Add", "Sum")
def add(b: Builder, node: Node) -> Value:
    """A sum is edges into one port; a constant becomes the bias of the layer before, where it can."""
    values = [node.given(i) for i in range(len(node.inputs))]
    signals = [v for v in values if isinstance(v, Signal)]
    total = b.total(signals)
    for value in values:
        if isinstance(value, Const):
            total = plus(b, total, value)
    return total


def plus(b: Builder, x: Signal, value: Const, sign: float = 1.0) -> Signal:
    """x + sign * constant."""
    array = b.fitted(value, x)
    array = array if sign == 1 else -array
    if not array.any() and np.broadcast_shapes(array.shape, x.shape) == x.shape:
        return x
    biased = _biased(b, x, array)
    if biased is not None:
        return biased
    full = np.broadcast_to(b.operand(Const(array), x), x.shape)
    return b.total([x, b.constant(np.ascontiguousarray(full), x.lead)])


def _biased(b: Builder, x: Signal, array: Array) -> Signal | None:
    """The layer behind `x` with a bias, where it is one without that nothing else reads yet; None elsewhere."""
    name = x.sources[0]
    op = b.ops[name]
    if len(x.sources) > 1 or any(edge.source == name for edge in b.edges) or name in b.kept:
        return None
    if type(op) is Linear and array.shape in ((), (1,), x.shape[-1:]):
        fields = {"weight": op.weight, "bias": np.broadcast_to(array, x.shape[-1:]), "loc": op.loc}
        b.ops[name] = Affine(**fields)  # type: ignore[arg-type]
        return x
    by_channel = array.ndim == len(x.shape) and array.shape == (x.shape[0], *(1,) * (len(x.shape) - 1))
    if isinstance(op, Conv) and by_channel and not op.bias.any():
        b.ops[name] = op.with_(bias=array.reshape(-1))
        return x
    return None


@reads("Sub")
def subtract(b: Builder, node: Node) -> Value:
    """x - y."""
    x, y = node.given(0), node.given(1)
    if isinstance(y, Const):
        return plus(b, node.signal(0), y, -1.0)
    minus = b.minus(node.signal(1))
    return plus(b, minus, x) if isinstance(x, Const) else b.total([node.signal(0), minus])


@reads("Mul")
def multiply(b: Builder, node: Node) -> Value:
    """A constant scales; two signals multiply."""
    x, y = node.given(0), node.given(1)
    if isinstance(x, Const):
        return b.scaled(node.signal(1), b.operand(x, node.signal(1)))
    if isinstance(y, Const):
        return b.scaled(node.signal(0), b.operand(y, node.signal(0)))
    return product(b, node.signal(0), node.signal(1))


def product(b: Builder, x: Signal, y: Signal) -> Signal:
    """x * y; the smaller one broadcasts to the other."""
    large, small = (x, y) if np.prod(x.shape) >= np.prod(y.shape) else (y, x)
    return b.emit(Multiply(loc=b.loc), {"a": large, "b": small})


@reads("Div")
def divide(b: Builder, node: Node) -> Value:
    """By a constant only."""
    x, by = node.signal(0), node.given(1)
    if not isinstance(by, Const):
        raise Refuse("divides by a value that follows from the inputs", expected="a constant divisor")
    array = b.operand(by, x)
    if (array == 0).any():
        raise Refuse("divides by zero")
    return b.scaled(x, 1 / array)


@reads("Neg")
def negative(b: Builder, node: Node) -> Value:
    """-x."""
    return b.minus(node.signal(), "")


@reads("Pow")
def power(b: Builder, node: Node) -> Value:
    """Whole powers of 1, 2 and 3."""
    x, exponent = node.signal(0), node.const(1, "exponent")
    if exponent.size != 1 or float(exponent.reshape(-1)[0]) not in (1.0, 2.0, 3.0):
        raise Refuse(f"its exponent is {exponent.reshape(-1)[:4].tolist()}", expected="1, 2 or 3")
    found = x
    for _ in range(int(exponent.reshape(-1)[0]) - 1):
        found = product(b, x, found)
    return found


_FUNCTIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Exp": "exp"}


@reads(*_FUNCTIONS)
def activation(b: Builder, node: Node) -> Value:
    """The functions that the graph has an op for."""
    return b.emit(Activation(function=_FUNCTIONS[node.kind], loc=b.loc), node.signal())


@reads("Swish")
def swish(b: Builder, node: Node) -> Value:
    """x * sigmoid(alpha * x)."""
    x, alpha = node.signal(), float(node.attribute("alpha", 1.0))
    if alpha == 1:
        return b.emit(Activation(function="silu", loc=b.loc), x)
    gate = b.emit(Activation(function="sigmoid", loc=b.loc), b.scaled(x, np.float64(alpha), "alpha"), "gate")
    return product(b, x, gate)


@reads("Abs")
def absolute(b: Builder, node: Node) -> Value:
    """|x| = relu(x) + relu(-x)."""
    x = node.signal()
    return b.total([relu(b, x, "above"), relu(b, b.minus(x), "below")])


@reads("LeakyRelu", "PRelu")
def leaky(b: Builder, node: Node) -> Value:
    """slope * x + (1 - slope) * relu(x)."""
    x = node.signal()
    slope: Any = np.float64(node.attribute("alpha", 0.01))
    if node.kind == "PRelu":
        slope = b.operand(Const(node.const(1, "slope")), x)
    return b.total([b.scaled(x, slope, "slope"), b.scaled(relu(b, x, "above"), 1 - slope, "rest")])


@reads("Clip", "HardSigmoid")
def clip(b: Builder, node: Node) -> Value:
    """low + relu(x - low) - relu(x - high)."""
    x = node.signal()
    low, high = 0.0, 1.0

    def shifted(y: Signal, by: float) -> Signal:
        return plus(b, y, Const(np.asarray(by)))

    if node.kind == "HardSigmoid":
        slope, offset = float(node.attribute("alpha", 0.2)), float(node.attribute("beta", 0.5))
        x = shifted(b.scaled(x, np.float64(slope), "slope"), offset)
    else:
        given = node.number(1, "min"), node.number(2, "max")
        low, high = (-np.inf if given[0] is None else given[0], np.inf if given[1] is None else given[1])
    least, most = (n if abs(n) < 3e38 else np.sign(n) * np.inf for n in (low, high))
    if least > -np.inf:
        above = relu(b, shifted(x, -least), "above")
        if most == np.inf:
            return shifted(above, least)
        over = relu(b, shifted(above, least - most), "over")
        return shifted(b.total([above, b.minus(over)]), least)
    if most == np.inf:
        return x
    under = relu(b, shifted(b.minus(x), most), "under")
    return shifted(b.minus(under, "back"), most)


@reads("Max", "Min")
def extreme(b: Builder, node: Node) -> Value:
    """Of two or more values, element by element."""
    given = [node.given(i) for i in range(len(node.inputs))]
    like = next(v for v in given if isinstance(v, Signal))
    signals = []
    for value in given:
        if isinstance(value, Const):
            full = np.broadcast_to(b.operand(value, like), like.shape)
            value = b.constant(np.ascontiguousarray(full), like.lead)
        if isinstance(value, Signal):
            signals.append(b.minus(value) if node.kind == "Min" else value)
    found = signals[0]
    for other in signals[1:]:
        found = larger(b, found, other)
    return b.minus(found, "back") if node.kind == "Min" else found


@reads("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def compare(b: Builder, node: Node) -> Value:
    """A comparison with a constant, cast to a number behind it, is a Threshold."""
    x, y = node.given(0), node.given(1)
    flipped = isinstance(x, Const)
    signal, limit = (node.signal(1), x) if flipped else (node.signal(0), y)
    if not isinstance(limit, Const):
        raise Refuse("compares two values that follow from the inputs", expected="a constant threshold")
    threshold = b.operand(limit, signal)
    if node.kind.startswith("Less") != flipped:
        signal, threshold = b.minus(signal), -threshold
    comparison = ">=" if node.kind.endswith("Equal") else ">"
    b.comparisons.setdefault(comparison, b.name)
    found = b.emit(Threshold(threshold=threshold, loc=b.loc), signal)
    return Signal(found.sources, found.shape, found.lead, truth=True)


@reads("Identity", "Dropout", "Cast", "CastLike")
def same(b: Builder, node: Node) -> Value | list[Value]:
    """What changes nothing when a network is used (not trained); types of numbers are not kept apart."""
    x = node.signal()
    if node.kind == "Dropout":
        training = node.given(2)
        if training is not None and not (isinstance(training, Const) and not training.array.any()):
            raise Refuse(
                "is in training mode", expected="a network as it is used", hint="export the model in eval mode"
            )
        return [x, *[Const(np.ones((), np.bool_))] * (len(node.outputs) - 1)]
    if node.kind == "Cast" and np.dtype(node.attributes["to"]).kind not in "f":
        # Truth values and counts of the graph are floats of whole value; any other number would be cut.
        if not (x.truth or all(b.ops[name].spiking for name in x.sources)):
            raise Refuse(f"cuts values to {np.dtype(node.attributes['to']).name}", expected="a cast to floats")
        return x
    return Signal(x.sources, x.shape, x.lead)


@reads("BatchNormalization")
def batch_norm(b: Builder, node: Node) -> Value | list[Value]:
    """With fixed statistics."""
    x = node.signal()
    if node.attribute("training_mode", 0) or len([name for name in node.outputs if name]) > 1:
        raise Refuse("is in training mode", expected="fixed statistics", hint="export the model in eval mode")
    names = ("weight", "bias", "mean", "var")
    arrays: dict[str, Any] = {name: node.const(i, name) for i, name in enumerate(names, 1)}
    return b.emit(BatchNorm(**arrays, eps=float(node.attribute("epsilon", 1e-5)), loc=b.loc), x)


@reads("LayerNormalization")
def layer_norm(b: Builder, node: Node) -> Value:
    """Over the last axes of a sample."""
    x = node.signal()
    rank = len(x.lead) + len(x.shape)
    axes = rank - int(node.attribute("axis", -1)) % rank
    if axes > len(x.shape) or len([name for name in node.outputs if name]) > 1:
        raise Refuse("normalises over the batch, or gives its statistics", expected="the last axes of a sample")
    shape = x.shape[len(x.shape) - axes :]
    weight = np.broadcast_to(node.const(1, "scale"), shape)
    bias = node.maybe(2, "bias")
    bias = np.zeros(shape, weight.dtype) if bias is None else np.broadcast_to(bias, shape)
    return b.emit(LayerNorm(weight=weight, bias=bias, eps=float(node.attribute("epsilon", 1e-5)), loc=b.loc), x)
