"""One fault after the other: planted, exported, judged by the gate and by verify, and proven to change something."""

import contextlib
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from mutation import (
    after_network,
    before_network,
    compared_whole,
    in_artifacts,
    in_network,
    in_photos_of_any_size,
    in_rows,
    in_sequences,
    in_texts,
)
from mutation.planting import FAULTS, Fault, Planting, rehash
from mutation.subjects import Subject, build
from numpy.typing import NDArray

import exporter
from exporter import workflow
from exporter.backends import onnx_graph, torchscript
from exporter.conversion.to_onnx import ConvertedNetwork
from exporter.errors import ExportError
from exporter.options.export import ExportOptions
from exporter.recheck import recheck_artifact
from runtime.artifact.open import open_artifact
from runtime.errors import ModelError
from runtime.evidence import Evidence
from runtime.inputs.image.decoder import DecodedImage
from runtime.manifest import LAYOUT
from runtime.model import Model
from runtime.verify import verify

# The modules whose faults are in the table, in the order of an input's way.
ROOMS = (
    before_network,
    in_photos_of_any_size,
    in_network,
    after_network,
    in_rows,
    in_texts,
    in_sequences,
    in_artifacts,
    compared_whole,
)

# What is less than this, absolute and relative, is no change of behavior.
_SAME = 1e-6


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a fault.

    ``served`` and ``torchscript`` say whether the runtime's and libtorch's answers change. ``stage`` is the one that
    the gate names, empty where it passed; ``verify`` what the runtime's own check says, empty where it passed.
    """

    fault: str
    subject: str
    expected: tuple[str, ...]
    story: str
    served: bool
    torchscript: bool
    caught: bool
    stage: str
    reason: str
    verify: str
    in_golden: bool = True
    whole: bool = False
    seconds: float = 0.0

    @property
    def of_golden(self) -> bool:
        """Whether the evidence is at fault, and not the answers."""
        return "golden" in self.expected or "hashes" in self.expected

    @property
    def broken(self) -> bool:
        """Whether the fault changes nothing: then it is no fault, and proves nothing."""
        return not (self.served or self.torchscript or self.of_golden or self.whole)

    @property
    def right_stage(self) -> bool:
        """Whether the gate names the stage where the fault is."""
        return self.stage.removeprefix("golden ") in self.expected or (
            self.of_golden and self.stage.startswith("golden")
        )

    @property
    def verify_owes(self) -> bool:
        """Whether verify has to find it: it runs what the runtime runs on golden inputs, and no TorchScript."""
        return (self.served and self.in_golden and not self.whole) or self.of_golden


@dataclass(frozen=True, kw_only=True)
class Honest:
    """A subject without a fault: its artifact, the gate's inputs, and its answers to them."""

    subject: Subject
    artifact: Path
    report: Any
    inputs: tuple[bytes, ...]
    answers: Mapping[str, Any]


class Bench:
    """A folder to work in, and what has been exported in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._honest: dict[str, Honest] = {}
        self._converted: dict[str, ConvertedNetwork] = {}

    def judge(self, fault: Fault) -> Outcome:
        """Return what the gate and verify make of a fault."""
        honest = self.honest(fault.subject)
        place = self._folder / "mutant"
        shutil.rmtree(place, ignore_errors=True)
        with self._cached(fault.subject) as cache:
            planting = Planting()
            fault.plant(planting)
            cache.used = not planting.fresh
            if planting.finished:
                stage, reason = self._edit(planting, honest, place)
            else:
                with planting.in_force():
                    stage, reason = self._export(honest, place)
                    if not stage and not fault.in_golden:
                        # The export's own inputs are small: what only large ones show is for 'truecopy parity'.
                        stage, reason = self._recheck(honest, place)
        with planting.in_force() if planting.on_host else contextlib.nullcontext():
            hashed = not (place / "keep-hashes").exists()
            answers = _answers(place, honest.inputs) if hashed else {}
            found = _verify(place)
        served = _differs(honest.answers, answers, without="torchscript")
        return Outcome(
            fault=fault.name,
            subject=fault.subject,
            expected=fault.stages,
            story=fault.story,
            served=served,
            torchscript=_differs(honest.answers, answers, only="torchscript"),
            caught=bool(stage),
            stage=stage,
            reason=reason,
            verify=found,
            in_golden=fault.in_golden,
            whole=fault.whole,
        )

    def honest(self, name: str) -> Honest:
        """Return a subject's honest export; made once."""
        if name not in self._honest:
            folder = self._folder / name
            shutil.rmtree(folder, ignore_errors=True)
            subject = build(name, folder)
            with self._cached(name), _recorded() as record:
                exporter.export(**subject.options, out=folder / "artifact")
            assert record.report is not None, (name, record.reason)
            inputs = (*record.inputs, *subject.probes)
            self._honest[name] = Honest(
                subject=subject,
                artifact=folder / "artifact",
                report=record.report,
                inputs=inputs,
                answers=_answers(folder / "artifact", inputs),
            )
            assert not _verify(folder / "artifact"), (name, _verify(folder / "artifact"))
        return self._honest[name]

    def _export(self, honest: Honest, place: Path) -> tuple[str, str]:
        with _recorded(honest.report) as record:
            exporter.export(**honest.subject.options, out=place)
        return record.stage, record.reason

    def _edit(self, planting: Planting, honest: Honest, place: Path) -> tuple[str, str]:
        """Edit a copy of the honest artifact, and return what 'truecopy parity' says of it."""
        shutil.copytree(honest.artifact, place)
        for change in planting.finished:
            change(place)
        if not (place / "keep-hashes").exists():
            rehash(place)
        return self._recheck(honest, place, planting.stated)

    def _recheck(self, honest: Honest, place: Path, stated: Mapping[str, Any] | None = None) -> tuple[str, str]:
        """Return what 'truecopy parity' says of an artifact; ``stated`` are further options that it is given."""
        options = honest.subject.options
        said = {key: options[key] for key in ("preprocess", "labels", "tokenizer") if key in options}
        options = ExportOptions(checkpoint=options["checkpoint"], arch=options["arch"], **{**said, **(stated or {})})
        try:
            checked = recheck_artifact(place, options)
        except ModelError as error:
            return "hashes", str(error)
        except ExportError as error:
            return "preprocessing", str(error)
        return _stage_of(checked.evidence), checked.evidence.reason

    @contextlib.contextmanager
    def _cached(self, subject: str) -> Iterator["_Cache"]:
        """Convert each subject's network once: faults that do not touch it have the same graph."""
        convert = onnx_graph.convert_network
        cache = _Cache()

        def once(*given: Any, **options: Any) -> ConvertedNetwork:
            if not cache.used:
                return convert(*given, **options)
            if subject not in self._converted:
                self._converted[subject] = convert(*given, **options)
            known = self._converted[subject]
            return ConvertedNetwork(skeleton=known.model, fallback=known.fallback)

        onnx_graph.convert_network = once
        try:
            yield cache
        finally:
            onnx_graph.convert_network = convert


class _Cache:
    used = True


class _Record:
    """What the gate said."""

    def __init__(self) -> None:
        self.report: Any = None
        self.stage = self.reason = ""
        self.inputs: tuple[bytes, ...] = ()


@contextlib.contextmanager
def _recorded(instead: Any = None) -> Iterator[_Record]:
    """Let exports go on where the gate fails, with another export's report in place of its own; and keep its words."""
    compare_staged = workflow.compare_staged
    record = _Record()

    def recorded(artifact: Any, subject: Any, *given: Any, **options: Any) -> Any:
        record.inputs = tuple(reference.case.data for reference in subject.references)
        try:
            evidence = compare_staged(artifact, subject, *given, **options)
        except Exception as error:
            if instead is None:
                raise
            # No verdict, but nothing is written either.
            record.stage, record.reason = "error", f"{type(error).__name__}: {error}"
            return instead
        if evidence.passed:
            record.report = evidence
            return evidence
        record.stage, record.reason = _stage_of(evidence), evidence.reason
        return evidence if instead is None else instead

    workflow.compare_staged = recorded
    try:
        yield record
    finally:
        workflow.compare_staged = compare_staged


def _stage_of(evidence: Evidence) -> str:
    """Return the stage that evidence names first; empty where it passed."""
    if evidence.passed:
        return ""
    if evidence.first_fault is None:
        return evidence.verdict
    row = evidence.rows[evidence.first_fault]
    return f"golden {row.stage}" if row.path == LAYOUT.golden else row.stage


def _verify(artifact: Path) -> str:
    """Return what verify finds, in words; empty where it passes."""
    try:
        verification = verify(artifact, device="cpu")
    except (ModelError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ", ".join(check.title for check in verification.checks if not check.passed)


def _answers(artifact: Path, inputs: Sequence[bytes]) -> dict[str, Any]:
    """Return all that an artifact says to inputs: one by one, together, from the whole graph, and from libtorch."""
    found: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = Model(open_artifact(artifact), device="cpu")
        except ModelError as error:
            return {"opens": f"{error}"}
        with model:
            found["one by one"] = [_tried(lambda one=one: model.predict(one, top_k=100).to_dict()) for one in inputs]
            found["in a list"] = _tried(lambda: [row.to_dict() for row in model.predict(list(inputs), top_k=100)])
            decoded = [_tried(lambda one=one: model.decode(one)) for one in inputs]
            usable = [one for one in decoded if not isinstance(one, str)]
            groups: dict[Any, list[Any]] = {}
            for one in usable:
                prepared = model.prepare(one)
                groups.setdefault(model.bucket(prepared), []).append(prepared)
            found["in batches"] = [
                _tried(lambda group=group: model.run(model.stack(group))) for group in groups.values()
            ]
            found["whole graph"] = [_tried(lambda one=one: model.run(model.raw_arrays(one))) for one in usable]
        archive = artifact / LAYOUT.torchscript
        if archive.is_file() and usable and isinstance(usable[0], DecodedImage):
            module: Any = torchscript.load_torchscript(archive)
            with torch.no_grad():
                found["torchscript"] = [
                    _tried(lambda one=one: module(torch.from_numpy(one.to_array()[None].copy())).numpy())
                    for one in usable
                ]
    return found


def _tried(run: Any) -> Any:
    try:
        return run()
    except (ModelError, RuntimeError, ValueError, IndexError) as error:
        return f"{type(error).__name__}"


def _differs(one: Mapping[str, Any], other: Mapping[str, Any], *, only: str = "", without: str = "") -> bool:
    if not other:
        return False
    names = [only] if only else [name for name in one if name != without]
    return any(_differ(one.get(name), other.get(name)) for name in names)


def _differ(one: Any, other: Any) -> bool:
    """Return whether two answers differ by more than nothing."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() != other.keys() or any(_differ(value, other[key]) for key, value in one.items())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape != other.shape or not _close(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) != len(other) or any(_differ(first, second) for first, second in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return not (math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME) or (math.isnan(one) and math.isnan(other)))
    return bool(one != other)


def _close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.kind not in "fiu":
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one.astype(np.float64), other.astype(np.float64), _SAME, _SAME, equal_nan=True))


__all__ = ["FAULTS", "ROOMS", "Bench", "Outcome"]
