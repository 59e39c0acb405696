"""Files of a folder that are inputs, and a record of what was left out."""

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain

import msgspec

from runtime.errors import InputError

# The kinds of what is left out of a job besides files of other types.
LINK_ABOVE = "links to a folder above them"
FOLDER_OF_GLOB = "folders that a pattern matches"
OUTSIDE_FOLDERS = "files outside the folders of the classes"
FIRST_LINE = "first lines of tables, read as the names of columns"

# The part of a glob that stands for folders of any depth.
_ANY_DEPTH = re.compile(rf"(?:^|{re.escape(os.sep)})\*\*(?:{re.escape(os.sep)}|$)")


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


class _Folder(msgspec.Struct, frozen=True, kw_only=True):
    prefix: str
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
    for path, is_folder, error in _walk(folder.rstrip("/") or "/", left_out):
        if error is not None:
            yield path, error
        elif not is_folder and suffix_of(path) in suffixes:
            yield path
        elif not is_folder:
            left_out.add_file(path)


def match_pattern(pattern: str, left_out: LeftOut) -> Iterator[str]:
    """Yield the files and folders that a glob matches, some twice; ``**`` goes no way in circles, as walk_folder does.

    Names that begin with a dot are matched by those patterns alone that do as well.
    """
    any_depth = _ANY_DEPTH.search(pattern)
    if any_depth is None:
        yield from glob.iglob(pattern)  # noqa: PTH207 - Path.glob takes no absolute pattern
        return
    head, rest = pattern[: any_depth.start()], pattern[any_depth.end() :] or "*"
    if any_depth.group().startswith(os.sep):
        head += os.sep
    for top in match_pattern(head, left_out) if glob.has_magic(head) else [head]:
        if not os.path.isdir(top or "."):  # noqa: PTH112
            continue
        below = (f"{path}/" for path, is_folder, _ in _walk(top, left_out, hidden=False) if is_folder)
        for folder in chain([top], below):
            yield from match_pattern(glob.escape(folder) + rest, left_out)


def _walk(folder: str, left_out: LeftOut, *, hidden: bool = True) -> Iterator[tuple[str, bool, InputError | None]]:
    """Yield the path of everything below a folder, whether it is a folder, and its error where it cannot be read.

    ``folder`` is empty for the current one, which no path then begins with.
    """
    above = [_open_folder(folder)]
    while above:
        level = above[-1]
        entry = next(level.entries, None)
        if entry is None:
            above.pop()
            continue
        name, is_folder = entry
        path = level.prefix + name
        if name.startswith(".") and not hidden:
            continue
        if not is_folder:
            yield path, False, None
            continue
        try:
            opened = _open_folder(path)
        except OSError as error:
            reason = f"'{path}': cannot be read: {error.strerror}. Change its permissions or its name, or move it."
            yield path, True, InputError(reason)
            continue
        if opened.identity in {level.identity for level in above}:
            left_out.add(LINK_ABOVE, path)
        else:
            yield path, True, None
            above.append(opened)


def _open_folder(path: str) -> _Folder:
    status = os.stat(path or ".")  # noqa: PTH116
    with os.scandir(path or ".") as entries:
        names = sorted((entry.name, _is_folder(entry)) for entry in entries)
    prefix = f"{path.rstrip('/')}/" if path else ""
    return _Folder(prefix=prefix, identity=(status.st_dev, status.st_ino), entries=iter(names))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other: reading it says so
        return False
