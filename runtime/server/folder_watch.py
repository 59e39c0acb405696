"""Watch on an artifact's folder: when it has changed, and is complete."""

from pathlib import Path
from typing import TypeAlias

from runtime.artifact.open import Signature, open_artifact, signature
from runtime.errors import TruecopyError
from runtime.manifest import LAYOUT

# The name of each file and the numbers that change with it; None while there is no such file.
_Stamp: TypeAlias = tuple[tuple[str, Signature | None], ...]


class FolderWatch:
    """The files of one artifact: those that its manifest lists at the moment, and the manifest.

    Made before the artifact is loaded, it also notices what changes meanwhile.

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
        complete = all(numbers is not None for _, numbers in stamp)
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

    def _state(self, name: str) -> tuple[str, Signature | None]:
        try:
            return name, signature((self._path / name).stat())
        except OSError:
            return name, None
