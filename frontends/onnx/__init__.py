"""Reads `.onnx`: networks that snnir wrote come back as they were; plain models without state become graphs."""

from snnir.frontends.onnx.load import load

__all__ = ["load"]
