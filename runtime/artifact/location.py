"""Where an artifact is: its folder, and what people pass instead of it."""

import re
import tarfile
import zipfile
from itertools import chain, islice
from os import PathLike
from pathlib import Path

from runtime.errors import ArtifactError, InputError
from runtime.manifest import LAYOUT

# A Path has one slash of a URL's two.
_FILE_URL = re.compile(r"file:/+", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

# Folders in which artifacts are: any, and what the hub's cache has for a model.
_BELOW = (f"*/{LAYOUT.manifest}", f"snapshots/*/{LAYOUT.manifest}")

_LFS_POINTER = b"version https://git-lfs"


def find_folder(path: str | Path) -> Path:
    """Return the folder of an artifact, also of a ``file://`` URL.

    Raises ArtifactError, with what to pass instead, where there is no folder or no manifest in it, and InputError for
    what is no path.
    """
    if not isinstance(path, str | PathLike):
        raise InputError(f"path: expected a str or a Path, got {type(path).__name__}. Pass the folder of an artifact.")
    folder = Path(path)
    url = _FILE_URL.match(str(path))
    if url is not None and not folder.exists():
        from urllib.request import url2pathname  # and with it http and email: 20 ms of every start

        folder = Path(url2pathname("/" + str(path)[url.end() :]))
    if not folder.is_dir():
        raise ArtifactError(f"'{folder}': {_not_a_folder(folder)}")
    if not (folder / LAYOUT.manifest).is_file():
        below = next(islice(chain.from_iterable(map(folder.glob, _BELOW)), 1), None)
        hint = "" if below is None else f", such as '{below.parent}'"
        raise ArtifactError(
            f"'{folder}': not an artifact: expected a file '{LAYOUT.manifest}' in it. "
            f"Pass the folder that 'truecopy export' wrote{hint}."
        )
    return folder


def check_no_pointer(start: bytes, path: Path) -> None:
    """Raise ArtifactError where a file begins as those that Git LFS writes instead of the content."""
    if start.startswith(_LFS_POINTER):
        raise ArtifactError(f"'{path}': a Git LFS pointer, and not the file. Run 'git lfs pull' in its folder.")


def _not_a_folder(path: Path) -> str:
    """Return what a path is that is no folder, and what to do."""
    if not path.exists():
        if _URL.match(str(path)):
            return "is a URL: expected a folder of this machine. Download it, and pass the folder."
        return "no such folder: expected an artifact folder. Check the path."
    if path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        return "an archive: expected an artifact folder. Unpack it, and pass the folder."
    if (path.parent / LAYOUT.manifest).is_file():
        return f"a file of an artifact: expected its folder. Pass '{path.parent}'."
    return "not a folder: expected an artifact folder. Check the path."
