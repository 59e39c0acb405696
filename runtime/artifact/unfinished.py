"""Folders and files written beside their place: complete at once, and removed where their writer was killed."""

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.artifact.locks import lock

# The ends of the names: of what is being written or removed, and of a folder that makes room for the next.
_PARTIAL, _REPLACED = ".partial", ".replaced"

# The errors of a disk, or of a user's share of it, that is full; less than this is left on such a disk.
_FULL = {errno.ENOSPC, errno.EDQUOT}
_LEFT_BYTES = 2**20


@contextmanager
def unfinished_folder(out: Path) -> Iterator[Path]:
    """Give a new folder beside ``out``, of the usual permissions, which is removed at the end, unless it was renamed.

    What a killed process left beside ``out`` is removed first. An OSError of a full disk names the folder on it.
    """
    _remove_abandoned(out)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=_PARTIAL, dir=out.parent))
    held = _lock(folder)
    try:
        folder.chmod(0o755 & ~_umask())
        with _naming_full_disk(out):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def write_whole(path: Path, data: bytes, *, own_folder: bool = False) -> None:
    """Write a file of the usual permissions: readers see the old one or the new one, also after a kill.

    What a killed process left of this file is removed first; of any file, in an ``own_folder`` of the program. An
    OSError of a full disk names the file.
    """
    pattern = f".*{_PARTIAL}" if own_folder else _pattern(path, _PARTIAL)
    _remove([left for left in path.parent.glob(pattern) if left.is_file() and not left.is_symlink()])
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent)
    partial = Path(name)
    try:
        with _naming_full_disk(path), os.fdopen(descriptor, "wb") as stream:
            lock(stream.fileno())
            stream.write(data)
            stream.flush()
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def replace_folder(folder: Path, out: Path) -> None:
    """Rename an unfinished folder to ``out``; one that is there makes room first, and is removed.

    Killed between these two, ``restore_folder`` brings it back.
    """
    if not out.exists():
        folder.rename(out)
        return
    replaced = folder.with_suffix(_REPLACED)
    held = _lock(out)
    try:
        out.rename(replaced)
        try:
            folder.rename(out)
        except BaseException:
            replaced.rename(out)
            raise
        # Under this name it is never restored: a kill may leave half of it.
        replaced.rename(folder)
        shutil.rmtree(folder)
    finally:
        os.close(held)


def restore_folder(out: Path) -> None:
    """Bring back what a process made room of in ``out``, and was killed before it put the next folder there."""
    if out.exists() or out.is_symlink():
        return
    with contextlib.suppress(OSError):  # not there, or in the hands of a process that is just about to replace it
        for folder in sorted(_siblings(out, _REPLACED), key=lambda folder: folder.stat().st_ctime_ns)[-1:]:
            held = _lock(folder)
            try:
                folder.rename(out)
            finally:
                os.close(held)


def _remove_abandoned(out: Path) -> None:
    """Remove what processes that were killed left beside ``out``, and not what others are writing now."""
    folders = _siblings(out, _PARTIAL)
    if out.exists():
        folders += _siblings(out, _REPLACED)
    _remove(folders)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # another process holds its lock
            held = _lock(path)
            try:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            finally:
                os.close(held)


def _siblings(out: Path, suffix: str) -> list[Path]:
    folders = out.parent.glob(_pattern(out, suffix))
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]


def _pattern(out: Path, suffix: str) -> str:
    return f".{glob.escape(out.name)}.*{suffix}"


@contextmanager
def _naming_full_disk(out: Path) -> Iterator[None]:
    """Name ``out`` in the error of a full disk, or the folder of temporary files where it is their disk that is full.

    What PyTorch, NumPy and a plain write raise names no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            temporary = Path(tempfile.gettempdir())
            free = {folder: shutil.disk_usage(folder).free for folder in (out.parent, temporary)}
            error.filename = str(temporary if free[temporary] < _LEFT_BYTES <= free[out.parent] else out)
        raise


def _lock(path: Path) -> int:
    """Return a descriptor that holds the path's lock until it is closed, at the end of the process at the latest.

    Raises OSError where another process holds it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lock(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
