"""SynSense's own configuration of a Xylo chip, filled from a specification: needs the real samna.

`pip install samna` gives a stub that runs pip again as soon as it is imported; so nothing here imports samna before
`available` has seen that the installed distribution holds compiled code. This file needs nothing of snnir: beside a
compiled network, `python samna_config.py` writes `samna_config.json` on a machine that has samna.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

# Family -> samna's module, and what it calls the hidden layer and its neurons.
_NAMES = {
    "xylo-audio2": ("samna.xyloCore2.configuration", "reservoir", "ReservoirNeuron"),
    "xylo-audio3": ("samna.xyloAudio3.configuration", "hidden", "HiddenNeuron"),
    "xylo-imu": ("samna.xyloImu.configuration", "hidden", "HiddenNeuron"),
}
# Audio 2 gates the clocks and memories of its core through debug switches.
_AUDIO2_CLOCKS = ("isyn_clock_enable", "ra_clock_enable", "bias_clock_enable", "hm_clock_enable", "ram_power_enable")


def available() -> bool:
    """Whether the installed samna is the real one: a distribution with compiled code in it. Imports nothing."""
    try:
        files = distribution("samna").files or ()
    except PackageNotFoundError:
        return False
    return any(file.suffix in (".so", ".pyd", ".dylib") for file in files)


def configuration(spec: Any, load: Any = import_module) -> Any:
    """A `XyloConfiguration` of samna.

    Args:
        spec: a `XyloSpec`.
        load: imports a module by name (for tests).
    """
    module, layer, neuron = _NAMES[spec.family]
    samna = load(module)
    config = samna.XyloConfiguration()
    hidden = getattr(config, layer)
    two = spec.n_synapses == 2
    config.synapse2_enable = two
    config.bias_enable = bool(spec.bias.any() or spec.bias_out.any())
    hidden.aliasing = any(spec.aliases)
    config.input.weight_bit_shift = int(spec.weight_shift_in)
    hidden.weight_bit_shift = int(spec.weight_shift_rec)
    config.readout.weight_bit_shift = int(spec.weight_shift_out)
    config.input.weights = _synapse(spec.weights_in, 0)
    hidden.weights = _synapse(spec.weights_rec, 0)
    config.readout.weights = spec.weights_out.tolist()
    if two:
        config.input.syn2_weights = _synapse(spec.weights_in, 1)
        hidden.syn2_weights = _synapse(spec.weights_rec, 1)
    hidden.neurons = [_hidden(getattr(samna, neuron)(), spec, n) for n in range(spec.n_hidden)]
    config.readout.neurons = [_output(samna.OutputNeuron(), spec, n) for n in range(spec.n_out)]
    if spec.family == "xylo-audio2":
        for name in _AUDIO2_CLOCKS:
            setattr(config.debug, name, True)
        config.debug.isyn2_clock_enable = two
    return config


def _synapse(weights: Any, which: int) -> list[list[int]]:
    return (weights if weights.ndim == 2 else weights[:, :, which]).tolist()


def _hidden(neuron: Any, spec: Any, n: int) -> Any:
    if spec.aliases[n]:
        neuron.alias_target = int(spec.aliases[n][0])  # the chip has room for one
    neuron.i_syn_decay = int(spec.dash_syn[n])
    neuron.i_syn2_decay = int(spec.dash_syn_2[n])
    neuron.v_mem_decay = int(spec.dash_mem[n])
    neuron.threshold = int(spec.threshold[n])
    neuron.v_mem_bias = int(spec.bias[n])
    return neuron


def _output(neuron: Any, spec: Any, n: int) -> Any:
    neuron.i_syn_decay = int(spec.dash_syn_out[n])
    neuron.v_mem_decay = int(spec.dash_mem_out[n])
    neuron.threshold = int(spec.threshold_out[n])
    neuron.v_mem_bias = int(spec.bias_out[n])
    return neuron


def main() -> None:
    """Writes `samna_config.json` beside `xylo.npz`."""
    here = Path(__file__).resolve().parent
    if not available():
        sys.exit("samna is not installed (the package of that name on PyPI is a stub; see SynSense's documentation)")
    sys.path.insert(0, str(here))
    numpy, simulator = import_module("numpy"), import_module("xylo_simulator")
    with numpy.load(here / "xylo.npz") as arrays:
        spec = simulator.XyloSpec.from_npz_dict(arrays)
    (here / "samna_config.json").write_text(configuration(spec).to_json())


if __name__ == "__main__":
    main()
