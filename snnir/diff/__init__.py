"""What differs between two networks: structure and numbers, matched by structure where names differ.

    found = compare(a, b)         found.verdict, found.equal, found.to_json()

Verdicts: `equal`, `equal but for names`, `same structure, other numbers`, `other structure`. What one step means (the
semantics) is compared beside.
"""

from __future__ import annotations

from snnir.diff.difference import Changed, Difference, Numbers, compare

__all__ = ["Changed", "Difference", "Numbers", "compare"]
