"""Class names and vocabularies from text files, and default names."""

from pathlib import Path

import torchvision

from exporter.errors import ExportError

_IMAGENET_CLASSES = 1000


def read_labels(path: Path, *, classes: int) -> tuple[str, ...]:
    """Return the class names in a text file, one per line, in the order of the scores.

    Raises ExportError when the file is missing, is not UTF-8 text, has an empty line between names, or has another
    number of names than the model has classes.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ExportError(
            f"'{path}': no such file: expected a text file with one label per line. Check --labels."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"'{path}': cannot be read as UTF-8 text: {error}. Save it as UTF-8.") from error
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise ExportError(
            f"'{path}': line {names.index('') + 1} is empty: expected a label on every line. "
            "Remove the line, or name the class."
        )
    if len(names) != classes:
        raise ExportError(
            f"'{path}': wrong number of labels: expected {classes}, one for each score of the model, got {len(names)}. "
            "Give the label file that belongs to this checkpoint."
        )
    return tuple(names)


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Return the words in a text file, one per line, in the order of their token numbers.

    Raises ExportError for a file that cannot be read as UTF-8, is empty, has a line that is not one word, or repeats
    one.
    """
    try:
        words = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(
            f"'{path}': cannot be read: expected a UTF-8 file with one word per line: {error}. Check --vocabulary."
        ) from error
    numbers: dict[str, int] = {}
    for number, word in enumerate(words):
        if not word or word != word.strip() or len(word.split()) != 1:
            raise ExportError(
                f"'{path}': line {number + 1} is not a word: expected one without blanks, got {word!r}. Correct it."
            )
        if word in numbers:
            raise ExportError(
                f"'{path}': line {number + 1} repeats line {numbers[word] + 1}: expected different words, got {word!r} "
                "twice. Correct it."
            )
        numbers[word] = number
    if not words:
        raise ExportError(f"'{path}': empty: expected one word per line. Check --vocabulary.")
    return tuple(words)


def assumed_labels(*, classes: int, torchvision_name: str) -> tuple[tuple[str, ...], str]:
    """Return the class names to use when the user gives none, and the sentence that says so.

    They are ImageNet's category names for a torchvision architecture with 1000 classes, and numbers otherwise.
    """
    if torchvision_name and classes == _IMAGENET_CLASSES:
        names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
        return tuple(names), "assumed: ImageNet's 1000 category names; pass --labels for others"
    return tuple(f"class {index}" for index in range(classes)), "no --labels: classes are named by their number"
