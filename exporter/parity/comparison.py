"""Every path against the reference, stage by stage."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exporter.parity import tolerance
from exporter.parity.inputs import BATCH_SIZES, Case, batches
from exporter.parity.paths import ServedPath
from exporter.parity.reference import Answers, Reference
from exporter.parity.report import Report, Row
from runtime.decode.images import decode_image
from runtime.manifest import ImageInput


def compare(
    paths: Sequence[ServedPath], reference: Reference, answers: Answers, cases: Sequence[Case], spec: ImageInput
) -> Report:
    """Return the report on ``paths``: each stage given the reference's input to it, and end to end.

    ``answers`` are the reference's for ``cases``. Single images of every size come first, then batches of the sizes
    that the artifact promises.
    """
    names = tuple(case.name for case in cases)
    signal = float(np.ptp(answers.scores, axis=0).max())
    # Decoded by the runtime: from here on, a difference in decoding shows as one in the pixels.
    images = [np.asarray(decode_image(case.data, spec, subject=f"'{case.name}'").image) for case in cases]
    batch_images = batches(cases)
    batch_answers = reference.answer_arrays(batch_images[max(BATCH_SIZES)])
    rows: list[Row] = []
    for path in paths:
        prepared = np.stack([path.prepare(image) for image in images])
        rows += [
            _geometry_row(path.name, prepared, answers.pixels, names),
            _arithmetic_row(path.name, path.normalize(answers.pixels), answers.normalized, names),
            _network_row(path, answers, names, signal),
            _end_to_end_row(path, images, answers, batch_images, batch_answers, names, signal),
        ]
    verdict, reason = _verdict(rows, signal)
    return Report(
        verdict=verdict, reason=reason, signal=signal, inputs=names, batch_sizes=BATCH_SIZES, rows=tuple(rows)
    )


def _verdict(rows: Sequence[Row], signal: float) -> tuple[Literal["passed", "failed", "inconclusive"], str]:
    failed = next((row for row in rows if not row.passed), None)
    if failed is not None:
        return "failed", f"{failed.path}, stage '{failed.stage}', input '{failed.worst_input}': {failed.finding}"
    if signal < tolerance.MINIMUM_SIGNAL:
        return "inconclusive", (
            f"the eager model gives every image the same scores: expected some probability to vary by at least "
            f"{tolerance.MINIMUM_SIGNAL:g}, got {signal:.1e}"
        )
    return "passed", ""


def _geometry_row(path: str, prepared: NDArray[np.uint8], expected: NDArray[np.uint8], names: Sequence[str]) -> Row:
    limit = tolerance.PIXEL_LIMIT
    difference = np.abs(prepared.astype(np.int16) - expected)
    levels, share = int(difference.max()), float((difference > 0).mean())
    return Row(
        path=path,
        stage="geometry",
        inputs=len(names),
        passed=levels <= limit,
        worst_input=_worst(difference, names),
        finding=f"prepared pixels: expected the training transform's, got {levels} grey levels off on {share:.2%}",
        pixel_difference=levels,
        pixel_share=share,
        limit=limit,
    )


def _arithmetic_row(
    path: str, normalized: NDArray[np.float32], expected: NDArray[np.float32], names: Sequence[str]
) -> Row:
    difference = np.abs(normalized - expected)
    limit = tolerance.ARITHMETIC_LIMIT * float(np.abs(expected).max())
    worst = float(difference.max())
    return Row(
        path=path,
        stage="arithmetic",
        inputs=len(names),
        passed=worst <= limit,
        worst_input=_worst(difference, names),
        finding=f"the network's input: expected at most {limit:.1e} from the training transform's, got {worst:.1e}",
        value_difference=worst,
        value_difference_p99=float(np.percentile(difference, 99)),
        limit=limit,
    )


def _network_row(path: ServedPath, answers: Answers, names: Sequence[str], signal: float) -> Row:
    scores = path.classify(answers.pixels)
    difference = np.abs(scores - answers.scores)
    limit = tolerance.score_limit(signal)
    worst = float(difference.max())
    return Row(
        path=path.name,
        stage="network",
        inputs=len(names),
        passed=worst <= limit,
        worst_input=_worst(difference, names),
        finding=f"scores for the same pixels: expected at most {limit:.1e} from eager, got {worst:.1e}",
        value_difference=worst,
        value_difference_p99=float(np.percentile(difference, 99)),
        limit=limit,
    )


def _end_to_end_row(
    path: ServedPath,
    images: Sequence[NDArray[np.uint8]],
    answers: Answers,
    batch_images: dict[int, NDArray[np.uint8]],
    batch_answers: Answers,
    names: Sequence[str],
    signal: float,
) -> Row:
    scores = [path.run(image[np.newaxis])[0] for image in images]
    expected = list(answers.scores)
    rows = list(names)
    for size, batch in batch_images.items():
        scores += list(path.run(batch))
        expected += list(batch_answers.scores[:size])
        rows += [f"batch of {size}"] * size
    difference = np.abs(np.stack(scores) - np.stack(expected))
    limit = tolerance.score_limit(signal)
    agree = np.argmax(scores, axis=1) == np.argmax(expected, axis=1)
    real_flip = ~agree & (_margins(np.stack(expected)) > 2 * limit)
    worst = int(np.argmax(difference.max(axis=1) + real_flip))
    return Row(
        path=path.name,
        stage="end to end",
        inputs=len(rows),
        passed=bool(difference.max() <= limit) and not real_flip.any(),
        worst_input=rows[worst],
        finding=f"scores from the raw image: expected at most {limit:.1e} from eager and the same label, "
        f"got {difference[worst].max():.1e}" + (" and another label" if not agree[worst] else ""),
        value_difference=float(difference.max()),
        value_difference_p99=float(np.percentile(difference, 99)),
        label_agreement=float(agree.mean()),
        limit=limit,
    )


def _margins(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far the best probability is above the second, row by row."""
    if scores.shape[1] == 1:
        return np.ones(len(scores), dtype=np.float32)
    best = np.partition(scores, -2, axis=1)[:, -2:]
    margins: NDArray[np.float32] = best[:, 1] - best[:, 0]
    return margins


def _worst(difference: NDArray[np.generic], names: Sequence[str]) -> str:
    return names[int(np.argmax(difference.reshape(len(names), -1).max(axis=1)))]
