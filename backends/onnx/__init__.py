"""The `onnx` target: one step with explicit state, and whole sequences, for ONNX Runtime and all that reads ONNX."""

from snnir.backends.onnx.backend import ONNX

__all__ = ["ONNX"]
