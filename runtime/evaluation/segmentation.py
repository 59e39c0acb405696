"""Segmentation scores: true masks, and the confusion matrix of pixels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import InputError
from runtime.evaluation.data import LabeledData, check_used, fail
from runtime.geometry.preparation import prepare_mask
from runtime.inputs.tensor.decoder import read_arrays
from runtime.manifest import ImageInput, Segment
from runtime.model import Model
from runtime.outputs.metrics import Maps, confusion_matrix

# A pixel that counts for nothing, as in Pascal VOC and Cityscapes.
IGNORED = 255

# An input with what the network gave for it, or the name of one that cannot be used with its error.
Scored: TypeAlias = tuple[LabeledData, Any] | tuple[str, InputError]


def score_maps(model: Model, labeled: Iterator[LabeledData | InputError], *, keep: bool = False) -> Maps:
    """Return the model's maps against those that ``read_labeled`` names. Raises InputError when none can be used."""

    def score() -> Iterator[Scored]:
        for item in labeled:
            if isinstance(item, InputError):
                yield fail(item)
                continue
            try:
                prepared = model.prepare(item.source, subject=f"'{item.name}'")
                (scores,) = model.score([prepared])
            except InputError as error:
                yield item.name, error
                continue
            yield item, scores

    return compare_maps(model, score(), keep=keep)


def compare_maps(model: Model, scored: Iterator[Scored], *, keep: bool = False) -> Maps:
    """Return maps against true ones for the scores, float32 [classes, height, width], of each input.

    ``keep`` keeps the maps. Raises InputError when no input can be used.
    """
    task = model.manifest.task
    assert isinstance(task, Segment)
    classes = task.labels.count
    confusion: NDArray[np.int64] = np.zeros((classes, classes), dtype=np.int64)
    names, maps = [], []
    failures: dict[str, str] = {}
    for item, scores in scored:
        if isinstance(item, str):
            failures[item] = str(scores)
            continue
        label_map = np.asarray(scores).argmax(axis=0)
        try:
            truth = read_mask(item.truth, item.source, model, (label_map.shape[0], label_map.shape[1]))
        except InputError as error:
            failures[item.name] = str(error)
            continue
        counted = truth != IGNORED
        confusion += confusion_matrix(truth[counted], label_map[counted], classes)
        names.append(item.name)
        if keep:
            maps.append(label_map.astype(np.uint8 if classes <= IGNORED else np.uint16))
    check_used(names, failures)
    return Maps(names=tuple(names), confusion=confusion, maps=tuple(maps), failures=failures)


def read_mask(path: Path, source: Any, model: Model, size: tuple[int, int]) -> NDArray[Any]:
    """Return the class of each pixel, [height, width] of ``size``; ``IGNORED`` where none is true.

    The file is an image whose values are class numbers (gray, or with a palette), or whose colors are the model's; or
    an .npy file of numbers. One as large as the photo is resized and cropped as the photo is, to the nearest pixel.
    Raises InputError for a file that cannot be read, that fits neither, or that has a number that is no class.
    """
    task = model.manifest.task
    assert isinstance(task, Segment)
    subject = f"'{path}'"
    mask = _read(path, subject, task)
    (spec, *others) = model.manifest.inputs
    photo = spec if isinstance(spec, ImageInput) and not others and mask.shape != size else None
    if photo is not None:
        _check_size(mask, source, subject, rotatable=photo.exif)
    unknown = (mask < 0) | ((mask >= task.labels.count) & (mask != IGNORED))
    if unknown.any():
        raise InputError(
            f"{subject}: no class: expected numbers from 0 to {task.labels.count - 1}, or {IGNORED} for what does not "
            f"count, got {int(mask[unknown][0])}. Number the classes as the model does."
        )
    if photo is not None:
        dtype = np.uint8 if task.labels.count <= IGNORED else np.int32
        mask = prepare_mask(mask.astype(dtype), photo.preprocessing.geometry, ignored=IGNORED)
    if mask.shape != size:
        raise InputError(
            f"{subject}: unexpected size: expected {list(size)}, as the network's map, got {list(mask.shape)}. "
            "Resize it to the nearest pixel."
        )
    return mask


def _read(path: Path, subject: str, task: Segment) -> NDArray[Any]:
    if path.suffix.lower() == ".npy":
        array = read_arrays(path, subject)
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "iu":
            raise InputError(f"{subject}: not a label map: expected whole numbers [height, width]. Save it so.")
        return array
    try:
        with Image.open(path) as image:
            if image.mode in {"L", "P", "1", "I;16", "I"}:
                return np.asarray(image if image.mode != "1" else image.convert("L").point(lambda value: value > 0))
            colors = np.asarray(image.convert("RGB")).astype(np.int64)
    except FileNotFoundError:
        raise InputError(f"{subject}: no such file: expected the true label map. Check the path.") from None
    except Exception as error:  # damage surfaces as whatever the bytes lead Pillow to do
        raise InputError(f"{subject}: not an image: {error}. Save the label map as PNG.") from error
    codes = colors @ np.array([65536, 256, 1])
    known = np.array(task.colors) @ np.array([65536, 256, 1])
    order = np.argsort(known)
    indices = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    if not (known[order][indices] == codes).all():
        red, green, blue = colors[known[order][indices] != codes][0]
        raise InputError(
            f"{subject}: no class: expected the model's colors, got #{red:02x}{green:02x}{blue:02x}. Save class "
            "numbers as gray values, or export with --colors."
        )
    classes: NDArray[Any] = order[indices]
    return classes


def _check_size(mask: NDArray[Any], source: Any, subject: str, *, rotatable: bool) -> None:
    """Raise InputError unless a mask has the size of its photo, or the transposed size where EXIF may rotate it."""
    if not isinstance(source, Path):
        return
    with Image.open(source) as photo:
        sizes = [(photo.height, photo.width), *([(photo.width, photo.height)] if rotatable else [])]
    if mask.shape not in sizes:
        raise InputError(
            f"{subject}: unexpected size: expected {list(sizes[0])}, as its photo, got {list(mask.shape)}. "
            "Save it in the size of the photo, or of the network's map."
        )
