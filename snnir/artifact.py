"""The folder of a compiled network: manifest, graph, readme, and the target's files; written all or nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnir import __version__
from snnir.errors import CompileError, fail
from snnir.target import Files

if TYPE_CHECKING:
    from snnir.compiler import CompileResult
    from snnir.graph import Graph


def with_manifest(result: CompileResult) -> Files:
    """The artifact's files plus `graph.nir` (or `graph/` where NIR cannot say it), `README.md`, `manifest.json`."""
    files = Files.of(result.artifact.files())
    if "graph.nir" not in files:
        files = files | _graph_files(result)
    if "README.md" not in files:
        files = files | Files.of({"README.md": _readme(result, files).encode()})
    return files | Files({"manifest.json": lambda: _manifest(result, files)})


def _manifest(result: CompileResult, files: Files) -> bytes:
    """`manifest.json`. It is written last, when the other files' hashes are known from their writing."""
    manifest = {
        "snnir": __version__,
        "target": result.target,
        "source": {"ops": len(result.source), "sha256": graph_hash(result.source)},
        "semantics": result.source.semantics.to_json(),
        "pipeline": result.report.get("pipeline", ""),
        "latency_steps": result.latency,
        "origin": {name: list(result.graph.sources(name)) for name in result.graph.ops},
        "report": _plain(result.report),
        "files": {path: files.sha256(path) for path in sorted(files)},
    }
    return (json.dumps(manifest, indent=1, sort_keys=False) + "\n").encode()


def graph_hash(graph: Graph) -> str:
    """SHA-256 of a graph's structure, semantics and weights; where its source stands on disk does not count."""
    from snnir.store import digest

    return digest(replace(graph, ops={name: op.with_(loc=None) for name, op in graph.ops.items()}))


def _graph_files(result: CompileResult) -> Files:
    from snnir.nir_io import check, write
    from snnir.store import lazily

    try:
        check(result.graph)
        return Files({"graph.nir": lambda: write(result.graph)})
    except CompileError:  # some op is not NIR's: keep the graph in the project's own form
        beside = getattr(result.artifact, "weights", None)  # what the artifact's own weights.safetensors holds
        return Files({f"graph/{path}": make for path, make in lazily(result.graph, beside).items()})


def _plain(value: Any) -> Any:
    """`value` as JSON data: NumPy scalars and arrays become numbers and lists.

    The seconds that a pass took are left out: the same network makes the same files, byte for byte.
    """
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if k != "seconds" or "pass" not in value}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def _readme(result: CompileResult, files: Mapping[str, bytes]) -> str:
    from snnir.registry import backend

    target = backend(result.target).target
    inputs = ", ".join(f"`{n}` (T, B, {', '.join(map(str, result.source.shapes[n]))})" for n in result.source.inputs)
    outputs = ", ".join(f"`{n}` (T, B, {', '.join(map(str, result.source.shapes[n]))})" for n in result.source.outputs)
    dt = result.source.semantics.dt
    lines = [
        f"# A spiking network compiled for {target.title}",
        "",
        f"Made by snnir {__version__} from {len(result.source)} ops; {len(result.graph)} ops after its passes.",
        "",
        f"* inputs: {inputs}",
        f"* outputs: {outputs}",
        f"* time step: {'not used' if dt is None else f'{dt:g} s'}",
        f"* outputs come {result.latency} steps after the source network's",
        f"* passes: {result.report.get('pipeline') or 'none'}",
        "",
        "Files:",
        "",
        *(f"* `{path}`" for path in sorted(files)),
        "",
        "`manifest.json` says what every neuron was made from (`origin`) and what each pass did.",
    ]
    return "\n".join(lines) + "\n"


def write_folder(folder: Path, files: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Writes `files` as the new folder `folder`, all or nothing.

    Raises:
        CompileError: the folder is not free (`check_free`), its parent cannot be written, or the disk is full.
    """
    check_free(folder, overwrite)
    staging: Path | None = None
    made = [p for p in folder.parents if not p.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        for path in files:
            place = staging / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(files[path])
        staging.chmod(0o777 & ~_umask())
        check_free(folder, overwrite)  # another process may have written it in the meantime
        if folder.exists():
            _swap(staging, folder)
        else:
            os.replace(staging, folder)
    except BaseException as error:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):  # innermost first; one that is not empty is somebody's
            for parent in made:
                parent.rmdir()
        if not isinstance(error, OSError):  # Ctrl-C
            raise
        what = "the disk is full" if error.errno == errno.ENOSPC else f"cannot be written: {error.strerror}"
        raise fail("output-unwritable", what, where=str(folder), hint="nothing was written") from error


def check_free(folder: Path, overwrite: bool) -> None:
    """Makes sure that `folder` can become an artifact's, and that `overwrite` costs nobody anything else.

    Raises:
        CompileError: it exists; with `overwrite`: it is no folder, the current one or one above it, or it holds what
            snnir has not written.
    """
    if not folder.exists():
        return
    if not overwrite:
        raise fail("output-exists", "exists already", where=str(folder), hint="choose another folder, or --force")
    if not folder.is_dir():
        raise fail("output-exists", "is a file, not a folder", where=str(folder))
    if Path.cwd().is_relative_to(folder.resolve()):
        raise fail("output-exists", "is the current folder, or one above it", where=str(folder))
    if _is_artifact(folder):
        return
    others = sorted(entry.name for entry in folder.iterdir() if not _is_artifact(entry))
    if others:
        listed = ", ".join(others[:4]) + (", ..." if len(others) > 4 else "")
        raise fail(
            "output-exists",
            f"holds {listed}, which snnir has not written",
            where=str(folder),
            expected="a new or empty folder, or one that snnir wrote",
            hint="choose another folder, or delete this one yourself",
        )


def _is_artifact(folder: Path) -> bool:
    try:
        return "snnir" in json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _swap(staging: Path, folder: Path) -> None:
    """Puts `staging` in the place of `folder`, which comes back if that fails."""
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    try:
        os.replace(folder, old / "was")
        try:
            os.replace(staging, folder)
        except BaseException:
            os.replace(old / "was", folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
