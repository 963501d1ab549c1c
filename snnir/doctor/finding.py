"""What the doctor says: findings, populations with the time step that they imply, and both together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from snnir.doctor.rules import RULES, SEVERITIES, Severity

Convention = Literal["discrete", "rockpool", "continuous", "other"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, risky or worth knowing.

    Attributes:
        severity: `fault`: the file breaks NIR or cannot mean anything; `risk`: sound NIR that some importer gets
            wrong; `note`: worth knowing.
        rule: the name of the rule in `snnir.doctor.rules.RULES`.
        node: the node's name (subgraphs dotted), an edge as `a -> b`, or '' for the whole file.
        what: what is there, with the value found.
        meaning: what importers do with it.
        todo: what to do about it.
        fixable: whether `repair` (`--fix`) can do it: the file allows one answer only.
    """

    severity: Severity
    rule: str
    node: str
    what: str
    meaning: str
    todo: str
    fixable: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data, one key per attribute."""
        return {
            "severity": self.severity,
            "rule": self.rule,
            "node": self.node,
            "what": self.what,
            "meaning": self.meaning,
            "todo": self.todo,
            "fixable": self.fixable,
        }


@dataclass(frozen=True)
class Population:
    """The time step that one population's parameters imply, by every convention in use.

    Attributes:
        node, kind: the neurons.
        convention: `discrete` (r = tau/dt, w_in = tau_syn/dt, r = 1/dt: snnTorch, SpikingJelly, Lava), `rockpool`
            (r = tau e^(-dt/tau) / dt), `continuous` (r = 1, which says nothing of dt: Norse, sinabs), or `other`.
        dt: what that convention gives, in seconds; None where it gives none.
        readings: a key of `snnir.doctor.time_steps.READINGS` -> the dt in seconds that who reads it so takes.
    """

    node: str
    kind: str
    convention: Convention
    dt: float | None
    readings: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data, one key per attribute."""
        return {
            "node": self.node,
            "kind": self.kind,
            "convention": self.convention,
            "dt": self.dt,
            "readings": dict(self.readings),
        }


@dataclass(frozen=True)
class Diagnosis:
    """All that the doctor found in a file.

    Attributes:
        findings: faults first, then risks, then notes; by rule and node within each.
        populations: what the neurons say of the time step, in the file's order.
        dt: the time step that the file says or that all populations agree on; None where there is none.
    """

    findings: tuple[Finding, ...]
    populations: tuple[Population, ...] = ()
    dt: float | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return not any(finding.severity == "fault" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The body of the document that `snnir doctor --output-format json` prints."""
        counts = {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES}
        return {
            "ok": self.ok,
            "counts": counts,
            "findings": [finding.to_json() for finding in self.findings],
            "populations": [population.to_json() for population in self.populations],
            "dt": self.dt,
        }


class Chart:
    """Where checks write their findings down."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.populations: list[Population] = []
        self.dt: float | None = None

    def add(
        self, rule: str, node: str, what: str, *, meaning: str = "", todo: str = "", fixable: bool | None = None
    ) -> None:
        """Notes a finding of `rule`; what it means and what to do are the rule's own unless said."""
        known = RULES[rule]
        can = bool(known.repair) if fixable is None else fixable
        made = Finding(known.severity, rule, node, what, meaning or known.meaning, todo or known.todo, can)
        if made not in self.found:
            self.found.append(made)

    def has(self, *rules: str, node: str | None = None) -> bool:
        """Whether some finding of these rules (of that node) has been noted."""
        return any(f.rule in rules and (node is None or f.node == node) for f in self.found)

    def diagnosis(self) -> Diagnosis:
        """All that was noted, sorted."""
        order = {severity: rank for rank, severity in enumerate(SEVERITIES)}
        ranks = {rule: rank for rank, rule in enumerate(RULES)}
        found = sorted(self.found, key=lambda f: (order[f.severity], ranks[f.rule], f.node, f.what))
        return Diagnosis(tuple(found), tuple(self.populations), self.dt)
