"""Journal of a job: its rows while it runs, safe against crashes.

The journal stays readable after any end of the process, a kill -9 and a full disk included. ``OUT.partial`` has one
JSON row per line, in the order of the inputs; ``OUT.partial.json`` describes the job. Because rows are only ever
appended in order, a resumed job counts them to know where to continue.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from runtime.artifact.locks import lock
from runtime.errors import InputError


class JobDescription(msgspec.Struct, frozen=True, kw_only=True):
    """Identity of a job: the artifact, by its manifest's SHA-256, the inputs and the options."""

    manifest_sha256: str
    inputs: tuple[str, ...]
    column: str | None
    options: dict[str, Any]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended: its rows, and the failed ones among them."""

    rows: int
    failed: int


class _JobFile(msgspec.Struct, frozen=True, kw_only=True):
    """What ``OUT.partial.json`` has; ``ended`` once the result is in its place."""

    job: JobDescription
    ended: Ended | None = None


class Journal:
    """The unfinished rows of one job, locked against a second one; use it in a ``with``."""

    def __init__(self, out: Path, job: JobDescription, *, resume: bool, force: bool) -> None:
        """Open the journal of ``out``: with ``resume`` the existing one, if there is one, else a new one.

        Raises InputError when a result or an unfinished job is in the way, or the existing rows are another job's.
        """
        self.out = out
        self.path = out.with_name(out.name + ".partial")
        self._job_path = out.with_name(out.name + ".partial.json")
        self.rows = 0
        self.ended: Ended | None = None
        self._job = job
        self._end = self._confirmed_end = self._confirmed_rows = 0
        # The job's file is written after the rows' and removed after them: without it there is nothing to resume.
        resume = resume and self._job_path.exists()
        if resume:
            self._check_same(job)
        elif not force:
            self._check_no_output()  # --resume does not start a finished job again
        out.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock(self._descriptor)
            if not resume:
                os.ftruncate(self._descriptor, 0)
                _write_whole(self._job_path, msgspec.json.encode(_JobFile(job=job)))
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def recover(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the file; at the end, cut off what follows the last whole row."""
        for row, end in read_rows_with_ends(self.path):
            self._end, self.rows = end, self.rows + 1
            yield row
        os.ftruncate(self._descriptor, self._end)
        os.lseek(self._descriptor, self._end, os.SEEK_SET)
        self.confirm()

    def append(self, row: dict[str, Any]) -> None:
        """Write one row; when that fails, as on a full disk, no part of it stays."""
        line = memoryview(msgspec.json.encode(row) + b"\n")
        size = len(line)
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._end += size
        self.rows += 1

    def confirm(self) -> None:
        """Mark the rows so far as good: ``roll_back`` keeps them."""
        self._confirmed_end, self._confirmed_rows = self._end, self.rows

    def roll_back(self) -> None:
        """Drop the rows since ``confirm``."""
        os.ftruncate(self._descriptor, self._confirmed_end)
        os.lseek(self._descriptor, self._confirmed_end, os.SEEK_SET)
        self._end, self.rows = self._confirmed_end, self._confirmed_rows

    def sync(self) -> None:
        """Write the rows so far to the disk, to survive a power failure."""
        os.fsync(self._descriptor)

    def finish(self, ended: Ended) -> None:
        """Remove the journal, once the result is written; killed at any point, ``--resume`` finds how the job ended."""
        _write_whole(self._job_path, msgspec.json.encode(_JobFile(job=self._job, ended=ended)))
        self.path.unlink(missing_ok=True)
        self._job_path.unlink(missing_ok=True)

    def _check_no_output(self) -> None:
        if self._job_path.exists():
            self._check_not_in_use()
            raise InputError(
                f"'{self.path}': has the rows of an unfinished job. Continue it with --resume, or start again with "
                "--force."
            )
        if self.out.exists():
            raise InputError(f"'{self.out}': already exists. Choose another --out, or pass --force.")

    def _check_same(self, job: JobDescription) -> None:
        try:
            file = msgspec.json.decode(self._job_path.read_bytes(), type=_JobFile)
        except msgspec.DecodeError as error:
            raise InputError(f"'{self._job_path}': damaged: {error}. Start again with --force.") from error
        before, self.ended = file.job, file.ended if self.out.exists() else None
        different = [
            f"{name} was {old!r}, is {new!r}"
            for name in JobDescription.__struct_fields__
            if (old := getattr(before, name)) != (new := getattr(job, name))
        ]
        if different:
            raise InputError(
                f"'{self.path}': another job's rows: {'; '.join(different)}. "
                "Repeat the command as it was, or start again with --force."
            )

    def _check_not_in_use(self) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_RDWR)
            try:
                self._lock(descriptor)
            finally:
                os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            try:
                lock(descriptor)
            except BlockingIOError:
                raise InputError(
                    f"'{self.path}': in use: another job is writing it. Wait for it, or choose another --out."
                ) from None


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole rows of a journal."""
    return (row for row, _ in read_rows_with_ends(path))


def read_rows_with_ends(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the rows of a journal with the positions after them, up to the first that is torn."""
    position = 0
    with path.open("rb") as stream:
        for line in stream:
            position += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                row = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:  # after a power failure a file may end in zeros
                return
            if "input" not in row:
                return
            yield row, position


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
