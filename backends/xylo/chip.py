"""The three chips of the Xylo family, as numbers.

Sources: Rockpool's documentation (`xylo-overview`, `deploy_to_xylo`, `xylo-imu-intro`) and, for the sizes of the
synapse memories, the RAM maps in its drivers (Audio 2: RFORAM 0x7D00; Audio 3: HFORAM 0x7C00; IMU: 496 x 64).
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENTS = 15
MAX_SPIKES = 31
MAX_WEIGHT = 127
MAX_STATE = 32767
MAX_BIAS = 127
MAX_SHIFT = 8  # int16(int8 << shift) wraps beyond it
MAX_DASH = 15


@dataclass(frozen=True)
class Chip:
    """What one chip holds.

    Attributes:
        name: the target's name; title: the product's; part: SynSense's part number.
        inputs: input channels, each with at most 15 events per step.
        hidden, outputs: neurons. A hidden neuron gives up to 31 spikes per step, an output neuron one.
        input_expansion: how many hidden neurons, counted from the first, the inputs can reach.
        output_expansion: how many hidden neurons, counted from the last, the outputs can read.
        fan_out: hidden targets of one hidden neuron.
        entries: hidden-to-hidden connections in all. Both synapses of a target share one entry.
        synapses: synaptic currents per hidden neuron (output neurons have one).
    """

    name: str
    title: str
    part: str
    hidden: int
    outputs: int
    input_expansion: int
    output_expansion: int
    fan_out: int
    entries: int
    synapses: int
    inputs: int = 16

    @property
    def expands(self) -> bool:
        """Whether only some hidden neurons reach inputs and outputs."""
        return self.input_expansion < self.hidden


AUDIO2 = Chip("xylo-audio2", "Xylo Audio 2", "SYNS61201", 1000, 8, 1000, 1000, 64, 32_000, 2)
AUDIO3 = Chip("xylo-audio3", "Xylo Audio 3", "SYNS65302", 992, 32, 128, 128, 1024, 31_744, 2)
IMU = Chip("xylo-imu", "Xylo IMU", "SYNS63300", 496, 16, 128, 128, 512, 31_744, 1)
