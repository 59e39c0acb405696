"""Labeled data: one folder per class, or a table with a column of labels."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.inputs.registry import source_format_of
from runtime.inputs.tabular.tables import read_rows
from runtime.manifest import Manifest, Multilabel, Regress, Segment
from runtime.model import Model
from runtime.results import is_finite, non_finite_message

# What stands between the labels of one cell.
_SEPARATOR = ";"

_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class LabeledData:
    """One input with its ground truth: a class, a set of classes, numbers in the order of the values, or a mask."""

    name: str
    source: Any
    truth: Any


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The model's scores for labelled data, row by row, and the truth.

    ``scores`` is float32 [inputs, ...]; ``truth`` is int64 [inputs] of class indices, bool [inputs, classes] of classes
    that hold, or float64 [inputs, values]. ``failures`` are the inputs that could not be used, with the reason.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float32]
    truth: NDArray[Any]
    failures: Mapping[str, str]


def read_labelled(model: Model, data: Path, *, column: str) -> Iterator[LabeledData | InputError]:
    """Yield the inputs of ``data`` with their ground truth, in a fixed order.

    A folder holds one folder per class, named like the class. A table has the label in ``column``; of a row's other
    columns, models of rows take those they know, and other models the one called ``path`` (from the table's own
    folder), ``text`` or ``input``, or the only one. A regression takes the columns with its values' names. An unknown
    label yields an InputError instead of its input; a missing column or folder raises one.

    The ground truth of a segmentation is a file: of a folder, ``images/x.jpg`` has its mask in ``masks/x.png``; a table
    has its path in ``column``.
    """
    if data.is_dir():
        suffixes = source_format_of(model.manifest.inputs).suffixes
        read_folder = _read_masks if isinstance(model.manifest.task, Segment) else _read_class_folders
        yield from read_folder(model, data, suffixes)
        return
    truth_columns = _truth_columns(model.manifest, column)
    for name, row in read_rows(data):
        if isinstance(row, InputError):
            yield row
            continue
        missing = [key for key in truth_columns if key not in row]
        if missing:
            raise InputError(
                f"'{name}': no column '{missing[0]}': expected the truth in it, got {', '.join(row)}. "
                "Name the column with --label-column."
            )
        try:
            truth = _truth(model, {key: row[key] for key in truth_columns}, name, data.parent)
        except InputError as error:
            yield error
            continue
        yield LabeledData(name=name, source=_source(model.manifest, row, data, truth_columns), truth=truth)


def score_labelled(model: Model, labeled: Iterator[LabeledData | InputError]) -> Scores:
    """Return the model's scores for labeled data; raises InputError when no input can be used."""
    names: list[str] = []
    scores: list[Any] = []
    truth: list[Any] = []
    failures: dict[str, str] = {}
    waiting: list[tuple[LabeledData, Any]] = []

    def flush() -> None:
        for (entry, _), score in zip(waiting, model.score([prepared for _, prepared in waiting]), strict=True):
            if not is_finite(np.asarray(score)):
                failures[entry.name] = non_finite_message(entry.name)
                continue
            names.append(entry.name)
            scores.append(score)
            truth.append(entry.truth)
        waiting.clear()

    for entry in labeled:
        if isinstance(entry, InputError):
            name, error = fail(entry)
            failures[name] = str(error)
            continue
        try:
            waiting.append((entry, model.prepare(entry.source, subject=f"'{entry.name}'")))
        except InputError as error:
            failures[entry.name] = str(error)
        if len(waiting) == _BATCH:
            flush()
    if waiting:
        flush()
    if not names:
        reason = next(iter(failures.values()), "it is empty")
        raise InputError(f"labeled data: no input can be used: expected at least one: {reason}")
    return Scores(names=tuple(names), scores=np.stack(scores), truth=np.array(truth), failures=failures)


def fail(error: InputError) -> tuple[str, InputError]:
    """Return the name of an input that could not be read, with its error."""
    return str(error).partition(": ")[0], error


def _read_masks(_model: Model, data: Path, suffixes: Collection[str]) -> Iterator[LabeledData | InputError]:
    images, masks = data / "images", data / "masks"
    if not images.is_dir() or not masks.is_dir():
        raise InputError(
            f"'{data}': expected the folders 'images' and 'masks' in it, with files of the same names. Sort them so, "
            "or give a table with the columns 'path' and 'label'."
        )
    known = {path.stem: path for path in sorted(masks.iterdir()) if path.is_file()}
    for path in sorted(file for file in images.iterdir() if file.suffix.lower() in suffixes):
        if path.stem in known:
            yield LabeledData(name=str(path), source=path, truth=known[path.stem])
        else:
            yield InputError(f"'{path}': no mask: expected one named '{path.stem}' in '{masks}'. Add it.")


def _read_class_folders(model: Model, data: Path, suffixes: Collection[str]) -> Iterator[LabeledData]:
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    unknown = [folder.name for folder in folders if folder.name not in model.labels]
    if not folders or unknown:
        got = f"'{unknown[0]}'" if unknown else "no folder"
        known = ", ".join(f"'{label}'" for label in model.labels[:10])
        raise InputError(
            f"'{data}': expected one folder per class, named as the model's labels ({known}), got {got}. Rename it."
        )
    for folder in folders:
        index = model.labels.index(folder.name)
        for path in sorted(file for file in folder.rglob("*") if file.suffix.lower() in suffixes):
            yield LabeledData(name=str(path), source=path, truth=_one_hot(model, [index]))


def _one_hot(model: Model, indices: Sequence[int]) -> Any:
    """Return a class as its index, or where several may hold, as a bool a class."""
    if not isinstance(model.manifest.task, Multilabel):
        return indices[0]
    return [position in indices for position in range(len(model.labels))]


def _truth_columns(manifest: Manifest, column: str) -> list[str]:
    return [value.name for value in manifest.task.values] if isinstance(manifest.task, Regress) else [column]


def _truth(model: Model, cells: Mapping[str, Any], name: str, folder: Path) -> Any:
    if isinstance(model.manifest.task, Segment):
        return folder / str(*cells.values())
    if isinstance(model.manifest.task, Regress):
        try:
            numbers = [float(value) for value in cells.values()]
        except (TypeError, ValueError):
            raise InputError(f"'{name}': the truth is not a number: got {list(cells.values())}. Correct it.") from None
        if not np.isfinite(numbers).all():
            raise InputError(f"'{name}': the truth is not finite: got {numbers}. Correct it.")
        return numbers
    (cell,) = cells.values()
    if isinstance(model.manifest.task, Multilabel):
        parts = [part.strip() for part in str(cell).split(_SEPARATOR) if part.strip()]
        return _one_hot(model, [_index(model, part, name) for part in parts])
    return _index(model, cell, name)


def _index(model: Model, label: Any, name: str) -> int:
    text = str(label).strip()
    if text in model.labels:
        return model.labels.index(text)
    if text.isdigit() and int(text) < len(model.labels):
        return int(text)
    known = ", ".join(f"'{one}'" for one in model.labels[:10])
    raise InputError(f"'{name}': unknown label: expected one of {known}, or its number, got '{text}'. Correct it.")


def _source(manifest: Manifest, row: Mapping[str, Any], data: Path, truth_columns: Collection[str]) -> Any:
    row_columns = source_format_of(manifest.inputs).row_columns
    if row_columns is not None:
        return {name: value for name, value in row.items() if name in row_columns}
    others = [name for name in row if name not in truth_columns]
    name = next((name for name in ("path", "text", "input") if name in others), others[0] if len(others) == 1 else None)
    if name is None:
        raise InputError(
            f"'{data}': no column of inputs: expected 'path', 'text' or 'input', or one column besides the truth, got "
            f"{', '.join(row)}. Rename it."
        )
    return data.parent / str(row[name]) if name == "path" else row[name]
