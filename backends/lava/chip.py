"""What the integers of a Loihi network may be, as numbers.

Sources: Lava 0.10's documentation of `LIF` and `Dense` (du, dv, vth are one number per process), and, for what its
models do not check, the widths that they declare and nengo-loihi's checks of the same chip (`vth` 17 bits, bias 12 bits
and a sign times 2^(0..7), `weight_exp` 3 bits and a sign, delays up to 62).
"""

from __future__ import annotations

UNITY = 4096  # what a decay of du + 1 or dv is a part of
ALIGN = 64  # units of u and v per unit of weights and thresholds
MAX_THRESHOLD = 2**17 - 1
MAX_BIAS = 4095
MAX_BIAS_EXP = 7
MAX_DELAY = 62
MAX_CONV = 127  # strides, paddings, kernels and the like of a convolution
MAX_MIXED = 127  # pairs: mixed weights are even, -256..254
MAX_SIGNED = 255  # of weights that all have one sign
EXPONENTS = (-8, 7)
STATE_LIMIT = 2**23  # of u and v
