"""What HDF5 cannot hold as it is: odd node names are escaped, odd metadata goes into our JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from snnir.errors import CompileError, Violation
from snnir.nir_io.own import NATIVE, Own
from snnir.nir_io.raw import OWN_KEY, RawGraph, RawNode
from snnir.values import ValueKindError, encode, keeps


def file_form(graph: RawGraph, own: Own) -> RawGraph:
    """A flat graph as HDF5 can hold it; `own` gets the rest and goes into the graph's metadata.

    Raises:
        CompileError: some metadata value is of a type that cannot be kept; every such value at once.
    """
    faults: list[Violation] = []
    spelt = {name: escaped(name) for name in graph.nodes}
    own.names = {spelt[name]: name for name in graph.nodes if spelt[name] != name}
    nodes: dict[str, RawNode | RawGraph] = {}
    for name, node in graph.nodes.items():
        native, rest = _split(node.metadata, name, faults)
        if rest:
            own.metadata[name] = rest
        nodes[spelt[name]] = RawNode(node.kind, node.fields, native) if isinstance(node, RawNode) else node
    native, own.graph_metadata = _split(graph.metadata, "the graph", faults)
    if faults:
        raise CompileError(faults, title="the graph cannot be written")
    native[OWN_KEY] = own.to_json()
    return RawGraph(nodes, [(spelt[a], spelt[b]) for a, b in graph.edges], native)


def escaped(name: str) -> str:
    """A node name as one HDF5 link name: '/' and what else HDF5 cannot hold percent-escaped, and '%' itself."""
    if name in ("", "."):
        return "%" if name == "" else "%2E"
    return re.sub(r"[%/\0\ud800-\udfff]", _percent, name)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf8", "surrogatepass"))


def _split(metadata: Mapping[str, Any], where: str, faults: list[Violation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What HDF5 holds of some metadata, and what must stand in our JSON besides (empty when HDF5 keeps all)."""
    native: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in metadata.items():
        try:
            if not isinstance(key, str):
                raise ValueKindError(f"the key {key!r} is a {type(key).__name__}, expected a string")
            encode(value, lambda _: None, key)
        except ValueKindError as error:
            hint = "metadata may hold None, numbers, strings, bytes, lists, tuples, dicts and arrays of numbers"
            faults.append(Violation("metadata-value", str(error), where=where, hint=hint))
            continue
        whole = escaped(key) == key and _kept(value)
        rest[key] = NATIVE if whole else value
        near = value if whole else _near(value)
        if escaped(key) == key and near is not None:
            native[key] = near
    return native, {} if all(value is NATIVE for value in rest.values()) else rest


def _kept(value: Any) -> bool:
    """Whether reading the value back from HDF5 gives the same value of the same type."""
    kind = type(value)
    if kind is str:
        return "\0" not in value and not re.search(r"[\ud800-\udfff]", value)
    if kind in (bool, float):
        return True
    if kind is int:
        return -(2**63) <= value < 2**63
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and keeps(value.dtype) and value.dtype.isnative
    if isinstance(value, np.generic):  # 64-bit numbers and booleans come back as Python's
        return keeps(value.dtype) and value.dtype.name not in ("int64", "float64", "bool")
    if kind is dict:
        return all(isinstance(k, str) and escaped(k) == k and _kept(v) for k, v in value.items())
    return False


def _near(value: Any) -> Any:
    """The nearest thing that HDF5 holds, for readers that do not know our JSON; None when there is none."""
    if _kept(value) or (isinstance(value, (np.ndarray, np.generic)) and keeps(value.dtype)):
        return value
    if isinstance(value, (list, tuple)):
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError):
            return None
        return array if array.size and array.dtype.kind in "biuf" else None
    if isinstance(value, Mapping):
        near = {k: _near(v) for k, v in value.items() if isinstance(k, str) and escaped(k) == k}
        return {k: v for k, v in near.items() if v is not None}
    return None
