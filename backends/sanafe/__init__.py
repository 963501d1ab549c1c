"""SANA-FE's estimate of energy and time on its model of Loihi; no target: nothing is emitted, figures come back.

SANA-FE (GPL-3.0) is a program of its own here: snnir neither imports nor ships it, but starts `worker.py` in a Python
that has it, hands over files and reads files. docs/energy.md says what it models and what not.
"""

from snnir.backends.sanafe.run import Estimate, estimate, find_python

__all__ = ["Estimate", "estimate", "find_python"]
