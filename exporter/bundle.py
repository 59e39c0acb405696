"""Writing of an artifact folder: complete, or not at all."""

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import ExportError
from runtime.manifest import LAYOUT, File, Manifest, struct_to_json

# The end of the name of a folder that is being written.
_PARTIAL = ".partial"


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
    _remove_abandoned(out)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=_PARTIAL, dir=out.parent))
    lock = _lock(folder)
    try:
        folder.chmod(0o755 & ~_umask())
        stage = Staging(folder)
        yield stage
        _sync(folder)
        _publish(folder, out, force=force)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            try:
                parent.rmdir()
            except OSError:  # another process has put something there
                break
        raise
    finally:
        os.close(lock)
    _sync(out.parent)


def _remove_abandoned(out: Path) -> None:
    """Remove what exports to ``out`` left beside it that were killed, and not what others are writing now."""
    for folder in out.parent.glob(f".{glob.escape(out.name)}.*{_PARTIAL}"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        with contextlib.suppress(OSError):  # another export, which holds its lock
            descriptor = _lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _lock(folder: Path) -> int:
    """Return a descriptor that holds the folder's lock until it is closed, at the end of the process at the latest.

    Raises OSError where another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_out(out: Path, *, force: bool) -> None:
    """Raise ExportError unless an artifact may be written to ``out``."""
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise ExportError(f"'{out}': exists already. Pass --force to replace it, or another folder with --out.")
    if not (out / LAYOUT.manifest).is_file():
        raise ExportError(
            f"'{out}': exists and is not an artifact: expected a file '{LAYOUT.manifest}' in it. "
            "--force replaces artifacts only; pass another folder with --out."
        )


def _publish(folder: Path, out: Path, *, force: bool) -> None:
    check_out(out, force=force)
    if not out.exists():
        folder.rename(out)
        return
    replaced = folder.with_suffix(".replaced")
    out.rename(replaced)
    try:
        folder.rename(out)
    except BaseException:
        replaced.rename(out)
        raise
    shutil.rmtree(replaced)


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


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
