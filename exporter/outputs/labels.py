"""Class names and vocabularies: from files in the forms that people have, and default names."""

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from exporter.errors import ExportError
from runtime.errors import InputError, listed
from runtime.inputs.encoding import decode_text

# A file, or the names themselves.
LabelSource: TypeAlias = Path | Sequence[str]

_IMAGENET_CLASSES = 1000

# Under what files have names and their numbers: of transformers' config.json, and of vocabularies beside other things.
_NUMBERED = (
    *("id2label", "word2idx", "stoi", "token2id", "word_to_idx", "word_to_ix", "vocab", "itos", "idx2word"),
    *("class_to_idx", "idx_to_class", "classes", "class_names", "labels", "categories", "names"),
)

# The way to state the order that is never ambiguous.
_REMEDY = 'Save the names as a JSON list in the order of the scores, such as ["daisy", "rose"]'

# What people name the words that stand for others, and that fill up, in vocabularies of their own.
UNKNOWN_WORDS = ("<unk>", "[UNK]", "<UNK>", "UNK", "unk", "<oov>", "<OOV>")
PADDING_WORDS = ("<pad>", "[PAD]", "<PAD>", "PAD", "pad")

# Files of torch.save and pickle, whose dictionaries are read as data.
_SAVED = {".pt", ".pth", ".pkl", ".pickle"}

# A line that begins or ends with a number, and what it numbers.
_NUMBER_FIRST = re.compile(r"(\d+)(?:\s*[,;:\t]\s*|\s+-\s+|\s+)(\S.*)")
_NUMBER_LAST = re.compile(r"(.*\S)\s*[,;:\t]\s*(\d+)")
# A number behind a blank may also be a part of the name, as in 'Boeing 737'.
_NUMBER_LAST_OR_NAME = re.compile(r"(.*\S)\s+(\d+)")

# Suffixes of formats whose lines are no names.
_OTHER_FORMATS = {".toml", ".xml", ".pbtxt", ".py", ".ipynb", ".npy", ".npz", ".html", ".md", ".xlsx"}
_YAML = {".yaml", ".yml"}

# How WordNet numbers what ImageNet's classes are, as in ["n01440764", "tench"].
_SYNSET = re.compile(r"n\d{8}")

# The ends of lines of text files; a name may have the other characters that Python takes for one.
_LINE_END = re.compile(r"\r\n|\r|\n")

# Headings of the two columns of a table, in lower case.
_NUMBER_HEADINGS = {"index", "idx", "id", "class_id", "class_idx", "class_index", "label_id", "number", "no"}
_NAME_HEADINGS = {"name", "label", "class", "class_name", "label_name", "category", "names", "labels", "classes"}


def read_labels(source: LabelSource, *, classes: int, fix: str = "") -> tuple[str, ...]:
    """Return the class names in the order of the scores.

    ``source`` has them itself, or is a file: one name per line, each line or none with its number; a table with a
    column of numbers; a list of JSON or YAML, or an object with the numbers of the names or the names of the numbers,
    as torchvision's ``class_to_idx`` and a transformers ``config.json`` have them; or a folder with one for each class.
    Raises ExportError when the file is missing or is not text, where the order is ambiguous, and for another number of
    names than there are classes, for which ``fix`` is what to do.
    """
    names = _read_names(source, option="--labels") if isinstance(source, Path) else list(source)
    subject = _subject(source)
    if "" in names:
        raise ExportError(
            f"{subject}: line {names.index('') + 1} is empty: expected a label on every line. "
            "Remove the line, or name the class."
        )
    if len(names) == classes + 1 and names[0].lower() in _NAME_HEADINGS and subject.endswith((".csv'", ".tsv'")):
        names = names[1:]
    if len(names) != classes:
        raise ExportError(
            f"{subject}: wrong number of labels: expected {classes}, one for each score of the model, got "
            f"{len(names)}. {fix or _fix_of_count(names)}"
        )
    return tuple(names)


def _fix_of_count(names: Sequence[str]) -> str:
    if len(names) == 1 and "," in names[0]:
        return "Put each name on a line of its own."
    return "Give the labels that belong to this checkpoint."


def check_label_count(source: LabelSource, outputs: Collection[int], *, checkpoint: Path) -> None:
    """Raise ExportError where no layer of a checkpoint has as many outputs as there are names.

    ``outputs`` are the numbers of outputs of its layers. Raises ExportError as well where the names cannot be read.
    """
    names = _read_names(source, option="--labels") if isinstance(source, Path) else list(source)
    # The first line may be a heading.
    if len(names) not in outputs and len(names) - 1 not in outputs:
        raise ExportError(
            f"{_subject(source)}: wrong number of labels: got {len(names)}, and no layer of '{checkpoint}' has as many "
            "outputs. Give the labels that belong to this checkpoint."
        )


def _subject(source: LabelSource) -> str:
    return f"'{source}'" if isinstance(source, Path) else "--labels"


def check_lines(labels: Sequence[str]) -> None:
    """Raise ExportError for a name that is not one line, as the artifact's file of them has it."""
    for index, name in enumerate(labels):
        if name.splitlines() != [name]:
            raise ExportError(
                f"the labels: the name at index {index} is not one line of text: got {name!r:.80}. Correct it where it "
                "is from, or pass --labels."
            )


def describe_labels(labels: Sequence[str], source: LabelSource) -> str:
    """Return in words how many names there are, where from, and the first and the last, whose order shows."""
    origin = str(source) if isinstance(source, Path) else "the list given"
    ends = f": {labels[0]}, ..., {labels[-1]}" if len(labels) > 1 else ""
    twice = [repr(name) for name, count in Counter(labels).items() if count > 1]
    return f"{len(labels)} from {origin}{ends}{(twice and f'; more than once: {listed(twice, 3)}') or ''}"


def read_vocabulary(source: LabelSource) -> tuple[str, ...]:
    """Return the words of a vocabulary, in the order of their token numbers, from a file such as ``read_labels`` takes.

    Raises ExportError for a file that cannot be read as UTF-8, is empty, has a line that is not one word, or repeats
    one.
    """
    words = _read_names(source, option="--vocabulary") if isinstance(source, Path) else list(source)
    subject = _subject(source)
    numbers: dict[str, int] = {}
    for number, word in enumerate(words):
        if not word or word != word.strip() or len(word.split()) != 1:
            raise ExportError(
                f"{subject}: line {number + 1} is not a word: expected one without blanks, got {word!r}. Correct it."
            )
        if word in numbers:
            raise ExportError(
                f"{subject}: line {number + 1} repeats line {numbers[word] + 1}: expected different words, got "
                f"{word!r} twice. Correct it."
            )
        numbers[word] = number
    if not words:
        raise ExportError(f"{subject}: empty: expected one word per line. Check --vocabulary.")
    return tuple(words)


def assumed_labels(*, classes: int, torchvision_name: str) -> tuple[tuple[str, ...], str]:
    """Return the class names to use when the user gives none, and the sentence that says so.

    They are ImageNet's category names for a torchvision architecture with 1000 classes, and numbers otherwise.
    """
    if torchvision_name and classes == _IMAGENET_CLASSES:
        import torchvision

        names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
        return tuple(names), "assumed: ImageNet's 1000 category names; pass --labels for others"
    return tuple(f"class {index}" for index in range(classes)), "no --labels: classes are named by their number"


def _read_names(path: Path, *, option: str) -> list[str]:
    """Return the names in a file, in the order of their numbers; empty lines between names are kept, for messages.

    A folder has them as torchvision's ImageFolder reads it: its folders, sorted.
    """
    if path.is_dir():
        return sorted(folder.name for folder in path.iterdir() if folder.is_dir())
    suffix = path.suffix.lower()
    if suffix in _SAVED and path.is_file():
        return _names_in_json(_saved(path), path)
    text = _read_text(path, option=option)
    if suffix in _YAML and (root := _parse_yaml(text, path)) is not None:
        return _names_in_json(root, path)
    if suffix == ".json" or text.lstrip()[:1] in {"{", "["}:
        return _names_in_json(_parse(text, path), path)
    if suffix in _YAML:
        raise _not_read(path)
    lines = _LINE_END.split(text)
    if suffix in {".csv", ".tsv"}:
        return _names_in_table(lines, path)
    while lines and not lines[-1].strip():
        lines.pop()
    return _names_in_lines(lines, path)


def _read_text(path: Path, *, option: str) -> str:
    if path.suffix.lower() in _OTHER_FORMATS and path.is_file():
        raise _not_read(path)
    try:
        return decode_text(path.read_bytes(), f"'{path}'")
    except FileNotFoundError:
        raise ExportError(
            f"'{path}': no such file: expected a text file with one name per line, or JSON. Check {option}."
        ) from None
    except OSError as error:
        raise ExportError(f"'{path}': cannot be read: {error.strerror}. Check {option}.") from error
    except InputError as error:
        raise ExportError(str(error)) from error


def _not_read(path: Path) -> ExportError:
    return ExportError(f"'{path}': cannot be read: expected text, a table or JSON, got '{path.suffix}'. {_REMEDY}.")


def _saved(path: Path) -> Any:
    """Return the content of a saved dictionary, list or object, such as torchtext's vocabularies."""
    from exporter.checkpoint.formats import read_content
    from exporter.checkpoint.unpickler import Unordered

    root: Any = read_content(path).root
    if isinstance(root, Unordered):
        raise _ambiguous(path, "expected a list or a dictionary, got a set")
    return root


def _innermost(value: Any) -> Any:
    """Return the names or their numbers in what a file holds, which may be a vocabulary as one thing among others."""
    for _ in range(3):  # an object in a dictionary has them in a third
        value = getattr(value, "state", value)
        held = [value.get(key) for key in _NUMBERED] if isinstance(value, Mapping) else []
        value = next((inner for inner in held if isinstance(inner, Mapping | list) or hasattr(inner, "state")), value)
    return value


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return ast.literal_eval(text)  # as print(names) writes it
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ExportError(f"'{path}': not JSON: {error}. {_REMEDY}.") from None


def _parse_yaml(text: str, path: Path) -> Any:
    """Return the content of a YAML file, such as Ultralytics' data.yaml; None where PyYAML is not installed."""
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ExportError(f"'{path}': not YAML: {' '.join(str(error).split())[:200]}. {_REMEDY}.") from None


def _names_in_json(value: Any, path: Path) -> list[str]:
    value = _innermost(value)
    if isinstance(value, Mapping) and all(map(_is_synset, value.values())):
        value = {key: pair[1] for key, pair in value.items()}
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return [name.strip() for name in value]
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        return _names_in_objects(value, path)
    if not isinstance(value, Mapping) or not value:
        raise _ambiguous(path, "expected a list of names, or an object with a number for each")
    of_numbers = {str(key).strip(): name for key, name in value.items()}
    # Classes of one name, such as ImageNet's two cranes, are told apart by the keys.
    by_key = _in_order([(key, name) for key, name in of_numbers.items() if isinstance(name, str)], distinct=False)
    by_value = _in_order([(str(number), name) for name, number in of_numbers.items() if type(number) is int])
    complete = [names for names in (by_key, by_value) if names is not None and len(names) == len(value)]
    # The numbers of classes whose names are numbers as well.
    swapped = [str(number) for number in of_numbers.values()] if by_value is not None else []
    if len(complete) != 1 or (sorted(swapped) == sorted(of_numbers) and swapped != list(of_numbers)):
        raise _ambiguous(
            path, f"expected the numbers from 0 to {len(value) - 1}, as keys or as values, and a name for each"
        )
    return complete[0]


def _names_in_objects(rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """Return the names in objects that have a number and a name each, as COCO's categories do."""
    number, name = (
        [key for key in rows[0] if str(key).lower() in headings] for headings in (_NUMBER_HEADINGS, _NAME_HEADINGS)
    )
    pairs = []
    if len(number) == 1 and len(name) == 1:
        pairs = [(str(row.get(number[0], "")), str(row.get(name[0], ""))) for row in rows]
    names = _in_order(pairs) if pairs else None
    if names is None:
        raise _ambiguous(path, f"expected the numbers from 0 to {len(rows) - 1} and a name in each object")
    return names


def _names_in_table(lines: Sequence[str], path: Path) -> list[str]:
    """Return the names in the lines of a CSV or TSV file, with a heading or without."""
    sample = "\n".join(lines)[:10_000]
    delimiter = max("\t;,", key=sample.count) if any(mark in sample for mark in "\t;,") else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    rows = [row for row in rows if any(row)]
    if not rows or all(len(row) == 1 for row in rows):
        return [row[0] for row in rows]
    if len({len(row) for row in rows}) > 1:
        raise _ambiguous(path, "expected as many columns in each line")
    headings = [cell.lower() for cell in rows[0]]
    number = [column for column, heading in enumerate(headings) if heading in _NUMBER_HEADINGS]
    name = [column for column, heading in enumerate(headings) if heading in _NAME_HEADINGS]
    if len(number) == 1 and len(name) == 1:
        pairs = [(row[number[0]], row[name[0]]) for row in rows[1:]]
        names = _in_order(pairs, distinct=False)
        if names is None:
            raise _ambiguous(path, f"expected the numbers from 0 to {len(pairs) - 1} in '{rows[0][number[0]]}'")
        return names
    if len(headings) != 2:
        raise _ambiguous(path, f"expected two columns, or headings such as 'index' and 'name', got {len(headings)}")
    # A heading in words of its own has no number.
    body = rows[1:] if not any(cell.isdigit() for cell in headings) else rows
    return _one_of(_in_order([(a, b) for a, b in body]), _in_order([(b, a) for a, b in body]), len(body), path)


def _names_in_lines(lines: Sequence[str], path: Path) -> list[str]:
    """Return the names in lines of text: as they are, unless each has its number."""
    names = [line.strip() for line in lines]
    first = [match.groups() for match in map(_NUMBER_FIRST.fullmatch, names) if match]
    last = [match.groups()[::-1] for match in map(_NUMBER_LAST.fullmatch, names) if match]
    numbered = [pairs for pairs in (first, last) if names and len(pairs) == len(names)]
    if not numbered:
        behind = [(match[2], match[1]) for match in map(_NUMBER_LAST_OR_NAME.fullmatch, names) if match]
        return (_in_order(behind) if 1 < len(behind) == len(names) else None) or names
    ordered = [_in_order([(number, _unquote(name)) for number, name in pairs]) for pairs in numbered]
    return _one_of(ordered[0], ordered[1] if len(ordered) > 1 else None, len(names), path)


def _unquote(name: str) -> str:
    quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "\"'"
    return name[1:-1] if quoted else name


def _one_of(first: list[str] | None, second: list[str] | None, count: int, path: Path) -> list[str]:
    """Return the names as the one of two columns orders them; both would give other names."""
    ordered = [names for names in (first, second) if names is not None]
    if len(ordered) == 2 and ordered[0] != ordered[1]:
        raise _ambiguous(path, "expected numbers in one of two columns, got them in both")
    if not ordered:
        raise _ambiguous(
            path, f"expected the numbers from 0 to {count - 1}, each once and each of another name, or no numbers"
        )
    return ordered[0]


def _is_synset(value: object) -> bool:
    """Return whether a value is a class of ImageNet with its number in WordNet."""
    is_pair = isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    return is_pair and _SYNSET.fullmatch(value[0]) is not None  # type: ignore[index]


def _in_order(pairs: Sequence[tuple[str, str]], *, distinct: bool = True) -> list[str] | None:
    """Return the second of each pair in the order of the first; None unless those are the numbers from 0 up.

    Names that are equal once their numbers are off were distinguished by them, as in ``1 star``, ``2 stars``: they have
    to be ``distinct``.
    """
    if not all(number.isdecimal() for number, _ in pairs):
        return None
    numbers = [int(number) for number, _ in pairs]
    names = [name.strip() for _, name in pairs]
    if sorted(numbers) != list(range(len(pairs))) or (distinct and len(set(names)) < len(names)):
        return None
    return [name for _, name in sorted(zip(numbers, names, strict=True))]


def _ambiguous(path: Path, expected: str) -> ExportError:
    return ExportError(f"'{path}': the order of the names is ambiguous: {expected}. {_REMEDY}.")
