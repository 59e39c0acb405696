"""Labeled inputs: one folder per class, or a table with a column of labels."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import InputError, listed
from runtime.inputs.folders import OUTSIDE_FOLDERS, LeftOut, walk_folder
from runtime.inputs.registry import source_format_of
from runtime.inputs.source import path_from_line
from runtime.inputs.tabular.tables import read_rows
from runtime.manifest import Manifest
from runtime.model import Model
from runtime.outputs.metrics import Scores, stack
from runtime.outputs.registry import open_interpreter
from runtime.results import non_finite_message

# Columns of inputs of any kind; the first is a path. Those of a kind come after them.
_INPUT_COLUMNS = ("path", "text", "input")


@dataclass(frozen=True, kw_only=True)
class LabeledData:
    """One input with what is true of it: a class, a set of classes, numbers by name, or one of these by head."""

    name: str
    source: Any
    truth: Any


def read_labeled(model: Model, data: Path, *, column: str) -> Iterator[LabeledData | InputError]:
    """Yield the inputs of ``data`` with their truth, in a fixed order.

    A folder has one folder per class in it, named like the class. A table has the label in ``column``; of a row's other
    columns, models of rows take those they know, and other models the one with a usual name, such as ``path`` (from the
    table's own folder), ``image``, ``text`` or ``input``, or the only one. A regression takes the columns with its
    values' names, a model of several heads those with the heads' names. An unknown label is an InputError in the place
    of its input; a missing column or folder raises one.

    The truth of a segmentation is a file: of a folder, ``images/x.jpg`` has its mask in ``masks/x.png``; a table has
    its path in ``column``. What a folder has besides inputs is counted in an InputError at the end.
    """
    interpreter = open_interpreter(model.manifest.task, model.labels)
    suffixes = source_format_of(model.manifest.inputs).suffixes
    if data.is_dir() and interpreter.gives_maps:
        yield from _read_masked(data, suffixes)
        return
    if data.is_dir():
        yield from _read_folders(model, data, suffixes)
        return
    for name, row in read_rows(data):
        if isinstance(row, InputError):
            yield row
            continue
        columns = interpreter.truth_columns(column)
        missing = [key for key in columns if key not in row]
        if missing:
            fix = (
                "Name the column with --label-column"
                if columns == [column]
                else "Add it, or rename the one that has it"
            )
            raise InputError(
                f"'{name}': no column '{missing[0]}': expected the truth in it, got {', '.join(row)}. {fix}."
            )
        try:
            truth = interpreter.read_truth({key: row[key] for key in columns}, name=name, folder=data.parent)
        except InputError as error:
            yield error
            continue
        source = _source(model.manifest, row, data, columns)
        yield source if isinstance(source, InputError) else LabeledData(name=name, source=source, truth=truth)


def score_labeled(model: Model, labeled: Iterator[LabeledData | InputError]) -> Scores:
    """Return the model's scores for labeled data; raises InputError when there is none that can be used."""
    interpreter = open_interpreter(model.manifest.task, model.labels)
    names: list[str] = []
    scores: list[Any] = []
    truth: list[Any] = []
    failures: dict[str, str] = {}
    waiting: list[tuple[LabeledData, Any]] = []

    def flush() -> None:
        for (labeled_input, _), score in zip(waiting, model.score([prepared for _, prepared in waiting]), strict=True):
            if not interpreter.is_finite(score):
                failures[labeled_input.name] = non_finite_message(labeled_input.name)
                continue
            names.append(labeled_input.name)
            scores.append(score)
            truth.append(labeled_input.truth)
        waiting.clear()

    for labeled_input in labeled:
        if isinstance(labeled_input, InputError):
            name, error = fail(labeled_input)
            failures[name] = str(error)
            continue
        try:
            waiting.append((labeled_input, model.prepare(labeled_input.source, subject=f"'{labeled_input.name}'")))
        except InputError as error:
            failures[labeled_input.name] = str(error)
        if len(waiting) == model.plan.batch:
            flush()
    if waiting:
        flush()
    check_used(names, failures)
    return Scores(names=tuple(names), scores=stack(scores), truth=stack(truth), failures=failures)


def check_used(names: Sequence[str], failures: Mapping[str, str]) -> None:
    """Raise InputError unless one input or more could be used; ``failures`` are the reasons of the others."""
    if not names:
        reason = next(iter(failures.values()), "it is empty. Give a folder or a table with inputs.")
        raise InputError(f"labeled data: no input can be used: expected at least one: {reason}")


def fail(error: InputError) -> tuple[str, InputError]:
    """Return the name of an input that could not be read, with its error."""
    return str(error).partition(": ")[0], error


def _read_masked(data: Path, suffixes: Collection[str]) -> Iterator[LabeledData | InputError]:
    images, masks = data / "images", data / "masks"
    if not images.is_dir() or not masks.is_dir():
        raise InputError(
            f"'{data}': expected the folders 'images' and 'masks' in it, with files of the same names. Sort them so, "
            "or give a table with the columns 'path' and 'label'."
        )
    known = {path.stem: path for path in sorted(masks.iterdir()) if path.is_file()}
    left_out = LeftOut()
    for path in sorted(images.iterdir()):
        if path.is_dir() or path.suffix.lower() not in suffixes:
            left_out.add_file(str(path))
        elif path.stem in known:
            yield LabeledData(name=str(path), source=path, truth=known[path.stem])
        else:
            yield InputError(f"'{path}': no mask: expected one named '{path.stem}' in '{masks}'. Add it.")
    if left_out:
        yield InputError(f"'{data}': {left_out}")


def _read_folders(model: Model, data: Path, suffixes: Collection[str]) -> Iterator[LabeledData | InputError]:
    left_out = LeftOut()
    entries = sorted(data.iterdir())
    folders = [path for path in entries if path.is_dir()]
    for path in entries:
        if path not in folders:
            left_out.add(OUTSIDE_FOLDERS, str(path))
    unknown = [folder.name for folder in folders if folder.name not in model.labels]
    if not folders or unknown:
        got = f"'{unknown[0]}'" if unknown else "no folder"
        known = listed([f"'{label}'" for label in model.labels])
        raise InputError(
            f"'{data}': expected one folder per class, named as the model's labels ({known}), got {got}. Rename it."
        )
    for folder in folders:
        truth = open_interpreter(model.manifest.task, model.labels).truth_of_class(model.labels.index(folder.name))
        for found in walk_folder(str(folder), suffixes, left_out):
            yield found[1] if isinstance(found, tuple) else LabeledData(name=found, source=Path(found), truth=truth)
    if left_out:
        yield InputError(f"'{data}': {left_out}")


def _source(manifest: Manifest, row: Mapping[str, Any], data: Path, truth_columns: Collection[str]) -> Any:
    source_format = source_format_of(manifest.inputs)
    if source_format.row_columns is not None:
        cells = {name: value for name, value in row.items() if name in source_format.row_columns}
        return source_format.rows_in(data.parent)(cells, None, str(data))[1]
    others = [name for name in row if name not in truth_columns]
    usual = tuple(dict.fromkeys((*_INPUT_COLUMNS, *source_format.usual_columns)))
    name = next((name for name in usual if name in others), others[0] if len(others) == 1 else None)
    if name is None:
        raise InputError(
            f"'{data}': no column of inputs: expected one of {', '.join(map(repr, usual))}, or one column besides the "
            f"truth, got {', '.join(row)}. Rename it."
        )
    if name in _INPUT_COLUMNS or name not in usual:
        return data.parent / str(row[name]) if name == "path" else row[name]
    if source_format.from_line is path_from_line and isinstance(row[name], str):
        return data.parent / row[name]
    return source_format.from_row({name: row[name]}, None, str(data))[1]
