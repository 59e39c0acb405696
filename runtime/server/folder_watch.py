"""Watch on an artifact's folder: when it has changed, and is complete."""

from pathlib import Path
from typing import TypeAlias

from runtime.artifact.open import open_artifact
from runtime.errors import TruecopyError
from runtime.manifest import LAYOUT

# Name, inode, size and time of change of each file; the inode is 0 while there is no such file.
_Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]


class FolderWatch:
    """The files of one artifact: those that its manifest lists at the moment, and the manifest.

    Copying writes them one after the other, the manifest before the weights: every change is another artifact to try,
    once nothing changes any more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tried = self._latest = self._stamp()

    def has_settled(self) -> bool:
        """Return whether the files differ from those of the last time this was true, and are those of the last call.

        They are not while one is missing.
        """
        stamp = self._stamp()
        complete = all(inode for _, inode, _, _ in stamp)
        settled = complete and stamp == self._latest and stamp != self._tried
        self._latest = stamp
        if settled:
            self._tried = stamp
        return settled

    def _stamp(self) -> _Stamp:
        try:
            names = {LAYOUT.manifest, *open_artifact(self._path).manifest.files}
        except (TruecopyError, OSError):  # being written, or replaced
            names = {LAYOUT.manifest}
        return tuple(self._state(name) for name in sorted(names))

    def _state(self, name: str) -> tuple[str, int, int, int]:
        try:
            status = (self._path / name).stat()
        except OSError:
            return name, 0, 0, 0
        return name, status.st_ino, status.st_size, status.st_mtime_ns
