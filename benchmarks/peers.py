"""Speed against SpikingJelly, Norse and snnTorch: three convolutional LIF layers, on one CPU thread.

    python benchmarks/peers.py [--rounds 15] [--json results.json]

Every contestant gets the same weights, input and loss and must give the same spikes. Weights, input and time constants
are dyadic numbers, so that nothing is rounded and the spikes are equal bit for bit whatever the order of operations.
Peers are written as their own documentation writes such a network: SpikingJelly multi-step, Norse and snnTorch in a
loop over time. Rounds are interleaved; a ratio is the median over rounds of the ratio within a round.

Forward is without gradients; a training step is forward, loss and backward. Times are wall milliseconds. Beside them
stands the processor time, in which speed-ups are given: other programs disturb it less.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

STEPS = BATCH = 16
CHANNELS, SIZE, LAYERS = 32, 28, 3
THRESHOLD = 0.7  # not dyadic, so that no membrane ever lies exactly on it: > and >= then mean the same
TAU, DT = 2e-3, 1e-3  # seconds: decay and input gain are 1/2 per step
GOALS = {"forward": 2.0, "training": 1.4}
NO_SLOWER = 1.0


def convolutions(conv: type[nn.Conv2d] = nn.Conv2d, gain: float = 1.0) -> list[nn.Conv2d]:
    """The network's convolutions, made of the given class; weights are multiples of 1/32, times `gain`."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(LAYERS):
        layer = conv(CHANNELS, CHANNELS, 3, padding=1)
        weights = torch.randn(layer.weight.shape, generator=generator) * 0.12
        layer.weight.data = gain * (weights * 32).round() / 32
        layer.bias.data = torch.full((CHANNELS,), gain * 0.5)
        made.append(layer)
    return made


def spikes_in() -> Tensor:
    """Input spikes (T, B, C, H, W), one in five."""
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(STEPS, BATCH, CHANNELS, SIZE, SIZE, generator=generator) < 0.2).float()


# The peers, each in its usual idiom


class SnnTorch(nn.Module):
    """snnTorch's tutorials: a loop over time, membranes passed along. Its input gain of 1 is met by halved weights."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch
        from snntorch import surrogate

        self.convolutions = nn.ModuleList(convolutions(gain=0.5))
        self.neurons = nn.ModuleList(
            snntorch.Leaky(0.5, THRESHOLD, spike_grad=surrogate.atan(alpha=2.0), reset_mechanism="zero")
            for _ in range(LAYERS)
        )

    def forward(self, x: Tensor) -> Tensor:
        membranes = [neuron.reset_mem() for neuron in self.neurons]
        outputs = []
        for step in range(x.shape[0]):
            spikes = x[step]
            for k in range(LAYERS):
                spikes, membranes[k] = self.neurons[k](self.convolutions[k](spikes), membranes[k])
            outputs.append(spikes)
        return torch.stack(outputs)


class Norse(nn.Module):
    """Norse's examples: a SequentialState, its state passed along in a loop over time."""

    def __init__(self) -> None:
        super().__init__()
        import norse.torch as norse

        p = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(1 / TAU), v_th=torch.tensor(THRESHOLD))
        parts = [part for conv in convolutions() for part in (conv, norse.LIFBoxCell(p, dt=DT))]
        self.network = norse.SequentialState(*parts)

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in range(x.shape[0]):
            spikes, state = self.network(x[step], state)
            outputs.append(spikes)
        return torch.stack(outputs)


class SpikingJelly(nn.Module):
    """SpikingJelly's multi-step mode: every layer takes all time steps, convolutions as one call over T * B."""

    def __init__(self) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        def lif() -> nn.Module:
            gradient = surrogate.ATan(2.0)
            return neuron.LIFNode(TAU / DT, v_threshold=THRESHOLD, surrogate_function=gradient, detach_reset=True)

        self.network = nn.Sequential(*(part for conv in convolutions(layer.Conv2d) for part in (conv, lif())))
        functional.set_step_mode(self.network, "m")
        self.reset = functional.reset_net

    def forward(self, x: Tensor) -> Tensor:
        self.reset(self.network)
        return self.network(x)


class Convolutions(nn.Module):
    """The floor: the three convolutions alone, over T * B and channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(*convolutions()).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.network(x).unflatten(0, (STEPS, BATCH))


# Ours


class Kernels(nn.Module):
    """The kernels of the torch target with the least around them; `numba` False: as where numba is not installed."""

    def __init__(self, numba: bool) -> None:
        super().__init__()
        spec = importlib.util.find_spec("snnir.backends.torch.kernels")
        if spec is None or spec.loader is None:
            raise SystemExit("snnir is not installed: pip install -e .")
        self.kernels = importlib.util.module_from_spec(spec)  # a copy of its own, so that numba can be switched off
        spec.loader.exec_module(self.kernels)
        self.kernels.NUMBA_AFTER = 0 if numba else sys.maxsize
        self.convolutions = nn.ModuleList(convolutions()).to(memory_format=torch.channels_last)
        self.neuron = self.kernels.Neuron(decay=1 - DT / TAU, gain=DT / TAU, threshold=THRESHOLD)

    def forward(self, x: Tensor) -> Tensor:
        spikes = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        for conv in self.convolutions:
            currents = conv(spikes).unflatten(0, x.shape[:2])
            spikes = self.kernels.run(currents, self.neuron, in_place=True)[0].flatten(0, 1)
        return spikes.unflatten(0, x.shape[:2])


def emitted(target: str) -> nn.Module:
    """The network, defined once with snnir.nn, as compiled for a target."""
    import snnir
    import snnir.nn as snn

    class Network(nn.Sequential):
        input_shape = (CHANNELS, SIZE, SIZE)

    def lif() -> nn.Module:
        return snn.LIF(tau=TAU, dt=DT, v_threshold=THRESHOLD)

    network = Network(*(part for conv in convolutions(snn.Conv2d) for part in (conv, lif())))
    # snnTorch's loop has the input gain in its weights; normalise-gain puts it there.
    passes = "normalise-gain" if target == "snntorch" else None
    return snnir.compile(snnir.load(network, dt=DT), target=target, passes=passes).module()


# Measuring

WHAT = ("forward", "training")


@dataclass
class Contestant:
    """A network and its times: seconds on the wall clock and of processor, one per round."""

    name: str
    network: nn.Module
    warm_up: int = 2
    loop: str = ""  # the peer whose framework it runs on
    wall: dict[str, list[float]] = field(default_factory=lambda: {what: [] for what in WHAT})
    cpu: dict[str, list[float]] = field(default_factory=lambda: {what: [] for what in WHAT})

    def work(self, what: str, x: Tensor) -> None:
        """One forward pass, or one training step without the optimiser: the loss is the mean square of the rates."""
        if what == "forward":
            with torch.no_grad():
                self.network(x)
            return
        self.network.zero_grad()
        self.network(x).mean(0).square().mean().backward()

    def time(self, what: str, x: Tensor) -> None:
        """Adds the times of one round."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.work(what, x)
        self.wall[what].append(time.perf_counter() - wall)
        self.cpu[what].append(time.process_time() - cpu)

    def speedup(self, others: list[Contestant], what: str) -> float:
        """How many times as fast as the fastest of the others, in processor time: the median over the rounds."""
        fastest = min(others, key=lambda c: statistics.median(c.cpu[what]))
        return statistics.median(a / b for a, b in zip(fastest.cpu[what], self.cpu[what], strict=True))


def check_spikes(contestants: list[Contestant], x: Tensor) -> int:
    """The number of output spikes, which is the same for all.

    Raises:
        SystemExit: it is not.
    """
    reference = None
    for c in contestants:
        with torch.no_grad():
            spikes = c.network(x)
        reference = spikes if reference is None else reference
        if not torch.equal(spikes, reference):
            differ = int((spikes != reference).sum())
            raise SystemExit(f"{c.name}: {differ} of {reference.numel()} spikes differ from {contestants[0].name}'s")
    if reference is None or not 0.02 < reference.mean() < 0.5:
        raise SystemExit("the network hardly spikes, or hardly pauses")
    return int(reference.sum())


def gradient_difference(a: Contestant, b: Contestant, x: Tensor) -> float:
    """The largest difference of two networks' weight gradients, relative to the largest gradient of the layer."""
    found = []
    for c in (a, b):
        c.work("training", x)
        found.append([p.grad for p in c.network.parameters() if p.grad is not None and p.dim() == 4])
    return max(float((p - q).abs().max() / q.abs().max()) for p, q in zip(*found, strict=True))


def measure(contestants: list[Contestant], x: Tensor, rounds: int) -> None:
    """Fills in the times, one round after the other over all contestants."""
    for what in WHAT:
        for c in contestants:
            for _ in range(c.warm_up):
                c.work(what, x)
        for _ in range(rounds):
            for c in contestants:
                c.time(what, x)


def table(contestants: list[Contestant], peers: list[Contestant]) -> str:
    """Median milliseconds, and the speed-up over the fastest peer."""
    lines = [f"{'':24}" + "".join(f"{what:>12}{'cpu':>8}{'speed-up':>10}" for what in WHAT)]
    for c in contestants:
        line = f"{c.name:24}"
        for what in WHAT:
            wall, cpu = (1e3 * statistics.median(times[what]) for times in (c.wall, c.cpu))
            line += f"{wall:12.0f}{cpu:8.0f}{c.speedup(peers, what):9.2f}x"
        lines.append(line)
    return "\n".join(lines)


def goals(contestants: list[Contestant], peers: list[Contestant]) -> list[tuple[str, float, float]]:
    """What was promised, found, and asked for."""
    found = []
    for c in contestants:
        if c.name == "snnir torch":
            found += [(f"{c.name}, {what}", c.speedup(peers, what), GOALS[what]) for what in WHAT]
        elif c.loop:
            loop = [p for p in peers if p.name == c.loop]
            found += [(f"{c.name} against {c.loop}, {what}", c.speedup(loop, what), NO_SLOWER) for what in WHAT]
    return found


def main() -> int:
    """Prints the table; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--targets", nargs="*", default=["torch", "norse", "snntorch"], help="what to compile for")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)

    jelly = Contestant("SpikingJelly multi-step", SpikingJelly())
    peers = [Contestant("snnTorch loop", SnnTorch()), Contestant("Norse loop", Norse()), jelly]
    loops = {"norse": "Norse loop", "snntorch": "snnTorch loop"}
    # Warm-up of ours: until numba has compiled.
    ours = [Contestant(f"snnir {t}", emitted(t), warm_up=8, loop=loops.get(t, "")) for t in options.targets]
    ours += [Contestant("kernels", Kernels(numba=True)), Contestant("kernels without numba", Kernels(numba=False))]
    floor = Contestant("convolutions alone", Convolutions())
    x = spikes_in()

    spikes = check_spikes([*peers, *ours], x)
    difference = max(gradient_difference(c, jelly, x) for c in ours if not c.loop)  # on PyTorch: the same surrogate
    print(f"{STEPS} steps, batch {BATCH}, {LAYERS} x (conv 3x3, {CHANNELS} channels, {SIZE}x{SIZE}; LIF), one thread")
    print(f"spikes: {spikes}, the same in all networks at every step; weight gradients on PyTorch as SpikingJelly's")
    print(f"within {difference:.0e}; median of {options.rounds} rounds in ms, wall clock and processor\n")
    everyone = [floor, *peers, *ours]
    measure(everyone, x, options.rounds)
    print(table(everyone, peers))

    missed = 0
    print("\nspeed-up is over the fastest peer of the column. Goals:")
    for what, found, asked in goals(ours, peers):
        missed += found < asked
        print(f"  {what}: {found:.2f}x, asked {asked}x{'' if found >= asked else '  MISSED'}")
    if options.json:
        times = {c.name: {"wall": c.wall, "cpu": c.cpu} for c in everyone}
        options.json.write_text(json.dumps(times, indent=1))
    return 1 if missed or difference > 1e-4 else 0


if __name__ == "__main__":
    sys.exit(main())
