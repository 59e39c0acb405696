"""Files of a folder that are inputs, and a record of what was left out."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from runtime.errors import InputError

# The kinds of what is left out of a job besides files of other types.
LINK_ABOVE = "links to a folder above them"
FOLDER_OF_GLOB = "folders that a pattern matches"
OUTSIDE_FOLDERS = "files outside the folders of the classes"
FIRST_LINE = "first lines of tables, read as the names of columns"


class LeftOut:
    """What a job did not read as inputs, counted by reason; truthy where there is anything."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, reason: str, example: str) -> None:
        """Count one file, folder or line; the first of each reason is its example."""
        self.counts[reason] += 1
        self._first.setdefault(reason, example)

    def add_file(self, path: str) -> None:
        """Count one file whose suffix no input has."""
        suffix = suffix_of(path)
        self.add(f"{suffix} files" if suffix else "files without a suffix", path)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """Return one sentence: how many were left out, and for each reason how many, and the first."""
        reasons = [
            f"{reason}: {count}, such as '{self._first[reason]:.200}'" for reason, count in self.counts.most_common()
        ]
        return f"{self.counts.total()} left out. {'; '.join(reasons[:10])}"


@dataclass(frozen=True, kw_only=True)
class _Folder:
    path: str
    identity: tuple[int, int]
    entries: Iterator[tuple[str, bool]]


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name in lower case; a Path per file costs more."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def walk_folder(folder: str, suffixes: Collection[str], left_out: LeftOut) -> Iterator[str | tuple[str, InputError]]:
    """Yield the paths of the files with one of ``suffixes``, at any depth, the names of each folder in their order.

    Links to folders are followed, as torchvision's ImageFolder does, except those that lead back to a folder above. A
    folder that cannot be read is its path with an InputError. The names of one folder at a time are in memory.
    """
    above = [_open_folder(folder.rstrip("/") or "/")]
    while above:
        level = above[-1]
        entry = next(level.entries, None)
        if entry is None:
            above.pop()
            continue
        name, is_folder = entry
        path = f"{level.path.rstrip('/')}/{name}"
        if not is_folder:
            if suffix_of(name) in suffixes:
                yield path
            else:
                left_out.add_file(path)
            continue
        try:
            opened = _open_folder(path)
        except OSError as error:
            reason = f"'{path}': cannot be read: {error.strerror}. Change its permissions or its name, or move it."
            yield path, InputError(reason)
            continue
        if opened.identity in {level.identity for level in above}:
            left_out.add(LINK_ABOVE, path)
        else:
            above.append(opened)


def _open_folder(path: str) -> _Folder:
    status = os.stat(path)  # noqa: PTH116
    with os.scandir(path) as entries:
        names = sorted((entry.name, entry.is_dir()) for entry in entries)
    return _Folder(path=path, identity=(status.st_dev, status.st_ino), entries=iter(names))
