"""Every path against the reference, stage by stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from exporter.fronts.protocol import BATCH_SIZES
from exporter.parity import tolerance
from exporter.parity.paths import Arrays, ServedPath
from exporter.parity.reference import Answer
from exporter.parity.report import Report, Row, Stage
from runtime.manifest import Classify, Manifest, Multilabel, Segment


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What differences of one output are measured by: its size, how much it varies over the cases, and the limit.

    Whole numbers have to be equal.
    """

    size: float
    signal: float
    limit: float


def scales(answers: Sequence[Answer], manifest: Manifest) -> dict[str, Scale]:
    """Return the scale of every output over the reference's answers; probabilities have the size 1."""
    found = {}
    for output in manifest.outputs:
        arrays = [answer.outputs[output.name] for answer in answers]
        probabilities = isinstance(manifest.task, Classify | Multilabel | Segment)
        largest = max((float(np.abs(array.astype(np.float64)).max()) for array in arrays if array.size), default=0.0)
        size = 1.0 if probabilities else largest
        signal = _signal(arrays)
        exact = arrays[0].dtype.kind in "iub"
        found[output.name] = Scale(
            size=size, signal=signal, limit=0.0 if exact else tolerance.score_limit(signal, size)
        )
    return found


def compare(
    paths: Sequence[ServedPath], answers: Sequence[Answer], batch: Sequence[Answer], manifest: Manifest
) -> Report:
    """Return the report on ``paths``: each stage given the reference's input to it, and end to end.

    ``answers`` are the reference's for single cases of every size; ``batch`` those for cases that may share a batch, of
    which batches of the promised sizes are made.
    """
    measures = scales(answers, manifest)
    rows: list[Row] = []
    for path in paths:
        if path.prepare is not None:
            rows.append(_geometry_row(path, answers) if path.prepared_as == "geometry" else _tokens_row(path, answers))
        if path.normalize is not None:
            rows.append(_arithmetic_row(path, answers))
        if path.score is not None:
            rows.append(_network_row(path, answers, measures))
        rows.append(_end_to_end_row(path, answers, batch, measures, manifest))
    verdict, reason = _verdict(rows, measures)
    return Report(
        verdict=verdict,
        reason=reason,
        signal=max(measure.signal for measure in measures.values()),
        inputs=tuple(answer.case.name for answer in answers),
        batch_sizes=BATCH_SIZES,
        rows=tuple(rows),
    )


def _verdict(
    rows: Sequence[Row], measures: Mapping[str, Scale]
) -> tuple[Literal["passed", "failed", "inconclusive"], str]:
    failed = next((row for row in rows if not row.passed), None)
    if failed is not None:
        return "failed", f"{failed.path}, stage '{failed.stage}', input '{failed.worst_input}': {failed.finding}"
    if all(
        measure.signal < tolerance.MINIMUM_SIGNAL * measure.size or not measure.size for measure in measures.values()
    ):
        signal = max(measure.signal for measure in measures.values())
        size = max(measure.size for measure in measures.values())
        return "inconclusive", (
            "the eager model gives every input the same scores: expected some output to vary by at least "
            f"{tolerance.MINIMUM_SIGNAL * size:g}, got {signal:.1e}"
        )
    return "passed", ""


def _geometry_row(path: ServedPath, answers: Sequence[Answer]) -> Row:
    assert path.prepare is not None
    limit = tolerance.PIXEL_LIMIT
    levels, differing, total, worst = 0, 0, 0, answers[0].case.name
    for answer in answers:
        for name, actual in path.prepare(answer.case).items():
            difference = np.abs(actual.astype(np.int32) - answer.prepared.arrays[name])
            if difference.max() > levels:
                levels, worst = int(difference.max()), answer.case.name
            differing += int((difference > 0).sum())
            total += difference.size
    share = differing / total
    return Row(
        path=path.name,
        stage="geometry",
        inputs=len(answers),
        passed=levels <= limit,
        worst_input=worst,
        finding=f"prepared pixels: expected the training transform's, got {levels} grey levels off on {share:.2%}",
        pixel_difference=levels,
        pixel_share=share,
        limit=limit,
    )


def _tokens_row(path: ServedPath, answers: Sequence[Answer]) -> Row:
    """Compare what the host's tokenizer gives with what training's does: every number has to be the same."""
    assert path.prepare is not None
    wrong = []
    for answer in answers:
        actual = path.prepare(answer.case)
        if not all(np.array_equal(actual[name], array) for name, array in answer.prepared.arrays.items()):
            wrong.append(answer.case.name)
    return Row(
        path=path.name,
        stage="tokens",
        inputs=len(answers),
        passed=not wrong,
        worst_input=wrong[0] if wrong else answers[0].case.name,
        finding=f"tokens: expected those of training's tokenizer, got others for {len(wrong)} of {len(answers)} inputs",
        limit=0.0,
    )


def _arithmetic_row(path: ServedPath, answers: Sequence[Answer]) -> Row:
    assert path.normalize is not None
    differences, largest = [], 0.0
    for answer in answers:
        actual = path.normalize(answer.prepared.arrays)
        expected = {name: tensor.numpy() for name, tensor in answer.prepared.tensors.items()}
        differences.append(np.concatenate([_difference(actual[name], expected[name]).ravel() for name in expected]))
        largest = max(largest, *(float(np.abs(array).max()) for array in expected.values()))
    limit = tolerance.ARITHMETIC_LIMIT * largest
    return _values_row(
        path, "arithmetic", answers, differences, limit, "the network's input: expected at most {limit} from the user's"
    )


def _network_row(path: ServedPath, answers: Sequence[Answer], measures: Mapping[str, Scale]) -> Row:
    assert path.score is not None
    differences, limit = [], _largest_limit(measures)
    for answer in answers:
        actual = path.score(answer.prepared)
        differences.append(_relative(actual, answer.outputs, measures))
    return _values_row(
        path,
        "network",
        answers,
        differences,
        limit,
        "scores for the same prepared input: expected at most {limit} from eager",
    )


def _values_row(
    path: ServedPath,
    stage: Stage,
    answers: Sequence[Answer],
    differences: Sequence[NDArray[Any]],
    limit: float,
    sentence: str,
) -> Row:
    worst = [float(difference.max(initial=0.0)) for difference in differences]
    position = int(np.argmax(worst))
    return Row(
        path=path.name,
        stage=stage,
        inputs=len(answers),
        passed=all(value <= limit for value in worst),
        worst_input=answers[position].case.name,
        finding=f"{sentence.format(limit=f'{limit:.1e}')}, got {worst[position]:.1e}",
        value_difference=worst[position],
        value_difference_p99=_percentile_99(differences),
        limit=limit,
    )


def _end_to_end_row(
    path: ServedPath,
    answers: Sequence[Answer],
    batch: Sequence[Answer],
    measures: Mapping[str, Scale],
    manifest: Manifest,
) -> Row:
    names, actual, expected = [], [], []
    for answer in answers:
        names.append(answer.case.name)
        actual.append(path.run([answer.case])[0])
        expected.append(answer.outputs)
    for size in BATCH_SIZES:
        names += [f"batch of {size}"] * size
        actual += path.run([answer.case for answer in batch[:size]])
        expected += [answer.outputs for answer in batch[:size]]
    limit = _largest_limit(measures)
    agreement, flips = _agreement(actual, expected, limit, manifest)
    if isinstance(manifest.task, Segment) and path.name == "runtime":
        # predict() gives maps, whose labels are what can be compared.
        differences = [np.zeros(1)] * len(names)
    else:
        differences = [_relative(one, other, measures) for one, other in zip(actual, expected, strict=True)]
    worst = np.array([float(difference.max(initial=0.0)) for difference in differences])
    # A NaN compares false with any limit, and so fails; argmax finds it, too.
    position = int(np.argmax(worst + flips))
    return Row(
        path=path.name,
        stage="end to end",
        inputs=len(names),
        passed=bool((worst <= limit).all()) and not flips.any(),
        worst_input=names[position],
        finding=f"scores from the raw input: expected at most {limit:.1e} from eager and the same label, "
        f"got {worst[position]:.1e}" + (" and another label" if flips[position] else ""),
        value_difference=float(worst.max()),
        value_difference_p99=_percentile_99(differences),
        label_agreement=agreement,
        limit=limit,
    )


def _percentile_99(differences: Sequence[NDArray[Any]]) -> float:
    together = np.concatenate(differences)
    if not together.size:
        return 0.0
    # Between infinities, which stand for what cannot be compared, there is nothing to interpolate.
    return float(np.percentile(together, 99, method="linear" if np.isfinite(together).all() else "higher"))


def _agreement(
    actual: Sequence[Arrays], expected: Sequence[Arrays], limit: float, manifest: Manifest
) -> tuple[float | None, NDArray[np.bool_]]:
    """Return the share of equal labels, and the inputs where another label is no matter of rounding."""
    if not isinstance(manifest.task, Classify | Segment):
        return None, np.zeros(len(actual), dtype=bool)
    name = manifest.outputs[0].name
    equal, flips = [], []
    for one, other in zip(actual, expected, strict=True):
        scores = one[name]
        labels = scores if scores.ndim == other[name].ndim - 1 else np.argmax(scores, axis=1)
        same = labels == np.argmax(other[name], axis=1)
        equal.append(float(same.mean()))
        flips.append(bool((~same & (_margins(other[name]) > 2 * limit)).any()))
    return float(np.mean(equal)), np.array(flips)


def _margins(scores: NDArray[Any]) -> NDArray[Any]:
    """Return how far the best probability is above the second, place by place: the classes are dimension 1."""
    if scores.shape[1] == 1:
        return np.ones((len(scores), *scores.shape[2:]), dtype=np.float32)
    best = np.partition(scores, -2, axis=1)[:, -2:]
    margins: NDArray[Any] = best[:, 1] - best[:, 0]
    return margins


def _relative(actual: Arrays, expected: Arrays, measures: Mapping[str, Scale]) -> NDArray[Any]:
    """Return all outputs' differences, each relative to its own limit and brought to the largest one.

    So one figure and one limit stand for outputs of different sizes; with one output it is the plain difference.
    """
    largest = _largest_limit(measures)
    parts = []
    for name, measure in measures.items():
        difference = _difference(actual[name], expected[name]).ravel()
        exact = np.where(difference > 0, np.inf, 0.0)
        parts.append(difference * (largest / measure.limit) if measure.limit else exact)
    return np.concatenate(parts)


def _largest_limit(measures: Mapping[str, Scale]) -> float:
    return max(measure.limit for measure in measures.values())


def _difference(actual: NDArray[Any], expected: NDArray[Any]) -> NDArray[Any]:
    """Return the differences in float64; infinite where the shapes differ. Equal infinities do not differ."""
    if actual.shape != expected.shape:
        return np.array([np.inf])
    one, other = actual.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(one == other, 0.0, np.abs(one - other))


def _signal(arrays: Sequence[NDArray[Any]]) -> float:
    """Return how much an output varies from case to case, in the places that all of them have."""
    if len({array.ndim for array in arrays}) > 1 or not arrays[0].size:
        return 0.0
    shape = np.min([array.shape for array in arrays], axis=0)
    window = tuple(slice(0, int(length)) for length in shape)
    finite = np.nan_to_num(np.stack([array[window].astype(np.float64) for array in arrays]))
    return float(np.ptp(finite, axis=0).max(initial=0.0))
