"""The reference interpreter in NumPy: what every op, and so every graph, means."""

from snnir.interpreter.run import as_inputs, interpret

__all__ = ["as_inputs", "interpret"]
