"""Pictures of the inputs that differ most: eager's, the artifact's, and the difference."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from exporter.conversion.network_io import Arrays
from exporter.outputs.registry import open_reference
from exporter.parity.cases import ReferenceOutput, ServedPath
from exporter.parity.subject import ParityInputs
from runtime.evidence import STAGES, Evidence, Row
from runtime.manifest import ImageInput, Manifest
from runtime.reports import Image, Picture, Score

_MOST = 6
_CLASSES = 5
# The longer side of a picture, in pixels.
_SIDE = 320


def draw_pictures(paths: Sequence[ServedPath], subject: ParityInputs, evidence: Evidence) -> tuple[Picture, ...]:
    """Return a picture for the worst rows whose input is one case: faults first, one per case and stage."""
    rows = [row for row in evidence.rows if row.difference or row.fault is not None]
    rows.sort(key=lambda row: (row.passed, -(row.ratio or 0.0), STAGES.index(row.stage)))
    references = {reference.case.name: reference for reference in reversed(subject.references)}
    by_name = {(path.name, path.device): path for path in reversed(paths)}
    pictures: list[Picture] = []
    drawn: set[tuple[str, str]] = set()
    for row in rows:
        reference = references.get(row.worst_input)
        path = by_name.get((row.path, row.device))
        if reference is None or path is None or (row.worst_input, row.stage) in drawn:
            continue
        drawn.add((row.worst_input, row.stage))
        pictures += _draw(path, row, reference, subject)
        if len(pictures) == _MOST:
            break
    return tuple(pictures)


def draw_prepared(
    arrays: Mapping[str, NDArray[Any]], manifest: Manifest, *, side: int = _SIDE, label: str = "as it was prepared"
) -> tuple[Image, ...]:
    """Return the prepared pixels of an input's images, no larger than ``side``; nothing for one that has none."""
    if not any(isinstance(spec, ImageInput) for spec in manifest.inputs):
        return ()
    return tuple(Image(label=label, png=_to_png(arrays[name][0], side=side)) for name in _pictures_in(arrays))


def _draw(path: ServedPath, row: Row, reference: ReferenceOutput, subject: ParityInputs) -> Iterator[Picture]:
    images: tuple[Image, ...] = ()
    scores: tuple[Score, ...] = ()
    prepared = reference.prepared
    try:
        if row.stage in ("decode", "geometry") and row.stage in path.stages:
            expected = prepared.arrays if row.stage == "geometry" else prepared.decoded
            actual = path.stages[row.stage].run(reference)
            images = tuple(
                image for name in _pictures_in(expected) for image in _compare(expected[name][0], actual[name][0])
            )
        else:
            images = draw_prepared(prepared.arrays, subject.manifest, label="prepared by the original")
        has_class_scores = open_reference(subject.manifest.task, ()).has_class_scores
        if row.stage in ("activation", "end to end") and has_class_scores:
            end_to_end = row.stage == "end to end"
            outputs = path.run([reference.case])[0] if end_to_end else path.stages[row.stage].run(reference)
            scores = tuple(_scores(reference, outputs, subject))
    except Exception as error:  # a path that fails on an input has nothing to draw
        yield Picture(title=_title(row), caption=f"{type(error).__name__}: {error}", images=images)
        return
    if images or scores:
        yield Picture(title=_title(row), caption=_caption(row), images=images, scores=scores)


def _pictures_in(arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return the names of the arrays that are pixels; beside them an input may have numbers."""
    return [name for name, array in arrays.items() if array.ndim == 4 and array.dtype.kind == "u"]


def _title(row: Row) -> str:
    return f"{row.worst_input}: {row.path} on {row.device}, {row.stage}"


def _caption(row: Row) -> str:
    if row.fault is not None:
        return row.finding
    return f"Within what is allowed: {row.difference:.2g} {row.unit}, {row.ratio or 0.0:.2g} times the noise floor."


def _compare(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> Iterator[Image]:
    yield Image(label="original", png=_to_png(expected))
    yield Image(label="artifact", png=_to_png(actual))
    if expected.shape == actual.shape:
        difference = np.abs(expected.astype(np.int32) - actual.astype(np.int32)).max(axis=-1)
        largest = int(difference.max())
        # One level of difference would be black on black.
        stretched = (difference * (255 / largest)).astype(np.uint8) if largest else difference.astype(np.uint8)
        yield Image(label=f"difference, white is {largest} gray levels", png=_to_png(stretched[:, :, np.newaxis]))


def _scores(reference: ReferenceOutput, outputs: Arrays, subject: ParityInputs) -> Iterator[Score]:
    name = subject.manifest.outputs[0].name
    expected, actual = reference.outputs[name][0], outputs[name][0]
    chosen = [*np.argsort(-expected, kind="stable")[:_CLASSES], int(np.argmax(actual))]
    for index in dict.fromkeys(map(int, chosen)):
        yield Score(label=subject.labels[index], expected=float(expected[index]), got=float(actual[index]))


def _to_png(pixels: NDArray[np.generic], *, side: int = _SIDE) -> bytes:
    """Return pixels [height, width, channels] as PNG, no larger than ``side``.

    Of bands the first three are shown, or the first.
    """
    array = (pixels.astype(np.uint16) >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.astype(np.uint8)
    array = array[:, :, :3] if array.shape[2] >= 3 else array[:, :, 0]
    image = PillowImage.fromarray(np.ascontiguousarray(array))
    image.thumbnail((side, side), PillowImage.Resampling.NEAREST)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
