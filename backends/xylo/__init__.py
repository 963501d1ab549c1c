"""Xylo Audio 2, Audio 3 and IMU by SynSense: layout, design rules, quantisation, bit-exact artifacts."""

from snnir.backends.xylo.backend import XYLO_AUDIO2, XYLO_AUDIO3, XYLO_IMU, XyloBackend

__all__ = ["XYLO_AUDIO2", "XYLO_AUDIO3", "XYLO_IMU", "XyloBackend"]
