"""True label maps from files, and how often the network's maps have each class where another is true."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import InputError
from runtime.evaluation.data import LabeledData, fail
from runtime.geometry.preparation import prepare_mask
from runtime.inputs.tensor.decoder import read_arrays
from runtime.manifest import ImageInput, Segment
from runtime.model import Model

# A place that counts for nothing, as in Pascal VOC and Cityscapes.
IGNORED = 255


@dataclass(frozen=True, kw_only=True)
class Maps:
    """The network's label maps against the true ones, over all inputs.

    ``confusion`` counts places by true class (rows) and given class, int64 [classes, classes]; ``maps`` are the
    network's own, uint8 or uint16 [height, width], where they were to be kept. ``failures`` as in ``Scores``.
    """

    names: tuple[str, ...]
    confusion: NDArray[np.int64]
    maps: tuple[NDArray[Any], ...]
    failures: Mapping[str, str]


def score_maps(model: Model, labelled: Iterator[LabeledData | InputError], *, keep: bool = False) -> Maps:
    """Return the model's maps against those that ``read_labelled`` names; raises InputError when none can be used."""

    def found() -> Iterator[tuple[LabeledData, Any] | tuple[str, InputError]]:
        for one in labelled:
            if isinstance(one, InputError):
                yield fail(one)
                continue
            try:
                prepared = model.prepare(one.source, subject=f"'{one.name}'")
                (scores,) = model.score([prepared])
            except InputError as error:
                yield one.name, error
                continue
            yield one, scores

    return compare_maps(model, found(), keep=keep)


def compare_maps(
    model: Model, scored: Iterator[tuple[LabeledData, Any] | tuple[str, InputError]], *, keep: bool = False
) -> Maps:
    """Return maps against true ones for scores [classes, height, width] of each input, or the error that it costs."""
    task = model.manifest.task
    assert isinstance(task, Segment)
    classes = task.labels.count
    confusion: NDArray[np.int64] = np.zeros((classes, classes), dtype=np.int64)
    names, maps = [], []
    failures: dict[str, str] = {}
    for one, scores in scored:
        if isinstance(one, str):
            failures[one] = str(scores)
            continue
        given = np.asarray(scores).argmax(axis=0)
        try:
            truth = read_mask(one.truth, one.source, model, (given.shape[0], given.shape[1]))
        except InputError as error:
            failures[one.name] = str(error)
            continue
        counted = truth != IGNORED
        places = truth[counted].astype(np.int64) * classes + given[counted]
        confusion += np.bincount(places, minlength=classes * classes).reshape(classes, classes)
        names.append(one.name)
        if keep:
            maps.append(given.astype(np.uint8 if classes <= IGNORED else np.uint16))
    if not names:
        reason = next(iter(failures.values()), "it is empty")
        raise InputError(f"labelled data: no input can be used: expected at least one: {reason}")
    return Maps(names=tuple(names), confusion=confusion, maps=tuple(maps), failures=failures)


def read_mask(path: Path, source: Any, model: Model, size: tuple[int, int]) -> NDArray[Any]:
    """Return the class of each place, [height, width] of ``size``; ``IGNORED`` where none is true.

    The file is an image whose values are class numbers (gray, or with a palette), or whose colors are the model's; or
    an .npy file of numbers. One as large as the photo is resized and cropped as the photo is, to the nearest pixel.
    Raises InputError where it cannot be read, fits neither, or has a number that is no class.
    """
    task = model.manifest.task
    assert isinstance(task, Segment)
    subject = f"'{path}'"
    mask = _read(path, subject, task)
    spec = model.manifest.inputs[0]
    if mask.shape != size and isinstance(spec, ImageInput):
        _check_size(mask, source, subject, turned=spec.exif)
        mask = prepare_mask(mask.astype(np.uint8), spec.preprocessing.geometry, ignored=IGNORED)
    if mask.shape != size:
        raise InputError(
            f"{subject}: unexpected size: expected {list(size)}, as the network's map, got {list(mask.shape)}. "
            "Resize it to the nearest pixel."
        )
    odd = (mask >= task.labels.count) & (mask != IGNORED)
    if odd.any():
        raise InputError(
            f"{subject}: no class: expected numbers below {task.labels.count}, or {IGNORED} for what does not count, "
            f"got {int(mask[odd][0])}. Number the classes as the model does."
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
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{subject}: not an image: {error}. Save the label map as PNG.") from error
    codes = colors @ np.array([65536, 256, 1])
    known = np.array(task.colors) @ np.array([65536, 256, 1])
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    if not (known[order][places] == codes).all():
        red, green, blue = colors[known[order][places] != codes][0]
        raise InputError(
            f"{subject}: no class: expected the model's colors, got #{red:02x}{green:02x}{blue:02x}. Save class "
            "numbers as gray values, or export with --colors."
        )
    numbers: NDArray[Any] = order[places]
    return numbers


def _check_size(mask: NDArray[Any], source: Any, subject: str, *, turned: bool) -> None:
    """Raise InputError unless a mask is as large as its photo; or the other way, where EXIF may turn it."""
    if not isinstance(source, Path):
        return
    with Image.open(source) as photo:
        sizes = [(photo.height, photo.width), *([(photo.width, photo.height)] if turned else [])]
    if mask.shape not in sizes:
        raise InputError(
            f"{subject}: unexpected size: expected {list(sizes[0])}, as its photo, got {list(mask.shape)}. "
            "Save it in the size of the photo, or of the network's map."
        )
