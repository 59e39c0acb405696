"""The inputs that differ most, as pictures: what eager has, what the artifact has, and the difference."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from exporter.outputs.registry import open_reference
from exporter.parity.cases import Arrays, ReferenceOutput, ServedPath
from exporter.parity.compare import ParityInputs
from runtime.evidence import STAGES, Evidence, Row
from runtime.inputs.image.decoder import PIXELS
from runtime.manifest import ImageInput
from runtime.reports import Image, Picture, Score

_MOST = 6
_CLASSES = 5
# The longer side of a picture.
_SIDE = 320


def draw_pictures(paths: Sequence[ServedPath], asked: ParityInputs, evidence: Evidence) -> tuple[Picture, ...]:
    """Return a picture for the worst rows whose input is one case: faults first, one a case and stage."""
    rows = [row for row in evidence.rows if row.difference or row.fault is not None]
    rows.sort(key=lambda row: (row.passed, -(row.ratio or 0.0), STAGES.index(row.stage)))
    pictures: list[Picture] = []
    seen: set[tuple[str, str]] = set()
    for row in rows:
        answer = next((one for one in asked.answers if one.case.name == row.worst_input), None)
        path = next((one for one in paths if (one.name, one.device) == (row.path, row.device)), None)
        if answer is None or path is None or (row.worst_input, row.stage) in seen:
            continue
        seen.add((row.worst_input, row.stage))
        pictures += _draw(path, row, answer, asked)
        if len(pictures) == _MOST:
            break
    return tuple(pictures)


def _draw(path: ServedPath, row: Row, answer: ReferenceOutput, asked: ParityInputs) -> Iterator[Picture]:
    images: tuple[Image, ...] = ()
    scores: tuple[Score, ...] = ()
    try:
        if row.stage in ("decode", "geometry") and row.stage in path.stages:
            name = PIXELS if row.stage == "geometry" else next(iter(answer.prepared.decoded))
            expected = (answer.prepared.arrays if row.stage == "geometry" else answer.prepared.decoded)[name]
            images = tuple(_compare(expected[0], path.stages[row.stage](answer)[name][0]))
        elif isinstance(asked.manifest.inputs[0], ImageInput):
            images = (Image(label="prepared by the original", png=_to_png(answer.prepared.arrays[PIXELS][0])),)
        if row.stage in ("activation", "end to end") and open_reference(asked.manifest.task, ()).has_class_scores:
            found = path.run([answer.case])[0] if row.stage == "end to end" else path.stages[row.stage](answer)
            scores = tuple(_scores(answer, found, asked))
    except Exception as error:  # a path that fails on an input has nothing to be drawn
        yield Picture(title=_title(row), caption=f"{type(error).__name__}: {error}", images=images)
        return
    if images or scores:
        yield Picture(title=_title(row), caption=_caption(row), images=images, scores=scores)


def _title(row: Row) -> str:
    return f"{row.worst_input}: {row.path} on {row.device}, {row.stage}"


def _caption(row: Row) -> str:
    if row.fault is not None:
        return row.finding
    return f"Within what is allowed: {row.difference:.2g} {row.unit}, {row.ratio or 0.0:.2g} times the noise floor."


def _compare(expected: NDArray[np.generic], found: NDArray[np.generic]) -> Iterator[Image]:
    yield Image(label="original", png=_to_png(expected))
    yield Image(label="artifact", png=_to_png(found))
    if expected.shape == found.shape:
        apart = np.abs(expected.astype(np.int32) - found.astype(np.int32)).max(axis=-1)
        most = int(apart.max())
        # One level of difference would be black on black.
        stretched = (apart * (255 / most)).astype(np.uint8) if most else apart.astype(np.uint8)
        yield Image(label=f"difference, white is {most} gray levels", png=_to_png(stretched[:, :, np.newaxis]))


def _scores(answer: ReferenceOutput, found: Arrays, asked: ParityInputs) -> Iterator[Score]:
    name = asked.manifest.outputs[0].name
    expected, got = answer.outputs[name][0], found[name][0]
    chosen = [*np.argsort(-expected, kind="stable")[:_CLASSES], int(np.argmax(got))]
    for place in dict.fromkeys(map(int, chosen)):
        yield Score(label=asked.labels[place], expected=float(expected[place]), got=float(got[place]))


def _to_png(pixels: NDArray[np.generic]) -> bytes:
    """Return pixels [height, width, channels] as PNG; bands as the first three of them, or the first."""
    array = (pixels.astype(np.uint16) >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.astype(np.uint8)
    array = array[:, :, :3] if array.shape[2] >= 3 else array[:, :, 0]
    image = PillowImage.fromarray(np.ascontiguousarray(array))
    image.thumbnail((_SIDE, _SIDE), PillowImage.Resampling.NEAREST)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
