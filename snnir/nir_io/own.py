"""What snnir adds to a NIR file: one JSON string under the metadata key `snnir`. Other readers may ignore it.

It holds the semantics (dt, reset, ...), the order and true names of the nodes, their origin, which parameters were
written out to full shape because NIR wants them so, and metadata values that HDF5 cannot hold as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnir.errors import Violation
from snnir.nir_io.raw import OWN_KEY
from snnir.semantics import NIR_SEMANTICS, Semantics
from snnir.values import decode, encode, inline_array, read_inline_array

VERSION = 1


class Native:
    """Stands for a metadata value that HDF5 holds as it is, so that the order of the keys is kept."""


NATIVE = Native()


@dataclass
class Own:
    """The decoded JSON.

    Attributes:
        semantics: of the graph.
        order: node names in graph order. names: name in the file -> true name, where they differ.
        origin: as `Graph.origin`.
        expanded: node -> field -> the shape the parameter has in the graph, where the file holds a larger one.
        inferred: node -> fields that the graph leaves open and the file states.
        metadata: node -> key -> value, for metadata values that HDF5 alone would change or cannot hold.
        graph_metadata: the same for the graph's own.
    """

    semantics: Semantics = NIR_SEMANTICS
    order: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    origin: dict[str, tuple[str, ...]] = field(default_factory=dict)
    expanded: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    inferred: dict[str, list[str]] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    graph_metadata: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """As a JSON string of ASCII characters; empty parts are left out, but for the semantics."""
        parts = {
            "version": VERSION,
            "semantics": self.semantics.to_json(),
            "order": self.order,
            "names": self.names,
            "origin": {name: list(behind) for name, behind in self.origin.items()},
            "expanded": self.expanded,
            "inferred": self.inferred,
            "metadata": {name: _encoded(values) for name, values in self.metadata.items()},
            "graph_metadata": _encoded(self.graph_metadata),
        }
        return json.dumps({k: v for k, v in parts.items() if v or k == "semantics"}, separators=(",", ":"))


def read_own(metadata: Mapping[str, Any], source: str, faults: list[Violation]) -> Own:
    """What the metadata of a graph says under `snnir`; an empty `Own` when it says nothing."""
    text = metadata.get(OWN_KEY)
    if text is None:
        return Own()
    try:
        data = json.loads(text)
        if data["version"] != VERSION:
            what = f"its snnir metadata is version {data['version']}"
            hint = "read it with the snnir that wrote it"
            faults.append(Violation("nir-own", what, where=source, expected=f"version {VERSION}", hint=hint))
            return Own()
        return Own(
            Semantics.from_json(data["semantics"]),
            [str(name) for name in data.get("order", [])],
            {str(k): str(v) for k, v in data.get("names", {}).items()},
            {str(k): tuple(str(s) for s in v) for k, v in data.get("origin", {}).items()},
            {str(k): dict(v) for k, v in data.get("expanded", {}).items()},
            {str(k): list(v) for k, v in data.get("inferred", {}).items()},
            {str(node): _decoded(values) for node, values in data.get("metadata", {}).items()},
            _decoded(data.get("graph_metadata", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        hint = "remove the key 'snnir' from the file's metadata to read it as a foreign file"
        faults.append(Violation("nir-own", f"its snnir metadata is damaged: {said}", where=source, hint=hint))
        return Own()


def _encoded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: {"$native": []} if v is NATIVE else encode(v, inline_array, k) for k, v in values.items()}


def _decoded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): NATIVE if v == {"$native": []} else decode(v, read_inline_array) for k, v in values.items()}


def merged(native: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as it was: what HDF5 holds, and what our JSON holds in its stead, in the order of the latter."""
    found = {k: native[k] if v is NATIVE else v for k, v in kept.items() if v is not NATIVE or k in native}
    return {**found, **{k: v for k, v in native.items() if k not in kept}}
