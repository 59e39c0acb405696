"""Files of texts or token sequences: one a line, as it is or as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.errors import InputError

_JSON_SUFFIXES = {".jsonl", ".ndjson"}
SUFFIXES = {".txt", *_JSON_SUFFIXES}


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each line of a file with its name, ``FILE:LINE``, in order; only one is in memory.

    A ``.txt`` file has an input a line; a ``.jsonl`` file a JSON value a line, such as a string, or a list of two for a
    pair. A line that cannot be read is an InputError in its place. Raises InputError for other files.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"'{path}': unknown kind of file: expected {', '.join(sorted(SUFFIXES))} with an input a line, got "
            f"'{path.suffix}'. Write the inputs to such a file."
        )
    if not path.is_file():
        raise InputError(f"'{path}': no such file. Check the path.")
    # What is no UTF-8 costs its own line: the decoder refuses the halves of characters that stand for it.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            name = f"{path}:{number}"
            text = line.rstrip("\r\n")
            yield name, _from_json(text, name) if suffix in _JSON_SUFFIXES else text


def _from_json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return InputError(f"'{name}': not JSON: {error}. Correct the line.")
