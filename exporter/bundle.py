"""Writing of an artifact folder: complete, or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import ExportError
from runtime.artifact.unfinished import replace_folder, restore_folder, unfinished_folder
from runtime.manifest import LAYOUT, File, Manifest, struct_to_json


class Staging:
    """A folder beside the artifact's place, invisible until it is published."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, File] = {}

    def write(self, name: str, data: bytes | bytearray) -> None:
        """Write one file and note its hash."""
        _write_durably(self.folder / name, data)
        self._files[name] = File(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))

    def add(self, name: str) -> None:
        """Note the hash of a file that another writer put into the folder."""
        with (self.folder / name).open("rb+") as stream:
            os.fsync(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256")
            self._files[name] = File(sha256=digest.hexdigest(), size_bytes=stream.tell())

    def files(self) -> dict[str, File]:
        """Return what was written so far, by name in a fixed order."""
        return dict(sorted(self._files.items()))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, which makes the folder an artifact."""
        _write_durably(self.folder / LAYOUT.manifest, struct_to_json(manifest))


@contextmanager
def staging(out: Path, *, force: bool) -> Iterator[Staging]:
    """Give a folder to write an artifact into, and rename it to ``out`` when the block ends without an error.

    On any error, a full disk or an interruption, the folder is removed and ``out`` stays as it was. Raises ExportError
    when ``out`` exists, unless ``force`` is true and it is an artifact.
    """
    check_out(out, force=force)
    made = _make_parents(out.parent)
    try:
        with unfinished_folder(out) as folder:
            yield Staging(folder)
            _sync(folder)
            check_out(out, force=force)
            replace_folder(folder, out)
    except BaseException:
        for parent in made:
            try:
                parent.rmdir()
            except OSError:  # another process has put something there
                break
        raise
    _sync(out.parent)


def check_out(out: Path, *, force: bool) -> None:
    """Raise ExportError unless an artifact may be written to ``out``, where that of a killed process is restored."""
    restore_folder(out)
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise ExportError(f"'{out}': exists already. Pass --force to replace it, or another folder with --out.")
    if not (out / LAYOUT.manifest).is_file():
        raise ExportError(
            f"'{out}': exists and is not an artifact: expected a file '{LAYOUT.manifest}' in it. "
            "--force replaces artifacts only; pass another folder with --out."
        )


def _make_parents(parent: Path) -> list[Path]:
    """Create the missing folders above an artifact and return them, the innermost first."""
    missing = []
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    for folder in reversed(missing):
        folder.mkdir()
    return missing


def _write_durably(path: Path, data: bytes | bytearray) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    """Make the folder's entries durable, so that a power cut after a rename leaves the old or the new artifact."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
