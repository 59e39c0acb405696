"""Probabilities that mean what they say: a temperature, or a scale a class, fitted on labeled data, into the graphs.

The scale multiplies the logits. It can be fitted and applied on probabilities alone, since ``log p`` is the logits up
to a constant that softmax drops, and ``log p - log(1 - p)`` the logit of a sigmoid: so no checkpoint is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exporter.bundle import staging
from exporter.calibration.torchscript import run_torchscript, scale_torchscript
from exporter.errors import ExportError, ParityError
from exporter.parity.decisions import expected_result
from runtime.artifact.golden import GoldenCase, GoldenSet, golden_to_npz, read_golden
from runtime.artifact.open import Artifact, open_artifact
from runtime.evaluation.data import read_labeled, score_labeled
from runtime.manifest import Calibration, Classify, Golden, Manifest, Multilabel, struct_to_json
from runtime.model import Model
from runtime.outputs.metrics import Scores, calibration_error, reliability
from runtime.outputs.registry import open_interpreter
from runtime.verify import verify

_FILE = "calibration.json"
_PICTURE = "reliability.png"
_NODE = "calibration"

# Scales outside of this are no calibration, but data that has nothing to do with the model.
_SMALLEST, _LARGEST = 1e-3, 1e3


# From here on, float32 has too few digits left between a sigmoid and 1 to tell its logit within a hundredth.
_SATURATED = 1 - 1e-5

# The formula takes probabilities as float32 has rounded them; so does TorchScript, whose softmax rounds once more. How
# much of that a scale blows up is not in the export's noise floor.
_FORMULA_LIMIT = 1e-4

_PARITY_STAYS = (
    "parity.json: as exported, of the scores before calibration; golden.npz, and so 'truecopy verify', has the "
    "calibrated ones"
)

_GOLDEN_RATIO = (5**0.5 - 1) / 2


class CalibrationResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a calibration found: its parameters, and the expected calibration error before and after.

    The points are (confidence, share correct, count) of a reliability diagram. ``formula_difference`` is how far the
    graphs, run on the golden inputs, are from the eager model's scores calibrated by the formula. ``remarks`` say in
    words what became of the files that are no graphs.
    """

    artifact: str
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
        return 1 / self.scales[0] if len(self.scales) == 1 else None


@dataclass(frozen=True, kw_only=True)
class _Link:
    """How scores follow from logits: the operator at the end of the graph, and its axis of classes."""

    operator: str
    scales: NDArray[np.float64]

    def apply(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Return the scores that the scaled logits have, float64 [inputs, classes]."""
        if self.operator == "Sigmoid":
            return 1 / (1 + np.exp(-self.scales * _logit(scores)))
        scaled = self.scales * np.log(np.maximum(scores.astype(np.float64), _TINY))
        exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        found: NDArray[np.float64] = exponents / exponents.sum(axis=-1, keepdims=True)
        return found


# What float32 has left above zero: a probability of zero is at most this.
_TINY = float(np.finfo(np.float32).tiny)


def calibrate(
    artifact: str | Path, data: str | Path, *, column: str = "label", out: str | Path | None = None
) -> CalibrationResult:
    """Write the artifact with calibrated probabilities to ``out``, by default in its own place.

    Labels do not change for a classifier: one temperature keeps the order of the classes. Raises ExportError where the
    task has no probabilities, ParityError where a graph then differs from the formula.
    """
    opened = open_artifact(artifact)
    task = opened.manifest.task
    if not isinstance(task, Classify | Multilabel):
        raise ExportError(
            f"'{artifact}': has no probabilities to calibrate: expected a task of classify or multilabel, got "
            f"{task.kind}. Calibrate a classifier."
        )
    model = Model(opened, device="cpu")
    found = score_labeled(model, read_labeled(model, Path(data), column=column))
    fitted = fit_scales(task, found)
    if not all(2 * _SMALLEST < scale < _LARGEST / 2 for scale in fitted):
        raise ExportError(
            f"'{data}': does not tell how sure this model should be: expected scales from {_SMALLEST:g} to "
            f"{_LARGEST:g}, got {', '.join(f'{scale:.3g}' for scale in fitted[:10])}. Use more data."
        )
    link = _Link(operator="Softmax" if isinstance(task, Classify) else "Sigmoid", scales=np.array(fitted))
    after = link.apply(found.scores)
    interpreter = open_interpreter(task, model.labels)
    sure_before, sure_after = (interpreter.confidences(scores, found.truth) for scores in (found.scores, after))
    calibrated = CalibrationResult(
        artifact=str(out or artifact),
        inputs=len(found.names),
        failures=dict(found.failures),
        scales=fitted,
        error_before=calibration_error(*sure_before),
        error_after=calibration_error(*sure_after),
        before=tuple(reliability(*sure_before)),
        after=tuple(reliability(*sure_after)),
    )
    return _write(opened.path, Path(out or artifact), opened.manifest, link, calibrated)


def fit_scales(task: Classify | Multilabel, found: Scores) -> tuple[float, ...]:
    """Return the scale of the logits that makes the truth most likely: one, or one a class for a multilabel.

    A class of a multilabel whose truth is always the same keeps the scale 1: any number would do.
    """
    if isinstance(task, Multilabel):
        truth = found.truth.astype(bool)
        logits = _logit(found.scores)
        return tuple(
            _best(lambda scale, row=row: _sigmoid_loss(scale * logits[:, row], truth[:, row]))
            if 0 < truth[:, row].sum() < len(truth)
            else 1.0
            for row in range(truth.shape[1])
        )
    logs = np.log(np.maximum(found.scores.astype(np.float64), _TINY))
    rows = np.arange(len(logs))

    def loss(scale: float) -> float:
        scaled = scale * logs
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1))
        return float((total - scaled[rows, found.truth]).mean())

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
    # float32 rounds the largest probabilities to 1: half a step below it is as far as they can tell.
    half = float(np.finfo(np.float32).epsneg) / 2
    exact = np.clip(scores.astype(np.float64), _TINY, 1 - half)
    return np.log(exact) - np.log1p(-exact)


def _write(
    source: Path, out: Path, manifest: Manifest, link: _Link, calibrated: CalibrationResult
) -> CalibrationResult:
    """Write the artifact, and return the calibration with what running it showed."""
    variant = manifest.variants[0]
    notes = [_PARITY_STAYS]
    with staging(out, force=True) as stage:
        for name in manifest.files:
            data = (source / name).read_bytes()
            if name in (variant.model, variant.network):
                data = scale_graph(data, link.scales, output=manifest.outputs[0].name)
            elif name == manifest.golden.file:
                data = _calibrate_golden(
                    source / name, link, manifest, Artifact(path=source, manifest=manifest).labels()
                )
            elif name.endswith(".torchscript"):
                if len(manifest.inputs) > 1:
                    notes.append(f"{name}: left out, as it takes several inputs")
                    continue
                data = scale_torchscript(source / name, link.scales, sigmoid=link.operator == "Sigmoid")
                notes.append(f"{name}: calibrated, too")
            if name not in (_FILE, _PICTURE):
                stage.write(name, data)
        calibrated = msgspec.structs.replace(calibrated, notes=tuple(notes))
        stage.write(_FILE, struct_to_json(calibrated))
        picture = _draw(calibrated)
        if picture is not None:
            stage.write(_PICTURE, picture)
        previous = manifest.calibration.scales if manifest.calibration else (1.0,) * len(calibrated.scales)
        stage.finish(
            msgspec.structs.replace(
                manifest,
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
        )
        verification = verify(stage.folder, device="cpu")
        if not verification.passed:
            failed = next(check for check in verification.checks if not check.passed)
            raise ParityError(
                f"'{out}': the calibrated graph differs from its formula: expected at most {failed.limit:g}, got "
                f"{failed.worst:.1e} ({failed.name}). Nothing was written; report this."
            )
        _check_torchscript(stage.folder, manifest, out)
    scores = [check.worst for check in verification.checks if check.unit == "score"]
    return msgspec.structs.replace(calibrated, formula_difference=max(scores))


def _widened(golden: Golden) -> Golden:
    """Return the limits of the golden outputs for what the formula knows of them."""
    output, end_to_end = (
        {name: max(limit, _FORMULA_LIMIT) for name, limit in limits.items()}
        for limits in (golden.output_limits, golden.end_to_end_limits)
    )
    return msgspec.structs.replace(golden, output_limits=output, end_to_end_limits=end_to_end)


def _check_torchscript(folder: Path, manifest: Manifest, out: Path) -> None:
    """Raise ParityError where a calibrated TorchScript archive does not give the golden set's calibrated scores."""
    limit = max(_FORMULA_LIMIT, *manifest.golden.output_limits.values())
    for path in folder.glob("*.torchscript"):
        for case in read_golden(folder / manifest.golden.file).cases:
            found = run_torchscript(path, case.prepared)
            worst = float(np.abs(found - case.outputs[manifest.outputs[0].name]).max())
            if not worst <= limit:
                raise ParityError(
                    f"'{out}': the calibrated '{path.name}' differs from its formula: expected at most {limit:g}, got "
                    f"{worst:.1e}. Nothing was written; report this."
                )


def scale_graph(data: bytes, scales: NDArray[np.float64], *, output: str) -> bytes:
    """Return a graph whose logits are multiplied by ``scales`` before the operator that makes ``output`` of them.

    Where the network itself ends in probabilities, their logarithms are scaled instead.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    place, last = next((place, node) for place, node in enumerate(graph.node) if output in node.output)
    constants: dict[str, Any] = {f"{_NODE}/scales": scales.astype(np.float32)}
    known = next((value for value in graph.initializer if value.name == f"{_NODE}/scales"), None)
    if known is not None:
        known.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(known) * scales).astype(np.float32), known.name))
        return bytes(model.SerializeToString(deterministic=True))
    if last.op_type in ("Softmax", "Sigmoid"):
        logits = last.input[0]
        last.input[0] = f"{_NODE}/scaled"
        added = [helper.make_node("Mul", [logits, f"{_NODE}/scales"], [f"{_NODE}/scaled"], name=f"{_NODE}/scale")]
    else:
        sigmoid = len(scales) > 1
        inner = f"{_NODE}/probabilities"
        last.output[0] = inner
        constants |= {f"{_NODE}/tiny": np.float32(_TINY), f"{_NODE}/one": np.float32(1)}
        names = iter(f"{_NODE}/{number}" for number in range(8))
        clipped, logs = next(names), next(names)
        added = [
            helper.make_node("Max", [inner, f"{_NODE}/tiny"], [clipped], name=clipped),
            helper.make_node("Log", [clipped], [logs], name=logs),
        ]
        if sigmoid:
            rest, above, others, logit = next(names), next(names), next(names), next(names)
            added += [
                helper.make_node("Sub", [f"{_NODE}/one", inner], [rest], name=rest),
                helper.make_node("Max", [rest, f"{_NODE}/tiny"], [above], name=above),
                helper.make_node("Log", [above], [others], name=others),
                helper.make_node("Sub", [logs, others], [logit], name=logit),
            ]
            logs = logit
        scaled = f"{_NODE}/scaled"
        added.append(helper.make_node("Mul", [logs, f"{_NODE}/scales"], [scaled], name=f"{_NODE}/scale"))
        postprocessing = (
            helper.make_node("Sigmoid", [scaled], [output], name=f"{_NODE}/postprocessing")
            if sigmoid
            else helper.make_node("Softmax", [scaled], [output], name=f"{_NODE}/postprocessing", axis=-1)
        )
        graph.node.extend([*added, postprocessing])
        added = []
    for offset, node in enumerate(added):
        graph.node.insert(place + offset, node)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    return bytes(model.SerializeToString(deterministic=True))


def _calibrate_golden(path: Path, link: _Link, manifest: Manifest, labels: Sequence[str]) -> bytes:
    """Return the golden set with the eager model's scores calibrated by the formula, not by the graphs.

    Cases whose sigmoid float32 has rounded to 1 go, where others stay: their logits cannot be told.
    """
    output = manifest.outputs[0].name

    def scaled(case: GoldenCase) -> GoldenCase:
        outputs = {**case.outputs, output: link.apply(case.outputs[output]).astype(np.float32)}
        result = expected_result(outputs, manifest.task, labels) if case.labels else {}
        return GoldenCase(source=case.source, prepared=case.prepared, outputs=outputs, labels=result)

    cases = read_golden(path).cases
    if link.operator == "Sigmoid":
        cases = tuple(case for case in cases if case.outputs[output].max() < _SATURATED) or cases
    return golden_to_npz(GoldenSet(cases=tuple(map(scaled, cases))))


def _draw(calibrated: CalibrationResult) -> bytes | None:
    """Return the reliability diagram, or None where matplotlib is not installed."""
    from importlib.util import find_spec

    from runtime.evaluation.plots import draw_reliability

    if find_spec("matplotlib") is None:
        return None
    return draw_reliability({"before": calibrated.before, "after": calibrated.after})
