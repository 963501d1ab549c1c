"""Neuron layers over all time steps at once, in PyTorch.

`run` takes the input currents of a whole sequence, x of shape (T, B, *shape), so that the layer before it can be one
convolution or matrix product over T*B samples. Each step is, in this order of operations and roundings:

    i = decay_syn * i + gain_syn * x        with a synapse (CubaLIF, CubaLI); otherwise i is x itself
    v = decay * v + gain * i + drive
    s = v > threshold                       LIF, IF, CubaLIF; `inclusive`: v >= threshold
    v = v_reset where s                     or, with `v_drop`, v - s * v_drop ("subtract" is v_drop = threshold)

and gives s, or v where there is no threshold (LI, I, CubaLI). IF and I are decay = 1. All quantities are dimensionless:
the time step is already in decay and gain. A `late` reset, snnTorch's default, is that of the last step's s, and comes
before this step's. A `held` one comes at once, but where it left v above the threshold, v_drop is taken off before the
next s, and counts towards the reset behind it.

Speed: the loop over time goes through blocks of neurons whose state stays in the cache, with few in-place tensor
operations per step; back-propagation through time is written out by hand. Where numba can be imported, a kind of neuron
that is used a lot on the CPU is compiled into a single loop. Both give the same spikes, bit for bit. Dense memory
formats, channels_last too, are used as they lie. Neurons whose own parameters are trained, or whose late reset is not
v_drop or passes gradients, run as ordinary autograd operations, step by step. This file imports torch and, if it is
there, numba; it may be copied into any project.
"""

import functools
import importlib
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Inputs (T*B*neurons, summed over calls) after which numba compiles a kind of neuron; 0: at the first call. It takes
# about a second, which a single run of a network would not win back.
NUMBA_AFTER = 1 << 27
_BLOCK = 1024  # neurons per block of the compiled loops: state, parameters and one step of currents fit in L1
_TENSOR_BLOCK = 1 << 16  # neurons per block of the tensor operations: state and temporaries fit in L2


@dataclass(frozen=True)
class Surrogate:
    """What back-propagation takes for the derivative of the step function, with u = v - threshold.

    'atan': alpha/2 / (1 + (pi/2 alpha u)^2) (Fang et al. 2021; SpikingJelly's and snnTorch's default, alpha = 2).
    'fast_sigmoid': 1 / (1 + alpha |u|)^2 (SuperSpike, Zenke and Ganguli 2018; Norse's, where alpha is always 1).
    'triangle': max(0, 1 - |u| / alpha) / (2 alpha), alpha being the half width (FSDDIM's, alpha = 0.5).
    """

    kind: str = "atan"
    alpha: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in ("atan", "fast_sigmoid", "triangle") or not self.alpha > 0:
            raise ValueError(f"{self}: expected 'atan', 'fast_sigmoid' or 'triangle', and alpha > 0")

    def derivative(self, u: Tensor) -> Tensor:
        """The derivative at u, elementwise."""
        if self.kind == "atan":
            return (math.pi / 2 * self.alpha * u).square_().add_(1).reciprocal_().mul_(self.alpha / 2)
        if self.kind == "fast_sigmoid":
            return u.abs().mul_(self.alpha).add_(1).square_().reciprocal_()
        return u.abs().div_(-self.alpha).add_(1).clamp_(min=0).div_(2 * self.alpha)


class Neuron(NamedTuple):
    """A neuron layer. Numbers, or tensors that broadcast to a sample's shape: (), (C, 1, 1), one value per neuron.

    decay, gain, drive: of the membrane. threshold: None for a neuron without spikes. v_reset, v_drop: the reset;
    v_drop, where given, replaces v_reset. decay_syn, gain_syn: of the synapse; decay_syn None for none. late: the reset
    comes one step after the spike; held: a late v_drop that is taken off at once (see above).
    detach_reset: gradients do not flow through the spike into the reset.
    """

    decay: float | Tensor
    gain: float | Tensor = 1.0
    drive: float | Tensor = 0.0
    threshold: float | Tensor | None = None
    v_reset: float | Tensor = 0.0
    v_drop: float | Tensor | None = None
    decay_syn: float | Tensor | None = None
    gain_syn: float | Tensor = 1.0
    inclusive: bool = False
    surrogate: Surrogate = Surrogate()
    late: bool = False
    held: bool = False
    detach_reset: bool = True


class State(NamedTuple):
    """What a layer remembers, of shape (B, *shape) or broadcasting to it: membrane, current, spikes to reset late."""

    v: Tensor | float = 0.0
    i: Tensor | float = 0.0
    s: Tensor | float = 0.0


def run(x: Tensor, neuron: Neuron, state: State | None = None, in_place: bool = False) -> tuple[Tensor, State]:
    """All T steps of x, shape (T, B, *shape): the output, of that shape, and the final state.

    `in_place` lets x be overwritten, which saves a pass over memory: for an x that nobody reads afterwards and that is
    not needed for a gradient (else autograd raises in backward), as after a convolution or a linear layer.
    """
    if x.dim() < 2 or not x.is_floating_point():
        raise ValueError(f"x is {x.dtype} of shape {tuple(x.shape)}: expected floating point, (T, B, *shape)")
    state = State() if state is None else state
    differs = torch.is_grad_enabled() and any(isinstance(p, Tensor) and p.requires_grad for p in neuron)
    if len(x) and (differs or _only_by_step(neuron)):
        outputs = []
        for current in x:
            output, state = step(current, neuron, state)
            outputs.append(output)
        return torch.stack(outputs), state

    # The neurons of a sample in the order in which they lie in memory: any dense format is a (T, B, M) view.
    strides = x.stride()
    order = sorted(range(2, x.dim()), key=lambda d: -strides[d])
    if not x.permute(0, 1, *order).is_contiguous():
        x, order, in_place = x.contiguous(), list(range(2, x.dim())), True
    ordered = x.permute(0, 1, *order)
    flat = ordered.reshape(*x.shape[:2], math.prod(x.shape[2:]))

    def flat_state(value: Tensor | float) -> Tensor:
        value = torch.as_tensor(value, dtype=x.dtype, device=x.device).expand(x.shape[1:])
        return value.permute(0, *(d - 1 for d in order)).reshape(flat.shape[1:])

    def flat_parameter(value: Tensor | float | None) -> Tensor | float:
        if not isinstance(value, Tensor):
            return 0.0 if value is None else float(value)
        if value.numel() == 1:  # on a GPU it stays there: to read it would wait
            return value.item() if value.device.type == "cpu" else value.detach().reshape(()).to(x.dtype)
        value = value.detach().to(x.dtype).expand(x.shape[2:])
        return value.permute([d - 2 for d in order]).reshape(-1)

    n, reset = neuron, neuron.v_reset if neuron.v_drop is None else neuron.v_drop
    p = [flat_parameter(q) for q in (n.decay, n.gain, n.drive, n.threshold, reset, n.decay_syn, n.gain_syn)]
    v = flat_state(state.v)
    i = flat_state(state.i) if n.decay_syn is not None else flat.new_empty((0, 0))
    s = flat_state(state.s).detach().clone() if n.late else flat.new_empty((0, 0))
    if torch.is_grad_enabled() and (x.requires_grad or v.requires_grad or i.requires_grad):
        output, v, i = _Run.apply(flat, v, i, s, neuron, p, in_place and not x.is_leaf)
    else:
        v, i = v.clone(), i.clone()
        output = flat if in_place else torch.empty_like(flat)
        _forward(neuron, flat, None, output, v, i, s, p)

    back = [order.index(d) + 2 for d in range(2, x.dim())]
    output = output.reshape(ordered.shape).permute(0, 1, *back)
    v, i, s = (a.reshape(ordered.shape[1:]).permute(0, *(d - 1 for d in back)) if a.numel() else a for a in (v, i, s))
    return output, State(v, 0.0 if n.decay_syn is None else i, s if n.late else 0.0)


def step(x: Tensor, neuron: Neuron, state: State | None = None) -> tuple[Tensor, State]:
    """One step of x, shape (B, *shape), in ordinary autograd operations: for recurrent loops and trained neurons."""
    v, i, last = State() if state is None else state
    if neuron.decay_syn is not None:
        i = x = neuron.decay_syn * i + neuron.gain_syn * x
    v = neuron.decay * v + neuron.gain * x + neuron.drive
    if neuron.threshold is None:
        return v, State(v, i)
    if neuron.late:
        v = _reset(v, last if isinstance(last, Tensor) else torch.full_like(v, last), neuron)
    s = spike(v, neuron.threshold, neuron.surrogate, neuron.inclusive)
    fired = s.detach() if neuron.detach_reset else s
    if neuron.held:
        v = _reset(v, fired - last, neuron)
        above = spike(v, neuron.threshold, neuron.surrogate, neuron.inclusive)
        return s, State(v, i, above.detach() if neuron.detach_reset else above)
    return s, State(v, i, fired) if neuron.late else State(_reset(v, fired, neuron), i)


def _reset(v: Tensor, fired: Tensor, n: Neuron) -> Tensor:
    if n.v_drop is not None:
        return v - fired * n.v_drop
    v_next = torch.where(fired > 0, n.v_reset, v)
    if not n.detach_reset:
        # Adds 0, and to the gradient what (1 - s) v + s v_reset would have through s, without that form's rounding.
        v_next = v_next + (fired - fired.detach()) * (n.v_reset - v).detach()
    return v_next


def _only_by_step(n: Neuron) -> bool:
    return n.late and (n.held or n.v_drop is None or (torch.is_grad_enabled() and not n.detach_reset))


def spike(v: Tensor, threshold: float | Tensor, surrogate: Surrogate, inclusive: bool = False) -> Tensor:
    """1 where v is above the threshold, else 0, in v's dtype; the surrogate's derivative in backward."""
    return _Spike.apply(v - threshold, v >= threshold if inclusive else v > threshold, surrogate)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, fired: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return fired.to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.surrogate.derivative(*ctx.saved_tensors), None, None


class _Run(torch.autograd.Function):
    """The loop over time and its gradient. Kept for it: the membranes h of all steps before the reset."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, v: Tensor, i: Tensor, s: Tensor, neuron: Neuron, p: list[Any], in_place: bool
    ) -> Any:
        v, i, x_value = v.clone(), i.clone(), x.detach()
        h = None if neuron.threshold is None else x_value if in_place else torch.empty_like(x)
        output = torch.empty_like(x)
        _forward(neuron, x_value, h, output, v, i, s, p)
        if h is x_value:
            torch.autograd.graph.increment_version(x)  # whoever saved x for backward is told
        ctx.save_for_backward(h)
        ctx.neuron, ctx.p, ctx.shape = neuron, p, x.shape
        ctx.set_materialize_grads(False)
        return output, v, i

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (h,) = ctx.saved_tensors
        any_grad = next(g for g in grads if g is not None)
        states = [ctx.shape[1:], (0, 0) if ctx.neuron.decay_syn is None else ctx.shape[1:]]
        gv, gi = (any_grad.new_zeros(n) if g is None else g.clone() for n, g in zip(states, grads[1:], strict=True))
        g = any_grad.new_zeros(()).expand(ctx.shape) if grads[0] is None else grads[0]
        g = (g if g.stride(0) else g[:1]).contiguous()  # the same in every step, as after a mean over time
        # h, where nobody can ask for it again, becomes gx: fresh memory is slow. (As AOTAutograd's donated buffers.)
        kept = getattr(getattr(torch._C, "_autograd", None), "_get_current_graph_task_keep_graph", lambda: True)()
        gx = g.new_empty(ctx.shape) if h is None or kept else h
        _backward(ctx.neuron, g, h, gx, gv, gi, ctx.p)
        return gx, gv, gi, None, None, None, None


def _forward(
    n: Neuron, x: Tensor, h: Tensor | None, output: Tensor, v: Tensor, i: Tensor, last: Tensor, p: list[Any]
) -> None:
    """x -> output (T, B, M); v, i, last (B, M) in place; h keeps membranes before reset. h, output may be x itself."""
    if _worth_compiling(n, x):
        keep = 0 if h is None else 1 if h is x else 2
        loop = _compiled_forward(*_traits(n), keep, output is x, n.late)
        return _launch(loop, (x, x if h is None else h, output), (v, i, last), p)
    decay, gain, drive, threshold, reset, decay_syn, gain_syn = p
    reset = torch.as_tensor(reset, dtype=x.dtype, device=x.device)
    exceeds = torch.ge if n.inclusive else torch.gt
    scaled, driven = (isinstance(q, Tensor) or q != neutral for q, neutral in ((gain, 1.0), (drive, 0.0)))
    for block in _blocks(x):
        vb, ib, current, membrane = v[block], i[block], torch.empty_like(v[block]), torch.empty_like(v[block])
        for t in range(x.shape[0]):
            drawn, s = x[t, block], output[t, block]
            if n.decay_syn is not None:
                drawn = ib.mul_(decay_syn).add_(torch.mul(drawn, gain_syn, out=current))
            if scaled:
                drawn = torch.mul(drawn, gain, out=current)
            u = membrane if h is None else h[t, block]
            torch.add(vb.mul_(decay), drawn, out=u)
            if driven:
                u.add_(drive)
            if n.threshold is None:
                s.copy_(vb.copy_(u))
                continue
            if n.late:  # v is that before the reset; a weight of exactly 0 or 1 as below
                torch.addcmul(u, output[t - 1, block] if t else last[block], reset, value=-1, out=u)
                vb.copy_(u)
            exceeds(u, threshold, out=s)
            if n.late:
                continue
            # lerp and addcmul with a weight of exactly 0 or 1 are exact, and 20 times as fast as torch.where.
            if n.v_drop is not None:
                torch.addcmul(u, s, reset, value=-1, out=vb)
            else:
                torch.lerp(u, reset, s, out=vb)
    if n.late and len(x):
        last.copy_(output[-1])


def _backward(n: Neuron, g: Tensor, h: Tensor | None, gx: Tensor, gv: Tensor, gi: Tensor, p: list[Any]) -> None:
    """Gradient g of the output -> gx of x, (T, B, M); gv, gi in place. gx may be h itself, g one step for all."""
    if _worth_compiling(n, gx):
        loop = _compiled_backward(*_traits(n), n.detach_reset, n.surrogate.kind, gx is h)
        return _launch(loop, (g, g if h is None else h, gx), (gv, gi), p, n.surrogate.alpha)
    decay, gain, _, threshold, reset, decay_syn, gain_syn = p
    exceeds = torch.ge if n.inclusive else torch.gt
    for block in _blocks(gx):
        gvb, gib, s = gv[block], gi[block], torch.empty_like(gv[block])
        for t in reversed(range(gx.shape[0])):
            through, out = g[min(t, len(g) - 1), block], gx[t, block]
            if h is None:
                gvb.add_(through)
            else:
                u = h[t, block]
                if not n.detach_reset:
                    through = through - gvb * (u - reset if n.v_drop is None else reset)
                if n.v_drop is None:
                    gvb.addcmul_(gvb, exceeds(u, threshold, out=s), value=-1)
                gvb.addcmul_(through, n.surrogate.derivative(u - threshold))
            torch.mul(gvb, gain, out=out)
            if n.decay_syn is not None:
                gib.add_(out)
                torch.mul(gib, gain_syn, out=out)
                gib.mul_(decay_syn)
            gvb.mul_(decay)


def _blocks(x: Tensor) -> list[slice]:
    rows = max(1, _TENSOR_BLOCK // max(1, x.shape[2])) if x.device.type == "cpu" else max(1, x.shape[1])
    return [slice(b, b + rows) for b in range(0, x.shape[1], rows)]


@functools.cache
def _numba() -> Any:
    try:
        numba: Any = importlib.import_module("numba")
    except Exception:  # absent, or broken by another NumPy: the tensor operations do it
        return None
    return None if numba.config.DISABLE_JIT else numba


def _traits(n: Neuron) -> tuple[bool, bool, bool, bool]:
    return n.threshold is not None, n.decay_syn is not None, n.v_drop is not None, n.inclusive


_seen: Counter[Any] = Counter()


def _worth_compiling(n: Neuron, x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    _seen[_traits(n)] += x.numel()
    return x.numel() > 0 and _seen[_traits(n)] > NUMBA_AFTER and _numba() is not None


def _launch(loop: Any, sequences: tuple[Tensor, ...], states: tuple[Tensor, ...], p: list[Any], *rest: float) -> None:
    """Call a compiled loop on (T, B, M) sequences and (B, M) states; large ones on as many threads as PyTorch uses."""
    _, batch, width = sequences[-1].shape
    scalar = not any(isinstance(q, Tensor) for q in p)
    if scalar:  # the batch is then just more neurons
        batch, width = 1, batch * width
    row = torch.empty(min(width, _BLOCK) if scalar else width, dtype=sequences[0].dtype)
    table = torch.stack([torch.as_tensor(q, dtype=row.dtype).expand_as(row) for q in p]).numpy()
    arrays = [a.view(-1, batch, width).numpy() for a in sequences]
    arrays += [a.view(batch, width).numpy() if a.numel() else a.numpy() for a in states]
    work = functools.partial(loop, *arrays, table, *(table.dtype.type(number) for number in rest))
    units = batch * -(-width // _BLOCK)
    threads = min(torch.get_num_threads(), units, sequences[-1].numel() >> 18)
    if threads <= 1:
        return work(0, units)
    bounds = [units * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:  # the loops release the interpreter lock
        list(pool.map(work, bounds[:-1], bounds[1:]))


# The compiled loops. The arguments of the factories are constants to the compiler, which drops what they rule out.
# A unit of work is a block of at most _BLOCK neurons of one sample, over all steps; p holds one row per parameter.


@functools.cache
def _compiled_forward(spiking: bool, synapse: bool, subtract: bool, inclusive: bool, *options: Any) -> Any:
    keep, over_x, late = options

    @_numba().njit(nogil=True, error_model="numpy")
    def loop(x, h, output, v, i, s, p, start, stop):  # type: ignore[no-untyped-def]
        width, blocks = x.shape[2], (x.shape[2] + _BLOCK - 1) // _BLOCK
        one, zero = x.dtype.type(1), x.dtype.type(0)
        for unit in range(start, stop):
            b, lo = unit // blocks, unit % blocks * _BLOCK
            hi = min(lo + _BLOCK, width)
            at = lo if p.shape[1] == width else 0
            decay, gain, drive, threshold = p[0, at:], p[1, at:], p[2, at:], p[3, at:]
            reset, decay_syn, gain_syn, vb = p[4, at:], p[5, at:], p[6, at:], v[b, lo:hi]
            ib, last = i[b, lo:hi] if synapse else vb, s[b, lo:hi] if late else vb
            for t in range(x.shape[0]):
                xt = x[t, b, lo:hi]
                ht, ot = (h[t, b, lo:hi] if keep == 2 else xt), (xt if over_x else output[t, b, lo:hi])
                for k in range(hi - lo):
                    current = xt[k]
                    if synapse:
                        current = decay_syn[k] * ib[k] + gain_syn[k] * current
                        ib[k] = current
                    u = decay[k] * vb[k] + gain[k] * current + drive[k]
                    if late and last[k] > zero:
                        u -= reset[k]
                    if keep:
                        ht[k] = u
                    fired = spiking and (u >= threshold[k] if inclusive else u > threshold[k])
                    ot[k] = (one if fired else zero) if spiking else u
                    if late:
                        vb[k], last[k] = u, ot[k]
                    else:
                        vb[k] = ((u - reset[k]) if subtract else reset[k]) if fired else u

    return loop


@functools.cache
def _compiled_backward(spiking: bool, synapse: bool, subtract: bool, inclusive: bool, *options: Any) -> Any:
    detach, kind, over_h = options
    atan, fast_sigmoid = kind == "atan", kind == "fast_sigmoid"

    @_numba().njit(nogil=True, error_model="numpy")
    def loop(g, h, gx, gv, gi, p, alpha, start, stop):  # type: ignore[no-untyped-def]
        width, blocks = g.shape[2], (g.shape[2] + _BLOCK - 1) // _BLOCK
        one, zero, half = g.dtype.type(1), g.dtype.type(0), g.dtype.type(0.5)
        scale = g.dtype.type(math.pi / 2) * alpha
        for unit in range(start, stop):
            b, lo = unit // blocks, unit % blocks * _BLOCK
            hi = min(lo + _BLOCK, width)
            at = lo if p.shape[1] == width else 0
            decay, gain, threshold, reset = p[0, at:], p[1, at:], p[3, at:], p[4, at:]
            decay_syn, gain_syn, gvb = p[5, at:], p[6, at:], gv[b, lo:hi]
            gib = gi[b, lo:hi] if synapse else gvb
            for t in range(gx.shape[0] - 1, -1, -1):
                gt, ht = g[min(t, g.shape[0] - 1), b, lo:hi], h[min(t, h.shape[0] - 1), b, lo:hi]
                out = ht if over_h else gx[t, b, lo:hi]
                for k in range(hi - lo):
                    carry = gvb[k]
                    if spiking:
                        u = ht[k] - threshold[k]
                        if atan:
                            slope = half * alpha / (one + (scale * u) * (scale * u))
                        elif fast_sigmoid:
                            slope = one / ((one + alpha * abs(u)) * (one + alpha * abs(u)))
                        else:
                            slope = max(zero, one - abs(u) / alpha) * half / alpha
                        through = gt[k] if detach else gt[k] - carry * (reset[k] if subtract else ht[k] - reset[k])
                        if not subtract and (ht[k] >= threshold[k] if inclusive else ht[k] > threshold[k]):
                            carry = zero
                        carry += through * slope
                    else:
                        carry += gt[k]
                    current = gain[k] * carry
                    if synapse:
                        current += gib[k]
                        gib[k] = decay_syn[k] * current
                        current *= gain_syn[k]
                    out[k] = current
                    gvb[k] = decay[k] * carry

    return loop
