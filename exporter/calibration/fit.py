"""Calibration of probabilities: a temperature, or one scale per class, fitted on labeled data.

The scale multiplies the logits. It can be fitted and applied on probabilities alone, since ``log p`` is the logits up
to a constant that softmax drops, and ``log p - log(1 - p)`` the logit of a sigmoid: so no checkpoint is needed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from exporter.backends.backend import TINY, CalibratedForm, LogitScales
from exporter.backends.registry import BACKENDS, backends_in
from exporter.bundle import Staging, staging
from exporter.errors import ExportError, ParityError
from exporter.outputs.registry import open_reference
from runtime.artifact.golden import GoldenCase, GoldenSet, golden_to_npz, read_golden
from runtime.artifact.open import Artifact, open_artifact
from runtime.artifact.proof import FORMULA_LIMIT, golden_input, read_evidence
from runtime.evaluation.data import read_labeled, score_labeled
from runtime.evidence import evidence_to_json
from runtime.manifest import FULL_PRECISION, LAYOUT, Calibration, Classify, Golden, Multilabel, struct_to_json
from runtime.model import Model
from runtime.outputs.metrics import Scores, calibration_error, reliability
from runtime.outputs.registry import open_interpreter
from runtime.verify import verify

_FILE = "calibration.json"
_PICTURE = "reliability.png"

# Scales outside of this range are no calibration: the data has nothing to do with the model.
_SMALLEST, _LARGEST = 1e-3, 1e3

# From here on, float32 has too few digits left between a sigmoid and 1 to tell its logit within a hundredth.
_SATURATED = 1 - 1e-5

_PARITY_STAYS = (
    "parity.json: as exported, of the scores before calibration; golden.npz, and so 'truecopy verify', has the "
    "calibrated ones"
)

_VARIANT_GOES = "{precision}: left out, as it was measured with the scores before; run 'truecopy quantize' again"

_GOLDEN_RATIO = (5**0.5 - 1) / 2


class CalibrationResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a calibration: its parameters, and the expected calibration error before and after.

    The points are (confidence, share correct, count) of a reliability diagram. ``formula_difference`` is how far the
    graphs, run on the golden inputs, are from the eager model's scores calibrated by the formula. ``notes`` say in
    words what became of the files that are no graphs.
    """

    artifact: str
    task: str
    inputs: int
    failures: dict[str, str]
    scales: tuple[float, ...]
    error_before: float
    error_after: float
    before: tuple[tuple[float, float, int], ...]
    after: tuple[tuple[float, float, int], ...]
    notes: tuple[str, ...] = ()
    formula_difference: float | None = None

    @property
    def temperature(self) -> float | None:
        """What a classifier's logits are divided by; None for a multilabel."""
        return 1 / self.scales[0] if self.task == "classify" else None


def scaled_scores(scores: NDArray[Any], scales: LogitScales) -> NDArray[np.float64]:
    """Return the scores of the scaled logits, float64 [inputs, classes]."""
    if scales.sigmoid:
        return 1 / (1 + np.exp(-scales.values * _logit(scores)))
    scaled = scales.values * np.log(np.maximum(scores.astype(np.float64), TINY))
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponents / exponents.sum(axis=-1, keepdims=True)
    return probabilities


def calibrate(
    artifact: str | Path, data: str | Path, *, column: str = "label", out: str | Path | None = None
) -> CalibrationResult:
    """Write the artifact with calibrated probabilities to ``out``, by default over the artifact itself.

    Labels do not change for a classifier: one temperature keeps the order of the classes. Raises ExportError where the
    task has no probabilities, ParityError where a graph then differs from the formula.
    """
    opened = open_artifact(artifact)
    task = opened.manifest.task
    if not isinstance(task, Classify | Multilabel):
        raise ExportError(
            f"'{artifact}': cannot be calibrated: expected a task of classify or multilabel, got {task.kind}. "
            "Calibrate a classifier; of several heads, export one alone, by a module that returns its logits."
        )
    model = Model(opened, device="cpu")
    labeled = score_labeled(model, read_labeled(model, Path(data), column=column))
    fitted = fit_scales(task, labeled)
    if not all(2 * _SMALLEST < scale < _LARGEST / 2 for scale in fitted):
        raise ExportError(
            f"'{data}': does not say how sure this model should be: expected scales from {_SMALLEST:g} to "
            f"{_LARGEST:g}, got {', '.join(f'{scale:.3g}' for scale in fitted[:10])}. Use more data."
        )
    scales = LogitScales(values=np.array(fitted), sigmoid=isinstance(task, Multilabel))
    after = scaled_scores(labeled.scores, scales)
    interpreter = open_interpreter(task, model.labels)
    sure_before, sure_after = (interpreter.confidences(scores, labeled.truth) for scores in (labeled.scores, after))
    calibrated = CalibrationResult(
        artifact=str(out or artifact),
        task=task.kind,
        inputs=len(labeled.names),
        failures=dict(labeled.failures),
        scales=fitted,
        error_before=calibration_error(*sure_before),
        error_after=calibration_error(*sure_after),
        before=tuple(reliability(*sure_before)),
        after=tuple(reliability(*sure_after)),
    )
    return _write(opened, Path(out or artifact), scales, calibrated)


def fit_scales(task: Classify | Multilabel, labeled: Scores) -> tuple[float, ...]:
    """Return the scale of the logits that makes the truth most likely: one, or one per class for a multilabel.

    A class of a multilabel whose truth is always the same keeps the scale 1: any number would do.
    """
    if isinstance(task, Multilabel):
        truth = labeled.truth.astype(bool)
        logits = _logit(labeled.scores)
        return tuple(
            _best(lambda scale, index=index: _sigmoid_loss(scale * logits[:, index], truth[:, index]))
            if 0 < truth[:, index].sum() < len(truth)
            else 1.0
            for index in range(truth.shape[1])
        )
    logs = np.log(np.maximum(labeled.scores.astype(np.float64), TINY))
    rows = np.arange(len(logs))

    def loss(scale: float) -> float:
        scaled = scale * logs
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1))
        return float((total - scaled[rows, labeled.truth]).mean())

    return (_best(loss),)


def _best(loss: Any) -> float:
    """Return the scale of the least loss: golden-section search over its logarithm, where the loss has one valley."""
    low, high = np.log(_SMALLEST), np.log(_LARGEST)
    for _ in range(80):
        width = (high - low) * _GOLDEN_RATIO
        if loss(np.exp(high - width)) < loss(np.exp(low + width)):
            high = low + width
        else:
            low = high - width
    return float(np.exp((low + high) / 2))


def _sigmoid_loss(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    return float(np.logaddexp(0, np.where(truth, -logits, logits)).mean())


def _logit(scores: NDArray[Any]) -> NDArray[np.float64]:
    # float32 rounds the largest probabilities to 1: half a step below it is as much as they say.
    half = float(np.finfo(np.float32).epsneg) / 2
    exact = np.clip(scores.astype(np.float64), TINY, 1 - half)
    return np.log(exact) - np.log1p(-exact)


def _write(artifact: Artifact, out: Path, scales: LogitScales, calibrated: CalibrationResult) -> CalibrationResult:
    """Write the artifact, and return the calibration with what running it showed."""
    manifest = artifact.manifest
    forms = [backend.calibrate(artifact, scales) for backend in BACKENDS.values()]
    left_out = [variant for variant in manifest.variants if variant.precision != FULL_PRECISION]
    variant_notes = (_VARIANT_GOES.format(precision=variant.precision) for variant in left_out)
    notes = (_PARITY_STAYS, *(note for form in forms for note in form.notes), *variant_notes)
    calibrated = msgspec.structs.replace(calibrated, notes=notes)
    with staging(out, force=True) as stage:
        golden = _calibrated_golden(artifact, scales)
        evidence = _evidence(artifact, golden, forms)
        _write_files(stage, artifact, forms, {manifest.golden.file: golden_to_npz(golden), LAYOUT.parity: evidence})
        stage.write(_FILE, struct_to_json(calibrated))
        picture = _draw(calibrated)
        if picture is not None:
            stage.write(_PICTURE, picture)
        previous = manifest.calibration.scales if manifest.calibration else (1.0,) * len(calibrated.scales)
        written = msgspec.structs.replace(
            manifest,
            variants=(manifest.variant(FULL_PRECISION),),
            files=stage.files(),
            golden=_widened(manifest.golden),
            calibration=Calibration(
                file=_FILE,
                inputs=calibrated.inputs,
                scales=tuple(map(float, np.multiply(previous, calibrated.scales))),
                error_before=calibrated.error_before,
                error_after=calibrated.error_after,
            ),
        )
        stage.finish(written)
        verification = verify(stage.folder, device="cpu")
        if not verification.passed:
            failed = next(check for check in verification.checks if not check.passed)
            raise ParityError(
                f"'{out}': the calibrated graph differs from its formula: expected at most {failed.limit:g}, got "
                f"{failed.worst:.1e} ({failed.name}). Nothing was written; report this."
            )
        _check_scorers(Artifact(path=stage.folder, manifest=written), out)
    differences = [check.worst for check in verification.checks if check.unit == "score"]
    return msgspec.structs.replace(calibrated, formula_difference=max(differences))


def _evidence(artifact: Artifact, golden: GoldenSet, forms: Sequence[CalibratedForm]) -> bytes:
    """Return the artifact's evidence on the golden inputs and on the forms that stay."""
    evidence = read_evidence(artifact)
    left_out = {name for form in forms for name in form.left_out}
    kept = {golden_input("", case.source).sha256 for case in golden.cases}
    return evidence_to_json(
        msgspec.structs.replace(
            evidence,
            golden=tuple(entry for entry in evidence.golden if entry.sha256 in kept),
            rows=tuple(row for row in evidence.rows if row.path not in left_out),
        )
    )


def _write_files(
    stage: Staging, artifact: Artifact, forms: Sequence[CalibratedForm], replaced: Mapping[str, bytes]
) -> None:
    """Write the artifact's files, those of its forms and the ``replaced`` ones as they are calibrated."""
    left_out = {_FILE, _PICTURE, *(name for form in forms for name in form.left_out)}
    for variant in artifact.manifest.variants:
        if variant.precision != FULL_PRECISION:
            left_out |= {*variant.files}
    changed = dict(replaced)
    for form in forms:
        changed |= form.files
    for name in artifact.manifest.files:
        if name not in left_out:
            stage.write(name, changed[name] if name in changed else artifact.read(name))


def _widened(golden: Golden) -> Golden:
    """Return the limits of the golden outputs, widened by the precision of the formula."""
    output, end_to_end = (
        {name: max(limit, FORMULA_LIMIT) for name, limit in limits.items()}
        for limits in (golden.output_limits, golden.end_to_end_limits)
    )
    return msgspec.structs.replace(golden, output_limits=output, end_to_end_limits=end_to_end)


def _check_scorers(artifact: Artifact, out: Path) -> None:
    """Raise ParityError where a form that PyTorch runs does not give the golden set's calibrated scores."""
    golden, output = artifact.manifest.golden, artifact.manifest.outputs[0].name
    limit = max(FORMULA_LIMIT, *golden.output_limits.values())
    for path, backend in backends_in(artifact.manifest).items():
        score = backend.open_scorer(artifact, torch.device("cpu"))
        if score is None:
            continue
        for case in read_golden(artifact.file(golden.file)).cases:
            difference = float(np.abs(score(case.prepared).numpy() - case.outputs[output]).max())
            if not difference <= limit:
                raise ParityError(
                    f"'{out}': the calibrated '{path}' differs from its formula: expected at most {limit:g}, got "
                    f"{difference:.1e}. Nothing was written; report this."
                )


def _calibrated_golden(artifact: Artifact, scales: LogitScales) -> GoldenSet:
    """Return the golden set with the eager model's scores calibrated by the formula, not by the graphs.

    Cases with a sigmoid that float32 has rounded to 1 are dropped where others stay: their logits are unknown.
    """
    manifest, labels = artifact.manifest, artifact.labels()
    output = manifest.outputs[0].name

    def calibrate_case(case: GoldenCase) -> GoldenCase:
        outputs = {**case.outputs, output: scaled_scores(case.outputs[output], scales).astype(np.float32)}
        result = open_reference(manifest.task, labels).expected_result(outputs) if case.labels else {}
        return GoldenCase(source=case.source, prepared=case.prepared, outputs=outputs, labels=result)

    cases = read_golden(artifact.file(manifest.golden.file)).cases
    if scales.sigmoid:
        cases = tuple(case for case in cases if case.outputs[output].max() < _SATURATED) or cases
    return GoldenSet(cases=tuple(map(calibrate_case, cases)))


def _draw(calibrated: CalibrationResult) -> bytes | None:
    """Return the reliability diagram, or None where matplotlib is not installed."""
    from importlib.util import find_spec

    from runtime.evaluation.plots import draw_reliability

    if find_spec("matplotlib") is None:
        return None
    return draw_reliability({"before": calibrated.before, "after": calibrated.after})
