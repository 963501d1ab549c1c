"""The two verbs: `load` a network from anywhere, `compile` it for a target."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnir.errors import CompileError, UsageError, fail
from snnir.graph import Graph
from snnir.npz_files import altered
from snnir.ops import Array
from snnir.semantics import Semantics
from snnir.target import Artifact, Files, check_options, require, with_allowed

if TYPE_CHECKING:
    import os

    from snnir.pipeline import Pass, Step


def load(source: Any, dt: float | None = None, semantics: Semantics | None = None, **options: Any) -> Graph:
    """Reads a network.

    Args:
        source: a path (`model.py[:name]`, `.nir`, `.onnx`, the folder of an artifact) or a live object: a `Graph`, an
            `nn.Module` (also of Norse, snnTorch, SpikingJelly, sinabs, Rockpool), or an `nir.NIRGraph`.
        dt: the time step in seconds. Needed when the source has time constants and does not say it; it is never
            guessed.
        semantics: what one step means; default what the source says, else NIR's forward Euler.
        options: passed to a `model.py`'s `build(**options)`, or to the tracer of an nn.Module.

    Returns:
        A sound graph.

    Raises:
        CompileError: with everything that is wrong with the source.
        UsageError: nothing can read such a source.
        MissingPackageError: reading it needs a package that is not installed.
    """
    graph = _read(source, dt, semantics, options)
    return _verified(_with_time(graph, dt, semantics))


def _verified(graph: Graph) -> Graph:
    """The graph, sound: constants that are read at several rates are there once for each."""
    try:
        return graph.verify()
    except CompileError as error:
        if any(v.rule != "graph-steps" for v in error.violations):
            raise
    from snnir.rates import with_own_constants

    return with_own_constants(graph).verify()


def _read(source: Any, dt: float | None, semantics: Semantics | None, options: dict[str, Any]) -> Graph:
    if isinstance(source, Graph):
        return source
    if isinstance(source, (str, Path)):
        return _read_path(source, dt, semantics, options)
    kinds = {f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}" for cls in type(source).__mro__}
    if "nir.NIRGraph" in kinds:
        from snnir.frontends.nir_file import load as load_nir

        return load_nir(source, dt=dt, semantics=semantics)
    torch = sys.modules.get("torch")  # an nn.Module can only exist where torch has been imported
    if torch is not None and isinstance(source, torch.nn.Module):
        from snnir.frontends.rockpool import is_rockpool, load_rockpool

        if is_rockpool(source):
            return load_rockpool(source, dt=dt, semantics=semantics, **options)
        from snnir.frontends.torch_fx import load_module

        return load_module(source, dt=dt, semantics=semantics, **options)
    raise UsageError(f"cannot load a {type(source).__name__}; give a path, a Graph, an nn.Module or an nir.NIRGraph")


def _read_path(source: str | Path, dt: float | None, semantics: Semantics | None, options: dict[str, Any]) -> Graph:
    from snnir.registry import file_frontend

    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    suffix = path.suffix.removeprefix(".").partition(":")[0]
    return file_frontend(suffix)(str(source), dt=dt, semantics=semantics, **options)


def _read_folder(folder: Path) -> Graph:
    from snnir.store import load as load_store

    for inner in (folder / "graph", folder):
        if (inner / "graph.json").is_file():
            _require_unchanged(folder, "graph")
            return load_store(inner)
    if (folder / "graph.nir").is_file():
        from snnir.nir_io import read

        _require_unchanged(folder, "graph.nir")
        return read(folder / "graph.nir")
    raise fail(
        "source-folder", "holds no graph", where=str(folder), expected="graph.nir or graph.json, as snnir writes"
    )


def _require_unchanged(folder: Path, graph: str) -> None:
    """What was changed in an artifact since is not in its graph, or not in its other files."""
    changed = [path for path in altered(folder) if (folder / path).exists()]
    if changed:
        raise fail(
            "source-changed",
            f"{', '.join(changed)}: not as the network was compiled, and its files no longer say the same",
            where=str(folder),
            expected="the files whose hashes are in manifest.json",
            hint=f"compile it again; or read {folder / graph}, which is the network alone, and give it other weights "
            "with graph.with_weights(...)",
        )


def _with_time(graph: Graph, dt: float | None, semantics: Semantics | None) -> Graph:
    if semantics is not None and semantics != graph.semantics:
        own_dt = semantics.dt if semantics.dt is not None else graph.semantics.dt
        graph = replace(graph, semantics=semantics.with_(dt=own_dt))
    said = graph.semantics.dt
    if dt is None or said == dt:
        return graph
    if dt <= 0:
        raise fail("time-step", f"dt is {dt} s", expected="a positive time in seconds")
    if said is not None:
        what = f"dt={dt:g} s is asked for, but the source says {said:g} s"
        raise fail("time-step", what, hint="leave dt out, or give semantics=... to change what the network means")
    return replace(graph, semantics=graph.semantics.with_(dt=dt))


@dataclass(frozen=True)
class CompileResult:
    """A compiled network.

    Attributes:
        target: the target's name.
        source: the graph as it was given.
        graph: the graph as the target runs it, after all passes; its `origin` leads back to `source`.
        artifact: the target's files and its way to run.
        report: what was done and what it cost, as JSON data.
    """

    target: str
    source: Graph
    graph: Graph
    artifact: Artifact
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def latency(self) -> int:
        """Steps by which outputs come later than the source network's."""
        return self.artifact.latency

    @property
    def in_floats(self) -> bool:
        """Whether the artifact computes in floats (and so promises the very same spikes), not in integers."""
        from snnir.registry import backend

        return backend(self.target).target.semantics.number_format.startswith("float")

    def run(self, x: Array | Mapping[str, Array], record: Sequence[str] | None = None) -> Any:
        """Runs the artifact here, state at rest; arguments and results as `snnir.interpret`.

        Outputs are the target's own, so they come `latency` steps late.
        """
        from snnir.interpreter import as_inputs

        outputs, recorded = self.artifact.run(as_inputs(self.source, x), tuple(record or ()))
        values: Any = next(iter(outputs.values())) if len(outputs) == 1 else outputs
        return values if record is None else (values, {name: self._shaped(name, v) for name, v in recorded.items()})

    def _shaped(self, name: str, value: Array) -> Array:
        """A recorded value (T, B, ...) in the shape that its op has in the source: passes may have flattened it."""
        shape = self.source.shapes.get(name)
        return value if shape is None else value.reshape(*value.shape[:2], *shape)

    def module(self) -> Any:
        """The emitted module, live and trainable (targets of the PyTorch family).

        Raises:
            UsageError: the target has no module.
        """
        make = getattr(self.artifact, "module", None)
        if make is None:
            raise UsageError(f"{self.target} is not a PyTorch target, so it has no module")
        return make()

    def files(self) -> Mapping[str, bytes]:
        """All files of the artifact, `manifest.json` and `README.md` included: relative path -> content."""
        from snnir.artifact import with_manifest

        return with_manifest(self)

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Writes the artifact into a new folder, all or nothing.

        Raises:
            CompileError: the folder exists (and not `overwrite`), or cannot be written.
        """
        save_all({"": self}, folder, overwrite)


def save_all(results: Mapping[str, CompileResult], folder: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Writes several artifacts, each into its subfolder of `folder`, all or nothing."""
    from snnir.artifact import with_manifest, write_folder

    files = Files({})
    for sub, result in results.items():
        files = files | with_manifest(result).under(sub)
    write_folder(Path(folder), files, overwrite)


def compile(
    source: Any,
    target: str,
    *,
    host: str | None = None,
    place: Mapping[str, Any] | None = None,
    chips: int | str | None = None,
    passes: str | None = None,
    dt: float | None = None,
    semantics: Semantics | None = None,
    calibrate: Any = None,
    verify_passes: bool = False,
    allow: Sequence[str] = (),
    hook: Callable[[Step], None] | None = None,
    **options: Any,
) -> CompileResult:
    """Compiles a network for a target.

    Args:
        source: a graph, or anything that `load` takes.
        target: name of the target (`snnir targets` lists them).
        host: 'torch' or 'onnx': cuts the network; what the target, a chip, cannot run goes there (`snnir.partition`).
        place: with a host: op name or pattern -> 'chip' or 'host'.
        chips: how many chips of the target there are at most, or 'auto' for as many as the network needs
            (`snnir.placement.chips`); default one. With a host: for each part on the chip.
        passes: a pipeline to run before the target's own, e.g. 'fold-batch-norm,fuse-linear{max_growth=4}'.
        dt, semantics: as for `load`.
        calibrate: recorded input, (T, B, *shape) or a dict by input name; quantising targets measure with it, and
            `verify_passes` uses it beside random input.
        verify_passes: run every pass's before and after and hold the pass to what it keeps.
        allow: 'approximate' lets a target run a network that it cannot run exactly, with the effect reported.
        hook: called after each pass with a `snnir.pipeline.Step`.
        options: the target's own.

    Returns:
        The compiled network.

    Raises:
        CompileError: with every reason why the network cannot run on the target.
        UsageError: an unknown target, pass or option.
    """
    from snnir.registry import backend

    check_options(backend(target), options)  # what does not exist is said before any work
    prepared = prepare(
        source,
        passes=passes,
        dt=dt,
        semantics=semantics,
        calibrate=calibrate,
        verify_passes=verify_passes,
        allow=allow,
        hook=hook,
    )
    if host is not None:
        return prepared.partition(target, host, place, 1 if chips is None else chips, **options)
    if place:
        raise UsageError("place says what goes on the chip and what on the host, so it needs a host")
    if chips is not None:
        return prepared.spread(target, chips, **options)
    return prepared.compile(target, **options)


@dataclass(frozen=True)
class Prepared:
    """A network after the passes that the user asked for, which all targets share: what they do is done once.

    Attributes:
        source: the graph as it was given.
        graph: the graph after the passes.
        pipeline: these passes.
        steps: what each of them did, as JSON data.
        allow, calibrate, verify_passes, hook: as for `compile`.
    """

    source: Graph
    graph: Graph
    pipeline: tuple[Pass, ...]
    steps: tuple[dict[str, Any], ...]
    allow: tuple[str, ...]
    calibrate: dict[str, Array] | None
    verify_passes: bool
    hook: Callable[[Step], None] | None

    def compile(self, target: str, **options: Any) -> CompileResult:
        """The rest of `snnir.compile`: the target's own passes, its check, its artifact."""
        from snnir.pipeline import pipeline_text, run_pipeline
        from snnir.registry import backend

        chosen = backend(target)
        settings = {**options, "allow": self.allow, "calibrate": self.calibrate}
        own, steps = chosen.pipeline(self.source, settings), list(self.steps)
        lowered = run_pipeline(self.graph, own, _hook(steps, self.verify_passes, self.calibrate, self.hook))
        require(chosen.target, lowered)
        artifact = chosen.build(lowered, settings)
        report = {
            "target": target,
            "pipeline": pipeline_text((*self.pipeline, *own)),
            "passes": steps,
            "ops": {"source": len(self.source), "target": len(lowered)},
            "latency": artifact.latency,
            **artifact.report,
        }
        return CompileResult(target, self.source, lowered, artifact, report)

    def partition(
        self,
        target: str,
        host: str,
        place: Mapping[str, Any] | None = None,
        chips: int | str = 1,
        **options: Any,
    ) -> CompileResult:
        """The same for a chip and a host that share the network: every part an artifact, and a script for all."""
        from snnir.pipeline import pipeline_text
        from snnir.placement.automatic import placed
        from snnir.placement.compiled import compiled
        from snnir.placement.examples import example
        from snnir.placement.integers import Integers

        shown = self.calibrate if self.calibrate is not None else example(self.graph)
        recorded = self.calibrate is not None
        integers = Integers(shown, self.allow, options, {"verify_passes": self.verify_passes}, recorded=recorded)
        try:
            placement, _ = placed(self.graph, target, host, place=place, chips=chips, integers=integers)
        finally:
            integers.replay(self.hook)
        artifact = compiled(placement, shown, made=integers)
        report = {
            "target": target,
            "pipeline": pipeline_text(self.pipeline),
            "passes": list(self.steps),
            "ops": {"source": len(self.source), "target": len(self.graph)},
            "latency": 0,
            **artifact.report,
        }
        return CompileResult(target, self.source, self.graph, artifact, report)

    def spread(self, target: str, chips: int | str = "auto", **options: Any) -> CompileResult:
        """The same for several chips: each an artifact, and a script for all; one chip's artifact if that is enough."""
        from snnir.placement.chips.compiled import spread_result

        return spread_result(self, target, chips, options)


def prepare(
    source: Any,
    *,
    passes: str | None = None,
    dt: float | None = None,
    semantics: Semantics | None = None,
    calibrate: Any = None,
    verify_passes: bool = False,
    allow: Sequence[str] = (),
    hook: Callable[[Step], None] | None = None,
) -> Prepared:
    """The part of `compile` that does not depend on the target, for networks that go to several.

    Args, Raises: as `compile`.
    """
    from snnir.pipeline import parse_pipeline, run_pipeline

    graph = load(source, dt=dt, semantics=semantics)
    unknown = set(allow) - {"approximate"}
    if unknown:
        raise UsageError(f"allow={', '.join(sorted(unknown))}: only 'approximate' can be allowed")
    recorded = _recorded(graph, calibrate)
    pipeline = parse_pipeline(passes) if passes else ()
    steps: list[dict[str, Any]] = []
    after = run_pipeline(with_allowed(graph, allow), pipeline, _hook(steps, verify_passes, recorded, hook))
    return Prepared(graph, after, pipeline, tuple(steps), tuple(allow), recorded, verify_passes, hook)


def _hook(
    steps: list[dict[str, Any]],
    verify_passes: bool,
    recorded: dict[str, Array] | None,
    hook: Callable[[Step], None] | None,
) -> Callable[[Step], None]:
    """Checks each step if that is asked for, and appends what it did to `steps`."""

    def after(step: Step) -> None:
        if verify_passes and step.after is not step.before:
            from snnir.verify_passes import check_step

            check_step(step, inputs=recorded)
        steps.append(_step_report(step))
        if hook is not None:
            hook(step)

    return after


def _recorded(graph: Graph, calibrate: Any) -> dict[str, Array] | None:
    if calibrate is None:
        return None
    from snnir.interpreter import as_inputs

    return as_inputs(graph, calibrate)


def _step_report(step: Step) -> dict[str, Any]:
    return {
        "pass": step.pass_.name,
        "keeps": step.pass_.keeps,
        "seconds": round(step.seconds, 6),
        "ops_before": len(step.before),
        "ops_after": len(step.after),
        "notes": [{"kind": e.kind, "where": e.where, "text": e.text} for e in step.entries],
    }
